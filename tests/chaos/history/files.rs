//! Writes and reads the files of a history.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::time::{ClockId, clock_gettime};

use super::collected::History;
use super::records::{Line, Time};

/// The time on CLOCK_MONOTONIC.
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as Time * 1_000_000_000 + now.tv_nsec as Time
}

/// The directory of a history that is being written.
#[derive(Debug)]
pub struct Recorders {
    dir: PathBuf,
}

/// One file of a history. Threads may share it.
#[derive(Debug)]
pub struct Recorder(Mutex<BufWriter<File>>);

impl Recorders {
    /// Creates an empty directory.
    pub fn create(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        Recorders {
            dir: dir.to_owned(),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates the file of one recorder.
    pub fn file(&self, name: &str) -> Recorder {
        let path = self.dir.join(format!("{name}.jsonl"));
        let file =
            File::create_new(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Recorder(Mutex::new(BufWriter::new(file)))
    }
}

impl Recorder {
    pub fn write(&self, line: Line) {
        let mut file = self.0.lock().unwrap();
        writeln!(file, "{}", line.text()).unwrap();
    }
}

/// Reads all files of a directory.
pub fn read(dir: &Path) -> History {
    let files = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    paths.sort();
    assert!(!paths.is_empty(), "{} has no history", dir.display());
    let mut history = History::default();
    for path in paths {
        for (n, text) in BufReader::new(File::open(&path).unwrap())
            .lines()
            .enumerate()
        {
            let line = serde_json::from_str(&text.unwrap())
                .unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), n + 1));
            history.add(line);
        }
    }
    history
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Answer, Call, Fault, Keys, Op, Outcome};

    #[test]
    fn a_written_history_is_read_back() {
        let dir =
            std::env::temp_dir().join(format!("etcd-blocking-history-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let recorders = Recorders::create(&dir);
        let op = Op {
            client: 1,
            id: 2,
            call: now(),
            ret: None,
            op: Call::Range {
                keys: Keys::below("kv/"),
                serializable: true,
                revision: 0,
            },
            res: Outcome::Ok(Answer::default()),
        };
        let fault = Fault {
            t: now(),
            step: 3,
            label: "kill".to_owned(),
            begins: true,
        };
        recorders.file("client-1").write(Line::Op(op.clone()));
        recorders.file("faults").write(Line::Fault(fault.clone()));
        let history = read(&dir);
        assert_eq!((history.ops, history.faults), (vec![op], vec![fault]));
        fs::remove_dir_all(&dir).unwrap();
    }
}
