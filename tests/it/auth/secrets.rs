//! Passwords and tokens appear in no output: not in `Debug`, errors, or logs of any crate at level `trace`.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_blocking::auth::{Authenticate, Permission, UserAdd, UserChangePassword};
use etcd_blocking::cluster::MemberId;
use etcd_blocking::concurrency::{
    self, Barrier, DoubleBarrier, Election, PriorityQueue, Queue, RwLock, Session, Stm,
};
use etcd_blocking::lock_service::{Campaign, Lock};
use etcd_blocking::mirror::{Cache, MakeMirror};
use etcd_blocking::{
    Client, ClientBuilder, Discovery, Error, Get, Instance, KeyRange, Put, Registrar, Result,
    Revision, Txn,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::{enable, etcd, user};
use crate::support::child::alone;
use crate::support::proxy::Proxy;

const PASSWORD: &str = "canary-4711-password";
const OTHER: &str = "canary-4712-password";
const TOKEN: &str = "canary-4713.token.signature";

/// All that was logged.
static LOG: Mutex<String> = Mutex::new(String::new());

/// Writes down everything.
struct Everything;

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?} {value:#?}");
    }
}

fn log(write: impl FnOnce(&mut Line<'_>), what: &dyn fmt::Display) {
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = write!(log, "\n{what}");
    write(&mut Line(&mut log));
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        log(|line| span.record(line), &span.metadata().target());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        log(|line| values.record(line), &"");
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        log(|line| event.record(line), &event.metadata().target());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Everything that a value can be made to say.
fn say(said: &mut String, value: &dyn fmt::Debug) {
    let _ = write!(said, "{value:?}\n{value:#?}\n");
}

fn outcome<T: fmt::Debug>(said: &mut String, result: Result<T>) {
    say(said, &result);
    if let Err(error) = &result {
        explain(said, error);
    }
}

fn explain(said: &mut String, error: &Error) {
    let _ = writeln!(said, "{error}");
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        let _ = writeln!(said, "{source} {source:?}");
        next = source.source();
    }
}

fn plain(endpoint: &str) -> ClientBuilder {
    Client::builder([endpoint])
        .timeout(Duration::from_secs(8))
        .allow_plaintext_credentials()
}

/// Verbs of all sorts with one client, working or not.
fn exercise(said: &mut String, client: &Client) {
    say(said, client);
    outcome(said, client.put("app/control", "v"));
    outcome(said, client.get("app/control"));
    outcome(said, client.get("other"));
    outcome(said, client.watch("app/control"));
    outcome(said, client.mirror(KeyRange::prefix("app/")));
    let lease = client.grant(Duration::from_secs(10));
    if let Ok(lease) = &lease {
        let alive = client.keep_alive(lease.id());
        if let Ok(alive) = &alive {
            say(said, &alive.receiver().recv_timeout(Duration::from_secs(2)));
        }
        outcome(said, alive);
        outcome(said, client.keep_alive_once(lease.id()));
        outcome(said, client.revoke(lease.id()));
    }
    outcome(said, lease);
    outcome(said, client.txn(Txn::always([Put::new("app/t", "v")])));
    outcome(said, client.delete("app/t"));
    outcome(said, client.leases());
    outcome(said, client.maintenance().status());
    outcome(said, client.maintenance().health());
    outcome(said, client.cluster().member_list());
    outcome(said, client.maintenance().alarms());
    outcome(said, client.maintenance().snapshot_to(std::io::sink()));
    outcome(
        said,
        Cache::open(client, "app/").map(|cache| cache.snapshot()),
    );
    let session = Session::builder(client).start();
    if let Ok(session) = &session {
        outcome(
            said,
            concurrency::Mutex::new(session, "app/lock").try_lock(),
        );
        let election = Election::new(session, "app/election");
        outcome(
            said,
            election.campaign_timeout("me", Duration::from_secs(2)),
        );
    }
    recipes(said, client);
    administration(said, client);
    outcome(said, session);
    say(said, &client.metrics());
    outcome(said, client.auth().status());
    outcome(said, client.auth().role_list());
    outcome(said, client.auth().user_list());
    outcome(said, client.call(Authenticate::new("carol", PASSWORD)));
    outcome(said, client.call(Authenticate::new("carol", OTHER)));
    outcome(said, client.auth().user_add("carol", PASSWORD));
    outcome(said, client.auth().user_add("", PASSWORD));
    outcome(said, client.auth().user_change_password("carol", OTHER));
    outcome(said, client.auth().user_change_password("carol", PASSWORD));
}

/// What else a program may do with keys.
fn recipes(said: &mut String, client: &Client) {
    let within = Duration::from_secs(1);
    outcome(said, client.get_prefix("app/"));
    outcome(said, client.submit(Get::prefix("app/")).wait());
    for page in client.pages(Get::prefix("app/"), 10).into_iter().flatten() {
        outcome(said, page);
    }
    outcome(said, client.ordered().get("app/control"));
    outcome(
        said,
        client.namespace("app/").and_then(|app| app.get("control")),
    );
    let set = client.watch_set();
    outcome(
        said,
        set.as_ref()
            .map_err(Error::clone)
            .and_then(|set| set.add("app/x")),
    );
    outcome(said, set);
    if let Ok(session) = Session::builder(client).start() {
        outcome(said, client.time_to_live(session.lease()));
        outcome(
            said,
            client.call(Lock::new("app/service", &session).within(within)),
        );
        outcome(said, client.lock_service().unlock("app/service/none"));
        let won = client.call(Campaign::new("app/vote", "me", &session).within(within));
        if let Ok(won) = &won {
            outcome(said, client.lock_service().proclaim(won.leader(), "again"));
            outcome(said, client.lock_service().leader("app/vote"));
            outcome(
                said,
                client
                    .lock_service()
                    .observe("app/vote")
                    .map(|leaders| leaders.recv_timeout(within)),
            );
            outcome(said, client.lock_service().resign(won.leader()));
        }
        outcome(said, won);
        outcome(said, RwLock::new(&session, "app/rw").try_write());
        outcome(
            said,
            DoubleBarrier::new(&session, "app/both", 2).enter_timeout(within),
        );
    }
    outcome(said, Stm::new(client).run(|tx| tx.get("app/control")));
    outcome(said, Queue::new(client, "app/q").enqueue("v"));
    outcome(said, Queue::new(client, "app/q").try_dequeue());
    outcome(said, PriorityQueue::new(client, "app/p").enqueue("v", 1));
    outcome(said, Barrier::new(client, "app/gate").wait_timeout(within));
    let copy = MakeMirror::new(client, client)
        .prefix("app/q")
        .dest_prefix("app/copy")
        .start();
    outcome(said, copy);
    let registrar = Registrar::builder(client).prefix("app/services/").start();
    if let Ok(registrar) = &registrar {
        let registered = registrar.register(Instance::new("web", "127.0.0.1:80"));
        outcome(
            said,
            registered.and_then(|r| r.wait_registered(within).map(|_| r)),
        );
    }
    outcome(said, registrar);
    outcome(
        said,
        Discovery::new(client)
            .prefix("app/services/")
            .service("web"),
    );
}

/// What an operator may do, without harm to the server where it may be done.
fn administration(said: &mut String, client: &Client) {
    outcome(said, client.compact(Revision::new(1)));
    outcome(said, client.maintenance().hash_kv(Revision::new(0)));
    outcome(said, client.maintenance().defragment());
    outcome(
        said,
        client
            .maintenance()
            .snapshot()
            .map(|mut bytes| std::io::copy(&mut bytes, &mut std::io::sink()).is_ok()),
    );
    outcome(said, client.maintenance().disarm_all());
    outcome(said, client.maintenance().downgrade_validate("3.0.0"));
    outcome(said, client.maintenance().downgrade_cancel());
    let nobody = MemberId::new(42);
    outcome(said, client.maintenance().move_leader(nobody));
    outcome(said, client.cluster().member_promote(nobody));
    outcome(said, client.cluster().member_remove(nobody));
    outcome(
        said,
        client
            .cluster()
            .member_update(nobody, ["http://127.0.0.1:1"]),
    );
    outcome(said, client.cluster().member_add(["no url"]));
    outcome(
        said,
        client.at("http://127.0.0.1:1").and_then(|view| {
            view.with_timeout(Duration::from_millis(50))
                .maintenance()
                .status()
        }),
    );
    outcome(said, client.auth().enable());
    outcome(said, client.auth().role_add("passing"));
    outcome(
        said,
        client
            .auth()
            .role_grant_permission("passing", Permission::read("app/x")),
    );
    outcome(said, client.auth().role_get("passing"));
    outcome(
        said,
        client.auth().role_revoke_permission("passing", "app/x"),
    );
    outcome(said, client.auth().user_add("passing", OTHER));
    outcome(said, client.auth().user_grant_role("passing", "passing"));
    outcome(said, client.auth().user_get("passing"));
    outcome(said, client.auth().user_revoke_role("passing", "passing"));
    outcome(said, client.auth().user_delete("passing"));
    outcome(said, client.auth().role_delete("passing"));
}

#[test]
fn no_password_and_no_token_is_ever_printed_or_logged() {
    let name = "auth::secrets::no_password_and_no_token_is_ever_printed_or_logged";
    alone(name, Duration::from_secs(240), || {
        tracing::subscriber::set_global_default(Everything).unwrap();
        let mut said = String::new();
        let etcd = etcd(&[]);
        let root = enable(&etcd);
        root.auth().user_add("carol", PASSWORD).unwrap();
        root.auth().user_grant_role("carol", "app").unwrap();
        let proxy = Proxy::start(etcd.client_addr());
        let endpoint = proxy.endpoint();

        say(&mut said, &UserAdd::new("carol", PASSWORD));
        say(&mut said, &UserChangePassword::new("carol", PASSWORD));
        say(&mut said, &Authenticate::new("carol", PASSWORD));
        let right = plain(&endpoint).user("carol", PASSWORD);
        let wrong = plain(&endpoint).user("carol", OTHER);
        let token = plain(&endpoint).token(TOKEN);
        for builder in [&right, &wrong, &token] {
            say(&mut said, builder);
        }
        for refused in [
            Client::builder([endpoint.as_str()]).user("carol", PASSWORD),
            Client::builder([endpoint.as_str()]).token(TOKEN),
            plain(&endpoint).user("carol", PASSWORD).token(TOKEN),
            plain(&endpoint).token(format!("{TOKEN}\n")),
            Client::builder([format!("http://root:{PASSWORD}@localhost:1")]),
            Client::builder([format!("http://{PASSWORD}@localhost")]),
        ] {
            say(&mut said, &refused);
            outcome(&mut said, refused.connect());
        }
        let right = right.connect().unwrap();
        for client in [
            &right,
            &user(&etcd, "root"),
            &wrong.connect().unwrap(),
            &token.connect().unwrap(),
        ] {
            exercise(&mut said, client);
        }
        // Void while in use, cut off, silent, and with another password.
        let watch = right.watch(KeyRange::prefix("app/")).unwrap();
        root.auth().user_change_password("carol", PASSWORD).unwrap();
        exercise(&mut said, &right);
        proxy.drop_connections();
        exercise(&mut said, &right);
        proxy.black_hole(true);
        let soon = Duration::from_millis(500);
        outcome(&mut said, right.with_timeout(soon).put("app/k", "v"));
        outcome(
            &mut said,
            plain(&endpoint)
                .user("carol", PASSWORD)
                .timeout(soon)
                .connect()
                .unwrap()
                .get("app/k"),
        );
        proxy.black_hole(false);
        proxy.drop_connections();
        root.auth().user_change_password("carol", OTHER).unwrap();
        exercise(&mut said, &right);
        for item in watch.receiver().try_iter() {
            outcome(&mut said, item);
        }
        outcome(&mut said, right.close());
        outcome(&mut said, root.auth().disable());
        outcome(&mut said, root.auth().status());

        let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(log.contains("h2::"), "the crates below are heard");
        assert!(
            log.len() > 100_000 && said.len() > 10_000,
            "{} {}",
            log.len(),
            said.len()
        );
        for secret in [PASSWORD, OTHER, TOKEN, "canary"] {
            let bytes = format!("{:?}", secret.as_bytes());
            for (what, text) in [("log", &*log), ("print", &said)] {
                let line = text
                    .lines()
                    .find(|line| line.contains(secret) || line.contains(&bytes));
                assert_eq!(line, None, "a secret is in what is {what}ed");
            }
        }
    });
}
