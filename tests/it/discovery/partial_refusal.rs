//! A hundred instances of one registrar, of which a random third is refused at any time: by a missing role,
//! by their size, or because another client owns the key. At times the alarm for a full store refuses all
//! of them. Each permitted instance is in etcd within seconds, each refused one reports its own reason, and
//! no state contradicts etcd for longer.
//!
//! `ETCD_BLOCKING_SOAK_SECONDS` sets the duration (8 s), `ETCD_BLOCKING_SOAK_GRACE` how many milliseconds a
//! change may take to show (5,000: a bound for any machine, not a measurement), and
//! `ETCD_BLOCKING_SOAK_CHANGES` how many instances change every 200 ms (1).

use std::collections::HashMap;
use std::net::SocketAddr;

use etcd_blocking::auth::Permission;
use etcd_blocking::{KeyValue, LeaseId};

use crate::support::{gateway, server::skip_unless_since};

use super::*;

const INSTANCES: u16 = 100;
/// The server's limit for a request, below the client's own.
const SERVER_LIMIT: usize = 300_000;
const STEP: Duration = Duration::from_millis(200);
/// The alarm duration a step longer than this: a lease can be replaced in time.
const FULL: Duration = Duration::from_secs(1);

pub(super) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn duration() -> Duration {
    Duration::from_secs(setting("ETCD_BLOCKING_SOAK_SECONDS", 8))
}

/// The longest time in which a registrar acts on a change, and its state follows.
fn grace() -> Duration {
    Duration::from_millis(setting("ETCD_BLOCKING_SOAK_GRACE", 5000))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The role for its key is revoked, and it has a new value to write.
    Denied,
    /// Its value is over the server's limit.
    TooLarge,
    /// Its key was overwritten by the owner of this lease.
    Foreign(LeaseId),
}

/// One instance and its fault.
struct Subject {
    n: u16,
    registration: Registration,
    fault: Option<Fault>,
    /// When the fault began or ended.
    since: Instant,
    /// The number in the value that must be in etcd.
    version: u64,
    /// Since when its state contradicts etcd.
    wrong_since: Option<Instant>,
    /// Since when the instance is not in the expected state.
    odd_since: Option<Instant>,
}

/// The alarm for a full store. The server refuses every write while it is raised.
struct FullStore {
    token: String,
    gateway: SocketAddr,
    is_raised: bool,
    /// When it was raised or disarmed last.
    since: Instant,
}

impl FullStore {
    fn new(etcd: &LocalEtcd) -> Self {
        let gateway = etcd.client_addr();
        let user = r#"{"name":"root","password":"pw"}"#;
        let (_, reply) = gateway::post(gateway, "/v3/auth/authenticate", user, SOON).unwrap();
        let token = reply.split(r#""token":""#).nth(1).unwrap();
        FullStore {
            token: token.split('"').next().unwrap().into(),
            gateway,
            is_raised: false,
            since: Instant::now(),
        }
    }

    fn switch(&mut self, root: &Client) {
        self.is_raised = !self.is_raised;
        if self.is_raised {
            let member = root.maintenance().status().unwrap().member_id();
            let alarm = format!(
                r#"{{"action":"ACTIVATE","memberID":"{}","alarm":"NOSPACE"}}"#,
                member.get()
            );
            let path = "/v3/maintenance/alarm";
            let reply = gateway::post_as(self.gateway, path, &self.token, &alarm, SOON).unwrap();
            assert_eq!(reply.0, 200, "{}", reply.1);
        } else {
            root.maintenance().disarm_all().unwrap();
        }
        self.since = Instant::now();
    }
}

impl Subject {
    fn service(&self) -> String {
        format!("s{}", self.n)
    }

    fn key(&self) -> String {
        format!("use/s{}/{}", self.n, self.registration.instance().id)
    }

    fn set(&mut self, load: usize) {
        let version = self.version.to_string();
        self.registration
            .modify(|instance| {
                instance.version = version.clone();
                instance.meta.insert("load".into(), "x".repeat(load));
            })
            .unwrap();
    }

    fn begin(&mut self, fault: u8, root: &Client) {
        self.fault = Some(match fault {
            0 => {
                root.auth().user_revoke_role("app", self.service()).unwrap();
                self.version += 1;
                self.set(1);
                Fault::Denied
            }
            1 => {
                self.set(SERVER_LIMIT + 1000);
                Fault::TooLarge
            }
            _ => {
                let lease = root.grant(Duration::from_secs(600)).unwrap().id();
                let id = self.registration.instance().id.clone();
                let theirs = format!(r#"{{"id":"{id}","addr":"{id}","version":"foreign"}}"#);
                root.call(Put::new(self.key(), theirs).lease(lease))
                    .unwrap();
                Fault::Foreign(lease)
            }
        });
        self.since = Instant::now();
    }

    fn end(&mut self, root: &Client) {
        match self.fault.take() {
            Some(Fault::Denied) => {
                root.auth().user_grant_role("app", self.service()).unwrap();
            }
            Some(Fault::TooLarge) => {
                self.version += 1;
                self.set(1);
            }
            Some(Fault::Foreign(lease)) => {
                root.revoke(lease).unwrap();
            }
            None => {}
        }
        self.since = Instant::now();
    }

    /// Compares its state with the contents of etcd.
    fn check(
        &mut self,
        etcd: &HashMap<String, KeyValue>,
        read_at: Instant,
        store: &FullStore,
        pace: &Pace,
    ) {
        let kv = etcd.get(&self.key());
        let state = self.registration.state();
        let text = kv.and_then(KeyValue::value_str).unwrap_or("nothing");
        let text = &text[..text.len().min(200)];
        let what = format!(
            "s{} with fault {:?}: {state:?}, last error {:?}, etcd has {text}",
            self.n,
            self.fault,
            self.registration
                .last_error()
                .map(|error| error.to_string())
        );
        let theirs = text.contains("foreign");
        let consistent = match state {
            State::Registered { .. } | State::Draining => kv.is_some() && !theirs,
            State::Lost { .. } | State::Starting => kv.is_none() || theirs,
            _ => true,
        };
        match (consistent, self.wrong_since) {
            (true, _) => self.wrong_since = None,
            (false, None) => self.wrong_since = Some(read_at),
            (false, Some(since)) => pace.check_span(&what, since, read_at, grace()),
        }
        // Changes within the grace period may still be in progress.
        match self.has_expected_state(text, &state, store) {
            true => self.odd_since = None,
            false => {
                let since = self.odd_since.get_or_insert(read_at);
                let since = (*since).max(self.since).max(store.since);
                pace.check_span(&what, since, read_at, grace());
            }
        }
    }

    fn has_expected_state(&self, text: &str, state: &State, store: &FullStore) -> bool {
        let reason = self.registration.last_error().map(|error| error.kind());
        let has_newest = text.contains(&format!("\"version\":\"{}\"", self.version));
        match self.fault {
            // A full store refuses a new value, and keeps the old one.
            None if store.is_raised && !has_newest => reason == Some(ErrorKind::NoSpace),
            None => has_newest && registered(state) && (reason.is_none() || store.is_raised),
            Some(Fault::Foreign(by)) => {
                *state
                    == State::Lost {
                        why: Loss::Replaced { by },
                    }
            }
            Some(_) if store.is_raised && reason == Some(ErrorKind::NoSpace) => true,
            Some(Fault::Denied) => reason == Some(ErrorKind::PermissionDenied),
            Some(Fault::TooLarge) => {
                (has_newest || store.is_raised) && reason == Some(ErrorKind::TooLarge)
            }
        }
    }
}

fn with_roles() -> (LocalEtcd, Client, Client) {
    let etcd = LocalEtcd::builder()
        .arg("--bcrypt-cost=4")
        .arg(format!("--max-request-bytes={SERVER_LIMIT}"))
        .start()
        .unwrap();
    let anybody = client(&etcd);
    for user in ["app", "root"] {
        anybody.auth().user_add(user, "pw").unwrap();
    }
    anybody.auth().user_grant_role("root", "root").unwrap();
    for n in 0..INSTANCES {
        let role = format!("s{n}");
        anybody.auth().role_add(&role).unwrap();
        let below = Permission::read_write(KeyRange::prefix(format!("use/{role}/")));
        anybody.auth().role_grant_permission(&role, below).unwrap();
        anybody.auth().user_grant_role("app", &role).unwrap();
    }
    anybody.auth().enable().unwrap();
    let user = |name: &str| {
        Client::builder([etcd.endpoint()])
            .allow_plaintext_credentials()
            .user(name, "pw")
            .connect()
            .unwrap()
    };
    let (app, root) = (user("app"), user("root"));
    (etcd, app, root)
}

fn look(root: &Client) -> HashMap<String, KeyValue> {
    let kvs = root.get_prefix("use/").unwrap();
    kvs.into_iter()
        .map(|kv| (String::from_utf8_lossy(kv.key()).into_owned(), kv))
        .collect()
}

// Fault: R1, R2, N6
#[test]
fn refused_instances_do_not_affect_the_other_instances() {
    if skip_unless_since(3, 6, "changes of users by root are denied at random") {
        return;
    }
    let (etcd, app, root) = with_roles();
    let mut store = FullStore::new(&etcd);
    let registrar = Registrar::builder(&app)
        .ttl(Duration::from_secs(6))
        .prefix("use/")
        .start()
        .unwrap();
    let mut subjects: Vec<Subject> = (0..INSTANCES)
        .map(|n| {
            let instance = Instance::new(format!("s{n}"), format!("127.0.1.1:{}", n + 1));
            Subject {
                n,
                registration: registrar.register(instance.version("0")).unwrap(),
                fault: None,
                since: Instant::now(),
                version: 0,
                wrong_since: None,
                odd_since: None,
            }
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(setting("ETCD_BLOCKING_SEED", 7));
    let pace = Pace::start();
    let (begun, mut changed, mut checks) = (Instant::now(), Instant::now(), 0);
    while begun.elapsed() < duration() {
        if changed.elapsed() >= STEP {
            changed = Instant::now();
            if random.u8(..16) == 0 || store.is_raised && store.since.elapsed() > FULL {
                store.switch(&root);
            }
            for _ in 0..setting("ETCD_BLOCKING_SOAK_CHANGES", 1) {
                let faulty = subjects.iter().filter(|one| one.fault.is_some()).count();
                let one = random.choice(&mut subjects).unwrap();
                if one.fault.is_some() {
                    one.end(&root);
                } else if faulty < usize::from(INSTANCES / 3) {
                    // No key can be put while the store is full.
                    let faults = if store.is_raised { 2 } else { 3 };
                    one.begin(random.u8(..faults), &root);
                }
            }
        }
        let etcd = look(&root);
        let read_at = Instant::now();
        for one in &mut subjects {
            one.check(&etcd, read_at, &store, &pace);
        }
        checks += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    println!(
        "{checks} checks of {INSTANCES} instances in {:?}",
        begun.elapsed()
    );
    if store.is_raised {
        store.switch(&root);
    }
    for one in &mut subjects {
        one.end(&root);
    }
    eventually(SOON, "everything is back", || {
        subjects
            .iter()
            .all(|one| registered(&one.registration.state()))
            .then_some(())
    });
}
