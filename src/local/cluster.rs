//! Several etcd servers that are one cluster.

use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    binary::{self, Binary},
    etcd::{LocalEtcd, READY},
    flags::Flags,
    ports,
    start::{metrics_addr, retry_taken_ports},
};

/// A real etcd cluster of your own, killed and cleaned up when dropped.
///
/// Heartbeats come each 50 ms and an election starts 0.5 s to 1 s after the last one.
///
/// ```no_run
/// use etcd_blocking::local::LocalCluster;
///
/// let mut cluster = LocalCluster::start(3)?;
/// println!("{}", cluster.endpoints().join(","));
/// let leader = cluster.leader()?;
/// cluster.member_mut(leader).kill()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LocalCluster {
    members: Vec<LocalEtcd>,
    binary: Binary,
    extra: Vec<String>,
}

impl LocalCluster {
    /// Starts a cluster of `size` members and returns when all of them are ready.
    ///
    /// Blocks about a second, and never longer than 30 s.
    ///
    /// # Errors
    ///
    /// As [`LocalEtcd::start`]; also when `size` is 0.
    pub fn start(size: usize) -> io::Result<Self> {
        Self::builder(size).start()
    }

    /// A cluster of `size` members with flags of your own.
    pub fn builder(size: usize) -> LocalClusterBuilder {
        LocalClusterBuilder {
            size,
            extra: Vec::new(),
            peer_proxy: None,
        }
    }

    /// The URL of each member for clients, in the order of [`member`](Self::member).
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(LocalEtcd::endpoint).collect()
    }

    /// All members.
    #[must_use]
    pub fn members(&self) -> &[LocalEtcd] {
        &self.members
    }

    /// The member at `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// When there is no such member.
    #[must_use]
    #[allow(
        clippy::indexing_slicing,
        reason = "as with a slice, and said so: an index out of range is the caller's bug"
    )]
    pub fn member(&self, index: usize) -> &LocalEtcd {
        &self.members[index]
    }

    /// The member at `index`, counted from 0, to kill it or start it.
    ///
    /// # Panics
    ///
    /// When there is no such member.
    #[must_use]
    #[allow(
        clippy::indexing_slicing,
        reason = "as with a slice, and said so: an index out of range is the caller's bug"
    )]
    pub fn member_mut(&mut self, index: usize) -> &mut LocalEtcd {
        &mut self.members[index]
    }

    /// Prepares one more server, and returns its index; it does not run yet.
    ///
    /// To make it a member, add its [`peer_url`](LocalEtcd::peer_url) to the cluster (as a learner, if
    /// it should begin as one), then [`spawn`](LocalEtcd::spawn) it. A learner never becomes
    /// [ready](LocalEtcd::wait_ready), because it serves no linearizable reads; it answers
    /// [`status`](LocalEtcd::status). Servers that were prepared and not started are members for it as
    /// well: add each before the next is prepared, or start it first.
    ///
    /// ```no_run
    /// use etcd_blocking::{Client, local::LocalCluster};
    ///
    /// let mut cluster = LocalCluster::start(3)?;
    /// let client = Client::connect(cluster.endpoints())?;
    /// let new = cluster.prepare_member()?;
    /// client.cluster().member_add([cluster.member(new).peer_url()])?;
    /// cluster.member_mut(new).spawn()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the system gives no port or no directory.
    pub fn prepare_member(&mut self) -> io::Result<usize> {
        let index = self.members.len();
        let (name, peer) = (format!("local{index}"), ports::free()?);
        let mut initial_cluster: Vec<_> = self.members.iter().map(LocalEtcd::peer).collect();
        initial_cluster.push((name.clone(), peer));
        let flags = Flags {
            name,
            client: ports::free()?,
            metrics: metrics_addr(&self.extra)?,
            peer,
            peer_advertised: peer,
            initial_cluster,
            joins: true,
            extra: self.extra.clone(),
        };
        self.members.push(LocalEtcd::prepare(&self.binary, flags)?);
        Ok(index)
    }

    /// The index of the member that leads.
    ///
    /// Members that do not answer are passed over. When two take themselves for the leader, as
    /// after one was cut off, it is the one in the later term. Blocks 1 s at most for each
    /// member that does not answer.
    ///
    /// # Errors
    ///
    /// When no member that answers takes itself for the leader, as during an election.
    pub fn leader(&self) -> io::Result<usize> {
        let mut leader = None;
        let mut views = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            match member.status() {
                Ok(status) if status.is_leader() => {
                    leader = leader.max(Some((status.raft_term, index)))
                }
                Ok(status) => views.push(format!(
                    "{} follows {:x} in term {}",
                    member.name(),
                    status.leader,
                    status.raft_term
                )),
                Err(error) => views.push(format!("{}: {error}", member.name())),
            }
        }
        leader
            .map(|(_, index)| index)
            .ok_or_else(|| io::Error::other(format!("no leader: {}", views.join("; "))))
    }
}

/// Called with a member's index and the peer address it listens on; returns the address to
/// advertise to its peers.
type PeerProxy = Box<dyn FnMut(usize, SocketAddr) -> SocketAddr>;

/// Flags for a [`LocalCluster`] that is yet to start.
#[must_use = "nothing runs before `start`"]
pub struct LocalClusterBuilder {
    size: usize,
    extra: Vec<String>,
    peer_proxy: Option<PeerProxy>,
}

impl LocalClusterBuilder {
    /// Gives each member one more flag, as on etcd's command line; see
    /// [`arg`](super::LocalEtcdBuilder::arg).
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra.push(arg.into());
        self
    }

    /// Serves clients under TLS with this certificate and key (PEM files). They are read again for
    /// every connection, as etcd does.
    ///
    /// The certificate must be for what the endpoints name: 127.0.0.1. Members speak to each other in
    /// the clear all the same.
    pub fn tls(self, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.arg(format!("--cert-file={}", cert.as_ref().display()))
            .arg(format!("--key-file={}", key.as_ref().display()))
    }

    /// Wants a certificate from every client, signed by an authority in this PEM file; only with
    /// [`tls`](Self::tls).
    pub fn client_ca(self, ca: impl AsRef<Path>) -> Self {
        self.arg(format!("--trusted-ca-file={}", ca.as_ref().display()))
            .arg("--client-cert-auth")
    }

    /// Puts a proxy of yours in front of each member's peer address, to disturb what members say to
    /// each other.
    ///
    /// The function gets the index of a member and the address that member will listen on for its
    /// peers, and returns the address its peers are told to dial. It is called once for each
    /// member before any of them runs, and once more, with a new address, when a start must be
    /// repeated because a port was taken: the last call counts.
    ///
    /// Such a proxy sees what others send *into* a member. Members dial each other in both
    /// directions and either connection carries messages, so a member is cut off only when its
    /// own outgoing connections are closed too, at the proxies of the others. The dialling
    /// member names itself in each Raft request it sends: the HTTP header `X-Server-From` holds
    /// its member id in hex.
    pub fn peer_proxy(
        mut self,
        proxy: impl FnMut(usize, SocketAddr) -> SocketAddr + 'static,
    ) -> Self {
        self.peer_proxy = Some(Box::new(proxy));
        self
    }

    /// Starts all members and returns when all are ready.
    ///
    /// Blocks about a second, and never longer than 30 s (unless ports are taken away again and
    /// again).
    ///
    /// # Errors
    ///
    /// As [`LocalEtcd::start`]; also when the cluster would have no members.
    pub fn start(mut self) -> io::Result<LocalCluster> {
        if self.size == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a cluster has at least one member",
            ));
        }
        let binary = binary::find()?;
        retry_taken_ports(|| self.attempt(&binary))
    }

    fn attempt(&mut self, binary: &Binary) -> io::Result<LocalCluster> {
        let mut plans = Vec::with_capacity(self.size);
        for index in 0..self.size {
            let peer = ports::free()?;
            let peer_advertised = self
                .peer_proxy
                .as_mut()
                .map_or(peer, |proxy| proxy(index, peer));
            plans.push(Flags {
                name: format!("local{index}"),
                client: ports::free()?,
                metrics: metrics_addr(&self.extra)?,
                peer,
                peer_advertised,
                initial_cluster: Vec::new(),
                joins: false,
                extra: self.extra.clone(),
            });
        }
        let cluster: Vec<_> = plans
            .iter()
            .map(|plan| (plan.name.clone(), plan.peer_advertised))
            .collect();
        // All run before any is waited for: none is ready before a majority runs.
        let mut members = Vec::with_capacity(self.size);
        for plan in plans {
            let mut member = LocalEtcd::prepare(
                binary,
                Flags {
                    initial_cluster: cluster.clone(),
                    ..plan
                },
            )?;
            member.spawn()?;
            members.push(member);
        }
        let deadline = Instant::now() + READY;
        for member in &mut members {
            let left = deadline.saturating_duration_since(Instant::now());
            member.wait_ready(left.max(Duration::from_millis(1)))?;
        }
        Ok(LocalCluster {
            members,
            binary: binary.clone(),
            extra: self.extra.clone(),
        })
    }
}

impl fmt::Debug for LocalClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalClusterBuilder")
            .field("size", &self.size)
            .field("extra", &self.extra)
            .field("peer_proxy", &self.peer_proxy.is_some())
            .finish()
    }
}
