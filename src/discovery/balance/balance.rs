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
    /// At random by weight. Many programs that start together do not call the same instance first.
    Random,
    /// Of two different instances, drawn at random by weight, the one with fewer calls in flight in
    /// proportion to its weight. The calls in flight are those of this view: it needs
    /// [`acquire`](crate::ServiceView::acquire) or [`call`](crate::ServiceView::call), and without them
    /// is [`Random`](Balance::Random).
    LeastInFlight,
    /// Of two different instances, drawn at random by weight, the one with the lower cost in proportion
    /// to its weight. The cost is the latency times the calls in flight and one more. The latency is a
    /// moving average over 10 s that follows a slower call at once and faster calls with time. An instance
    /// that is new gets one call until that ends. It needs [`acquire`](crate::ServiceView::acquire) or
    /// [`call`](crate::ServiceView::call), as [`LeastInFlight`](Balance::LeastInFlight) does.
    PeakEwma,
    /// By the key of a call and the ids of the instances, in proportion to the weights: calls with the
    /// same key go to the same instance, in all programs that see the same instances. When one of n equal
    /// instances leaves, less than a share of 2/n of the keys moves. Calls of
    /// [`acquire_for`](crate::ServiceView::acquire_for) and [`call_for`](crate::ServiceView::call_for) go
    /// to another instance while theirs has 1.25 times its share of all calls in flight. Calls without a
    /// key are distributed as with [`Random`](Balance::Random).
    Rendezvous,
}
