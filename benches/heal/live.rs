//! How soon a view is live once etcd is back.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::{LocalEtcd, Proxy};
use etcd_blocking::{Client, Discovery, Freshness, ServiceView};

use super::{ROUNDS, SOON, print, random, until};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a view shows while etcd is away.
#[derive(Clone, Copy, Debug)]
enum Shown {
    File,
    OldList,
}

/// What a client sees of an etcd that is away.
#[derive(Clone, Copy, Debug)]
enum Away {
    Reset,
    Silent,
}

pub(super) fn run() {
    let mut etcd = LocalEtcd::start().unwrap();
    let dir = std::env::temp_dir().join(format!("etcd-blocking-heal-{}", std::process::id()));
    save(&etcd, &dir);
    for away in [Away::Reset, Away::Silent] {
        for shown in [Shown::File, Shown::OldList] {
            let etcd = &etcd;
            let times = thread::scope(|scope| {
                let rounds =
                    [(); ROUNDS].map(|()| scope.spawn(|| behind_proxy(etcd, &dir, shown, away)));
                rounds.map(|round| round.join().unwrap())
            });
            print(
                &format!("{away:?} connections, view of {shown:?}"),
                times.into(),
            );
        }
    }
    let mut times = [(); 3].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        for (times, time) in times.iter_mut().zip(restart(&mut etcd, &dir)) {
            times.push(time);
        }
    }
    let [file, old_list, healthy] = times;
    print("restart of etcd, view of File", file);
    print("restart of etcd, view of OldList", old_list);
    print("restart of etcd, /health of etcd itself", healthy);
    // A view that was dropped may still write its file.
    let _ = fs::remove_dir_all(dir);
}

/// Writes the cache file of the service.
fn save(etcd: &LocalEtcd, dir: &PathBuf) {
    let client = Client::connect(etcd.endpoint()).unwrap();
    client
        .put("/services/web/a", r#"{"addr":"127.0.1.1:1"}"#)
        .unwrap();
    let saving = Discovery::new(&client)
        .cache_dir(dir)
        .service("web")
        .unwrap();
    let is_view = |path: &Path| path.extension().is_some_and(|kind| kind == "view");
    until(Instant::now(), MS, || {
        let files = fs::read_dir(dir).into_iter().flatten();
        files.flatten().any(|file| is_view(&file.path()))
    });
    drop(saving);
}

fn is_live(view: &ServiceView) -> bool {
    view.freshness() == Freshness::Live
}

fn behind_proxy(etcd: &LocalEtcd, dir: &Path, shown: Shown, away: Away) -> Duration {
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let fault = || match away {
        Away::Reset => proxy.cut(),
        Away::Silent => proxy.black_hole(true),
    };
    let client = Client::connect(proxy.endpoint()).unwrap();
    let discovery = Discovery::new(&client);
    let view = match shown {
        Shown::File => {
            fault();
            discovery.cache_dir(dir).service("web").unwrap()
        }
        Shown::OldList => {
            let view = discovery.service("web").unwrap();
            fault();
            view
        }
    };
    until(Instant::now(), MS, || !is_live(&view));
    thread::sleep(random(SECOND * 3, SECOND * 10));
    assert!(!is_live(&view));
    let back = Instant::now();
    proxy.heal();
    until(back, MS, || is_live(&view))
}

/// The times from the first connection that etcd accepts until a view from a file is live, until one that was live
/// before is, and until etcd calls itself healthy.
fn restart(etcd: &mut LocalEtcd, dir: &Path) -> [Duration; 3] {
    let [near, late] = [(); 2].map(|()| Client::connect(etcd.endpoint()).unwrap());
    let old_list = Discovery::new(&near).service("web").unwrap();
    etcd.kill().unwrap();
    let file = Discovery::new(&late).cache_dir(dir).service("web").unwrap();
    thread::sleep(random(SECOND * 2, SECOND * 5));
    let addr = etcd.client_addr();
    etcd.spawn().unwrap();
    until(Instant::now(), MS, || TcpStream::connect(addr).is_ok());
    let back = Instant::now();
    thread::scope(|scope| {
        let views =
            [&file, &old_list].map(|view| scope.spawn(move || until(back, MS, || is_live(view))));
        etcd.wait_ready(SOON).unwrap();
        let healthy = back.elapsed();
        let [file, old_list] = views.map(|view| view.join().unwrap());
        [file, old_list, healthy]
    })
}
