//! Streams that are late, lost or refused.

use super::*;

#[test]
fn opening_a_stream_is_urgent_when_a_lease_ends_soon() {
    let mut schedule = RenewalSchedule::new(1);
    assert!(!schedule.is_urgent(at(0)), "there is none");
    schedule.on(
        Input::Add {
            lease: lease(1),
            within: Duration::from_secs(30),
        },
        at(0),
    );
    assert!(!schedule.is_urgent(at(25_000)));
    assert!(schedule.is_urgent(at(25_001)));
    schedule.on(Input::Opened(StreamRole::Shared), at(26_000));
    schedule.on(answer(1, TTL), at(26_000));
    assert!(!schedule.is_urgent(at(50_000)), "it was renewed");
}

#[test]
fn after_a_late_answer_a_new_stream_is_opened_at_once_and_later_ones_after_pauses() {
    let mut schedule = alive();
    let (sent, _) = run(&mut schedule, 60_000);
    let (late, actions) = run(&mut schedule, 60_000);
    assert_eq!(late, sent + 5_000);
    let hedge = Action::Hedge {
        waited: Duration::from_secs(5),
    };
    let open = Action::Open(StreamRole::Shared);
    assert_eq!(actions, [Action::Late(lease(1)), hedge.clone(), open]);
    let actions = schedule.on(Input::Opened(StreamRole::Shared), at(late + 10));
    assert_eq!(actions, [Action::Send(StreamRole::Shared, lease(1))]);
    let (later, actions) = run(&mut schedule, 60_000);
    assert_eq!((later, actions), (late + 5_010, vec![hedge]));
    let (rested, actions) = run(&mut schedule, 60_000);
    assert_eq!(actions, [Action::Open(StreamRole::Shared)]);
    assert!(rested <= later + 50, "{rested}");
}

#[test]
fn leases_with_the_shortest_ttl_get_a_second_attempt_on_another_stream() {
    for ttl in 1..=3 {
        let mut schedule = asked();
        schedule.on(answer(1, ttl), at(0));
        let end = u64::try_from(ttl).unwrap() * 1000;
        let (_, first) = run(&mut schedule, end);
        assert_eq!(first, [Action::Send(StreamRole::Shared, lease(1))]);
        let (mut when, mut late) = run(&mut schedule, end);
        if late == [Action::Late(lease(1))] {
            (when, late) = run(&mut schedule, end);
        }
        assert_eq!(late.last(), Some(&Action::Open(StreamRole::Shared)));
        assert_eq!(
            schedule.on(Input::Opened(StreamRole::Shared), at(when)),
            first
        );
        // Each time was rounded up to milliseconds.
        let left = end - when + 2;
        let least = if ttl == 3 { end / 2 } else { end / 3 };
        assert!(left >= least, "{left} ms are left");
    }
}

/// Lease 1 was renewed at 0 for 30 s; its next renewal is late, and the shared stream is opened again. Returns
/// the time at which the renewal was sent, and the present.
fn hedged() -> (RenewalSchedule, u64, u64) {
    let mut schedule = alive();
    let (sent, _) = run(&mut schedule, 60_000);
    let (now, actions) = run(&mut schedule, 60_000);
    assert!(actions.contains(&Action::Hedge {
        waited: Duration::from_secs(5)
    }));
    (schedule, sent, now)
}

fn late_answer(n: i64, ttl: i64) -> Input {
    Input::LateAnswer {
        lease: lease(n),
        ttl,
    }
}

#[test]
fn a_renewal_is_at_two_members_when_half_of_the_time_is_left() {
    for ttl in 3..=30 {
        let mut schedule = asked();
        schedule.on(answer(1, ttl), at(0));
        let half = u64::try_from(ttl).unwrap() * 500;
        loop {
            let (when, actions) = run(&mut schedule, 60_000);
            assert!(when <= half + 1, "ttl {ttl}: {when}");
            if actions.iter().any(|a| matches!(a, Action::Hedge { .. })) {
                assert_eq!(actions.last(), Some(&Action::Open(StreamRole::Shared)));
                break;
            }
        }
    }
}

#[test]
fn the_late_stream_renews_the_lease_while_another_one_is_opened() {
    let (mut schedule, sent, now) = hedged();
    let until = sent + 30_000;
    assert_eq!(
        schedule.on(late_answer(1, TTL), at(now + 10)),
        [renewed(1, 30, until)]
    );
    assert_eq!(schedule.on(late_answer(1, TTL), at(now + 11)), [], "twice");
    // The renewal is not sent again on the new stream before it is due.
    let opened = schedule.on(Input::Opened(StreamRole::Shared), at(now + 20));
    assert_eq!(opened, []);
    let (next, actions) = run(&mut schedule, 60_000);
    assert_eq!(actions, [Action::Send(StreamRole::Shared, lease(1))]);
    assert!((sent + 9_800..=sent + 10_000).contains(&next), "{next}");
}

#[test]
fn both_streams_may_answer_and_the_later_renewal_counts() {
    let (mut schedule, sent, now) = hedged();
    let again = schedule.on(Input::Opened(StreamRole::Shared), at(now));
    assert_eq!(again, [Action::Send(StreamRole::Shared, lease(1))]);
    let first = schedule.on(late_answer(1, TTL), at(now + 10));
    assert_eq!(first, [renewed(1, 30, sent + 30_000)]);
    let second = schedule.on(answer(1, TTL), at(now + 20));
    assert_eq!(
        second,
        [Action::CloseLateStream, renewed(1, 30, now + 30_000)]
    );
    let (mut schedule, _, now) = hedged();
    schedule.on(Input::Opened(StreamRole::Shared), at(now));
    schedule.on(answer(1, TTL), at(now + 10));
    assert_eq!(schedule.on(late_answer(1, TTL), at(now + 20)), []);
}

#[test]
fn the_late_stream_ends_no_lease() {
    let (mut schedule, _, now) = hedged();
    assert_eq!(schedule.on(late_answer(1, 0), at(now)), []);
    let (mut schedule, _, now) = hedged();
    assert_eq!(schedule.on(Input::LateStreamEnded, at(now)), []);
    assert_eq!(schedule.on(late_answer(1, TTL), at(now)), []);
    let (mut schedule, _, now) = hedged();
    assert_eq!(
        schedule.on(Input::Remove(lease(1)), at(now)),
        [Action::Close(StreamRole::Shared), Action::CloseLateStream]
    );
}

#[test]
fn a_stream_that_answers_is_not_late_however_many_renewals_wait() {
    let mut schedule = RenewalSchedule::new(1);
    for n in 1..=100 {
        let within = Duration::from_secs(1000);
        let lease = lease(n);
        schedule.on(Input::Add { lease, within }, at(0));
    }
    assert_eq!(
        sends(&schedule.on(Input::Opened(StreamRole::Shared), at(0))),
        100
    );
    // The last one is answered after 190 s, and every answer is just in time.
    for n in (1..=100).rev() {
        let now = at(1_900 * u64::try_from(101 - n).unwrap());
        assert_eq!(schedule.on(Input::Tick, now), []);
        assert_eq!(schedule.on(answer(n, 3600), now).len(), 1);
    }
}

#[test]
fn the_unanswered_renewal_with_the_earliest_deadline_decides() {
    let mut schedule = asked();
    schedule.on(answer(1, 6), at(0));
    schedule.on(add(2), at(1_700));
    // Lease 2 may take 2 s for its first answer, lease 1 a second, asked after 1.8 s to 2 s.
    let (sent, _) = run(&mut schedule, 6_000);
    let (late, _) = run(&mut schedule, 6_000);
    assert_eq!(late, sent + 1_000);
    assert!(late < 3_700);
}

#[test]
fn a_lost_stream_is_opened_again_within_a_quarter_of_the_time_that_is_left() {
    let open = Action::Open(StreamRole::Shared);
    for seed in 0..50 {
        let mut schedule = RenewalSchedule::new(seed);
        schedule.on(add(1), at(0));
        schedule.on(Input::Opened(StreamRole::Shared), at(0));
        schedule.on(answer(1, 5), at(0));
        // Until less than the shortest wait is left.
        let (mut now, mut opens) = (0, 0);
        while now < 4_700 {
            let before = now;
            let mut actions = schedule.on(broken(), at(now));
            while !actions.contains(&open) {
                assert!(now < 5_000, "seed {seed}: none after {before} ms");
                (now, actions) = run(&mut schedule, 5_000);
            }
            opens += 1;
            let (wait, most) = (now - before, (5_000 - before) / 4);
            assert!(wait <= most + 1, "seed {seed}: {wait} and not {most} ms");
        }
        assert!(opens > 10, "seed {seed}: {opens}");
    }
}

#[test]
fn an_answer_ends_the_pauses_between_streams() {
    let mut schedule = asked();
    schedule.on(answer(1, 3600), at(0));
    let mut now = 0;
    for _ in 0..20 {
        schedule.on(broken(), at(now));
        now = run(&mut schedule, 60_000).0.max(now);
    }
    for _ in 0..20 {
        let lease = lease(2);
        let within = Duration::from_secs(1000);
        schedule.on(Input::Add { lease, within }, at(now));
        schedule.on(Input::Opened(StreamRole::Shared), at(now));
        schedule.on(answer(2, 3600), at(now));
        assert_eq!(
            schedule.on(broken(), at(now)),
            [Action::Open(StreamRole::Shared)]
        );
        schedule.on(broken(), at(now));
        let (rested, _) = run(&mut schedule, now + 60_000);
        assert!(rested <= now + 51, "{} ms", rested - now);
        now = rested;
        schedule.on(Input::Remove(lease), at(now));
    }
}

#[test]
fn a_lease_that_is_added_again_receives_the_answer_of_its_renewal_in_flight() {
    let mut schedule = asked();
    schedule.on(add(2), at(0));
    schedule.on(Input::Remove(lease(1)), at(100));
    assert_eq!(schedule.on(add(1), at(900)), []);
    assert_eq!(
        schedule.on(answer(1, TTL), at(1000)),
        [renewed(1, 30, 30_000)]
    );
}

#[test]
fn after_a_disconnect_only_unanswered_renewals_are_sent_again() {
    let mut schedule = asked();
    schedule.on(add(2), at(0));
    schedule.on(answer(1, TTL), at(10));
    assert_eq!(
        schedule.on(broken(), at(20)),
        [Action::Open(StreamRole::Shared)]
    );
    assert_eq!(
        schedule.on(Input::Opened(StreamRole::Shared), at(30)),
        [Action::Send(StreamRole::Shared, lease(2))]
    );
}

#[test]
fn a_tls_failure_ends_only_leases_that_were_never_renewed() {
    let mut schedule = asked();
    schedule.on(answer(1, TTL), at(10));
    schedule.on(add(2), at(20));
    let failure = StreamFailure::new(ErrorKind::Tls, "expired");
    let actions = schedule.on(Input::Broken(StreamRole::Shared, failure.clone()), at(30));
    let gone = Action::Ended {
        lease: lease(2),
        end: LeaseEnd::Refused(failure),
    };
    assert_eq!(actions, [gone, Action::Open(StreamRole::Shared)]);
    assert!(schedule.wake_at().is_some(), "lease 1 lives on");
}
