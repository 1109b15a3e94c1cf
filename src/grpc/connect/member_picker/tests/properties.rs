//! Properties for any outage and any results of look-ups.

use proptest::prelude::*;

use super::*;
use crate::util::jitter::Jitter;

proptest! {
    /// Through an outage in which dials are refused or unanswered, one race after the other: an address
    /// is dialled in the background at least once in the longest wait and the time until the race looks
    /// again, so it is found soon after its return, and less than twice a second on average.
    #[test]
    fn background_dials_of_an_outage_are_neither_rare_nor_frequent(
        silent in prop::collection::vec(any::<bool>(), 1..20),
        seed in any::<u64>(),
        others in any::<bool>(),
    ) {
        const RECHECK: u64 = 100;
        const STEPS: u64 = 600;

        let (start, mut random) = (Instant::now(), Jitter::seeded(seed));
        let mut picker = picker_of(1, 0.0);
        picker.connected(0);
        picker.failed(0, start, random.fraction());
        let mut pending: Vec<PendingDial> = Vec::new();
        let mut dials = vec![start];
        for step in 0..STEPS {
            let now = start + ms(step * RECHECK);
            pending.retain(|(id, since)| {
                let is_over = *since + ms(3000) <= now;
                if is_over {
                    picker.failed(*id, now, random.fraction());
                }
                !is_over
            });
            if others && step % 7 == 0 {
                // Another connection to the address breaks.
                picker.failed(0, now, random.fraction());
            }
            for id in picker.start(now, Urgency::Background, &pending).addresses {
                picker.dialling(id, now);
                match silent.get(dials.len() % silent.len()) {
                    Some(true) => pending.push((id, now)),
                    _ => picker.failed(id, now, random.fraction()),
                }
                dials.push(now);
            }
        }
        dials.push(start + ms(STEPS * RECHECK));
        let longest = dials.windows(2).map(|pair| pair[1] - pair[0]).max();
        prop_assert!(longest <= Some(LONGEST_WAIT + ms(RECHECK)), "{longest:?}");
        prop_assert!(dials.len() as u64 <= 2 * STEPS * RECHECK / 1000 + 5, "{}", dials.len());
    }

    /// In an outage the number of dials is bounded, however many addresses a name has; every
    /// address is dialled; and the picker never returns a wait of zero.
    #[test]
    fn an_outage_causes_a_bounded_number_of_dials(
        counts in prop::collection::vec(1u8..20, 1..4),
        background in any::<bool>(),
        random in 0.0..1.0f64,
    ) {
        let urgency = if background { Urgency::Background } else { Urgency::Call };
        let start = Instant::now();
        let texts: Vec<_> = (0..counts.len()).map(|n| format!("h{n}:1")).collect();
        let all: Vec<u8> = (0..20).collect();
        let found: Vec<(&str, &[u8])> = texts
            .iter()
            .zip(&counts)
            .map(|(text, count)| (&**text, &all[..usize::from(*count)]))
            .collect();
        let mut picker = named(&found, start);
        let mut dials = std::collections::HashMap::<usize, Vec<Instant>>::new();
        let mut now = start;
        while now < start + ms(10_000) {
            match picker.plan(now, urgency) {
                DialPlan::Dial(planned) => {
                    for id in planned.addresses {
                        dials.entry(id).or_default().push(now);
                        picker.dialling(id, now);
                        picker.failed(id, now, random);
                    }
                }
                DialPlan::Wait(until) => {
                    prop_assert!(until > now, "a wait that is over is a busy loop");
                    now = until;
                }
            }
        }
        let addresses: usize = counts.iter().map(|count| usize::from(*count)).sum();
        prop_assert_eq!(dials.len(), addresses);
        for times in dials.values() {
            prop_assert!(times.len() <= 10 * 4 + 2, "{} dials of one address", times.len());
            prop_assert!(times.len() >= 2, "it was not tried again");
        }
        let total: usize = dials.values().map(Vec::len).sum();
        let bound = addresses + counts.len() * (4 + 10 * 8);
        prop_assert!(total <= bound, "{} dials, and at most {} are due", total, bound);
    }

    /// For any results of look-ups and dials: the addresses that may be dialled are those of the
    /// last successful look-up, and connected addresses stay known.
    #[test]
    fn dials_use_the_addresses_of_the_last_lookup(
        steps in prop::collection::vec((0u8..5, prop::collection::vec(1u8..6, 0..5), any::<bool>()), 1..60),
    ) {
        let mut now = Instant::now();
        let mut picker = MemberPicker::new(vec![(0, endpoint("a:1"))], ms(3000), 0.0);
        let mut expected: Vec<u8> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for (kind, found, fails) in steps {
            now += ms(5000);
            let plan = picker.plan(now, Urgency::Call);
            let mut dialled = hosts(&picker, &plan);
            dialled.sort_unstable();
            prop_assert_eq!(&dialled, &expected);
            let first = match plan {
                DialPlan::Dial(start) => start.addresses.first().copied(),
                DialPlan::Wait(_) => None,
            };
            match (kind, first) {
                (0, _) if picker.begin_look_up(0, now).is_some() => {
                    let result = if fails { Err("down".into()) } else { Ok(ips(&found)) };
                    picker.looked_up(0, result, now, 0.5);
                    if !fails && !found.is_empty() {
                        expected = found;
                        expected.sort_unstable();
                        expected.dedup();
                    }
                }
                (1, Some(id)) => {
                    picker.dialling(id, now);
                    picker.connected(id);
                    open.push(id);
                }
                (2, Some(id)) => {
                    picker.dialling(id, now);
                    picker.failed(id, now, 0.5);
                }
                (3, _) if !open.is_empty() => picker.disconnected(open.swap_remove(0)),
                _ => {}
            }
            for id in &open {
                prop_assert!(picker.label(*id).contains("127.0.0."), "{}", picker.label(*id));
            }
        }
    }
}
