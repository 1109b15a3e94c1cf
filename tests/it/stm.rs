//! Software transactional memory.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use etcd_blocking::bytes::Bytes;
use etcd_blocking::concurrency::{Isolation, Stm};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Error, ErrorKind, Put, Txn};

use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::{Raise, eventually};

const SOON: Duration = Duration::from_secs(20);

const COMPARING: [Isolation; 3] = [
    Isolation::SerializableSnapshot,
    Isolation::Serializable,
    Isolation::RepeatableReads,
];

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

fn number(value: Option<Bytes>) -> i64 {
    value.map_or(0, |value| {
        std::str::from_utf8(&value).unwrap().parse().unwrap()
    })
}

// Case: T-01
#[test]
fn concurrent_transfers_preserve_the_sum_at_every_serializable_level() {
    let (_etcd, client) = start();
    for level in COMPARING {
        for account in 0..5 {
            client.put(format!("acc/{account}"), "100").unwrap();
        }
        thread::scope(|scope| {
            for worker in 0..6u64 {
                let client = client.clone();
                scope.spawn(move || {
                    let mut random = fastrand(worker);
                    for _ in 0..15 {
                        let (from, to) = (random() % 5, random() % 5);
                        let stm = Stm::new(&client).isolation(level).max_retries(1000);
                        stm.run(|tx| {
                            let (from, to) = (format!("acc/{from}"), format!("acc/{to}"));
                            let have = number(tx.get(from.clone())?);
                            tx.put(from, (have - 7).to_string());
                            let has = number(tx.get(to.clone())?);
                            tx.put(to, (has + 7).to_string());
                            Ok(())
                        })
                        .unwrap();
                    }
                });
            }
        });
        let all = client.get_prefix("acc/").unwrap();
        let sum: i64 = all.iter().map(|kv| number(Some(kv.value().clone()))).sum();
        assert_eq!(sum, 500, "{level:?}");
    }
}

fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed + 1;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

// Case: T-02
#[test]
fn a_function_that_returns_an_error_writes_nothing() {
    #[derive(Debug)]
    enum Refused {
        Mine,
        Etcd,
    }
    impl From<Error> for Refused {
        fn from(_: Error) -> Self {
            Refused::Etcd
        }
    }
    let (_etcd, client) = start();
    let refused = Stm::new(&client).try_run(|tx| {
        tx.get("a")?;
        tx.put("a", "1");
        Err::<(), _>(Refused::Mine)
    });
    assert!(matches!(refused, Err(Refused::Mine)));
    assert!(client.get("a").unwrap().is_none());
    // A failed read has the same effect, even if the function ignores it.
    let failed = Stm::new(&client).try_run::<_, Refused>(|tx| {
        assert!(tx.get("").is_err());
        tx.put("a", "1");
        Ok(())
    });
    assert!(matches!(failed, Err(Refused::Etcd)));
    assert!(client.get("a").unwrap().is_none());
}

// Case: T-03
#[test]
fn keys_written_in_one_transaction_are_read_at_one_revision() {
    let (_etcd, client) = start();
    let keys = || (0..5).map(|n| format!("five/{n}"));
    let write = |n: u32| {
        let puts = keys().map(|key| Put::new(key, n.to_string()));
        client.txn(Txn::always(puts)).unwrap()
    };
    write(0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Raise(&stop);
        scope.spawn(|| {
            let mut n = 1;
            while !stop.load(Ordering::SeqCst) {
                write(n);
                n += 1;
            }
        });
        for level in [Isolation::SerializableSnapshot, Isolation::Serializable] {
            for _ in 0..50 {
                let read = Stm::new(&client).isolation(level).run(|tx| {
                    let mut seen = BTreeSet::new();
                    for key in keys() {
                        seen.insert(tx.get(key)?);
                    }
                    // Even in an attempt whose commit fails.
                    assert_eq!(seen.len(), 1);
                    Ok(())
                });
                let read = read.unwrap();
                assert!(read.response().is_none() && read.attempts() == 1);
            }
        }
        for _ in 0..20 {
            let prefetched = Stm::new(&client)
                .prefetch(keys())
                .run(|tx| tx.get_all(keys()));
            let values: BTreeSet<_> = prefetched.unwrap().into_value().into_iter().collect();
            assert_eq!(values.len(), 1);
        }
    });
}

// Case: T-04
#[test]
fn a_concurrent_deletion_causes_exactly_one_retry() {
    let (_etcd, client) = start();
    for level in COMPARING {
        client.put("foo", "bar").unwrap();
        let mut seen = Vec::new();
        let done = Stm::new(&client).isolation(level).run(|tx| {
            seen.push(tx.get("foo")?);
            if tx.attempt() == 1 {
                client.delete("foo")?;
            }
            tx.put("foo2", "bar2");
            Ok(())
        });
        assert_eq!(done.unwrap().attempts(), 2, "{level:?}");
        assert_eq!(seen, [Some("bar".into()), None], "{level:?}");
        assert_eq!(client.get("foo2").unwrap().unwrap().value(), "bar2");
    }
}

// Case: T-05
#[test]
fn snapshot_isolation_writes_an_unchanged_key_without_a_retry() {
    let (_etcd, client) = start();
    client.put("b", "old").unwrap();
    client.put("a", "0").unwrap();
    for version in 2..4 {
        let done = Stm::new(&client).run(|tx| {
            tx.get("a")?;
            tx.put("b", "1");
            Ok(())
        });
        let done = done.unwrap();
        assert_eq!(done.attempts(), 1);
        let b = client.get("b").unwrap().unwrap();
        assert_eq!((b.version(), b.mod_revision()), (version, done.revision()));
    }
}

#[test]
fn snapshot_isolation_conflicts_on_a_key_that_is_only_written() {
    let (_etcd, client) = start();
    let attempts = |level| {
        let done = Stm::new(&client).isolation(level).run(|tx| {
            tx.get("a")?;
            if tx.attempt() == 1 {
                client.put("b", "theirs")?;
            }
            tx.put("b", "mine");
            Ok(())
        });
        done.unwrap().attempts()
    };
    assert_eq!(attempts(Isolation::SerializableSnapshot), 2);
    assert_eq!(attempts(Isolation::Serializable), 1);
    assert_eq!(attempts(Isolation::RepeatableReads), 1);
    assert_eq!(attempts(Isolation::ReadCommitted), 1);
}

#[test]
fn a_transaction_reads_its_own_writes_and_the_last_write_counts() {
    let (_etcd, client) = start();
    let lease = client.grant(Duration::from_secs(60)).unwrap().id();
    client.put("gone", "x").unwrap();
    client.put("kept", "before").unwrap();
    let done = Stm::new(&client).run(|tx| {
        tx.put("k", "1");
        tx.delete("k");
        assert_eq!(tx.get("k")?, None);
        tx.put("k", "2");
        assert_eq!(tx.get("k")?, Some("2".into()));
        tx.delete("gone");
        tx.put_on_lease("leased", "v", lease);
        tx.put("kept", "after");
        assert_eq!(tx.stored("kept")?.unwrap().value(), "before");
        Ok("value")
    });
    let done = done.unwrap();
    assert_eq!(*done.value(), "value");
    assert!(client.get("gone").unwrap().is_none());
    let k = client.get("k").unwrap().unwrap();
    assert_eq!(
        (k.value_str(), k.mod_revision()),
        (Some("2"), done.revision())
    );
    assert_eq!(client.get("leased").unwrap().unwrap().lease(), Some(lease));
}

#[test]
fn the_error_after_the_last_retry_names_the_keys_and_the_attempts() {
    let (_etcd, client) = start();
    let runs = AtomicU32::new(0);
    let conflict = Stm::new(&client).max_retries(3).run(|tx| {
        runs.fetch_add(1, Ordering::SeqCst);
        tx.get("hot")?;
        tx.get("cold")?;
        client.put("hot", "again")?;
        tx.put("mine", "never");
        Ok(())
    });
    let error = conflict.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Conflict, 4));
    assert_eq!(runs.load(Ordering::SeqCst), 4);
    let text = error.to_string();
    assert!(
        text.starts_with("stm: ") && text.contains("\"hot\"") && !text.contains("cold"),
        "{text}"
    );
    assert!(!error.outcome_unknown() && client.get("mine").unwrap().is_none());
}

#[test]
fn a_commit_depends_on_as_many_keys_as_the_server_can_compare() {
    let (_etcd, client) = start();
    let keys: Vec<String> = (0..128).map(|n| format!("many/{n:03}")).collect();
    for disturbed in [0, 127] {
        let done = Stm::new(&client).prefetch(keys.clone()).run(|tx| {
            let values = tx.get_all(keys.clone())?;
            if tx.attempt() == 1 {
                client.put(keys[disturbed].clone(), "1000")?;
            }
            for (key, value) in keys.iter().zip(values) {
                tx.put(key.clone(), (number(value) + 1).to_string());
            }
            Ok(())
        });
        let done = done.unwrap();
        assert_eq!(done.attempts(), 2, "{disturbed}");
        let all = client.get_prefix("many/").unwrap();
        assert!(all.len() == 128 && all.iter().all(|kv| kv.mod_revision() == done.revision()));
        assert_eq!(all[disturbed].value(), "1001");
    }
}

#[test]
fn more_keys_than_max_txn_ops_are_read_and_written_at_one_revision() {
    let (_etcd, client) = start();
    let keys: Vec<String> = (0..5000).map(|n| format!("many/{n:04}")).collect();
    let written = Stm::new(&client).run(|tx| {
        for key in &keys {
            tx.put(key.clone(), "1");
        }
        Ok(())
    });
    let revision = written.unwrap().revision();
    let read = Stm::new(&client)
        .run(|tx| tx.get_all(keys.clone()))
        .unwrap();
    assert_eq!(read.revision(), revision);
    assert!(
        read.value()
            .iter()
            .all(|value| value.as_deref() == Some(b"1"))
    );
    let too_many = Stm::new(&client).run(|tx| {
        tx.get_all(keys.iter().take(129).cloned())?;
        tx.put("k", "v");
        Ok(())
    });
    let error = too_many.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn a_compaction_between_two_reads_counts_as_a_conflict() {
    let (_etcd, client) = start();
    client.put("a", "1").unwrap();
    client.put("b", "1").unwrap();
    let done = Stm::new(&client).run(|tx| {
        let a = tx.get("a")?;
        if tx.attempt() == 1 {
            let last = client.put("b", "2")?.revision();
            client.compact(last)?;
        }
        Ok((a, tx.get("b")?))
    });
    let done = done.unwrap();
    assert_eq!(
        (done.attempts(), done.value()),
        (2, &(Some("1".into()), Some("2".into())))
    );
}

#[test]
fn a_commit_whose_answer_is_lost_is_reported_and_not_run_again() {
    let (etcd, direct) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .timeout(Duration::from_millis(800))
        .connect()
        .unwrap();
    let mut runs = 0;
    let lost = Stm::new(&client).run(|tx| {
        runs += 1;
        let n = number(tx.get("counter")?);
        tx.put("counter", (n + 1).to_string());
        proxy.hold(Dir::Down, true);
        Ok(())
    });
    let error = lost.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert!(error.to_string().starts_with("stm commit: "), "{error}");
    assert_eq!(runs, 1);
    proxy.hold(Dir::Down, false);
    eventually(SOON, "it was executed, once", || {
        let counter = direct.get("counter").unwrap()?;
        (counter.version() == 1 && counter.value() == "1").then_some(())
    });
}

// Fault: W11
#[test]
fn operations_over_the_limit_are_nested_and_guards_over_it_are_refused() {
    let etcd = LocalEtcd::builder()
        .arg("--max-txn-ops=16")
        .start()
        .unwrap();
    let builder = Client::builder([etcd.endpoint()]).max_txn_ops(16);
    let client = builder.connect().unwrap();
    let keys: Vec<String> = (0..40).map(|n| format!("many/{n:02}")).collect();
    let stm = Stm::new(&client);
    let written = stm.run(|tx| {
        keys.iter().for_each(|key| tx.put(key.clone(), "1"));
        Ok(())
    });
    let revision = written.unwrap().revision();
    let read = stm.run(|tx| tx.get_all(keys.clone())).unwrap();
    assert_eq!((read.revision(), read.value().len()), (revision, 40));
    // More keys than one transaction of this limit can hold, at one revision.
    let more: Vec<String> = (0..600).map(|n| format!("none/{n}")).collect();
    let all = stm.run(|tx| tx.get_all(more.iter().chain(&keys).cloned()));
    let all = all.unwrap().into_value();
    assert_eq!(all.iter().flatten().count(), 40);
    // A few guards and many writes.
    let moved = stm.clone().isolation(Isolation::Serializable).run(|tx| {
        let first = number(tx.get("many/00")?);
        for key in &keys {
            tx.put(key.clone(), (first + 1).to_string());
        }
        Ok(())
    });
    assert!(moved.unwrap().revision() > revision);
    let refused = Stm::new(&client).run(|tx| {
        tx.get_all(keys.clone())?;
        tx.put("k", "v");
        Ok(())
    });
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    let text = refused.to_string();
    assert!(
        text.contains("--max-txn-ops") && text.contains("ClientBuilder::max_txn_ops"),
        "{text}"
    );
    assert!(client.get("k").unwrap().is_none());
}
