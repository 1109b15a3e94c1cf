//! The verb `record`.

mod line;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use etcd_blocking::crossbeam_channel::{Receiver, select};
use etcd_blocking::mirror::{KeyChange, Mirror, MirrorEvent, ResetCause};
use etcd_blocking::{Client, KeyRange, KeyValue, LeaseId, Revision};

use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};
use crate::output::complain;
use crate::signals::signals;
pub(crate) use line::{Kind, Line};

/// The largest number of leases that one batch of deletions asks about.
const MOST_LEASES: usize = 16;

/// The longest wait for the answer whether a lease still exists.
const LEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time between two attempts to read the first list.
const RETRY: Duration = Duration::from_secs(1);

/// The arguments of `record`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  etcd-service record --out registry.jsonl
  etcd-service replay registry.jsonl --out timeline.svg")]
pub(crate) struct Record {
    /// What the recorded keys begin with
    #[arg(long, default_value = "/services/")]
    prefix: String,
    /// The file that the lines are appended to; it is made if it does not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Ends the recording before the file is larger than this [default: it has no end]
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
}

impl Record {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let signals = signals()?;
        let client = connection.connect()?;
        let mut recording = Recording::open(self.out, self.max_bytes)?;
        let Some(mirror) = first_list(&client, &self.prefix, &signals)? else {
            return Ok(0);
        };
        loop {
            select! {
                recv(signals) -> _ => return Ok(0),
                recv(mirror.changes()) -> event => match event {
                    Ok(Ok(event)) => {
                        if !recording.event(&client, &mirror, event)? {
                            complain("the file has reached --max-bytes: the recording ends");
                            return Ok(0);
                        }
                    }
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => return Err(Failure::failed("the connection was closed")),
                },
            }
        }
    }
}

/// Waits for the first list; `None` if a signal came first. That etcd is away is said once.
fn first_list(
    client: &Client,
    prefix: &str,
    signals: &Receiver<i32>,
) -> Result<Option<Mirror>, Failure> {
    let mut is_said = false;
    loop {
        let pending = client.submit_mirror(KeyRange::prefix(prefix));
        let error = select! {
            recv(signals) -> _ => return Ok(None),
            recv(pending.receiver()) -> mirror => match mirror {
                Ok(Ok(mirror)) => {
                    if is_said {
                        complain("etcd answers: recording");
                    }
                    return Ok(Some(mirror));
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(Failure::failed("the connection was closed")),
            },
        };
        if !error.is_retryable() {
            return Err(error.into());
        }
        if !is_said {
            complain(format!("waiting for etcd: {error}"));
            is_said = true;
        }
        if signals.recv_timeout(RETRY).is_ok() {
            return Ok(None);
        }
    }
}

/// The file, and what is said about etcd.
struct Recording {
    path: PathBuf,
    file: File,
    bytes: u64,
    max_bytes: Option<u64>,
    is_stale: bool,
    revision: Revision,
}

impl Recording {
    fn open(path: PathBuf, max_bytes: Option<u64>) -> Result<Self, Failure> {
        let open = || {
            let options = &mut OpenOptions::new();
            let mut file = options.read(true).append(true).create(true).open(&path)?;
            // An earlier recording may have been cut off inside a line. A pipe or terminal has no end to read.
            let mut last = [b'\n'];
            if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
            }
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
            let bytes = file.metadata()?.len();
            Ok::<_, std::io::Error>((file, bytes))
        };
        let (file, bytes) =
            open().map_err(|error| Failure::failed(format!("open {}: {error}", path.display())))?;
        Ok(Recording {
            path,
            file,
            bytes,
            max_bytes,
            is_stale: false,
            revision: Revision::default(),
        })
    }

    /// Writes what an event says. Returns `false`, and writes nothing, if the file would be too large.
    fn event(
        &mut self,
        client: &Client,
        mirror: &Mirror,
        event: MirrorEvent,
    ) -> Result<bool, Failure> {
        let mut out = String::new();
        match event {
            MirrorEvent::Changed { revision, changes } => {
                self.revision = revision;
                let causes = causes(client, &changes);
                for change in &changes {
                    line_of(change, Some(&causes)).write_to(&mut out);
                }
            }
            MirrorEvent::Reset {
                revision,
                cause,
                changes,
            } => {
                self.revision = revision;
                let cause = match cause {
                    ResetCause::First => "first",
                    ResetCause::Overflow => "overflow",
                    ResetCause::Relisted => "relisted",
                    ResetCause::Rewound => "rewound",
                    _ => "other",
                };
                if cause != "first" {
                    complain(format!(
                        "changes are missing ({cause}); the recording has the difference"
                    ));
                }
                let reset = Line {
                    cause: Some(cause.into()),
                    ..self.line(Kind::Reset)
                };
                reset.write_to(&mut out);
                for change in &changes {
                    line_of(change, None).write_to(&mut out);
                }
            }
            MirrorEvent::Stale { .. } => {
                if !self.is_stale {
                    let why = mirror.last_error();
                    let why = why.map_or_else(String::new, |error| format!(": {error}"));
                    complain(format!(
                        "etcd is away; the recording goes on when it is back{why}"
                    ));
                }
                self.is_stale = true;
                self.line(Kind::Stale).write_to(&mut out);
            }
            MirrorEvent::Live => {
                if self.is_stale {
                    complain("etcd is back");
                }
                self.is_stale = false;
                self.line(Kind::Live).write_to(&mut out);
            }
            _ => {}
        }
        // One write for a batch: `File` has no buffer of its own.
        let bytes = u64::try_from(out.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.max_bytes.is_some_and(|most| self.bytes > most) {
            return Ok(false);
        }
        let written = self.file.write_all(out.as_bytes());
        written
            .map_err(|error| Failure::failed(format!("write {}: {error}", self.path.display())))?;
        Ok(true)
    }

    fn line(&self, kind: Kind) -> Line {
        Line {
            time: now(),
            revision: self.revision.get(),
            kind,
            ..Line::default()
        }
    }
}

/// Asks etcd which leases of deleted keys still exist: a key whose lease exists was deleted by its owner.
fn causes(client: &Client, changes: &[KeyChange]) -> BTreeMap<LeaseId, &'static str> {
    let deleted = changes.iter().filter_map(|change| match change {
        KeyChange::Deleted { prev, .. } => prev.lease(),
        _ => None,
    });
    let mut causes: BTreeMap<LeaseId, &'static str> = BTreeMap::new();
    let client = client.with_timeout(LEASE_TIMEOUT);
    for lease in deleted {
        if causes.len() >= MOST_LEASES || causes.contains_key(&lease) {
            continue;
        }
        let cause = match client.time_to_live(lease) {
            Ok(status) if status.remaining().is_some() => "left",
            Ok(_) => "expired",
            Err(_) => "unknown",
        };
        causes.insert(lease, cause);
    }
    causes
}

fn line_of(change: &KeyChange, causes: Option<&BTreeMap<LeaseId, &'static str>>) -> Line {
    let with = |kind, kv: &KeyValue, value: Option<&[u8]>| {
        let (key, key64) = line::text(kv.key());
        let (value, value64) = value.map_or((None, None), line::text);
        Line {
            time: now(),
            revision: change.revision().get(),
            kind,
            key,
            key64,
            value,
            value64,
            lease: kv.lease().map(|lease| format!("{:x}", lease.get())),
            cause: None,
        }
    };
    match change {
        KeyChange::Put { kv, .. } => with(Kind::Put, kv, Some(kv.value())),
        KeyChange::Deleted { prev, .. } => {
            let cause = match (causes, prev.lease()) {
                (None, _) => "resync",
                // Without a lease, only a request deletes a key.
                (Some(_), None) => "left",
                (Some(causes), Some(lease)) => causes.get(&lease).copied().unwrap_or("unknown"),
            };
            Line {
                cause: Some(cause.into()),
                ..with(Kind::Delete, prev, None)
            }
        }
        _ => Line::default(),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
