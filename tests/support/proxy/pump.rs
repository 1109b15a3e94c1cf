//! Forwarding of one direction of one connection.

use std::{
    io::{ErrorKind, Read},
    net::{Shutdown, TcpStream},
    sync::{PoisonError, atomic::Ordering},
    thread,
    time::Instant,
};

use super::{Dir, Shared, conn::Conn};
use crate::support::link::READ;

/// Action for bytes that were read.
enum PumpAction {
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
                // Read the latency after the read, which may have begun before the latency was set.
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

    /// Forwards or discards `bytes`; `false` when the direction has ended.
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
        match (self.decide(conn, dir, bytes), to) {
            (PumpAction::Close, _) => conn.reset(),
            (PumpAction::Swallow, _) | (_, None) if bytes.is_empty() => conn.finish(),
            (PumpAction::Swallow, _) | (_, None) => {
                self.swallowed
                    .fetch_add(bytes.len() as u64, Ordering::SeqCst);
                return true;
            }
            (PumpAction::Forward { .. }, Some(to)) if bytes.is_empty() => {
                // The other direction stays open.
                let _ = to.shutdown(Shutdown::Write);
            }
            (PumpAction::Forward { slice }, Some(to)) => {
                for piece in bytes.chunks(slice) {
                    // Count first, so a request is counted before its answer arrives.
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

    /// Waits while the direction is held back, and then returns the action for `bytes`, which are empty at the
    /// end of a direction.
    fn decide(&self, conn: &Conn, dir: Dir, bytes: &[u8]) -> PumpAction {
        let mut switches = self.lock();
        loop {
            if conn.closed.load(Ordering::SeqCst) {
                return PumpAction::Close;
            }
            if switches.black_hole && !bytes.is_empty() {
                conn.lost.store(true, Ordering::SeqCst);
            }
            let silent = switches.silent[dir as usize];
            if silent && !bytes.is_empty() {
                conn.silenced[dir as usize].store(true, Ordering::SeqCst);
            }
            if conn.has_lost(dir) && !bytes.is_empty() {
                return PumpAction::Swallow;
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
            return PumpAction::Swallow;
        }
        if dir == Dir::Up && conn.from.load(Ordering::SeqCst) == 0 {
            conn.from
                .store((self.identify)(bytes).unwrap_or(0), Ordering::SeqCst);
            let from = conn.from.load(Ordering::SeqCst);
            if !switches.cut_from.is_empty() && (from == 0 || switches.cut_from.contains(&from)) {
                return PumpAction::Close;
            }
        }
        PumpAction::Forward {
            slice: switches.slice,
        }
    }

    /// Waits until the link has passed `count` bytes or its rate was changed; `false` when the connection was
    /// closed.
    fn pass(&self, conn: &Conn, dir: Dir, count: usize) -> bool {
        let mut switches = self.lock();
        let rate = switches.links[dir as usize].rate();
        let end = switches.links[dir as usize].reserve(count, Instant::now());
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
