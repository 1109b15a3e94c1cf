//! The rule by which calls are distributed over instances.

/// The distribution of calls over the instances of a service.
///
/// Only instances that are [`Up`](crate::Status::Up) with a weight above 0 get calls. If there is none,
/// nothing is picked, even if there are instances with another status.
///
/// ```no_run
/// use etcd_blocking::{Balance, Discovery};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let api = Discovery::new(&client).balance(Balance::Weighted).service("api")?;
/// println!("{:?}", api.pick().map(|instance| instance.addr.clone()));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Balance {
    /// Picks the instances one after the other, independent of their weights.
    RoundRobin,
    /// By weight, and evenly mixed: with weights 5, 1, 1 the first gets 5 of 7 calls, but not 5 in
    /// a row. With equal weights this is round-robin. An instance that joins, leaves or changes does not
    /// change the order of the others.
    #[default]
    Weighted,
}
