//! What the members of the cluster say about themselves. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Class, Finding};
use crate::output::{bytes, counted};

/// The share of the quota above which the database is called nearly full, in percent.
const NEARLY_FULL: u64 = 80;

/// How many entries a member may be behind before it is called slow.
const LAG: u64 = 1_000;

/// The default quota of etcd 3.5, whose members do not report theirs.
const DEFAULT_QUOTA: u64 = 2 * 1024 * 1024 * 1024;

/// The oldest release of etcd that is supported.
const OLDEST: (u64, u64) = (3, 4);

/// The status of one member.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub(super) endpoint: String,
    pub(super) cluster: u64,
    pub(super) id: u64,
    pub(super) version: String,
    pub(super) leader: Option<u64>,
    pub(super) is_learner: bool,
    pub(super) size: u64,
    pub(super) in_use: u64,
    pub(super) quota: Option<u64>,
    pub(super) raft_index: u64,
    pub(super) raft_applied: u64,
    pub(super) errors: Vec<String>,
}

/// A member of the list of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: u64,
    pub(super) name: String,
    /// Its URLs for clients; a member that was added and never started has none.
    pub(super) urls: Vec<String>,
    /// Why it did not answer at its URLs; `None` if it did.
    pub(super) silence: Option<String>,
}

/// What is wrong with one member, or between several.
pub(super) fn examine(members: &[Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let newest = members.iter().map(|member| member.raft_index).max();
    for member in members {
        let before = findings.len();
        examine_one(member, newest.unwrap_or(0), &mut findings);
        if findings.len() == before {
            findings.push(Finding::ok(Class::Cluster, &member.endpoint, state(member)));
        }
        quota(member, &mut findings);
    }
    let listed = |of: &dyn Fn(&Member) -> String| {
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for member in members {
            groups.entry(of(member)).or_default().push(&member.endpoint);
        }
        let count = groups.len();
        let groups = groups
            .iter()
            .map(|(value, endpoints)| format!("{value} at {}", endpoints.join(", ")));
        (count, groups.collect::<Vec<_>>().join("; "))
    };
    let (clusters, text) = listed(&|member| format!("{:x}", member.cluster));
    if clusters > 1 {
        let what = format!("the endpoints belong to {clusters} clusters: {text}");
        findings.push(
            Finding::error(Class::Cluster, "the endpoints", what)
                .why("clients read and write another store after each failover")
                .advice("name endpoints of one cluster only"),
        );
    }
    let (versions, text) = listed(&|member| member.version.clone());
    if versions > 1 {
        let what = format!("the members have {versions} versions: {text}");
        findings.push(
            Finding::warning(Class::Cluster, "the cluster", what)
                .why("the cluster has the features of the oldest; mixed versions are meant for an upgrade only")
                .advice("finish the upgrade or the downgrade"),
        );
    }
    let leaders: BTreeSet<u64> = members.iter().filter_map(|member| member.leader).collect();
    if clusters == 1 && leaders.len() > 1 {
        findings.push(
            Finding::warning(
                Class::Cluster,
                "the cluster",
                "the members name different leaders",
            )
            .why("an election was running, or the cluster is partitioned")
            .advice("run `doctor` again; if it stays, look at the network between the members"),
        );
    }
    findings
}

fn state(member: &Member) -> String {
    let role = match member.leader == Some(member.id) {
        true => "the leader",
        false => "a follower",
    };
    format!("etcd {} answers, {role}", member.version)
}

fn examine_one(member: &Member, newest: u64, findings: &mut Vec<Finding>) {
    let at = &member.endpoint;
    if member.leader.is_none() {
        findings.push(
            Finding::error(Class::Cluster, at, "the member has no leader")
                .why("it answers no linearizable request and takes no write; what needs a leader is not checked there")
                .advice(
                    "start enough members for a majority, and look at the network between them",
                ),
        );
    }
    if member.is_learner {
        findings.push(
            Finding::warning(Class::Cluster, at, "the member is a learner")
                .why("a learner has no vote and refuses most requests of clients")
                .advice("promote it (`etcdctl member promote`), or remove it from the endpoints"),
        );
    }
    let behind = newest.saturating_sub(member.raft_applied);
    if behind > LAG {
        let what = format!("the member is {} behind", counted(behind, "entry"));
        findings.push(
            Finding::warning(Class::Cluster, at, what)
                .why("its answers can be old, and it delays linearizable reads")
                .advice("look at its disk, processor and network"),
        );
    }
    if release(&member.version).is_some_and(|release| release < OLDEST) {
        let what = format!(
            "etcd {} is older than {}.{}, the oldest release that is supported",
            member.version, OLDEST.0, OLDEST.1
        );
        findings.push(
            Finding::warning(Class::Cluster, at, what)
                .why("this program is not tested with it")
                .advice("upgrade etcd, one minor release at a time"),
        );
    }
    for error in &member.errors {
        // Alarms and the missing leader have findings of their own.
        if !error.contains("alarm") && !error.contains("no leader") {
            findings.push(
                Finding::error(Class::Cluster, at, format!("the member reports: {error}"))
                    .why("etcd itself calls it an error")
                    .advice("look at its log"),
            );
        }
    }
}

fn quota(member: &Member, findings: &mut Vec<Finding>) {
    let quota = member.quota.filter(|quota| *quota > 0);
    let limit = quota.unwrap_or(DEFAULT_QUOTA);
    let percent = u128::from(member.size) * 100 / u128::from(limit);
    let of = match quota {
        Some(_) => "its quota",
        None => "etcd's default quota (it does not report its own)",
    };
    let what = format!(
        "the database has {}, of which {} are in use: {percent} % of {of} of {}",
        bytes(member.size),
        bytes(member.in_use),
        bytes(limit)
    );
    if percent < u128::from(NEARLY_FULL) {
        findings.push(Finding::ok(Class::Quota, &member.endpoint, what));
        return;
    }
    let advice = match member.in_use < member.size / 2 {
        true => "defragment the member (`etcdctl defrag`): more than half of the file is free",
        false => {
            "compact (--auto-compaction-retention), defragment, or raise --quota-backend-bytes"
        }
    };
    findings.push(
        Finding::warning(Class::Quota, &member.endpoint, what)
            .why("at 100 % etcd raises the alarm NOSPACE and refuses writes")
            .advice(advice),
    );
}

/// The major and minor version.
fn release(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// Findings about members that the endpoints do not reach.
pub(super) fn not_named(listed: &[Listed]) -> Vec<Finding> {
    let finding = |member: &Listed| {
        let place = match member.name.is_empty() {
            true => format!("the member {:x}", member.id),
            false => format!("the member {}", member.name),
        };
        match (member.urls.is_empty(), &member.silence) {
            (true, _) => {
                Finding::warning(Class::Cluster, place, "it was added, but has not started")
                    .why("it counts for the majority, and does not vote")
                    .advice("start it, or remove it (`etcdctl member remove`)")
            }
            (false, Some(why)) => {
                let urls = member.urls.join(", ");
                let what = format!("it does not answer at {urls}: {why}");
                Finding::warning(Class::Cluster, place, what)
                    .why("the member is down, or this machine cannot reach the URLs that it advertises")
                    .advice("look at the member, at the network, and at its --advertise-client-urls")
            }
            (false, None) => {
                let urls = member.urls.join(", ");
                let what = format!("it answers at {urls}, and is not among the endpoints");
                Finding::info(Class::Cluster, place, what)
                    .why("clients fail over to named members only")
                    .advice("add it to --endpoints")
            }
        }
    };
    listed.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn member(endpoint: &str) -> Member {
        Member {
            endpoint: endpoint.into(),
            cluster: 1,
            id: 1,
            version: "3.6.4".into(),
            leader: Some(1),
            size: 1024,
            quota: Some(1_000_000),
            raft_index: 5_000,
            raft_applied: 5_000,
            ..Member::default()
        }
    }

    fn bad(members: &[Member]) -> Vec<Finding> {
        let mut findings = examine(members);
        findings.retain(|finding| finding.severity > Severity::Ok);
        findings
    }

    #[test]
    fn equal_members_are_in_order() {
        assert_eq!(bad(&[member("a"), member("b")]), []);
        let all = examine(&[member("a")]);
        assert!(all[0].what.contains("3.6.4 answers, the leader"), "{all:?}");
        assert!(all[1].what.contains("0 % of its quota"), "{all:?}");
    }

    #[test]
    fn each_defect_has_a_finding_of_its_class() {
        type Break = fn(&mut Member);
        let defects: [(Break, &str, Class); 10] = [
            (|m| m.cluster = 2, "2 clusters", Class::Cluster),
            (|m| m.version = "3.5.0".into(), "2 versions", Class::Cluster),
            (|m| m.leader = None, "no leader", Class::Cluster),
            (|m| m.leader = Some(2), "different leaders", Class::Cluster),
            (|m| m.is_learner = true, "is a learner", Class::Cluster),
            (
                |m| m.raft_applied = 10,
                "4990 entries behind",
                Class::Cluster,
            ),
            (
                |m| m.raft_applied = 3_999,
                "1001 entries behind",
                Class::Cluster,
            ),
            (
                |m| (m.size, m.quota) = (2_000_000_000, None),
                "93 % of etcd's default",
                Class::Quota,
            ),
            (|m| m.size = 800_000, "80 % of its quota", Class::Quota),
            (
                |m| m.errors = vec!["disk".into()],
                "reports: disk",
                Class::Cluster,
            ),
        ];
        for (defect, expected, class) in defects {
            let mut broken = member("b");
            defect(&mut broken);
            let findings = bad(&[member("a"), broken]);
            assert_eq!(findings.len(), 1, "{expected}: {findings:?}");
            assert!(!findings[0].why.is_empty() && !findings[0].advice.is_empty());
            assert!(findings[0].what.contains(expected), "{findings:?}");
            assert_eq!(findings[0].class, class);
        }
    }

    #[test]
    fn releases_that_are_too_old_are_found() {
        for (version, is_old) in [
            ("3.3.27", true),
            ("2.3.8", true),
            ("3.4.0", false),
            ("", false),
        ] {
            let mut old = member("a");
            old.version = version.into();
            let findings = bad(&[old]);
            assert_eq!(!findings.is_empty(), is_old, "{version}: {findings:?}");
        }
    }

    #[test]
    fn a_file_with_free_space_is_to_be_defragmented() {
        let mut full = member("a");
        (full.size, full.in_use) = (900_000, 100_000);
        assert!(bad(&[full.clone()])[0].advice.starts_with("defragment"));
        full.in_use = 800_000;
        assert!(bad(&[full])[0].advice.starts_with("compact"));
    }

    #[test]
    fn members_that_no_endpoint_reaches_are_named() {
        let listed = |name: &str, url: &str, silence: Option<&str>| Listed {
            id: 10,
            name: name.into(),
            urls: (!url.is_empty())
                .then(|| url.to_owned())
                .into_iter()
                .collect(),
            silence: silence.map(str::to_owned),
        };
        let findings = not_named(&[
            listed("b", "http://b:2379", None),
            listed("c", "http://c:2379", Some("connection refused")),
            listed("", "", None),
        ]);
        assert_eq!(findings[0].severity, Severity::Info);
        assert!(findings[0].what.contains("http://b:2379"), "{findings:?}");
        assert_eq!(findings[1].severity, Severity::Warning);
        assert!(
            findings[1].what.contains("connection refused"),
            "{findings:?}"
        );
        assert_eq!(findings[2].place, "the member a");
        assert!(findings[2].what.contains("has not started"), "{findings:?}");
    }
}
