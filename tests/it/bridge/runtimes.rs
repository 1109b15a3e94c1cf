//! Clients used inside async runtimes of the caller.

use super::*;

/// Creates a client and uses all its verbs; then drops or closes it.
fn every_verb(endpoint: &str, prefix: &str, close: bool) {
    let client = Client::connect([endpoint]).unwrap();
    let key = format!("{prefix}/k");
    let watcher = client.watch(Watch::prefix(prefix.to_owned())).unwrap();
    let mirror = client.mirror(KeyRange::prefix(prefix.to_owned())).unwrap();
    let put = client.put(key.clone(), "v").unwrap();
    assert_eq!(client.get(key.clone()).unwrap().unwrap().value(), "v");
    let seen = watcher.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(seen.events()[0].revision(), put.revision());
    assert_eq!(mirror.wait_revision(put.revision(), SOON).unwrap().len(), 1);
    assert!(
        client
            .txn(Txn::always([Get::key(key.clone())]))
            .unwrap()
            .succeeded()
    );
    let pages = client.pages(Get::prefix(prefix.to_owned()), 1).unwrap();
    assert_eq!(pages.map(|page| page.unwrap().len()).sum::<usize>(), 1);
    let pending: Vec<_> = (0..10)
        .map(|_| client.submit(Get::key(key.clone())))
        .collect();
    for get in pending {
        assert_eq!(get.wait().unwrap().count(), 1);
    }
    let lease = client.grant(secs(30)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    client.keep_alive_once(lease.id()).unwrap();
    assert!(
        client
            .time_to_live(lease.id())
            .unwrap()
            .remaining()
            .is_some()
    );
    client.revoke(lease.id()).unwrap();
    let deleted = client.delete(key).unwrap();
    // Compaction at the same revision again is an error; other tests of this server compact too.
    let _ = client.compact(deleted.revision());
    if close {
        client.close().unwrap();
        let last = items(watcher.receiver(), SOON).last().unwrap();
        assert_eq!(last.unwrap_err().kind(), ErrorKind::Closed);
    }
}

// Fault: F40
#[test]
fn every_verb_works_in_every_kind_of_runtime() {
    use tokio::runtime::Builder;

    let etcd = LocalEtcd::start().unwrap();
    let endpoint: Arc<str> = etcd.endpoint().into();
    let verbs = |place: &'static str| {
        let endpoint = Arc::clone(&endpoint);
        move || {
            every_verb(&endpoint, &format!("{place}/closed"), true);
            every_verb(&endpoint, &format!("{place}/dropped"), false);
        }
    };
    within(secs(60), verbs("thread"));
    let kinds = [
        ("current", Builder::new_current_thread()),
        ("multi", Builder::new_multi_thread()),
    ];
    for (kind, mut builder) in kinds {
        let runtime = builder.enable_all().build().unwrap();
        let (inside, spawned, blocking) = match kind {
            "current" => (verbs("c/in"), verbs("c/task"), verbs("c/blocking")),
            _ => (verbs("m/in"), verbs("m/task"), verbs("m/blocking")),
        };
        within(secs(60), move || {
            runtime.block_on(async { inside() });
            runtime.block_on(async {
                tokio::spawn(async move { spawned() }).await.unwrap();
                tokio::task::spawn_blocking(blocking).await.unwrap();
            });
        });
    }
}

#[test]
fn tasks_of_one_runtime_share_a_client_until_the_last_one_drops_it() {
    let etcd = LocalEtcd::start().unwrap();
    let endpoint = etcd.endpoint();
    within(secs(60), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .build()
            .unwrap();
        let client = Client::connect([endpoint]).unwrap();
        // A caller outside of the runtime drives the private runtime at the same time.
        for n in 0..100 {
            client.put("outside", n.to_string()).unwrap();
        }
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let client = client.clone();
                runtime.spawn(async move {
                    for round in 0..50 {
                        let (key, value) = (format!("task/{n}"), format!("{n}.{round}"));
                        client.put(key.clone(), value.clone()).unwrap();
                        assert_eq!(client.get(key).unwrap().unwrap().value_str(), Some(&*value));
                    }
                })
            })
            .collect();
        drop(client);
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
    });
}
