//! Reads and writes the cache files of views. Files are written on a thread that the views of a client share.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::cache_file::{self, CacheContents, CacheName};
use super::cache_report::CacheReport;
use crate::observe::Telemetry;
use crate::replica::mirror::Snapshot;

/// The largest file that is read.
const MAX_SIZE: u64 = 256 << 20;

/// How long the thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// Reads the file of a view. `Ok(None)` means that there is none.
///
/// An error is the reason why a file is refused.
pub(super) fn read(dir: &Path, name: &CacheName) -> Result<Option<CacheContents>, String> {
    let path = dir.join(name.file_name());
    let cannot = |what: &str, why: &dyn std::fmt::Display| {
        format!("the cache file {} {what}: {why}", path.display())
    };
    let bytes = match read_private(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("cannot be read", &error)),
    };
    match cache_file::decode(&bytes, name) {
        Ok(contents) => Ok(Some(contents)),
        Err(reason) => Err(cannot("is refused", &reason)),
    }
}

fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Another user could name instances of his own.
        if metadata.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::other("other users may write it"));
        }
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_SIZE {
        true => Err(io::Error::other("it is too large")),
        false => Ok(bytes),
    }
}

/// The thread that writes files. It is started when needed, and ends when it is idle.
#[derive(Debug)]
pub(super) struct CacheWriter(Arc<Queue>);

struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    telemetry: Arc<Telemetry>,
    idle: Duration,
}

#[derive(Debug, Default)]
struct QueueState {
    /// The newest contents of each file.
    files: BTreeMap<PathBuf, CacheJob>,
    is_running: bool,
    is_closed: bool,
}

/// A file to write.
#[derive(Debug)]
pub(super) struct CacheJob {
    pub(super) name: Arc<CacheName>,
    pub(super) saved: SystemTime,
    /// The contents of each source.
    pub(super) sources: Vec<Snapshot>,
    pub(super) report: Arc<CacheReport>,
}

impl CacheWriter {
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        CacheWriter::with_idle(telemetry, IDLE)
    }

    fn with_idle(telemetry: Arc<Telemetry>, idle: Duration) -> Self {
        CacheWriter(Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            telemetry,
            idle,
        }))
    }

    /// Writes a file soon, instead of what was to be written into it. It does not block.
    pub(super) fn write(&self, path: PathBuf, job: CacheJob) {
        let mut state = self.0.state.lock();
        state.files.insert(path, job);
        if state.is_running {
            drop(state);
            self.0.changed.notify_one();
            return;
        }
        state.is_running = true;
        drop(state);
        let queue = Arc::clone(&self.0);
        let spawned = thread::Builder::new()
            .name("etcd-view-cache".into())
            .spawn(move || queue.run());
        if let Err(error) = spawned {
            let mut state = self.0.state.lock();
            state.is_running = false;
            let lost = std::mem::take(&mut state.files);
            drop(state);
            for (path, job) in lost {
                job.report.failed(&self.0.telemetry, &path, &error);
            }
        }
    }
}

impl Drop for CacheWriter {
    fn drop(&mut self) {
        // What is queued is still written.
        self.0.state.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl Queue {
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((path, job)) = state.files.pop_first() {
                drop(state);
                let sources = job.sources.iter();
                let sources =
                    sources.map(|one| one.iter().map(|kv| (kv.key(), kv.value())).collect());
                let bytes = cache_file::encode(&job.name, job.saved, sources);
                // The snapshots are released first: while they exist, a change copies the contents.
                let report = job.report;
                drop(job.sources);
                match write_private(&path, &bytes) {
                    Ok(()) => report.written(),
                    Err(error) => report.failed(&self.telemetry, &path, &error),
                }
                state = self.state.lock();
                continue;
            }
            let is_over =
                state.is_closed || self.changed.wait_for(&mut state, self.idle).timed_out();
            if is_over && state.files.is_empty() {
                state.is_running = false;
                return;
            }
        }
    }
}

/// Creates a directory that only this user can read, unless it exists.
pub(super) fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut directory = fs::DirBuilder::new();
    directory.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut directory, 0o700);
    directory.create(dir)
}

/// Replaces a file in one step. Only this user can read it. The directory is not created: it was there when the
/// view was opened, and whoever removed it meant to.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Two clients of one program may write the same file.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Relaxed));
    let temporary = path.with_extension(format!("{process}-{number}.tmp"));
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        // Before the rename: after a power failure, the file has the old contents or the new ones.
        file.sync_data()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("state", &self.state).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::cache_report::CacheResult;
    use super::*;
    use crate::util::boot_time::BootTime;

    /// The file of a service, which says by its time which write it is.
    fn job(service: &str, n: u64, report: &Arc<CacheReport>) -> CacheJob {
        CacheJob {
            name: Arc::new(CacheName::new(service, [])),
            saved: SystemTime::UNIX_EPOCH + Duration::from_secs(n),
            sources: Vec::new(),
            report: Arc::clone(report),
        }
    }

    fn saved(dir: &Path, service: &str) -> Option<u64> {
        let contents = read(dir, &CacheName::new(service, [])).unwrap()?;
        let saved = contents.saved.duration_since(SystemTime::UNIX_EPOCH);
        Some(saved.unwrap().as_secs())
    }

    /// The thread ends whenever it has nothing to do, so that a write meets a thread that ends.
    #[test]
    fn the_last_write_of_each_of_several_views_is_in_its_file() {
        let dir = format!("etcd-blocking-writer-{}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        create_private_dir(&dir).unwrap();
        let telemetry = Telemetry::new();
        let writer = CacheWriter::with_idle(Arc::clone(&telemetry), Duration::ZERO);
        let (services, writes) = (["a", "b", "c"], 30);
        let path = |service| dir.join(CacheName::new(service, []).file_name());
        thread::scope(|scope| {
            for service in services {
                let (writer, path) = (&writer, path(service));
                scope.spawn(move || {
                    let report = Arc::default();
                    for n in 1..=writes {
                        writer.write(path.clone(), job(service, n, &report));
                        (0..n % 7).for_each(|_| thread::yield_now());
                    }
                });
            }
        });
        let begun = Instant::now();
        for service in services {
            while saved(&dir, service) != Some(writes) {
                assert!(begun.elapsed() < Duration::from_secs(120), "{writer:?}");
                thread::sleep(Duration::from_millis(5));
            }
        }
        // What is queued is written although the last view is dropped.
        let report = Arc::default();
        writer.write(path("a"), job("a", writes + 1, &report));
        drop(writer);
        while saved(&dir, "a") != Some(writes + 1) {
            assert!(begun.elapsed() < Duration::from_secs(120), "the last one");
            thread::sleep(Duration::from_millis(5));
        }
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            telemetry.snapshot(BootTime::default()).views.cache_failures,
            0
        );
    }

    #[test]
    fn a_removed_directory_is_not_created_again_and_each_failure_is_reported() {
        let dir = format!("etcd-blocking-no-dir-{}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        let telemetry = Telemetry::new();
        let writer = CacheWriter::new(Arc::clone(&telemetry));
        let report = Arc::default();
        for failures in 1..=2 {
            writer.write(dir.join("x.view"), job("x", 1, &report));
            let begun = Instant::now();
            while report.take() != Some(CacheResult::Failed) {
                assert!(begun.elapsed() < Duration::from_secs(120));
                thread::sleep(Duration::from_millis(1));
            }
            assert!(telemetry.snapshot(BootTime::default()).views.cache_failures >= failures - 1);
        }
        assert!(!dir.exists());
    }
}
