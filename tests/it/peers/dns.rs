//! CoreDNS on the same etcd: real queries for instances of ours, and its records in a view.

use etcd_blocking::{ErrorKind, codec};

use super::*;
use crate::examples;
use crate::support::wait::eventually;

pub(super) const ZONE: &str = "/skydns/local/cluster/";

/// A running CoreDNS for the zone `cluster.local`.
pub(super) struct CoreDns(Running);

impl CoreDns {
    pub(super) fn start(etcd: &LocalEtcd) -> Option<Self> {
        let program = Peer::CoreDns.program()?;
        let running = Running::start(&program, etcd, &["cluster.local."]);
        running.says("serving");
        Some(CoreDns(running))
    }

    /// The code of the response and its records.
    pub(super) fn ask(&mut self, question: &str) -> String {
        self.0.tell(question);
        self.0.line(|_| true)
    }

    /// Asks until this is the answer.
    #[track_caller]
    pub(super) fn answers(&mut self, question: &str, answer: &str) {
        let mut last = String::new();
        eventually(SOON, &format!("{question}: {answer}"), || {
            last = self.ask(question);
            (last == answer).then_some(())
        });
    }
}

#[test]
fn coredns_answers_for_our_instances_until_they_are_gone() {
    let etcd = LocalEtcd::start().unwrap();
    let Some(mut dns) = CoreDns::start(&etcd) else {
        return;
    };
    let client = client(&etcd);
    let registrar = Registrar::builder(&client)
        .codec(codec::SkyDns)
        .prefix(ZONE);
    let registrar = registrar.start().unwrap();
    dns.answers("A web.cluster.local", "NXDOMAIN; ");

    let first = Instance::new("web", "127.0.1.1:8080").weight(3);
    let first = registrar.register(first).unwrap();
    // CoreDNS reads etcd for each question, so the first answer has it.
    assert_eq!(
        dns.ask("A web.cluster.local"),
        "NOERROR; A web.cluster.local. 127.0.1.1"
    );
    assert_eq!(
        dns.ask("SRV web.cluster.local"),
        "NOERROR; A 127-0-1-1-8080.web.cluster.local. 127.0.1.1; \
         SRV 127-0-1-1-8080.web.cluster.local. 8080 100"
    );
    let v6 = Instance::new("web", "[2001:db8::1]:80").id("v6");
    let v6 = registrar.register(v6).unwrap();
    assert_eq!(
        dns.ask("AAAA web.cluster.local"),
        "NOERROR; AAAA web.cluster.local. 2001:db8::1"
    );
    // The weights are shares of 100.
    assert_eq!(
        dns.ask("SRV web.cluster.local"),
        "NOERROR; A 127-0-1-1-8080.web.cluster.local. 127.0.1.1; \
         AAAA v6.web.cluster.local. 2001:db8::1; \
         SRV 127-0-1-1-8080.web.cluster.local. 8080 75; SRV v6.web.cluster.local. 80 25"
    );
    v6.leave().unwrap();
    let crashing = examples::register_with(&etcd, "skydns", "127.0.1.2:8080", &["--prefix", ZONE]);
    dns.answers(
        "A web.cluster.local",
        "NOERROR; A web.cluster.local. 127.0.1.1; A web.cluster.local. 127.0.1.2",
    );
    crashing.kill();
    dns.answers(
        "A web.cluster.local",
        "NOERROR; A web.cluster.local. 127.0.1.1",
    );
    first.leave().unwrap();
    assert_eq!(dns.ask("A web.cluster.local"), "NXDOMAIN; ");
    assert_eq!(dns.ask("SRV web.cluster.local"), "NXDOMAIN; ");
}

#[test]
fn a_record_that_breaks_a_zone_is_reported_and_hides_nothing() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let view = discovery(&client, codec::SkyDns).prefix(ZONE);
    let view = view.service("web").unwrap();
    let valid = r#"{"host":"127.0.1.1","port":8080,"priority":10}"#;
    client.put(format!("{ZONE}web/x1"), valid).unwrap();
    let added = until(&view, "the record", |change| match change {
        Change::Added(added) => Some(added.clone()),
        _ => None,
    });
    assert_eq!((added.id.as_str(), added.weight), ("x1", 100));
    // A record for A queries only is no fault.
    client
        .put(format!("{ZONE}web/x2"), r#"{"host":"127.0.1.2"}"#)
        .unwrap();
    let malformed = format!("{ZONE}web/eu/x3");
    client
        .put(&malformed, r#"{"host":"127.0.1.3","port":"80"}"#)
        .unwrap();
    until(&view, "the malformed record", |change| match change {
        Change::Bad { key, reason } if *key == malformed => Some(reason.clone()),
        Change::Bad { key, reason } => panic!("{key:?}: {reason}"),
        _ => None,
    });
    assert_eq!(addrs(&view), ["127.0.1.1:8080"]);
    if let Some(mut dns) = CoreDns::start(&etcd) {
        assert_eq!(dns.ask("A web.cluster.local"), "SERVFAIL; ");
        client.delete(&malformed).unwrap();
        dns.answers(
            "A web.cluster.local",
            "NOERROR; A web.cluster.local. 127.0.1.1; A web.cluster.local. 127.0.1.2",
        );
    }
}

#[test]
fn a_name_that_would_break_a_zone_is_an_error_of_register_in_any_position() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = Registrar::builder(&client)
        .add_codec(codec::SkyDns)
        .prefix(ZONE);
    let registrar = registrar.start().unwrap();
    for (service, addr, reason) in [
        ("Web", "127.0.1.1:80", "lower-case"),
        ("dns", "127.0.1.1:80", "meaning of its own"),
        (
            "web",
            "127.0.1.256:80",
            "neither an IP address nor a DNS name",
        ),
    ] {
        let error = registrar
            .register(Instance::new(service, addr))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(client.get_prefix("").unwrap().len(), 0);
}
