//! The rules one by one, then connections with random events.

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);
const WITHIN: Duration = Duration::from_secs(5);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A connection, and when its server showed the last sign of life.
struct Wire {
    begun: Instant,
    now: Instant,
    last_sign_of_life: Instant,
    liveness: Keepalive,
    pings: Vec<Instant>,
}

impl Wire {
    fn new() -> Self {
        let now = Instant::now();
        Wire {
            begun: now,
            now,
            last_sign_of_life: now,
            liveness: Keepalive::new(now, WITHIN),
            pings: Vec::new(),
        }
    }

    fn step(&mut self, busy: bool) -> KeepaliveStep {
        let step = self
            .liveness
            .step(self.now, self.last_sign_of_life, busy, INTERVAL);
        if step == KeepaliveStep::Ping {
            self.pings.push(self.now);
            return self.step(busy);
        }
        step
    }

    /// Lets time pass in silence, up to `end`. Returns when the server was given up.
    fn silence(&mut self, end: u64, busy: bool) -> Option<Duration> {
        let end = self.begun + ms(end);
        loop {
            match self.step(busy) {
                KeepaliveStep::GiveUp => return Some(self.now - self.begun),
                KeepaliveStep::Wait { until, .. } if until <= end => self.now = until,
                KeepaliveStep::Wait { .. } | KeepaliveStep::Rest => break,
                KeepaliveStep::Ping => panic!("the wire answers pings"),
            }
        }
        self.now = end;
        None
    }

    fn touch(&mut self) {
        self.last_sign_of_life = self.now;
    }
}

#[test]
fn a_silent_server_is_abandoned_after_an_unanswered_ping() {
    let mut wire = Wire::new();
    assert_eq!(wire.silence(60_000, true), Some(ms(15_000)));
    assert_eq!(wire.pings, [wire.begun + ms(10_000)]);
}

#[test]
fn an_idle_connection_is_not_checked_and_a_new_stream_has_the_whole_interval() {
    let mut wire = Wire::new();
    assert_eq!(wire.step(false), KeepaliveStep::Rest);
    assert_eq!(wire.silence(3_600_000, false), None);
    assert!(wire.pings.is_empty());
    // Then a request is opened.
    assert_eq!(wire.silence(3_700_000, true), Some(ms(3_615_000)));
    assert_eq!(wire.pings, [wire.begun + ms(3_610_000)]);
}

#[test]
fn a_ping_is_sent_early_by_a_step_in_its_window_and_never_before() {
    for (at, early) in [(7_499, false), (7_500, true), (9_999, true)] {
        let mut wire = Wire::new();
        let window = KeepaliveStep::Wait {
            from: wire.now + ms(7_500),
            until: wire.now + ms(10_000),
        };
        assert_eq!(wire.step(true), window);
        // The client woke up for something else.
        wire.now += ms(at);
        let end = wire.silence(60_000, true);
        let ping = if early { at } else { 10_000 };
        assert_eq!(wire.pings, [wire.begun + ms(ping)]);
        assert_eq!(end, Some(ms(ping) + WITHIN));
    }
}

#[test]
fn an_early_ping_keeps_the_distance_to_the_last_one() {
    let mut wire = Wire::new();
    let interval = ms(6_000);
    let step = wire
        .liveness
        .step(wire.now, wire.last_sign_of_life, true, interval);
    let (from, until) = (wire.now + MIN_PING_INTERVAL, wire.now + interval);
    assert_eq!(step, KeepaliveStep::Wait { from, until });
}

#[test]
fn any_received_byte_is_a_sign_of_life_while_a_ping_is_unanswered() {
    let mut wire = Wire::new();
    assert_eq!(wire.silence(12_000, true), None);
    assert_eq!(wire.pings.len(), 1);
    for second in 13..100 {
        wire.touch();
        assert_eq!(wire.silence(second * 1000, true), None);
    }
    assert_eq!(wire.pings.len(), 1, "one is not answered");
    assert_eq!(wire.silence(200_000, true), Some(ms(98_000 + 5_000)));
}

// Fault: Q6
#[test]
fn a_suspicion_is_checked_as_soon_as_a_ping_is_permitted() {
    for at in [0, 1_000, 4_999, 5_000, 7_000] {
        let mut wire = Wire::new();
        assert_eq!(wire.silence(at, true), None);
        wire.liveness.suspect(wire.now);
        let ping = at.max(5_000);
        assert_eq!(wire.silence(60_000, true), Some(ms(ping) + WITHIN), "{at}");
        assert_eq!(wire.pings, [wire.begun + ms(ping)]);
    }
}

#[test]
fn a_suspicion_ends_with_a_later_sign_of_life() {
    let mut wire = Wire::new();
    wire.liveness.suspect(wire.now);
    assert_eq!(wire.silence(1_000, true), None);
    wire.touch();
    assert_eq!(wire.silence(10_999, true), None);
    assert!(wire.pings.is_empty());
}

#[test]
fn a_suspended_process_pings_before_it_abandons_the_server() {
    let mut wire = Wire::new();
    assert_eq!(wire.silence(10_000, true), None);
    assert_eq!(wire.pings.len(), 1);
    wire.now += Duration::from_secs(3600);
    let wait = |until| KeepaliveStep::Wait { from: until, until };
    assert_eq!(wire.step(true), wait(wire.now + WITHIN));
    let end = wire.now - wire.begun + WITHIN;
    assert_eq!(wire.silence(4_000_000, true), Some(end));
    // A timer that is a little late does not count as a suspension.
    for late in [1000, 1001] {
        let mut wire = Wire::new();
        assert_eq!(wire.silence(10_000, true), None);
        wire.now += WITHIN + ms(late);
        let expected = match late {
            1000 => KeepaliveStep::GiveUp,
            _ => wait(wire.now + WITHIN),
        };
        assert_eq!(wire.step(true), expected, "{late} ms");
    }
}

#[test]
fn after_an_answered_ping_another_one_is_sent_before_the_server_is_abandoned() {
    let mut wire = Wire::new();
    assert_eq!(wire.silence(12_000, true), None);
    wire.touch();
    wire.liveness.answered();
    assert_eq!(wire.silence(60_000, true), Some(ms(27_000)));
    assert_eq!(wire.pings.len(), 2);
}

#[derive(Clone, Debug)]
enum Happening {
    Silence(u64),
    Heard,
    Pong,
    MemberCondition,
    Busy(bool),
    StoodStill(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1..12_000u64).prop_map(Happening::Silence),
        3 => Just(Happening::Heard),
        2 => Just(Happening::Pong),
        2 => Just(Happening::MemberCondition),
        2 => any::<bool>().prop_map(Happening::Busy),
        1 => (1..60_000u64).prop_map(Happening::StoodStill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Pings are spaced; a server with a sign of life within the answer time is not given up; and a
    /// busy connection is never silent for longer than an interval, a spacing and the answer time.
    #[test]
    fn the_guarantees_hold_for_every_sequence_of_events(happenings in prop::collection::vec(happening(), 1..80)) {
        let mut wire = Wire::new();
        let mut busy = true;
        let mut resumed_at = wire.now;
        for happening in happenings {
            match happening {
                Happening::Silence(millis) => {
                    let end = wire.now - wire.begun + ms(millis);
                    let end = u64::try_from(end.as_millis()).unwrap();
                    if wire.silence(end, busy).is_some() {
                        prop_assert!(wire.now - wire.last_sign_of_life >= WITHIN);
                        prop_assert!(wire.now - wire.pings.last().unwrap().to_owned() >= WITHIN);
                        return Ok(());
                    }
                }
                Happening::Heard => wire.touch(),
                Happening::Pong if wire.liveness.has_pending_ping() => {
                    wire.touch();
                    wire.liveness.answered();
                }
                Happening::Pong => {}
                Happening::MemberCondition => wire.liveness.suspect(wire.now),
                Happening::Busy(now) => {
                    busy = now;
                    resumed_at = wire.now;
                }
                Happening::StoodStill(millis) => {
                    wire.now += ms(millis);
                    resumed_at = wire.now;
                }
            }
            if busy {
                let silent = wire.now - wire.last_sign_of_life.max(resumed_at);
                prop_assert!(silent <= INTERVAL + MIN_PING_INTERVAL + WITHIN, "{silent:?}");
            }
            prop_assert!(wire.pings.is_sorted_by(|a, b| *b - *a >= MIN_PING_INTERVAL));
        }
    }
}
