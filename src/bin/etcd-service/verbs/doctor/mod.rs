//! The verb `doctor`.

mod cluster;
mod finding;
mod registry;

use std::collections::BTreeSet;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use etcd_blocking::maintenance::{AlarmKind, EndpointStatus};
use etcd_blocking::{Client, Error, Get, Override};

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::{Failure, Outcome};
use crate::output::say;
use cluster::Member;
use finding::{Class, Finding, exit_code};
use registry::Contents;

/// The largest number of keys that are read of each format.
const MOST_KEYS: usize = 100_000;

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One finding a line: severity, what it means, and what to do
    #[default]
    Text,
    /// One JSON array of findings
    Json,
}

/// The arguments of `doctor`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  etcd-service doctor --endpoints 10.0.0.1:2379,10.0.0.2:2379
  etcd-service doctor --output json

Exit code of the worst finding that is not an info: 0 nothing, 10 unreachable, 11 TLS, 12 users and permissions,
13 cluster and versions, 14 alarms and quota, 15 values in the registry.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    formats: FormatArguments,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Doctor {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let client = connection.connect()?;
        let mut findings = Vec::new();
        let members = ask_members(&client, &mut findings)?;
        if !members.is_empty() {
            findings.extend(cluster::examine(&members));
            ask_cluster(&client, &members, &mut findings);
            let contents = self.read(&client, &mut findings)?;
            findings.extend(registry::examine(&contents, SystemTime::now()));
            findings.push(Finding::info(
                Class::Registry,
                format!("{} instances are registered", contents.instances.len()),
            ));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse((finding.severity, finding.class)));
        match self.output {
            Output::Text => {
                for finding in &findings {
                    say(finding.line())?;
                }
            }
            Output::Json => say(serde_json::to_string(&findings).map_err(Failure::failed)?)?,
        }
        Ok(exit_code(&findings))
    }

    /// Reads the keys of each format.
    fn read(&self, client: &Client, findings: &mut Vec<Finding>) -> Result<Contents, Failure> {
        let mut contents = Contents::default();
        let overrides = Override::key(&self.formats.first_prefix(), "", "");
        let overrides = overrides.trim_end_matches('/').to_owned() + "/";
        for (codec, prefix) in self.formats.formats() {
            let mut count = 0;
            for page in client.pages(Get::range(codec.all(&prefix)), 1_000)? {
                let page = match page {
                    Ok(page) => page,
                    Err(error) => {
                        findings.push(failed(&format!("keys below {prefix}"), &error));
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
                    match codec.decode(&prefix, kv.key(), kv.value()) {
                        Ok(Some(instance)) => {
                            let is_leased = kv.lease().is_some();
                            contents.instances.push((key, instance, is_leased));
                        }
                        Ok(None) => {}
                        Err(reason) => contents.bad.push((key, reason.to_string())),
                    }
                }
                if count >= MOST_KEYS {
                    let text = format!("only the first {count} keys below {prefix} were examined");
                    findings.push(Finding::info(Class::Registry, text));
                    break;
                }
            }
        }
        Ok(contents)
    }
}

/// Asks each endpoint alone for its status, all at the same time.
fn ask_members(client: &Client, findings: &mut Vec<Finding>) -> Result<Vec<Member>, Failure> {
    let mut asked = Vec::new();
    for endpoint in client.endpoints() {
        let alone = client.at(&endpoint)?;
        let status = alone.submit(EndpointStatus::new());
        asked.push((endpoint, alone, status));
    }
    let mut members = Vec::new();
    for (endpoint, _alone, status) in asked {
        match status.wait() {
            Ok(status) => members.push(Member {
                endpoint,
                cluster: status.header().cluster_id,
                id: status.member_id().get(),
                version: status.version().to_owned(),
                leader: status.leader().map(|leader| leader.get()),
                is_learner: status.is_learner(),
                size: status.db_size(),
                quota: status.db_size_quota(),
                raft_index: status.raft_index(),
                raft_applied: status.raft_applied_index(),
                errors: status.errors().to_vec(),
            }),
            Err(error) => findings.push(failed(&format!("the status of {endpoint}"), &error)),
        }
    }
    for member in &members {
        let text = format!("{}: etcd {} answers", member.endpoint, member.version);
        findings.push(Finding::info(Class::Cluster, text));
    }
    Ok(members)
}

/// Asks the cluster for alarms, members and leases.
fn ask_cluster(client: &Client, members: &[Member], findings: &mut Vec<Finding>) {
    match client.maintenance().alarms() {
        Ok(alarms) => findings.extend(alarms.alarms().iter().map(|alarm| {
            let member = alarm.member;
            match alarm.kind {
                AlarmKind::NoSpace => Finding::error(
                    Class::Quota,
                    format!("the member {member} has the alarm NOSPACE: etcd refuses writes"),
                    "compact, defragment, then `etcdctl alarm disarm`",
                ),
                AlarmKind::Corrupt => Finding::error(
                    Class::Quota,
                    format!("the member {member} has the alarm CORRUPT: its data differ from the others'"),
                    "replace the member by a new one",
                ),
                _ => Finding::error(
                    Class::Quota,
                    format!("the member {member} has an alarm that this program does not know"),
                    "see `etcdctl alarm list`",
                ),
            }
        })),
        Err(error) => findings.push(failed("the alarms", &error)),
    }
    match client.cluster().member_list() {
        Ok(list) => {
            let listed = list.members().iter();
            let listed: Vec<_> = listed
                .map(|member| {
                    let urls = member.client_urls().to_vec();
                    (member.id().get(), member.name().to_owned(), urls)
                })
                .collect();
            let reached: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
            findings.extend(cluster::not_named(&listed, &reached));
        }
        Err(error) => findings.push(failed("the list of members", &error)),
    }
    match client.leases() {
        Ok(leases) => findings.push(Finding::info(
            Class::Registry,
            format!("leases in etcd: {}", leases.ids().len()),
        )),
        Err(error) => findings.push(failed("the leases", &error)),
    }
}

/// The finding for a request that failed.
fn failed(what: &str, error: &Error) -> Finding {
    let class = Class::of(error);
    let advice = match class {
        Class::Unreachable => "look whether etcd runs there, and at the network and --endpoints",
        Class::Tls => "look at --cacert, --cert, --key and whether the endpoint has TLS",
        Class::Auth => "look at --user and at the permissions of the user",
        Class::Quota => "free space in the database of etcd",
        Class::Cluster | Class::Registry => "look at the log of etcd",
    };
    Finding::error(class, format!("could not read {what}: {error}"), advice)
}
