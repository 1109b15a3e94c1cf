//! The times and the numbers of renewals.

use super::*;

#[test]
fn the_ttl_counts_from_the_sending_and_a_third_of_it_passes_before_a_renewal() {
    let mut schedule = asked();
    assert_eq!(
        schedule.on(answer(1, TTL), at(1500)),
        [renewed(1, 30, 30_000)]
    );
    let (when, actions) = run(&mut schedule, 60_000);
    assert_eq!(when, 10_000);
    assert_eq!(actions, [Action::Send(StreamRole::Shared, lease(1))]);
}

#[test]
fn renewals_that_are_due_at_about_the_same_time_are_sent_together() {
    let mut schedule = alive();
    assert_eq!(schedule.wake_from(), Some(at(9_900)));
    assert_eq!(schedule.wake_at(), Some(at(10_000)));
    let mut early = alive();
    assert_eq!(early.on(Input::Tick, at(9_899)), []);
    let sent = [Action::Send(StreamRole::Shared, lease(1))];
    assert_eq!(early.on(Input::Tick, at(9_900)), sent);
    assert_eq!(schedule.on(Input::Tick, at(9_950)), sent);
    // The repetition of a renewal is not early.
    let mut schedule = asked();
    assert_eq!(schedule.on(answer(1, 0), at(10)), []);
    assert_eq!(schedule.wake_from(), schedule.wake_at());
    assert_eq!(schedule.on(Input::Tick, at(209)), []);
    assert_eq!(schedule.on(Input::Tick, at(210)), sent);
}

#[test]
fn leases_that_were_granted_together_are_not_renewed_together() {
    let mut schedule = asked();
    for n in 2..=50 {
        schedule.on(add(n), at(0));
    }
    for n in 1..=50 {
        schedule.on(answer(n, TTL), at(10));
    }
    let due: Vec<_> = schedule.due.iter().map(|(due, _)| *due).collect();
    assert!(due.iter().all(|due| (at(9_000)..=at(10_000)).contains(due)));
    let span = due[49].since(due[0]);
    assert!(span >= Duration::from_millis(700), "{span:?}");
}

#[test]
fn an_answered_renewal_is_not_checked_again() {
    let mut schedule = asked();
    assert_eq!(schedule.wake_at(), Some(at(2_000)), "the answer is awaited");
    schedule.on(answer(1, TTL), at(10));
    let due = schedule.due.first().map(|(due, _)| *due);
    assert_eq!(due, Some(at(10_000)));
    assert_eq!(schedule.wake_at(), due);
}

#[test]
fn a_renewal_that_is_not_answered_is_late_once_when_half_of_the_time_is_left() {
    let mut schedule = alive();
    let mut late = Vec::new();
    let (mut now, mut streams) = (0, 0);
    while now < 29_000 {
        let (when, actions) = run(&mut schedule, 29_000);
        if actions.contains(&Action::Late(lease(1))) {
            late.push(when);
        }
        if actions.contains(&Action::Open(StreamRole::Shared)) {
            streams += 1;
            schedule.on(Input::Opened(StreamRole::Shared), at(when));
        }
        now = when;
    }
    assert_eq!(late, [15_000]);
    assert!(streams > 1, "it was sent to other members: {streams}");
    // An answer ends it, and the next one is late again.
    schedule.on(answer(1, TTL), at(29_500));
    let renewed = schedule.first_end().unwrap() - Duration::from_secs(15);
    let late = std::iter::from_fn(|| Some(run(&mut schedule, 60_000)));
    let mut late = late
        .take(20)
        .filter(|(_, a)| a.contains(&Action::Late(lease(1))));
    assert_eq!(late.next().map(|(when, _)| at(when)), Some(renewed));
}

#[test]
fn a_renewal_in_time_is_not_late() {
    let mut schedule = alive();
    for round in 1..10 {
        let (when, actions) = run(&mut schedule, 1_000_000);
        assert_eq!(actions, [Action::Send(StreamRole::Shared, lease(1))]);
        schedule.on(answer(1, TTL), at(when + 10));
        assert_eq!(when, round * 10_000);
    }
}

#[test]
fn without_leases_there_is_no_deadline() {
    let mut schedule = RenewalSchedule::new(1);
    assert_eq!(schedule.wake_at(), None);
    assert_eq!(schedule.on(Input::Tick, at(0)), []);
    let mut schedule = alive();
    assert_eq!(
        schedule.on(Input::Remove(lease(1)), at(20)),
        [Action::Close(StreamRole::Shared)]
    );
    assert_eq!(schedule.wake_at(), None);
    assert_eq!(
        schedule.on(add(1), at(30)),
        [Action::Open(StreamRole::Shared)]
    );
}

#[test]
fn unanswered_renewals_are_limited_and_the_earliest_expiry_is_sent_first() {
    let mut schedule = RenewalSchedule::new(1);
    for n in 1..=1000 {
        let within = Duration::from_secs(u64::try_from(2000 - n).unwrap());
        schedule.on(
            Input::Add {
                lease: lease(n),
                within,
            },
            at(0),
        );
    }
    let actions = schedule.on(Input::Opened(StreamRole::Shared), at(0));
    assert_eq!(sends(&actions), StreamRole::Shared.window());
    assert_eq!(
        actions.first(),
        Some(&Action::Send(StreamRole::Shared, lease(1000)))
    );
    assert_eq!(sends(&schedule.on(answer(1000, TTL), at(1))), 1);
}

#[test]
fn after_a_sleep_shorter_than_the_ttl_the_lease_is_renewed_at_once() {
    let mut schedule = alive();
    assert_eq!(
        schedule.on(Input::Tick, at(29_000)),
        [
            Action::Late(lease(1)),
            Action::Send(StreamRole::Shared, lease(1))
        ]
    );
}

#[test]
fn streams_are_opened_at_a_bounded_rate_during_an_outage() {
    let mut schedule = asked();
    schedule.on(answer(1, 3600), at(0));
    let (mut now, mut opens) = (0, 0);
    schedule.on(broken(), at(0));
    opens += 1;
    while now < 60_000 {
        schedule.on(broken(), at(now));
        let (when, actions) = run(&mut schedule, 60_000);
        opens += usize::from(actions.contains(&Action::Open(StreamRole::Shared)));
        now = when;
    }
    // Half a second with full jitter: four a second.
    assert!((180..=320).contains(&opens), "{opens}");
}

#[test]
fn the_cost_of_ten_thousand_leases_is_proportional_to_their_renewals() {
    const LEASES: i64 = 10_000;
    let mut schedule = RenewalSchedule::new(1);
    for n in 1..=LEASES {
        schedule.on(add(n), at(0));
    }
    let mut queue: std::collections::VecDeque<LeaseId> = std::collections::VecDeque::new();
    let (mut inputs, mut sent) = (0, 0);
    let mut actions = schedule.on(Input::Opened(StreamRole::Shared), at(0));
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
                actions = schedule.on(
                    Input::Answer {
                        role: StreamRole::Shared,
                        lease,
                        ttl: TTL,
                    },
                    now,
                );
            }
            None => {
                now = schedule.wake_at().unwrap();
                actions = schedule.on(Input::Tick, now);
            }
        }
    }
    // One at once, then at most one in 9 s each; and no more ticks than renewals.
    assert!((60_000..=80_000).contains(&sent), "{sent}");
    assert!(inputs <= 2 * sent, "{inputs}");
    assert!(
        schedule.due.len() + schedule.shared.ready.len() + schedule.shared.unanswered.len()
            <= 10_000
    );
}
