//! The keeper by itself: each rule, and then a world in which anything may happen at any time.

mod model;

use super::*;

const TTL: i64 = 30;

fn lease(n: i64) -> LeaseId {
    LeaseId::new(n).unwrap()
}

fn at(millis: u64) -> BootTime {
    BootTime::from_boot(Duration::from_millis(1_000_000 + millis))
}

fn add(n: i64) -> Input {
    Input::Add {
        lease: lease(n),
        within: Duration::from_secs(5),
    }
}

fn answer(n: i64, ttl: i64) -> Input {
    Input::Answer {
        path: Path::Shared,
        lease: lease(n),
        ttl,
    }
}

fn broken() -> Input {
    Input::Broken(
        Path::Shared,
        Trouble::new(ErrorKind::Unavailable, "connection refused"),
    )
}

fn renewed(n: i64, ttl: u64, until: u64) -> Action {
    Action::Renewed {
        lease: lease(n),
        ttl: Duration::from_secs(ttl),
        until: at(until),
    }
}

fn sends(actions: &[Action]) -> usize {
    let is_send = |action: &&Action| matches!(action, Action::Send(..));
    actions.iter().filter(is_send).count()
}

/// A keeper with an open stream and lease 1, whose first renewal was sent at 0.
fn asked() -> RenewalSchedule {
    let mut keeper = RenewalSchedule::new(1);
    assert_eq!(keeper.on(add(1), at(0)), [Action::Open(Path::Shared)]);
    assert_eq!(
        keeper.on(Input::Opened(Path::Shared), at(0)),
        [Action::Send(Path::Shared, lease(1))]
    );
    keeper
}

#[test]
fn a_stream_is_in_a_hurry_when_a_lease_ends_soon() {
    let mut keeper = RenewalSchedule::new(1);
    assert!(!keeper.is_in_hurry(at(0)), "there is none");
    keeper.on(
        Input::Add {
            lease: lease(1),
            within: Duration::from_secs(30),
        },
        at(0),
    );
    assert!(!keeper.is_in_hurry(at(25_000)));
    assert!(keeper.is_in_hurry(at(25_001)));
    keeper.on(Input::Opened(Path::Shared), at(26_000));
    keeper.on(answer(1, TTL), at(26_000));
    assert!(!keeper.is_in_hurry(at(50_000)), "it was renewed");
}

/// The same with an answer at 10.
fn alive() -> RenewalSchedule {
    let mut keeper = asked();
    keeper.on(answer(1, TTL), at(10));
    keeper
}

/// Ticks whenever the keeper wants it (on whole milliseconds, like a timer), up to `end`, until
/// something is to be done.
fn run(keeper: &mut RenewalSchedule, end: u64) -> (u64, Vec<Action>) {
    while let Some(wake) = keeper.wake_at().filter(|wake| *wake <= at(end)) {
        let millis = wake.since(at(0)).as_nanos().div_ceil(1_000_000);
        let millis = u64::try_from(millis).unwrap();
        let actions = keeper.on(Input::Tick, at(millis));
        if !actions.is_empty() {
            return (millis, actions);
        }
    }
    (end, Vec::new())
}

#[test]
fn it_counts_from_when_the_renewal_was_sent_and_renews_at_a_third() {
    let mut keeper = asked();
    assert_eq!(
        keeper.on(answer(1, TTL), at(1500)),
        [renewed(1, 30, 30_000)]
    );
    let (when, actions) = run(&mut keeper, 60_000);
    assert!((9_000..=10_000).contains(&when), "{when}");
    assert_eq!(actions, [Action::Send(Path::Shared, lease(1))]);
}

#[test]
fn nothing_wakes_it_when_there_is_nothing_to_keep() {
    let mut keeper = RenewalSchedule::new(1);
    assert_eq!(keeper.wake_at(), None);
    assert_eq!(keeper.on(Input::Tick, at(0)), []);
    let mut keeper = alive();
    assert_eq!(
        keeper.on(Input::Remove(lease(1)), at(20)),
        [Action::Close(Path::Shared)]
    );
    assert_eq!(keeper.wake_at(), None);
    assert_eq!(keeper.on(add(1), at(30)), [Action::Open(Path::Shared)]);
}

#[test]
fn a_late_answer_sends_the_renewal_elsewhere_at_once_and_then_with_pauses() {
    let mut keeper = alive();
    let (sent, _) = run(&mut keeper, 60_000);
    let (late, actions) = run(&mut keeper, 60_000);
    assert_eq!(late, sent + 5_000);
    let abandon = Action::Abandon {
        path: Path::Shared,
        waited: Duration::from_secs(5),
    };
    assert_eq!(actions, [abandon.clone(), Action::Open(Path::Shared)]);
    let actions = keeper.on(Input::Opened(Path::Shared), at(late + 10));
    assert_eq!(actions, [Action::Send(Path::Shared, lease(1))]);
    let (later, actions) = run(&mut keeper, 60_000);
    assert_eq!((later, actions), (late + 5_010, vec![abandon]));
    let (rested, actions) = run(&mut keeper, 60_000);
    assert_eq!(actions, [Action::Open(Path::Shared)]);
    assert!(rested <= later + 50, "{rested}");
}

#[test]
fn the_shortest_lives_have_a_second_chance_on_another_stream() {
    for ttl in 1..=3 {
        let mut keeper = asked();
        keeper.on(answer(1, ttl), at(0));
        let end = u64::try_from(ttl).unwrap() * 1000;
        let (_, first) = run(&mut keeper, end);
        assert_eq!(first, [Action::Send(Path::Shared, lease(1))]);
        let (when, late) = run(&mut keeper, end);
        assert_eq!(late.last(), Some(&Action::Open(Path::Shared)));
        assert_eq!(keeper.on(Input::Opened(Path::Shared), at(when)), first);
        assert!(end - when >= end / 3, "{} ms are left", end - when);
    }
}

#[test]
fn a_stream_that_answers_is_not_late_however_many_wait() {
    let mut keeper = RenewalSchedule::new(1);
    for n in 1..=100 {
        let within = Duration::from_secs(1000);
        let lease = lease(n);
        keeper.on(Input::Add { lease, within }, at(0));
    }
    assert_eq!(sends(&keeper.on(Input::Opened(Path::Shared), at(0))), 100);
    // The last one is answered after 190 s, and every answer is just in time.
    for n in (1..=100).rev() {
        let now = at(1_900 * u64::try_from(101 - n).unwrap());
        assert_eq!(keeper.on(Input::Tick, now), []);
        assert_eq!(keeper.on(answer(n, 3600), now).len(), 1);
    }
}

#[test]
fn of_several_unanswered_renewals_the_least_patient_one_decides() {
    let mut keeper = asked();
    keeper.on(answer(1, 6), at(0));
    keeper.on(add(2), at(1_700));
    // Lease 2 may take 2 s for its first answer, lease 1 a second, asked after 1.8 s to 2 s.
    let (sent, _) = run(&mut keeper, 6_000);
    let (late, _) = run(&mut keeper, 6_000);
    assert_eq!(late, sent + 1_000);
    assert!(late < 3_700);
}

#[test]
fn an_answer_ends_the_pauses_between_streams() {
    let mut keeper = asked();
    keeper.on(answer(1, 3600), at(0));
    let mut now = 0;
    for _ in 0..20 {
        keeper.on(broken(), at(now));
        now = run(&mut keeper, 60_000).0.max(now);
    }
    for _ in 0..20 {
        let lease = lease(2);
        let within = Duration::from_secs(1000);
        keeper.on(Input::Add { lease, within }, at(now));
        keeper.on(Input::Opened(Path::Shared), at(now));
        keeper.on(answer(2, 3600), at(now));
        assert_eq!(keeper.on(broken(), at(now)), [Action::Open(Path::Shared)]);
        keeper.on(broken(), at(now));
        let (rested, _) = run(&mut keeper, now + 60_000);
        assert!(rested <= now + 51, "{} ms", rested - now);
        now = rested;
        keeper.on(Input::Remove(lease), at(now));
    }
}

#[test]
fn few_are_unanswered_at_a_time_and_those_that_end_first_go_first() {
    let mut keeper = RenewalSchedule::new(1);
    for n in 1..=1000 {
        let within = Duration::from_secs(u64::try_from(2000 - n).unwrap());
        keeper.on(
            Input::Add {
                lease: lease(n),
                within,
            },
            at(0),
        );
    }
    let actions = keeper.on(Input::Opened(Path::Shared), at(0));
    assert_eq!(sends(&actions), Path::Shared.window());
    assert_eq!(
        actions.first(),
        Some(&Action::Send(Path::Shared, lease(1000)))
    );
    assert_eq!(sends(&keeper.on(answer(1000, TTL), at(1))), 1);
}

#[test]
fn a_lease_that_nobody_renews_in_time_is_gone_with_the_reason() {
    let mut keeper = alive();
    keeper.on(broken(), at(5_000));
    let gone = loop {
        let (when, actions) = run(&mut keeper, 60_000);
        if actions.contains(&Action::Open(Path::Shared)) {
            keeper.on(broken(), at(when));
        }
        if let Some(Action::Gone { why, .. }) = actions.first() {
            break (when, why.clone());
        }
    };
    let why = Gone::Expired {
        ttl: Duration::from_secs(30),
        silent: Duration::from_secs(30),
        last: Some(Trouble::new(ErrorKind::Unavailable, "connection refused")),
    };
    assert_eq!(gone, (30_000, why));
    assert_eq!(keeper.wake_at(), None);
}

#[test]
fn a_lease_that_was_never_answered_is_gone_when_its_time_is_over() {
    let mut keeper = RenewalSchedule::new(1);
    keeper.on(add(1), at(0));
    let (when, actions) = run(&mut keeper, 60_000);
    let why = Gone::Unanswered {
        within: Duration::from_secs(5),
        last: None,
    };
    let lease = lease(1);
    assert_eq!(
        (when, actions),
        (
            5_000,
            vec![Action::Gone { lease, why }, Action::Close(Path::Shared)]
        )
    );
}

#[test]
fn after_a_sleep_longer_than_its_life_a_lease_is_over_and_nothing_is_sent() {
    let mut keeper = alive();
    let actions = keeper.on(Input::Tick, at(30_000));
    assert!(matches!(
        actions.as_slice(),
        [
            Action::Gone {
                why: Gone::Expired { .. },
                ..
            },
            Action::Close(Path::Shared)
        ]
    ));
}

#[test]
fn after_a_shorter_sleep_it_is_renewed_first_of_all() {
    let mut keeper = alive();
    assert_eq!(
        keeper.on(Input::Tick, at(29_000)),
        [Action::Send(Path::Shared, lease(1))]
    );
}

#[test]
fn an_answer_that_waited_while_nobody_looked_still_counts_from_its_sending() {
    let mut keeper = alive();
    let (sent, _) = run(&mut keeper, 60_000);
    // The old time is over by now, that of the answer is not.
    let actions = keeper.on(answer(1, TTL), at(35_000));
    assert_eq!(actions.first(), Some(&renewed(1, 30, sent + 30_000)));
    let mut keeper = alive();
    run(&mut keeper, 60_000);
    // And here that is over, too.
    let actions = keeper.on(answer(1, TTL), at(41_000));
    assert!(matches!(
        actions.first(),
        Some(Action::Gone {
            why: Gone::Expired { .. },
            ..
        })
    ));
}

#[test]
fn a_lease_that_does_not_exist_is_asked_for_twice_before_its_first_renewal_and_once_after() {
    let mut keeper = asked();
    assert_eq!(keeper.on(answer(1, 0), at(1)), []);
    assert_eq!(
        run(&mut keeper, 60_000),
        (201, vec![Action::Send(Path::Shared, lease(1))])
    );
    let gone = [
        Action::Gone {
            lease: lease(1),
            why: Gone::NotFound,
        },
        Action::Close(Path::Shared),
    ];
    assert_eq!(keeper.on(answer(1, 0), at(202)), gone);
    let mut keeper = alive();
    run(&mut keeper, 60_000);
    assert_eq!(keeper.on(answer(1, -1), at(10_000)), gone);
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let mut keeper = alive();
    assert_eq!(keeper.on(answer(7, TTL), at(20)), []);
    assert_eq!(keeper.on(answer(1, 3600), at(20)), []);
    assert_eq!(keeper.on(Input::Remove(lease(7)), at(20)), []);
    // The end is still that of the one answer that was asked for.
    assert!(!keeper.on(Input::Tick, at(30_000)).is_empty());
}

#[test]
fn a_longer_life_from_a_new_leader_is_accepted() {
    let mut keeper = alive();
    let (sent, _) = run(&mut keeper, 60_000);
    let actions = keeper.on(answer(1, 60), at(sent + 1));
    assert_eq!(actions, [renewed(1, 60, sent + 60_000)]);
}

#[test]
fn a_lease_that_comes_back_gets_the_answer_to_the_renewal_that_is_on_its_way() {
    let mut keeper = asked();
    keeper.on(add(2), at(0));
    keeper.on(Input::Remove(lease(1)), at(100));
    assert_eq!(keeper.on(add(1), at(900)), []);
    assert_eq!(
        keeper.on(answer(1, TTL), at(1000)),
        [renewed(1, 30, 30_000)]
    );
}

#[test]
fn after_a_cut_only_what_was_not_answered_is_sent_again() {
    let mut keeper = asked();
    keeper.on(add(2), at(0));
    keeper.on(answer(1, TTL), at(10));
    assert_eq!(keeper.on(broken(), at(20)), [Action::Open(Path::Shared)]);
    assert_eq!(
        keeper.on(Input::Opened(Path::Shared), at(30)),
        [Action::Send(Path::Shared, lease(2))]
    );
}

#[test]
fn tls_that_fails_ends_what_was_never_alive_and_nothing_else() {
    let mut keeper = asked();
    keeper.on(answer(1, TTL), at(10));
    keeper.on(add(2), at(20));
    let trouble = Trouble::new(ErrorKind::Tls, "expired");
    let actions = keeper.on(Input::Broken(Path::Shared, trouble.clone()), at(30));
    let gone = Action::Gone {
        lease: lease(2),
        why: Gone::Refused(trouble),
    };
    assert_eq!(actions, [gone, Action::Open(Path::Shared)]);
    assert!(keeper.wake_at().is_some(), "lease 1 lives on");
}

#[test]
fn an_outage_is_no_storm() {
    let mut keeper = asked();
    keeper.on(answer(1, 3600), at(0));
    let (mut now, mut opens) = (0, 0);
    keeper.on(broken(), at(0));
    opens += 1;
    while now < 60_000 {
        keeper.on(broken(), at(now));
        let (when, actions) = run(&mut keeper, 60_000);
        opens += usize::from(actions.contains(&Action::Open(Path::Shared)));
        now = when;
    }
    // Half a second with full jitter: four a second.
    assert!((180..=320).contains(&opens), "{opens}");
}

#[test]
fn ten_thousand_leases_cost_what_they_must() {
    const LEASES: i64 = 10_000;
    let mut keeper = RenewalSchedule::new(1);
    for n in 1..=LEASES {
        keeper.on(add(n), at(0));
    }
    let mut queue: std::collections::VecDeque<LeaseId> = std::collections::VecDeque::new();
    let (mut inputs, mut sent) = (0, 0);
    let mut actions = keeper.on(Input::Opened(Path::Shared), at(0));
    let mut now = at(0);
    while now < at(60_000) {
        inputs += 1;
        for action in actions {
            match action {
                Action::Send(_, lease) => queue.push_back(lease),
                Action::Renewed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        // A hundred answers a millisecond.
        match queue.pop_front() {
            Some(lease) => {
                sent += 1;
                now = now + Duration::from_micros(10);
                actions = keeper.on(
                    Input::Answer {
                        path: Path::Shared,
                        lease,
                        ttl: TTL,
                    },
                    now,
                );
            }
            None => {
                now = keeper.wake_at().unwrap();
                actions = keeper.on(Input::Tick, now);
            }
        }
    }
    // One at once, then at most one in 9 s each; and no more ticks than renewals.
    assert!((60_000..=80_000).contains(&sent), "{sent}");
    assert!(inputs <= 2 * sent, "{inputs}");
    assert!(keeper.due.len() + keeper.shared.ready.len() + keeper.shared.flight.len() <= 10_000);
}
