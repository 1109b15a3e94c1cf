//! The verbs of the maintenance service.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::Client;
use crate::error::{Error, ErrorKind, Operation, Result, printable};
use crate::rpc::maintenance;
use crate::rpc::maintenance::{
    Alarm, AlarmDisarm, AlarmList, AlarmResponse, Defragment, Downgrade, DowngradeResponse,
    EndpointHealth, EndpointStatus, HashKv, HashKvResponse, HealthCheck, MoveLeader,
    SnapshotProgress, SnapshotStream, StatusResponse, VerifiedSnapshot,
};
use crate::types::{MemberId, Revision};

/// The verbs of maintenance, returned by [`Client::maintenance`].
///
/// A handle is cheap to clone and shares everything with its client.
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// for endpoint in client.endpoints() {
///     let status = client.at(&endpoint)?.maintenance().status()?;
///     println!("{endpoint}: {} bytes", status.db_size());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Maintenance {
    client: Client,
}

impl Client {
    /// Returns the verbs of maintenance.
    ///
    /// They use the timeout, the endpoints and the namespace of this client.
    pub fn maintenance(&self) -> Maintenance {
        Maintenance {
            client: self.clone(),
        }
    }

    /// Refuses a cluster with a member that is older than the previous minor release.
    pub(crate) fn refuse_old_cluster(&self) -> Result<()> {
        let old = |at: &str, version: &str| {
            let version = printable(version);
            let reason = format!("{at} is etcd {version}, older than 3.6: an old cluster");
            Error::new(ErrorKind::FailedPrecondition, reason)
        };
        let mut asked = Vec::new();
        for endpoint in self.endpoints() {
            let view = self.at(&endpoint)?;
            asked.push((view.submit(EndpointStatus::new()), view, endpoint));
        }
        for (pending, _view, endpoint) in asked {
            match pending.wait() {
                Ok(status) if maintenance::is_old(status.version()) => {
                    return Err(old(&endpoint, status.version()));
                }
                Ok(_) => {}
                // Only 3.6 and later require a permission for this.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Maintenance {
    /// Reads the status of a member: of any that answers, or of the one that the client is
    /// [aimed at](Client::at).
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let status = client.at("http://10.0.0.2:2379")?.maintenance().status()?;
    /// println!("etcd {}, {} bytes, leader: {}", status.version(), status.db_size(), status.is_leader());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn status(&self) -> Result<StatusResponse> {
        self.client.call(EndpointStatus::new())
    }

    /// Checks each endpoint of the client: it serves a linearizable read, and no alarm is raised.
    ///
    /// All endpoints are asked at the same time, each over a connection of its own; an endpoint that
    /// refuses connections is reported at once. Blocks until all have answered, for at most the client's
    /// timeout. See [`EndpointHealth::is_healthy`].
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// for health in client.maintenance().health()? {
    ///     println!("{}: {} in {:?}", health.endpoint, health.is_healthy(), health.took);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) when the client is closed. The failure of an endpoint is a result, not an error.
    pub fn health(&self) -> Result<Vec<EndpointHealth>> {
        let begun = Instant::now();
        self.client.core.bridge.check_open()?;
        let endpoints = self.client.endpoints();
        let mut asked = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            // A view per endpoint: a call of the client would go to any member.
            let view = self.client.at(&endpoint)?;
            asked.push((view.submit(HealthCheck), view, endpoint));
        }
        let answers = asked
            .into_iter()
            .map(|(pending, _view, endpoint)| match pending.wait() {
                Err(error) if error.kind() == ErrorKind::Closed => Err(error),
                Err(error) => Ok(maintenance::unreachable(endpoint, begun.elapsed(), error)),
                answer => answer,
            });
        answers.collect()
    }

    /// Lists the alarms of the cluster.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// for alarm in client.maintenance().alarms()?.alarms() {
    ///     println!("{alarm:?}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn alarms(&self) -> Result<AlarmResponse> {
        self.client.call(AlarmList::new())
    }

    /// Disarms one alarm.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// for alarm in client.maintenance().alarms()?.alarms() {
    ///     client.maintenance().disarm(*alarm)?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put).
    pub fn disarm(&self, alarm: Alarm) -> Result<AlarmResponse> {
        self.client.call(AlarmDisarm::new(alarm))
    }

    /// Lists the alarms and disarms each, and returns those that it disarmed. Blocks for at most the
    /// client's timeout for each of them.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("{} alarms disarmed", client.maintenance().disarm_all()?.len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put); those before the one that failed are disarmed.
    pub fn disarm_all(&self) -> Result<Vec<Alarm>> {
        let mut disarmed = Vec::new();
        for alarm in self.alarms()?.alarms() {
            self.disarm(*alarm)?;
            disarmed.push(*alarm);
        }
        Ok(disarmed)
    }

    /// Defragments the member at the client's only endpoint, which serves nothing meanwhile: see
    /// [`Defragment`], also for how long this blocks.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// for endpoint in client.endpoints() {
    ///     client.at(&endpoint)?.maintenance().defragment()?; // one member after the other
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put); [`InvalidArgument`](ErrorKind::InvalidArgument) on a client with
    /// several endpoints.
    pub fn defragment(&self) -> Result<()> {
        self.client.call(Defragment::new())
    }

    /// Reads the hash of a member's keys at a revision; [`Revision::NONE`] means the newest. See [`HashKv`].
    ///
    /// ```no_run
    /// use etcd_blocking::Revision;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let hash = client.at("http://10.0.0.2:2379")?.maintenance().hash_kv(Revision::NONE)?;
    /// println!("{:08x} at revision {:?}", hash.hash(), hash.hash_revision());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`HashKv::at`].
    pub fn hash_kv(&self, revision: Revision) -> Result<HashKvResponse> {
        self.client.call(HashKv::at(revision))
    }

    /// Moves the leadership to another member. Returns when that member leads.
    ///
    /// Only the leader accepts the request. The client finds the leader among its endpoints, and then in
    /// the member list; a view that is [aimed](Client::at) at another member fails. Blocks for at most the
    /// client's timeout for each of these steps.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let target = client.at("http://10.0.0.2:2379")?.maintenance().status()?.member_id();
    /// client.maintenance().move_leader(target)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`MoveLeader`];
    /// [`FailedPrecondition`](ErrorKind::FailedPrecondition) when the member asked is not the leader;
    /// [`Unavailable`](ErrorKind::Unavailable) when there is no leader, or it cannot be reached.
    pub fn move_leader(&self, target: MemberId) -> Result<()> {
        if self.client.core.aimed {
            return self.client.call(MoveLeader::to(target));
        }
        let named =
            |e: Error| e.or_operation(&Operation::about("move the leader to member", target));
        self.leader().map_err(named)?.call(MoveLeader::to(target))
    }

    /// Returns a view of the client that is aimed at the leader.
    fn leader(&self) -> Result<Client> {
        let mut asked = Vec::new();
        for endpoint in self.client.endpoints() {
            let view = self.client.at(endpoint)?;
            // All endpoints at the same time: a dead one costs one timeout, not one each.
            asked.push((view.submit(EndpointStatus::new()), view));
        }
        let mut leader = None;
        let mut last = None;
        for (pending, view) in asked {
            match pending.wait() {
                Ok(status) if status.is_leader() => return Ok(view),
                Ok(status) => leader = status.leader().or(leader),
                Err(error) => last = Some(error),
            }
        }
        let unknown = || Error::new(ErrorKind::Unavailable, "no endpoint reports a leader");
        // No member reported a leader: there is none, or all are unreachable.
        let Some(leader) = leader else {
            return Err(last.unwrap_or_else(unknown));
        };
        // The leader is not among the endpoints: the member list has its client URLs.
        let members = self.client.cluster().member_list()?.into_members();
        let urls = members.iter().filter(|m| m.id() == leader);
        let mut urls = urls.flat_map(|m| m.client_urls());
        let usable = urls.find_map(|url| self.client.at(url).ok());
        usable.ok_or_else(|| {
            let reason = format!("the leader, member {leader}, has no client URL for this client");
            Error::new(ErrorKind::Unavailable, reason)
        })
    }

    /// Checks whether the cluster can be downgraded to `version`, such as `3.6.0`.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let response = client.maintenance().downgrade_validate("3.6.0")?;
    /// println!("the cluster has version {}", response.version());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`Downgrade::validate`].
    pub fn downgrade_validate(&self, version: impl Into<String>) -> Result<DowngradeResponse> {
        self.client.call(Downgrade::validate(version))
    }

    /// Starts a downgrade to `version`.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.maintenance().downgrade_enable("3.6.0")?;
    /// // ... replace the program of each member, one after the other
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`Downgrade::validate`].
    pub fn downgrade_enable(&self, version: impl Into<String>) -> Result<DowngradeResponse> {
        self.client.call(Downgrade::enable(version))
    }

    /// Cancels the current downgrade.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.maintenance().downgrade_cancel()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`Downgrade::cancel`].
    pub fn downgrade_cancel(&self) -> Result<DowngradeResponse> {
        self.client.call(Downgrade::cancel())
    }

    /// Opens a snapshot of the database of a member: see [`SnapshotStream`].
    ///
    /// The stream names the member; [`at`](Client::at) chooses one. Blocks until the first bytes have
    /// arrived, for at most the client's timeout.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let snapshot = client.maintenance().snapshot()?;
    /// println!("{} bytes from {}", snapshot.total(), snapshot.endpoint());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn snapshot(&self) -> Result<SnapshotStream> {
        let core = &self.client.core;
        SnapshotStream::open(
            &core.bridge,
            Arc::clone(&core.transport),
            self.client.timeout,
        )
    }

    /// Writes a snapshot of a member to `writer` and verifies it. Blocks until all is written.
    ///
    /// The last 32 bytes, without which `etcdutl snapshot restore` refuses a snapshot, are written only
    /// when everything before them is verified.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let mut copy = Vec::new();
    /// let verified = client.maintenance().snapshot_to(&mut copy)?;
    /// println!("{} bytes from {}", verified.size, verified.endpoint);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`snapshot`](crate::maintenance::Maintenance::snapshot), and those of [`SnapshotStream::write_to`], which also reports
    /// progress.
    pub fn snapshot_to(&self, writer: impl Write) -> Result<VerifiedSnapshot> {
        self.snapshot()?.write_to(writer, |_| {})
    }

    /// Saves a snapshot of a member to a file, verified and complete, or not at all. Blocks until it
    /// is on disk.
    ///
    /// It is written to a new file `PATH.part.NUMBER`, which only this user can read and which is removed
    /// when anything fails; then that takes the place of `path`, in one step. Several can save to one
    /// path at the same time: the file of the last one to finish stays. A later call removes such a file that
    /// a crash has left when it is a day old. `progress` is called after each piece.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// let saved = client.maintenance().snapshot_to_file("backup.db", |p| eprint!("\r{}/{}", p.written, p.total))?;
    /// println!("{} bytes from {}", saved.size, saved.endpoint);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`snapshot_to`](crate::maintenance::Maintenance::snapshot_to); [`Os`](ErrorKind::Os) when the file cannot be written.
    pub fn snapshot_to_file(
        &self,
        path: impl AsRef<Path>,
        progress: impl FnMut(SnapshotProgress),
    ) -> Result<VerifiedSnapshot> {
        maintenance::save(path.as_ref(), || self.snapshot(), progress)
    }
}
