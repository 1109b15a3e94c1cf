//! Answers, and leases that end.

use super::*;

#[test]
fn a_lease_that_is_not_renewed_in_time_ends_with_the_reason() {
    let mut schedule = alive();
    schedule.on(broken(), at(5_000));
    let gone = loop {
        let (when, actions) = run(&mut schedule, 60_000);
        if actions.contains(&Action::Open(StreamRole::Shared)) {
            schedule.on(broken(), at(when));
        }
        if let Some(Action::Ended { end, .. }) = actions.first() {
            break (when, end.clone());
        }
    };
    let end = LeaseEnd::Expired {
        ttl: Duration::from_secs(30),
        silent: Duration::from_secs(30),
        last: Some(StreamFailure::new(
            ErrorKind::Unavailable,
            "connection refused",
        )),
    };
    assert_eq!(gone, (30_000, end));
    assert_eq!(schedule.wake_at(), None);
}

#[test]
fn a_lease_without_any_answer_ends_when_its_time_is_over() {
    let mut schedule = RenewalSchedule::new(1);
    schedule.on(add(1), at(0));
    let (when, actions) = run(&mut schedule, 60_000);
    let end = LeaseEnd::Unanswered {
        within: Duration::from_secs(5),
        last: None,
    };
    let lease = lease(1);
    assert_eq!(
        (when, actions),
        (
            5_000,
            vec![
                Action::Ended { lease, end },
                Action::Close(StreamRole::Shared)
            ]
        )
    );
}

// Fault: F14
#[test]
fn after_a_sleep_longer_than_the_ttl_the_lease_ends_and_nothing_is_sent() {
    let mut schedule = alive();
    let actions = schedule.on(Input::Tick, at(30_000));
    assert!(matches!(
        actions.as_slice(),
        [
            Action::Ended {
                end: LeaseEnd::Expired { .. },
                ..
            },
            Action::Close(StreamRole::Shared)
        ]
    ));
}

#[test]
fn an_answer_that_is_read_late_counts_from_the_time_of_its_request() {
    let mut schedule = alive();
    let (sent, _) = run(&mut schedule, 60_000);
    // The old time is over by now, that of the answer is not.
    let actions = schedule.on(answer(1, TTL), at(35_000));
    assert_eq!(actions.first(), Some(&renewed(1, 30, sent + 30_000)));
    let mut schedule = alive();
    run(&mut schedule, 60_000);
    // And here that is over, too.
    let actions = schedule.on(answer(1, TTL), at(sent + 30_000));
    assert!(matches!(
        actions.first(),
        Some(Action::Ended {
            end: LeaseEnd::Expired { .. },
            ..
        })
    ));
}

#[test]
fn a_missing_lease_is_checked_twice_before_its_first_renewal_and_once_after_it() {
    let mut schedule = asked();
    assert_eq!(schedule.on(answer(1, 0), at(1)), []);
    assert_eq!(
        run(&mut schedule, 60_000),
        (201, vec![Action::Send(StreamRole::Shared, lease(1))])
    );
    let gone = [
        Action::Ended {
            lease: lease(1),
            end: LeaseEnd::NotFound,
        },
        Action::Close(StreamRole::Shared),
    ];
    assert_eq!(schedule.on(answer(1, 0), at(202)), gone);
    let mut schedule = alive();
    run(&mut schedule, 60_000);
    assert_eq!(schedule.on(answer(1, -1), at(10_000)), gone);
}

#[test]
fn unsolicited_answers_change_nothing() {
    let mut schedule = alive();
    assert_eq!(schedule.on(answer(7, TTL), at(20)), []);
    assert_eq!(schedule.on(answer(1, 3600), at(20)), []);
    assert_eq!(schedule.on(Input::Remove(lease(7)), at(20)), []);
    // The end is still that of the one answer that was asked for.
    assert!(!schedule.on(Input::Tick, at(30_000)).is_empty());
}

#[test]
fn a_longer_ttl_from_a_new_leader_is_accepted() {
    let mut schedule = alive();
    let (sent, _) = run(&mut schedule, 60_000);
    let actions = schedule.on(answer(1, 60), at(sent + 1));
    assert_eq!(actions, [renewed(1, 60, sent + 60_000)]);
}
