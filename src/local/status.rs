//! What a member says about itself.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

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
    /// The leader this member knows, or 0 when it knows none. Of a member under TLS: itself, or 0.
    pub leader: u64,
    /// The revision of this member's own store: 1 when nothing was ever written.
    pub revision: i64,
    /// The Raft term this member is in. Of a member under TLS: 0.
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

/// What a member says without asking who wants to know: its metrics, and its state in Raft, which is
/// served only by a client port in the clear (`raft`).
pub(super) fn ask(
    metrics: SocketAddr,
    raft: Option<SocketAddr>,
    timeout: Duration,
) -> io::Result<MemberStatus> {
    let deadline = Instant::now() + timeout;
    let mut status = said(metrics, "/metrics", timeout, read_metrics)?;
    if let Some(addr) = raft {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        let (leader, raft_term) = said(addr, "/debug/vars", left, read_vars)?;
        status = MemberStatus {
            leader,
            raft_term,
            ..status
        };
    }
    Ok(status)
}

fn said<T>(
    addr: SocketAddr,
    path: &str,
    timeout: Duration,
    read: impl FnOnce(&str) -> Option<T>,
) -> io::Result<T> {
    let reply = http::get(addr, path, timeout)?;
    let found = (reply.status == 200).then(|| read(&reply.body)).flatten();
    found.ok_or_else(|| {
        let text = format!("{addr}{path} gave no status: HTTP {}", reply.status);
        io::Error::other(text)
    })
}

/// `etcd_server_id{server_id="8e9e05c52164694d"} 1` and the like.
fn read_metrics(text: &str) -> Option<MemberStatus> {
    let value = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.strip_prefix(' ')
    };
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd_server_id{server_id=\""))?;
    let member_id = hex(id.split('"').next()?)?;
    // A number that does not fit into the 53 bits of a double is no revision yet.
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

/// The leader that a member knows, and its term.
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
    fn metrics_say_who_it_is_and_whether_it_leads() {
        let status = read_metrics(METRICS).unwrap();
        assert_eq!((status.member_id, status.revision), (u64::MAX, 12_345_678));
        assert!(status.is_leader());
        let follower = METRICS.replace("leader 1", "leader 0");
        assert_eq!(read_metrics(&follower).unwrap().leader, 0);
    }

    #[test]
    fn vars_say_who_leads_in_which_term() {
        let json = r#"{"cmdline":[],"raft.status":{"id":"5","term":7,"lead":"ce43ac72f18eefe"}}"#;
        assert_eq!(read_vars(json), Some((0x0ce4_3ac7_2f18_eefe, 7)));
    }

    #[test]
    fn what_is_no_etcd_gives_no_status() {
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
