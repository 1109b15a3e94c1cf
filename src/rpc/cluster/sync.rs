//! Learning the endpoints of a cluster from its member list.
//!
//! What a server says about where to connect is taken with care: the configured endpoints stay,
//! whatever it says, and a client that uses https never follows it to http.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::list::MemberList;
use super::member::Member;
use crate::error::Result;
use crate::grpc::Transport;
use crate::grpc::connect::endpoint::{Address, Endpoint};
use crate::rpc::request;

/// How long one look at the member list may take in the background: clientv3's number.
const SYNC_WITHIN: Duration = Duration::from_secs(5);

/// Asks for the members, and adds the endpoints that they have to the configured ones.
pub(crate) async fn sync(transport: Arc<Transport>, timeout: Duration) -> Result<()> {
    let listing = request::counted(MemberList::new(), Arc::clone(&transport), timeout);
    let members = listing.await?.into_members();
    let found = endpoints_of(&members, transport.is_secure());
    transport.learn(found);
    Ok(())
}

/// Does so at once and then again and again, for as long as the client lives.
pub(crate) async fn keep_in_sync(transport: Weak<Transport>, interval: Duration) {
    loop {
        {
            let Some(transport) = transport.upgrade() else {
                return;
            };
            // Next time, then; until then the endpoints are what they were.
            let _ = sync(transport, SYNC_WITHIN).await;
        }
        tokio::time::sleep(interval).await;
    }
}

/// The endpoints of members that have started and serve everything.
fn endpoints_of(members: &[Member], secure: bool) -> Vec<Endpoint> {
    let serving = members.iter().filter(|m| m.is_started() && !m.is_learner());
    let urls = serving.flat_map(Member::client_urls);
    // One that this client cannot use is the others' business.
    let parsed = urls.filter_map(|url| Endpoint::parse(url, false).ok());
    parsed
        .filter(|endpoint| endpoint.secure == secure && leads_somewhere(endpoint))
        .collect()
}

/// Not the address that means "all of mine": connecting to it would reach this machine.
fn leads_somewhere(endpoint: &Endpoint) -> bool {
    let Address::Tcp { host, .. } = &endpoint.address else {
        return true;
    };
    !host
        .parse::<std::net::IpAddr>()
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
    fn https_is_never_left_and_never_mixed() {
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
    fn what_leads_nowhere_is_left_out() {
        let urls = [
            "http://0.0.0.0:1",
            "http://[::]:1",
            "ftp://a:1",
            "malformed",
        ];
        assert_eq!(found(&[member("a", false, &urls)], false), [""; 0]);
    }
}
