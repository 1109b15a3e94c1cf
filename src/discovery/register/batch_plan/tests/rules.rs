//! The rules of the plan one by one.

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn plan() -> (BatchPlan, Instant) {
    let limits = ClientLimits {
        txn_ops: 128,
        send_bytes: 2 << 20,
    };
    (BatchPlan::new(limits), Instant::now())
}

fn write(bytes: usize) -> Option<StepSize> {
    let sort = Sort::Write;
    Some(StepSize { sort, bytes })
}

fn want(plan: &mut BatchPlan, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        plan.wants(number, Sort::Write);
    }
}

/// All batches that can be sent, when every entry has a small write.
fn send(plan: &mut BatchPlan, now: Instant) -> Vec<Batch> {
    std::iter::from_fn(|| plan.next(now, |_| write(10))).collect()
}

/// What goes into each batch that can be sent.
fn sent(plan: &mut BatchPlan, now: Instant) -> Vec<Vec<u64>> {
    let batches = send(plan, now).into_iter();
    batches.map(|batch| batch.numbers).collect()
}

/// The only batch that can be sent ends so.
fn end(plan: &mut BatchPlan, refusal: Refusal, now: Instant) -> Consequence {
    let batches = send(plan, now);
    assert_eq!(batches.len(), 1, "{batches:?}");
    plan.ended(batches[0].id, Ending::Failed(refusal), now, 1.0)
}

/// A plan in which this entry was refused just now, and waits 50 ms.
fn with_culprit(number: u64) -> (BatchPlan, Instant) {
    let (mut plan, now) = plan();
    want(&mut plan, [number]);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Culprit);
    want(&mut plan, [number]);
    (plan, now)
}

#[test]
fn a_culprit_waits_longer_with_each_refusal_up_to_a_bound() {
    let (mut plan, mut now) = with_culprit(1);
    for wait in [50, 100, 200, 400, 700, 700] {
        assert_eq!(plan.due(now), Some(now + ms(wait)));
        assert!(send(&mut plan, now + ms(wait - 1)).is_empty());
        now += ms(wait);
        assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Culprit);
        want(&mut plan, [1]);
    }
}

#[test]
fn culprits_take_turns_with_a_pause_after_each_refusal() {
    let (mut plan, mut now) = plan();
    for number in 0..6 {
        want(&mut plan, [number]);
        end(&mut plan, Refusal::Step, now);
    }
    want(&mut plan, 0..6);
    now += ms(50);
    let batches = send(&mut plan, now);
    assert_eq!(batches.len(), 4, "so many are on their way at once");
    for batch in &batches[..3] {
        plan.ended(batch.id, Ending::Failed(Refusal::Step), now, 1.0);
    }
    // Three refusals have 10 ms each at the most.
    assert_eq!(plan.due(now), Some(now + ms(30)));
    assert!(send(&mut plan, now + ms(29)).is_empty());
    assert_eq!(sent(&mut plan, now + ms(30)), [[4], [5]]);
}

#[test]
fn a_culprit_that_changes_while_it_is_on_its_way_is_not_due_before_it_is_wanted() {
    let (mut plan, mut now) = with_culprit(1);
    now += ms(50);
    let batch = send(&mut plan, now).remove(0);
    plan.changed(1, now);
    assert_eq!(plan.due(now), None);
    plan.ended(batch.id, Ending::Failed(Refusal::Step), now, 1.0);
    want(&mut plan, [1]);
    plan.changed(1, now);
    plan.forget(1);
    assert_eq!(plan.due(now), None, "it is gone");
    assert!(send(&mut plan, now + ms(1000)).is_empty());
}

#[test]
fn an_entry_that_stays_apart_travels_with_nobody() {
    let (mut plan, now) = plan();
    want(&mut plan, [1, 2]);
    plan.stays_apart(1, now, 1.0);
    assert_eq!(sent(&mut plan, now), [[2]]);
    want(&mut plan, [1]);
    assert_eq!(plan.due(now), Some(now + ms(50)));
    plan.forget(1);
    want(&mut plan, [3]);
    plan.forget(3);
    assert!(send(&mut plan, now + ms(1000)).is_empty(), "both are gone");
}

#[test]
fn what_was_refused_travels_with_the_others_once_it_is_forgiven() {
    let (mut plan, now) = plan();
    want(&mut plan, 0..8);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Halved);
    // Half of them are on their way when all is forgiven.
    let first = plan.next(now, |_| write(10)).unwrap();
    assert_eq!(first.numbers, [0, 1, 2, 3]);
    plan.forgive();
    want(&mut plan, 4..8);
    assert_eq!(
        sent(&mut plan, now),
        [[4, 5, 6, 7]],
        "nothing is left of the halves"
    );
    // The others come back, and are still one group.
    plan.ended(first.id, Ending::Failed(Refusal::Everything), now, 1.0);
    want(&mut plan, 0..4);
    assert_eq!(plan.due(now), Some(now + ms(50)));
    assert_eq!(sent(&mut plan, now + ms(50)), [[0, 1, 2, 3]]);
}

#[test]
fn what_is_forgiven_need_not_wait_for_what_was_refused_before() {
    let (mut plan, mut now) = with_culprit(0);
    now += ms(50);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Culprit);
    for number in 1..100 {
        want(&mut plan, [number]);
        end(&mut plan, Refusal::Step, now);
    }
    assert!(plan.splitting.waits(now) && plan.culprits_wait_until > Some(now));
    plan.forgive();
    want(&mut plan, 0..4);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Halved);
    assert_eq!(sent(&mut plan, now), [[0, 1], [2, 3]]);
}

#[test]
fn a_step_of_another_sort_than_it_was_wanted_for_goes_with_that_sort() {
    let (mut plan, now) = plan();
    want(&mut plan, 0..3);
    let weigh = |number: u64| {
        let sort = if number == 1 {
            Sort::Delete
        } else {
            Sort::Write
        };
        Some(StepSize { sort, bytes: 10 })
    };
    let batches = [
        plan.next(now, weigh).unwrap(),
        plan.next(now, weigh).unwrap(),
    ];
    let [writes, deletes] = batches.map(|batch| (batch.sort, batch.numbers));
    assert_eq!(writes, (Sort::Write, vec![0, 2]));
    assert_eq!(deletes, (Sort::Delete, vec![1]));
}

#[test]
fn the_parts_of_a_refused_batch_pause_with_their_sort_and_go_on_in_order() {
    let (mut plan, now) = plan();
    want(&mut plan, 0..8);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Halved);
    let batches = send(&mut plan, now);
    assert_eq!(batches[0].numbers, [0, 1, 2, 3], "the first half first");
    plan.ended(batches[0].id, Ending::Failed(Refusal::Everything), now, 1.0);
    assert!(send(&mut plan, now).is_empty(), "the sort pauses");
    plan.ended(batches[1].id, Ending::Failed(Refusal::Step), now, 1.0);
    assert!(send(&mut plan, now).is_empty());
    assert_eq!(plan.due(now), Some(now + ms(50)));
    let parts = sent(&mut plan, now + ms(50));
    assert_eq!(parts, [vec![4, 5], vec![6, 7], vec![0, 1, 2, 3]]);
}

#[test]
fn the_parts_of_a_refused_batch_are_no_larger_than_a_batch() {
    for refusal in [Refusal::TooMany, Refusal::TooLarge] {
        let (mut plan, now) = plan();
        want(&mut plan, 0..64);
        // 64 steps of 8 KiB are 512 KiB.
        let weigh = |_| write(8 << 10);
        let whole = plan.next(now, weigh).unwrap();
        assert_eq!(whole.numbers.len(), 64);
        plan.ended(whole.id, Ending::Failed(refusal), now, 1.0);
        let half = plan.next(now, weigh).unwrap();
        assert_eq!(half.numbers.len(), 32);
        plan.ended(half.id, Ending::Failed(refusal), now, 1.0);
        // A half of the first batch is left, and too much by what is known now.
        let sizes = std::iter::from_fn(|| plan.next(now, weigh));
        let sizes: Vec<_> = sizes.map(|batch| batch.numbers.len()).collect();
        assert_eq!(sizes, [16; 4], "{refusal:?}");
        // New ones are not sent in the size that was refused.
        want(&mut plan, 100..164);
        assert_eq!(plan.next(now, weigh).unwrap().numbers.len(), 16);
    }
}

#[test]
fn one_that_is_not_answered_waits_alone_and_several_become_fewer() {
    let (mut plan, now) = plan();
    want(&mut plan, [1]);
    assert_eq!(end(&mut plan, Refusal::NoAnswer, now), Consequence::Later);
    want(&mut plan, [1, 2]);
    assert_eq!(sent(&mut plan, now), [[2]], "the sort does not pause");
    let (mut plan, now) = self::plan();
    want(&mut plan, 0..64);
    let weigh = |_| write(8 << 10);
    let batch = plan.next(now, weigh).unwrap();
    plan.ended(batch.id, Ending::Failed(Refusal::NoAnswer), now, 1.0);
    want(&mut plan, 0..64);
    assert_eq!(plan.next(now, weigh), None, "the sort pauses");
    let later = now + ms(50);
    assert_eq!(plan.next(later, weigh).unwrap().numbers.len(), 32);
}

#[test]
fn refusals_in_a_row_slow_down_the_search_for_culprits_until_something_else_is_accepted() {
    let (mut plan, now) = plan();
    want(&mut plan, 1000..1004);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Halved);
    let ends = |plan: &mut BatchPlan, number: u64, ending: Ending| {
        want(plan, [number]);
        let sent = plan.next(now, |_| write(10)).unwrap();
        assert_eq!(sent.numbers, [number]);
        let random = if number == 0 { 0.0 } else { 1.0 };
        plan.ended(sent.id, ending, now, random);
    };
    for number in 0..63 {
        ends(&mut plan, number, Ending::Failed(Refusal::Step));
    }
    assert!(send(&mut plan, now).is_empty());
    assert_eq!(plan.due(now), Some(now + ms(50)), "it was the 64th");
    // That a culprit is accepted says nothing about the others.
    ends(&mut plan, 0, Ending::Answered);
    assert!(send(&mut plan, now).is_empty());
    ends(&mut plan, 2000, Ending::Answered);
    assert_eq!(sent(&mut plan, now), [[1000, 1001], [1002, 1003]]);
}

#[test]
fn nothing_is_due_when_there_is_nothing_to_search() {
    let (mut plan, now) = plan();
    for number in 0..64 {
        want(&mut plan, [number]);
        end(&mut plan, Refusal::Step, now);
    }
    assert!(plan.splitting.waits(now));
    assert_eq!(plan.due(now), None);
}
