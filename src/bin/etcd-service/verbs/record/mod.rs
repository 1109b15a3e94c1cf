//! The verb `record`.

mod line;
mod recording;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Args;
use etcd_blocking::crossbeam_channel::{Receiver, Select, bounded, select};
use etcd_blocking::mirror::{KeyChange, Mirror, MirrorEvent, ResetCause};
use etcd_blocking::{Client, KeyRange, KeyValue, LeaseId, Revision};

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::{Failure, Outcome};
use crate::output::complain;
use crate::signals::signals;
pub(crate) use line::{Kind, Line};
use recording::Recording;

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
    #[command(flatten)]
    formats: FormatArguments,
    /// The file that the lines are written to; it is made if it does not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Goes on with the recording in the file, if there is one
    #[arg(long)]
    append: bool,
    /// Ends the recording before the file is larger than this [default: it has no end]
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
}

impl Record {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let signals = signals()?;
        let client = connection.connect()?;
        let mut ranges: Vec<(String, KeyRange)> = Vec::new();
        for (codec, prefix) in self.formats.formats() {
            let range = codec.all(&prefix);
            if !ranges.iter().any(|(_, of)| *of == range) {
                ranges.push((prefix, range));
            }
        }
        let (out, append, max_bytes) = (self.out, self.append, self.max_bytes);
        // On a thread, because a named pipe is opened once it has a reader.
        let (sender, opened) = bounded(1);
        let open = move || {
            let _ = sender.send(Recording::open(out, append, max_bytes));
        };
        let thread = thread::Builder::new().name("open".into());
        thread
            .spawn(open)
            .map_err(|error| Failure::failed(format!("start a thread: {error}")))?;
        let mut recording = select! {
            recv(signals) -> _ => return Ok(0),
            recv(opened) -> opened => opened.map_err(Failure::failed)??,
        };
        let mut sources = Vec::new();
        for (prefix, range) in ranges {
            let Some(mirror) = first_list(&client, range, &signals)? else {
                return Ok(0);
            };
            sources.push(Source::new(prefix, mirror));
        }
        let changes = sources.iter().map(|source| source.mirror.changes().clone());
        let changes: Vec<_> = changes.collect();
        loop {
            let mut select = Select::new();
            for of_source in &changes {
                select.recv(of_source);
            }
            let signalled = select.recv(&signals);
            let chosen = select.select();
            let index = chosen.index();
            if index == signalled {
                let _ = chosen.recv(&signals);
                return Ok(0);
            }
            let (Some(source), Some(changes)) = (sources.get_mut(index), changes.get(index)) else {
                return Ok(0);
            };
            let lines = match chosen.recv(changes) {
                Ok(Ok(event)) => source.lines(&client, event),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Failure::failed("the connection was closed")),
            };
            if !recording.write(&lines)? {
                complain("the file has reached --max-bytes: the recording ends");
                return Ok(0);
            }
        }
    }
}

/// Waits for the first list; `None` if a signal came first. That etcd is away is said once.
fn first_list(
    client: &Client,
    range: KeyRange,
    signals: &Receiver<i32>,
) -> Result<Option<Mirror>, Failure> {
    let mut is_said = false;
    loop {
        let pending = client.submit_mirror(range.clone());
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

/// A prefix that is recorded, and what was said about it.
#[derive(Debug)]
struct Source {
    prefix: String,
    mirror: Mirror,
    is_stale: bool,
    revision: Revision,
}

impl Source {
    fn new(prefix: String, mirror: Mirror) -> Self {
        Source {
            prefix,
            mirror,
            is_stale: false,
            revision: Revision::default(),
        }
    }

    /// The lines for an event.
    fn lines(&mut self, client: &Client, event: MirrorEvent) -> String {
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
                    let why = self.mirror.last_error();
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
        out
    }

    /// A line about the prefix.
    fn line(&self, kind: Kind) -> Line {
        Line {
            time: now(),
            revision: self.revision.get(),
            kind,
            key: Some(self.prefix.clone()),
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
