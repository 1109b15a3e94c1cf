//! What a member says about itself.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::Value;

use super::http;

/// What one member says about itself and its view of the cluster, at one moment.
///
/// It is the member's own view: one that is cut off from its peers answers too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// The member that answered.
    pub member_id: u64,
    /// The leader this member knows, or 0 when it knows none.
    pub leader: u64,
    /// The revision of this member's own store: 1 when nothing was ever written.
    pub revision: i64,
    /// The Raft term this member is in.
    pub raft_term: u64,
}

impl MemberStatus {
    /// Whether this member takes itself for the leader.
    ///
    /// A leader that was cut off goes on doing so for up to one election timeout.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader != 0 && self.leader == self.member_id
    }
}

/// Maintenance.Status over the HTTP gateway: served by each member from its own memory, leader or
/// not.
pub(super) fn ask(addr: SocketAddr, timeout: Duration) -> io::Result<MemberStatus> {
    let reply = http::post(addr, "/v3/maintenance/status", "{}", timeout)?;
    let no_status = || {
        io::Error::other(format!(
            "{addr} gave no status: HTTP {} {}",
            reply.status,
            reply.body.trim()
        ))
    };
    if reply.status != 200 {
        return Err(no_status());
    }
    parse(&reply.body).ok_or_else(no_status)
}

/// The gateway writes 64-bit numbers as strings and leaves out what is 0.
fn parse(json: &str) -> Option<MemberStatus> {
    let json: Value = serde_json::from_str(json).ok()?;
    let header = json.get("header")?;
    Some(MemberStatus {
        member_id: number(header.get("member_id")?)?,
        leader: json.get("leader").map_or(Some(0), number)?,
        revision: header.get("revision").map_or(Some(0), number)?,
        raft_term: header.get("raft_term").map_or(Some(0), number)?,
    })
}

fn number<T: std::str::FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_come_as_strings() {
        let status = parse(
            r#"{"header":{"cluster_id":"1","member_id":"18446744073709551615","revision":"7","raft_term":"2"},
                "version":"3.7.2","leader":"18446744073709551615"}"#,
        )
        .unwrap();
        assert_eq!(
            (status.member_id, status.revision, status.raft_term),
            (u64::MAX, 7, 2)
        );
        assert!(status.is_leader());
    }

    #[test]
    fn absent_leader_is_none() {
        let status =
            parse(r#"{"header":{"member_id":"5","revision":"1","raft_term":"3"}}"#).unwrap();
        assert_eq!(status.leader, 0);
        assert!(!status.is_leader());
    }

    #[test]
    fn other_json_is_no_status() {
        for json in [
            "",
            "{}",
            "[]",
            r#"{"header":{}}"#,
            r#"{"header":{"member_id":"x"}}"#,
        ] {
            assert_eq!(parse(json), None, "{json:?}");
        }
    }
}
