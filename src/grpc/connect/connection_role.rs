//! What connections are for, and how many there may be for each purpose.

/// What a connection is for. Each role has connections of its own, made when the first request of the
/// role is: a client that only calls has one.
///
/// | role | what it carries | what waits behind what there |
/// |---|---|---|
/// | `Calls` | unary calls | a call behind the replies that the server has begun to send |
/// | `Leases` | streams of renewals | nothing |
/// | `Watches` | streams of events | a watch behind the events of others |
/// | `Waits` | calls that the server holds: its lock, its election | nothing |
/// | `Bulk` | ranges of many keys | a range behind another |
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

    /// The most connections of the role. What ends by itself waits for a free stream of the one
    /// connection. What does not would wait for ever, and has more connections where the server limits
    /// the streams of one (`--max-concurrent-streams`; etcd's default is no limit).
    pub(crate) fn most(self) -> usize {
        match self {
            ConnectionRole::Calls | ConnectionRole::Bulk => 1,
            ConnectionRole::Leases | ConnectionRole::Watches | ConnectionRole::Waits => 32,
        }
    }
}
