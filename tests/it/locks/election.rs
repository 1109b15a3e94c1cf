//! Elections: one leader, observers, and succession.

use std::thread;

use etcd_blocking::concurrency::{Election, Observer};
use etcd_blocking::{Delete, KeyValue, Op, Txn};

use super::*;

/// The value of the next leader that is reported.
#[track_caller]
fn next(observer: &Observer) -> Option<KeyValue> {
    observer.recv_timeout(SOON).unwrap().unwrap()
}

/// Reads leaders up to this one.
#[track_caller]
fn read_up_to(observer: &Observer, value: &str) {
    while next(observer).is_none_or(|kv| kv.value() != value) {}
}

// Case: E-01
#[test]
fn candidates_lead_in_turn_and_observers_receive_each_leader() {
    let (_etcd, client) = start();
    let watching = session(&client);
    let observers: Vec<_> = (0..3)
        .map(|_| Election::new(&watching, "vote").observe().unwrap())
        .collect();
    for observer in &observers {
        assert!(next(observer).is_none(), "there is no leader yet");
    }
    let sessions: Vec<_> = (0..3).map(|_| session(&client)).collect();
    thread::scope(|scope| {
        for (n, session) in sessions.iter().enumerate() {
            scope.spawn(move || {
                let election = Election::new(session, "vote");
                let leads = election.campaign_timeout(n.to_string(), secs(60)).unwrap();
                let leader = election.leader().unwrap().unwrap();
                assert_eq!(leader.create_revision(), leads.fencing_token());
                leads.resign().unwrap();
            });
        }
    });
    for observer in &observers {
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(next(observer));
        }
        assert!(seen.is_sorted_by_key(KeyValue::create_revision));
        let mut values: Vec<_> = seen.iter().filter_map(KeyValue::value_str).collect();
        values.sort_unstable();
        assert_eq!(values, ["0", "1", "2"]);
    }
    assert!(Election::new(&watching, "vote").leader().unwrap().is_none());
}

// Case: E-02
#[test]
fn after_the_session_of_the_leader_ends_the_next_candidate_leads() {
    let (_etcd, client) = start();
    let (first, second) = (session(&client), session(&client));
    let leads = Election::new(&first, "vote").campaign("a").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            Election::new(&second, "vote")
                .campaign_timeout("b", secs(60))
                .unwrap()
        });
        keys_become(&client, "vote/", 2);
        first.close().unwrap();
        let next = waiting.join().unwrap();
        assert!(next.fencing_token() > leads.fencing_token());
        assert_eq!(leads.check().unwrap_err().kind(), ErrorKind::Closed);
        let fenced = Txn::when([leads.is_leader()]).then([Put::new("k", "v")]);
        assert!(!client.txn(fenced).unwrap().succeeded());
        let leader = Election::new(&second, "vote").leader().unwrap().unwrap();
        assert_eq!(
            (leader.value().as_ref(), leader.key()),
            (&b"b"[..], next.key())
        );
    });
}

// Case: E-04
#[test]
fn a_key_with_a_similar_name_does_not_affect_an_election() {
    let (_etcd, client) = start();
    client.put("testa", "").unwrap();
    let session = session(&client);
    assert!(
        Election::new(&session, "test")
            .campaign_timeout("x", secs(30))
            .is_ok()
    );
}

// Case: E-05
#[test]
fn a_new_session_on_the_same_lease_continues_to_lead() {
    let (_etcd, client) = start();
    let first = session(&client);
    let (key, revision) = Election::new(&first, "vote")
        .campaign("old")
        .unwrap()
        .keep();
    first.orphan();
    let again = Session::builder(&client)
        .lease(first.lease())
        .start()
        .unwrap();
    let leads = Election::new(&again, "vote")
        .campaign_timeout("new", secs(30))
        .unwrap();
    assert_eq!((leads.key(), leads.fencing_token()), (&key, revision));
    let leader = Election::new(&again, "vote").leader().unwrap().unwrap();
    assert_eq!(
        (leader.value().as_ref(), leader.version()),
        (&b"new"[..], 2)
    );
}

// Case: E-07
#[test]
fn every_proclamation_is_observed_with_a_higher_revision() {
    let (_etcd, client) = start();
    let session = session(&client);
    let election = Election::new(&session, "vote");
    let leads = election.campaign("1").unwrap();
    let observer = election.observe().unwrap();
    let mut last = None;
    for version in 1..=3 {
        let kv = next(&observer).unwrap();
        assert_eq!(
            (kv.version(), kv.value_str()),
            (version, Some(version.to_string()).as_deref())
        );
        assert!(last < Some(kv.mod_revision()));
        last = Some(kv.mod_revision());
        if version < 3 {
            leads.proclaim((version + 1).to_string()).unwrap();
        }
    }
    drop(leads);
    assert!(next(&observer).is_none());
}

// Fault: W4
#[test]
fn deletions_of_one_transaction_cause_one_change_of_leader() {
    let (_etcd, client) = start();
    let session = session(&client);
    for name in ["a", "b", "c", "d", "e"] {
        client.put(format!("vote/{name}"), name).unwrap();
    }
    let observer = Election::new(&session, "vote").observe().unwrap();
    let leader = || next(&observer).map(|kv| kv.value_str().unwrap().to_owned());
    assert_eq!(leader().as_deref(), Some("a"));
    let first_two = ["vote/a", "vote/b"].map(Delete::key);
    client.txn(Txn::always(first_two)).unwrap();
    assert_eq!(leader().as_deref(), Some("c"));
    // All candidates but the last one leave in one transaction.
    let rest = ["vote/c", "vote/d"].map(|key| Op::from(Delete::key(key)));
    let others = [
        Put::new("vote/f", "f").into(),
        Put::new("vote/0", "0").into(),
    ];
    client
        .txn(Txn::always(rest.into_iter().chain(others)))
        .unwrap();
    assert_eq!(leader().as_deref(), Some("e"));
    client.delete("vote/e").unwrap();
    assert_eq!(
        leader().as_deref(),
        Some("0"),
        "of two at once, the first by name"
    );
}

// Case: E-08
#[test]
fn a_kept_leadership_can_be_resumed_and_a_lost_one_cannot() {
    let (_etcd, client) = start();
    let (mine, other) = (session(&client), session(&client));
    let election = Election::new(&mine, "vote");
    let (key, revision) = election.campaign("a").unwrap().keep();
    assert!(election.leader().unwrap().is_some());
    let foreign = Election::new(&other, "vote")
        .resume(key.clone(), revision)
        .unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::Conflict);
    let leads = election.resume(key.clone(), revision).unwrap();
    leads.proclaim("b").unwrap();
    assert!(leads.verify().is_ok());
    leads.resign().unwrap();
    let gone = election.resume(key, revision).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(election.leader().unwrap().is_none());
}

#[test]
fn a_former_leader_cannot_proclaim_or_resign() {
    let (_etcd, client) = start();
    let session = session(&client);
    let leads = Election::new(&session, "vote").campaign("a").unwrap();
    client.delete(leads.key().clone()).unwrap();
    assert_eq!(leads.proclaim("b").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(leads.verify().unwrap_err().kind(), ErrorKind::NotFound);
    let error = leads.resign().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().starts_with("campaign \"vote\": "),
        "{error}"
    );
}

#[test]
fn a_candidate_that_times_out_leaves_the_election() {
    let (_etcd, client) = start();
    let (first, second) = (session(&client), session(&client));
    let _leads = Election::new(&first, "vote").campaign("a").unwrap();
    let error = Election::new(&second, "vote")
        .campaign_timeout("b", Duration::from_millis(200))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(keys(&client, "vote/").len(), 1);
}

#[test]
fn an_observer_that_is_read_late_receives_the_last_leader() {
    let (_etcd, client) = start();
    let session = session(&client);
    let election = Election::new(&session, "vote");
    let observer = election.observe().unwrap();
    let leads = election.campaign("0").unwrap();
    for n in 1..=600 {
        leads.proclaim(n.to_string()).unwrap();
    }
    read_up_to(&observer, "600");
    client.close().unwrap();
    assert!(observer.recv_timeout(SOON).unwrap().is_err());
    assert!(observer.recv_timeout(SOON).is_err());
}
