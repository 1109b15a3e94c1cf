//! The file system operations of saving a file. A trait, so that a test can simulate crashes and check
//! that the operations are complete and in the right order.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file system.
pub(super) trait Disk {
    type File: Write;

    /// Creates a new file that only this user can read.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Blocks until the written data is on the disk.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Renames a file, and replaces a file with the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Blocks until the names in a folder are on the disk: only then a rename survives a crash.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The files of a folder, with the time of the last write to each.
    fn list(&self, folder: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>>;
}

/// The file system of the operating system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Os;

impl Disk for Os {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // On other systems a folder cannot be opened as a file.
        if cfg!(unix) {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // A file that was removed meanwhile is skipped.
            if let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) {
                files.push((entry.path(), written));
            }
        }
        Ok(files)
    }
}
