//! Learns the endpoints of a cluster from its member list.
//!
//! The list is not trusted completely: the configured endpoints are always kept, and a client that uses
//! https never connects to an http endpoint from the list.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::member::Member;
use super::member_list::MemberList;
use crate::error::Result;
use crate::grpc::Transport;
use crate::grpc::connect::endpoint::{Address, Endpoint};
use crate::rpc::request;

/// The time limit of a background read of the member list: that of clientv3.
const SYNC_WITHIN: Duration = Duration::from_secs(5);

/// Reads the members, and adds their endpoints to the configured ones.
pub(crate) async fn sync(transport: Arc<Transport>, timeout: Duration) -> Result<()> {
    let listing = request::counted(MemberList::new(), Arc::clone(&transport), timeout);
    let members = listing.await?.into_members();
    let found = endpoints_of(&members, transport.is_secure());
    transport.learn(found);
    Ok(())
}

/// Syncs at once and then at every interval, until the client has ended.
pub(crate) async fn keep_in_sync(transport: Weak<Transport>, interval: Duration) {
    loop {
        {
            // The client is closed.
            let Some(transport) = transport.upgrade() else {
                return;
            };
            // After a failure the endpoints are unchanged until the next sync.
            let _ = sync(transport, SYNC_WITHIN).await;
        }
        tokio::time::sleep(interval).await;
    }
}

/// The endpoints of the members that have started and are not learners.
fn endpoints_of(members: &[Member], secure: bool) -> Vec<Endpoint> {
    // A member without a name has not started, and a learner serves few requests.
    let serving = members.iter().filter(|m| m.is_started() && !m.is_learner());
    let urls = serving.flat_map(Member::client_urls);
    // URLs that this client cannot parse are skipped.
    let parsed = urls.filter_map(|url| Endpoint::parse(url, false).ok());
    parsed
        .filter(|endpoint| endpoint.secure == secure && is_specific(endpoint))
        .collect()
}

/// Whether it is not the unspecified address, which would connect to this machine.
fn is_specific(endpoint: &Endpoint) -> bool {
    let Address::Tcp { host, .. } = &endpoint.address else {
        return true;
    };
    !host
        .parse::<std::net::IpAddr>()
        // `0.0.0.0` is advertised by mistake, and would reach this machine.
        .is_ok_and(|ip| ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::etcd_rs_proto::etcdserverpb::Member as Pb;

    fn member(name: &str, learner: bool, urls: &[&str]) -> Member {
        Member::from(Pb {
            name: name.into(),
            client_ur_ls: urls.iter().map(ToString::to_string).collect(),
            is_learner: learner,
            ..Pb::default()
        })
    }

    fn found(members: &[Member], secure: bool) -> Vec<String> {
        let endpoints = endpoints_of(members, secure);
        endpoints.iter().map(|e| e.text.to_string()).collect()
    }

    // Case: C-09
    #[test]
    fn only_members_that_started_and_vote_have_endpoints() {
        let members = [
            member("a", false, &["http://a:1", "http://a:2"]),
            member("", false, &["http://unstarted:1"]),
            member("b", true, &["http://learner:1"]),
            member("c", false, &["http://c:1"]),
        ];
        assert_eq!(
            found(&members, false),
            ["http://a:1", "http://a:2", "http://c:1"]
        );
    }

    #[test]
    fn https_and_http_are_never_mixed() {
        let members = [
            member("a", false, &["http://a:1", "https://a:2"]),
            member("b", false, &["http://b:1", "unix:/b"]),
        ];
        assert_eq!(found(&members, true), ["https://a:2"]);
        assert_eq!(
            found(&members, false),
            ["http://a:1", "http://b:1", "unix:/b"]
        );
    }

    #[test]
    fn unusable_urls_are_skipped() {
        let urls = [
            "http://0.0.0.0:1",
            "http://[::]:1",
            "ftp://a:1",
            "malformed",
        ];
        assert_eq!(found(&[member("a", false, &urls)], false), [""; 0]);
    }
}
