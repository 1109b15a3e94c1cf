//! Status of a member, read from its metrics and debug pages.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::http;

/// Status of one member and its view of the cluster, at one moment.
///
/// It is the member's own view: a member that is disconnected from its peers answers too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// The member that answered.
    pub member_id: u64,
    /// The id of the leader that this member knows, or 0. With TLS on the client port: the member's own id
    /// when it is the leader, or else 0.
    pub leader: u64,
    /// The revision of this member's own store; 1 for an empty new store.
    pub revision: i64,
    /// The current Raft term of this member; 0 with TLS on the client port.
    pub raft_term: u64,
}

impl MemberStatus {
    /// Returns whether this member regards itself as the leader.
    ///
    /// A leader that was disconnected from its peers still does so for up to one election timeout.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader != 0 && self.leader == self.member_id
    }
}

/// Requests the status of a member from pages that need no authentication: its metrics, and its Raft state,
/// which only a client port without TLS (`raft`) serves.
pub(super) fn request(
    metrics: SocketAddr,
    raft: Option<SocketAddr>,
    timeout: Duration,
) -> io::Result<MemberStatus> {
    let deadline = Instant::now() + timeout;
    let mut status = read_page(metrics, "/metrics", timeout, read_metrics)?;
    if let Some(addr) = raft {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        let (leader, raft_term) = read_page(addr, "/debug/vars", left, read_vars)?;
        status = MemberStatus {
            leader,
            raft_term,
            ..status
        };
    }
    Ok(status)
}

/// Requests one page and parses its body.
fn read_page<T>(
    addr: SocketAddr,
    path: &str,
    timeout: Duration,
    read: impl FnOnce(&str) -> Option<T>,
) -> io::Result<T> {
    let reply = http::get(addr, path, timeout)?;
    let found = (reply.status == 200).then(|| read(&reply.body)).flatten();
    found.ok_or_else(|| {
        let text = format!(
            "{addr}{path} returned no member status: HTTP {}",
            reply.status
        );
        io::Error::other(text)
    })
}

/// Parses lines such as `etcd_server_id{server_id="8e9e05c52164694d"} 1`.
fn read_metrics(text: &str) -> Option<MemberStatus> {
    let value = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.strip_prefix(' ')
    };
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd_server_id{server_id=\""))?;
    let member_id = hex(id.split('"').next()?)?;
    // Prometheus values are doubles; revisions stay below 2^53 in practice.
    let revision: f64 = value("etcd_debugging_mvcc_current_revision")?
        .parse()
        .ok()?;
    let leads = value("etcd_server_is_leader")? == "1";
    Some(MemberStatus {
        member_id,
        leader: if leads { member_id } else { 0 },
        revision: revision as i64,
        raft_term: 0,
    })
}

/// Parses the leader that a member knows, and its term.
fn read_vars(json: &str) -> Option<(u64, u64)> {
    let json: Value = serde_json::from_str(json).ok()?;
    let raft = json.get("raft.status")?;
    let leader = hex(raft.get("lead")?.as_str()?)?;
    Some((leader, raft.get("term")?.as_u64()?))
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{read_metrics, read_vars};

    const METRICS: &str = "# HELP etcd_server_is_leader Whether or not this member is a leader.\n\
         etcd_debugging_mvcc_current_revision 1.2345678e+07\n\
         etcd_server_id{server_id=\"ffffffffffffffff\"} 1\n\
         etcd_server_is_leader 1\n";

    #[test]
    fn metrics_contain_the_id_and_whether_the_member_is_the_leader() {
        let status = read_metrics(METRICS).unwrap();
        assert_eq!((status.member_id, status.revision), (u64::MAX, 12_345_678));
        assert!(status.is_leader());
        let follower = METRICS.replace("leader 1", "leader 0");
        assert_eq!(read_metrics(&follower).unwrap().leader, 0);
    }

    #[test]
    fn vars_contain_the_leader_and_the_term() {
        let json = r#"{"cmdline":[],"raft.status":{"id":"5","term":7,"lead":"ce43ac72f18eefe"}}"#;
        assert_eq!(read_vars(json), Some((0x0ce4_3ac7_2f18_eefe, 7)));
    }

    #[test]
    fn text_that_is_not_from_etcd_is_an_error() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"raft.status":null}"#,
            "etcd_server_id 1",
        ] {
            assert!(
                read_vars(text).is_none() && read_metrics(text).is_none(),
                "{text:?}"
            );
        }
    }
}
