//! What the members of the cluster say about themselves. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Class, Finding};

/// The share of the quota above which the database is called nearly full, in percent.
const NEARLY_FULL: u64 = 80;

/// How many entries a member may be behind before it is called slow.
const LAG: u64 = 1_000;

/// The default quota of etcd 3.5, whose members do not report theirs.
const DEFAULT_QUOTA: u64 = 2 * 1024 * 1024 * 1024;

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
    pub(super) quota: Option<u64>,
    pub(super) raft_index: u64,
    pub(super) raft_applied: u64,
    pub(super) errors: Vec<String>,
}

/// What is wrong with one member, or between several.
pub(super) fn examine(members: &[Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let newest = members.iter().map(|member| member.raft_index).max();
    for member in members {
        examine_one(member, newest.unwrap_or(0), &mut findings);
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
        findings.push(Finding::error(
            Class::Cluster,
            format!("the endpoints belong to {clusters} clusters: {text}"),
            "name endpoints of one cluster only",
        ));
    }
    let (versions, text) = listed(&|member| member.version.clone());
    if versions > 1 {
        findings.push(Finding::warning(
            Class::Cluster,
            format!("the members have {versions} versions: {text}"),
            "finish the upgrade; mixed versions are meant for the time of an upgrade only",
        ));
    }
    let leaders: BTreeSet<u64> = members.iter().filter_map(|member| member.leader).collect();
    if clusters == 1 && leaders.len() > 1 {
        findings.push(Finding::warning(
            Class::Cluster,
            "the members name different leaders: an election was running, or the cluster is partitioned",
            "run `doctor` again; if it stays, look at the network between the members",
        ));
    }
    findings
}

fn examine_one(member: &Member, newest: u64, findings: &mut Vec<Finding>) {
    let at = &member.endpoint;
    if member.leader.is_none() {
        findings.push(Finding::error(
            Class::Cluster,
            format!("{at}: the member has no leader, so it answers no linearizable request"),
            "start enough members for a majority, and look at the network between them",
        ));
    }
    if member.is_learner {
        findings.push(Finding::warning(
            Class::Cluster,
            format!("{at}: the member is a learner, which answers few requests"),
            "promote it (`etcdctl member promote`), or remove it from the endpoints",
        ));
    }
    let behind = newest.saturating_sub(member.raft_applied);
    if behind > LAG {
        findings.push(Finding::warning(
            Class::Cluster,
            format!("{at}: the member is {behind} entries behind, so its answers can be old"),
            "look at its disk, processor and network",
        ));
    }
    let quota = member.quota.filter(|quota| *quota > 0);
    let limit = quota.unwrap_or(DEFAULT_QUOTA);
    let percent = u128::from(member.size) * 100 / u128::from(limit);
    if percent >= u128::from(NEARLY_FULL) {
        let of = match quota {
            Some(_) => "its quota",
            None => "etcd's default quota (it does not report its own)",
        };
        findings.push(Finding::warning(
            Class::Quota,
            format!(
                "{at}: the database has {} bytes, {percent} % of {of}; at 100 % etcd refuses writes",
                member.size
            ),
            "compact and defragment, or raise --quota-backend-bytes",
        ));
    }
    for error in &member.errors {
        // The alarms have findings of their own.
        if !error.contains("alarm") {
            findings.push(Finding::error(
                Class::Cluster,
                format!("{at}: the member reports: {error}"),
                "look at its log",
            ));
        }
    }
}

/// Members that the endpoints do not reach: `listed` has the id, the name and the client URLs of each.
pub(super) fn not_named(
    listed: &[(u64, String, Vec<String>)],
    reached: &BTreeSet<u64>,
) -> Vec<Finding> {
    let missing = listed.iter().filter(|(id, ..)| !reached.contains(id));
    missing
        .map(|(id, name, urls)| match urls.is_empty() {
            true => Finding::warning(
                Class::Cluster,
                format!("the member {id:x} was added, but has not started"),
                "start it, or remove it (`etcdctl member remove`)",
            ),
            false => Finding::info(
                Class::Cluster,
                format!(
                    "the member {name} ({}) was not reached by the endpoints that were given; clients fail over \
                     to named members only",
                    urls.join(", ")
                ),
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn equal_members_are_in_order() {
        assert_eq!(examine(&[member("a"), member("b")]), []);
    }

    #[test]
    fn each_defect_has_a_finding_of_its_class() {
        type Break = fn(&mut Member);
        let defects: [(Break, &str, Class); 8] = [
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
            let findings = examine(&[member("a"), broken]);
            assert_eq!(findings.len(), 1, "{expected}: {findings:?}");
            assert!(findings[0].what.contains(expected), "{findings:?}");
            assert_eq!(findings[0].class, class);
        }
    }

    #[test]
    fn members_that_no_endpoint_reaches_are_named() {
        let listed = [
            (1, "a".to_owned(), vec!["http://a:2379".to_owned()]),
            (2, "b".to_owned(), vec!["http://b:2379".to_owned()]),
            (3, String::new(), vec![]),
        ];
        let findings = not_named(&listed, &BTreeSet::from([1]));
        assert_eq!(findings.len(), 2);
        assert!(findings[0].what.contains("http://b:2379"), "{findings:?}");
        assert!(findings[1].what.contains("has not started"), "{findings:?}");
    }
}
