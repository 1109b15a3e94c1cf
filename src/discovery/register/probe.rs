//! Finds out what is in the way of a request that gets no answer, without giving it up.
//!
//! A grant or a write has the whole timeout of the client, and whoever waits for a registration has
//! no longer. So after a part of that time a small read is sent, which may fail sooner, and its
//! failure is the reason that is told.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::Select;

use super::refusal::Refusal;
use crate::client::Client;
use crate::error::Error;
use crate::rpc::kv::{Get, GetResponse};
use crate::runtime::Pending;

/// A read that is sent while something else is not answered.
#[derive(Debug)]
pub(super) struct Probe {
    client: Client,
    key: Bytes,
    part: Duration,
    reply: Option<Pending<GetResponse>>,
    not_before: Option<Instant>,
}

impl Probe {
    /// `key` is what is read: whether it exists, or may be read, does not matter.
    pub(super) fn new(client: &Client, key: Bytes) -> Self {
        let part = client.timeout() / 3;
        Probe {
            client: client.with_timeout(part),
            key,
            part,
            reply: None,
            not_before: None,
        }
    }

    /// Sends and reads the probe. `since` is when the oldest request was sent that is not answered.
    /// Returns what is in the way, when that became known.
    pub(super) fn work(&mut self, now: Instant, since: Option<Instant>) -> Option<Error> {
        let found = self.reply.as_ref().and_then(Pending::try_wait);
        if found.is_some() {
            self.reply = None;
        }
        let due = since.map(|since| since + self.part);
        if self.reply.is_none()
            && due.is_some_and(|due| due <= now)
            && self.not_before.is_none_or(|at| at <= now)
        {
            self.not_before = Some(now + 2 * self.part);
            let read = Get::key(self.key.clone()).keys_only();
            self.reply = Some(self.client.submit(read));
        }
        // A refusal shows that etcd answers.
        found?
            .err()
            .filter(|error| Refusal::of(error) == Refusal::NoAnswer)
    }

    /// When to look again, if nothing arrives.
    pub(super) fn due(&self, since: Option<Instant>) -> Option<Instant> {
        let due = since? + self.part;
        match (&self.reply, self.not_before) {
            (Some(_), _) => None,
            (None, Some(at)) => Some(due.max(at)),
            (None, None) => Some(due),
        }
    }

    pub(super) fn wait<'a>(&'a self, select: &mut Select<'a>) {
        if let Some(reply) = &self.reply {
            select.recv(reply.receiver());
        }
    }
}
