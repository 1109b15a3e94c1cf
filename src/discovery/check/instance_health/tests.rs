use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn health(checks: usize, consequences: Consequences, now: Instant) -> InstanceHealth {
    let state = CheckState::new(2, 3, now);
    let checks = (0..checks).map(|n| (format!("check {n}"), state));
    InstanceHealth::new(checks, consequences, now)
}

fn fails(health: &mut InstanceHealth, index: usize, why: &str, now: Instant) {
    for _ in 0..3 {
        health.on(index, Err(why.into()), now);
    }
}

fn passes(health: &mut InstanceHealth, index: usize, now: Instant) {
    for _ in 0..2 {
        health.on(index, Ok(()), now);
    }
}

fn out_of_service(reason: &str) -> Consequence {
    let reason = reason.into();
    Consequence::OutOfService { reason }
}

fn withdrawn(reason: &str) -> Consequence {
    let reason = reason.into();
    Consequence::Withdrawn { reason }
}

#[test]
fn an_instance_is_withheld_until_all_its_checks_have_passed() {
    let now = Instant::now();
    let mut health = health(2, Consequences::default(), now);
    assert_eq!(
        health.consequence(now),
        withdrawn("check 0: has not passed yet")
    );
    health.on(0, Ok(()), now);
    assert_eq!(
        health.consequence(now),
        withdrawn("check 1: has not passed yet")
    );
    fails(&mut health, 1, "refused", now);
    assert_eq!(health.consequence(now), withdrawn("check 1: refused"));
    passes(&mut health, 1, now);
    assert_eq!(health.consequence(now), Consequence::Healthy);
    fails(&mut health, 1, "refused", now);
    assert_eq!(health.consequence(now), out_of_service("check 1: refused"));
}

#[test]
fn the_published_reason_is_that_of_the_change_and_of_the_first_failing_check() {
    let now = Instant::now();
    let mut health = health(3, Consequences::default(), now);
    (0..3).for_each(|index| passes(&mut health, index, now));
    fails(&mut health, 2, "status 500", now);
    health.on(2, Err("status 503".into()), now);
    assert_eq!(
        health.consequence(now),
        out_of_service("check 2: status 500")
    );
    fails(&mut health, 1, "refused", now);
    assert_eq!(health.consequence(now), out_of_service("check 1: refused"));
    passes(&mut health, 1, now);
    assert_eq!(
        health.consequence(now),
        out_of_service("check 2: status 500")
    );

    let shown = health.snapshot();
    assert_eq!(shown.status, CheckStatus::Failing);
    assert_eq!(shown.checks[2].last_error.as_deref(), Some("status 503"));
    assert_eq!(shown.checks[1].status, CheckStatus::Passing);
    passes(&mut health, 2, now);
    assert_eq!(health.consequence(now), Consequence::Healthy);
    assert_eq!(health.snapshot().reason, None);
}

#[test]
fn an_instance_may_be_published_before_its_checks_have_passed() {
    let now = Instant::now();
    let with = |initial| Consequences {
        initial,
        ..Consequences::default()
    };
    let mut out = health(1, with(Initial::OutOfService), now);
    assert_eq!(
        out.consequence(now),
        out_of_service("check 0: has not passed yet")
    );
    passes(&mut out, 0, now);
    assert_eq!(out.consequence(now), Consequence::Healthy);

    let mut up = health(1, with(Initial::Healthy), now);
    assert_eq!(up.consequence(now), Consequence::Healthy);
    fails(&mut up, 0, "refused", now);
    assert_eq!(up.consequence(now), out_of_service("check 0: refused"));
}

#[test]
fn a_failing_instance_is_withdrawn_and_then_leaves_when_its_times_are_over() {
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let consequences = Consequences {
        withdraw_after: Some(Duration::from_secs(30)),
        leave_after: Some(Duration::from_secs(90)),
        ..Consequences::default()
    };
    let mut health = health(1, consequences, begin);
    passes(&mut health, 0, begin);
    assert_eq!(health.next_change(begin), None);
    fails(&mut health, 0, "refused", at(100));
    assert_eq!(health.next_change(at(100)), Some(at(130)));
    assert_eq!(
        health.consequence(at(129)),
        out_of_service("check 0: refused")
    );
    assert_eq!(health.consequence(at(130)), withdrawn("check 0: refused"));
    assert_eq!(health.next_change(at(130)), Some(at(190)));
    assert_eq!(health.consequence(at(189)), withdrawn("check 0: refused"));
    let reason = "check 0: refused".into();
    assert_eq!(health.consequence(at(190)), Consequence::Leave { reason });

    // A recovery in time starts both times anew.
    passes(&mut health, 0, at(189));
    assert_eq!(health.consequence(at(190)), Consequence::Healthy);
    fails(&mut health, 0, "refused", at(200));
    assert_eq!(health.next_change(at(200)), Some(at(230)));
}

#[test]
fn an_instance_without_checks_is_healthy() {
    let now = Instant::now();
    let health = health(0, Consequences::default(), now);
    assert_eq!(health.consequence(now), Consequence::Healthy);
}

proptest! {
    /// In any order of results and times: an instance is healthy exactly when all its checks pass, it
    /// is shown healthy no more often than its checks recover, and `next_change` is the next change.
    #[test]
    fn the_consequence_is_explained_by_the_results(
        count in 1_usize..4,
        withdraw in prop::option::of(0_u64..20),
        leave in prop::option::of(20_u64..40),
        results in prop::collection::vec((0_usize..4, any::<bool>(), 0_u64..8), 0..300),
    ) {
        let mut now = Instant::now();
        let consequences = Consequences {
            withdraw_after: withdraw.map(Duration::from_secs),
            leave_after: leave.map(Duration::from_secs),
            ..Consequences::default()
        };
        let mut health = health(count, consequences, now);
        let mut alone = vec![CheckState::new(2, 3, now); count];
        let (mut recoveries, mut shown, mut failing_since) = (0, 0, None);
        for (index, passed, seconds) in results {
            let index = index % count;
            let before = health.consequence(now) == Consequence::Healthy;
            let result = if passed { Ok(()) } else { Err("why".to_owned()) };
            health.on(index, result, now);
            let changed = alone[index].on(passed, now);
            recoveries += usize::from(changed && passed);
            let all = alone.iter().all(|check| check.status() == CheckStatus::Passing);
            let any = alone.iter().any(|check| check.status() == CheckStatus::Failing);
            failing_since = any.then(|| failing_since.unwrap_or(now));
            let after = health.consequence(now);
            prop_assert_eq!(after == Consequence::Healthy, all);
            shown += usize::from(!before && all);
            prop_assert!(shown <= recoveries);

            let later = now + Duration::from_secs(seconds);
            if health.next_change(now).is_none_or(|at| at > later) {
                prop_assert_eq!(health.consequence(later), after);
            }
            now = later;
            let failed = failing_since.map(|since| now - since);
            let is_over = |limit: Option<Duration>| failed >= limit && limit.is_some();
            let consequence = health.consequence(now);
            let leaves = matches!(consequence, Consequence::Leave { .. });
            prop_assert_eq!(leaves, is_over(consequences.leave_after));
            if is_over(consequences.withdraw_after) {
                let gone = matches!(consequence, Consequence::Withdrawn { .. }) || leaves;
                prop_assert!(gone);
            }
        }
    }
}
