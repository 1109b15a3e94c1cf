//! The messages of the server. They are not trusted: violations of the protocol end the stream.

use std::time::Instant;

use super::action::Action;
use super::input::StreamEnd;
use super::watch_entry::EntryPhase;
use super::watches::{StreamState, Watches};
use crate::error::{Error, ErrorKind, RetryHint, ServerError, TokenRejection};
use crate::grpc::etcd_rs_proto::etcdserverpb as pb;
use crate::grpc::etcd_rs_proto::etcdserverpb::{WatchCancelRequest, watch_request};
use crate::rpc::kv::header;
use crate::rpc::watch::event::{Event, WatchResponse};
use crate::rpc::watch::watch_id::WatchId;
use crate::types::Revision;

/// The watch id of a message to all watches of a stream. In a refusal it stands for no watch.
const ALL_WATCHES: i64 = -1;

/// The number of times that a watch is created again because a response came in one message although fragments were
/// requested.
const MAX_REPEATS: u32 = 5;

impl Watches {
    /// Handles a message. An `Err` ends the stream.
    pub(super) fn message(
        &mut self,
        message: pb::WatchResponse,
        now: Instant,
    ) -> Result<(), StreamEnd> {
        let StreamState::Open { .. } = self.stream else {
            return Ok(());
        };
        self.last_message_at = now;
        let revision = message.header.as_ref().map_or(0, |h| h.revision);
        // Every header shows how far the store is, also those of other watches.
        self.highest = self.highest.max(revision);
        self.header = message.header;
        if message.created {
            return self.answer_to_create(&message, now);
        }
        self.creating.other_message();
        // etcd reports a compacted start revision in a message that is not always marked as
        // cancelled.
        if message.canceled || message.compact_revision != 0 {
            self.canceled(&message)
        } else if message.events.is_empty() && !message.fragment {
            self.progress(&message);
            Ok(())
        } else {
            self.events(message, now)
        }
    }

    /// Handles a message that is over the limit, and whose events were dropped. Its watch moves to a
    /// stream with fragments and resumes there. Other watches are not affected.
    pub(super) fn too_large(
        &mut self,
        outline: pb::WatchResponse,
        events: usize,
        bytes: usize,
        now: Instant,
    ) -> Result<(), StreamEnd> {
        if outline.created || outline.canceled || outline.compact_revision != 0 {
            return self.message(outline, now);
        }
        let StreamState::Open { .. } = self.stream else {
            return Ok(());
        };
        self.last_message_at = now;
        let wire_id = outline.watch_id;
        let Some(id) = self.wire_ids.get(wire_id) else {
            return self.unknown(wire_id);
        };
        self.cancel(wire_id);
        let Some(entry) = self.entries.get_mut(&id) else {
            return Ok(());
        };
        entry.fragments.clear();
        if !self.kind.fragments {
            // On the stream with fragments, the watch stays until it is past this response.
            entry.too_large_at = entry.next;
            entry.unfragmented_repeats = 0;
            self.move_away(id);
        } else if events > 1 && entry.unfragmented_repeats < MAX_REPEATS {
            // etcd sends a response unfragmented if it was ready before the watch was reported as created.
            entry.unfragmented_repeats += 1;
            self.route(id);
        } else {
            let reason = format!(
                "a message of the watch has {bytes} bytes, and the limit is {}: raise \
                 ClientBuilder::receive_limit above the largest change, and to 2 MiB at least",
                self.kind.limit
            );
            self.finish(id, Error::new(ErrorKind::TooLarge, reason));
        }
        Ok(())
    }

    fn answer_to_create(
        &mut self,
        message: &pb::WatchResponse,
        now: Instant,
    ) -> Result<(), StreamEnd> {
        // etcd answers create requests in their order.
        let Some(creating) = self.creating.answered(now) else {
            return Err(broken("it created a watch that was not requested"));
        };
        let wire_id = message.watch_id;
        // Releases differ in how they mark a refusal.
        let refused = message.canceled || wire_id < 0 || !message.cancel_reason.is_empty();
        if refused {
            return match (refusal(message), creating.id) {
                // The cause is the member or the token: all watches move to another stream.
                (Err(transient), Some(_)) => Err(StreamEnd::Answer(transient)),
                (Ok(error), Some(id)) if self.may_concern_token(&error, id) => {
                    Err(StreamEnd::Answer(ServerError {
                        retry_hint: RetryHint::NewToken(TokenRejection::Denied),
                        ..ServerError::read(7, &message.cancel_reason)
                    }))
                }
                (Ok(_), Some(id))
                    if message.compact_revision != 0
                        && self.start_late_again(id, message.compact_revision) =>
                {
                    Ok(())
                }
                (Ok(error), Some(id)) => {
                    self.finish(id, error);
                    Ok(())
                }
                (_, None) => Ok(()),
            };
        }
        // Events could then not be assigned to a watch.
        if self.wire_ids.get(wire_id).is_some() {
            return Err(broken("it gave two watches the same id"));
        }
        // etcd may use the id of a cancelled watch again.
        self.wire_ids.cancelled_ended(wire_id);
        let Some((id, entry)) = creating
            .id
            .and_then(|id| Some((id, self.entries.get_mut(&id)?)))
        else {
            self.cancel(wire_id);
            return Ok(());
        };
        // A created watch shows that the token is valid.
        self.token_refusals.accepted();
        let header = message.header.as_ref().map_or(0, |h| h.revision);
        entry.phase = EntryPhase::Live {
            wire_id,
            created_at: header,
            progress_sent: creating.progress_sent,
            start: entry.early_start.or(entry.next).unwrap_or(0),
        };
        entry.store_epoch.get_or_insert(self.store_epoch);
        // What the store had at the creation was missed, and must be delivered before `Up`.
        entry.caught_up_at = entry.caught_up_at.max(header);
        self.wire_ids.insert(wire_id, id);
        if self.progress_wanted.contains(&id) {
            self.progress_reads.push(id);
        }
        if entry.down {
            self.catch_up.insert(id, now);
            self.progress_requests.reset_pace();
        }
        if !std::mem::replace(&mut entry.created, true) {
            self.actions.push(Action::Created(id));
        }
        self.assume_caught_up();
        if self.is_up_again(id) {
            self.actions.push(Action::Up(id));
        }
        Ok(())
    }

    /// Whether a watch that was down has caught up. Returns true once.
    fn is_up_again(&mut self, id: WatchId) -> bool {
        let entry = self.entries.get_mut(&id);
        entry.is_some_and(|entry| entry.is_up_again(id, &mut self.catch_up))
    }

    /// Whether a missing permission may be an invalid token: old servers answer both alike. The second
    /// refusal of a watch counts as a missing permission.
    fn may_concern_token(&mut self, error: &Error, id: WatchId) -> bool {
        // The releases without ordered progress are those that answer both alike.
        let old = self.orders_progress == Some(false);
        old && error.kind() == ErrorKind::PermissionDenied
            && self
                .entries
                .get_mut(&id)
                .is_some_and(|entry| !std::mem::replace(&mut entry.denied_once, true))
    }

    fn canceled(&mut self, message: &pb::WatchResponse) -> Result<(), StreamEnd> {
        let Some(id) = self.wire_ids.get(message.watch_id) else {
            if message.watch_id == ALL_WATCHES {
                return match refusal(message) {
                    Err(transient) => Err(StreamEnd::Answer(transient)),
                    Ok(_) => Err(broken("it cancelled a watch without its id")),
                };
            }
            // The answer to a cancel request.
            self.wire_ids.cancelled_ended(message.watch_id);
            return Ok(());
        };
        let error = refusal(message).map_err(StreamEnd::Answer)?;
        if message.compact_revision != 0 {
            // etcd keeps a watch that it has ended for this reason, and answers no progress request of the stream
            // until the watch is cancelled.
            self.cancel(message.watch_id);
        }
        self.wire_ids.remove(message.watch_id);
        if message.compact_revision == 0 || !self.start_late_again(id, message.compact_revision) {
            self.finish(id, error);
        }
        Ok(())
    }

    fn events(&mut self, message: pb::WatchResponse, now: Instant) -> Result<(), StreamEnd> {
        let wire_id = message.watch_id;
        let Some((id, entry)) = self
            .wire_ids
            .get(wire_id)
            .and_then(|id| Some((id, self.entries.get_mut(&id)?)))
        else {
            return self.unknown(wire_id);
        };
        let events: Option<Vec<Event>> = message.events.into_iter().map(Event::read).collect();
        let Some(events) = events else {
            return Err(broken("it sent an event without a key or a revision"));
        };
        let last = !message.fragment;
        let ready = match entry.fragments.push(events, last, self.kind.limit) {
            Ok(ready) => ready,
            Err(too_large) => {
                self.cancel(wire_id);
                self.finish(id, too_large);
                return Ok(());
            }
        };
        // Delivering them would violate the order that readers rely on.
        let Some(new_events) = entry.new_events(ready) else {
            return Err(broken("it sent events in the wrong order"));
        };
        if let Some(last) = new_events.last() {
            let last = last.revision().get();
            let size = new_events.iter().map(Event::size).sum();
            // Not the header's revision: history comes in batches, and the header is ahead of them.
            let undo = entry.next.replace(last.saturating_add(1)).unwrap_or(last);
            entry.delivered_to = last;
            let response = WatchResponse::new(header(message.header), new_events);
            self.highest = self.highest.max(last);
            self.backoff.delivered();
            self.catch_up.received(id, now);
            let up = entry.is_up_again(id, &mut self.catch_up);
            entry.up_undo = up.then_some(undo);
            self.actions.push(Action::Deliver {
                id,
                response,
                size,
                undo,
                up,
            });
        }
        Ok(())
    }

    /// Handles a message for a watch that was cancelled or is unknown.
    fn unknown(&mut self, wire_id: i64) -> Result<(), StreamEnd> {
        let Ok(has_to_cancel) = self.wire_ids.unknown(wire_id) else {
            return Err(broken("it sent messages for unknown watches"));
        };
        if has_to_cancel {
            let cancel = WatchCancelRequest { watch_id: wire_id };
            self.send(watch_request::RequestUnion::CancelRequest(cancel));
        }
        Ok(())
    }

    fn progress(&mut self, message: &pb::WatchResponse) {
        let Some(revision) = message.header.as_ref().map(|h| h.revision) else {
            return;
        };
        if message.watch_id != ALL_WATCHES {
            match self.wire_ids.get(message.watch_id) {
                Some(id) => self.advance(id, revision, message.header),
                // Progress of an unknown watch is harmless: it does not end the stream.
                None => drop(self.unknown(message.watch_id)),
            }
            return;
        }
        self.progress_requests.answered += 1;
        self.unanswered_streams = 0;
        match self.orders_progress {
            Some(true) => {}
            // Before 3.4.25 and 3.5.8 the answer may come before events that it covers. A read of
            // the store's revision decides instead.
            Some(false) => return self.progress_reads.extend(&self.progress_wanted),
            None => return,
        }
        // The server answers again. It may have dropped earlier requests, and each of them needs one more answer.
        self.progress_requests.reset_pace();
        let answered = self.progress_requests.answered;
        let covered: Vec<WatchId> = self
            .wire_ids
            .watches()
            .filter(|id| {
                self.entries.get(id).is_some_and(|entry| match entry.phase {
                    // A late answer to a request from before the watch does not cover the watch,
                    // whose history may not have arrived. The answer covers it if there were more
                    // answers than requests before the watch, or if the store has grown since.
                    EntryPhase::Live {
                        created_at,
                        progress_sent,
                        ..
                    } => {
                        answered > progress_sent
                            || revision > created_at
                            || entry.next > Some(revision)
                    }
                    _ => false,
                })
            })
            .collect();
        for id in covered {
            self.advance(id, revision, message.header);
        }
    }

    /// Handles progress of one watch: everything up to `revision` has arrived.
    pub(super) fn advance(&mut self, id: WatchId, revision: i64, pb: Option<pb::ResponseHeader>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        // Progress between fragments would cover events that are not delivered yet.
        if !entry.fragments.is_empty() || revision <= 0 || revision == i64::MAX {
            return;
        }
        let undo = entry.next.unwrap_or(0);
        entry.next = Some(undo.max(revision.saturating_add(1)));
        let wanted = self.progress_wanted.remove(&id) || entry.watch.progress;
        // Progress never goes back for the reader.
        if wanted && revision >= entry.delivered_to {
            entry.delivered_to = revision;
            let response = WatchResponse::new(header(pb), Vec::new());
            self.actions.push(Action::Deliver {
                id,
                response,
                size: size_of::<WatchResponse>(),
                undo,
                up: false,
            });
        }
        if self.is_up_again(id) {
            self.actions.push(Action::Up(id));
        }
    }
}

/// The reason why the server refused or cancelled a watch. `Ok` is the last item of the watch; `Err`
/// ends the stream, because another member or another token may help.
fn refusal(message: &pb::WatchResponse) -> Result<Error, ServerError> {
    if message.compact_revision != 0 {
        return Ok(Error::compacted(Revision::new(message.compact_revision)));
    }
    let reason = message.cancel_reason.as_str();
    if reason.is_empty() {
        let text = "the server cancelled the watch and gave no reason";
        return Ok(Error::new(ErrorKind::Server, text));
    }
    // These texts have neither the prefix of etcd's errors nor a code.
    let kind = match reason {
        "mvcc: watcher range is empty"
        | "mvcc: duplicate watch ID provided on the WatchStream"
        | "etcdserver: duplicate watch ID" => Some(ErrorKind::InvalidArgument),
        "mvcc: required revision has been compacted" => Some(ErrorKind::Compacted),
        _ => None,
    };
    let answer = ServerError::read(2, reason);
    match answer.retry_hint {
        RetryHint::OtherMember | RetryHint::Learner | RetryHint::NewToken(_) => Err(answer),
        RetryHint::None | RetryHint::SameMember => {
            Ok(Error::new(kind.unwrap_or(answer.kind), answer.text))
        }
    }
}

fn broken(what: &str) -> StreamEnd {
    StreamEnd::Broken(format!("the server violated the watch protocol: {what}"))
}
