//! The questions that `doctor` asks etcd. They read only.

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_blocking::cluster::MemberList;
use etcd_blocking::maintenance::{AlarmKind, EndpointStatus};
use etcd_blocking::{Client, Get, LeaseId, Override, TimeToLive, codec};

use super::cluster::{Listed, Member};
use super::finding::{Class, Finding};
use super::leases::LeaseFacts;
use super::refusal::Refusal;
use super::registry::{BadValue, Contents, Found, format_of};
use crate::arguments::FormatArguments;
use crate::failure::Failure;
use crate::output::counted;

/// The largest number of keys that are read of each format.
const MOST_KEYS: usize = 100_000;

/// The largest number of leases that are read.
const MOST_LEASES: usize = 1_000;

/// The number of leases that are asked for at the same time.
const AT_ONCE: usize = 100;

/// The answer of an endpoint.
pub(super) type Answer = (String, Result<Member, Refusal>);

/// Asks etcd as one user.
#[derive(Debug)]
pub(super) struct Questions<'a> {
    pub(super) client: &'a Client,
    pub(super) user: Option<&'a str>,
}

impl Questions<'_> {
    /// Asks each of these endpoints alone for its status, all at the same time.
    pub(super) fn status(&self, endpoints: &[String]) -> Result<Vec<Answer>, Failure> {
        let mut asked = Vec::new();
        for endpoint in endpoints {
            let alone = self.client.at(endpoint)?;
            let status = alone.submit(EndpointStatus::new());
            asked.push((endpoint.clone(), alone, status));
        }
        let answers = asked.into_iter().map(|(endpoint, _alone, status)| {
            let answer = status.wait().map(|status| Member {
                endpoint: endpoint.clone(),
                cluster: status.header().cluster_id,
                id: status.member_id().get(),
                version: status.version().to_owned(),
                leader: status.leader().map(|leader| leader.get()),
                is_learner: status.is_learner(),
                size: status.db_size(),
                in_use: status.db_size_in_use(),
                quota: status.db_size_quota(),
                raft_index: status.raft_index(),
                raft_applied: status.raft_applied_index(),
                errors: status.errors().to_vec(),
            });
            (endpoint, answer.map_err(|error| Refusal::of(&error)))
        });
        Ok(answers.collect())
    }

    /// The members that are not among those that answered, and whether they answer at their own URLs.
    pub(super) fn others(&self, reached: &[Member], findings: &mut Vec<Finding>) -> Vec<Listed> {
        // Serializable, so that it is known without a majority, too.
        let list = match self.client.call(MemberList::new().serializable()) {
            Ok(list) => list,
            Err(error) => {
                findings.push(self.failed("the cluster", "the list of members", &error));
                return Vec::new();
            }
        };
        let reached: BTreeSet<u64> = reached.iter().map(|member| member.id).collect();
        let missing = list.members().iter();
        let missing = missing.filter(|member| !reached.contains(&member.id().get()));
        let missing = missing.map(|member| {
            let urls = member.client_urls().to_vec();
            let silence = self.silence(&urls);
            Listed {
                id: member.id().get(),
                name: member.name().to_owned(),
                urls,
                silence,
            }
        });
        missing.collect()
    }

    /// Why no URL answers; `None` if one does.
    fn silence(&self, urls: &[String]) -> Option<String> {
        let mut why = "it has no URL".to_owned();
        // A URL of another scheme than that of the endpoints is refused.
        for url in urls {
            match self.status(std::slice::from_ref(url)) {
                Ok(answers) => match answers.into_iter().next() {
                    Some((_, Err(refusal))) => why = refusal.text,
                    _ => return None,
                },
                Err(_) => why = "its scheme is not that of the endpoints".to_owned(),
            }
        }
        Some(why)
    }

    /// Returns whether a majority of the members answers, and adds a finding if not: every other question needs one.
    pub(super) fn has_majority(&self, findings: &mut Vec<Finding>) -> bool {
        let Err(error) = self.client.cluster().member_list() else {
            return true;
        };
        let refusal = Refusal::of(&error);
        if refusal.class() != Class::Unreachable {
            return true;
        }
        let what = format!(
            "no majority of the members answers, or they elect a leader: {}",
            refusal.text
        );
        findings.push(
            Finding::error(Class::Cluster, "the cluster", what)
                .why("nothing can be read reliably or written; alarms, users, keys and leases were not checked")
                .advice("start the members that are away, and run `doctor` again"),
        );
        false
    }

    /// Asks for alarms.
    pub(super) fn alarms(&self, findings: &mut Vec<Finding>) {
        let alarms = match self.client.maintenance().alarms() {
            Ok(alarms) => alarms,
            Err(error) => return findings.push(self.failed("the cluster", "the alarms", &error)),
        };
        for alarm in alarms.alarms() {
            let place = format!("the member {}", alarm.member);
            let finding = |what: &str| Finding::error(Class::Quota, place, what);
            findings.push(match alarm.kind {
                AlarmKind::NoSpace => finding(
                    "it has the alarm NOSPACE: its database reached the quota",
                )
                .why(
                    "etcd refuses writes of all clients: nothing can be registered or renewed anew",
                )
                .advice("compact, defragment, then `etcdctl alarm disarm`"),
                AlarmKind::Corrupt => {
                    finding("it has the alarm CORRUPT: its data differ from those of the others")
                        .why("etcd stops to serve, because members would answer differently")
                        .advice("replace the member by a new one, then disarm the alarm")
                }
                _ => finding("it has an alarm that this program does not know")
                    .why("etcd raises alarms only for what stops it")
                    .advice("see `etcdctl alarm list`"),
            });
        }
        if alarms.alarms().is_empty() {
            findings.push(Finding::ok(
                Class::Quota,
                "the cluster",
                "there is no alarm",
            ));
        }
    }

    /// Asks whether etcd has users.
    pub(super) fn users(&self, findings: &mut Vec<Finding>) {
        let Ok(status) = self.client.auth().status() else {
            // Older releases do not have the question; a user without permission sees it elsewhere.
            return;
        };
        findings.push(match (status.is_enabled(), self.user) {
            (false, Some(user)) => {
                let what = format!("authentication is disabled, and the user {user} was given");
                Finding::warning(Class::Auth, "the cluster", what)
                    .why("everybody who reaches etcd can read and write everything")
                    .advice("enable it (`etcdctl auth enable`), or leave --user out")
            }
            (false, None) => Finding::ok(Class::Auth, "the cluster", "authentication is disabled"),
            (true, user) => {
                let who =
                    user.map_or_else(|| "this client".into(), |user| format!("the user {user}"));
                let what = format!("authentication is enabled, and {who} is accepted");
                Finding::ok(Class::Auth, "the cluster", what)
            }
        });
    }

    /// Reads leases: those of the instances, and others up to a number.
    pub(super) fn leases(
        &self,
        contents: &Contents,
        findings: &mut Vec<Finding>,
    ) -> Vec<LeaseFacts> {
        let all = match self.client.leases() {
            Ok(leases) => leases.ids().to_vec(),
            Err(error) => {
                findings.push(self.failed("the leases", "the list of leases", &error));
                Vec::new()
            }
        };
        let of_instances = contents.instances.iter().filter_map(|found| found.lease);
        let mut ids: BTreeSet<i64> = of_instances.take(MOST_LEASES).collect();
        let others = all.iter().map(|id| id.get());
        ids.extend(others.take(MOST_LEASES.saturating_sub(ids.len())));
        let what = format!(
            "{}, of which {} were read",
            counted(all.len(), "lease"),
            ids.len()
        );
        findings.push(Finding::ok(Class::Registry, "the leases", what));
        let ids: Vec<LeaseId> = ids.into_iter().filter_map(LeaseId::new).collect();
        let mut leases = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            let asked = some
                .iter()
                .map(|id| (*id, self.client.submit(TimeToLive::new(*id).keys())));
            let asked: Vec<_> = asked.collect();
            for (id, answer) in asked {
                match answer.wait() {
                    // A lease that has ended meanwhile has no time left.
                    Ok(lease) => leases.extend(lease.remaining().map(|remaining| LeaseFacts {
                        id: id.get(),
                        granted: lease.granted(),
                        remaining,
                        keys: lease.keys().len(),
                    })),
                    Err(error) => {
                        let place = format!("the lease {:x}", id.get());
                        findings.push(self.failed(&place, "its time to live", &error));
                        return leases;
                    }
                }
            }
        }
        leases
    }

    /// Reads the keys of each format.
    pub(super) fn keys(
        &self,
        formats: &FormatArguments,
        findings: &mut Vec<Finding>,
    ) -> Result<Contents, Failure> {
        let mut contents = Contents::default();
        let overrides = Override::key(&formats.first_prefix(), "", "");
        let overrides = overrides.trim_end_matches('/').to_owned() + "/";
        for (codec, prefix) in formats.formats() {
            let (mut count, before) = (0, contents.instances.len());
            let mut is_read = true;
            for page in self.client.pages(Get::range(codec.all(&prefix)), 1_000)? {
                let page = match page {
                    Ok(page) => page,
                    Err(error) => {
                        let what = format!("the keys below {prefix:?}");
                        findings.push(self.failed(&prefix, &what, &error));
                        is_read = false;
                        break;
                    }
                };
                count += page.len();
                for kv in page {
                    let key = kv.key_lossy().into_owned();
                    if let Some(of) = key.strip_prefix(&overrides) {
                        let (service, id) = of.split_once('/').unwrap_or((of, ""));
                        let value = String::from_utf8_lossy(kv.value());
                        let wrong = value.parse::<Override>().err();
                        let wrong = wrong.map(|error| error.to_string());
                        contents.overrides.push((service.into(), id.into(), wrong));
                        continue;
                    }
                    let read_by = || format_of(kv.key(), kv.value(), &prefix, codec.name());
                    let bad = |reason: String| BadValue {
                        key: key.clone(),
                        reason,
                        read_by: read_by(),
                    };
                    match codec.decode(&prefix, kv.key(), kv.value()) {
                        Ok(Some(instance)) => contents.instances.push(Found {
                            key,
                            instance,
                            lease: kv.lease().map(|lease| lease.get()),
                        }),
                        Ok(None) => {
                            let reason =
                                format!("the key is no instance of the format {}", codec.name());
                            contents.unknown.push(bad(reason));
                        }
                        Err(reason) => contents.bad.push(bad(reason.to_string())),
                    }
                }
                if count >= MOST_KEYS {
                    let what = format!("only the first {} were examined", counted(count, "key"));
                    findings.push(Finding::info(Class::Registry, &prefix, what));
                    break;
                }
            }
            if is_read {
                let instances = counted(contents.instances.len() - before, "instance");
                let what = format!(
                    "{}, {instances} of the format {}",
                    counted(count, "key"),
                    codec.name()
                );
                findings.push(Finding::ok(Class::Registry, &prefix, what));
                if count == 0 {
                    self.elsewhere(&prefix, findings);
                }
            }
        }
        Ok(contents)
    }

    /// Looks below the prefixes of the other formats, if there is nothing below the one that was named.
    fn elsewhere(&self, empty: &str, findings: &mut Vec<Finding>) {
        let client = self.client.with_timeout(Duration::from_secs(2));
        let mut seen = BTreeSet::from([empty.to_owned()]);
        for codec in codec::all() {
            let prefix = codec.default_prefix();
            // Formats without a prefix of their own would find everything.
            if prefix.len() < 2 || !seen.insert(prefix.to_owned()) {
                continue;
            }
            let count = client.call(Get::range(codec.all(prefix)).count_only());
            let count = count.map_or(0, |response| response.count());
            if count > 0 {
                let what = format!(
                    "there is nothing here, but {} below {prefix}",
                    counted(count, "key")
                );
                findings.push(
                    Finding::info(Class::Registry, empty, what)
                        .why("that is the usual prefix of another format")
                        .advice(format!("--format {} reads them", codec.name())),
                );
            }
        }
    }

    /// The finding for a question that failed.
    fn failed(&self, place: &str, what: &str, error: &etcd_blocking::Error) -> Finding {
        Refusal::of(error).finding(place, what, self.user)
    }
}
