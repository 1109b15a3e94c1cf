use super::*;

#[test]
fn the_heap_stays_within_twice_the_instances() {
    let mut schedule = PickSchedule::new(Balance::Weighted);
    schedule.set(0, 1);
    schedule.set(1, 1);
    for n in 0..10_000 {
        schedule.set(0, 1 + n % 7);
        schedule.set(2, 1);
        schedule.set(2, 0);
        assert!(schedule.deadlines.len() <= 2 * 3 + 64 + 2);
    }
    assert_eq!((schedule.entries.len(), schedule.len), (3, 2));
}

#[test]
fn outdated_deadlines_are_removed_when_they_are_the_majority_and_not_before() {
    let mut schedule = PickSchedule::new(Balance::Weighted);
    // The lengths of the heap and of the schedule by their definition.
    let (mut heap, mut len) = (0, 0);
    let changes = [
        (300, 1),
        (280, 2),
        (700, 3),
        (300, 0),
        (5, 4),
        (70, 5),
        (5, 0),
    ];
    for (count, weight) in changes {
        for n in 0..count {
            let slot = n % 300;
            let entry = schedule.entries.get(slot).cloned().unwrap_or_default();
            let stride = (weight > 0).then(|| schedule.stride(weight));
            match (entry.stride, stride) {
                (0, None) => {}
                (0, Some(_)) => (heap, len) = (heap + 1, len + 1),
                (_, None) => len -= 1,
                (before, Some(stride)) => heap += usize::from(before != stride),
            }
            if entry.stride > 0 && heap > 2 * len + 64 {
                heap = len;
            }
            schedule.set(slot, weight);
            assert_eq!((schedule.deadlines.len(), schedule.len), (heap, len));
        }
    }
}

#[test]
fn a_new_weight_keeps_the_part_of_the_wait_that_has_passed() {
    // One slot that is picked 1000 times while one of weight 1 waits.
    const RULER: usize = 1;
    for (before, passed, after) in [
        (1, 500, 2),
        (2, 250, 1),
        (1, 900, 10),
        (10, 10, 1),
        (5, 100, 4),
        (3, 0, 7),
        (1, 999, 3),
    ] {
        let mut schedule = PickSchedule::new(Balance::Weighted);
        schedule.set(0, before);
        schedule.set(RULER, 1000);
        let wait = |schedule: &mut PickSchedule| {
            (0..).take_while(|_| schedule.pick() == Some(RULER)).count()
        };
        wait(&mut schedule);
        for _ in 0..passed {
            assert_eq!(schedule.pick(), Some(RULER));
        }
        schedule.set(0, after);
        let (before, after) = (before as usize, after as usize);
        let left = (1000 - passed * before) / after;
        let found = wait(&mut schedule);
        // The time that has passed is known to one pick of the ruler.
        let most = 1 + before.div_ceil(after);
        assert!(found.abs_diff(left) <= most, "{found} and not {left}");
        let round = wait(&mut schedule);
        assert!(round.abs_diff(1000 / after) <= 1, "{round} for {after}");
    }
}
