//! Saves a snapshot to a file atomically: the file is complete, or does not exist.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::disk::{Disk, Os};
use super::snapshot_stream::{SnapshotProgress, SnapshotStream, VerifiedSnapshot};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::util::jitter;

/// A part file that was not written to for this time was left by a crash: a running snapshot writes
/// continuously.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// The number of random hexadecimal digits in the name of a part file.
const DIGITS: usize = 16;

/// Saves the snapshot that `open` opens.
///
/// The file is created before the request is sent, so a path that cannot be written fails at once.
pub(crate) fn save(
    path: &Path,
    open: impl FnOnce() -> Result<SnapshotStream>,
    progress: impl FnMut(SnapshotProgress),
) -> Result<VerifiedSnapshot> {
    save_on(&Os, path, |file| open()?.write_to(file, progress))
}

/// Calls `write` with a part file, and renames the file to `path` when it is complete and on the disk.
fn save_on<D: Disk, T>(
    disk: &D,
    path: &Path,
    write: impl FnOnce(&mut D::File) -> Result<T>,
) -> Result<T> {
    let operation = || Operation::about("snapshot to", path.display());
    let Some(name) = path.file_name() else {
        return Err(Error::invalid("the path has no file name").operation(operation()));
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let saving = || -> Result<T> {
        remove_stale(disk, folder, name);
        let (mut file, part) = PartFile::create(disk, path).map_err(|e| failed("create", &e))?;
        let written = write(&mut file)?;
        // Before the rename: after a crash, the name must not lead to a file without data.
        disk.sync(&file).map_err(|e| failed("sync", &e))?;
        // Closed first: some systems do not rename open files.
        drop(file);
        part.rename_to(path).map_err(|e| failed("rename", &e))?;
        // The rename itself is on disk only after this.
        let synced = disk.sync_folder(folder);
        synced.map_err(|e| failed("sync the folder of", &e))?;
        Ok(written)
    };
    saving().map_err(|error| error.operation(operation()))
}

/// A part file, which is removed when it is dropped before the rename.
struct PartFile<'a, D: Disk> {
    disk: &'a D,
    path: PathBuf,
    renamed: bool,
}

impl<'a, D: Disk> PartFile<'a, D> {
    /// Creates `PATH.part.` with a random number, so that two saves to one path use different files.
    fn create(disk: &'a D, path: &Path) -> io::Result<(D::File, Self)> {
        let mut name: OsString = path.into();
        // A random name, so that two writers of one path never share a part file.
        name.push(format!(".part.{:0DIGITS$x}", jitter::number()));
        let path = PathBuf::from(name);
        let file = disk.create(&path)?;
        let renamed = false;
        Ok((
            file,
            PartFile {
                disk,
                path,
                renamed,
            },
        ))
    }

    fn rename_to(mut self, path: &Path) -> io::Result<()> {
        self.disk.rename(&self.path, path)?;
        self.renamed = true;
        Ok(())
    }
}

impl<D: Disk> Drop for PartFile<'_, D> {
    fn drop(&mut self) {
        if !self.renamed {
            // The error of the save is reported, not that of the removal.
            let _ = self.disk.remove(&self.path);
        }
    }
}

/// Removes the part files of crashed saves, so that they do not fill the disk. A removal
/// that fails is repeated by the next save.
fn remove_stale<D: Disk>(disk: &D, folder: &Path, name: &OsStr) {
    let now = SystemTime::now();
    for (path, written) in disk.list(folder).unwrap_or_default() {
        let is_old = now.duration_since(written).is_ok_and(|age| age > STALE);
        if is_old && path.file_name().is_some_and(|file| is_part(file, name)) {
            let _ = disk.remove(&path);
        }
    }
}

/// Whether a file is a part file of a file with this name.
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
