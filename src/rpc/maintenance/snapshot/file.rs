//! A snapshot in a file that is there whole, or not at all.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::disk::{Disk, Os};
use super::{SnapshotProgress, SnapshotStream, VerifiedSnapshot};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::util::jitter;

/// After so long without a write, a part is what a crash left: a snapshot that runs is written to all
/// the time.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// The digits that tell one part from another.
const DIGITS: usize = 16;

/// Saves the snapshot that `open` opens.
///
/// The file is made before etcd is asked: a path that cannot be written fails at once.
pub(crate) fn save(
    path: &Path,
    open: impl FnOnce() -> Result<SnapshotStream>,
    progress: impl FnMut(SnapshotProgress),
) -> Result<VerifiedSnapshot> {
    save_on(&Os, path, |file| open()?.write_to(file, progress))
}

/// Has `write` write a file, and puts it in its place when it is whole and on the disk.
fn save_on<D: Disk, T>(
    disk: &D,
    path: &Path,
    write: impl FnOnce(&mut D::File) -> Result<T>,
) -> Result<T> {
    let operation = || Operation::about("snapshot to", path.display());
    let Some(name) = path.file_name() else {
        return Err(Error::invalid("the path names no file").operation(operation()));
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let saving = || -> Result<T> {
        remove_stale(disk, folder, name);
        let (mut file, part) = Part::create(disk, path).map_err(|e| failed("create", &e))?;
        let written = write(&mut file)?;
        disk.sync(&file).map_err(|e| failed("sync", &e))?;
        drop(file);
        part.become_final(path).map_err(|e| failed("rename", &e))?;
        let synced = disk.sync_folder(folder);
        synced.map_err(|e| failed("sync the folder of", &e))?;
        Ok(written)
    };
    saving().map_err(|error| error.operation(operation()))
}

/// A file that is removed unless it becomes what it should.
struct Part<'a, D: Disk> {
    disk: &'a D,
    path: PathBuf,
    kept: bool,
}

impl<'a, D: Disk> Part<'a, D> {
    /// `PATH.part.` and a random number, so that two that save to the same path never write to the same
    /// file.
    fn create(disk: &'a D, path: &Path) -> io::Result<(D::File, Self)> {
        let mut name: OsString = path.into();
        name.push(format!(".part.{:0DIGITS$x}", jitter::number()));
        let path = PathBuf::from(name);
        let file = disk.create(&path)?;
        let kept = false;
        Ok((file, Part { disk, path, kept }))
    }

    fn become_final(mut self, path: &Path) -> io::Result<()> {
        self.disk.rename(&self.path, path)?;
        self.kept = true;
        Ok(())
    }
}

impl<D: Disk> Drop for Part<'_, D> {
    fn drop(&mut self) {
        if !self.kept {
            // The error that brought us here is the one to report.
            let _ = self.disk.remove(&self.path);
        }
    }
}

/// Removes the parts that crashes left, so that they do not fill the disk. What fails here is tried
/// again the next time.
fn remove_stale<D: Disk>(disk: &D, folder: &Path, name: &OsStr) {
    let now = SystemTime::now();
    for (path, written) in disk.list(folder).unwrap_or_default() {
        let is_old = now.duration_since(written).is_ok_and(|age| age > STALE);
        if is_old && path.file_name().is_some_and(|file| is_part(file, name)) {
            let _ = disk.remove(&path);
        }
    }
}

/// Whether a file is a part of one of this name.
fn is_part(file: &OsStr, name: &OsStr) -> bool {
    let rest = file
        .as_encoded_bytes()
        .strip_prefix(name.as_encoded_bytes())
        .and_then(|rest| rest.strip_prefix(b".part."));
    rest.is_some_and(|rest| rest.len() == DIGITS && rest.iter().all(u8::is_ascii_hexdigit))
}

#[cold]
fn failed(what: &str, error: &io::Error) -> Error {
    let reason = format!("cannot {what} the file: {error}");
    let source = io::Error::new(error.kind(), error.to_string());
    Error::new(ErrorKind::Os, reason).caused_by(source)
}

#[cfg(test)]
mod tests;
