//! Judges an HTTP/1.1 reply while it arrives. Pure.

use super::question::HttpExpectation;

/// The largest head of a reply.
const LARGEST_HEAD: usize = 16 << 10;

/// The most header fields of a reply.
const MOST_FIELDS: usize = 100;

/// The bytes of a body that are searched.
const SEARCHED: usize = 64 << 10;

/// The largest line with the size of a chunk, with its extensions.
const LARGEST_CHUNK_LINE: usize = 1 << 10;

/// Whether a reply is the expected one, as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// More of the reply decides.
    Open,
    Passed,
    Failed(String),
}

/// A reply that is being read.
#[derive(Debug)]
pub(super) struct HttpReply<'a> {
    expected: &'a HttpExpectation,
    framing: Framing,
    /// Bytes that are not decoded yet.
    pending: Vec<u8>,
    body: Vec<u8>,
    /// The text is not in so many bytes of the body.
    searched: usize,
}

/// Where the reader is in the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Head,
    /// So many bytes of the body are missing.
    Length(u64),
    /// The body ends with the connection.
    Close,
    ChunkSize,
    /// So many bytes of the chunk are missing.
    Chunk(u64),
    /// The end of the line after a chunk.
    ChunkEnd,
    End,
}

fn failed<T>(why: impl Into<String>) -> Result<T, String> {
    Err(why.into())
}

impl<'a> HttpReply<'a> {
    pub(super) fn new(expected: &'a HttpExpectation) -> Self {
        HttpReply {
            expected,
            framing: Framing::Head,
            pending: Vec::new(),
            body: Vec::new(),
            searched: 0,
        }
    }

    /// Reads the next bytes.
    pub(super) fn push(&mut self, data: &[u8]) -> Judgement {
        // The end of a head is near the new bytes, so that a head in small pieces is not parsed for
        // each of them.
        let news = self.pending.len().saturating_sub(3);
        self.pending.extend_from_slice(data);
        if self.framing == Framing::Head {
            let news = self.pending.get(news..).unwrap_or_default();
            // Each line ends with "\n" or "\r\n".
            let has_end = news.windows(2).any(|two| two == b"\n\n")
                || news.windows(3).any(|three| three == b"\n\r\n");
            if !has_end && self.pending.len() <= LARGEST_HEAD {
                return Judgement::Open;
            }
        }
        match (self.decode(), self.judge(false)) {
            // What follows the decision does not change it, however the reply is cut into pieces.
            (Err(why), Judgement::Open) => Judgement::Failed(why),
            (_, judgement) => judgement,
        }
    }

    /// Notes the end of the connection.
    pub(super) fn end(&mut self) -> Judgement {
        match self.framing {
            Framing::Head => Judgement::Failed("the connection ended before a reply".into()),
            Framing::Close | Framing::End => self.judge(true),
            _ => Judgement::Failed("the connection ended within the reply".into()),
        }
    }

    fn judge(&mut self, ended: bool) -> Judgement {
        let expected = self.expected;
        let Some(text) = &expected.body else {
            return match self.framing {
                Framing::Head => Judgement::Open,
                // The head has the status, which is all that is expected.
                _ => Judgement::Passed,
            };
        };
        // The text may begin in the part that was searched before.
        let from = self.searched.saturating_sub(text.len());
        let unsearched = self.body.get(from..).unwrap_or_default();
        let mut windows = unsearched.windows(text.len().max(1));
        let found = text.is_empty() || windows.any(|window| window == text.as_bytes());
        self.searched = self.body.len();
        if found && self.framing != Framing::Head {
            Judgement::Passed
        } else if self.body.len() >= SEARCHED {
            Judgement::Failed(format!(
                "the first 64 KiB of the body do not contain {text:?}"
            ))
        } else if ended || self.framing == Framing::End {
            Judgement::Failed(format!("the body does not contain {text:?}"))
        } else {
            Judgement::Open
        }
    }

    /// Decodes as much as possible.
    fn decode(&mut self) -> Result<(), String> {
        loop {
            let before = (self.framing, self.pending.len());
            match self.framing {
                Framing::Head => self.head()?,
                Framing::Length(0) => self.framing = Framing::End,
                Framing::Length(left) => self.framing = Framing::Length(left - self.take(left)),
                Framing::Close => drop(self.take(u64::MAX)),
                Framing::ChunkSize => self.chunk_size()?,
                Framing::Chunk(0) => self.framing = Framing::ChunkEnd,
                Framing::Chunk(left) => self.framing = Framing::Chunk(left - self.take(left)),
                Framing::ChunkEnd => match self.pending.as_slice() {
                    [] | [b'\r'] => {}
                    [b'\r', b'\n', ..] => {
                        self.pending.drain(..2);
                        self.framing = Framing::ChunkSize;
                    }
                    _ => return failed("the reply is not HTTP/1.1: a chunk is too long"),
                },
                Framing::End => self.pending.clear(),
            }
            if before == (self.framing, self.pending.len()) {
                return Ok(());
            }
        }
    }

    /// Moves up to `most` bytes to the body, and returns how many. Only as much as is searched is kept.
    fn take(&mut self, most: u64) -> u64 {
        let count = self
            .pending
            .len()
            .min(usize::try_from(most).unwrap_or(usize::MAX));
        let room = SEARCHED.saturating_sub(self.body.len());
        let taken = self.pending.drain(..count);
        self.body.extend(taken.take(room));
        count as u64
    }

    fn head(&mut self) -> Result<(), String> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(&self.pending) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.pending.len() > LARGEST_HEAD => {
                return failed("the head of the reply has more than 16 KiB");
            }
            Ok(httparse::Status::Partial) => return Ok(()),
            Err(error) => return failed(format!("the reply is not HTTP/1.1: {error}")),
        };
        let status = response.code.unwrap_or_default();
        let field = |name: &str| {
            let found = response
                .headers
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case(name));
            found
                .map(|field| {
                    String::from_utf8_lossy(field.value)
                        .trim()
                        .to_ascii_lowercase()
                })
                .next_back()
        };
        let chunked = field("transfer-encoding").is_some_and(|value| value.ends_with("chunked"));
        let length_field = field("content-length");
        let body_length = length_field.as_ref().map(|value| value.parse::<u64>());
        let framing = match (status, chunked, body_length) {
            // An interim reply: the final one follows.
            (100 | 102..=199, ..) => Framing::Head,
            (204 | 304, ..) => Framing::End,
            (_, true, _) => Framing::ChunkSize,
            (_, false, Some(Ok(length))) => Framing::Length(length),
            (_, false, Some(Err(_))) => {
                return failed("the reply is not HTTP/1.1: its content-length is not a number");
            }
            (_, false, None) => Framing::Close,
        };
        if framing != Framing::Head && !self.expected.status.contains(&status) {
            return failed(format!("status {status}"));
        }
        self.pending.drain(..length);
        self.framing = framing;
        Ok(())
    }

    fn chunk_size(&mut self) -> Result<(), String> {
        match httparse::parse_chunk_size(&self.pending) {
            Ok(httparse::Status::Complete((length, size))) => {
                self.pending.drain(..length);
                // The fields after the last chunk are not read.
                self.framing = if size == 0 {
                    Framing::End
                } else {
                    Framing::Chunk(size)
                };
                Ok(())
            }
            Ok(httparse::Status::Partial) if self.pending.len() <= LARGEST_CHUNK_LINE => Ok(()),
            _ => failed("the reply is not HTTP/1.1: the size of a chunk is not a number"),
        }
    }
}

#[cfg(test)]
mod tests;
