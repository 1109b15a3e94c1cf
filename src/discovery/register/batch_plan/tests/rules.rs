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
    (BatchPlan::new(limits, 1), Instant::now())
}

fn write(bytes: usize) -> Option<StepSize> {
    let kind = StepKind::Write;
    Some(StepSize {
        kind,
        steps: 1,
        bytes,
    })
}

fn want(plan: &mut BatchPlan, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        plan.wants(number, StepKind::Write);
    }
}

/// All batches that can be sent, when every entry has a small write.
fn send(plan: &mut BatchPlan, now: Instant) -> Vec<Batch> {
    std::iter::from_fn(|| plan.next(now, |_| write(10))).collect()
}

/// The entries of each batch that can be sent.
fn sent(plan: &mut BatchPlan, now: Instant) -> Vec<Vec<u64>> {
    let batches = send(plan, now).into_iter();
    batches.map(|batch| batch.numbers).collect()
}

/// Ends the only batch that can be sent with this refusal.
fn end(plan: &mut BatchPlan, refusal: Refusal, now: Instant) -> Consequence {
    let batches = send(plan, now);
    assert_eq!(batches.len(), 1, "{batches:?}");
    plan.ended(batches[0].id, BatchResult::Failed(refusal), now, 1.0)
}

/// A plan in which this entry was just refused, and waits 50 ms.
fn with_isolated(number: u64) -> (BatchPlan, Instant) {
    let (mut plan, now) = plan();
    want(&mut plan, [number]);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Isolated);
    want(&mut plan, [number]);
    (plan, now)
}

#[test]
fn an_isolated_entry_waits_longer_with_each_refusal_up_to_a_bound() {
    let (mut plan, mut now) = with_isolated(1);
    for wait in [50, 100, 200, 400, 700, 700] {
        assert_eq!(plan.due(now), Some(now + ms(wait)));
        assert!(send(&mut plan, now + ms(wait - 1)).is_empty());
        now += ms(wait);
        assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Isolated);
        want(&mut plan, [1]);
    }
}

#[test]
fn isolated_entries_are_sent_in_order_with_a_pause_after_each_refusal() {
    let (mut plan, mut now) = plan();
    for number in 0..6 {
        want(&mut plan, [number]);
        end(&mut plan, Refusal::Step, now);
    }
    want(&mut plan, 0..6);
    now += ms(50);
    let batches = send(&mut plan, now);
    assert_eq!(batches.len(), 4, "the most that are in flight");
    for batch in &batches[..3] {
        plan.ended(batch.id, BatchResult::Failed(Refusal::Step), now, 1.0);
    }
    // Each of the three refusals adds 10 ms at most.
    assert_eq!(plan.due(now), Some(now + ms(30)));
    assert!(send(&mut plan, now + ms(29)).is_empty());
    assert_eq!(sent(&mut plan, now + ms(30)), [[4], [5]]);
}

#[test]
fn an_isolated_entry_that_changes_in_flight_is_not_due_before_it_is_requested() {
    let (mut plan, mut now) = with_isolated(1);
    now += ms(50);
    let batch = send(&mut plan, now).remove(0);
    plan.changed(1, now);
    assert_eq!(plan.due(now), None);
    plan.ended(batch.id, BatchResult::Failed(Refusal::Step), now, 1.0);
    want(&mut plan, [1]);
    plan.changed(1, now);
    plan.forget(1);
    assert_eq!(plan.due(now), None, "it is gone");
    assert!(send(&mut plan, now + ms(1000)).is_empty());
}

#[test]
fn an_isolated_entry_shares_no_batch() {
    let (mut plan, now) = plan();
    want(&mut plan, [1, 2]);
    plan.isolate_answered(1, now, 1.0);
    assert_eq!(sent(&mut plan, now), [[2]]);
    want(&mut plan, [1]);
    assert_eq!(plan.due(now), Some(now + ms(50)));
    plan.forget(1);
    want(&mut plan, [3]);
    plan.forget(3);
    assert!(send(&mut plan, now + ms(1000)).is_empty(), "both are gone");
}

#[test]
fn refused_entries_share_batches_again_after_forgive() {
    let (mut plan, now) = plan();
    want(&mut plan, 0..8);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Split);
    // Half of them are in flight when `forgive` is called.
    let first = plan.next(now, |_| write(10)).unwrap();
    assert_eq!(first.numbers, [0, 1, 2, 3]);
    plan.forgive();
    want(&mut plan, 4..8);
    assert_eq!(
        sent(&mut plan, now),
        [[4, 5, 6, 7]],
        "nothing is left of the halves"
    );
    // The entries in flight return, and are still one group.
    plan.ended(first.id, BatchResult::Failed(Refusal::Everything), now, 1.0);
    want(&mut plan, 0..4);
    assert_eq!(plan.due(now), Some(now + ms(50)));
    assert_eq!(sent(&mut plan, now + ms(50)), [[0, 1, 2, 3]]);
}

#[test]
fn forgive_ends_the_waits_of_earlier_refusals() {
    let (mut plan, mut now) = with_isolated(0);
    now += ms(50);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Isolated);
    for number in 1..100 {
        want(&mut plan, [number]);
        end(&mut plan, Refusal::Step, now);
    }
    assert!(plan.split_backoff.waits(now) && plan.isolated_wait_until > Some(now));
    plan.forgive();
    want(&mut plan, 0..4);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Split);
    assert_eq!(sent(&mut plan, now), [[0, 1], [2, 3]]);
}

#[test]
fn a_step_is_sent_with_other_steps_of_its_present_kind() {
    let (mut plan, now) = plan();
    want(&mut plan, 0..3);
    let step_of = |number: u64| {
        let kind = if number == 1 {
            StepKind::Delete
        } else {
            StepKind::Write
        };
        Some(StepSize {
            kind,
            steps: 1,
            bytes: 10,
        })
    };
    let batches = [
        plan.next(now, step_of).unwrap(),
        plan.next(now, step_of).unwrap(),
    ];
    let [writes, deletes] = batches.map(|batch| (batch.kind, batch.numbers));
    assert_eq!(writes, (StepKind::Write, vec![0, 2]));
    assert_eq!(deletes, (StepKind::Delete, vec![1]));
}

#[test]
fn the_parts_of_a_refused_batch_pause_with_their_kind_and_continue_in_order() {
    let (mut plan, now) = plan();
    want(&mut plan, 0..8);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Split);
    let batches = send(&mut plan, now);
    assert_eq!(batches[0].numbers, [0, 1, 2, 3], "the first half first");
    plan.ended(
        batches[0].id,
        BatchResult::Failed(Refusal::Everything),
        now,
        1.0,
    );
    assert!(send(&mut plan, now).is_empty(), "the kind pauses");
    plan.ended(batches[1].id, BatchResult::Failed(Refusal::Step), now, 1.0);
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
        let step_of = |_| write(8 << 10);
        let whole = plan.next(now, step_of).unwrap();
        assert_eq!(whole.numbers.len(), 64);
        plan.ended(whole.id, BatchResult::Failed(refusal), now, 1.0);
        let half = plan.next(now, step_of).unwrap();
        assert_eq!(half.numbers.len(), 32);
        plan.ended(half.id, BatchResult::Failed(refusal), now, 1.0);
        // One half of the first batch is left, and exceeds the limit that is known now.
        let sizes = std::iter::from_fn(|| plan.next(now, step_of));
        let sizes: Vec<_> = sizes.map(|batch| batch.numbers.len()).collect();
        assert_eq!(sizes, [16; 4], "{refusal:?}");
        // New entries are not sent in batches of the refused size.
        want(&mut plan, 100..164);
        assert_eq!(plan.next(now, step_of).unwrap().numbers.len(), 16);
    }
}

#[test]
fn a_single_unanswered_step_is_isolated_and_several_make_batches_smaller() {
    let (mut plan, now) = plan();
    want(&mut plan, [1]);
    assert_eq!(
        end(&mut plan, Refusal::NoAnswer, now),
        Consequence::RetryLater
    );
    want(&mut plan, [1, 2]);
    assert_eq!(sent(&mut plan, now), [[2]], "the kind does not pause");
    let (mut plan, now) = self::plan();
    want(&mut plan, 0..64);
    let step_of = |_| write(8 << 10);
    let batch = plan.next(now, step_of).unwrap();
    plan.ended(batch.id, BatchResult::Failed(Refusal::NoAnswer), now, 1.0);
    want(&mut plan, 0..64);
    assert_eq!(plan.next(now, step_of), None, "the kind pauses");
    let later = now + ms(50);
    assert_eq!(plan.next(later, step_of).unwrap().numbers.len(), 32);
}

#[test]
fn refusals_in_a_row_delay_split_groups_until_something_else_is_accepted() {
    let (mut plan, now) = plan();
    want(&mut plan, 1000..1004);
    assert_eq!(end(&mut plan, Refusal::Step, now), Consequence::Split);
    let ends = |plan: &mut BatchPlan, number: u64, result: BatchResult| {
        want(plan, [number]);
        let sent = plan.next(now, |_| write(10)).unwrap();
        assert_eq!(sent.numbers, [number]);
        let random = if number == 0 { 0.0 } else { 1.0 };
        plan.ended(sent.id, result, now, random);
    };
    for number in 0..63 {
        ends(&mut plan, number, BatchResult::Failed(Refusal::Step));
    }
    assert!(send(&mut plan, now).is_empty());
    assert_eq!(plan.due(now), Some(now + ms(50)), "it was the 64th");
    assert_eq!(plan.due(now + ms(50)), None, "it can be sent then");
    // An accepted isolated entry shows nothing about the others.
    ends(&mut plan, 0, BatchResult::Answered);
    assert!(send(&mut plan, now).is_empty());
    ends(&mut plan, 2000, BatchResult::Answered);
    assert_eq!(sent(&mut plan, now), [[1000, 1001], [1002, 1003]]);
}

#[test]
fn nothing_is_due_while_no_batch_is_split() {
    let (mut plan, now) = plan();
    for number in 0..64 {
        want(&mut plan, [number]);
        end(&mut plan, Refusal::Step, now);
    }
    assert!(plan.split_backoff.waits(now));
    assert_eq!(plan.due(now), None);
}

#[test]
fn the_pause_after_a_refused_isolated_entry_is_up_to_10_ms_at_random() {
    for random in [0.0, 0.1, 0.5, 1.0] {
        let (mut plan, mut now) = plan();
        for number in 0..2 {
            want(&mut plan, [number]);
            end(&mut plan, Refusal::Step, now);
        }
        now += ms(50);
        want(&mut plan, [0]);
        let batch = send(&mut plan, now).remove(0);
        plan.ended(batch.id, BatchResult::Failed(Refusal::Step), now, random);
        want(&mut plan, [1]);
        let pause = ms(10).mul_f64(random);
        assert_eq!(plan.due(now), Some(now + pause), "{random}");
    }
}
