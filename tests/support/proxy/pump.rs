//! How bytes pass through the proxy: one direction of one connection.

use std::{
    io::{ErrorKind, Read},
    net::{Shutdown, TcpStream},
    sync::{PoisonError, atomic::Ordering},
    thread,
    time::Instant,
};

use super::{Dir, Shared, conn::Conn};
use crate::support::link::READ;

/// What is to be done with bytes that were read.
enum Verdict {
    Forward { slice: usize },
    Swallow,
    Close,
}

impl Shared {
    /// Moves bytes in one direction until that direction ends.
    pub(super) fn pump(&self, conn: &Conn, dir: Dir, mut from: &TcpStream, to: Option<&TcpStream>) {
        let mut buffer = vec![0; READ];
        let limit = conn.limit.filter(|_| dir == Dir::Down);
        let mut left = limit.unwrap_or(u64::MAX);
        let line = &conn.lines[dir as usize];
        thread::scope(|scope| {
            let mut delayed = false;
            while !conn.closed.load(Ordering::SeqCst) {
                let piece = self.lock().links[dir as usize].piece();
                let bytes = match from.read(&mut buffer[..piece]) {
                    Ok(count) => &buffer[..count],
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => return conn.reset(),
                };
                // As it is now: the read may have waited since before the latency was set.
                let latency = self.lock().latency;
                let due = Instant::now() + latency;
                if !delayed && !latency.is_zero() {
                    delayed = true;
                    let mut left = left;
                    scope.spawn(move || {
                        while let Some(bytes) = line.pop()
                            && self.deliver(conn, dir, &bytes, to, &mut left)
                        {
                        }
                    });
                }
                let goes_on = if delayed {
                    line.push(bytes, due)
                } else {
                    self.deliver(conn, dir, bytes, to, &mut left)
                };
                if !goes_on || bytes.is_empty() {
                    return;
                }
            }
        });
    }

    /// Does with `bytes` what is to be done at the end of the line; `false` when nothing follows.
    fn deliver(
        &self,
        conn: &Conn,
        dir: Dir,
        bytes: &[u8],
        to: Option<&TcpStream>,
        left: &mut u64,
    ) -> bool {
        let bytes = &bytes[..bytes
            .len()
            .min(usize::try_from(*left).unwrap_or(usize::MAX))];
        match (self.judge(conn, dir, bytes), to) {
            (Verdict::Close, _) => conn.reset(),
            (Verdict::Swallow, _) | (_, None) if bytes.is_empty() => conn.finish(),
            (Verdict::Swallow, _) | (_, None) => {
                self.swallowed
                    .fetch_add(bytes.len() as u64, Ordering::SeqCst);
                return true;
            }
            (Verdict::Forward { .. }, Some(to)) if bytes.is_empty() => {
                // The other direction may still have something to say.
                let _ = to.shutdown(Shutdown::Write);
            }
            (Verdict::Forward { slice }, Some(to)) => {
                for piece in bytes.chunks(slice) {
                    // Counted first: who has an answer knows that the question is counted.
                    self.forwarded[dir as usize].fetch_add(piece.len() as u64, Ordering::SeqCst);
                    if !self.pass(conn, dir, piece.len()) || !conn.write(to, piece) {
                        conn.reset();
                        return false;
                    }
                }
                *left -= bytes.len() as u64;
                if *left > 0 {
                    return true;
                }
                conn.finish();
            }
        }
        false
    }

    /// Waits as long as the switches say, and then says what to do with `bytes`; none of them is
    /// the end of a direction.
    fn judge(&self, conn: &Conn, dir: Dir, bytes: &[u8]) -> Verdict {
        let mut switches = self.lock();
        loop {
            if conn.closed.load(Ordering::SeqCst) {
                return Verdict::Close;
            }
            if switches.black_hole && !bytes.is_empty() {
                conn.lost.store(true, Ordering::SeqCst);
            }
            let silent = switches.silent[dir as usize];
            if silent && !bytes.is_empty() {
                conn.silenced[dir as usize].store(true, Ordering::SeqCst);
            }
            if conn.has_lost(dir) && !bytes.is_empty() {
                return Verdict::Swallow;
            }
            if !switches.black_hole && !silent && !switches.paused[dir as usize] {
                break;
            }
            switches = self
                .changed
                .wait(switches)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if conn.has_lost(dir) {
            return Verdict::Swallow;
        }
        if dir == Dir::Up && conn.from.load(Ordering::SeqCst) == 0 {
            conn.from
                .store((self.identify)(bytes).unwrap_or(0), Ordering::SeqCst);
            let from = conn.from.load(Ordering::SeqCst);
            if !switches.cut_from.is_empty() && (from == 0 || switches.cut_from.contains(&from)) {
                return Verdict::Close;
            }
        }
        Verdict::Forward {
            slice: switches.slice,
        }
    }

    /// Waits until the link has passed `count` bytes, or is another one; `false` when the connection
    /// was closed meanwhile.
    fn pass(&self, conn: &Conn, dir: Dir, count: usize) -> bool {
        let mut switches = self.lock();
        let rate = switches.links[dir as usize].rate();
        let end = switches.links[dir as usize].book(count, Instant::now());
        loop {
            if conn.closed.load(Ordering::SeqCst) {
                return false;
            }
            let wait = end.saturating_duration_since(Instant::now());
            if wait.is_zero() || switches.links[dir as usize].rate() != rate {
                return true;
            }
            let woken = self.changed.wait_timeout(switches, wait);
            switches = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
