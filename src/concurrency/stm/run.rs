//! Running a transaction: attempt, commit, and again after a conflict.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::nest::nested_beside;
use super::attempt::{Attempt, Found, Guard, Isolation};
use super::tx::{Failed, Tx};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{Get, GetResponse, Txn, TxnResponse};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::Printed;
use crate::types::{KeyValue, Revision};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// How often a transaction is tried again unless told otherwise. Of those that conflict one commits,
/// so this is a crowd that something is wrong with.
const DEFAULT_RETRIES: u32 = 100;

/// The wait after a conflict, from the second on.
const CONFLICT_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(1), Duration::from_millis(100));

/// Keys that the error after the last conflict names.
const MAX_NAMED_KEYS: usize = 8;

/// Runs functions as transactions, and runs them again after a conflict with another client.
///
/// The function runs once per attempt, so whatever else it does happens as often. Its writes stay in
/// memory until it returns `Ok`, and are then committed as one transaction of etcd, which fails when
/// a key was changed meanwhile: see [`Isolation`]. After a conflict it runs again at once; from the
/// second conflict on after a wait of up to 100 ms, at random. If it returns `Err`, nothing is written.
///
/// A commit whose answer is lost is not repeated: the error says
/// [`outcome_unknown`](crate::Error::outcome_unknown), and the function does not run again.
///
/// A server compares at most 128 keys in one transaction (`--max-txn-ops`, and
/// [`ClientBuilder::max_txn_ops`](crate::ClientBuilder::max_txn_ops) here), so the commit can depend on
/// that many: every key that was read, and with the default level every key that is written after a
/// read. One that depends on more is [`InvalidArgument`](ErrorKind::InvalidArgument), before it is sent.
/// Reads and writes are not limited so: they are nested.
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
#[derive(Clone, PartialEq)]
pub struct Committed<T> {
    value: T,
    revision: Revision,
    attempts: u32,
    response: Option<TxnResponse>,
}

impl Stm {
    /// Transactions of this client, with [`Isolation::SerializableSnapshot`] and 100 retries. The
    /// client's timeout is that of each read and of the commit.
    pub fn new(client: &Client) -> Self {
        Stm {
            client: client.clone(),
            isolation: Isolation::default(),
            retries: DEFAULT_RETRIES,
            prefetch: Vec::new(),
        }
    }

    /// What the transaction is protected from.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// How often the function runs again after a conflict; 0 is a single attempt.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Keys to read in advance, all in one round trip, because the function will surely need them.
    /// Of these the commit depends only on those that the function then looks at.
    pub fn prefetch(mut self, keys: impl IntoIterator<Item = impl IntoBytes>) -> Self {
        self.prefetch
            .extend(keys.into_iter().map(IntoBytes::into_bytes));
        self
    }

    /// Runs `apply` until it commits. Blocks for as many round trips as the attempts take, and waits
    /// between them.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) after the last retry: its text names the keys, and
    /// [`attempts`](Error::attempts) says how often it was tried. What a read or the commit failed
    /// with; [`outcome_unknown`](Error::outcome_unknown) when the commit may have been executed.
    pub fn run<T>(&self, apply: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<Committed<T>> {
        self.try_run(apply)
    }

    /// As [`run`](Stm::run), with errors of your own: an `Err` of `apply` ends the transaction, and
    /// nothing is written.
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
    /// Those of `apply`, and those of [`run`](Stm::run) turned into them.
    pub fn try_run<T, E: From<Error>>(
        &self,
        mut apply: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<Committed<T>, E> {
        let begun = Instant::now();
        let mut backoff = CONFLICT_BACKOFF;
        let mut first_reads = FirstReads::Keys(self.prefetch.clone());
        let mut number = 1;
        loop {
            let attempt = Attempt::new(self.isolation, number > 1);
            let mut tx = Tx::new(&self.client, attempt, number);
            let applied = match first_reads.fill(&mut tx) {
                Ok(()) => apply(&mut tx),
                Err(error) => Err(error.operation(Operation::new("stm")).into()),
            };
            let conflict = match (tx.failed.take(), applied) {
                (Some(Failed::Overtaken), _) => Conflict::overtaken(&tx.attempt),
                (_, Err(refused)) => return Err(refused),
                (Some(Failed::For(error)), Ok(_)) => return Err(error.into()),
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
            if number > 1 {
                // What came with the refusal will be old after the wait.
                first_reads = first_reads.forget();
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
        // A refusal brings what the next attempt will want to know.
        let reads = guards.iter().map(|(key, guard)| {
            let get = Get::key(key.clone());
            match guard {
                Guard::Unchanged(_) => get,
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

/// The error of a commit that no transaction can hold.
#[cold]
fn too_many(guards: usize, writes: usize, limit: usize) -> Error {
    let reason = format!(
        "it depends on {guards} keys and writes {writes}, and a transaction of at most {limit} \
         operations cannot hold that: comparisons cannot be nested. Raise the server's --max-txn-ops \
         and ClientBuilder::max_txn_ops, or depend on fewer keys"
    );
    Error::invalid(reason).operation(Operation::new("stm commit"))
}

enum CommitOutcome {
    Committed(Revision, Option<TxnResponse>),
    Conflict(Conflict),
}

/// What an attempt begins with.
enum FirstReads {
    /// To be read.
    Keys(Vec<Bytes>),
    /// Read already, at this revision.
    Found(Revision, Found),
}

impl FirstReads {
    fn fill(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        match std::mem::replace(self, FirstReads::Keys(Vec::new())) {
            FirstReads::Keys(keys) => tx.fetch(&keys),
            FirstReads::Found(revision, found) => {
                tx.attempt.learn(revision, found);
                Ok(())
            }
        }
    }

    fn forget(self) -> FirstReads {
        match self {
            FirstReads::Found(_, found) => FirstReads::Keys(found.into_keys().collect()),
            keys @ FirstReads::Keys(_) => keys,
        }
    }
}

/// Somebody was in between.
struct Conflict {
    /// The changed keys, if they are known.
    keys: Vec<Bytes>,
    /// What the next attempt begins with: this one's reads.
    first_reads: FirstReads,
}

impl Conflict {
    fn overtaken(attempt: &Attempt) -> Self {
        Conflict {
            keys: Vec::new(),
            first_reads: FirstReads::Keys(attempt.looked_at().cloned().collect()),
        }
    }

    fn refused(guards: &[(Bytes, Guard)], response: &TxnResponse) -> Self {
        let mut keys = Vec::new();
        let mut found = Found::new();
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
            first_reads: FirstReads::Found(response.revision(), found),
        }
    }

    fn error(self, attempts: u32, elapsed: Duration) -> Error {
        let reason = if self.keys.is_empty() {
            "keys that it depends on changed in every attempt".to_owned()
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
    /// What the function returned.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What the function returned, to keep.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The revision of its writes. A transaction that only read has the revision that it read; one
    /// that neither read nor wrote has none.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How often the function ran.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What etcd answered to the commit; `None` when nothing had to be sent: a transaction that only
    /// read one revision is a consistent answer already.
    pub fn response(&self) -> Option<&TxnResponse> {
        self.response.as_ref()
    }
}

/// Without the value, which can be secret.
impl<T> fmt::Debug for Committed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committed")
            .field("revision", &self.revision)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
