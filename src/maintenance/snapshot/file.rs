//! A snapshot in a file that is there whole, or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{SnapshotProgress, SnapshotStream, VerifiedSnapshot};
use crate::error::{Error, ErrorKind, Operation, Result};

/// Saves the snapshot that `open` opens.
///
/// The file is made before etcd is asked: a path that cannot be written fails at once.
pub(crate) fn save(
    path: &Path,
    open: impl FnOnce() -> Result<SnapshotStream>,
    progress: impl FnMut(SnapshotProgress),
) -> Result<VerifiedSnapshot> {
    let operation = || Operation::about("snapshot to", path.display());
    if path.file_name().is_none() {
        return Err(Error::invalid("the path names no file").operation(operation()));
    }
    let saving = || -> Result<VerifiedSnapshot> {
        let (mut file, part) = Part::create(path).map_err(|e| failed("create", &e))?;
        let verified = open()?.write_to(&mut file, progress)?;
        file.sync_all().map_err(|e| failed("sync", &e))?;
        drop(file);
        part.become_final(path).map_err(|e| failed("rename", &e))?;
        sync_folder(path).map_err(|e| failed("sync the folder of", &e))?;
        Ok(verified)
    };
    saving().map_err(|error| error.operation(operation()))
}

/// A file that is removed unless it becomes what it should.
struct Part {
    path: PathBuf,
    kept: bool,
}

impl Part {
    /// `PATH.part`, that only this user can read. One that an earlier program left is removed, and
    /// not written over: its permissions would stay.
    fn create(path: &Path) -> io::Result<(File, Part)> {
        let mut name: OsString = path.into();
        name.push(".part");
        let part = PathBuf::from(name);
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&part)?;
        let part = Part {
            path: part,
            kept: false,
        };
        Ok((file, part))
    }

    fn become_final(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            // The error that brought us here is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A rename survives a crash once the folder is on disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cold]
fn failed(what: &str, error: &io::Error) -> Error {
    let reason = format!("cannot {what} the file: {error}");
    let source = io::Error::new(error.kind(), error.to_string());
    Error::new(ErrorKind::Os, reason).caused_by(source)
}
