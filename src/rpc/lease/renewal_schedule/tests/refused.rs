//! Renewals that the server refuses.

use super::*;

const HALF: u64 = 500;

fn refused(role: StreamRole, kind: ErrorKind) -> Input {
    Input::Refused(role, StreamFailure::new(kind, "no"))
}

/// A schedule whose lease 1 was renewed at 0 and refused on the shared stream at the time of its next renewal. The
/// renewal is sent again on the isolated stream. Returns that time.
fn isolated(seed: u64) -> (RenewalSchedule, u64) {
    isolated_with(seed, TTL)
}

/// As [`isolated`], with a time to live in seconds.
fn isolated_with(seed: u64, ttl: i64) -> (RenewalSchedule, u64) {
    let mut schedule = RenewalSchedule::new(seed);
    schedule.on(add(1), at(0));
    schedule.on(Input::Opened(StreamRole::Shared), at(0));
    schedule.on(answer(1, ttl), at(0));
    let (sent, actions) = run(&mut schedule, 60_000);
    assert_eq!(actions, [Action::Send(StreamRole::Shared, lease(1))]);
    let denied = refused(StreamRole::Shared, ErrorKind::PermissionDenied);
    let actions = schedule.on(denied, at(sent));
    for role in StreamRole::BOTH {
        assert!(actions.contains(&Action::Open(role)), "{actions:?}");
    }
    send_alone(&mut schedule, sent);
    (schedule, sent)
}

/// The isolated stream opens, and lease 1 is sent on it.
fn send_alone(schedule: &mut RenewalSchedule, now: u64) {
    let actions = schedule.on(Input::Opened(StreamRole::Isolated), at(now));
    assert_eq!(actions, [Action::Send(StreamRole::Isolated, lease(1))]);
}

#[test]
fn a_lease_whose_refused_renewal_succeeds_alone_returns_to_the_shared_stream() {
    let (mut schedule, sent) = isolated(1);
    assert_eq!(
        schedule.on(Input::Tick, at(sent + 1)),
        [],
        "the stream stays open for the answer"
    );
    let answer = Input::Answer {
        role: StreamRole::Isolated,
        lease: lease(1),
        ttl: TTL,
    };
    let actions = schedule.on(answer, at(sent + 2));
    assert!(
        actions.contains(&renewed(1, 30, sent + 30_000)),
        "{actions:?}"
    );
    assert!(actions.contains(&Action::Close(StreamRole::Isolated)));
    schedule.on(Input::Opened(StreamRole::Shared), at(sent + 3));
    let (_, actions) = run(&mut schedule, 60_000);
    assert_eq!(actions, [Action::Send(StreamRole::Shared, lease(1))]);
}

#[test]
fn a_renewal_that_is_refused_alone_is_repeated_after_growing_waits_until_the_lease_ends() {
    let mut first_waits = 0;
    for seed in 0..200 {
        let (mut schedule, mut before) = isolated(seed);
        let mut longest = 2 * HALF;
        let mut attempts = 0;
        loop {
            let denied = refused(StreamRole::Isolated, ErrorKind::PermissionDenied);
            schedule.on(denied, at(before));
            let (now, actions) = run(&mut schedule, 60_000);
            if !actions.contains(&Action::Open(StreamRole::Isolated)) {
                assert_eq!(actions.first(), Some(&Action::Late(lease(1))));
                let (now, actions) = run(&mut schedule, 60_000);
                assert!(now >= before && !actions.is_empty());
                break;
            }
            attempts += 1;
            let wait = now - before;
            // Between a half and all of a wait that doubles, and at most a quarter of the rest.
            longest = longest.min((30_000 - before).div_ceil(4));
            assert!(wait <= longest.max(2 * HALF), "{attempts}: {wait} ms");
            if attempts == 1 {
                assert!((HALF / 2..=HALF + 1).contains(&wait), "{wait} ms");
                first_waits += wait;
            }
            longest *= 2;
            before = now;
            send_alone(&mut schedule, now);
        }
        assert!(
            (3..=5).contains(&attempts),
            "{attempts} in half of the time"
        );
    }
    // Spread over the whole half, so that many clients do not repeat together.
    assert!((355..=395).contains(&(first_waits / 200)), "{first_waits}");
}

#[test]
fn a_refused_renewal_is_repeated_within_a_quarter_of_the_time_that_is_left() {
    for seed in 0..50 {
        let (mut schedule, mut before) = isolated_with(seed, 3);
        for _ in 0..3 {
            let denied = refused(StreamRole::Isolated, ErrorKind::PermissionDenied);
            schedule.on(denied, at(before));
            let now = loop {
                let (now, actions) = run(&mut schedule, 3_000);
                if actions.contains(&Action::Open(StreamRole::Isolated)) {
                    break now;
                }
                assert!(now < 3_000, "seed {seed}: none after {before} ms");
            };
            let (wait, most) = (now - before, (3_000 - before) / 4);
            assert!(wait <= most + 1, "seed {seed}: {wait} and not {most} ms");
            before = now;
            send_alone(&mut schedule, now);
        }
    }
}

#[test]
fn a_lease_that_was_never_renewed_ends_when_the_user_may_not_renew_it() {
    for (kind, ends) in [
        (ErrorKind::PermissionDenied, true),
        (ErrorKind::Unauthenticated, false),
    ] {
        let mut schedule = asked();
        schedule.on(refused(StreamRole::Shared, kind), at(10));
        send_alone(&mut schedule, 20);
        let actions = schedule.on(refused(StreamRole::Isolated, kind), at(30));
        let is_end = |action: &Action| {
            matches!(
                action,
                Action::Ended {
                    end: LeaseEnd::Refused(_),
                    ..
                }
            )
        };
        assert_eq!(actions.iter().any(is_end), ends, "{kind:?}: {actions:?}");
    }
    // One that was renewed before may be permitted again.
    let (mut schedule, sent) = isolated(1);
    let denied = refused(StreamRole::Isolated, ErrorKind::PermissionDenied);
    assert_eq!(schedule.on(denied, at(sent + 1)), []);
}

#[test]
fn the_oldest_of_several_unanswered_renewals_is_the_refused_one() {
    let mut schedule = RenewalSchedule::new(1);
    schedule.on(add(1), at(0));
    schedule.on(Input::Opened(StreamRole::Shared), at(0));
    schedule.on(add(2), at(10));
    schedule.on(add(3), at(20));
    let denied = refused(StreamRole::Shared, ErrorKind::PermissionDenied);
    schedule.on(denied, at(30));
    send_alone(&mut schedule, 40);
    let actions = schedule.on(Input::Opened(StreamRole::Shared), at(40));
    let on_shared = |n| Action::Send(StreamRole::Shared, lease(n));
    assert_eq!(actions, [on_shared(2), on_shared(3)]);
}
