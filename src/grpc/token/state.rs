//! When a token is fetched, and when not: one at a time, and only for a reason that is not known to
//! be out of date.
//!
//! Every token has a number, its *generation*, and so has the knowledge that there is none. Whoever
//! is refused says which generation it sent: when there is a newer one by now, that is all it needs.

use std::time::{Duration, Instant};

use crate::error::{Complaint, ErrorKind, ServerError};
use crate::util::backoff::Backoff;

/// The waits between two fetches while they fail, or while what they bring is refused at once. The
/// cap leaves a call of 5 s, the default, several chances.
const PACE: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// A token that held so long begins a new series.
const HELD: Duration = Duration::from_secs(1);

/// A wrong password is tried again after so long: to check one costs a server up to 100 ms of CPU
/// (bcrypt), and it gets right only by an operator's hand.
const REFUSED: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(30));

/// What to do before a request is sent, or after it was refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Send it, with the token that there is.
    Go,
    /// A fetch is on its way: wait for it, and ask again.
    Join,
    /// Fetch, tell how it went, and ask again.
    Fetch,
    /// Ask again then.
    Wait(Instant),
    /// There will be no token, for this reason.
    Refused(ServerError),
    /// No other token can be had.
    Final,
}

/// How a fetch went.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    Token(Form),
    /// The cluster has authentication switched off.
    NotEnabled,
    /// The server said no, and would say it again.
    Refused(ServerError),
    /// No answer, or that of a member that cannot serve now.
    Failed,
}

/// What sort of token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The server's own note of who it is. Changes of users and roles do not touch it.
    Simple,
    /// A signed statement with the revision of the auth store in it: any change makes it old.
    Jwt,
}

impl Form {
    /// A JWT is three parts with dots between; a simple token is a random text, a dot, and a number.
    pub(super) fn of(token: &str) -> Self {
        match token.split('.').count() {
            3 => Form::Jwt,
            _ => Form::Simple,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Nothing was fetched yet, or it is known that nothing can be.
    Nothing,
    /// There is none, and none is needed.
    NotEnabled,
    Token(Form),
}

/// The state of a client's token.
#[derive(Debug)]
pub(super) struct State {
    /// It was given, and cannot be fetched.
    fixed: bool,
    held: Held,
    generation: u64,
    since: Option<Instant>,
    fetching: bool,
    pace: Backoff,
    /// No fetch before this.
    rest: Option<Instant>,
    refusals: Backoff,
    refused: Option<(ServerError, Instant)>,
}

impl State {
    /// One that is to be fetched.
    pub(super) fn fetched_by_need() -> Self {
        State {
            fixed: false,
            held: Held::Nothing,
            generation: 0,
            since: None,
            fetching: false,
            pace: PACE,
            rest: None,
            refusals: REFUSED,
            refused: None,
        }
    }

    /// One that was given.
    pub(super) fn fixed(form: Form) -> Self {
        State {
            fixed: true,
            held: Held::Token(form),
            generation: 1,
            ..State::fetched_by_need()
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a request can go at once.
    pub(super) fn is_settled(&self) -> bool {
        self.held != Held::Nothing && !self.fetching
    }

    /// A request is about to be sent.
    pub(super) fn need(&mut self, now: Instant) -> Step {
        if self.is_settled() {
            return Step::Go;
        }
        self.fetch(now)
    }

    /// A request with the token of `generation` was refused.
    pub(super) fn complain(&mut self, generation: u64, complaint: Complaint, now: Instant) -> Step {
        if generation < self.generation {
            return Step::Go;
        }
        match (complaint, self.held) {
            // The auth store moved on between the check of the token and that of the permission.
            (Complaint::Old, Held::Token(Form::Simple)) => return Step::Go,
            (Complaint::Denied, _) if self.fixed || !self.has_held(now) => return Step::Go,
            _ if self.fixed => return Step::Final,
            _ => {}
        }
        self.fetch(now)
    }

    fn has_held(&self, now: Instant) -> bool {
        self.since
            .is_none_or(|since| now.saturating_duration_since(since) >= HELD)
    }

    fn fetch(&mut self, now: Instant) -> Step {
        if self.fetching {
            return Step::Join;
        }
        if let Some((answer, until)) = &self.refused
            && *until > now
        {
            return Step::Refused(answer.clone());
        }
        if let Some(until) = self.rest.filter(|until| *until > now) {
            return Step::Wait(until);
        }
        self.fetching = true;
        Step::Fetch
    }

    /// Takes note of how a fetch went; `random` is in 0..1.
    pub(super) fn fetched(&mut self, outcome: Fetched, now: Instant, random: f64) {
        self.fetching = false;
        match outcome {
            Fetched::Token(form) => self.hold(Held::Token(form), now),
            Fetched::NotEnabled => self.hold(Held::NotEnabled, now),
            Fetched::Refused(answer) if is_about_the_user(&answer) => {
                self.held = Held::Nothing;
                let pause = self.refusals.ceiling();
                self.refusals.next(random);
                self.refused = Some((answer, now + pause));
                return;
            }
            // It may be this member's alone, and costs it nothing: asked again soon. A token that there
            // is stays.
            Fetched::Refused(answer) => {
                self.refused = Some((answer, now + self.pace.next(random)));
                return;
            }
            Fetched::Failed => {}
        }
        self.rest = Some(now + self.pace.next(random));
    }

    fn hold(&mut self, held: Held, now: Instant) {
        if self.has_held(now) {
            self.pace.reset();
        }
        self.held = held;
        self.generation += 1;
        self.since = Some(now);
        self.refused = None;
        self.refusals.reset();
    }
}

/// Whether name or password are wrong.
fn is_about_the_user(answer: &ServerError) -> bool {
    matches!(
        answer.kind,
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests;
