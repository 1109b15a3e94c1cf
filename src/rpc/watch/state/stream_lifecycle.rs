//! The lifecycle of the stream: opening, liveness checks, loss.

use std::time::{Duration, Instant};

use super::action::Action;
use super::input::StreamEnd;
use super::pending_creates::CREATE_TIMEOUT;
use super::watch_entry::EntryPhase;
use super::watches::{StreamState, Watches};
use crate::error::{Error, ErrorKind, RetryHint, ServerError};
use crate::grpc::MemberCondition;
use crate::rpc::watch::watch_id::WatchId;

/// After this time without a message, a progress request is sent. It adds little to the wake-ups of an idle
/// client, and leaves time for more requests.
const ASK_AFTER: Duration = Duration::from_secs(30);

/// The first progress request is sent up to this time earlier, when the client wakes up for something else.
const ASK_EARLIER: Duration = Duration::from_secs(10);

/// The time between the progress requests of a silent stream.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// After this time without a message, the stream is closed. The pings of the connection detect dead
/// peers sooner.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A stream that lasted this long, or delivered events, resets the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(2);

impl Watches {
    pub(super) fn open(&mut self) {
        self.stream = StreamState::Opening;
        self.actions.push(Action::Open);
    }

    pub(super) fn opened(&mut self, now: Instant) {
        if self.stream != StreamState::Opening {
            return;
        }
        self.stream = StreamState::Open { since: now };
        self.stream_count += 1;
        self.last_message_at = now;
        self.last_bytes_at = None;
        self.backoff.opened();
        self.progress_requests.stream_opened();
        self.orders_progress = None;
        let waiting: Vec<WatchId> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.phase != EntryPhase::Paused)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.route(id);
        }
    }

    /// Handles the end of the stream: resets its state, and opens another one later unless the server
    /// refuses the call.
    pub(super) fn end(&mut self, end: &StreamEnd, now: Instant, random: f64) {
        let (connected, stable) = match self.stream {
            StreamState::Closed | StreamState::BackingOff { .. } => return,
            StreamState::Opening => (
                !matches!(end, StreamEnd::Unconnected(_) | StreamEnd::TlsFailed(_)),
                false,
            ),
            StreamState::Open { since } => {
                (true, now.saturating_duration_since(since) >= STABLE_AFTER)
            }
        };
        // Before the stream is open, an answer is one to the request for another token.
        let opened = matches!(self.stream, StreamState::Open { .. });
        let longest = self.longest_request();
        self.reset_stream();
        let renew = match end {
            StreamEnd::Answer(answer) => opened && self.may_renew(answer, now),
            _ => false,
        };
        if let (StreamEnd::Answer(answer), true) = (end, renew) {
            self.actions.push(Action::RenewToken(answer.clone()));
        }
        self.actions.push(Action::Close(suspicion_of(end)));
        if let StreamEnd::Answer(answer) = end
            && answer.kind == ErrorKind::TooLarge
            && let Some(id) = longest
        {
            self.finish(id, Error::new(answer.kind, answer.text.clone()));
        }
        if let StreamEnd::Answer(answer) = end
            && !renew
            && is_refusal(answer)
        {
            self.stream = StreamState::Closed;
            for id in self.entries.keys().copied().collect::<Vec<_>>() {
                self.finish(id, Error::new(answer.kind, answer.text.clone()));
            }
            return;
        }
        let wait = self.backoff.next(connected, stable, random);
        self.stream = StreamState::BackingOff { until: now + wait };
    }

    /// The watch with the longest unanswered request to create it: if the server found one of them too
    /// large, it is this one.
    fn longest_request(&self) -> Option<WatchId> {
        self.creating.watches().max_by_key(|id| {
            let range = self.entries.get(id).map(|entry| entry.watch.outer());
            range.map(|range| range.start().len() + range.range_end().len())
        })
    }

    /// Whether the stream ended because of its token, and another token should be tried.
    fn may_renew(&mut self, answer: &ServerError, now: Instant) -> bool {
        matches!(answer.retry_hint, RetryHint::NewToken(_)) && self.token_refusals.refused(now)
    }

    pub(super) fn reset_stream(&mut self) {
        for (id, entry) in &mut self.entries {
            if entry.phase == EntryPhase::Paused {
                continue;
            }
            entry.phase = EntryPhase::Waiting;
            entry.early_start = None;
            entry.fragments.clear();
            if entry.created && !entry.down {
                entry.down = true;
                self.actions.push(Action::Down(*id));
            }
        }
        self.needs_read.clear();
        self.progress_reads.clear();
        self.reading = None;
        self.queue.clear();
        self.creating.clear();
        self.catch_up.take();
        self.wire_ids.clear();
    }

    /// Checks the time limits of the stream; an `Err` ends it. Sends a progress request when the server
    /// has sent nothing for a while.
    pub(super) fn overdue(&mut self, now: Instant) -> Result<(), StreamEnd> {
        let StreamState::Open { .. } = self.stream else {
            return Ok(());
        };
        if self
            .creating
            .deadline(self.last_bytes_at)
            .is_some_and(|due| due <= now)
        {
            return Err(StreamEnd::Silent(format!(
                "the server did not create a watch in {CREATE_TIMEOUT:?}"
            )));
        }
        if self.wire_ids.is_empty() {
            return Ok(());
        }
        self.last_message_at = self
            .last_message_at
            .max(self.last_bytes_at.unwrap_or(self.last_message_at));
        if self.catch_up_deadline().is_some_and(|due| due <= now) {
            self.mark_all_up();
        }
        if self.last_message_at + SILENCE_MAX <= now {
            // Releases before 3.4.31 and 3.5.13 never answer for a watch that started in the past
            // and had no events. Such a stream is replaced only once.
            if self.unanswered_streams == 0 {
                self.unanswered_streams += u32::from(self.progress_requests.answered == 0);
                return Err(StreamEnd::Silent(format!(
                    "the server sent nothing in {SILENCE_MAX:?}"
                )));
            }
            self.last_message_at = now;
        }
        if self.ask_from() <= now {
            self.send_progress_request(now);
        }
        Ok(())
    }

    /// The time at which watches count as caught up although the server does not report progress.
    fn catch_up_deadline(&self) -> Option<Instant> {
        let deadline = self.catch_up.deadline(self.last_bytes_at);
        deadline.filter(|_| self.progress_requests.answered == 0)
    }

    /// Marks all watches as up if the server's answers to progress requests are not reliable: then a
    /// watch counts as caught up once it is created.
    pub(super) fn assume_caught_up(&mut self) {
        if self.orders_progress == Some(false) {
            self.mark_all_up();
        }
    }

    fn mark_all_up(&mut self) {
        for id in self.catch_up.take() {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.down = false;
                entry.caught_up_at = 0;
                self.actions.push(Action::Up(id));
            }
        }
    }

    fn ask_at(&self) -> Instant {
        let after_message = self.last_message_at + ASK_AFTER;
        let asked_at = self.progress_requests.sent_at;
        asked_at.map_or(after_message, |at| after_message.max(at + ASK_AGAIN))
    }

    /// The time from which a tick sends the next progress request.
    fn ask_from(&self) -> Instant {
        let after_message = self.last_message_at + (ASK_AFTER - ASK_EARLIER);
        let asked_at = self.progress_requests.sent_at;
        asked_at.map_or(after_message, |at| after_message.max(at + ASK_AGAIN))
    }

    /// The time from which a tick performs the step of this deadline.
    pub(super) fn due_from(&self, deadline: Instant) -> Instant {
        if deadline == self.ask_at() {
            self.ask_from()
        } else {
            deadline
        }
    }

    pub(super) fn stream_deadline(&self) -> Option<Instant> {
        let created = self.creating.deadline(self.last_bytes_at);
        let live = !self.wire_ids.is_empty();
        let quiet = live.then(|| self.ask_at().min(self.last_message_at + SILENCE_MAX));
        let repeat = self
            .needs_progress()
            .then(|| self.progress_requests.repeat_at())
            .flatten();
        let due = [created, quiet, repeat, self.catch_up_deadline()];
        due.into_iter().flatten().min()
    }
}

/// The condition of the member after the end of a stream.
fn suspicion_of(end: &StreamEnd) -> MemberCondition {
    match end {
        StreamEnd::Silent(_) => MemberCondition::Silent,
        StreamEnd::Answer(answer) => MemberCondition::of_answer(answer),
        StreamEnd::Unconnected(_)
        | StreamEnd::TlsFailed(_)
        | StreamEnd::Broken(_)
        | StreamEnd::Eof => MemberCondition::Healthy,
    }
}

/// Whether the server would answer every stream like this.
fn is_refusal(answer: &ServerError) -> bool {
    matches!(
        answer.kind,
        ErrorKind::Unimplemented
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidArgument
    )
}
