//! A snapshot as its reader has it: bytes when asked for, and a verdict at the end.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::source::{self, Read, Source, Then};
use super::verify::{DIGEST, Verified, Verifier};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::Transport;
use crate::grpc::etcd_rs_proto::etcdserverpb::SnapshotResponse;
use crate::runtime::Bridge;

/// The database of one member, as it was at one moment, on its way here.
///
/// An iterator of pieces (32 KiB usually), and an [`io::Read`]. What it yields is what
/// `etcdctl snapshot save` writes and `etcdutl snapshot restore` reads: the database file, and the 32
/// bytes of its SHA-256.
///
/// **Only one that was read to its end is verified.** The SHA-256 of what came is compared with the
/// one that the member sent; the last 32 bytes are yielded only when they are the same, else the last
/// item is an error of the kind [`Corrupt`](ErrorKind::Corrupt), and what was read must be thrown
/// away. The same goes for every other error: a snapshot cannot be resumed, only begun anew.
///
/// It has a connection of its own and goes at its reader's pace: at most 4 MiB wait on this side, and
/// nothing else of the client waits for it. There is no deadline for the whole; each read blocks for
/// at most the client's timeout until the next bytes come, and is an error of the kind
/// [`Timeout`](ErrorKind::Timeout) when none do. The member keeps the pages of that moment for as long
/// as the stream is open, and its database file grows meanwhile: do not leave one open unread.
///
/// Dropping it cancels on the server, at once, and does not block.
///
/// ```no_run
/// use std::io::Read;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
/// let mut snapshot = client.at("http://10.0.0.1:2379")?.maintenance().snapshot()?;
/// println!("{} bytes of etcd {:?}", snapshot.total(), snapshot.version());
/// let mut copy = Vec::new();
/// snapshot.read_to_end(&mut copy)?; // verified
/// # Ok(()) }
/// ```
#[must_use = "the database is not read until somebody does"]
pub struct SnapshotStream {
    bridge: Arc<Bridge>,
    stall: Duration,
    endpoint: Arc<str>,
    version: String,
    // Behind a lock that nobody waits for: it makes the stream `Sync`.
    source: Mutex<Option<Source>>,
    messages: VecDeque<SnapshotResponse>,
    then: Option<Result<()>>,
    verifier: Verifier,
    yielded: u64,
    /// Of a piece that a reader with a small buffer has begun.
    rest: Bytes,
    verified: Option<[u8; DIGEST]>,
}

/// What is known of a snapshot that was read to its end and verified.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedSnapshot {
    /// The endpoint of the member it came from.
    pub endpoint: String,
    /// The version of its storage, such as `3.6.0`; empty when it has none, as before 3.6.
    pub version: String,
    /// All bytes, the 32 of the SHA-256 included.
    pub size: u64,
    /// The SHA-256 of the database: of all bytes but the last 32.
    pub sha256: [u8; 32],
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotProgress {
    /// The bytes written.
    pub written: u64,
    /// The bytes there will be in the end.
    pub total: u64,
}

impl SnapshotStream {
    /// Asks a member for a snapshot; blocks until its first bytes are here.
    pub(crate) fn open(
        bridge: &Arc<Bridge>,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> Result<Self> {
        let opening = bridge.call(source::open(transport, timeout));
        let (source, mut first) = opening.map_err(named)?;
        let announced = first.remaining_bytes.checked_add(first.blob.len() as u64);
        let Some(announced) = announced.filter(|size| *size <= u64::MAX / 2) else {
            let reason = "a snapshot that announces more bytes than there are";
            return Err(named(Error::protocol(reason)).at(Some(source.endpoint())));
        };
        Ok(SnapshotStream {
            bridge: Arc::clone(bridge),
            stall: timeout,
            endpoint: source.endpoint(),
            version: std::mem::take(&mut first.version),
            source: Mutex::new(Some(source)),
            messages: VecDeque::from([first]),
            then: None,
            verifier: Verifier::new(announced),
            yielded: 0,
            rest: Bytes::new(),
            verified: None,
        })
    }

    /// The endpoint of the member it comes from. A client with several endpoints takes one that
    /// answers; [`Client::at`](crate::Client::at) chooses.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The version of the member's storage, such as `3.6.0`; `None` from servers before 3.6,
    /// and in the first moments of a cluster.
    pub fn version(&self) -> Option<&str> {
        Some(&*self.version).filter(|version| !version.is_empty())
    }

    /// All bytes that it will yield, the 32 of the SHA-256 included.
    pub fn total(&self) -> u64 {
        self.verifier.announced() + DIGEST as u64
    }

    /// The bytes that it has yet to yield.
    pub fn remaining(&self) -> u64 {
        self.total().saturating_sub(self.yielded)
    }

    /// Writes the rest of it to `writer`, and flushes that. `progress` is called after each piece.
    ///
    /// Blocks until everything is written and verified: minutes, for a large store or a slow writer.
    ///
    /// # Errors
    ///
    /// Those of reading it; [`Os`](ErrorKind::Os) when `writer` fails, with its error as the
    /// [`source`](std::error::Error::source). What was written must be thrown away then.
    pub fn write_to<W: Write>(
        mut self,
        mut writer: W,
        mut progress: impl FnMut(SnapshotProgress),
    ) -> Result<VerifiedSnapshot> {
        let unwritten = |error: io::Error| {
            let reason = format!("what came could not be written: {error}");
            named(Error::new(ErrorKind::Os, reason).caused_by(error))
        };
        while let Some(piece) = self.next().transpose()? {
            writer.write_all(&piece).map_err(unwritten)?;
            let total = self.total();
            let written = self.yielded;
            progress(SnapshotProgress { written, total });
        }
        writer.flush().map_err(unwritten)?;
        let Some(sha256) = self.verified else {
            // An error was read from it before.
            return Err(named(
                self.corrupt("it was not read from its beginning to its end"),
            ));
        };
        Ok(VerifiedSnapshot {
            endpoint: self.endpoint.to_string(),
            version: std::mem::take(&mut self.version),
            size: self.yielded,
            sha256,
        })
    }

    /// The next piece that is not empty.
    fn advance(&mut self) -> Result<Option<Bytes>> {
        loop {
            if !self.rest.is_empty() {
                return Ok(Some(std::mem::take(&mut self.rest)));
            }
            if let Some(message) = self.messages.pop_front() {
                let fed = self.verifier.feed(message.blob);
                self.rest = fed.map_err(|flaw| self.corrupt(&flaw.0))?;
                continue;
            }
            match self.then.take() {
                Some(Ok(())) => {
                    let verdict = self.verifier.finish();
                    let Verified { digest, sha256 } =
                        verdict.map_err(|flaw| self.corrupt(&flaw.0))?;
                    self.verified = Some(sha256);
                    return Ok(Some(digest));
                }
                Some(Err(error)) => return Err(self.after_how_much(error)),
                None => {}
            }
            if self.source.get_mut().is_none() {
                return Ok(None);
            }
            self.fetch()?;
        }
    }

    fn fetch(&mut self) -> Result<()> {
        // Before the source is taken: in a forked child it must stay where it is.
        self.bridge.check_open()?;
        let Some(source) = self.source.get_mut().take() else {
            return Ok(());
        };
        let stall = self.stall;
        let Read { messages, then } = self
            .bridge
            .call(async move { Ok(source.read(stall).await) })?;
        self.messages.extend(messages);
        match then {
            Then::More(source) => *self.source.get_mut() = Some(source),
            Then::End => self.then = Some(Ok(())),
            Then::Failure(error) => self.then = Some(Err(error)),
        }
        Ok(())
    }

    #[cold]
    fn corrupt(&self, flaw: &str) -> Error {
        let reason = format!("this is not what the member sent: {flaw}");
        Error::new(ErrorKind::Corrupt, reason).at(Some(Arc::clone(&self.endpoint)))
    }

    #[cold]
    fn after_how_much(&self, error: Error) -> Error {
        let (seen, all) = (self.verifier.seen(), self.verifier.announced());
        error.last(format!("after {seen} of {all} bytes"))
    }

    fn over(&mut self) {
        *self.source.get_mut() = None;
        self.then = None;
        self.messages.clear();
    }
}

/// Pieces as they come. An item that is `Err` is the last one.
impl Iterator for SnapshotStream {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        match self.advance() {
            Ok(piece) => {
                self.yielded += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                piece.map(Ok)
            }
            Err(error) => {
                self.over();
                Some(Err(named(error)))
            }
        }
    }
}

/// The end of the bytes means that they are verified. An [`Error`] is inside the [`io::Error`].
impl io::Read for SnapshotStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(mut piece) = self.next().transpose().map_err(io::Error::other)? else {
            return Ok(0);
        };
        let now = piece.split_to(piece.len().min(buffer.len()));
        self.yielded -= piece.len() as u64;
        self.rest = piece;
        for (to, from) in buffer.iter_mut().zip(&now) {
            *to = *from;
        }
        Ok(now.len())
    }
}

impl Drop for SnapshotStream {
    fn drop(&mut self) {
        if self.bridge.is_forked() {
            // What the parent's runtime may be using stays where it is.
            std::mem::forget(self.source.get_mut().take());
        }
    }
}

#[cold]
fn named(error: Error) -> Error {
    error.or_operation(&Operation::new("snapshot"))
}

impl fmt::Debug for SnapshotStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotStream")
            .field("endpoint", &self.endpoint)
            .field("version", &self.version)
            .field("total", &self.total())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for VerifiedSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex: String = self.sha256.iter().map(|b| format!("{b:02x}")).collect();
        f.debug_struct("VerifiedSnapshot")
            .field("endpoint", &self.endpoint)
            .field("version", &self.version)
            .field("size", &self.size)
            .field("sha256", &hex)
            .finish()
    }
}
