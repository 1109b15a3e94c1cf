//! Views that are opened while etcd is away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use etcd_blocking::{Discovery, ErrorKind, Freshness};

use super::*;
use crate::support::proxy::Proxy;
use crate::support::wait::eventually;

/// A directory that is removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = format!("etcd-blocking-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        let _ = fs::remove_dir_all(&dir);
        Dir(dir)
    }

    /// The only file.
    fn file(&self) -> Option<PathBuf> {
        let files = fs::read_dir(&self.0).ok()?;
        let mut views = files
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "view"));
        let file = views.next();
        assert_eq!(views.next(), None);
        file
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What a view queued is still written, perhaps between the removal of the files and of the directory.
        for _ in 0..100 {
            if fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A client behind a proxy that is cut.
fn unreachable(proxy: &Proxy) -> Client {
    Client::builder([proxy.endpoint()])
        .timeout(Duration::from_secs(1))
        .connect()
        .unwrap()
}

fn shown(discovery: &Discovery) -> Vec<String> {
    ids(discovery.service("web").unwrap().snapshot().iter())
}

/// How long a write may take. It waits until the disk has the file, which takes long on a disk that other
/// programs keep busy.
const SAVED: Duration = Duration::from_secs(120);

/// Waits until the file of a view has these instances. A late file is reported with what the view shows.
#[track_caller]
fn eventually_saved(saved: &ServiceView, away: &Discovery, expected: &[&str]) {
    let (begun, mut is_late) = (Instant::now(), false);
    eventually(SAVED, "the file has the list", || {
        if !is_late && begun.elapsed() > SOON {
            is_late = true;
            let shown = ids(saved.snapshot().iter());
            println!(
                "late: {shown:?}, {:?}, {:?}",
                saved.freshness(),
                saved.last_error()
            );
        }
        (shown(away) == expected).then_some(())
    });
}

#[test]
fn a_view_starts_from_its_file_and_reports_exactly_the_difference() {
    let etcd = LocalEtcd::start().unwrap();
    let near = client(&etcd);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let dir = Dir::new("cold");
    for id in ["a", "b", "c"] {
        put(
            &near,
            id,
            &format!("127.0.1.1:{}", 1 + id.as_bytes()[0]),
            1,
            None,
        );
    }
    let saving = Discovery::new(&near).cache_dir(&dir.0);
    let saved = saving.service("web").unwrap();
    assert_eq!(saved.freshness(), Freshness::Live, "etcd was asked");
    proxy.cut();
    let away = unreachable(&proxy);
    let cached = Discovery::new(&away).cache_dir(&dir.0).allow_empty();
    eventually_saved(&saved, &cached, &["a", "b", "c"]);
    // A later change is saved too.
    put(&near, "d", "127.0.1.1:200", 1, None);
    eventually_saved(&saved, &cached, &["a", "b", "c", "d"]);
    drop(saved);
    assert_eq!(mode(&dir.0), 0o700);
    assert_eq!(mode(&dir.file().unwrap()), 0o600);

    // Meanwhile, the service changes.
    delete(&near, "a");
    put(&near, "b", "127.0.1.1:99", 7, None);
    put(&near, "e", "127.0.1.1:201", 1, None);

    let begun = Instant::now();
    let views: Vec<_> = (0..10).map(|_| cached.service("web").unwrap()).collect();
    println!("ten views from a file in {:?}", begun.elapsed());
    // No request was waited for: etcd is away, and none of them failed.
    let mut readers = Vec::new();
    for view in &views {
        assert_eq!(ids(view.snapshot().iter()), ["a", "b", "c", "d"]);
        let freshness = view.freshness();
        assert!(matches!(freshness, Freshness::Disk { .. }), "{freshness:?}");
        assert!(!freshness.is_authoritative() && view.staleness().is_some());
        assert!(view.pick().is_some());
        let mut reader = Reader::default();
        reader.until(view, "the file", |reader| {
            matches!(reader.changes.last(), Some(Change::Stale { .. }))
        });
        assert_eq!(reader.changes.len(), 2);
        readers.push(reader);
    }
    eventually(SOON, "it says why", || views[0].last_error());
    let back = Instant::now();
    proxy.restore();
    for (view, reader) in views.iter().zip(&mut readers) {
        let snapshot = view.wait_live(SOON).unwrap();
        assert_eq!(ids(snapshot.iter()), ["b", "c", "d", "e"]);
        reader.until(view, "live", |reader| {
            reader.changes.last() == Some(&Change::Live)
        });
        assert_eq!(view.freshness(), Freshness::Live);
        let [_, _, difference, Change::Live] = &reader.changes[..] else {
            panic!("{:?}", reader.changes);
        };
        let Change::Reset {
            added,
            updated,
            removed,
        } = difference
        else {
            panic!("{difference:?}");
        };
        assert_eq!(ids(added), ["e"]);
        assert_eq!(ids(updated), ["b"]);
        assert_eq!(ids(removed.iter().map(|(one, _)| one)), ["a"]);
    }
    println!(
        "ten views are live {:?} after etcd was back",
        back.elapsed()
    );
}

#[test]
fn without_a_file_a_view_needs_etcd_a_fallback_or_the_permission_to_be_empty() {
    let etcd = LocalEtcd::start().unwrap();
    let near = client(&etcd);
    put(&near, "a", "127.0.1.1:1", 1, None);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    proxy.cut();
    let away = unreachable(&proxy);
    let dir = Dir::new("no-file");
    let discovery = Discovery::new(&away).cache_dir(&dir.0);
    let error = discovery.service("web").unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "{error}"
    );
    let empty = discovery.clone().allow_empty();
    let [web, nobody] = ["web", "nobody"].map(|name| empty.service(name).unwrap());
    for view in [&web, &nobody] {
        assert!(view.snapshot().is_empty() && view.pick().is_none());
        assert_eq!(view.freshness(), Freshness::Unknown);
        assert!(!view.freshness().is_authoritative());
    }
    let instances = ["web", "other"].map(|service| Instance::new(service, "127.0.1.9:9"));
    let fallback = discovery.clone().fallback(instances.clone());
    let fallen = fallback.service("web").unwrap();
    assert_eq!(ids(fallen.snapshot().iter()), ["127.0.1.9:9"]);
    assert_eq!(fallen.freshness(), Freshness::Fallback);
    assert_eq!(fallen.pick().unwrap().addr, "127.0.1.9:9");
    let bad = discovery.fallback([Instance::new("web", "nowhere")]);
    let error = bad.service("web").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let late = web.wait_live(Duration::from_millis(50)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");

    proxy.restore();
    for view in [&web, &fallen] {
        assert_eq!(ids(view.wait_live(SOON).unwrap().iter()), ["a"]);
        assert_eq!(view.pick().unwrap().id, "a");
    }
    // Now etcd says that it is empty.
    assert!(nobody.wait_live(SOON).unwrap().is_empty());
    assert!(nobody.freshness().is_authoritative());
    let mut reader = Reader::default();
    reader.until(&nobody, "live", |reader| {
        reader.changes.last() == Some(&Change::Live)
    });
    assert_eq!(reader.changes.len(), 2, "stale, and live");
    let last = near
        .put("/services/web/b", r#"{"addr":"127.0.1.1:2"}"#)
        .unwrap();
    assert_eq!(web.wait_revision(last.revision(), SOON).unwrap().len(), 2);
}

#[test]
fn a_file_that_is_damaged_or_foreign_is_refused_once_and_replaced() {
    let etcd = LocalEtcd::start().unwrap();
    let near = client(&etcd);
    put(&near, "a", "127.0.1.1:1", 1, None);
    let dir = Dir::new("refused");
    let saving = Discovery::new(&near).cache_dir(&dir.0);
    drop(saving.service("web").unwrap());
    let file = eventually(SAVED, "the file", || dir.file());
    let good = fs::read(&file).unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    proxy.cut();
    let other_dir = Dir::new("refused-other");
    let other = Discovery::new(&near).cache_dir(&other_dir.0);
    drop(other.service("other").unwrap());
    let foreign = fs::read(eventually(SAVED, "the file", || other_dir.file())).unwrap();
    let mut changed = good.clone();
    changed[60] ^= 1;
    for (contents, reason) in [
        (&good[..good.len() - 1], "damaged"),
        (&good[..30], "damaged"),
        (&changed[..], "damaged"),
        (&[][..], "not the cache file"),
        (b"[web]\naddr = 1\n", "not the cache file"),
        (&foreign[..], "another view"),
    ] {
        fs::write(&file, contents).unwrap();
        let away = unreachable(&proxy);
        let cached = Discovery::new(&away).cache_dir(&dir.0);
        let view = cached.clone().allow_empty().service("web").unwrap();
        assert_eq!(view.freshness(), Freshness::Unknown);
        assert!(view.snapshot().is_empty());
        let error = view.last_error().unwrap().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(away.metrics().views.cache_failures, 1);
    }
    fs::write(&file, &good).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
    let away = unreachable(&proxy);
    let cached = Discovery::new(&away).cache_dir(&dir.0).allow_empty();
    let view = cached.service("web").unwrap();
    let error = view.last_error().unwrap().to_string();
    assert!(error.contains("other users"), "{error}");
    // It becomes live by itself, and replaces the file.
    proxy.restore();
    assert_eq!(view.wait_live(SOON).unwrap().len(), 1);
    assert!(view.last_error().is_none());
    proxy.cut();
    eventually_saved(&view, &cached, &["a"]);
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn a_write_that_fails_is_repeated_and_does_not_create_the_directory_again() {
    let etcd = LocalEtcd::start().unwrap();
    let near = client(&etcd);
    put(&near, "a", "127.0.1.1:1", 1, None);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    proxy.cut();
    let dir = Dir::new("lost-dir");
    let view = Discovery::new(&near)
        .cache_dir(&dir.0)
        .service("web")
        .unwrap();
    let away = unreachable(&proxy);
    let cached = Discovery::new(&away).cache_dir(&dir.0).allow_empty();
    eventually_saved(&view, &cached, &["a"]);
    fs::remove_dir_all(&dir.0).unwrap();
    put(&near, "b", "127.0.1.1:2", 1, None);
    eventually(SAVED, "failures", || {
        (near.metrics().views.cache_failures >= 2).then_some(())
    });
    assert!(!dir.0.exists());
    // The instances do not change again.
    fs::create_dir(&dir.0).unwrap();
    eventually_saved(&view, &cached, &["a", "b"]);
}

#[test]
fn suspects_are_not_lost_from_the_file() {
    let etcd = LocalEtcd::start().unwrap();
    let near = client(&etcd);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let dir = Dir::new("suspects");
    let listeners = [(); 6].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let lease = near.grant(Duration::from_secs(600)).unwrap().id();
    for (n, listener) in listeners.iter().enumerate() {
        let addr = listener.local_addr().unwrap().to_string();
        put(&near, &n.to_string(), &addr, 1, Some(lease));
    }
    let view = Discovery::new(&near)
        .cache_dir(&dir.0)
        .service("web")
        .unwrap();
    proxy.cut();
    let away = unreachable(&proxy);
    let cached = Discovery::new(&away).cache_dir(&dir.0).allow_empty();
    let all = ["0", "1", "2", "3", "4", "5"];
    eventually_saved(&view, &cached, &all);
    near.revoke(lease).unwrap();
    let mut reader = Reader::default();
    reader.until(&view, "suspects", |reader| {
        let known = reader.known.values();
        known
            .filter(|one| one.status == etcd_blocking::Status::Suspect)
            .count()
            == 6
    });
    // The next change would be saved if the list were true.
    put(&near, "new", "127.0.1.1:1", 1, None);
    reader.until(&view, "the new one", |reader| reader.known.len() == 7);
    assert_eq!(shown(&cached), all);
    for (n, listener) in listeners.iter().enumerate() {
        let addr = listener.local_addr().unwrap().to_string();
        put(&near, &n.to_string(), &addr, 1, None);
    }
    eventually_saved(&view, &cached, &["0", "1", "2", "3", "4", "5", "new"]);
}
