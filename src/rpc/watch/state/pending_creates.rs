//! The requests to create watches that are not answered yet. The server answers them in their order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rpc::watch::watch_id::WatchId;

/// The most requests to create watches that may be unanswered at a time.
const PIPELINE: usize = 500;

/// The time limit of a request to create a watch: some 3.4 releases stop reading a stream after a
/// refusal. The time restarts with each answer to another such request, and while bytes of a large
/// message arrive, because the answer comes behind it.
pub(super) const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most messages that may come before the answer to a request to create a watch: etcd chooses at
/// random between the messages and the answers that are ready.
const MAX_MESSAGES_BEFORE_ANSWER: u32 = 64;

/// A request to create a watch that is not answered yet.
#[derive(Debug)]
pub(super) struct PendingCreate {
    /// `None` when the watch was removed.
    pub(super) id: Option<WatchId>,
    /// The number of progress requests that were sent before it.
    pub(super) progress_sent: u64,
}

/// The unanswered requests of a stream, in their order.
#[derive(Debug)]
pub(super) struct PendingCreates {
    requests: VecDeque<PendingCreate>,
    /// The time of the last answer, or of the first request after all were answered.
    answered_at: Instant,
    /// The number of other messages since then.
    messages: u32,
}

impl PendingCreates {
    pub(super) fn new(now: Instant) -> Self {
        PendingCreates {
            requests: VecDeque::new(),
            answered_at: now,
            messages: 0,
        }
    }

    /// Whether another request may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.requests.len() < PIPELINE
    }

    /// Records a request that is sent.
    pub(super) fn push(&mut self, id: WatchId, progress_sent: u64, now: Instant) {
        // The time limit of an answer begins with the first unanswered request.
        if self.requests.is_empty() {
            (self.answered_at, self.messages) = (now, 0);
        }
        let id = Some(id);
        self.requests.push_back(PendingCreate { id, progress_sent });
    }

    /// Records an answer. Returns its request.
    pub(super) fn answered(&mut self, now: Instant) -> Option<PendingCreate> {
        (self.answered_at, self.messages) = (now, 0);
        self.requests.pop_front()
    }

    /// Records another message.
    pub(super) fn other_message(&mut self) {
        self.messages = self.messages.saturating_add(1);
    }

    /// Records that a watch is no longer wanted. The answer is still expected, in its position.
    pub(super) fn withdraw(&mut self, id: WatchId) {
        if let Some(request) = self.requests.iter_mut().find(|c| c.id == Some(id)) {
            request.id = None;
        }
    }

    /// The watches whose requests are not answered.
    pub(super) fn watches(&self) -> impl Iterator<Item = WatchId> {
        self.requests.iter().filter_map(|request| request.id)
    }

    /// The deadline of the oldest request. `last_bytes_at` is when bytes of a message last arrived.
    pub(super) fn deadline(&self, last_bytes_at: Option<Instant>) -> Option<Instant> {
        self.requests.front()?;
        let begun = match last_bytes_at {
            Some(arriving) if self.messages < MAX_MESSAGES_BEFORE_ANSWER => {
                self.answered_at.max(arriving)
            }
            _ => self.answered_at,
        };
        Some(begun + CREATE_TIMEOUT)
    }

    /// Forgets all requests, which were sent on a stream that has ended.
    pub(super) fn clear(&mut self) {
        self.requests.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_belong_to_the_requests_in_their_order_also_to_withdrawn_ones() {
        let now = Instant::now();
        let mut creates = PendingCreates::new(now);
        for id in 1..=3 {
            creates.push(id, 0, now);
        }
        creates.withdraw(2);
        assert!(creates.watches().eq([1, 3]));
        let answers = std::iter::from_fn(|| creates.answered(now));
        let answers: Vec<_> = answers.map(|create| create.id).collect();
        assert_eq!(answers, [Some(1), None, Some(3)]);
    }

    #[test]
    fn at_most_500_requests_are_unanswered() {
        let now = Instant::now();
        let mut creates = PendingCreates::new(now);
        let sent = (0..1000).take_while(|id| {
            let has_room = creates.has_room();
            creates.push(*id, 0, now);
            has_room
        });
        assert_eq!(sent.count(), 500);
    }

    #[test]
    fn the_time_limit_restarts_with_answers_and_with_arriving_bytes_of_a_few_messages() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut creates = PendingCreates::new(begun);
        assert_eq!(creates.deadline(Some(at(1))), None);
        creates.push(1, 0, at(2));
        creates.push(2, 0, at(3));
        assert_eq!(creates.deadline(None), Some(at(12)));
        creates.answered(at(4));
        assert_eq!(creates.deadline(None), Some(at(14)));
        assert_eq!(creates.deadline(Some(at(8))), Some(at(18)));
        (0..64).for_each(|_| creates.other_message());
        assert_eq!(creates.deadline(Some(at(8))), Some(at(14)));
    }
}
