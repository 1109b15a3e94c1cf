//! The file of a recording.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::line::Line;
use crate::failure::Failure;

/// The beginning of a file that is read to see whether it is a recording.
const BEGINNING: u64 = 64 * 1024;

/// Why a file is not written to.
enum Unfit {
    Io(io::Error),
    /// It exists, and `--append` was not given.
    Exists,
    /// It is something else than a recording.
    Foreign,
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Unfit::Io(error)
    }
}

/// The file, and how large it is.
#[derive(Debug)]
pub(super) struct Recording {
    path: PathBuf,
    file: File,
    /// Whether it can be cut: not a pipe or a device.
    is_regular: bool,
    bytes: u64,
    max_bytes: Option<u64>,
}

impl Recording {
    /// Opens a file. One that exists and has contents is only taken with `append`, and only if it is a recording. It
    /// blocks for as long as a named pipe has no reader.
    pub(super) fn open(
        path: PathBuf,
        append: bool,
        max_bytes: Option<u64>,
    ) -> Result<Self, Failure> {
        match open(&path, append) {
            Ok((file, is_regular, bytes)) => Ok(Recording {
                path,
                file,
                is_regular,
                bytes,
                max_bytes,
            }),
            Err(unfit) => {
                let path = path.display();
                Err(Failure::failed(match unfit {
                    Unfit::Io(error) => format!("open {path}: {error}"),
                    Unfit::Exists => format!(
                        "{path} exists: --append goes on with the recording in it; or name another file"
                    ),
                    Unfit::Foreign => {
                        format!("{path} is no recording, and stays as it is: name another file")
                    }
                }))
            }
        }
    }

    /// Writes whole lines. Returns `false`, and writes nothing, if the file would be too large.
    pub(super) fn write(&mut self, lines: &str) -> Result<bool, Failure> {
        let length = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let bytes = self.bytes.saturating_add(length);
        if self.max_bytes.is_some_and(|most| bytes > most) {
            return Ok(false);
        }
        // One write for a batch: `File` has no buffer of its own.
        if let Err(error) = self.file.write_all(lines.as_bytes()) {
            // A full disk can have taken a part of a line.
            if self.is_regular {
                let _ = self.file.set_len(self.bytes);
            }
            return Err(match error.kind() {
                io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
                _ => Failure::failed(format!("write {}: {error}", self.path.display())),
            });
        }
        self.bytes = bytes;
        Ok(true)
    }
}

fn open(path: &Path, append: bool) -> Result<(File, bool, u64), Unfit> {
    let mut options = OpenOptions::new();
    options.append(true);
    // A pipe must not be open for reading here: that would hide the end of its reader.
    let is_regular = match path.metadata() {
        Ok(metadata) => metadata.is_file(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error.into()),
    };
    if !is_regular {
        return Ok((options.open(path)?, false, 0));
    }
    let mut file = options.read(true).create(true).open(path)?;
    let bytes = file.metadata()?.len();
    if bytes == 0 {
        return Ok((file, true, 0));
    }
    if !append {
        return Err(Unfit::Exists);
    }
    let mut beginning = Vec::new();
    (&mut file).take(BEGINNING).read_to_end(&mut beginning)?;
    let mut lines = beginning.split_inclusive(|byte| *byte == b'\n');
    // A value can be longer than what was read, and the first line of all can be cut off.
    let is_recording = lines.any(|line| serde_json::from_slice::<Line>(line).is_ok());
    if !is_recording && !beginning.starts_with(b"{\"time\":") {
        return Err(Unfit::Foreign);
    }
    // An earlier recording may have been cut off inside a line.
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok((file, true, file_length(path)?))
}

fn file_length(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "{\"time\":1,\"revision\":2,\"kind\":\"live\"}\n";

    fn text(outcome: Result<Recording, Failure>) -> String {
        match outcome {
            Err(Failure::Failed(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_recording_is_appended_to_and_only_when_told() {
        let path = std::env::temp_dir().join(format!("etcd-service-open-{}", std::process::id()));
        let open = |append| Recording::open(path.clone(), append, None);
        let mut recording = open(false).unwrap();
        assert!(recording.write(LINE).unwrap());
        assert!(text(open(false)).contains("exists: --append"));
        // Cut off inside a line.
        std::fs::write(&path, format!("{LINE}{{\"time\"")).unwrap();
        assert!(open(true).unwrap().write(LINE).unwrap());
        let contents = std::fs::read_to_string(&path).unwrap();
        assert_eq!(contents, format!("{LINE}{{\"time\"\n{LINE}"));
        std::fs::write(&path, "root:x:0:0\n").unwrap();
        assert!(text(open(true)).contains("is no recording"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "root:x:0:0\n");
        std::fs::write(&path, "").unwrap();
        let mut small = Recording::open(path.clone(), false, Some(40)).unwrap();
        assert!(small.write(LINE).unwrap());
        assert!(!small.write(LINE).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
