//! Cluster whose members can be isolated from each other and remain reachable for clients.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use etcd_blocking::local::LocalCluster;

use super::{proxy::Proxy, wait::status};

/// Network between the members of a [`LocalCluster`]: one proxy in front of each member's peer address.
///
/// To isolate a member, its own proxy is cut, and the connections that it dialled are cut at the proxies of
/// the others. The first alone is not enough, because a member without streams sends its messages by POST
/// over connections that it dials. The HTTP header `X-Server-From` of every Raft request (etcd 3.4 to 3.7)
/// is the member id of the dialling member, in hexadecimal.
#[derive(Debug)]
pub struct PeerLinks {
    proxies: Arc<Mutex<Vec<Proxy>>>,
    member_ids: Vec<u64>,
}

impl PeerLinks {
    /// Starts a cluster with these links between its members; `args` are extra flags for each.
    pub fn start(size: usize, args: &[&str]) -> (LocalCluster, Self) {
        let proxies = Arc::new(Mutex::new(Vec::<Proxy>::new()));
        let mut builder = LocalCluster::builder(size).peer_proxy({
            let proxies = Arc::clone(&proxies);
            move |index, listen| advertise(&mut proxies.lock().unwrap(), index, listen)
        });
        for arg in args {
            builder = builder.arg(*arg);
        }
        let cluster = builder.start().unwrap();
        let member_ids = cluster
            .members()
            .iter()
            .map(|member| status(member).member_id)
            .collect();
        (
            cluster,
            Self {
                proxies,
                member_ids,
            },
        )
    }

    /// Isolates one member from all others, in both directions, until [`heal`](Self::heal).
    pub fn isolate(&self, member: usize) {
        for (index, proxy) in self.proxies.lock().unwrap().iter().enumerate() {
            if index == member {
                proxy.cut();
            } else {
                proxy.cut_from(self.member_ids[member]);
            }
        }
    }

    /// Connects all members again.
    pub fn heal(&self) {
        self.proxies.lock().unwrap().iter().for_each(Proxy::restore);
    }
}

fn advertise(proxies: &mut Vec<Proxy>, index: usize, listen: SocketAddr) -> SocketAddr {
    match proxies.get(index) {
        Some(proxy) => proxy.set_upstream(listen),
        None => proxies.push(
            Proxy::builder(listen)
                .identify(member_that_dials)
                .start()
                .unwrap(),
        ),
    }
    proxies[index].addr()
}

fn member_that_dials(head: &[u8]) -> Option<u64> {
    let head = String::from_utf8_lossy(head);
    let (_, rest) = head.split_once("X-Server-From: ")?;
    u64::from_str_radix(rest.split_once("\r\n")?.0, 16).ok()
}
