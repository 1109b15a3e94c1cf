//! Cluster of etcd servers: builder and handle.

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
};

/// Private etcd cluster; dropping it kills its processes and removes their directories.
///
/// The leader sends heartbeats every 50 ms; a follower starts an election 0.5 s to 1 s after the last one.
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
    /// Blocks for about a second, and for 30 s at most.
    ///
    /// # Errors
    ///
    /// As [`LocalEtcd::start`]; also when `size` is 0.
    pub fn start(size: usize) -> io::Result<Self> {
        Self::builder(size).start()
    }

    /// Returns a builder, for a cluster of `size` members with flags of your own.
    pub fn builder(size: usize) -> LocalClusterBuilder {
        LocalClusterBuilder {
            size,
            extra: Vec::new(),
            peer_proxy: None,
        }
    }

    /// The client URL of each member, by index.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(LocalEtcd::endpoint).collect()
    }

    /// All members, by index.
    #[must_use]
    pub fn members(&self) -> &[LocalEtcd] {
        &self.members
    }

    /// The member at `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// Panics when there is no such member.
    #[must_use]
    #[allow(
        clippy::indexing_slicing,
        reason = "documented to panic, as indexing of a slice does"
    )]
    pub fn member(&self, index: usize) -> &LocalEtcd {
        &self.members[index]
    }

    /// The member at `index`, counted from 0, as a mutable reference: to kill it or start it.
    ///
    /// # Panics
    ///
    /// Panics when there is no such member.
    #[must_use]
    #[allow(
        clippy::indexing_slicing,
        reason = "documented to panic, as indexing of a slice does"
    )]
    pub fn member_mut(&mut self, index: usize) -> &mut LocalEtcd {
        &mut self.members[index]
    }

    /// Prepares one more server without starting it, and returns its index.
    ///
    /// To make it a member, add its [`peer_url`](LocalEtcd::peer_url) to the cluster (as a voting member or
    /// as a learner), then [`spawn`](LocalEtcd::spawn) it. A learner never becomes
    /// [ready](LocalEtcd::wait_ready), because it does not serve linearizable reads; it does answer
    /// [`status`](LocalEtcd::status). The initial cluster of the new server includes all servers that were
    /// prepared before, so add each one to the cluster before you prepare the next.
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
    /// Fails when no port is free, or the directory cannot be created.
    pub fn prepare_member(&mut self) -> io::Result<usize> {
        let index = self.members.len();
        let (name, peer) = (format!("local{index}"), ports::free()?);
        // etcd requires the complete list, with the new member, in the flag of a joining member.
        let mut initial_cluster: Vec<_> = self.members.iter().map(LocalEtcd::peer).collect();
        initial_cluster.push((name.clone(), peer));
        let flags = Flags {
            name,
            client: ports::free()?,
            metrics: Flags::metrics_addr(&self.extra)?,
            peer,
            peer_advertised: peer,
            initial_cluster,
            joins: true,
            is_alone: false,
            extra: self.extra.clone(),
        };
        self.members.push(LocalEtcd::prepare(&self.binary, flags)?);
        Ok(index)
    }

    /// The index of the leader.
    ///
    /// Members that do not answer are skipped. When two members report that they are the leader (for
    /// example, after a network partition), the one with the higher term is returned. Blocks for 1 s at most
    /// for each member that does not answer.
    ///
    /// # Errors
    ///
    /// Fails when no member reports that it is the leader, as during an election.
    pub fn leader(&self) -> io::Result<usize> {
        let mut leader = None;
        let mut views = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            match member.status() {
                Ok(status) if status.is_leader() => {
                    // An isolated leader may still report that it leads, with a lower term.
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

/// Maps a member's index and peer listen address to the address that it advertises to its peers.
type PeerProxy = Box<dyn FnMut(usize, SocketAddr) -> SocketAddr>;

/// Builder of a [`LocalCluster`] with other flags than the defaults.
///
/// ```no_run
/// use etcd_blocking::local::LocalCluster;
///
/// let cluster = LocalCluster::builder(3).arg("--quota-backend-bytes=2097152").start()?;
/// println!("{}", cluster.endpoints().join(","));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "nothing runs before `start`"]
pub struct LocalClusterBuilder {
    size: usize,
    extra: Vec<String>,
    peer_proxy: Option<PeerProxy>,
}

impl LocalClusterBuilder {
    /// Adds a flag for each member, as on etcd's command line; see
    /// [`arg`](super::LocalEtcdBuilder::arg).
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra.push(arg.into());
        self
    }

    /// Enables TLS on the client ports, with this certificate and key (PEM files). etcd reads them again
    /// for every connection.
    ///
    /// The certificate must be valid for 127.0.0.1, the host of the endpoints. Traffic between members
    /// stays unencrypted.
    pub fn tls(self, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.arg(format!("--cert-file={}", cert.as_ref().display()))
            .arg(format!("--key-file={}", key.as_ref().display()))
    }

    /// Requires a client certificate that is signed by an authority in this PEM file; only with
    /// [`tls`](Self::tls).
    pub fn client_ca(self, ca: impl AsRef<Path>) -> Self {
        self.arg(format!("--trusted-ca-file={}", ca.as_ref().display()))
            .arg("--client-cert-auth")
    }

    /// Puts a proxy of yours in front of each member's peer address, to inject faults between members.
    ///
    /// The function gets the index of a member and the address on which that member will listen for its
    /// peers, and returns the address that its peers dial. It is called once for each member before any of
    /// them runs. When a start is repeated because a port was taken, it is called again with a new address,
    /// and the last call counts.
    ///
    /// The proxy of a member carries what other members send *to* it. Members dial each other in both
    /// directions and messages use either connection, so to isolate a member, also close its own outgoing
    /// connections at the proxies of the others. Each Raft request names the dialling member: the HTTP
    /// header `X-Server-From` is its member id in hexadecimal.
    pub fn peer_proxy(
        mut self,
        proxy: impl FnMut(usize, SocketAddr) -> SocketAddr + 'static,
    ) -> Self {
        self.peer_proxy = Some(Box::new(proxy));
        self
    }

    /// Starts all members and returns when all are ready.
    ///
    /// Blocks for about a second, and for 30 s at most; longer only when other processes take the chosen
    /// ports, up to 5 times.
    ///
    /// # Errors
    ///
    /// As [`LocalEtcd::start`]; also when the size is 0.
    pub fn start(mut self) -> io::Result<LocalCluster> {
        if self.size == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a cluster needs at least one member",
            ));
        }
        let binary = binary::find()?;
        ports::retry_taken(|| self.attempt(&binary))
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
                metrics: Flags::metrics_addr(&self.extra)?,
                peer,
                peer_advertised,
                initial_cluster: Vec::new(),
                joins: false,
                is_alone: false,
                extra: self.extra.clone(),
            });
        }
        let cluster: Vec<_> = plans
            .iter()
            .map(|plan| (plan.name.clone(), plan.peer_advertised))
            .collect();
        // Start all members before waiting: none is ready before a majority runs.
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
            // Not zero, so that a member that is ready just now is not reported as late.
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
