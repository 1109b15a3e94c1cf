//! The etcd of all peers, and its data.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{
    Client, Get, Grant, LeaseId, Pending, Put, Revision, Revoke, Txn, TxnResponse,
};

use crate::works::{Feed, Work};
use peers::Failure;
use peers::task::{PAST_PREFIX, key_of_put, key_of_txn, key_of_value, range_prefix, watched_key};

const LONG: Duration = Duration::from_secs(120);

/// The first id of the leases; each run takes others, so that it does not meet leases of an earlier one.
const FIRST_LEASE: usize = 1_000_000_000;

#[derive(Debug)]
pub(crate) struct Server {
    etcd: LocalEtcd,
    client: Client,
    next_lease: usize,
    /// The first revision of each history, by its number of events.
    past: BTreeMap<usize, i64>,
    /// What has been written once.
    written: Vec<String>,
}

impl Server {
    pub(crate) fn start() -> Result<Self, Failure> {
        let etcd = LocalEtcd::builder()
            .arg("--quota-backend-bytes=8589934592")
            .start()?;
        let client = Client::builder([etcd.endpoint()]).timeout(LONG).connect()?;
        let mut server = Self {
            etcd,
            client,
            next_lease: FIRST_LEASE,
            past: BTreeMap::new(),
            written: Vec::new(),
        };
        let sizes = [32, 256, 4096, 65536, 1 << 20];
        for size in sizes {
            server.client.put(key_of_value(size), vec![b'v'; size])?;
        }
        for n in 0..64 {
            server.client.put(key_of_txn(n), vec![b'v'; 256])?;
            server.client.put(key_of_put(n), vec![b'v'; 256])?;
        }
        server.range(20_000)?;
        Ok(server)
    }

    pub(crate) fn endpoint(&self) -> String {
        self.etcd.endpoint()
    }

    pub(crate) fn version(&self) -> String {
        let status = self.client.maintenance().status();
        status.map_or_else(|_| "?".to_owned(), |status| status.version().to_owned())
    }

    /// Writes what a work reads, once.
    pub(crate) fn prepare(&mut self, work: &Work) -> Result<(), Failure> {
        if work.verb == "pages" {
            self.range(work.params.number("keys")?)?;
        }
        match work.feed {
            Feed::Past { events } if !self.past.contains_key(&events) => {
                let keys = (0..events)
                    .map(|n| Put::new(format!("{PAST_PREFIX}{:05}", n % 10_000), vec![b'v'; 256]));
                let first = self.write(keys, 100)?;
                self.past.insert(events, first);
            }
            Feed::Instances { count } if self.is_new(&format!("instances {count}")) => {
                let put = |n: usize| {
                    let addr = format!("10.{}.{}.{}:80", n >> 16, n >> 8 & 255, n & 255);
                    Put::new(
                        format!("peers-list-{count}/{n}"),
                        format!(r#"{{"Op":0,"Addr":"{addr}","Metadata":null}}"#),
                    )
                };
                self.write((0..count).map(put), 100)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn is_new(&mut self, what: &str) -> bool {
        let is_new = !self.written.iter().any(|written| written == what);
        if is_new {
            self.written.push(what.to_owned());
        }
        is_new
    }

    fn range(&mut self, keys: usize) -> Result<(), Failure> {
        if self.is_new(&format!("range {keys}")) {
            let prefix = range_prefix(keys);
            self.write(
                (0..keys).map(|n| Put::new(format!("{prefix}{n:07}"), vec![b'v'; 100])),
                100,
            )?;
        }
        Ok(())
    }

    pub(crate) fn first_past_revision(&self, events: usize) -> Option<i64> {
        self.past.get(&events).copied()
    }

    /// Puts in transactions of this many, with 64 of them in flight. Returns the first revision.
    fn write(&self, puts: impl Iterator<Item = Put>, in_txn: usize) -> Result<i64, Failure> {
        let (mut flight, mut first) = (VecDeque::new(), i64::MAX);
        let mut settle = |flight: &mut VecDeque<Pending<TxnResponse>>| -> Result<(), Failure> {
            if let Some(txn) = flight.pop_front() {
                first = first.min(txn.wait()?.revision().get());
            }
            Ok(())
        };
        let mut puts = puts.peekable();
        while puts.peek().is_some() {
            let batch: Vec<Put> = puts.by_ref().take(in_txn).collect();
            flight.push_back(self.client.submit(Txn::when([]).then(batch)));
            if flight.len() == 64 {
                settle(&mut flight)?;
            }
        }
        while !flight.is_empty() {
            settle(&mut flight)?;
        }
        Ok(first)
    }

    /// Puts live events: each is a revision of its own.
    pub(crate) fn put_events(&self, events: usize, keys: usize) -> Result<(), Failure> {
        self.write(
            (0..events).map(|n| Put::new(watched_key(n % keys), vec![b'v'; 256])),
            1,
        )?;
        Ok(())
    }

    /// Grants leases and returns the id of the first.
    pub(crate) fn grant(&mut self, count: usize, ttl: usize) -> Result<usize, Failure> {
        let first = self.next_lease;
        self.next_lease += count;
        let ttl = Duration::from_secs(ttl as u64);
        let mut flight = VecDeque::new();
        for id in first..first + count {
            let id = LeaseId::new(i64::try_from(id)?).ok_or("not an id")?;
            flight.push_back(self.client.submit(Grant::ttl(ttl).id(id)));
            if flight.len() == 256
                && let Some(granted) = flight.pop_front()
            {
                granted.wait()?;
            }
        }
        for granted in flight {
            granted.wait()?;
        }
        Ok(first)
    }

    /// How many of these leases are left.
    pub(crate) fn left(&self, first: usize, count: usize) -> Result<usize, Failure> {
        let ids = first..first + count;
        let leases = self.client.leases()?;
        let left = leases
            .ids()
            .iter()
            .filter(|id| usize::try_from(id.get()).is_ok_and(|id| ids.contains(&id)));
        Ok(left.count())
    }

    /// Revokes what a run has left.
    pub(crate) fn revoke_all(&self) -> Result<(), Failure> {
        let ids = self.client.leases()?.ids().to_vec();
        for ids in ids.chunks(256) {
            let revoked: Vec<_> = ids
                .iter()
                .map(|id| self.client.submit(Revoke::new(*id)))
                .collect();
            for revoked in revoked {
                // It may have expired meanwhile.
                let _ = revoked.wait();
            }
        }
        Ok(())
    }

    /// Forgets old revisions.
    pub(crate) fn compact(&self) -> Result<(), Failure> {
        let now: Revision = self.client.call(Get::key("peers/none"))?.header().revision;
        self.client.compact(now)?;
        Ok(())
    }
}
