use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// The status after these results, by the definition: the last change of the status is the last
/// position at which a run of results against it is long enough.
fn by_definition(rise: usize, fall: usize, results: &[bool]) -> CheckStatus {
    let mut status = CheckStatus::Starting;
    let mut since = 0;
    for end in 1..=results.len() {
        let run = |passed: bool| {
            let after_change = &results[since..end];
            after_change
                .iter()
                .rev()
                .take_while(|r| **r == passed)
                .count()
        };
        let next = match status {
            CheckStatus::Starting if run(true) >= 1 => CheckStatus::Passing,
            CheckStatus::Failing if run(true) >= rise => CheckStatus::Passing,
            CheckStatus::Starting | CheckStatus::Passing if run(false) >= fall => {
                CheckStatus::Failing
            }
            _ => continue,
        };
        (status, since) = (next, end);
    }
    status
}

/// Every sequence of 10 results with every rise and fall count up to 5.
#[test]
fn every_sequence_of_results_has_the_status_that_the_counts_define() {
    const LENGTH: usize = 10;
    let now = Instant::now();
    for rise in 1..=5 {
        for fall in 1..=5 {
            for bits in 0..1_u32 << LENGTH {
                let results: Vec<bool> = (0..LENGTH).map(|n| bits >> n & 1 == 1).collect();
                let mut state = CheckState::new(rise, fall, now);
                for (n, passed) in results.iter().enumerate() {
                    let before = state.status();
                    let changed = state.on(*passed, now);
                    let expected = by_definition(rise as usize, fall as usize, &results[..=n]);
                    assert_eq!(
                        state.status(),
                        expected,
                        "{rise} {fall} {:?}",
                        &results[..=n]
                    );
                    assert_eq!(changed, before != expected);
                }
            }
        }
    }
}

/// The same as a readable table: `+` is a success, `-` a failure; the second line has the statuses.
#[test]
fn results_change_the_status_at_the_counts_of_the_table() {
    let table = [
        (1, 1, "+-+-+", "PFPFP"),
        (1, 1, "-+", "FP"),
        (2, 3, "+--+---+-++", "PPPPPPFFFFP"),
        (2, 3, "---++", "SSFFP"),
        (2, 3, "--+--+", "SSPPPP"),
        (3, 2, "+--++-+++", "PPFFFFFFP"),
        (3, 2, "+-+-+-+-+", "PPPPPPPPP"),
    ];
    let now = Instant::now();
    for (rise, fall, results, statuses) in table {
        let mut state = CheckState::new(rise, fall, now);
        let shown: String = (results.chars())
            .map(|result| {
                state.on(result == '+', now);
                let name = state.status().as_str();
                name[..1].to_uppercase()
            })
            .collect();
        assert_eq!(shown, statuses, "rise {rise}, fall {fall}: {results}");
    }
}

#[test]
fn failures_during_the_start_grace_are_not_counted_and_a_success_ends_the_grace() {
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let mut state = CheckState::new(1, 2, at(10));
    for second in 0..10 {
        assert!(!state.on(false, at(second)));
    }
    assert_eq!(state.status(), CheckStatus::Starting);
    assert!(!state.on(false, at(10)), "the first that counts");
    assert!(state.on(false, at(11)));
    assert_eq!(state.status(), CheckStatus::Failing);

    let mut state = CheckState::new(1, 2, at(10));
    assert!(state.on(true, at(1)));
    state.on(false, at(2));
    assert!(state.on(false, at(3)), "no grace after the first success");
}

proptest! {
    /// Between a change to failing and the next one there are at least `rise` successes and `fall`
    /// failures, whatever the results are.
    #[test]
    fn the_status_never_flaps_more_than_once_per_rise_and_fall(
        rise in 1_u32..8,
        fall in 1_u32..8,
        results in prop::collection::vec(any::<bool>(), 0..500),
    ) {
        let now = Instant::now();
        let mut state = CheckState::new(rise, fall, now);
        let (mut passes, mut failures, mut falls) = (0, 0, 0);
        for passed in results {
            if passed { passes += 1 } else { failures += 1 }
            if state.on(passed, now) && state.status() == CheckStatus::Failing {
                prop_assert!(failures >= fall);
                prop_assert!(falls == 0 || passes >= rise);
                (passes, failures, falls) = (0, 0, falls + 1);
            }
        }
    }
}

#[test]
fn a_status_is_printed_as_its_name_and_padded() {
    assert_eq!(CheckStatus::Starting.to_string(), "starting");
    assert_eq!(format!("{:>8}", CheckStatus::Passing), " passing");
    assert_eq!(format!("{:<8}|", CheckStatus::Failing), "failing |");
}
