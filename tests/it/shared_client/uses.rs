//! Kinds of use that share a client, each as one repeatable operation.

use std::time::Duration;

use etcd_blocking::concurrency::{Barrier, Election, Mutex, Queue, RwLock, Session, Stm};
use etcd_blocking::mirror::Cache;
use etcd_blocking::{
    Client, Compare, Discovery, Error, ErrorKind, Get, Instance, KeyRange, Put, Registrar, Result,
    State, Txn, Watch,
};

/// The limit of operations that the client's timeout does not bound.
const LONG: Duration = Duration::from_secs(10);

/// One use: its name, and one operation of it.
pub(super) struct Use {
    pub(super) name: &'static str,
    pub(super) step: Box<dyn FnMut() -> Result<()> + Send>,
}

fn used(name: &'static str, step: impl FnMut() -> Result<()> + Send + 'static) -> Use {
    let step = Box::new(step);
    Use { name, step }
}

fn lost(what: &str) -> Error {
    // Any error ends the test with its text.
    panic!("{what}")
}

/// All uses without a permission outside `use/`.
pub(super) fn all(client: &Client) -> Vec<Use> {
    vec![
        put(client),
        get(client),
        txn(client),
        pages(client),
        stm(client),
        leases(client),
        kept_lease(client),
        watch(client),
        mirror(client),
        cache(client),
        mutex(client),
        server_lock(client),
        rw_lock(client),
        election(client),
        queue(client),
        barrier(client),
        view(client),
        registered(client),
    ]
}

fn put(client: &Client) -> Use {
    let client = client.clone();
    used("put", move || client.put("use/put", "x").map(drop))
}

fn get(client: &Client) -> Use {
    let client = client.clone();
    used("get", move || client.get("use/put").map(drop))
}

fn txn(client: &Client) -> Use {
    let client = client.clone();
    used("txn", move || {
        let there = Compare::exists("use/txn");
        let put = || Put::new("use/txn", "x");
        let txn = Txn::when([there]).then([put()]).or_else([put()]);
        client.txn(txn).map(drop)
    })
}

fn pages(client: &Client) -> Use {
    let client = client.clone();
    for n in 0..200 {
        client.put(format!("use/pages/{n:03}"), "x").unwrap();
    }
    used("pages", move || {
        let mut seen = 0;
        for page in client.pages(Get::prefix("use/pages/"), 50)? {
            seen += page?.len();
        }
        assert_eq!(seen, 200);
        Ok(())
    })
}

fn stm(client: &Client) -> Use {
    let stm = Stm::new(client);
    used("stm", move || {
        stm.run(|tx| {
            let old = tx.get("use/stm")?.map_or(0, |value| value.len());
            tx.put("use/stm", "x".repeat((old + 1) % 50));
            Ok(())
        })
        .map(drop)
    })
}

fn leases(client: &Client) -> Use {
    let client = client.clone();
    used("grant, revoke", move || {
        let lease = client.grant(Duration::from_secs(60))?;
        client.revoke(lease.id()).map(drop)
    })
}

fn kept_lease(client: &Client) -> Use {
    let lease = client.grant(Duration::from_secs(4)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    used("kept lease", move || {
        while alive.receiver().try_recv().is_ok() {}
        alive.check()
    })
}

fn watch(client: &Client) -> Use {
    let watcher = client.watch(Watch::key("use/watch")).unwrap();
    let client = client.clone();
    used("watch", move || {
        let put = client.put("use/watch", "x")?.revision();
        loop {
            match watcher.recv_timeout(LONG) {
                Ok(item) if item.as_ref().is_ok_and(|seen| seen.revision() < put) => {}
                Ok(item) => return item.map(drop),
                Err(_) => return Err(lost("the watch brings nothing")),
            }
        }
    })
}

fn mirror(client: &Client) -> Use {
    let mirror = client.mirror(KeyRange::prefix("use/mirror/")).unwrap();
    let client = client.clone();
    used("mirror", move || {
        let put = client.put("use/mirror/k", "x")?.revision();
        mirror.wait_revision(put, LONG).map(drop)
    })
}

fn cache(client: &Client) -> Use {
    let cache = Cache::open(client, "use/cache/").unwrap();
    used("cache", move || {
        cache.put("use/cache/k", "x")?;
        assert!(cache.get("use/cache/k")?.is_some());
        cache.get_linearizable("use/cache/k").map(drop)
    })
}

fn session(client: &Client) -> Session {
    Session::builder(client)
        .ttl(Duration::from_secs(5))
        .start()
        .unwrap()
}

fn mutex(client: &Client) -> Use {
    let session = session(client);
    used("mutex", move || {
        Mutex::new(&session, "use/mutex")
            .lock_timeout(LONG)?
            .unlock()
    })
}

fn server_lock(client: &Client) -> Use {
    let session = session(client);
    let client = client.clone();
    used("server's lock", move || {
        let locked = client.lock_service().lock("use/lock", &session)?;
        client.lock_service().unlock(locked.key().clone()).map(drop)
    })
}

fn rw_lock(client: &Client) -> Use {
    let session = session(client);
    used("rw lock", move || {
        let lock = RwLock::new(&session, "use/rw");
        lock.read_timeout(LONG)?.unlock()?;
        lock.write_timeout(LONG)?.unlock()
    })
}

fn election(client: &Client) -> Use {
    let session = session(client);
    used("election", move || {
        Election::new(&session, "use/election")
            .campaign_timeout("me", LONG)?
            .resign()
    })
}

fn queue(client: &Client) -> Use {
    let queue = Queue::new(client, "use/queue");
    used("queue", move || {
        queue.enqueue("x")?;
        match queue.dequeue_timeout(LONG)? {
            Some(_) => Ok(()),
            None => Err(lost("the queue is empty")),
        }
    })
}

fn barrier(client: &Client) -> Use {
    let barrier = Barrier::new(client, "use/barrier");
    used("barrier", move || {
        barrier.hold()?;
        barrier.release()?;
        barrier.wait_timeout(LONG)
    })
}

fn view(client: &Client) -> Use {
    let registrar = Registrar::builder(client)
        .prefix("use/view/")
        .start()
        .unwrap();
    let view = Discovery::new(client)
        .prefix("use/view/")
        .service("web")
        .unwrap();
    used("view", move || {
        let registration = registrar.register(Instance::new("web", "h:1"))?;
        let seen = view.wait_revision(registration.revision().unwrap_or_default(), LONG)?;
        assert_eq!(seen.len(), 1);
        registration.leave()
    })
}

/// A registration that must be registered at every check.
fn registered(client: &Client) -> Use {
    let registrar = Registrar::builder(client)
        .prefix("use/services/")
        .ttl(Duration::from_secs(5))
        .start()
        .unwrap();
    let registration = registrar.register(Instance::new("web", "h:2")).unwrap();
    let revision = registration.revision();
    let client = client.clone();
    used("registered", move || {
        let state = registration.state();
        assert!(matches!(state, State::Registered { .. }), "{state:?}");
        assert_eq!(registration.revision(), revision, "it was not restored");
        match client.get("use/services/web/h:2")? {
            Some(_) => Ok(()),
            None => Err(lost("the registration is gone")),
        }
    })
}

/// A snapshot; with authentication, only root may take one.
pub(super) fn snapshot(client: &Client) -> Use {
    let client = client.clone();
    used("snapshot", move || {
        client.maintenance().snapshot_to(std::io::sink()).map(drop)
    })
}

/// Asserts that a request was refused with one of these kinds.
#[track_caller]
pub(super) fn refused<T>(result: Result<T>, kinds: &[ErrorKind]) {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => assert!(
            kinds.contains(&error.kind()),
            "{error} ({:?})",
            error.kind()
        ),
    }
}
