//! The stream of a snapshot: returns bytes on demand, and verifies them.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::snapshot_source::{self, NextRead, ReadMessages, SnapshotSource};
use super::verifier::{DIGEST, Verified, Verifier};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::Transport;
use crate::grpc::etcd_rs_proto::etcdserverpb::SnapshotResponse;
use crate::runtime::Bridge;

/// Reads a snapshot of the database of one member.
///
/// It is an iterator of pieces (usually 32 KiB), and an [`io::Read`]. The bytes are those that
/// `etcdctl snapshot save` writes and `etcdutl snapshot restore` reads: the database file, followed by
/// the 32 bytes of its SHA-256.
///
/// **A snapshot is verified only when it was read to its end.** The SHA-256 of the received bytes is
/// compared with the one that the member sent. The last 32 bytes are returned only when both are equal;
/// otherwise the last item is an error of the kind [`Corrupt`](ErrorKind::Corrupt). Discard the bytes
/// after any error: a snapshot cannot be resumed.
///
/// The stream has a connection of its own, which does not delay other requests of the client, and
/// buffers at most 4 MiB when it is read slowly. There is no time limit for the whole snapshot. Each
/// read blocks for at most the client's timeout, and fails with [`Timeout`](ErrorKind::Timeout) when no
/// bytes arrive. While the stream is open, the member keeps the pages of the snapshot and its database
/// file grows: read it without long pauses.
///
/// Dropping it cancels the snapshot on the server, without blocking.
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
#[must_use = "the snapshot is read only when the stream is read"]
pub struct SnapshotStream {
    bridge: Arc<Bridge>,
    stall: Duration,
    endpoint: Arc<str>,
    version: String,
    // The lock is never contended: it makes the stream `Sync`.
    source: Mutex<Option<SnapshotSource>>,
    messages: VecDeque<SnapshotResponse>,
    /// The end of the stream, after the buffered messages.
    end: Option<Result<()>>,
    verifier: Verifier,
    yielded: u64,
    /// The rest of a piece that was larger than the reader's buffer.
    rest: Bytes,
    verified: Option<[u8; DIGEST]>,
}

/// The description of a snapshot that was read to its end and verified.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedSnapshot {
    /// The endpoint of the member.
    pub endpoint: String,
    /// The storage version of the member, such as `3.6.0`. Empty before 3.6.
    pub version: String,
    /// The number of bytes, including the 32 of the SHA-256.
    pub size: u64,
    /// The SHA-256 of the database: of all bytes but the last 32.
    pub sha256: [u8; 32],
}

/// The progress of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotProgress {
    /// The number of bytes written so far.
    pub written: u64,
    /// The number of bytes of the whole snapshot.
    pub total: u64,
}

impl SnapshotStream {
    /// Requests a snapshot. Blocks until its first bytes have arrived.
    pub(crate) fn open(
        bridge: &Arc<Bridge>,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> Result<Self> {
        let opening = bridge.call(snapshot_source::open(transport, timeout));
        let (source, mut first) = opening.map_err(with_operation)?;
        // The first message announces the bytes after it.
        let announced = first.remaining_bytes.checked_add(first.blob.len() as u64);
        let Some(announced) = announced.filter(|size| *size <= u64::MAX / 2) else {
            let reason = "the announced size of the snapshot is invalid";
            return Err(with_operation(Error::protocol(reason)).at(Some(source.endpoint())));
        };
        Ok(SnapshotStream {
            bridge: Arc::clone(bridge),
            stall: timeout,
            endpoint: source.endpoint(),
            version: std::mem::take(&mut first.version),
            source: Mutex::new(Some(source)),
            messages: VecDeque::from([first]),
            end: None,
            verifier: Verifier::new(announced),
            yielded: 0,
            rest: Bytes::new(),
            verified: None,
        })
    }

    /// The endpoint of the member. A client with several endpoints uses any that answers;
    /// [`Client::at`](crate::Client::at) selects one.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The storage version of the member, such as `3.6.0`. `None` from servers before 3.6, and while a
    /// new cluster has not determined it.
    pub fn version(&self) -> Option<&str> {
        Some(&*self.version).filter(|version| !version.is_empty())
    }

    /// The number of bytes of the whole snapshot, including the 32 of the SHA-256.
    pub fn total(&self) -> u64 {
        self.verifier.announced() + DIGEST as u64
    }

    /// The number of bytes that were not returned yet.
    pub fn remaining(&self) -> u64 {
        self.total().saturating_sub(self.yielded)
    }

    /// Writes the rest of the snapshot to `writer` and flushes it. Calls `progress` after each piece.
    ///
    /// Blocks until everything is written and verified, which takes minutes for a large store or a slow
    /// writer.
    ///
    /// # Errors
    ///
    /// The errors of reading; [`Os`](ErrorKind::Os) when `writer` fails, with its error as the
    /// [`source`](std::error::Error::source). Discard the written bytes after an error.
    pub fn write_to<W: Write>(
        mut self,
        mut writer: W,
        mut progress: impl FnMut(SnapshotProgress),
    ) -> Result<VerifiedSnapshot> {
        let unwritten = |error: io::Error| {
            let reason = format!("the snapshot could not be written: {error}");
            with_operation(Error::new(ErrorKind::Os, reason).caused_by(error))
        };
        while let Some(piece) = self.next().transpose()? {
            writer.write_all(&piece).map_err(unwritten)?;
            let total = self.total();
            let written = self.yielded;
            progress(SnapshotProgress { written, total });
        }
        // An error that a buffered writer reports only now must not be lost.
        writer.flush().map_err(unwritten)?;
        let Some(sha256) = self.verified else {
            // The iterator has returned an error before.
            return Err(with_operation(
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

    /// The next piece that is not empty; `None` after the last.
    fn advance(&mut self) -> Result<Option<Bytes>> {
        loop {
            if !self.rest.is_empty() {
                return Ok(Some(std::mem::take(&mut self.rest)));
            }
            if let Some(message) = self.messages.pop_front() {
                let fed = self.verifier.feed(message.blob);
                self.rest = fed.map_err(|invalid| self.corrupt(&invalid.0))?;
                continue;
            }
            match self.end.take() {
                Some(Ok(())) => {
                    let result = self.verifier.finish();
                    let Verified { digest, sha256 } =
                        result.map_err(|invalid| self.corrupt(&invalid.0))?;
                    self.verified = Some(sha256);
                    // Only now: a file without the digest cannot be restored.
                    return Ok(Some(digest));
                }
                Some(Err(error)) => return Err(self.with_position(error)),
                None => {}
            }
            if self.source.get_mut().is_none() {
                return Ok(None);
            }
            self.fetch()?;
        }
    }

    /// Reads the messages that have arrived, or waits for one.
    fn fetch(&mut self) -> Result<()> {
        // Before the source is taken: in a forked child it must not be moved or dropped.
        self.bridge.check_open()?;
        let Some(source) = self.source.get_mut().take() else {
            return Ok(());
        };
        let stall = self.stall;
        let ReadMessages { messages, next } = self
            .bridge
            .call(async move { Ok(source.read(stall).await) })?;
        self.messages.extend(messages);
        match next {
            NextRead::More(source) => *self.source.get_mut() = Some(source),
            NextRead::End => self.end = Some(Ok(())),
            NextRead::Failure(error) => self.end = Some(Err(error)),
        }
        Ok(())
    }

    #[cold]
    fn corrupt(&self, reason: &str) -> Error {
        let reason = format!("the snapshot is not what the member sent: {reason}");
        Error::new(ErrorKind::Corrupt, reason).at(Some(Arc::clone(&self.endpoint)))
    }

    #[cold]
    fn with_position(&self, error: Error) -> Error {
        let (received, all) = (self.verifier.received(), self.verifier.announced());
        error.last(format!("after {received} of {all} bytes"))
    }

    /// Ends the stream.
    fn end(&mut self) {
        *self.source.get_mut() = None;
        self.end = None;
        self.messages.clear();
    }
}

/// The pieces of the snapshot, in order. An `Err` is the last item.
impl Iterator for SnapshotStream {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        match self.advance() {
            Ok(piece) => {
                self.yielded += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                piece.map(Ok)
            }
            Err(error) => {
                self.end();
                Some(Err(with_operation(error)))
            }
        }
    }
}

/// The bytes of the snapshot. Their end means that they are verified. An [`io::Error`] wraps an
/// [`Error`].
impl io::Read for SnapshotStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(mut piece) = self.next().transpose().map_err(io::Error::other)? else {
            return Ok(0);
        };
        let now = piece.split_to(piece.len().min(buffer.len()));
        // The rest of the piece was not read by the caller yet.
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
            // The parent's runtime may be using it.
            std::mem::forget(self.source.get_mut().take());
        }
    }
}

#[cold]
fn with_operation(error: Error) -> Error {
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
