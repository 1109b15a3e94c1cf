//! The file that is written, and the commands around it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::orders::Orders;
use crate::child::Group;

/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The permissions of a file that was not there before.
const MODE: u32 = 0o644;

/// The file that is written.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) check: Option<String>,
    pub(super) reload: Option<String>,
    /// The longest time of a command.
    pub(super) limit: Duration,
}

/// Why a file was not replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It could not be written: worth another attempt.
    Write(String),
    /// `--check` refused the contents.
    Check(String),
    /// The program was told to end meanwhile.
    Stopped,
}

impl Target {
    /// Replaces the file, in one step, if its contents differ. Returns whether it did.
    pub(super) fn replace(&self, text: &str, orders: &mut Orders) -> Result<bool, Refusal> {
        // A link stays: what it leads to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(false);
        }
        let temporary = temporary(&path).ok_or_else(|| {
            Refusal::Write(format!("{} is no name of a file", self.path.display()))
        })?;
        let refused = self
            .write(&temporary, &path, text)
            .map_err(|error| Refusal::Write(format!("write {}: {error}", self.path.display())));
        let done = refused
            .and_then(|()| self.check(&temporary, orders))
            .and_then(|()| {
                fs::rename(&temporary, &path).map_err(|error| {
                    Refusal::Write(format!("replace {}: {error}", self.path.display()))
                })
            });
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done?;
        // The file is in force now, whether or not the folder reaches the disk at once.
        if let Some(folder) = path.parent()
            && let Ok(folder) = File::open(folder)
        {
            let _ = folder.sync_all();
        }
        Ok(true)
    }

    fn write(&self, temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
        // What a process left that was killed.
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mode = match fs::metadata(path) {
            Ok(old) => old.permissions().mode() & 0o7777,
            Err(_) => MODE,
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    }

    fn check(&self, temporary: &Path, orders: &mut Orders) -> Result<(), Refusal> {
        let Some(command) = &self.check else {
            return Ok(());
        };
        match self.run(command, temporary, orders) {
            Ok(()) => Ok(()),
            Err(None) => Err(Refusal::Stopped),
            Err(Some(why)) => Err(Refusal::Check(format!(
                "{} stays as it was: the command of --check {why}",
                self.path.display()
            ))),
        }
    }

    /// Runs the command of `--reload`.
    pub(super) fn reload(&self, orders: &mut Orders) -> Result<(), Option<String>> {
        match &self.reload {
            Some(command) => self
                .run(command, &self.path, orders)
                .map_err(|why| why.map(|why| format!("the command of --reload {why}"))),
            None => Ok(()),
        }
    }

    /// Runs a command with the path of the file. `Err(None)` means that the program was told to end.
    fn run(&self, command: &str, file: &Path, orders: &mut Orders) -> Result<(), Option<String>> {
        let failed = |error: io::Error| Some(format!("cannot be started: {error}"));
        let quoted = format!("'{}'", file.display().to_string().replace('\'', "'\\''"));
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command.replace("{}", &quoted));
        shell.env("ETCD_SERVICE_FILE", file).stdin(Stdio::null());
        // Results are on stdout, and this is none.
        let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
        let running = Group::start(shell.stdout(stderr)).map_err(failed)?;
        let begun = Instant::now();
        loop {
            if let Some(status) = running.ended().map_err(failed)? {
                return match status.success() {
                    true => Ok(()),
                    false => Err(Some(format!("failed: {status}"))),
                };
            }
            if begun.elapsed() >= self.limit {
                return Err(Some(format!(
                    "did not end within {:?}, and was killed",
                    self.limit
                )));
            }
            if orders.ends() {
                return Err(None);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The file in the same folder that becomes the file. It keeps the end of the name, which commands may look at.
fn temporary(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let mut temporary = std::ffi::OsString::from(".etcd-service.");
    temporary.push(name);
    Some(path.with_file_name(temporary))
}
