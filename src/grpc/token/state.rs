//! Decides when a token is fetched: one fetch at a time, and only if the reason is still current.
//! Pure.
//!
//! Each token has a *generation* number, and so has the knowledge that no token is needed. A
//! rejected request reports the generation that it sent: if there is a newer one, no fetch is
//! needed.

use std::time::{Duration, Instant};

use crate::error::{ErrorKind, ServerError, TokenRejection};
use crate::util::backoff::Backoff;

/// The waits between fetches that fail, or whose tokens are rejected at once. The cap allows
/// several attempts within the default timeout of 5 s.
const FETCH_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// A token that was valid for this long resets the waits.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// The time until a wrong password is tried again: a check costs a server up to 100 ms of CPU
/// (bcrypt), and only an operator can correct the password.
const REFUSAL_BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(30));

/// What to do before a request is sent, or after it was rejected.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenStep {
    /// Send it with the current token.
    Go,
    /// Wait for the running fetch, then call again.
    Join,
    /// Fetch a token, report the result, then call again.
    Fetch,
    /// Ask again at this time.
    Wait(Instant),
    /// There is no token, for this reason.
    Refused(ServerError),
    /// No other token can be fetched.
    Final,
}

/// The result of a fetch.
#[derive(Clone, Debug)]
pub(super) enum FetchOutcome {
    Token(TokenForm),
    /// Authentication is disabled in the cluster.
    NotEnabled,
    /// The server rejected the request, and would reject it again.
    Refused(ServerError),
    /// No answer, or the answer of a member that cannot serve now.
    Failed,
}

/// The form of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenForm {
    /// A simple token, which the server stores. Changes of users and roles do not affect it.
    Simple,
    /// A JWT, which contains the revision of the auth store: every change of users or roles
    /// outdates it.
    Jwt,
}

impl TokenForm {
    /// Detects the form: a JWT has three parts separated by dots; a simple token is random text, a
    /// dot, and a number.
    pub(super) fn of(token: &str) -> Self {
        match token.split('.').count() {
            3 => TokenForm::Jwt,
            _ => TokenForm::Simple,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CurrentToken {
    /// No token was fetched, or none can be.
    Nothing,
    /// No token is needed.
    NotEnabled,
    Token(TokenForm),
}

/// The state of a client's token.
#[derive(Debug)]
pub(super) struct TokenState {
    /// The token was given by the user and cannot be fetched.
    fixed: bool,
    current: CurrentToken,
    generation: u64,
    since: Option<Instant>,
    fetching: bool,
    fetch_backoff: Backoff,
    /// The earliest time of the next fetch.
    fetch_after: Option<Instant>,
    refusals: Backoff,
    refused: Option<(ServerError, Instant)>,
}

impl TokenState {
    /// Creates the state of a token that is fetched when needed.
    pub(super) fn fetched_by_need() -> Self {
        TokenState {
            fixed: false,
            current: CurrentToken::Nothing,
            generation: 0,
            since: None,
            fetching: false,
            fetch_backoff: FETCH_BACKOFF,
            fetch_after: None,
            refusals: REFUSAL_BACKOFF,
            refused: None,
        }
    }

    /// Creates the state of a given token.
    pub(super) fn fixed(form: TokenForm) -> Self {
        TokenState {
            fixed: true,
            current: CurrentToken::Token(form),
            generation: 1,
            ..TokenState::fetched_by_need()
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a request can be sent without a fetch.
    pub(super) fn is_settled(&self) -> bool {
        self.current != CurrentToken::Nothing && !self.fetching
    }

    /// Decides before a request is sent.
    pub(super) fn need(&mut self, now: Instant) -> TokenStep {
        if self.is_settled() {
            return TokenStep::Go;
        }
        self.fetch(now)
    }

    /// Decides after a request with the token of `generation` was rejected.
    pub(super) fn rejected(
        &mut self,
        generation: u64,
        rejection: TokenRejection,
        now: Instant,
    ) -> TokenStep {
        if generation < self.generation {
            return TokenStep::Go;
        }
        match (rejection, self.current) {
            // The auth store changed between the check of the token and the check of the
            // permission.
            (TokenRejection::Old, CurrentToken::Token(TokenForm::Simple)) => return TokenStep::Go,
            (TokenRejection::Denied, _) if self.fixed || !self.is_stable(now) => {
                return TokenStep::Go;
            }
            _ if self.fixed => return TokenStep::Final,
            _ => {}
        }
        self.fetch(now)
    }

    fn is_stable(&self, now: Instant) -> bool {
        self.since
            .is_none_or(|since| now.saturating_duration_since(since) >= STABLE_AFTER)
    }

    fn fetch(&mut self, now: Instant) -> TokenStep {
        if self.fetching {
            return TokenStep::Join;
        }
        if let Some((answer, until)) = &self.refused
            && *until > now
        {
            return TokenStep::Refused(answer.clone());
        }
        if let Some(until) = self.fetch_after.filter(|until| *until > now) {
            return TokenStep::Wait(until);
        }
        self.fetching = true;
        TokenStep::Fetch
    }

    /// Records the result of a fetch; `random` is in 0..1.
    pub(super) fn fetched(&mut self, outcome: FetchOutcome, now: Instant, random: f64) {
        self.fetching = false;
        match outcome {
            FetchOutcome::Token(form) => self.replace(CurrentToken::Token(form), now),
            FetchOutcome::NotEnabled => self.replace(CurrentToken::NotEnabled, now),
            FetchOutcome::Refused(answer) if is_about_the_user(&answer) => {
                self.current = CurrentToken::Nothing;
                let pause = self.refusals.ceiling();
                self.refusals.next(random);
                self.refused = Some((answer, now + pause));
                return;
            }
            // The failure may concern only this member, and costs it little: try again soon. A
            // current token is kept.
            FetchOutcome::Refused(answer) => {
                self.refused = Some((answer, now + self.fetch_backoff.next(random)));
                return;
            }
            FetchOutcome::Failed => {}
        }
        self.fetch_after = Some(now + self.fetch_backoff.next(random));
    }

    fn replace(&mut self, current: CurrentToken, now: Instant) {
        if self.is_stable(now) {
            self.fetch_backoff.reset();
        }
        self.current = current;
        self.generation += 1;
        self.since = Some(now);
        self.refused = None;
        self.refusals.reset();
    }
}

/// Whether the user name or the password is wrong.
fn is_about_the_user(answer: &ServerError) -> bool {
    matches!(
        answer.kind,
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests;
