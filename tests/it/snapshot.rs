//! Snapshots: complete and verified, or refused, and nothing left behind.

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

/// A folder of its own, gone when dropped.
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
fn a_snapshot_ends_with_the_sha_256_of_all_before_it() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 2);
    let server = client.maintenance().status().unwrap();
    let minor = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
    let version = Some(minor(server.version())).filter(|v| !["3.4", "3.5"].contains(&&**v));
    if version.is_some() {
        // It grows to that of the program in the moments after the start.
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
    // The pages of a value are in it, and nothing more comes.
    assert!(database.windows(6).any(|w| w == b"fill/7"));
    assert_eq!(snapshot.read(&mut [0]).unwrap(), 0);
    assert!(snapshot.next().is_none());
}

#[test]
fn a_snapshot_goes_to_any_thread() {
    fn everywhere<T: Send + Sync + 'static>() {}
    everywhere::<SnapshotStream>();
}

// Case: M-06
#[test]
fn a_file_is_private_complete_and_replaced_in_one_step() {
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    fill(&client, 1);
    let folder = Folder::new();
    let file = folder.file();
    fs::write(&file, "an older backup").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    // One that a program left two days ago that was killed.
    let part = fs::File::create(folder.0.join("backup.db.part.0123456789abcdef")).unwrap();
    let then = SystemTime::now() - Duration::from_secs(48 * 3600);
    part.set_modified(then).unwrap();
    let mut told: Vec<SnapshotProgress> = Vec::new();
    let saved = client
        .maintenance()
        .snapshot_to_file(&file, |p| told.push(p))
        .unwrap();
    assert_eq!(folder.names(), ["backup.db"]);
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), saved.size);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(bytes[bytes.len() - 32..], saved.sha256);
    // With several endpoints it comes from one, and says from which.
    assert!(cluster.endpoints().contains(&saved.endpoint));
    assert!(told.windows(2).all(|w| w[0].written < w[1].written));
    assert!(told.iter().all(|p| p.total == saved.size));
    assert_eq!(told.last().unwrap().written, saved.size);
    // And from the one that was chosen.
    for endpoint in cluster.endpoints() {
        let view = client.at(&endpoint).unwrap();
        let copy = view.maintenance().snapshot_to(io::sink()).unwrap();
        assert_eq!(copy.endpoint, endpoint);
    }
}

// Fault: W10
#[test]
fn two_that_save_to_one_path_do_not_disturb_each_other() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 2);
    let proxy = Proxy::start(etcd.client_addr());
    proxy.limit_data(1 << 20);
    let cut = Client::connect([proxy.endpoint()]).unwrap();
    let folder = Folder::new();
    let file = folder.file();
    let mut second = None;
    let saved = client
        .maintenance()
        .snapshot_to_file(&file, |_| {
            second.get_or_insert_with(|| {
                let cut = cut.with_timeout(Duration::from_secs(2));
                cut.maintenance()
                    .snapshot_to_file(&file, |_| {})
                    .unwrap_err()
            });
        })
        .unwrap();
    assert!(second.is_some(), "the second one was killed in the middle");
    assert_eq!(folder.names(), ["backup.db"]);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(bytes.len() as u64, saved.size);
    assert_eq!(bytes[bytes.len() - 32..], saved.sha256);
}

#[test]
fn a_file_that_cannot_be_written_is_known_before_etcd_is_asked() {
    // Nobody answers there.
    let client = client("http://127.0.0.1:1");
    let error = within(SOON, move || {
        client
            .maintenance()
            .snapshot_to_file("/nowhere/at/all/backup.db", |_| {})
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Os);
    assert!(
        error.to_string().contains("/nowhere/at/all/backup.db"),
        "{error}"
    );
    assert!(error.source().is_some());
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
fn a_writer_that_fails_ends_it_with_its_error() {
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

/// Forwards to `upstream`, and flips a bit where `marker` begins in what comes down.
fn tamper(upstream: SocketAddr, marker: &'static [u8]) -> RawServer {
    RawServer::start(move |client, _| {
        let server = TcpStream::connect(upstream).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::scope(|scope| {
            scope.spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            let (mut from, mut to) = (server, client);
            let mut chunk = vec![0; 1 << 20];
            while let Ok(count @ 1..) = from.read(&mut chunk) {
                let bytes = &mut chunk[..count];
                let at = bytes.windows(marker.len()).position(|w| w == marker);
                if let Some(at) = at {
                    bytes[at] ^= 1;
                }
                if to.write_all(bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    })
}

#[test]
fn one_flipped_bit_on_the_way_is_refused_and_nothing_is_left_behind() {
    let etcd = LocalEtcd::start().unwrap();
    let direct = client(&etcd.endpoint());
    fill(&direct, 1);
    direct.put("k", "a marker that is easy to find").unwrap();
    let between = tamper(etcd.client_addr(), b"a marker that is easy to find");
    let client = client(&between.endpoint());
    let folder = Folder::new();
    fs::write(folder.file(), "an older backup").unwrap();
    let error = client
        .maintenance()
        .snapshot_to_file(folder.file(), |_| {})
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!error.is_retryable());
    assert_eq!(error.endpoint(), Some(&*between.endpoint()));
    assert_eq!(folder.names(), ["backup.db"]);
    assert_eq!(fs::read(folder.file()).unwrap(), b"an older backup");
    // What a writer got lacks the digest: no restore takes it.
    let mut written = Vec::new();
    assert!(client.maintenance().snapshot_to(&mut written).is_err());
    assert_eq!(written.len() % 512, 0);
    direct.maintenance().snapshot_to(io::sink()).unwrap();
}

// Case: M-03
#[test]
fn a_member_that_falls_silent_before_or_during_it_is_an_error_in_time() {
    let etcd = LocalEtcd::start().unwrap();
    let filler = client(&etcd.endpoint());
    fill(&filler, 16);
    let proxy = Proxy::start(etcd.client_addr());
    let client = Client::builder([proxy.endpoint()])
        .timeout(Duration::from_secs(1))
        .connect()
        .unwrap();

    etcd.pause().unwrap();
    let before = Instant::now();
    let error = client.maintenance().snapshot().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(before.elapsed() < SOON);
    etcd.resume().unwrap();

    let mut snapshot = eventually(SOON, "it serves again", || {
        client.maintenance().snapshot().ok()
    });
    let _first = snapshot.next().unwrap().unwrap();
    proxy.pause(Dir::Down, true);
    let error = within(SOON, move || snapshot.find_map(|piece| piece.err()));
    let error = error.expect("16 MiB do not come through a network that stands still");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("nothing came for 1s"), "{error}");
    assert!(!error.outcome_unknown());
    proxy.pause(Dir::Down, false);
}

// Case: M-03
#[test]
fn dropping_it_cancels_on_the_server_at_once() {
    let etcd = LocalEtcd::start().unwrap();
    let filler = client(&etcd.endpoint());
    fill(&filler, 16);
    let proxy = Proxy::start(etcd.client_addr());
    let client = client(&proxy.endpoint());
    client.get("k").unwrap();
    let calls = proxy.connections();
    let mut snapshot = client.maintenance().snapshot().unwrap();
    assert_eq!(proxy.connections(), calls + 1, "it has one of its own");
    snapshot.next().unwrap().unwrap();
    drop(snapshot);

    eventually(SOON, "its connection is closed", || {
        (proxy.open_connections() == calls).then_some(())
    });
    assert!(proxy.bytes_down() < 16 << 20, "not all was sent");
    client.get("k").unwrap();
}

#[test]
fn a_connection_that_breaks_is_an_error_that_says_how_far_it_came() {
    let etcd = LocalEtcd::start().unwrap();
    let filler = client(&etcd.endpoint());
    fill(&filler, 16);
    let proxy = Proxy::start(etcd.client_addr());
    let client = client(&proxy.endpoint());
    let mut snapshot = client.maintenance().snapshot().unwrap();
    snapshot.next().unwrap().unwrap();
    proxy.cut();
    let error = snapshot.find_map(|piece| piece.err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let text = error.to_string();
    assert!(text.starts_with("snapshot: it broke off"), "{text}");
    assert!(text.contains("after ") && text.contains(" bytes"), "{text}");
    assert!(snapshot.next().is_none());
}

#[test]
fn closing_the_client_ends_it() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 8);
    let mut snapshot = client.maintenance().snapshot().unwrap();
    client.close().unwrap();
    let error = snapshot.find_map(|piece| piece.err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[test]
fn one_that_is_left_unread_holds_up_nothing_else() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 32);
    // More than the windows of any shared connection.
    let mut unread: Vec<_> = (0..4)
        .map(|_| client.maintenance().snapshot().unwrap())
        .collect();
    for snapshot in &mut unread {
        snapshot.next().unwrap().unwrap();
    }
    let watcher = client.watch("k").unwrap();
    for n in 0..100 {
        client.put("k", n.to_string()).unwrap();
    }
    let mut seen = 0;
    while seen < 100 {
        let response = watcher.receiver().recv_timeout(SOON).unwrap().unwrap();
        seen += response.events().len();
    }
    for snapshot in unread {
        let total = snapshot.total();
        assert_eq!(snapshot.write_to(io::sink(), |_| {}).unwrap().size, total);
    }
}

/// The highest resident memory of this process so far, in KiB.
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
fn memory_is_constant_whatever_the_size_and_the_pace() {
    alone(
        "snapshot::memory_is_constant_whatever_the_size_and_the_pace",
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

/// A message as the server frames it: `remaining_bytes`, `blob` and `version`.
fn message(remaining: u64, blob: &[u8], version: &str) -> Vec<u8> {
    fn varint(bytes: &mut Vec<u8>, mut value: u64) {
        while value >= 128 {
            bytes.push((value % 128) as u8 | 128);
            value /= 128;
        }
        bytes.push(value as u8);
    }
    let mut pb = Vec::new();
    if remaining > 0 {
        pb.push(2 << 3);
        varint(&mut pb, remaining);
    }
    pb.push((3 << 3) | 2);
    varint(&mut pb, blob.len() as u64);
    pb.extend(blob);
    pb.push((4 << 3) | 2);
    varint(&mut pb, version.len() as u64);
    pb.extend(version.as_bytes());
    frames::message(0, u32::try_from(pb.len()).unwrap(), &pb)
}

/// A server whose snapshot is these messages, and then these frames.
fn scripted(messages: Vec<Vec<u8>>, end: fn(u32) -> Vec<u8>) -> RawServer {
    RawServer::start(move |stream, _| {
        let _ = frames::serve(stream, |out, id| {
            out.write_all(&frames::ok(id))?;
            for message in &messages {
                for part in message.chunks(16_000) {
                    out.write_all(&frames::data(id, 0, part))?;
                }
            }
            out.write_all(&end(id))
        });
    })
}

fn good(id: u32) -> Vec<u8> {
    frames::trailers(id, "0", "")
}

/// 8 KiB of a database in two messages, and its digest.
fn pieces() -> (Vec<u8>, Vec<u8>, [u8; 32]) {
    let database: Vec<u8> = (0..8192_u32).map(|n| (n % 251) as u8).collect();
    let digest = hmac_sha256::Hash::hash(&database);
    (database[..4096].to_vec(), database[4096..].to_vec(), digest)
}

#[test]
fn servers_that_send_something_else_are_refused() {
    let (first, second, digest) = pieces();
    let one = |blob: &[u8], left| message(left, blob, "3.7.0");
    let whole = vec![one(&first, 4096), one(&second, 0), one(&digest, 0)];
    let client_of = |server: &RawServer| {
        let builder = Client::builder([server.endpoint()]);
        builder.timeout(Duration::from_secs(2)).connect().unwrap()
    };
    let server = scripted(whole.clone(), good);
    let saved = client_of(&server)
        .maintenance()
        .snapshot_to(io::sink())
        .unwrap();
    assert_eq!((saved.size, saved.sha256), (8224, digest));

    let mut wrong_digest = digest;
    wrong_digest[31] ^= 1;
    let mut flipped = second.clone();
    flipped[17] ^= 4;
    let reset = |id| frames::reset(id, 2);
    let lost = |id| frames::trailers(id, "14", "etcdserver: server stopped");
    let no_status = |id| frames::data(id, END_STREAM, &[]);
    type End = fn(u32) -> Vec<u8>;
    let cases: Vec<(&str, Vec<Vec<u8>>, End, ErrorKind)> = vec![
        ("no digest", whole[..2].to_vec(), good, ErrorKind::Corrupt),
        ("cut short", whole[..1].to_vec(), good, ErrorKind::Corrupt),
        (
            "a wrong digest",
            vec![whole[0].clone(), whole[1].clone(), one(&wrong_digest, 0)],
            good,
            ErrorKind::Corrupt,
        ),
        (
            "a flipped bit",
            vec![whole[0].clone(), one(&flipped, 0), whole[2].clone()],
            good,
            ErrorKind::Corrupt,
        ),
        (
            "more than announced",
            [&whole[..], &[one(&[0], 0)]].concat(),
            good,
            ErrorKind::Corrupt,
        ),
        (
            "parts in another order",
            vec![one(&second, 4096), one(&first, 0), one(&digest, 0)],
            good,
            ErrorKind::Corrupt,
        ),
        (
            "a reset",
            whole[..2].to_vec(),
            reset,
            ErrorKind::Unavailable,
        ),
        ("a stop", whole[..2].to_vec(), lost, ErrorKind::Unavailable),
        ("no status", whole.clone(), no_status, ErrorKind::Protocol),
        (
            "more bytes than there are",
            vec![one(&first, u64::MAX)],
            good,
            ErrorKind::Protocol,
        ),
        (
            "no protobuf",
            vec![whole[0].clone(), frames::message(0, 3, &[0xff, 0xff, 0xff])],
            good,
            ErrorKind::Protocol,
        ),
    ];
    for (what, messages, end, kind) in cases {
        let server = scripted(messages, end);
        let folder = Folder::new();
        let client = client_of(&server);
        let error = client
            .maintenance()
            .snapshot_to_file(folder.file(), |_| {})
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(folder.names().is_empty(), "{what}: {:?}", folder.names());
    }
}

/// The tool of 3.4, which `.ci/matrix` brings: after 3.5 it is another one. It restores what newer
/// servers give as well.
#[test]
fn etcds_own_tool_restores_it_and_etcd_runs_on_that() {
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
