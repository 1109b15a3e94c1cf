//! Instances that programs of other libraries registered, as a view sees them.

use etcd_blocking::{Cause, codec};

use super::*;

/// A peer that registers.
struct Theirs {
    peer: Peer,
    /// The key of an instance of `web` whose value is malformed.
    malformed: &'static str,
    /// Whether leaving deletes the key. Otherwise it revokes the lease.
    deletes: bool,
}

impl Theirs {
    /// An instance registers, updates itself and leaves; another one crashes meanwhile.
    fn come_and_go(self, codec: impl Codec + 'static, updated: (&str, fn(&Instance) -> bool)) {
        let Some(program) = self.peer.program() else {
            return;
        };
        let etcd = LocalEtcd::start().unwrap();
        let client = client(&etcd);
        let view = discovery(&client, codec).service("web").unwrap();
        let register = |addr, ttl| {
            let args = ["register", "web", addr, ttl];
            Running::start(&program, &etcd, &args)
        };
        let added = |change: &Change, addr: &str| {
            matches!(change, Change::Added(added) if added.addr == addr).then_some(())
        };

        let mut first = register("127.0.1.1:8080", "60");
        first.says("registered");
        until(&view, "the first", |c| added(c, "127.0.1.1:8080"));

        // Malformed values hide nothing.
        client.put(self.malformed, "{\"secret\":").unwrap();
        let reason = until(&view, "the malformed value", |change| match change {
            Change::Bad { key, reason } if *key == self.malformed => Some(reason.clone()),
            _ => None,
        });
        assert!(!reason.contains("secret"));
        assert_eq!(addrs(&view), ["127.0.1.1:8080"]);

        let (text, is_updated) = updated;
        first.tell(&format!("update {text}"));
        first.says("updated");
        until(&view, "the update", |change| match change {
            Change::Updated { instance, .. } => is_updated(instance).then_some(()),
            Change::Added(instance) => is_updated(instance).then_some(()),
            _ => None,
        });

        let second = register("127.0.1.2:8080", "2");
        second.says("registered");
        until(&view, "the second", |c| added(c, "127.0.1.2:8080"));
        second.kill();
        let gone = |change: &Change, addr: &str| {
            let mut causes = change.causes();
            let gone = causes.find(|(gone, _)| gone.addr == addr);
            gone.map(|(_, cause)| cause)
        };
        let cause = until(&view, "the crash", |c| gone(c, "127.0.1.2:8080"));
        assert_eq!(cause, Cause::Expired);

        let addr = view.snapshot()[0].addr.clone();
        first.tell("leave");
        first.says("left");
        let cause = until(&view, "the leaving", |c| gone(c, &addr));
        if self.deletes {
            assert_eq!(cause, Cause::Left);
        }
        assert!(view.snapshot().is_empty());
    }
}

#[test]
fn a_view_follows_the_endpoints_of_clientv3() {
    let theirs = Theirs {
        peer: Peer::GoNaming,
        malformed: "web/malformed",
        deletes: true,
    };
    theirs.come_and_go(codec::GoNaming, ("v2", |web| web.version == "v2"));
}

#[test]
fn a_view_follows_the_publishers_of_go_zero() {
    let theirs = Theirs {
        peer: Peer::GoZero,
        malformed: "web/malformed",
        deletes: false,
    };
    let moved = |web: &Instance| web.addr == "127.0.1.3:8080";
    theirs.come_and_go(codec::GoZero, ("127.0.1.3:8080", moved));
}

#[test]
fn a_view_follows_the_instances_of_kratos() {
    let theirs = Theirs {
        peer: Peer::Kratos,
        malformed: "/microservices/web/malformed",
        deletes: true,
    };
    let updated = |web: &Instance| {
        let properties = (web.version.as_str(), web.weight, web.zone.as_str());
        properties == ("v2", 40, "eu") && web.meta["team"] == "core" && web.endpoints.len() == 2
    };
    theirs.come_and_go(codec::Kratos, ("v2", updated));
}
