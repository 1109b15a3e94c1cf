//! Which addresses to connect to, and when: a pure decision over what is known of each.
//!
//! A connection lives as long as it works, so the picker is asked only when there is none. Addresses
//! that fail are left alone for a while, ever longer; members that answer but cannot serve (a
//! learner, one cut off from its peers) are set aside while there are others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::address_record::SPACING;
use super::address_set::{AddressSet, Entry, Target};
use super::connect_error::ConnectError;
use super::endpoint::Endpoint;

/// Who wants the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// A caller that waits: as soon as may be.
    Call,
    /// A stream in the background: no hurry, and no storm.
    Background,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Begin a race.
    Dial(Start),
    /// Ask again then.
    Wait(Instant),
}

/// What a race begins with. Both lists are empty when a look-up that is under way has to end first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// The addresses to race, the first one with a head start.
    pub(crate) addresses: Vec<usize>,
    /// The endpoints whose names are to be looked up meanwhile.
    pub(crate) names: Vec<usize>,
}

/// An address that is being dialled, and since when.
pub(crate) type UnderWay = (usize, Instant);

#[derive(Debug)]
pub(crate) struct MemberPicker {
    addresses: AddressSet,
    /// How long a dial goes on before it counts as silent.
    silent_after: Duration,
    /// The endpoint to begin with: any at first, so that the clients of a cluster spread over it.
    first: usize,
    /// How many dials succeeded.
    connected: u64,
}

impl MemberPicker {
    /// A picker of the addresses of these endpoints. A look-up is waited for as long as `patience`, and
    /// so is a dial; after a sixth of it, but not before `SPACING`, a dial counts as silent.
    pub(crate) fn new(
        endpoints: Vec<(usize, Arc<Endpoint>)>,
        patience: Duration,
        random: f64,
    ) -> Self {
        let at = (random.clamp(0.0, 1.0) * endpoints.len() as f64) as usize;
        let at = at.min(endpoints.len().saturating_sub(1));
        let first = endpoints.get(at).map_or(0, |(number, _)| *number);
        MemberPicker {
            addresses: AddressSet::new(endpoints, patience),
            silent_after: (patience / 6).max(SPACING),
            first,
            connected: 0,
        }
    }

    /// From now on these are the endpoints. What is known of those that stay, stays.
    pub(crate) fn change(&mut self, endpoints: Vec<(usize, Arc<Endpoint>)>) {
        self.addresses.change(endpoints);
    }

    /// What to dial at `now`.
    pub(crate) fn plan(&self, now: Instant, demand: Demand) -> Plan {
        let start = self.start(now, demand, &[]);
        if start != Start::default() || self.addresses.awaits(now) {
            return Plan::Dial(start);
        }
        // All that are not set aside fail, or there would be something to dial: any of them may come next.
        let dialable = self.addresses.dialable();
        let dials = dialable.filter_map(|entry| self.may_dial_at(entry, demand));
        let soonest = dials.chain(self.addresses.next_due()).min();
        Plan::Wait(soonest.unwrap_or(now + SPACING).max(now))
    }

    /// What to dial at `now` besides what is being dialled. The addresses of the endpoints take
    /// turns, so that a name with many does not keep the others waiting.
    ///
    /// A dial that is silent may have lost its bytes for good (a NAT that forgot it, a link that was down
    /// for a moment), and says nothing about what the next one meets: the same address is dialled
    /// anew beside it, and until it answers it counts as failing.
    pub(crate) fn start(&self, now: Instant, demand: Demand, under_way: &[UnderWay]) -> Start {
        let may = |entry: &&Entry| {
            under_way
                .iter()
                .all(|dial| dial.0 != entry.id || self.is_silent(dial, now))
                && self.may_dial_at(entry, demand).is_none_or(|at| at <= now)
        };
        let (mut good, mut failing, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        for endpoint in self.in_order() {
            let entries = || self.addresses.of_endpoint(endpoint).filter(may);
            let serving = || entries().filter(|entry| !entry.record.is_aside(now));
            let mut fine: Vec<&Entry> = serving().filter(|e| !e.record.failing).collect();
            // What worked last goes first, and then those that were never tried.
            fine.sort_by_key(|entry| std::cmp::Reverse(entry.record.worked));
            let mut failed: Vec<&Entry> = serving().filter(|e| e.record.failing).collect();
            failed.sort_by_key(|entry| entry.record.dialled);
            failed.truncate(self.addresses.budget(endpoint, now));
            good.push(ids(fine));
            failing.push(ids(failed));
            aside.push(ids(entries().filter(|e| e.record.is_aside(now))));
        }
        // Those that failed go last: they only run when the others are slow.
        let mut addresses = in_turns(&good);
        addresses.extend(in_turns(&failing));
        if self.all_failing(now, under_way) {
            // Better one that may serve again than none.
            addresses.extend(in_turns(&aside));
        }
        let mut names = self.addresses.due(now);
        if addresses.is_empty() {
            // Nothing is dialled that would use it, unless it finds the first address.
            names.retain(|name| self.addresses.of_endpoint(*name).next().is_none());
        }
        Start { addresses, names }
    }

    /// A look-up of this endpoint's name begins; returns the host to look up, or `None` when one is
    /// under way.
    pub(crate) fn begin_look_up(&mut self, endpoint: usize, now: Instant) -> Option<String> {
        self.addresses.begin(endpoint, now)
    }

    /// A look-up ended.
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

    /// Whether a race goes on for the sake of a look-up.
    pub(crate) fn awaits_look_up(&mut self, now: Instant) -> bool {
        self.addresses.note_overdue(now);
        self.addresses.awaits(now)
    }

    /// The number of an address's endpoint, the endpoint, and what to connect to; `None` when the
    /// address is gone.
    pub(crate) fn to_dial(&self, id: usize) -> Option<(usize, Arc<Endpoint>, Target)> {
        self.addresses.to_dial(id)
    }

    /// A dial begins.
    pub(crate) fn dialling(&mut self, id: usize, now: Instant) {
        self.addresses.dialling(id, now);
    }

    /// A dial failed, or a connection that had been made broke.
    pub(crate) fn failed(&mut self, id: usize, now: Instant, random: f64) {
        if let Some(entry) = self.addresses.get_mut(id) {
            entry.record.failed(now, random);
        }
    }

    /// How the dial failed that just did.
    pub(crate) fn failed_by(&mut self, id: usize, fault: &ConnectError) {
        if let Some(entry) = self.addresses.get_mut(id) {
            entry.record.fault = Some(fault.clone());
        }
    }

    /// Whether to find out why this address hangs up, if it does: once is enough while it goes on.
    pub(crate) fn may_probe(&self, id: usize) -> bool {
        let fault = self.addresses.get(id).and_then(|e| e.record.fault.as_ref());
        fault.is_none_or(|fault| !fault.hung_up)
    }

    /// How the last dial of each address failed, if it did, by what errors call it; and so for names
    /// of which no address is known.
    pub(crate) fn faults(&self) -> Vec<(String, Option<ConnectError>)> {
        self.addresses.faults()
    }

    /// What errors call an address.
    pub(crate) fn label(&self, id: usize) -> String {
        self.addresses.label(id)
    }

    /// A dial succeeded. `disconnected` follows when its connection ends.
    pub(crate) fn connected(&mut self, id: usize) {
        self.connected += 1;
        self.addresses.connected(id);
        if let Some(entry) = self.addresses.get_mut(id) {
            entry.record.connected(self.connected);
            // Stay with what works.
            self.first = entry.endpoint;
        }
    }

    /// A connection ended.
    pub(crate) fn disconnected(&mut self, id: usize) {
        self.addresses.disconnected(id);
    }

    /// The member answers but cannot serve now. Says whether there is another to turn to.
    pub(crate) fn set_aside(&mut self, id: usize, now: Instant) -> bool {
        let others = self.others(id, now);
        if let (true, Some(entry)) = (others, self.addresses.get_mut(id)) {
            entry.record.set_aside(now);
        }
        others
    }

    /// The member is a learner. Says whether there is another to turn to.
    pub(crate) fn learner(&mut self, id: usize, now: Instant) -> bool {
        let others = self.others(id, now);
        if let (true, Some(entry)) = (others, self.addresses.get_mut(id)) {
            entry.record.learner(now);
        }
        others
    }

    /// The member is behind another one. Says whether there is another to turn to: one that failed
    /// is worth a try, for this one has no answer that can be used.
    pub(crate) fn behind(&mut self, id: usize, now: Instant) -> bool {
        if let Some(entry) = self.addresses.get_mut(id) {
            entry.record.behind(now);
        }
        let mut dialable = self.addresses.dialable();
        dialable.any(|entry| entry.id != id && !entry.record.is_aside(now))
    }

    /// Whether another address is worth trying.
    pub(crate) fn others(&self, id: usize, now: Instant) -> bool {
        let mut dialable = self.addresses.dialable();
        dialable.any(|e| e.id != id && !e.record.failing && !e.record.is_aside(now))
    }

    /// How many addresses there are to turn to.
    pub(crate) fn address_count(&self) -> usize {
        self.addresses.dialable().count()
    }

    /// The endpoints, from the first one on around.
    fn in_order(&self) -> impl Iterator<Item = usize> {
        let endpoints = self.addresses.endpoints();
        let before = endpoints.clone().take_while(|number| *number != self.first);
        let from = endpoints.clone().skip_while(|number| *number != self.first);
        // When the first one is gone, all come before it.
        from.chain(before)
    }

    /// Whether all who are not set aside fail.
    fn all_failing(&self, now: Instant, under_way: &[UnderWay]) -> bool {
        let is_silent = |id| {
            let mut silent = under_way.iter().filter(|dial| self.is_silent(dial, now));
            silent.any(|(silent, _)| *silent == id)
        };
        self.addresses.dialable().all(|entry| {
            let record = &entry.record;
            record.is_aside(now) || record.failing || is_silent(entry.id)
        })
    }

    fn is_silent(&self, (_, since): &UnderWay, now: Instant) -> bool {
        *since + self.silent_after <= now
    }

    fn may_dial_at(&self, entry: &Entry, demand: Demand) -> Option<Instant> {
        let own = entry.record.may_dial_at(demand);
        match entry.record.failing {
            true => own.max(self.addresses.budget_at(entry.endpoint)),
            false => own,
        }
    }
}

fn ids<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<usize> {
    entries.into_iter().map(|entry| entry.id).collect()
}

/// The first of each list, then the second of each, and so on.
fn in_turns(lists: &[Vec<usize>]) -> Vec<usize> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let turn = |at: usize| lists.iter().filter_map(move |list| list.get(at));
    (0..longest).flat_map(turn).copied().collect()
}

#[cfg(test)]
mod tests;
