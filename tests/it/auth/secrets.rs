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

/// All log output.
static LOG: Mutex<String> = Mutex::new(String::new());

/// Records all log output.
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

/// All texts of a value: `Debug`, and of an error `Display` and its sources.
fn write_debug(output: &mut String, value: &dyn fmt::Debug) {
    let _ = write!(output, "{value:?}\n{value:#?}\n");
}

fn outcome<T: fmt::Debug>(output: &mut String, result: Result<T>) {
    write_debug(output, &result);
    if let Err(error) = &result {
        write_sources(output, error);
    }
}

fn write_sources(output: &mut String, error: &Error) {
    let _ = writeln!(output, "{error}");
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        let _ = writeln!(output, "{source} {source:?}");
        next = source.source();
    }
}

fn plain(endpoint: &str) -> ClientBuilder {
    Client::builder([endpoint])
        .timeout(Duration::from_secs(8))
        .allow_plaintext_credentials()
}

/// Calls all kinds of verbs with one client, with success or not.
fn call_all_verbs(output: &mut String, client: &Client) {
    write_debug(output, client);
    outcome(output, client.put("app/control", "v"));
    outcome(output, client.get("app/control"));
    outcome(output, client.get("other"));
    outcome(output, client.watch("app/control"));
    outcome(output, client.mirror(KeyRange::prefix("app/")));
    let lease = client.grant(Duration::from_secs(10));
    if let Ok(lease) = &lease {
        let alive = client.keep_alive(lease.id());
        if let Ok(alive) = &alive {
            write_debug(
                output,
                &alive.receiver().recv_timeout(Duration::from_secs(2)),
            );
        }
        outcome(output, alive);
        outcome(output, client.keep_alive_once(lease.id()));
        outcome(output, client.revoke(lease.id()));
    }
    outcome(output, lease);
    outcome(output, client.txn(Txn::always([Put::new("app/t", "v")])));
    outcome(output, client.delete("app/t"));
    outcome(output, client.leases());
    outcome(output, client.maintenance().status());
    outcome(output, client.maintenance().health());
    outcome(output, client.cluster().member_list());
    outcome(output, client.maintenance().alarms());
    outcome(output, client.maintenance().snapshot_to(std::io::sink()));
    outcome(
        output,
        Cache::open(client, "app/").map(|cache| cache.snapshot()),
    );
    let session = Session::builder(client).start();
    if let Ok(session) = &session {
        outcome(
            output,
            concurrency::Mutex::new(session, "app/lock").try_lock(),
        );
        let election = Election::new(session, "app/election");
        outcome(
            output,
            election.campaign_timeout("me", Duration::from_secs(2)),
        );
    }
    recipes(output, client);
    administration(output, client);
    outcome(output, session);
    write_debug(output, &client.metrics());
    outcome(output, client.auth().status());
    outcome(output, client.auth().role_list());
    outcome(output, client.auth().user_list());
    outcome(output, client.call(Authenticate::new("carol", PASSWORD)));
    outcome(output, client.call(Authenticate::new("carol", OTHER)));
    outcome(output, client.auth().user_add("carol", PASSWORD));
    outcome(output, client.auth().user_add("", PASSWORD));
    outcome(output, client.auth().user_change_password("carol", OTHER));
    outcome(
        output,
        client.auth().user_change_password("carol", PASSWORD),
    );
}

/// Calls further verbs with keys.
fn recipes(output: &mut String, client: &Client) {
    let within = Duration::from_secs(1);
    outcome(output, client.get_prefix("app/"));
    outcome(output, client.submit(Get::prefix("app/")).wait());
    for page in client.pages(Get::prefix("app/"), 10).into_iter().flatten() {
        outcome(output, page);
    }
    outcome(output, client.ordered().get("app/control"));
    outcome(
        output,
        client.namespace("app/").and_then(|app| app.get("control")),
    );
    let set = client.watch_set();
    outcome(
        output,
        set.as_ref()
            .map_err(Error::clone)
            .and_then(|set| set.add("app/x")),
    );
    outcome(output, set);
    if let Ok(session) = Session::builder(client).start() {
        outcome(output, client.time_to_live(session.lease()));
        outcome(
            output,
            client.call(Lock::new("app/service", &session).within(within)),
        );
        outcome(output, client.lock_service().unlock("app/service/none"));
        let won = client.call(Campaign::new("app/vote", "me", &session).within(within));
        if let Ok(won) = &won {
            outcome(
                output,
                client.lock_service().proclaim(won.leader(), "again"),
            );
            outcome(output, client.lock_service().leader("app/vote"));
            outcome(
                output,
                client
                    .lock_service()
                    .observe("app/vote")
                    .map(|leaders| leaders.recv_timeout(within)),
            );
            outcome(output, client.lock_service().resign(won.leader()));
        }
        outcome(output, won);
        outcome(output, RwLock::new(&session, "app/rw").try_write());
        outcome(
            output,
            DoubleBarrier::new(&session, "app/both", 2).enter_timeout(within),
        );
    }
    outcome(output, Stm::new(client).run(|tx| tx.get("app/control")));
    outcome(output, Queue::new(client, "app/q").enqueue("v"));
    outcome(output, Queue::new(client, "app/q").try_dequeue());
    outcome(output, PriorityQueue::new(client, "app/p").enqueue("v", 1));
    outcome(
        output,
        Barrier::new(client, "app/gate").wait_timeout(within),
    );
    let copy = MakeMirror::new(client, client)
        .prefix("app/q")
        .dest_prefix("app/copy")
        .start();
    outcome(output, copy);
    let registrar = Registrar::builder(client).prefix("app/services/").start();
    if let Ok(registrar) = &registrar {
        let registered = registrar.register(Instance::new("web", "127.0.0.1:80"));
        outcome(
            output,
            registered.and_then(|r| r.wait_registered(within).map(|_| r)),
        );
    }
    outcome(output, registrar);
    outcome(
        output,
        Discovery::new(client)
            .prefix("app/services/")
            .service("web"),
    );
}

/// Calls the verbs of an operator that do not harm the server.
fn administration(output: &mut String, client: &Client) {
    outcome(output, client.compact(Revision::new(1)));
    outcome(output, client.maintenance().hash_kv(Revision::new(0)));
    outcome(output, client.maintenance().defragment());
    outcome(
        output,
        client
            .maintenance()
            .snapshot()
            .map(|mut bytes| std::io::copy(&mut bytes, &mut std::io::sink()).is_ok()),
    );
    outcome(output, client.maintenance().disarm_all());
    outcome(output, client.maintenance().downgrade_validate("3.0.0"));
    outcome(output, client.maintenance().downgrade_cancel());
    let nobody = MemberId::new(42);
    outcome(output, client.maintenance().move_leader(nobody));
    outcome(output, client.cluster().member_promote(nobody));
    outcome(output, client.cluster().member_remove(nobody));
    outcome(
        output,
        client
            .cluster()
            .member_update(nobody, ["http://127.0.0.1:1"]),
    );
    outcome(output, client.cluster().member_add(["no url"]));
    outcome(
        output,
        client.at("http://127.0.0.1:1").and_then(|view| {
            view.with_timeout(Duration::from_millis(50))
                .maintenance()
                .status()
        }),
    );
    outcome(output, client.auth().enable());
    outcome(output, client.auth().role_add("passing"));
    outcome(
        output,
        client
            .auth()
            .role_grant_permission("passing", Permission::read("app/x")),
    );
    outcome(output, client.auth().role_get("passing"));
    outcome(
        output,
        client.auth().role_revoke_permission("passing", "app/x"),
    );
    outcome(output, client.auth().user_add("passing", OTHER));
    outcome(output, client.auth().user_grant_role("passing", "passing"));
    outcome(output, client.auth().user_get("passing"));
    outcome(output, client.auth().user_revoke_role("passing", "passing"));
    outcome(output, client.auth().user_delete("passing"));
    outcome(output, client.auth().role_delete("passing"));
}

#[test]
fn no_password_and_no_token_is_ever_printed_or_logged() {
    let name = "auth::secrets::no_password_and_no_token_is_ever_printed_or_logged";
    alone(name, Duration::from_secs(240), || {
        tracing::subscriber::set_global_default(Everything).unwrap();
        let mut output = String::new();
        let etcd = etcd(&[]);
        let root = enable(&etcd);
        root.auth().user_add("carol", PASSWORD).unwrap();
        root.auth().user_grant_role("carol", "app").unwrap();
        let proxy = Proxy::start(etcd.client_addr()).unwrap();
        let endpoint = proxy.endpoint();

        write_debug(&mut output, &UserAdd::new("carol", PASSWORD));
        write_debug(&mut output, &UserChangePassword::new("carol", PASSWORD));
        write_debug(&mut output, &Authenticate::new("carol", PASSWORD));
        let right = plain(&endpoint).user("carol", PASSWORD);
        let wrong = plain(&endpoint).user("carol", OTHER);
        let token = plain(&endpoint).token(TOKEN);
        for builder in [&right, &wrong, &token] {
            write_debug(&mut output, builder);
        }
        for refused in [
            Client::builder([endpoint.as_str()]).user("carol", PASSWORD),
            Client::builder([endpoint.as_str()]).token(TOKEN),
            plain(&endpoint).user("carol", PASSWORD).token(TOKEN),
            plain(&endpoint).token(format!("{TOKEN}\n")),
            Client::builder([format!("http://root:{PASSWORD}@localhost:1")]),
            Client::builder([format!("http://{PASSWORD}@localhost")]),
        ] {
            write_debug(&mut output, &refused);
            outcome(&mut output, refused.connect());
        }
        let right = right.connect().unwrap();
        for client in [
            &right,
            &user(&etcd, "root"),
            &wrong.connect().unwrap(),
            &token.connect().unwrap(),
        ] {
            call_all_verbs(&mut output, client);
        }
        // An invalid token, a cut connection, a silent one, and another password.
        let watch = right.watch(KeyRange::prefix("app/")).unwrap();
        root.auth().user_change_password("carol", PASSWORD).unwrap();
        call_all_verbs(&mut output, &right);
        proxy.drop_connections();
        call_all_verbs(&mut output, &right);
        proxy.black_hole(true);
        let soon = Duration::from_millis(500);
        outcome(&mut output, right.with_timeout(soon).put("app/k", "v"));
        outcome(
            &mut output,
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
        call_all_verbs(&mut output, &right);
        for item in watch.receiver().try_iter() {
            outcome(&mut output, item);
        }
        outcome(&mut output, right.close());
        outcome(&mut output, root.auth().disable());
        outcome(&mut output, root.auth().status());

        let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(log.contains("h2::"), "output of the libraries is recorded");
        assert!(
            log.len() > 100_000 && output.len() > 10_000,
            "{} {}",
            log.len(),
            output.len()
        );
        for secret in [PASSWORD, OTHER, TOKEN, "canary"] {
            let bytes = format!("{:?}", secret.as_bytes());
            for (what, text) in [("log", &*log), ("print", &output)] {
                let line = text
                    .lines()
                    .find(|line| line.contains(secret) || line.contains(&bytes));
                assert_eq!(line, None, "a secret is in the {what} output");
            }
        }
    });
}
