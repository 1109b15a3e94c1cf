//! How calls are spread over instances.

/// How calls are spread over the instances of a service.
///
/// Only those that are [`Up`](crate::Status::Up) with a weight above 0 get any. When there is none,
/// nothing is picked, although there may be instances: one that is draining or out of service said
/// that it does not want calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Balance {
    /// One after the other, whatever their weights.
    RoundRobin,
    /// By weight, and evenly mixed: with weights 5, 1, 1 the first gets 5 of 7 calls, but not 5 in
    /// a row. With equal weights it goes round. An instance that joins, leaves or changes does not
    /// change the order of the others.
    #[default]
    Weighted,
}
