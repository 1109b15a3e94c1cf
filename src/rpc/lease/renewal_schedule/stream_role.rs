//! The roles of renewal streams.

/// The role of a renewal stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rpc::lease) enum StreamRole {
    /// Renews all leases whose renewals are accepted.
    Shared,
    /// Renews the leases whose renewal may have ended a stream. It carries one renewal at a time, so
    /// that its end can be attributed to that one.
    Isolated,
}

impl StreamRole {
    pub(in crate::rpc::lease) const BOTH: [StreamRole; 2] =
        [StreamRole::Shared, StreamRole::Isolated];

    /// The most renewals that may be unanswered on the stream. A follower forwards each renewal to the
    /// leader one by one, so more would not be faster, and a lease that ends soon would wait longer.
    pub(super) fn window(self) -> usize {
        match self {
            StreamRole::Shared => 128,
            StreamRole::Isolated => 1,
        }
    }
}
