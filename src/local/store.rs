//! What etcd or an operator may do to a store: compaction and the end of leases.

use std::io;

use super::etcd::LocalEtcd;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::rpc::kv::Get;
use crate::types::{LeaseId, Revision};

impl LocalEtcd {
    /// Compacts the store at its current revision, as etcd's auto-compaction does, and returns that revision.
    ///
    /// A watch that begins at an earlier revision then fails, as one that was away for too long does. Blocks
    /// for 10 s at most. It needs a server without TLS and without users.
    ///
    /// ```no_run
    /// use etcd_blocking::local::LocalEtcd;
    ///
    /// let etcd = LocalEtcd::start()?;
    /// println!("history begins at {}", etcd.compact()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails when the server does not answer, or refuses the request.
    pub fn compact(&self) -> io::Result<Revision> {
        let client = self.connect()?;
        let read = client.call(Get::key("compact").keys_only());
        let now = read.map_err(other)?.header().revision;
        match client.compact(now) {
            // There was no change since the last compaction.
            Err(error) if error.kind() != ErrorKind::Compacted => Err(other(error)),
            _ => Ok(now),
        }
    }

    /// Revokes a lease: its keys are deleted, as when it expires. Blocks for 5 s at most.
    ///
    /// It needs a server without TLS and without users.
    ///
    /// # Errors
    ///
    /// Fails when there is no such lease, or the server does not answer.
    pub fn revoke(&self, lease: LeaseId) -> io::Result<()> {
        self.connect()?.revoke(lease).map(drop).map_err(other)
    }

    /// Revokes all leases, and returns how many there were. Blocks for 5 s at most for each of them.
    ///
    /// Every program that depends on one then sees the loss of its lease. It needs a server without TLS and
    /// without users.
    ///
    /// ```no_run
    /// use etcd_blocking::local::LocalEtcd;
    ///
    /// let etcd = LocalEtcd::start()?;
    /// println!("{} leases are gone", etcd.revoke_all()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails when the server does not answer.
    pub fn revoke_all(&self) -> io::Result<usize> {
        let client = self.connect()?;
        let leases = client.leases().map_err(other)?.ids().to_vec();
        let mut revoked = 0;
        for lease in leases {
            match client.revoke(lease) {
                Ok(_) => revoked += 1,
                // It expired meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(other(error)),
            }
        }
        Ok(revoked)
    }

    fn connect(&self) -> io::Result<Client> {
        Client::connect(self.endpoint()).map_err(other)
    }
}

fn other(error: Error) -> io::Error {
    io::Error::other(error)
}
