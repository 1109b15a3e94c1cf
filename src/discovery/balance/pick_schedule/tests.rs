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
