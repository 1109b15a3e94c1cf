//! Clients that read and write a few keys, one operation after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use etcd_blocking::{
    Client, Compare, Delete, Get, KeyRange, Op as TxnOp, Put, Result, Revision, Txn, TxnResponse,
};
use fastrand::Rng;

use super::stage::{Stage, failed, recorded};
use crate::history::{Answer, Call, Change, Guard, Keys, Kv, Line, Op, Outcome, Recorder, now};

/// The prefix of the keys.
pub const PREFIX: &str = "kv/";
/// The begin of the values that are written in the end.
pub const END: &str = "end-";
const KEYS: u8 = 8;
/// A few hundred operations per second are enough, and do not overload the servers.
const PAUSE: Duration = Duration::from_millis(12);

/// Records the operations of one client.
#[derive(Debug)]
pub struct Operations {
    client: u32,
    next: u64,
    recorder: Recorder,
    answers: Arc<AtomicU64>,
}

impl Operations {
    pub fn new(stage: &Stage, client: u32) -> Self {
        Operations {
            client,
            next: 0,
            recorder: stage.file(&format!("client-{client}")),
            answers: stage.answers_of(client),
        }
    }

    /// Runs one operation, records it, and returns its answer.
    pub fn run(&mut self, op: Call, execute: impl FnOnce() -> Result<Answer>) -> Option<Answer> {
        let call = now();
        let result = execute();
        let ret = Some(now());
        let (answer, res) = match result {
            Ok(answer) => (Some(answer.clone()), Outcome::Ok(answer)),
            Err(error) => (None, failed(&error)),
        };
        self.next += 1;
        self.recorder.write(Line::Op(Op {
            client: self.client,
            id: self.next,
            call,
            ret,
            op,
            res,
        }));
        if answer.is_some() {
            self.answers.fetch_add(1, SeqCst);
        }
        answer
    }
}

/// The keys that are written in the end. The second one is then deleted.
pub fn end_keys() -> [String; 2] {
    ["0", "end"].map(|name| format!("{PREFIX}{name}"))
}

/// Reads and writes until the run ends.
pub fn work(stage: &Stage, client: &Client, number: u32) {
    let mut random = Rng::with_seed(stage.seed ^ u64::from(number) << 40);
    let mut operations = Operations::new(stage, number);
    let mut count = 0;
    let mut last = 0;
    while stage.works() {
        let key = format!("{PREFIX}{}", random.u8(..KEYS));
        count += 1;
        let value = format!("{number}-{count}");
        let answer = match random.u8(..20) {
            0..4 => read(&mut operations, client, Keys::one(&key), false, 0),
            4..6 => read(&mut operations, client, Keys::below(PREFIX), false, 0),
            6 => read(&mut operations, client, Keys::below(PREFIX), true, 0),
            7 => read(&mut operations, client, Keys::one(&key), true, 0),
            8 => read(&mut operations, client, Keys::below(PREFIX), false, last),
            9..13 => put(&mut operations, client, &key, value),
            13 => delete(&mut operations, client, &key),
            _ => {
                let read = read(&mut operations, client, Keys::one(&key), false, 0);
                let other = format!("{PREFIX}{}", KEYS + random.u8(..2));
                let known = read.map(|read| read.kvs.into_iter().next());
                known
                    .and_then(|known| replace(&mut operations, client, &key, known, &other, &value))
            }
        };
        last = answer.map_or(0, |answer| answer.revision);
        thread::sleep(PAUSE);
    }
}

fn kvs<'a>(kvs: impl IntoIterator<Item = &'a etcd_blocking::KeyValue>) -> Vec<Kv> {
    kvs.into_iter().map(recorded).collect()
}

fn read(
    operations: &mut Operations,
    client: &Client,
    keys: Keys,
    serializable: bool,
    revision: i64,
) -> Option<Answer> {
    let mut get = Get::range(range(&keys));
    if serializable {
        get = get.serializable();
    }
    if revision > 0 {
        get = get.revision(Revision::new(revision));
    }
    let call = Call::Range {
        keys,
        serializable,
        revision,
    };
    operations.run(call, || {
        let read = client.call(get)?;
        Ok(Answer {
            revision: read.header().revision.get(),
            kvs: kvs(read.kvs()),
            ..Answer::default()
        })
    })
}

/// The range of recorded keys.
pub fn range(keys: &Keys) -> KeyRange {
    match keys.end.as_str() {
        "" => KeyRange::key(keys.key.clone()),
        end => KeyRange::range(keys.key.clone(), end.to_owned()),
    }
}

/// Puts a key, and records it.
pub fn put(
    operations: &mut Operations,
    client: &Client,
    key: &str,
    value: String,
) -> Option<Answer> {
    let (key, put) = (key.to_owned(), Put::new(key.to_owned(), value.clone()));
    operations.run(Call::Put { key, value }, || {
        let put = client.call(put)?;
        Ok(Answer {
            revision: put.revision().get(),
            ..Answer::default()
        })
    })
}

/// Deletes a key, and records it.
pub fn delete(operations: &mut Operations, client: &Client, key: &str) -> Option<Answer> {
    let key = key.to_owned();
    let delete = Delete::key(key.clone()).prev_kv();
    operations.run(Call::Delete { key }, || {
        let deleted = client.call(delete)?;
        Ok(Answer {
            revision: deleted.revision().get(),
            deleted: deleted.deleted(),
            kvs: kvs(deleted.prev_kvs()),
            ..Answer::default()
        })
    })
}

/// Replaces a value that was read, and another one without a condition.
fn replace(
    operations: &mut Operations,
    client: &Client,
    key: &str,
    known: Option<Kv>,
    other: &str,
    value: &str,
) -> Option<Answer> {
    let revision = known.as_ref().map_or(0, |kv| kv.modified);
    let guard = Guard {
        key: key.to_owned(),
        create: false,
        revision,
        value: known.map(|kv| kv.value),
    };
    let then = [key, other].map(|key| Change {
        key: key.to_owned(),
        value: Some(value.to_owned()),
    });
    let unchanged = Compare::mod_revision(key.to_owned()).eq(Revision::new(revision));
    transact(
        operations,
        client,
        vec![unchanged],
        vec![guard],
        then.into(),
    )
}

/// Runs a transaction, and records it. When it is refused, it reads the keys of the guards.
pub fn transact(
    operations: &mut Operations,
    client: &Client,
    conditions: Vec<Compare>,
    when: Vec<Guard>,
    then: Vec<Change>,
) -> Option<Answer> {
    let ops = then.iter().map(|change| match &change.value {
        Some(value) => TxnOp::from(Put::new(change.key.clone(), value.clone())),
        None => TxnOp::from(Delete::key(change.key.clone())),
    });
    let reads = when.iter().map(|guard| Get::key(guard.key.clone()));
    let txn = Txn::when(conditions).then(ops).or_else(reads);
    operations.run(Call::Txn { when, then }, || {
        client.txn(txn).map(|done| answered(&done))
    })
}

fn answered(done: &TxnResponse) -> Answer {
    let reads = (0..done.responses().len()).filter_map(|n| done.get(n));
    Answer {
        revision: done.revision().get(),
        succeeded: done.succeeded(),
        kvs: reads.flat_map(|read| kvs(read.kvs())).collect(),
        deleted: 0,
    }
}
