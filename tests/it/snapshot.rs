//! Snapshots of a member: complete and verified, or refused without leaving files.

mod faults;
mod files;
mod malformed;

use std::error::Error as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::maintenance::{SnapshotProgress, SnapshotStream};
use etcd_blocking::{Client, ErrorKind};

use crate::support::child::{alone, within};
use crate::support::frames::{self, END_STREAM};
use crate::support::proxy::{Dir, Proxy};
use crate::support::raw::RawServer;
use crate::support::server::version;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

fn client(endpoint: &str) -> Client {
    Client::connect([endpoint]).unwrap()
}

/// Puts `mib` MiB of values under `fill/`.
fn fill(client: &Client, mib: usize) {
    let block = |n: usize| {
        let mut bytes = vec![0; 256 * 1024];
        fastrand::Rng::with_seed(n as u64).fill(&mut bytes);
        bytes
    };
    for n in 0..mib * 4 {
        client.put(format!("fill/{n}"), block(n)).unwrap();
    }
}

/// A private directory, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("etcd-blocking-snapshot-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("backup.db")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// Case: M-04
// Case: M-05
#[test]
fn a_snapshot_ends_with_its_sha_256_digest() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 2);
    let server = client.maintenance().status().unwrap();
    let minor = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
    let version = Some(minor(server.version())).filter(|v| !["3.4", "3.5"].contains(&&**v));
    if version.is_some() {
        // The peak increases at the start of the process.
        eventually(SOON, "the storage has the server's version", || {
            let status = client.maintenance().status().unwrap();
            (status.storage_version().map(minor) == version).then_some(())
        });
    }
    let mut snapshot = client.maintenance().snapshot().unwrap();
    assert_eq!(snapshot.endpoint(), etcd.endpoint());
    assert_eq!(snapshot.version().map(minor), version);
    let total = snapshot.total();
    assert_eq!(snapshot.remaining(), total);
    let mut bytes = Vec::new();
    snapshot.read_to_end(&mut bytes).unwrap();
    assert_eq!(snapshot.remaining(), 0);
    assert_eq!(bytes.len() as u64, total);
    assert_eq!(bytes.len() % 512, 32);
    let (database, digest) = bytes.split_at(bytes.len() - 32);
    assert_eq!(hmac_sha256::Hash::hash(database), digest);
    // No more memory than for the pages of one value.
    assert!(database.windows(6).any(|w| w == b"fill/7"));
    assert_eq!(snapshot.read(&mut [0]).unwrap(), 0);
    assert!(snapshot.next().is_none());
}

#[test]
fn a_snapshot_stream_can_be_sent_to_any_thread() {
    fn everywhere<T: Send + Sync + 'static>() {}
    everywhere::<SnapshotStream>();
}

/// A writer that fails after `room` bytes.
struct Small(usize);

impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = bytes.len().min(self.0);
        self.0 -= now;
        match now {
            0 => Err(io::ErrorKind::StorageFull.into()),
            now => Ok(now),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_writer_ends_the_snapshot_with_its_error() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 1);
    let error = client
        .maintenance()
        .snapshot_to(Small(100_000))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Os);
    let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert!(
        client.maintenance().snapshot_to(io::sink()).is_ok(),
        "the client goes on"
    );
}

/// Peak resident memory of this process, in KiB.
fn high_water_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[test]
fn memory_use_does_not_depend_on_the_size_and_speed_of_a_snapshot() {
    alone(
        "snapshot::memory_use_does_not_depend_on_the_size_and_speed_of_a_snapshot",
        Duration::from_secs(120),
        || {
            let etcd = LocalEtcd::start().unwrap();
            let client = client(&etcd.endpoint());
            fill(&client, 48);
            let before = high_water_kib();
            let folder = Folder::new();
            let saved = client
                .maintenance()
                .snapshot_to_file(folder.file(), |_| {})
                .unwrap();
            assert!(saved.size > 48 << 20);
            let grown = high_water_kib() - before;
            println!("{} MiB: memory grew by {grown} KiB", saved.size >> 20);
            assert!(grown < 16 << 10, "{grown} KiB");
        },
    );
}

/// Uses `etcdctl` 3.4, which `.ci/matrix` provides: after 3.5 the tool is `etcdutl`. It also restores snapshots
/// of newer servers.
#[test]
fn etcdctl_restores_a_snapshot_and_etcd_starts_with_it() {
    let Some(etcdctl) = std::env::var_os("ETCDCTL") else {
        let test = thread::current().name().unwrap_or("?").to_owned();
        println!(
            "skipped on {}: {test}: there is no etcdctl that restores",
            version()
        );
        return;
    };
    let mut etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 2);
    let before = client.get_prefix("").unwrap();
    assert_eq!(before.len(), 8);
    let (folder, ttl) = (Folder::new(), Duration::from_secs(600));
    let lease = client.grant(ttl).unwrap();
    let put = etcd_blocking::Put::new("leased", "v").lease(lease.id());
    let last = client.call(put).unwrap().revision();
    client
        .maintenance()
        .snapshot_to_file(folder.file(), |_| {})
        .unwrap();
    client.put("later", "v").unwrap();

    etcd.stop().unwrap();
    etcd.wipe().unwrap();
    let (name, peer) = (etcd.name(), etcd.peer_url());
    let restored = std::process::Command::new(etcdctl)
        .env("ETCDCTL_API", "3")
        .args(["snapshot", "restore"])
        .arg(folder.file())
        .arg(format!("--data-dir={}", etcd.data_dir().display()))
        .arg(format!("--name={name}"))
        .arg(format!("--initial-cluster={name}={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    etcd.spawn().unwrap();
    etcd.wait_ready(SOON).unwrap();

    let leased = eventually(SOON, "it is read", || client.get("leased").ok()).unwrap();
    assert_eq!(
        (leased.lease(), leased.mod_revision()),
        (Some(lease.id()), last)
    );
    assert!(client.get("later").unwrap().is_none());
    let after = client.get_prefix("fill/").unwrap();
    assert_eq!(after, before);
    assert!(
        client
            .time_to_live(lease.id())
            .unwrap()
            .remaining()
            .is_some()
    );
}
