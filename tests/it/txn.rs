//! Transactions.

use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{
    Client, Compare, Delete, ErrorKind, Get, KeyRange, LeaseId, Op, OpResponse, Put, Revision, Txn,
};

use crate::support::proxy::Proxy;

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

// Case: TXN-02
#[test]
fn more_operations_than_allowed_are_refused_before_anything_is_sent() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let puts = |n: usize| Txn::always((0..n).map(|n| Put::new(format!("k{n}"), "v")));
    let guards = (0..129).map(|n| Compare::exists(format!("k{n}")));
    // A nested transaction gets what the outer one leaves.
    for txn in [puts(129), Txn::when(guards), Txn::always([puts(128)])] {
        let error = client.txn(txn).unwrap_err();
        assert_eq!(
            (error.kind(), error.attempts()),
            (ErrorKind::InvalidArgument, 0)
        );
        assert!(error.to_string().contains("max_txn_ops"), "{error}");
    }
    assert_eq!(proxy.connections(), 0);
    client.txn(puts(128)).unwrap();
    client.txn(Txn::always([puts(127)])).unwrap();
}

/// The client refuses exactly the transactions that a server refuses.
#[test]
fn operations_are_counted_as_the_server_counts_them() {
    let etcd = LocalEtcd::builder().arg("--max-txn-ops=5").start().unwrap();
    let connect = |ops| {
        let builder = Client::builder([etcd.endpoint()]).max_txn_ops(ops);
        builder.connect().unwrap()
    };
    let (same, generous) = (connect(5), connect(1_000));
    let gets = |n: usize| Txn::always((0..n).map(|n| Get::key(format!("k{n}"))));
    let guards = |n: usize| (0..n).map(|n| Compare::exists(format!("k{n}")));
    let txns = [
        gets(5),
        gets(6),
        gets(3).or_else([Get::key("k"), Get::key("l")]),
        Txn::when(guards(5)),
        Txn::when(guards(6)),
        Txn::when(guards(2)).then([gets(3)]),
        Txn::when(guards(2)).then([gets(4)]),
        gets(2).then([gets(2)]),
        gets(2).then([gets(3)]),
        gets(1).or_else([gets(3), gets(4)]),
        gets(1).or_else([gets(3), gets(5)]),
        Txn::always([Txn::always([gets(3)])]),
        Txn::always([Txn::always([gets(4)])]),
    ];
    let mut refused = 0;
    for txn in txns {
        let (here, there) = (same.txn(txn.clone()), generous.txn(txn.clone()));
        assert_eq!(here.is_ok(), there.is_ok(), "{txn:?}: {here:?} {there:?}");
        if let (Err(here), Err(there)) = (here, there) {
            assert_eq!(here.kind(), there.kind());
            refused += 1;
        }
    }
    assert_eq!(refused, 7);
}

#[test]
fn compares_exists_and_missing_work_for_keys_and_ranges() {
    let (_etcd, client) = start();
    client.put("r/a", "v").unwrap();
    client.put("r/b", "").unwrap();
    assert!(holds(&client, Compare::exists("r/a")) && !holds(&client, Compare::missing("r/a")));
    assert!(holds(&client, Compare::missing("x")) && !holds(&client, Compare::exists("x")));
    let (some, none) = (KeyRange::prefix("r/"), KeyRange::prefix("x/"));
    assert!(holds(&client, Compare::exists(some.clone())));
    assert!(!holds(&client, Compare::missing(some)));
    assert!(holds(&client, Compare::missing(none)));
}

// Fault: F25
#[test]
fn transactions_over_the_limits_of_the_server_are_refused() {
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
fn an_empty_transaction_is_accepted() {
    let (_etcd, client) = start();
    let empty = client.txn(Txn::default()).unwrap();
    assert!(empty.succeeded() && empty.responses().is_empty());
}

// Case: TXN-07
#[test]
fn every_compare_target_works_with_every_operator() {
    // The target, with a value below, the value itself, and a value above.
    let (_etcd, client) = start();
    let id = |n: i64| LeaseId::new(n);
    let lease = client.grant(Duration::from_secs(60)).unwrap().id();
    client.put("k", "a").unwrap();
    client.put("k", "b").unwrap();
    client.call(Put::new("k", "m").lease(lease)).unwrap();
    let kv = client.get("k").unwrap().unwrap();
    let (created, changed) = (kv.create_revision().get(), kv.mod_revision().get());
    let revision = Revision::new;
    // For each operator: the results for the value below, the value itself, and the value above.
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
fn the_guards_select_the_branch() {
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

// Case: TXN-05
#[test]
fn a_compare_of_a_range_applies_to_each_key() {
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

// Case: TXN-09
#[test]
fn a_compare_of_the_value_of_a_missing_key_fails() {
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

// Case: TXN-08
#[test]
fn all_writes_share_one_revision_and_reads_create_none() {
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

// Case: TXN-06
#[test]
fn transactions_nest() {
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

// Fault: W7
#[test]
fn transactions_nest_as_deep_as_allowed_and_deeper_ones_are_refused_before_sending() {
    let (_etcd, client) = start();
    client.put("k", "v").unwrap();
    let nest = |depth: usize| {
        let innermost = Txn::always([Op::from(Get::key("k")), Put::new("seen", "").into()]);
        (1..depth).fold(innermost, |txn, _| Txn::always([txn]))
    };
    for client in [client.clone(), client.namespace("n/").unwrap()] {
        let answer = client.txn(nest(40)).unwrap();
        let mut innermost = &answer;
        while let [OpResponse::Txn(inner)] = innermost.responses() {
            innermost = inner;
        }
        assert!(innermost.get(0).is_some());
        assert_eq!(innermost.revision(), answer.revision());
        for depth in [41, 60, 200_000] {
            let error = client.txn(nest(depth)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert_eq!(error.attempts(), 0);
            let text = error.to_string();
            assert!(
                text.contains(&format!("{depth} deep")) && text.contains("40"),
                "{text}"
            );
        }
    }
}
