//! Transactions on a real etcd. Names in brackets are cases of etcd's own test-suite.

use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{
    Client, Compare, Delete, ErrorKind, Get, KeyRange, LeaseId, Op, OpResponse, Put, Revision, Txn,
};

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

#[track_caller]
fn refused(client: &Client, txn: Txn) -> ErrorKind {
    let error = client.txn(txn).unwrap_err();
    assert!(
        !error.outcome_unknown() && error.to_string().starts_with("txn"),
        "{error}"
    );
    error.kind()
}

/// Whether a guard holds.
fn holds(client: &Client, guard: Compare) -> bool {
    client
        .txn(
            Txn::when([guard])
                .then([Get::key("k")])
                .or_else([Get::key("k")]),
        )
        .unwrap()
        .succeeded()
}

#[test]
fn the_limits_of_the_server_are_named() {
    // TXN-02
    let (_etcd, client) = start();
    let puts = |n: usize| (0..n).map(|n| Put::new(format!("k{n}"), "v"));
    assert_eq!(
        refused(&client, Txn::always(puts(129))),
        ErrorKind::InvalidArgument
    );
    client.txn(Txn::always(puts(128))).unwrap();
    let twice = Txn::always([Put::new("k", "1"), Put::new("k", "2")]);
    assert_eq!(refused(&client, twice), ErrorKind::InvalidArgument);
    let guards = (0..129).map(|n| Compare::version(format!("k{n}")).eq(1));
    assert_eq!(
        refused(&client, Txn::when(guards)),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        refused(&client, Txn::when([Compare::version("").eq(0)])),
        ErrorKind::InvalidArgument
    );
}

#[test]
fn an_empty_transaction_is_one() {
    let (_etcd, client) = start();
    let empty = client.txn(Txn::default()).unwrap();
    assert!(empty.succeeded() && empty.responses().is_empty());
}

#[test]
fn every_target_compares_in_every_way() {
    // TXN-07: what is compared, with one value below, the value itself, and one above.
    let (_etcd, client) = start();
    let id = |n: i64| LeaseId::new(n);
    let lease = client.grant(Duration::from_secs(60)).unwrap().id();
    client.put("k", "a").unwrap();
    client.put("k", "b").unwrap();
    client.call(Put::new("k", "m").lease(lease)).unwrap();
    let kv = client.get("k").unwrap().unwrap();
    let (created, changed) = (kv.create_revision().get(), kv.mod_revision().get());
    let revision = Revision::new;
    // For each way: is it true of the value below, the same, and above what it is compared with?
    let ways = [
        ("eq", [false, true, false]),
        ("ne", [true, false, true]),
        ("gt", [true, false, false]),
        ("lt", [false, false, true]),
    ];
    macro_rules! guard {
        ($target:expr, $way:expr, $value:expr) => {
            match $way {
                "eq" => $target.eq($value),
                "ne" => $target.ne($value),
                "gt" => $target.gt($value),
                _ => $target.lt($value),
            }
        };
    }
    for (way, expected) in ways {
        for (step, expected) in [-1, 0, 1].into_iter().zip(expected) {
            let value = ["l", "m", "n"][usize::try_from(step + 1).unwrap()];
            let guards = [
                guard!(Compare::version("k"), way, 3 + step),
                guard!(Compare::create_revision("k"), way, revision(created + step)),
                guard!(Compare::mod_revision("k"), way, revision(changed + step)),
                guard!(Compare::value("k"), way, value),
                guard!(Compare::lease("k"), way, id(lease.get() + step)),
            ];
            for guard in guards {
                let shown = format!("{guard:?} {step}");
                assert_eq!(holds(&client, guard), expected, "{shown}");
            }
        }
    }
    assert!(holds(&client, Compare::lease("absent").eq(None)));
}

#[test]
fn both_branches_run_as_the_guards_say() {
    let (_etcd, client) = start();
    let claim = |who: &'static str| {
        Txn::when([Compare::version("job").eq(0)])
            .then([Put::new("job", who)])
            .or_else([Get::key("job")])
    };
    let first = client.txn(claim("me")).unwrap();
    assert!(first.succeeded());
    assert!(matches!(first.responses(), [OpResponse::Put(_)]));
    let second = client.txn(claim("you")).unwrap();
    assert!(!second.succeeded());
    assert_eq!(second.get(0).unwrap().first().unwrap().value(), "me");
    assert!(second.get(1).is_none() && first.get(0).is_none());
    let all = Txn::when([
        Compare::version("job").eq(1),
        Compare::value("job").eq("you"),
    ]);
    assert!(
        !client.txn(all).unwrap().succeeded(),
        "every guard must hold"
    );
}

#[test]
fn a_range_is_compared_key_by_key() {
    // TXN-05
    let (_etcd, client) = start();
    let created = client
        .txn(Txn::always([Put::new("r/a", "x"), Put::new("r/b", "x")]))
        .unwrap()
        .revision();
    let range = || KeyRange::prefix("r/");
    assert!(holds(
        &client,
        Compare::create_revision(range()).eq(created)
    ));
    assert!(holds(&client, Compare::value(range()).eq("x")));
    client.put("r/c", "x").unwrap();
    assert!(!holds(
        &client,
        Compare::create_revision(range()).eq(created)
    ));
    assert!(holds(&client, Compare::value(range()).eq("x")));
    // A range without keys counts as one key that does not exist.
    let empty = || KeyRange::prefix("none/");
    assert!(holds(&client, Compare::version(empty()).eq(0)));
    assert!(!holds(&client, Compare::version(empty()).gt(0)));
}

#[test]
fn a_value_that_does_not_exist_compares_to_nothing() {
    // TXN-09
    let (_etcd, client) = start();
    for guard in [
        Compare::value("absent").eq(""),
        Compare::value("absent").ne("x"),
        Compare::value("absent").lt("x"),
        Compare::value("absent").gt(""),
    ] {
        assert!(!holds(&client, guard));
    }
}

#[test]
fn all_writes_share_one_revision_and_reads_make_none() {
    // TXN-08
    let (_etcd, client) = start();
    client.put("gone", "v").unwrap();
    let txn = client
        .txn(Txn::always([
            Op::from(Put::new("a", "1")),
            Put::new("b", "2").prev_kv().into(),
            Delete::key("gone").prev_kv().into(),
            Get::key("a").into(),
        ]))
        .unwrap();
    let [
        OpResponse::Put(a),
        OpResponse::Put(b),
        OpResponse::Delete(gone),
        OpResponse::Get(read),
    ] = txn.responses()
    else {
        panic!("{txn:?}");
    };
    assert_eq!(
        (a.revision(), b.revision(), gone.revision()),
        (txn.revision(), txn.revision(), txn.revision())
    );
    assert_eq!(
        (gone.deleted(), gone.prev_kvs()[0].value_str()),
        (1, Some("v"))
    );
    assert_eq!(
        read.first().unwrap().value(),
        "1",
        "it sees what was written before it"
    );
    assert_eq!(
        client.get("b").unwrap().unwrap().mod_revision(),
        txn.revision()
    );
    let read = client.txn(Txn::always([Get::key("a")])).unwrap();
    assert_eq!(read.revision(), txn.revision());
    assert_ne!(txn.header().member_id.get(), 0);
}

#[test]
fn transactions_nest() {
    // TXN-06
    let (_etcd, client) = start();
    let inner = Txn::when([Compare::version("a").eq(1)])
        .then([
            Op::from(Put::new("inner", "then")),
            Get::key("inner").into(),
        ])
        .or_else([Put::new("inner", "else")]);
    let txn = client
        .txn(Txn::always([Op::from(Put::new("a", "1")), inner.into()]))
        .unwrap();
    let [OpResponse::Put(_), OpResponse::Txn(inner)] = txn.responses() else {
        panic!("{txn:?}");
    };
    // The guards of all levels are evaluated before anything is written.
    assert!(!inner.succeeded());
    assert_eq!(client.get("inner").unwrap().unwrap().value(), "else");
    let again = Txn::when([Compare::version("a").eq(1)]).then([
        Op::from(Put::new("inner", "then")),
        Get::key("inner").into(),
    ]);
    let txn = client.txn(Txn::always([again])).unwrap();
    let [OpResponse::Txn(inner)] = txn.responses() else {
        panic!("{txn:?}");
    };
    assert!(inner.succeeded());
    assert_eq!(inner.get(1).unwrap().first().unwrap().value(), "then");
    assert_eq!(inner.revision(), txn.revision());
}
