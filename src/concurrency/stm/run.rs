//! Runs a function as a transaction: an attempt, its commit, and another attempt after a conflict.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::nest::nested_beside;
use super::attempt::{Attempt, Fetched, Guard, Isolation};
use super::tx::{Failed, Tx};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{Get, GetResponse, Txn, TxnResponse};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::Printed;
use crate::types::{KeyValue, Revision};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The default number of retries. Of the transactions that conflict, at least one commits, so 100 conflicts
/// show a problem in the program.
const DEFAULT_RETRIES: u32 = 100;

/// The wait after a conflict, from the second conflict on.
const CONFLICT_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(1), Duration::from_millis(100));

/// The number of keys in the error after the last conflict.
const MAX_NAMED_KEYS: usize = 8;

/// Runs functions as transactions, and runs them again after a conflict with another client.
///
/// The function runs once per attempt, and so do its side effects. Its writes stay in memory until it
/// returns `Ok`, and are then committed as one transaction of etcd, which fails when another client
/// changed a key meanwhile: see [`Isolation`]. After the first conflict the function runs again at once,
/// and after each further conflict it waits a random time of up to 100 ms. If it returns `Err`, nothing
/// is written.
///
/// A commit whose answer is lost is not repeated, and the function does not run again: the error has
/// [`outcome_unknown`](crate::Error::outcome_unknown).
///
/// A server compares at most 128 keys in one transaction (`--max-txn-ops`, and
/// [`ClientBuilder::max_txn_ops`](crate::ClientBuilder::max_txn_ops) here), so the commit can depend on
/// that many: every key that was read, and with the default level every key that is written after a
/// read. A commit that depends on more keys is refused with [`InvalidArgument`](ErrorKind::InvalidArgument)
/// before it is sent. The limit does not apply to the numbers of reads and writes, which are nested.
///
/// ```
/// use etcd_blocking::{Client, concurrency::Stm};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = etcd_blocking::local::LocalEtcd::start()?;
/// # let client = Client::connect([etcd.endpoint()])?;
/// client.put("account/ann", "100")?;
/// let number = |value: Option<etcd_blocking::bytes::Bytes>| -> i64 {
///     value.and_then(|v| std::str::from_utf8(&v).ok()?.parse().ok()).unwrap_or(0)
/// };
/// let moved = Stm::new(&client).run(|tx| {
///     let (ann, bob) = (number(tx.get("account/ann")?), number(tx.get("account/bob")?));
///     let amount = ann.min(30);
///     tx.put("account/ann", (ann - amount).to_string());
///     tx.put("account/bob", (bob + amount).to_string());
///     Ok(amount)
/// })?;
/// assert_eq!((*moved.value(), moved.attempts()), (30, 1));
/// assert_eq!(client.get("account/bob")?.expect("just put").mod_revision(), moved.revision());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens until run()"]
pub struct Stm {
    client: Client,
    isolation: Isolation,
    retries: u32,
    prefetch: Vec<Bytes>,
}

/// A transaction that committed.
///
/// ```no_run
/// use etcd_blocking::concurrency::Stm;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let committed = Stm::new(&client).run(|tx| {
///     tx.put("greeting", "hello");
///     Ok("done")
/// })?;
/// println!("{} at revision {}", committed.value(), committed.revision());
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
pub struct Committed<T> {
    value: T,
    revision: Revision,
    attempts: u32,
    response: Option<TxnResponse>,
}

impl Stm {
    /// Creates transactions of this client, with [`Isolation::SerializableSnapshot`] and 100 retries. The
    /// client's timeout applies to each read and to the commit.
    pub fn new(client: &Client) -> Self {
        Stm {
            client: client.clone(),
            isolation: Isolation::default(),
            retries: DEFAULT_RETRIES,
            prefetch: Vec::new(),
        }
    }

    /// Sets the conflicts from which the transaction is protected.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sets how often the function runs again after a conflict; 0 is a single attempt.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Adds keys that are read before the function runs, in one round trip. The commit depends only on
    /// those that the function then reads.
    pub fn prefetch(mut self, keys: impl IntoIterator<Item = impl IntoBytes>) -> Self {
        self.prefetch
            .extend(keys.into_iter().map(IntoBytes::into_bytes));
        self
    }

    /// Runs `apply` until its writes are committed. Blocks for the round trips of all attempts, and for
    /// the waits between them.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) after the last retry: its text names the keys, and
    /// [`attempts`](Error::attempts) is their number. Otherwise the error of a read or of the commit, with
    /// [`outcome_unknown`](Error::outcome_unknown) when the commit may have been executed.
    pub fn run<T>(&self, apply: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<Committed<T>> {
        self.try_run(apply)
    }

    /// Runs `apply` as [`run`](Stm::run) does, with an error type of your choice: an `Err` of `apply` ends
    /// the transaction, and nothing is written.
    ///
    /// ```
    /// use etcd_blocking::{Client, concurrency::Stm};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etcd = etcd_blocking::local::LocalEtcd::start()?;
    /// # let client = Client::connect([etcd.endpoint()])?;
    /// let refused = Stm::new(&client).try_run(|tx| {
    ///     if tx.get("invoice/7")?.is_none() {
    ///         return Err(Box::<dyn std::error::Error>::from("there is no invoice 7"));
    ///     }
    ///     tx.put("invoice/7", "paid");
    ///     Ok(())
    /// });
    /// assert_eq!(refused.unwrap_err().to_string(), "there is no invoice 7");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `apply`, and those of [`run`](Stm::run), converted with `From`.
    pub fn try_run<T, E: From<Error>>(
        &self,
        mut apply: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<Committed<T>, E> {
        let begun = Instant::now();
        let mut backoff = CONFLICT_BACKOFF;
        let mut first_reads = FirstReads::Keys(self.prefetch.clone());
        let mut number = 1;
        loop {
            // Reads are linearizable after a conflict.
            let attempt = Attempt::new(self.isolation, number > 1);
            let mut tx = Tx::new(&self.client, attempt, number);
            let applied = match first_reads.fill(&mut tx) {
                Ok(()) => apply(&mut tx),
                Err(error) => Err(error.operation(Operation::new("stm")).into()),
            };
            let conflict = match (tx.failed.take(), applied) {
                // Whatever the function returned, its reads are not of one revision.
                (Some(Failed::Compacted), _) => Conflict::compacted(&tx.attempt),
                (_, Err(refused)) => return Err(refused),
                // The function ignored a failed read, and its writes may depend on it.
                (Some(Failed::Call(error)), Ok(_)) => return Err(error.into()),
                (None, Ok(value)) => match self.commit(&tx.attempt)? {
                    CommitOutcome::Committed(revision, response) => {
                        return Ok(Committed {
                            value,
                            revision,
                            attempts: number,
                            response,
                        });
                    }
                    CommitOutcome::Conflict(conflict) => conflict,
                },
            };
            if number > self.retries {
                return Err(conflict.error(number, begun.elapsed()).into());
            }
            first_reads = conflict.first_reads;
            // The first retry is immediate: it already has the values of the refusal.
            if number > 1 {
                // After the wait, the values that came with the refusal may be old.
                first_reads = first_reads.discard_values();
                thread::sleep(backoff.next(jitter::fraction()));
            }
            number += 1;
        }
    }

    fn commit(&self, attempt: &Attempt) -> Result<CommitOutcome> {
        if attempt.needs_no_commit() {
            return Ok(CommitOutcome::Committed(
                attempt.base().unwrap_or_default(),
                None,
            ));
        }
        let guards = attempt.guards();
        let (ops, limit) = (attempt.ops(), self.client.max_txn_ops());
        let writes = ops.len();
        let ops = nested_beside(guards.len(), ops, limit)
            .ok_or_else(|| too_many(guards.len(), writes, limit))?;
        let compares = guards.iter().map(|(key, guard)| guard.compare(key.clone()));
        // A refusal returns the values for the next attempt.
        let reads = guards.iter().map(|(key, guard)| {
            let get = Get::key(key.clone());
            match guard {
                Guard::Unchanged(_) => get,
                // Only the revision of a blindly written key matters.
                Guard::NotAfter(_) => get.keys_only(),
            }
        });
        let txn = Txn::when(compares).then(ops).or_else(reads);
        let response = self.client.txn(txn);
        let response = response.map_err(|error| error.operation(Operation::new("stm commit")))?;
        Ok(if response.succeeded() {
            CommitOutcome::Committed(response.revision(), Some(response))
        } else {
            CommitOutcome::Conflict(Conflict::refused(&guards, &response))
        })
    }
}

/// The error of a commit that does not fit into a transaction.
#[cold]
fn too_many(guards: usize, writes: usize, limit: usize) -> Error {
    let reason = format!(
        "it depends on {guards} keys and writes {writes}, which does not fit into a transaction of at \
         most {limit} operations: comparisons cannot be nested. Raise the server's --max-txn-ops and \
         ClientBuilder::max_txn_ops, or depend on fewer keys"
    );
    Error::invalid(reason).operation(Operation::new("stm commit"))
}

enum CommitOutcome {
    Committed(Revision, Option<TxnResponse>),
    Conflict(Conflict),
}

/// The reads before the function of an attempt runs.
enum FirstReads {
    /// Keys that are to be read.
    Keys(Vec<Bytes>),
    /// Keys that were read at this revision.
    Fetched(Revision, Fetched),
}

impl FirstReads {
    fn fill(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        match std::mem::replace(self, FirstReads::Keys(Vec::new())) {
            FirstReads::Keys(keys) => tx.fetch(&keys),
            FirstReads::Fetched(revision, found) => {
                tx.attempt.record(revision, found);
                Ok(())
            }
        }
    }

    fn discard_values(self) -> FirstReads {
        match self {
            FirstReads::Fetched(_, found) => FirstReads::Keys(found.into_keys().collect()),
            keys @ FirstReads::Keys(_) => keys,
        }
    }
}

/// Another client changed a key of the transaction.
struct Conflict {
    /// The changed keys, if they are known.
    keys: Vec<Bytes>,
    /// The first reads of the next attempt: the keys that this attempt read.
    first_reads: FirstReads,
}

impl Conflict {
    fn compacted(attempt: &Attempt) -> Self {
        Conflict {
            keys: Vec::new(),
            first_reads: FirstReads::Keys(attempt.read_keys().cloned().collect()),
        }
    }

    fn refused(guards: &[(Bytes, Guard)], response: &TxnResponse) -> Self {
        let mut keys = Vec::new();
        let mut found = Fetched::new();
        for (index, (key, guard)) in guards.iter().enumerate() {
            let kv = response.get(index).and_then(GetResponse::first);
            if !guard.holds(kv.map_or(Revision::NONE, KeyValue::mod_revision)) {
                keys.push(key.clone());
            }
            if matches!(guard, Guard::Unchanged(_)) {
                found.insert(key.clone(), kv.cloned());
            }
        }
        Conflict {
            keys,
            first_reads: FirstReads::Fetched(response.revision(), found),
        }
    }

    fn error(self, attempts: u32, elapsed: Duration) -> Error {
        let reason = if self.keys.is_empty() {
            "in every attempt, another client changed keys that the transaction read".to_owned()
        } else {
            let named = self
                .keys
                .iter()
                .take(MAX_NAMED_KEYS)
                .map(|key| format!("{:?}", Printed(key)));
            let mut named = named.collect::<Vec<_>>().join(", ");
            if self.keys.len() > MAX_NAMED_KEYS {
                named.push_str(&format!(" and {} more", self.keys.len() - MAX_NAMED_KEYS));
            }
            format!("another client changed {named}")
        };
        Error::new(ErrorKind::Conflict, reason)
            .operation(Operation::new("stm"))
            .tried(attempts, elapsed)
    }
}

impl<T> Committed<T> {
    /// Returns the value that the function returned.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Converts this into the value that the function returned.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Returns the revision of its writes. A transaction without writes has the revision of its reads; one
    /// without reads and writes has [`Revision::NONE`].
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns how often the function ran.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns etcd's response to the commit, or `None` if no commit was needed: the reads of a
    /// transaction without writes are consistent when all show one revision.
    pub fn response(&self) -> Option<&TxnResponse> {
        self.response.as_ref()
    }
}

/// Omits the value, which can be secret.
impl<T> fmt::Debug for Committed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committed")
            .field("revision", &self.revision)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
