//! What saving a file asks of the operating system. A trait, because only a crash shows whether
//! everything was asked, and in the right order.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The folder of a file, for the time that saving it takes.
pub(super) trait Disk {
    type File: Write;

    /// Makes a file that was not there, and that only this user can read.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Returns when what was written is on the disk.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Returns when the names in a folder are on the disk: a rename survives a crash only then.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The files of a folder, and when each was written last.
    fn list(&self, folder: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>>;
}

/// The real one.
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
        // Elsewhere a folder cannot be opened as a file.
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
            // One that is gone meanwhile is none.
            if let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) {
                files.push((entry.path(), written));
            }
        }
        Ok(files)
    }
}
