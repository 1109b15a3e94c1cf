use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;

use super::*;

/// A disk that can lose power. Data that was not synced is lost then.
#[derive(Default)]
struct CrashDisk {
    /// The files as programs see them.
    names: RefCell<BTreeMap<PathBuf, Content>>,
    /// The files that survive a crash.
    durable: RefCell<BTreeMap<PathBuf, Content>>,
    operations: RefCell<Vec<&'static str>>,
    /// The operation that fails.
    broken: Option<&'static str>,
    old: Vec<PathBuf>,
}

/// The written bytes, and how many of them are on the disk.
type Content = Rc<RefCell<(Vec<u8>, usize)>>;

struct CrashFile(Content);

impl Write for CrashFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CrashDisk {
    fn ask(&self, what: &'static str) -> io::Result<()> {
        self.operations.borrow_mut().push(what);
        match self.broken {
            Some(broken) if broken == what => Err(io::Error::other("broken")),
            _ => Ok(()),
        }
    }

    /// The content of a file after a crash.
    fn after_a_crash(&self, path: &str) -> Option<Vec<u8>> {
        let content = self.durable.borrow().get(Path::new(path)).cloned()?;
        let (bytes, synced) = &*content.borrow();
        Some(bytes[..*synced].to_vec())
    }

    fn seen(&self) -> Vec<String> {
        let names = self.names.borrow();
        names.keys().map(|p| p.display().to_string()).collect()
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let content: Content = Rc::new(RefCell::new((bytes.to_vec(), bytes.len())));
        let path = PathBuf::from(path);
        self.names
            .borrow_mut()
            .insert(path.clone(), content.clone());
        self.durable.borrow_mut().insert(path, content);
    }
}

impl Disk for CrashDisk {
    type File = CrashFile;

    fn create(&self, path: &Path) -> io::Result<CrashFile> {
        self.ask("create")?;
        let content = Content::default();
        let taken = self.names.borrow_mut().insert(path.into(), content.clone());
        assert!(taken.is_none(), "it is there already");
        Ok(CrashFile(content))
    }

    fn sync(&self, file: &CrashFile) -> io::Result<()> {
        self.ask("sync")?;
        let mut content = file.0.borrow_mut();
        content.1 = content.0.len();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask("rename")?;
        let mut names = self.names.borrow_mut();
        let content = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.into(), content.clone());
        // A disk may write the new name before it writes the content.
        self.durable.borrow_mut().insert(to.into(), content);
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.ask("sync folder")
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask("remove")?;
        self.names.borrow_mut().remove(path);
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
        let names = self.names.borrow();
        let here = names.keys().filter(|path| path.parent() == Some(folder));
        let written = |path: &PathBuf| {
            let age = if self.old.contains(path) {
                2 * STALE
            } else {
                STALE / 2
            };
            (path.clone(), SystemTime::now() - age)
        };
        Ok(here.map(written).collect())
    }
}

fn save_two_pieces(disk: &CrashDisk) -> Result<()> {
    save_on(disk, Path::new("d/backup"), |file| {
        let _ = file.write_all(b"one ");
        disk.operations.borrow_mut().push("write");
        let _ = file.write_all(b"two");
        Ok(())
    })
}

// Fault: M4
#[test]
fn the_file_and_then_its_name_are_synced_before_success_is_reported() {
    let disk = CrashDisk::default();
    save_two_pieces(&disk).unwrap();
    let operations = disk.operations.borrow().clone();
    assert_eq!(
        operations,
        ["create", "write", "sync", "rename", "sync folder"]
    );
    assert_eq!(disk.after_a_crash("d/backup").unwrap(), b"one two");
    assert_eq!(disk.seen(), ["d/backup"]);
}

#[test]
fn after_any_failure_the_path_holds_the_old_or_the_new_file() {
    for broken in ["create", "sync", "rename", "sync folder"] {
        let disk = CrashDisk {
            broken: Some(broken),
            ..CrashDisk::default()
        };
        disk.put("d/backup", b"old");
        let error = save_two_pieces(&disk).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Os, "{broken}");
        let now = disk.after_a_crash("d/backup").unwrap();
        let expected: &[u8] = if broken == "sync folder" {
            b"one two"
        } else {
            b"old"
        };
        assert_eq!(now, expected, "{broken}");
        assert_eq!(
            disk.seen(),
            ["d/backup"],
            "{broken}: nothing is left behind"
        );
    }
}

// Fault: W10
#[test]
fn two_writers_of_one_path_use_separate_files() {
    let disk = CrashDisk::default();
    save_on(&disk, Path::new("d/backup"), |outer| {
        let _ = outer.write_all(b"whole");
        let failed = save_on(&disk, Path::new("d/backup"), |inner| {
            let _ = inner.write_all(b"half");
            Err::<(), _>(Error::new(ErrorKind::Unavailable, "killed"))
        });
        assert!(failed.is_err());
        Ok(())
    })
    .unwrap();
    assert_eq!(disk.after_a_crash("d/backup").unwrap(), b"whole");
    assert_eq!(disk.seen(), ["d/backup"]);
}

#[test]
fn only_partial_files_of_crashed_writers_are_removed() {
    let left = "d/backup.part.0123456789abcdef";
    let others = [
        "d/backup.part.0123456789abcdee",
        "d/backup.part.0123456789abcdef0",
        "d/backup.part.old",
        "d/other.part.0123456789abcdef",
        "e/backup.part.0123456789abcdef",
    ];
    // All are old but the first, which another writer is still writing.
    let old = std::iter::once(left).chain(others[1..].iter().copied());
    let disk = CrashDisk {
        old: old.map(PathBuf::from).collect(),
        ..CrashDisk::default()
    };
    disk.put(left, b"");
    others.iter().for_each(|path| disk.put(path, b""));
    save_two_pieces(&disk).unwrap();
    let seen = disk.seen();
    assert!(!seen.iter().any(|path| path == left));
    assert!(
        others
            .iter()
            .all(|path| seen.iter().any(|seen| seen == path))
    );
}
