//! The life of the stream: opening, liveness, loss.

use std::time::{Duration, Instant};

use super::watch_entry::Phase;
use super::{Action, Doubt, Ending, Id, StreamPhase, Watches};
use crate::error::{Error, ErrorKind, Remedy, ServerError};

/// A server that has not answered a request to create a watch in this time will not: some 3.4
/// releases stop reading a stream after a refusal. The time runs from the last answer to another
/// such request, and while no large message comes in: an answer waits behind one.
const CREATED_WITHIN: Duration = Duration::from_secs(10);

/// An answer does not wait behind more messages than these: etcd takes by chance from those that
/// are ready and the answers that are.
const CREATED_AFTER: u32 = 64;

/// A server that has not answered any progress request, and sent nothing to any watch that has to
/// catch up, in this time, has sent all that it has: gRPC proxies never answer, nor do releases
/// before 3.4.31 and 3.5.13 for a watch that started in the past and had no events.
const SAID_ALL: Duration = Duration::from_secs(5);

/// After so much silence the server is asked how far it is.
const QUIET: Duration = Duration::from_secs(10);

/// After so much silence although it was asked, the stream is given up. The connection's own pings
/// find dead peers sooner.
const DEAD: Duration = Duration::from_secs(60);

/// A stream that held so long, or delivered anything, begins a new series of attempts.
const HELD: Duration = Duration::from_secs(2);

/// So many tokens in a row may be refused, and for so long, before the last refusal is believed.
/// While users and roles change under JWTs, a token can be old before it was used once.
const REFUSALS: u32 = 5;
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

/// Connections are paced where they are made; this only keeps a fault there from becoming a loop.
const UNCONNECTED: Duration = Duration::from_millis(20);

impl Watches {
    pub(super) fn open(&mut self) {
        self.line = StreamPhase::Opening;
        self.actions.push(Action::Open);
    }

    pub(super) fn opened(&mut self, now: Instant) {
        if self.line != StreamPhase::Opening {
            return;
        }
        self.line = StreamPhase::Open { since: now };
        self.epoch += 1;
        self.heard = now;
        self.arriving = None;
        self.delivered = false;
        self.asked = 0;
        self.answered = 0;
        self.asked_at = None;
        self.orders_progress = None;
        let waiting: Vec<Id> = self
            .ones
            .iter()
            .filter(|(_, one)| one.phase != Phase::Paused)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.route(id);
        }
    }

    /// The stream is over: everything on it is forgotten, and another follows unless the server
    /// refuses the whole call.
    pub(super) fn end(&mut self, ending: &Ending, now: Instant, random: f64) {
        let (connected, held) = match self.line {
            StreamPhase::Closed | StreamPhase::Waiting { .. } => return,
            StreamPhase::Opening => (
                !matches!(ending, Ending::Unconnected(_) | Ending::Refused(_)),
                false,
            ),
            StreamPhase::Open { since } => (true, now.saturating_duration_since(since) >= HELD),
        };
        // An answer while there was no stream yet is one to the attempt to get another token.
        let opened = matches!(self.line, StreamPhase::Open { .. });
        let longest = self.longest_request();
        self.forget_stream();
        let renew = match ending {
            Ending::Answer(answer) => opened && self.may_renew(answer, now),
            _ => false,
        };
        if let (Ending::Answer(answer), true) = (ending, renew) {
            self.actions.push(Action::Renew(answer.clone()));
        }
        self.actions.push(Action::Close(doubt(ending)));
        if let Ending::Answer(answer) = ending
            && answer.kind == ErrorKind::TooLarge
            && let Some(id) = longest
        {
            self.finish(id, Error::new(answer.kind, answer.text.clone()));
        }
        if let Ending::Answer(answer) = ending
            && !renew
            && is_refusal(answer)
        {
            self.line = StreamPhase::Closed;
            for id in self.ones.keys().copied().collect::<Vec<_>>() {
                self.finish(id, Error::new(answer.kind, answer.text.clone()));
            }
            return;
        }
        if held || self.delivered {
            self.lost = u32::from(!held);
            self.backoff.reset();
        }
        let wait = match (connected, self.lost) {
            (false, _) => UNCONNECTED,
            (true, 0) => Duration::ZERO,
            (true, _) => self.backoff.next(random),
        };
        if connected {
            self.lost = self.lost.saturating_add(1);
        }
        self.line = StreamPhase::Waiting { until: now + wait };
    }

    /// The watch of which the request to create it is the longest of those that are not answered: a
    /// server that found one of them too large would find this one too large.
    fn longest_request(&self) -> Option<Id> {
        let asked_for = self.creating.iter().filter_map(|creating| creating.id);
        asked_for.max_by_key(|id| {
            let range = self.ones.get(id).map(|one| one.watch.outer());
            range.map(|range| range.start().len() + range.range_end().len())
        })
    }

    /// Whether the stream ended for its token, and another token may help.
    fn may_renew(&mut self, answer: &ServerError, now: Instant) -> bool {
        if !matches!(answer.remedy, Remedy::Token(_)) {
            return false;
        }
        let (count, since) = self.refused.unwrap_or((0, now));
        if count >= REFUSALS && now.saturating_duration_since(since) >= REFUSED_WITHIN {
            self.refused = None;
            return false;
        }
        self.refused = Some((count + 1, since));
        true
    }

    pub(super) fn forget_stream(&mut self) {
        for (id, one) in &mut self.ones {
            if one.phase == Phase::Paused {
                continue;
            }
            one.phase = Phase::Waiting;
            one.joining.clear();
            if one.created && !one.down {
                one.down = true;
                self.actions.push(Action::Down(*id));
            }
        }
        self.unread.clear();
        self.questions.clear();
        self.reading = None;
        self.queue.clear();
        self.creating.clear();
        self.behind.clear();
        self.by_wire.clear();
        self.disowned.clear();
    }

    /// Whether the server has been silent for too long; asks it when it is quiet.
    pub(super) fn overdue(&mut self, now: Instant) -> Result<(), Ending> {
        let StreamPhase::Open { .. } = self.line else {
            return Ok(());
        };
        if self.created_by().is_some_and(|due| due <= now) {
            return Err(Ending::Silent(format!(
                "a watch was not created in {CREATED_WITHIN:?}"
            )));
        }
        if self.by_wire.is_empty() {
            return Ok(());
        }
        self.heard = self.heard.max(self.arriving.unwrap_or(self.heard));
        if self.said_all_by().is_some_and(|due| due <= now) {
            self.all_up();
        }
        if self.heard + DEAD <= now {
            // Releases before 3.4.31 and 3.5.13 never answer for a watch that started in the past
            // and had no events. A stream like that is given up once, to see.
            if self.answered > 0 || self.mute == 0 {
                self.mute += u32::from(self.answered == 0);
                return Err(Ending::Silent(format!("no word in {DEAD:?}")));
            }
            self.heard = now;
        }
        if self.quiet_until() <= now {
            self.ask(now);
        }
        Ok(())
    }

    /// Until when the oldest request to create a watch must be answered.
    fn created_by(&self) -> Option<Instant> {
        self.creating.front()?;
        let begun = match self.arriving {
            Some(arriving) if self.uncreated < CREATED_AFTER => self.created_at.max(arriving),
            _ => self.created_at,
        };
        Some(begun + CREATED_WITHIN)
    }

    /// When watches that are behind count as up to date although no server says so.
    fn said_all_by(&self) -> Option<Instant> {
        let waiting = self.answered == 0 && !self.behind.is_empty();
        waiting.then(|| {
            self.behind_heard
                .max(self.arriving.unwrap_or(self.behind_heard))
                + SAID_ALL
        })
    }

    /// Whether a server's answers to progress requests cannot be believed: then a watch is taken for
    /// up to date once it is created.
    pub(super) fn believe_untold(&mut self) {
        if self.orders_progress == Some(false) {
            self.all_up();
        }
    }

    fn all_up(&mut self) {
        for id in std::mem::take(&mut self.behind) {
            if let Some(one) = self.ones.get_mut(&id) {
                one.down = false;
                one.target = 0;
                self.actions.push(Action::Up(id));
            }
        }
    }

    fn quiet_until(&self) -> Instant {
        self.asked_at.map_or(self.heard, |at| at.max(self.heard)) + QUIET
    }

    pub(super) fn stream_deadline(&self) -> Option<Instant> {
        let created = self.created_by();
        let live = !self.by_wire.is_empty();
        let quiet = live.then(|| self.quiet_until().min(self.heard + DEAD));
        let asking = self
            .wants_progress()
            .then(|| self.next_question())
            .flatten();
        let said_all = self.said_all_by();
        let due = [created, quiet, asking, said_all];
        due.into_iter().flatten().min()
    }
}

fn doubt(ending: &Ending) -> Doubt {
    match ending {
        Ending::Silent(_) => Doubt::Silent,
        Ending::Answer(answer) => match answer.remedy {
            Remedy::Elsewhere => Doubt::Unable,
            Remedy::Learner => Doubt::Learner,
            Remedy::None | Remedy::Again | Remedy::Token(_) => Doubt::None,
        },
        Ending::Unconnected(_) | Ending::Refused(_) | Ending::Broken(_) | Ending::Eof => {
            Doubt::None
        }
    }
}

/// Whether the server will answer the same to every stream.
fn is_refusal(answer: &ServerError) -> bool {
    matches!(
        answer.kind,
        ErrorKind::Unimplemented
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidArgument
    )
}
