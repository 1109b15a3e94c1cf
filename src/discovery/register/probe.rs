//! Finds out why a request gets no answer, without cancelling it.
//!
//! A grant or a write may take the whole timeout of the client, and so may a caller that waits for a
//! registration. After a third of that time, a small read is sent. It may fail sooner, and its error
//! is the reason that is reported.

use std::task::Waker;
use std::time::{Duration, Instant};

use super::refusal::Refusal;
use crate::client::Client;
use crate::error::Error;
use crate::rpc::kv::{Get, GetResponse};
use crate::runtime::Pending;
use bytes::Bytes;

/// A read that is sent while another request is not answered.
#[derive(Debug)]
pub(super) struct Probe {
    client: Client,
    key: Bytes,
    delay: Duration,
    reply: Option<Pending<GetResponse>>,
    not_before: Option<Instant>,
}

impl Probe {
    /// Creates a probe that reads `key`. Whether the key exists or may be read does not matter.
    pub(super) fn new(client: &Client, key: Bytes) -> Self {
        // Early enough for an answer within the timeout of a caller that waits.
        let delay = client.timeout() / 3;
        Probe {
            client: client.with_timeout(delay),
            key,
            delay,
            reply: None,
            not_before: None,
        }
    }

    /// Sends the probe when it is due, and returns its error once there is one. `since` is when the
    /// oldest unanswered request was sent.
    pub(super) fn work(&mut self, now: Instant, since: Option<Instant>) -> Option<Error> {
        let found = self.reply.as_ref().and_then(Pending::try_wait);
        if found.is_some() {
            self.reply = None;
        }
        let due = since.map(|since| since + self.delay);
        if self.reply.is_none()
            && due.is_some_and(|due| due <= now)
            && self.not_before.is_none_or(|at| at <= now)
        {
            // At most one read per interval, however long the outage is.
            self.not_before = Some(now + 2 * self.delay);
            let read = Get::key(self.key.clone()).keys_only();
            self.reply = Some(self.client.submit(read));
        }
        // A refusal shows that etcd is reachable.
        found?
            .err()
            .filter(|error| Refusal::of(error) == Refusal::NoAnswer)
    }

    /// The time at which [`work`](Probe::work) is due, if nothing arrives earlier.
    pub(super) fn due(&self, since: Option<Instant>) -> Option<Instant> {
        let due = since? + self.delay;
        match (&self.reply, self.not_before) {
            (Some(_), _) => None,
            (None, Some(at)) => Some(due.max(at)),
            (None, None) => Some(due),
        }
    }

    pub(super) fn wait(&self, waker: &Waker) {
        if let Some(reply) = &self.reply {
            reply.wake_when_ready(waker);
        }
    }
}
