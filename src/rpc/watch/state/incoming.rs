//! What the server says. All of it is input: nothing here trusts it.

use std::time::Instant;

use super::watch_entry::Phase;
use super::{Action, Ending, Id, Watches};
use crate::error::{Complaint, Error, ErrorKind, Remedy, ServerError};
use crate::grpc::etcd_rs_proto::etcdserverpb as pb;
use crate::grpc::etcd_rs_proto::etcdserverpb::{WatchCancelRequest, watch_request};
use crate::rpc::kv::header;
use crate::rpc::watch::event::{Event, WatchResponse};
use crate::types::Revision;

/// Speaks to all watches of a stream, and stands for "none" in a refusal.
const EVERYBODY: i64 = -1;

/// So often a response is asked for again that came in one message although fragments were asked
/// for.
const ASKED_AGAIN: u32 = 5;

/// A server that names so many watches we do not have is not keeping to the protocol.
const MOST_UNKNOWN: usize = 100_000;

impl Watches {
    pub(super) fn message(
        &mut self,
        message: pb::WatchResponse,
        now: Instant,
    ) -> Result<(), Ending> {
        let super::StreamPhase::Open { .. } = self.line else {
            return Ok(());
        };
        self.heard = now;
        let revision = message.header.as_ref().map_or(0, |h| h.revision);
        self.highest = self.highest.max(revision);
        self.header = message.header;
        if message.created {
            (self.created_at, self.uncreated) = (now, 0);
            return self.answer_to_create(&message, now);
        }
        self.uncreated = self.uncreated.saturating_add(1);
        if message.canceled || message.compact_revision != 0 {
            self.canceled(&message)
        } else if message.events.is_empty() && !message.fragment {
            self.progress(&message);
            Ok(())
        } else {
            self.events(message, now)
        }
    }

    /// A message of which the events were not taken, because it is over the limit. Its watch is
    /// served by another stream from there, in fragments, and no other is concerned.
    pub(super) fn too_large(
        &mut self,
        outline: pb::WatchResponse,
        events: usize,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Ending> {
        if outline.created || outline.canceled || outline.compact_revision != 0 {
            return self.message(outline, now);
        }
        let super::StreamPhase::Open { .. } = self.line else {
            return Ok(());
        };
        self.heard = now;
        let wire = outline.watch_id;
        let Some(id) = self.by_wire.get(&wire).copied() else {
            return self.unknown(wire);
        };
        self.cancel(wire);
        let Some(one) = self.ones.get_mut(&id) else {
            return Ok(());
        };
        one.joining.clear();
        if !self.kind.fragments {
            one.too_large_at = one.next;
            one.unfragmented = 0;
            self.send_away(id);
        } else if events > 1 && one.unfragmented < ASKED_AGAIN {
            // etcd does not cut what it has ready before it has said that it created the watch.
            one.unfragmented += 1;
            self.route(id);
        } else {
            let reason = format!(
                "a message of it has {bytes} bytes, and the limit is {}: raise \
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
    ) -> Result<(), Ending> {
        let Some(creating) = self.creating.pop_front() else {
            return Err(broken("it created a watch that nobody asked for"));
        };
        let wire = message.watch_id;
        let refused = message.canceled || wire < 0 || !message.cancel_reason.is_empty();
        if refused {
            return match (refusal(message), creating.id) {
                // The watch is not at fault: it goes elsewhere with the others.
                (Err(transient), Some(_)) => Err(Ending::Answer(transient)),
                (Ok(error), Some(id)) if self.is_doubtful(&error, id) => {
                    Err(Ending::Answer(ServerError {
                        remedy: Remedy::Token(Complaint::Denied),
                        ..ServerError::read(7, &message.cancel_reason)
                    }))
                }
                (Ok(error), Some(id)) => {
                    self.finish(id, error);
                    Ok(())
                }
                (_, None) => Ok(()),
            };
        }
        if self.by_wire.contains_key(&wire) {
            return Err(broken("it gave two watches one id"));
        }
        self.disowned.remove(&wire);
        let Some((id, one)) = creating
            .id
            .and_then(|id| Some((id, self.ones.get_mut(&id)?)))
        else {
            self.cancel(wire);
            return Ok(());
        };
        self.refused = None;
        let header = message.header.as_ref().map_or(0, |h| h.revision);
        one.phase = Phase::Live {
            wire,
            header,
            asked: creating.asked,
        };
        one.store.get_or_insert(self.store);
        one.target = one.target.max(header);
        self.by_wire.insert(wire, id);
        if self.asking.contains(&id) {
            self.questions.push(id);
        }
        if one.down {
            self.behind.insert(id);
            self.behind_heard = now;
            self.ask_again = super::requests::ASK_AGAIN;
        }
        if !std::mem::replace(&mut one.created, true) {
            self.actions.push(Action::Created(id));
        }
        self.believe_untold();
        if self.is_up_again(id) {
            self.actions.push(Action::Up(id));
        }
        Ok(())
    }

    /// Whether a watch that was cut off has caught up; says so once.
    fn is_up_again(&mut self, id: Id) -> bool {
        let one = self.ones.get_mut(&id);
        one.is_some_and(|one| one.is_up_again(id, &mut self.behind))
    }

    /// Whether a watch was refused for a permission by a server that says so of an expired token,
    /// too. The second refusal is believed.
    fn is_doubtful(&mut self, error: &Error, id: Id) -> bool {
        let old = self.orders_progress == Some(false);
        old && error.kind() == ErrorKind::PermissionDenied
            && self
                .ones
                .get_mut(&id)
                .is_some_and(|one| !std::mem::replace(&mut one.denied, true))
    }

    fn canceled(&mut self, message: &pb::WatchResponse) -> Result<(), Ending> {
        let Some(id) = self.by_wire.get(&message.watch_id).copied() else {
            if message.watch_id == EVERYBODY {
                return match refusal(message) {
                    Err(transient) => Err(Ending::Answer(transient)),
                    Ok(_) => Err(broken("it cancelled a watch without naming it")),
                };
            }
            // The answer to a request of ours.
            self.disowned.remove(&message.watch_id);
            return Ok(());
        };
        let error = refusal(message).map_err(Ending::Answer)?;
        self.by_wire.remove(&message.watch_id);
        self.finish(id, error);
        Ok(())
    }

    fn events(&mut self, message: pb::WatchResponse, now: Instant) -> Result<(), Ending> {
        let wire = message.watch_id;
        let Some((id, one)) = self
            .by_wire
            .get(&wire)
            .and_then(|id| Some((*id, self.ones.get_mut(id)?)))
        else {
            return self.unknown(wire);
        };
        let events: Option<Vec<Event>> = message.events.into_iter().map(Event::read).collect();
        let Some(events) = events else {
            return Err(broken("it sent an event without a key or a revision"));
        };
        let last = !message.fragment;
        let ready = match one.joining.push(events, last, self.kind.limit) {
            Ok(ready) => ready,
            Err(too_large) => {
                self.cancel(wire);
                self.finish(id, too_large);
                return Ok(());
            }
        };
        let Some(news) = one.news(ready) else {
            return Err(broken("it sent events in the wrong order"));
        };
        if let Some(last) = news.last() {
            let last = last.revision().get();
            let size = news.iter().map(Event::size).sum();
            // Never the header's revision: history comes in batches, and the header is ahead of them.
            let undo = one.next.replace(last.saturating_add(1)).unwrap_or(last);
            one.told = last;
            let response = WatchResponse::new(header(message.header), news);
            self.highest = self.highest.max(last);
            self.delivered = true;
            if self.behind.contains(&id) {
                self.behind_heard = now;
            }
            let up = one.is_up_again(id, &mut self.behind);
            one.up_with = up.then_some(undo);
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

    /// A message for a watch that we have cancelled, or never had.
    fn unknown(&mut self, wire: i64) -> Result<(), Ending> {
        if self.disowned.len() >= MOST_UNKNOWN {
            return Err(broken("it names watches that nobody asked for"));
        }
        if wire >= 0 && self.disowned.insert(wire) {
            let cancel = WatchCancelRequest { watch_id: wire };
            self.send(watch_request::RequestUnion::CancelRequest(cancel));
        }
        Ok(())
    }

    fn progress(&mut self, message: &pb::WatchResponse) {
        let Some(revision) = message.header.as_ref().map(|h| h.revision) else {
            return;
        };
        if message.watch_id != EVERYBODY {
            match self.by_wire.get(&message.watch_id).copied() {
                Some(id) => self.advance(id, revision, message.header),
                // Nothing to lose, so no end of the stream either.
                None => drop(self.unknown(message.watch_id)),
            }
            return;
        }
        self.answered += 1;
        self.mute = 0;
        match self.orders_progress {
            Some(true) => {}
            // It may be ahead of events that are still to come (before 3.4.25 and 3.5.8). The
            // store's revision may tell, once those have come.
            Some(false) => return self.questions.extend(&self.asking),
            None => return,
        }
        let answered = self.answered;
        let meant: Vec<Id> = self
            .by_wire
            .values()
            .copied()
            .filter(|id| {
                self.ones.get(id).is_some_and(|one| match one.phase {
                    // The answer may be to a request from before the watch, and late: then it says
                    // nothing about the watch, whose history may still be to come. It is newer when
                    // it is one more than there were requests, or when the store had moved on.
                    Phase::Live { header, asked, .. } => {
                        answered > asked || revision > header || one.next > Some(revision)
                    }
                    _ => false,
                })
            })
            .collect();
        for id in meant {
            self.advance(id, revision, message.header);
        }
    }

    /// Everything of one watch up to `revision` was sent.
    pub(super) fn advance(&mut self, id: Id, revision: i64, pb: Option<pb::ResponseHeader>) {
        let Some(one) = self.ones.get_mut(&id) else {
            return;
        };
        if !one.joining.is_empty() || revision <= 0 {
            return;
        }
        let undo = one.next.unwrap_or(0);
        one.next = Some(undo.max(revision.saturating_add(1)));
        let wanted = self.asking.remove(&id) || one.watch.progress;
        if wanted && revision >= one.told {
            one.told = revision;
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

/// Why the server does not have a watch (any more), for its reader; or, when another member may
/// have it, for the stream.
fn refusal(message: &pb::WatchResponse) -> Result<Error, ServerError> {
    if message.compact_revision != 0 {
        return Ok(Error::compacted(Revision::new(message.compact_revision)));
    }
    let reason = message.cancel_reason.as_str();
    if reason.is_empty() {
        let text = "the server cancelled the watch and gave no reason";
        return Ok(Error::new(ErrorKind::Server, text));
    }
    // These come without the prefix of etcd's errors, and without a code.
    let kind = match reason {
        "mvcc: watcher range is empty"
        | "mvcc: duplicate watch ID provided on the WatchStream"
        | "etcdserver: duplicate watch ID" => Some(ErrorKind::InvalidArgument),
        "mvcc: required revision has been compacted" => Some(ErrorKind::Compacted),
        _ => None,
    };
    let answer = ServerError::read(2, reason);
    match answer.remedy {
        Remedy::Elsewhere | Remedy::Learner | Remedy::Token(_) => Err(answer),
        Remedy::None | Remedy::Again => Ok(Error::new(kind.unwrap_or(answer.kind), answer.text)),
    }
}

fn broken(what: &str) -> Ending {
    Ending::Broken(format!("the server broke the watch protocol: {what}"))
}
