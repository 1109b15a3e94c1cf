//! The purposes of connections, and how many connections each purpose may have.

/// The purpose of a connection. Each role has its own connections, which are made for the first
/// request of the role: a client that only makes calls has one connection.
///
/// | role | carries | what can be delayed by other traffic of the role |
/// |---|---|---|
/// | `Calls` | unary calls | a call, by replies that the server already sends |
/// | `Leases` | lease keep-alive streams | nothing |
/// | `Watches` | watch streams | a watch, by the events of other watches |
/// | `Waits` | calls that the server holds: lock, campaign | nothing |
/// | `Bulk` | ranges of many keys | a range, by another range |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionRole {
    Calls,
    Leases,
    Watches,
    Waits,
    Bulk,
}

impl ConnectionRole {
    pub(crate) const COUNT: usize = 5;

    /// The most connections of the role. Requests that end by themselves wait for a free stream of
    /// one connection. Requests that do not end would wait forever, so their roles use more
    /// connections where the server limits the streams of one (`--max-concurrent-streams`; etcd's
    /// default is no limit).
    pub(crate) fn most(self) -> usize {
        match self {
            ConnectionRole::Calls | ConnectionRole::Bulk => 1,
            ConnectionRole::Leases | ConnectionRole::Watches | ConnectionRole::Waits => 32,
        }
    }
}
