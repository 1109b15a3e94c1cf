//! The kinds of lines of a history.

use serde::{Deserialize, Serialize};

/// Nanoseconds of CLOCK_MONOTONIC.
pub type Time = u64;

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    Run(Run),
    Era(Era),
    Fault(Fault),
    Compaction(Compaction),
    Cause(Cause),
    Final(Final),
    Truth(Truth),
    Op(Op),
    Watch(Watch),
    Item(Item),
    WatchEnd(WatchEnd),
    Shot(Shot),
    Registration(Sample),
    Hold(Hold),
    Leader(Leader),
}

/// The settings of the run, and its time limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub seed: u64,
    pub members: usize,
    /// The plan, one step per line.
    pub plan: Vec<String>,
    /// The longest time that a lost registration or lock may appear to be held after etcd let it go for a reason
    /// that the client cannot know at once (nanoseconds).
    pub grace: Time,
    /// The time after the last fault within which everything works again (nanoseconds).
    pub recovery: Time,
}

/// A store from its creation to the loss of its data. Times of different eras do not overlap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Era {
    pub era: u32,
    pub from: Time,
    /// The time after which this store executed nothing.
    pub to: Option<Time>,
}

/// The begin or the end of a step of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    pub t: Time,
    pub step: usize,
    pub label: String,
    pub begins: bool,
}

/// A compaction that was requested; it may have been executed without an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compaction {
    pub t: Time,
    pub revision: i64,
}

/// What an operator or a fault of a server did to leases and keys without the knowledge of their clients, and until
/// when it may have an effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    pub t: Time,
    pub to: Time,
    /// 0 for all leases.
    pub lease: i64,
    /// Empty for all keys of the lease.
    pub key: String,
    pub why: String,
}

/// The end of the run: all faults ended at `quiet`, and a linearizable list of everything followed later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Final {
    pub quiet: Time,
    pub t: Time,
    pub revision: i64,
    pub kvs: Vec<Kv>,
}

/// A key with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kv {
    pub key: String,
    pub value: String,
    pub create: i64,
    #[serde(rename = "mod")]
    pub modified: i64,
    pub version: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lease: i64,
}

/// A change of one key; a deletion has no value, version and create revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    #[serde(default, skip_serializing_if = "is_false")]
    pub del: bool,
    pub kv: Kv,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Kv>,
}

/// Keys from `key` to before `end`; an empty `end` stands for the one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Keys {
    pub key: String,
    pub end: String,
}

/// Events that one member reported to a watch of everything without a proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    pub member: u32,
    pub era: u32,
    pub t: Time,
    /// The revisions before this one were compacted before the member could report them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped_to: i64,
    pub events: Vec<Event>,
}

/// An operation of a client, and its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    pub client: u32,
    pub id: u64,
    pub call: Time,
    /// `None` for an operation without a result.
    pub ret: Option<Time>,
    pub op: Call,
    pub res: Outcome,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Range {
        keys: Keys,
        serializable: bool,
        /// 0 for the newest.
        revision: i64,
    },
    Put {
        key: String,
        value: String,
    },
    Delete {
        key: String,
    },
    /// Puts and deletes if all guards hold; otherwise it reads the keys of the guards.
    Txn {
        when: Vec<Guard>,
        then: Vec<Change>,
    },
}

/// A condition of a transaction: the key has this revision (0: it is missing).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    pub key: String,
    /// Compares the create revision, and not the revision of the last change.
    pub create: bool,
    pub revision: i64,
    /// The value that the client read at this revision.
    pub value: Option<String>,
}

/// A write of a transaction; a deletion has no value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub key: String,
    pub value: Option<String>,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok(Answer),
    Err {
        kind: String,
        maybe_applied: bool,
        text: String,
    },
    /// The run ended before the result.
    Open,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub revision: i64,
    /// Of a transaction: the guards held.
    pub succeeded: bool,
    /// The keys that were read, or the deleted key.
    pub kvs: Vec<Kv>,
    /// The number of deleted keys.
    pub deleted: u64,
}

/// A watch that was created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Unique in the run.
    pub watch: u64,
    /// The watches of one reader, one after the other.
    pub chain: u32,
    pub t: Time,
    pub keys: Keys,
    /// The first revision to deliver.
    pub from: i64,
    /// Earlier revisions may be delivered too.
    pub or_earlier: bool,
    pub prev_kv: bool,
    pub no_put: bool,
    pub no_delete: bool,
    /// The contents at `from - 1`, if the reader listed them.
    pub listed: Option<Vec<Kv>>,
}

/// An item of a watch; without events it is progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub watch: u64,
    pub t: Time,
    pub revision: i64,
    pub events: Vec<Event>,
}

/// The last item of a watch that ended by an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchEnd {
    pub watch: u64,
    pub t: Time,
    pub kind: String,
    pub text: String,
}

/// The contents of a replica in memory, read between two times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shot {
    pub name: String,
    pub kind: ShotKind,
    pub t0: Time,
    pub t1: Time,
    pub keys: Keys,
    /// The contents are those of this revision.
    pub revision: i64,
    pub kvs: Vec<Kv>,
    /// The replica says that its contents may be old.
    pub stale: bool,
}

/// What a replica promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShotKind {
    /// Exactly the list at its revision.
    Mirror,
    /// The keys of a service without other fields; it may show the list of a lost store until the instances are back.
    View,
}

/// The state of a registration, read between two times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub name: String,
    pub key: String,
    pub t0: Time,
    pub t1: Time,
    /// `Registered`, or another state.
    pub state: String,
    pub lease: i64,
    pub revision: i64,
    /// The end of its validity.
    pub until: Time,
}

/// A lock or leadership from its acquisition until it was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// The lock or election.
    pub seat: String,
    pub election: bool,
    pub holder: String,
    pub key: String,
    pub token: i64,
    pub lease: i64,
    pub call: Time,
    pub ret: Time,
    /// Times before a check that said that it is held.
    pub held_at: Vec<Time>,
    pub end: Time,
}

/// A leader that an observer was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leader {
    pub observer: String,
    pub seat: String,
    pub t: Time,
    pub token: i64,
    pub value: String,
}

impl Keys {
    pub fn one(key: &str) -> Self {
        Keys {
            key: key.to_owned(),
            end: String::new(),
        }
    }

    /// All keys with a prefix that ends with `/`.
    pub fn below(prefix: &str) -> Self {
        let end = format!("{}0", prefix.strip_suffix('/').unwrap());
        Keys {
            key: prefix.to_owned(),
            end,
        }
    }

    pub fn contains(&self, key: &str) -> bool {
        if self.end.is_empty() {
            return key == self.key;
        }
        self.key.as_str() <= key && key < self.end.as_str()
    }
}

impl Call {
    pub fn is_read(&self) -> bool {
        matches!(self, Call::Range { .. })
    }

    /// The writes, as they are executed when all guards hold.
    pub fn changes(&self) -> Vec<Change> {
        match self {
            Call::Range { .. } => Vec::new(),
            Call::Put { key, value } => vec![Change {
                key: key.clone(),
                value: Some(value.clone()),
            }],
            Call::Delete { key } => vec![Change {
                key: key.clone(),
                value: None,
            }],
            Call::Txn { then, .. } => then.clone(),
        }
    }
}

impl Op {
    pub fn answer(&self) -> Option<&Answer> {
        match &self.res {
            Outcome::Ok(answer) => Some(answer),
            _ => None,
        }
    }

    /// It may have been executed, and the client does not know.
    pub fn is_unknown(&self) -> bool {
        match &self.res {
            Outcome::Ok(_) => false,
            Outcome::Err { maybe_applied, .. } => *maybe_applied,
            Outcome::Open => true,
        }
    }
}

impl Line {
    /// The time at which it was written, about.
    pub fn time(&self) -> Option<Time> {
        match self {
            Line::Run(_) => None,
            Line::Era(line) => Some(line.from),
            Line::Fault(line) => Some(line.t),
            Line::Compaction(line) => Some(line.t),
            Line::Cause(line) => Some(line.t),
            Line::Final(line) => Some(line.t),
            Line::Truth(line) => Some(line.t),
            Line::Op(line) => Some(line.ret.unwrap_or(line.call)),
            Line::Watch(line) => Some(line.t),
            Line::Item(line) => Some(line.t),
            Line::WatchEnd(line) => Some(line.t),
            Line::Shot(line) => Some(line.t1),
            Line::Registration(line) => Some(line.t1),
            Line::Hold(line) => Some(line.ret),
            Line::Leader(line) => Some(line.t),
        }
    }

    /// The line as it is in the file.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap()
    }
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}
