//! Decides which addresses to dial, and when. Pure.
//!
//! A connection is used as long as it works, so the picker decides only when there is none. Failing
//! addresses are dialled after growing waits. Members that answer but cannot serve (a learner, a
//! member without a quorum) are set aside while there are others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::address_record::{AddressRecord, SPACING};
use super::address_set::{AddressEntry, AddressSet, DialTarget};
use super::connect_error::ConnectError;
use super::endpoint::Endpoint;
use super::urgency::Urgency;

/// What to do when a connection is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialPlan {
    /// Start a race.
    Dial(DialTargets),
    /// Ask again at this time.
    Wait(Instant),
}

/// What a race starts with. Both lists are empty when a running look-up has to end first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DialTargets {
    /// The addresses to race, the first one with a head start.
    pub(crate) addresses: Vec<usize>,
    /// The endpoints whose names are looked up at the same time.
    pub(crate) names: Vec<usize>,
}

/// An address that is being dialled, and when that dial began.
pub(crate) type PendingDial = (usize, Instant);

#[derive(Debug)]
pub(crate) struct MemberPicker {
    addresses: AddressSet,
    /// How long a dial runs before it counts as silent.
    silent_after: Duration,
    /// The endpoint to begin with. The first choice is random, so that the clients of a cluster
    /// spread over its members.
    first: usize,
    /// How many dials succeeded.
    connected: u64,
}

impl MemberPicker {
    /// Creates a picker for these endpoints. `connect_timeout` bounds the wait for a look-up and for a
    /// dial; a dial counts as silent after a sixth of it, but not before `SPACING`.
    pub(crate) fn new(
        endpoints: Vec<(usize, Arc<Endpoint>)>,
        connect_timeout: Duration,
        random: f64,
    ) -> Self {
        let at = (random.clamp(0.0, 1.0) * endpoints.len() as f64) as usize;
        let at = at.min(endpoints.len().saturating_sub(1));
        let first = endpoints.get(at).map_or(0, |(number, _)| *number);
        MemberPicker {
            addresses: AddressSet::new(endpoints, connect_timeout),
            silent_after: (connect_timeout / 6).max(SPACING),
            first,
            connected: 0,
        }
    }

    /// Replaces the endpoints. The records of endpoints that stay are kept.
    pub(crate) fn change(&mut self, endpoints: Vec<(usize, Arc<Endpoint>)>) {
        self.addresses.change(endpoints);
    }

    /// Decides what to dial at `now`.
    pub(crate) fn plan(&self, now: Instant, urgency: Urgency) -> DialPlan {
        let start = self.start(now, urgency, &[]);
        if start != DialTargets::default() || self.addresses.awaits(now) {
            return DialPlan::Dial(start);
        }
        // All addresses that are not set aside fail: any of them may be dialled next.
        let dialable = self.addresses.dialable();
        let dials = dialable.filter_map(|entry| self.may_dial_at(entry, urgency));
        let soonest = dials.chain(self.addresses.next_due()).min();
        DialPlan::Wait(soonest.unwrap_or(now + SPACING).max(now))
    }

    /// The addresses to dial at `now` beside the `pending` dials. The addresses of the endpoints
    /// alternate, so a name with many addresses does not delay the other endpoints.
    ///
    /// A silent dial may have lost its packets for good (a NAT that lost its state, a link that was
    /// down for a moment), which does not affect the next dial. The same address is therefore
    /// dialled again beside it, and counts as failing until it answers.
    pub(crate) fn start(
        &self,
        now: Instant,
        urgency: Urgency,
        pending: &[PendingDial],
    ) -> DialTargets {
        let may = |entry: &&AddressEntry| {
            pending
                .iter()
                .all(|dial| dial.0 != entry.id || self.is_silent(dial, now))
                && self.may_dial_at(entry, urgency).is_none_or(|at| at <= now)
        };
        let (mut good, mut failing, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        for endpoint in self.in_order() {
            let entries = || self.addresses.of_endpoint(endpoint).filter(may);
            let serving = || entries().filter(|entry| !entry.record.is_aside(now));
            let mut working: Vec<&AddressEntry> = serving().filter(|e| !e.record.failing).collect();
            // The address that worked last is first; addresses that were never tried follow.
            working.sort_by_key(|entry| std::cmp::Reverse(entry.record.worked));
            let mut failed: Vec<&AddressEntry> = serving().filter(|e| e.record.failing).collect();
            failed.sort_by_key(|entry| entry.record.dialled);
            failed.truncate(self.addresses.budget(endpoint, now));
            good.push(ids(working));
            failing.push(ids(failed));
            aside.push(ids(entries().filter(|e| e.record.is_aside(now))));
        }
        // Failing addresses are last: they are dialled only when the others are slow.
        let mut addresses = in_turns(&good);
        addresses.extend(in_turns(&failing));
        if self.all_failing(now, pending) {
            // A member that is set aside may serve again.
            addresses.extend(in_turns(&aside));
        }
        let mut names = self.addresses.due(now);
        if addresses.is_empty() {
            // No dial would use the look-up, unless it finds the first address.
            names.retain(|name| self.addresses.of_endpoint(*name).next().is_none());
        }
        DialTargets { addresses, names }
    }

    /// Starts a look-up of this endpoint's name and returns the host. Returns `None` when one is
    /// already running.
    pub(crate) fn begin_look_up(&mut self, endpoint: usize, now: Instant) -> Option<String> {
        self.addresses.begin(endpoint, now)
    }

    /// Records the result of a look-up.
    pub(crate) fn looked_up(
        &mut self,
        endpoint: usize,
        found: Result<Vec<SocketAddr>, String>,
        now: Instant,
        random: f64,
    ) {
        self.addresses.finish(endpoint, found, now, random);
    }

    /// Whether the name of this address is being looked up.
    pub(crate) fn is_looking_up(&self, id: usize) -> bool {
        self.addresses.is_looking_up(id)
    }

    /// Whether a race continues because of a running look-up.
    pub(crate) fn awaits_look_up(&mut self, now: Instant) -> bool {
        self.addresses.note_overdue(now);
        self.addresses.awaits(now)
    }

    /// The number of an address's endpoint, the endpoint, and the target; `None` when the address
    /// was removed.
    pub(crate) fn to_dial(&self, id: usize) -> Option<(usize, Arc<Endpoint>, DialTarget)> {
        self.addresses.to_dial(id)
    }

    /// Records that a dial begins.
    pub(crate) fn dialling(&mut self, id: usize, now: Instant) {
        self.addresses.dialling(id, now);
    }

    /// Records that a dial failed.
    pub(crate) fn failed(&mut self, id: usize, now: Instant, random: f64) {
        if let Some(entry) = self.addresses.get_mut(id) {
            entry.record.failed(now, random);
        }
    }

    /// Records that a connection has ended whose last byte arrived at this time. If the address was
    /// dialled since, that dial decides whether it fails: the connections to a server that was
    /// restarted are often found ended only after the first new one is open.
    pub(crate) fn connection_ended(
        &mut self,
        id: usize,
        last_sign_of_life: Instant,
        now: Instant,
        random: f64,
    ) {
        let entry = self.addresses.get_mut(id);
        let is_news = |record: &AddressRecord| {
            record.failing || record.dialled.is_none_or(|at| at <= last_sign_of_life)
        };
        if let Some(entry) = entry.filter(|entry| is_news(&entry.record)) {
            entry.record.failed(now, random);
        }
    }

    /// Records why the last dial failed.
    pub(crate) fn failed_with(&mut self, id: usize, error: &ConnectError) {
        if let Some(entry) = self.addresses.get_mut(id) {
            entry.record.last_error = Some(error.clone());
        }
    }

    /// Whether to probe why this address closes connections: once is enough while the failure
    /// lasts.
    pub(crate) fn may_probe(&self, id: usize) -> bool {
        let error = self
            .addresses
            .get(id)
            .and_then(|e| e.record.last_error.as_ref());
        error.is_none_or(|error| !error.hung_up)
    }

    /// The last failure of each address, with the name that errors use; also of names without an
    /// address.
    pub(crate) fn last_errors(&self) -> Vec<(String, Option<ConnectError>)> {
        self.addresses.last_errors()
    }

    /// How errors name an address.
    pub(crate) fn label(&self, id: usize) -> String {
        self.addresses.label(id)
    }

    /// Records a successful dial. `disconnected` follows when its connection ends.
    pub(crate) fn connected(&mut self, id: usize) {
        self.connected += 1;
        self.addresses.connected(id);
        if let Some(entry) = self.addresses.get_mut(id) {
            entry.record.connected(self.connected);
            // Prefer the endpoint that works.
            self.first = entry.endpoint;
        }
    }

    /// Records that a connection ended.
    pub(crate) fn disconnected(&mut self, id: usize) {
        self.addresses.disconnected(id);
    }

    /// Sets a member aside that answers but cannot serve now. Returns whether there is another
    /// member to use.
    pub(crate) fn set_aside(&mut self, id: usize, now: Instant) -> bool {
        let others = self.others(id, now);
        if let (true, Some(entry)) = (others, self.addresses.get_mut(id)) {
            entry.record.set_aside(now);
        }
        others
    }

    /// Sets a learner aside. Returns whether there is another member to use.
    pub(crate) fn learner(&mut self, id: usize, now: Instant) -> bool {
        let others = self.others(id, now);
        if let (true, Some(entry)) = (others, self.addresses.get_mut(id)) {
            entry.record.learner(now);
        }
        others
    }

    /// Sets a member aside that lags behind another one. Returns whether there is another address
    /// to try, also a failing one: the answers of this member cannot be used.
    pub(crate) fn lagging(&mut self, id: usize, now: Instant) -> bool {
        if let Some(entry) = self.addresses.get_mut(id) {
            entry.record.lagging(now);
        }
        let mut dialable = self.addresses.dialable();
        dialable.any(|entry| entry.id != id && !entry.record.is_aside(now))
    }

    /// Whether another address is worth trying.
    pub(crate) fn others(&self, id: usize, now: Instant) -> bool {
        let mut dialable = self.addresses.dialable();
        dialable.any(|e| e.id != id && !e.record.failing && !e.record.is_aside(now))
    }

    /// The number of addresses that may be dialled.
    pub(crate) fn address_count(&self) -> usize {
        self.addresses.dialable().count()
    }

    /// The endpoints in order, starting with the first one.
    fn in_order(&self) -> impl Iterator<Item = usize> {
        let endpoints = self.addresses.endpoints();
        let before = endpoints.clone().take_while(|number| *number != self.first);
        let from = endpoints.clone().skip_while(|number| *number != self.first);
        // If the first endpoint was removed, all endpoints come before it.
        from.chain(before)
    }

    /// Whether every address that is not set aside fails.
    fn all_failing(&self, now: Instant, pending: &[PendingDial]) -> bool {
        let is_silent = |id| {
            let mut silent = pending.iter().filter(|dial| self.is_silent(dial, now));
            silent.any(|(silent, _)| *silent == id)
        };
        self.addresses.dialable().all(|entry| {
            let record = &entry.record;
            record.is_aside(now) || record.failing || is_silent(entry.id)
        })
    }

    fn is_silent(&self, (_, since): &PendingDial, now: Instant) -> bool {
        *since + self.silent_after <= now
    }

    fn may_dial_at(&self, entry: &AddressEntry, urgency: Urgency) -> Option<Instant> {
        let own = entry.record.may_dial_at(urgency);
        match entry.record.failing {
            true => own.max(self.addresses.budget_at(entry.endpoint)),
            false => own,
        }
    }
}

fn ids<'a>(entries: impl IntoIterator<Item = &'a AddressEntry>) -> Vec<usize> {
    entries.into_iter().map(|entry| entry.id).collect()
}

/// Interleaves the lists: the first item of each list, then the second of each, and so on.
fn in_turns(lists: &[Vec<usize>]) -> Vec<usize> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let turn = |at: usize| lists.iter().filter_map(move |list| list.get(at));
    (0..longest).flat_map(turn).copied().collect()
}

#[cfg(test)]
mod tests;
