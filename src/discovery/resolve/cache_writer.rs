//! Reads and writes the cache files of views. Files are written on a thread that the views of a client share.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::cache_file::{self, CacheContents, CacheName};
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
}

impl CacheWriter {
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        CacheWriter(Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            telemetry,
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
            for path in lost.keys() {
                self.0.telemetry.views.cache_not_written(path, &error);
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
                drop(job);
                if let Err(error) = write_private(&path, &bytes) {
                    self.telemetry.views.cache_not_written(&path, &error);
                }
                state = self.state.lock();
                continue;
            }
            let is_over = state.is_closed || self.changed.wait_for(&mut state, IDLE).timed_out();
            if is_over && state.files.is_empty() {
                state.is_running = false;
                return;
            }
        }
    }
}

/// Replaces a file in one step. Only this user can read it.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut directory = fs::DirBuilder::new();
    directory.recursive(true);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        directory.mode(0o700);
        options.mode(0o600);
    }
    directory.create(parent)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
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
