//! The servers of a run, with a proxy in front of each for the clients and another one for its peers.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use etcd_blocking::auth::Permission;
use etcd_blocking::local::LocalCluster;
use etcd_blocking::{Client, ClientBuilder, KeyRange, Tls};

use super::gateway::Gateway;
use super::stage::{Stage, wait};
use super::truth;
use crate::history::{Cause, Compaction, Era, Line, Recorder, Time, now};
use crate::plan::{Settings, Target};
use crate::support::certs::Authority;
use crate::support::peers::PeerLinks;
use crate::support::proxy::Proxy;

/// The limit of all waits for servers.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a cause may have an effect on what the truth shows.
const EFFECT: Time = 6_000_000_000;
const PASSWORD: &str = "secret";
const ROOT: (&str, &str) = ("root", PASSWORD);
const USER: &str = "alice";

/// The servers and what is between them and the clients.
#[derive(Debug)]
pub struct Scene {
    pub cluster: LocalCluster,
    pub links: PeerLinks,
    /// By member; a new member takes over the proxy of the one that it replaces.
    pub proxies: Vec<Proxy>,
    /// The index in the cluster of each proxy's member.
    pub slots: Vec<usize>,
    pub authority: Option<Authority>,
    /// A client without proxies, that may do everything.
    pub admin: Client,
    pub record: Recorder,
    pub stage: Arc<Stage>,
    truths: Vec<JoinHandle<()>>,
    era_from: Time,
}

impl Scene {
    pub fn start(settings: &Settings, stage: &Arc<Stage>) -> Self {
        let authority = settings.secure.then(|| Authority::new("the authority"));
        let mut args = Vec::new();
        if let Some(authority) = &authority {
            let server = authority.server();
            args.push(format!("--cert-file={}", server.cert.display()));
            args.push(format!("--key-file={}", server.key.display()));
            args.push("--bcrypt-cost=4".to_owned());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let era_from = now();
        let (cluster, links) = PeerLinks::start(settings.members, &args);
        let members = cluster.members().iter();
        let proxies = members.map(|member| Proxy::start(member.client_addr()).unwrap());
        let proxies: Vec<Proxy> = proxies.collect();
        let admin = builder(cluster.endpoints(), authority.as_ref());
        let admin = match authority {
            None => admin.connect().unwrap(),
            Some(_) => {
                enable_users(&admin.connect().unwrap());
                let admin = builder(cluster.endpoints(), authority.as_ref());
                admin.user(ROOT.0, ROOT.1).connect().unwrap()
            }
        };
        let scene = Scene {
            slots: (0..proxies.len()).collect(),
            record: stage.file("run"),
            stage: Arc::clone(stage),
            truths: Vec::new(),
            cluster,
            links,
            proxies,
            authority,
            admin,
            era_from,
        };
        scene.record_era(None);
        scene
    }

    /// A client whose connections all go through the proxies of these members.
    pub fn client(&self, members: &[usize]) -> Client {
        let endpoints = members.iter().map(|member| match self.authority {
            None => self.proxies[*member].endpoint(),
            Some(_) => self.proxies[*member].endpoint().replace("http:", "https:"),
        });
        let client = builder(endpoints.collect(), self.authority.as_ref());
        let client = client
            .timeout(Duration::from_millis(1500))
            .ping_interval(Duration::from_secs(5))
            .ping_timeout(Duration::from_secs(1));
        match self.authority {
            None => client.connect().unwrap(),
            Some(_) => client.user(USER, PASSWORD).connect().unwrap(),
        }
    }

    pub fn gateway(&self, member: usize) -> Gateway {
        Gateway {
            addr: self.cluster.member(member).client_addr(),
            ca: self.authority.as_ref().map(Authority::ca_file),
            user: self.authority.as_ref().map(|_| ROOT),
        }
    }

    /// Begins to record what a member reports.
    pub fn report_truth(&mut self, member: usize) {
        let gateway = self.gateway(member);
        self.truths
            .push(truth::start(&self.stage, member as u32, gateway));
    }

    /// The index in the cluster of a target of the plan.
    pub fn member(&self, target: Target) -> usize {
        match target {
            Target::Member(n) => self.slots[n],
            Target::Leader => {
                let mut leader = None;
                wait(PATIENCE, "a leader", || {
                    leader = self.cluster.leader().ok();
                    if leader.is_some() {
                        Vec::new()
                    } else {
                        vec!["none".to_owned()]
                    }
                });
                leader.unwrap_or(self.slots[0])
            }
        }
    }

    fn record_era(&self, to: Option<Time>) {
        self.record.write(Line::Era(Era {
            era: self.stage.era.load(std::sync::atomic::Ordering::SeqCst),
            from: self.era_from,
            to,
        }));
    }

    /// Records that the store was lost, and that another one begins. No server runs.
    pub fn replace_store(&mut self) {
        self.record_era(Some(now()));
        self.stage.new_store();
        self.era_from = now();
        self.record_era(None);
    }

    /// Records that leases and keys may end without the knowledge of their clients since a time.
    pub fn record_cause(&self, since: Time, key: &str, why: &str) {
        self.record.write(Line::Cause(Cause {
            t: since,
            to: now() + EFFECT,
            lease: 0,
            key: key.to_owned(),
            why: why.to_owned(),
        }));
    }

    /// Compacts up to a revision that every member has reported.
    pub fn compact(&self) -> Result<(), String> {
        let members = |name: &str| name.starts_with("truth-");
        let revision = self.stage.lowest(members).unwrap_or_default() - 5;
        if revision < 2 {
            return Ok(());
        }
        self.record
            .write(Line::Compaction(Compaction { t: now(), revision }));
        let revision = etcd_blocking::Revision::new(revision);
        // Another fault may stop the members meanwhile.
        let admin = self.admin.with_timeout(Duration::from_secs(1));
        admin
            .compact(revision)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Makes all tokens of the clients invalid.
    pub fn expire_tokens(&self) -> Result<(), String> {
        let changed = self.admin.auth().user_change_password(USER, PASSWORD);
        changed.map(drop).map_err(|error| error.to_string())
    }

    /// Waits for the threads that record the truth; the run is over.
    pub fn join(self) {
        for truth in self.truths {
            truth.join().unwrap();
        }
    }
}

fn builder(endpoints: Vec<String>, authority: Option<&Authority>) -> ClientBuilder {
    let client = Client::builder(endpoints);
    match authority {
        None => client,
        Some(authority) => client.tls(Tls::new().ca_file(authority.ca_file())),
    }
}

fn enable_users(client: &Client) {
    let auth = client.auth();
    auth.role_add("app").unwrap();
    let all = Permission::read_write(KeyRange::all());
    auth.role_grant_permission("app", all).unwrap();
    for (user, role) in [(USER, "app"), (ROOT.0, "root")] {
        auth.user_add(user, PASSWORD).unwrap();
        auth.user_grant_role(user, role).unwrap();
    }
    auth.enable().unwrap();
}
