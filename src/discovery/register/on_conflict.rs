//! The policy of a registrar for a key that another process holds.

/// The policy for a key that is held under the lease of another process.
///
/// ```no_run
/// use etcd_blocking::{Instance, OnConflict, Registrar};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let registrar = Registrar::builder(&client).on_conflict(OnConflict::Fail).start()?;
/// let registration = registrar.register(Instance::new("api", "10.0.0.5:8080"))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnConflict {
    /// Do not register: [`Registrar::register`](crate::Registrar::register) fails with an error of
    /// the kind [`Conflict`](crate::ErrorKind::Conflict).
    Fail,
    /// Take the key over. A restarted process does not wait for the lease of its predecessor to
    /// expire. A predecessor that still runs sees [`Loss::Replaced`](crate::Loss::Replaced) and does
    /// not take the key back.
    #[default]
    Replace,
    /// Wait until the key is gone. [`Registrar::register`](crate::Registrar::register) waits until
    /// the other process's lease must have expired, even if that is longer than the client's timeout.
    /// If the lease was renewed in that time, the error has the kind
    /// [`Conflict`](crate::ErrorKind::Conflict) and names the lease.
    WaitForExpiry,
}
