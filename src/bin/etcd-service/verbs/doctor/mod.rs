//! The verb `doctor`. `questions` asks etcd, `look` looks at ports, and the other files judge what they were told.

mod certificate;
mod certificates;
mod clock;
mod cluster;
mod endpoints;
mod finding;
mod http_answer;
mod identity;
mod leases;
mod look;
mod questions;
mod refusal;
mod registry;
#[cfg(feature = "__tls")]
mod tls_look;
#[cfg(not(feature = "__tls"))]
#[path = "without_tls.rs"]
mod tls_look;

use std::fs;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use etcd_blocking::config::{Config, SecureConfig};

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::{Failure, Outcome};
use crate::output::say;
use certificates::Owner;
use cluster::Member;
use finding::{Class, Finding, Severity, exit_code, summary};
use identity::Identity;
use questions::Questions;

/// The longest look at a port.
const LOOK: Duration = Duration::from_secs(3);

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For each finding: how bad it is, where and what; why it matters; what to do
    #[default]
    Text,
    /// One JSON array of findings
    Json,
}

/// The arguments of `doctor`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  etcd-service doctor --endpoints 10.0.0.1:2379,10.0.0.2:2379
  etcd-service doctor --verbose
  etcd-service doctor --output json

Exit code of the worst finding that is not an info: 0 nothing, 10 unreachable, 11 TLS, 12 users and permissions,
13 cluster and versions, 14 alarms and quota, 15 values in the registry, 16 clocks.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    formats: FormatArguments,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Also shows what was checked and is in order
    #[arg(long, short)]
    verbose: bool,
}

impl Doctor {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let mut findings = self.findings(connection)?;
        if !self.verbose {
            findings.retain(|finding| finding.severity > Severity::Ok);
        }
        // What is worst comes first; a sort keeps the order of equals.
        findings.sort_by_key(|finding| std::cmp::Reverse((finding.severity, finding.class)));
        let code = exit_code(&findings);
        match self.print(&findings) {
            // Who has read enough gets the exit code all the same.
            Ok(()) | Err(Failure::ClosedPipe) => Ok(code),
            Err(failure) => Err(failure),
        }
    }

    fn print(&self, findings: &[Finding]) -> Result<(), Failure> {
        match self.output {
            Output::Text => {
                for line in findings.iter().flat_map(Finding::lines) {
                    say(line)?;
                }
                say(summary(findings))
            }
            Output::Json => say(serde_json::to_string(findings).map_err(Failure::failed)?),
        }
    }

    fn findings(&self, connection: &ConnectionArguments) -> Result<Vec<Finding>, Failure> {
        let config = connection.config()?;
        let now = SystemTime::now();
        let mut findings = examine_files(&config.secure, now);
        let client = match connection.connect() {
            Ok(client) => client,
            Err(failure) => {
                findings.push(of_files(&config, failure)?);
                return Ok(findings);
            }
        };
        let questions = Questions {
            client: &client,
            user: config.username.as_deref(),
        };
        let endpoints = client.endpoints();
        let limit = client.timeout().min(LOOK);
        let identity = identity(&config.secure);
        let looks = endpoints
            .iter()
            .map(|endpoint| look::begin(endpoint, identity.clone(), limit));
        let looks: Vec<_> = looks.collect();
        let answers = questions.status(&endpoints)?;
        let mut members: Vec<Member> = Vec::new();
        let mut clocks = Vec::new();
        for ((endpoint, answer), looking) in answers.iter().zip(looks) {
            let look = looking.finish();
            let refusal = answer.as_ref().err();
            let user = questions.user;
            findings.extend(endpoints::examine(endpoint, refusal, &look, user, now));
            if let Ok(member) = answer {
                clocks.push((endpoint.as_str(), look.clock));
                members.push(member.clone());
            }
        }
        findings.extend(clock::examine(&clocks));
        findings.extend(cluster::examine(&members));
        if members.is_empty() {
            return Ok(findings);
        }
        let others = questions.others(&members, &mut findings);
        findings.extend(cluster::not_named(&others));
        if members.iter().all(|member| member.leader.is_none())
            || !questions.has_majority(&mut findings)
        {
            return Ok(findings);
        }
        questions.alarms(&mut findings);
        questions.users(&mut findings);
        let contents = questions.keys(&self.formats, &mut findings)?;
        findings.extend(registry::examine(&contents, now));
        let leases = questions.leases(&contents, &mut findings);
        findings.extend(leases::examine(&leases, &contents));
        Ok(findings)
    }
}

/// The certificates in the files of `--cert` and `--cacert`. What cannot be read is said when the client is made.
fn examine_files(secure: &SecureConfig, now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, owner) in [
        (&secure.cert, Owner::Client),
        (&secure.cacert, Owner::Authority),
    ] {
        let Some(file) = file else {
            continue;
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        let found = certificate::of_pem(&text);
        // A client's own certificate is the first; each of the authorities counts.
        let most = match owner {
            Owner::Client => 1,
            _ => found.len(),
        };
        let found = found.iter().take(most);
        findings.extend(found.map(|of| certificates::examine(file, owner, of, now)));
    }
    findings
}

/// The finding for settings with which there is no client, if its files of certificates are the reason.
fn of_files(config: &Config, failure: Failure) -> Result<Finding, Failure> {
    let secure = &config.secure;
    let files = [&secure.cert, &secure.key, &secure.cacert];
    let text = match &failure {
        Failure::Usage(text) | Failure::Failed(text) => text,
        Failure::ClosedPipe => return Err(failure),
    };
    let named = files
        .into_iter()
        .flatten()
        .find(|file| text.contains(*file));
    let Some(file) = named else {
        return Err(failure);
    };
    Ok(Finding::error(Class::Tls, file, text)
        .why("no client connects with these files")
        .advice("correct --cacert, --cert and --key"))
}

fn identity(secure: &SecureConfig) -> Option<Identity> {
    Some(Identity {
        cert: secure.cert.clone()?,
        key: secure.key.clone()?,
    })
}
