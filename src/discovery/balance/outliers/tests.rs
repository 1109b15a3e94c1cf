use std::time::Duration;

use super::*;

const ALL: usize = 10;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ten slots; the others than 0 have succeeded ten times each.
fn outliers(now: Instant) -> Outliers {
    let mut outliers = Outliers::new(Ejection::default());
    for slot in 1..ALL {
        ends(&mut outliers, slot, "..........", now);
    }
    outliers
}

/// Ends calls in this order: `.` succeeded, `x` failed. All times have their full length.
fn ends(outliers: &mut Outliers, slot: usize, ends: &str, now: Instant) {
    for end in ends.chars() {
        outliers.ended(slot, end == 'x', now, ALL, now, 1.0);
    }
}

#[test]
fn the_rules_are_applied_to_the_last_twenty_calls() {
    let now = Instant::now();
    for (calls, is_ejected) in [
        ("xxxx", false),
        ("xxxxx", true),
        ("..............xxxxx", true),
        ("xxxx.", false),
        ("xxxx.x", true),
        ("x.x.x", true),
        ("x.x..", false),
        ("x..x...x", true),
        ("x....x....x.", false),
        (".............x.x.x.x.x", false),
        ("............x.x.x.x.x.x", true),
        ("x.x.............................x", false),
    ] {
        let mut outliers = outliers(now);
        ends(&mut outliers, 0, calls, now);
        assert_eq!(!outliers.out().is_empty(), is_ejected, "{calls}");
        assert_eq!(outliers.next_change(), is_ejected.then_some((0, false)));
        assert_eq!(outliers.next_change(), None);
    }
}

#[test]
fn each_rule_can_be_off() {
    let now = Instant::now();
    let rule = Ejection::default();
    for (rule, calls, is_ejected) in [
        (rule.failure_percent(0), "x.x.x.x.x.x.x.x.x.x", false),
        (rule.failure_percent(0), "xxxxx", true),
        (rule.consecutive_failures(0), "...............xxxxx", false),
        (rule.consecutive_failures(0), "xxxxx", true),
        (rule.consecutive_failures(1).failure_percent(0), "x", true),
    ] {
        let mut outliers = outliers(now);
        outliers.rule = rule;
        ends(&mut outliers, 0, calls, now);
        assert_eq!(!outliers.out().is_empty(), is_ejected, "{calls} {rule:?}");
    }
}

#[test]
fn ejections_grow_and_trials_decide_about_the_return() {
    let mut now = Instant::now();
    let mut outliers = outliers(now);
    ends(&mut outliers, 0, "xxxxx", now);
    for time in [5, 10, 20, 40, 80, 160, 300, 300] {
        outliers.advance(now + seconds(time) - Duration::from_millis(1));
        assert_eq!(outliers.waiting_trial(|_| true), None, "{time}");
        now += seconds(time);
        outliers.advance(now);
        assert_eq!(outliers.waiting_trial(|_| true), Some(0));
        assert!(outliers.begin_trial(0));
        assert!(!outliers.begin_trial(0), "one call at a time");
        ends(&mut outliers, 0, "....x", now);
        assert!(!outliers.is_in_use(0));
    }
    now += seconds(300);
    outliers.advance(now);
    ends(&mut outliers, 0, ".....", now);
    assert!(outliers.is_in_use(0) && outliers.out().is_empty() && outliers.due.is_none());
}

#[test]
fn time_in_use_makes_the_next_ejection_shorter_again() {
    let mut now = Instant::now();
    let mut outliers = outliers(now);
    let length = |outliers: &Outliers, now| outliers.due.unwrap().duration_since(now);
    ends(&mut outliers, 0, "xxxxx", now);
    for time in [5, 10] {
        now += seconds(time);
        outliers.advance(now);
        ends(&mut outliers, 0, "x", now);
    }
    assert_eq!(length(&outliers, now), seconds(20));
    now += seconds(20);
    outliers.advance(now);
    ends(&mut outliers, 0, ".....", now);
    // The third lasted 20 s. After two times of that, the next one is the second.
    now += seconds(41);
    ends(&mut outliers, 0, "xxxxx", now);
    assert_eq!(length(&outliers, now), seconds(10));
}

#[test]
fn an_outcome_of_a_call_that_began_before_the_ejection_changes_nothing() {
    let now = Instant::now();
    let mut outliers = outliers(now);
    ends(&mut outliers, 0, "xxxxxxxxxx..........", now);
    assert_eq!(
        (outliers.out(), outliers.due),
        (&[0][..], Some(now + seconds(5)))
    );
}

#[test]
fn a_call_that_began_before_a_trial_is_no_part_of_it() {
    let now = Instant::now();
    let mut outliers = outliers(now);
    ends(&mut outliers, 0, "xxxxx", now);
    let trial = now + seconds(5);
    outliers.advance(trial);
    assert!(outliers.begin_trial(0));
    outliers.ended(0, true, now, ALL, trial, 1.0);
    outliers.abandoned(0, now);
    assert_eq!(
        outliers.waiting_trial(|_| true),
        None,
        "its call is under way"
    );
    outliers.abandoned(0, trial);
    assert_eq!(outliers.waiting_trial(|_| true), Some(0));
}

#[test]
fn the_ejected_are_used_again_when_the_others_fail_as_often() {
    let now = Instant::now();
    let mut outliers = outliers(now);
    ends(&mut outliers, 0, "xxxxx", now);
    assert!(outliers.next_change().is_some());
    // It failed all of its calls, so the others must fail half of theirs: 45 of 135.
    for slot in 1..ALL {
        ends(&mut outliers, slot, "x.x.x.x.x.x.x.x.x.", now);
    }
    assert_eq!(outliers.out(), &[0]);
    for slot in 1..ALL {
        ends(&mut outliers, slot, "x.xx.x", now);
    }
    assert!(outliers.out().is_empty());
    assert_eq!(outliers.next_change(), Some((0, true)));
}

#[test]
fn half_of_the_instances_are_ejected_at_most_even_when_others_leave() {
    let now = Instant::now();
    let mut outliers = outliers(now);
    for slot in 0..ALL {
        ends(&mut outliers, slot, "xxxxx", now);
        assert!(outliers.out().len() <= 5);
    }
    let mut outliers = self::outliers(now);
    for slot in 0..3 {
        ends(&mut outliers, slot, "xxxxxxx", now);
    }
    assert_eq!(outliers.out(), &[0, 1, 2]);
    outliers.limit(5, now);
    assert_eq!(outliers.out(), &[1, 2], "the first one is out for longest");
    outliers.forget(1);
    outliers.limit(1, now);
    assert!(outliers.out().is_empty() && outliers.trials.is_empty());
    assert!((0..ALL).all(|slot| outliers.is_in_use(slot)));
}

#[test]
fn a_trial_without_calls_ends_after_the_time_of_its_ejection() {
    let now = Instant::now();
    let mut outliers = outliers(now);
    ends(&mut outliers, 0, "xxxxx", now);
    outliers.advance(now + seconds(6));
    outliers.advance(now + seconds(10));
    assert!(!outliers.is_in_use(0));
    outliers.advance(now + seconds(11));
    assert!(outliers.is_in_use(0));
}

#[test]
fn the_longest_times_are_harmless() {
    let now = Instant::now();
    let mut outliers = outliers(now);
    outliers.rule = Ejection::default()
        .base_time(Duration::MAX)
        .max_time(Duration::MAX);
    ends(&mut outliers, 0, "xxxxx", now);
    let year = seconds(365 * 24 * 60 * 60);
    assert_eq!(outliers.due, Some(now + year));
    outliers.advance(now + year);
    assert_eq!(outliers.waiting_trial(|_| true), Some(0));
}

#[test]
fn a_trial_is_judged_by_the_others() {
    let now = Instant::now();
    let mut outliers = outliers(now);
    for slot in 1..ALL {
        // 40 % of the calls fail, whichever instance gets them.
        ends(&mut outliers, slot, "..x.x..x.x..x.x..x.x", now);
    }
    ends(&mut outliers, 0, "xxxxx", now);
    let trial = now + seconds(5);
    outliers.advance(trial);
    ends(&mut outliers, 0, ".x.x", trial);
    assert!(!outliers.is_in_use(0));
    ends(&mut outliers, 0, ".", trial);
    assert!(outliers.is_in_use(0));
}

#[test]
fn one_failure_ejects_again_when_the_others_fail_less_often() {
    let now = Instant::now();
    let mut outliers = outliers(now);
    for slot in 1..ALL {
        ends(&mut outliers, slot, "x...", now);
    }
    ends(&mut outliers, 0, "xxxxx", now);
    let trial = now + seconds(5);
    outliers.advance(trial);
    ends(&mut outliers, 0, "..x", trial);
    assert_eq!(outliers.due, Some(trial + seconds(10)));
    assert_eq!(outliers.waiting_trial(|_| true), None);
}

#[test]
fn under_ten_calls_of_the_others_give_no_instance_back() {
    let now = Instant::now();
    let mut outliers = Outliers::new(Ejection::default());
    ends(&mut outliers, 0, "xxxxx", now);
    for slot in 1..5 {
        ends(&mut outliers, slot, "xx", now);
        assert_eq!(outliers.out(), [0]);
    }
    ends(&mut outliers, 5, ".x", now);
    assert!(outliers.out().is_empty());
}
