//! Forwarding of one direction of one connection.

use std::{
    io::{ErrorKind, Read},
    net::{Shutdown, TcpStream},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use super::{
    connection::Connection,
    faults::Way,
    link::READ,
    shared::{Shared, Switches},
};

/// Action for bytes that were read.
enum PumpAction {
    Forward { slice: usize },
    Discard,
    Close,
}

impl Shared {
    /// Moves bytes in one direction until that direction ends.
    pub(super) fn pump(
        &self,
        conn: &Connection,
        way: Way,
        mut from: &TcpStream,
        to: Option<&TcpStream>,
    ) {
        let mut buffer = vec![0; READ];
        let limit = conn.limit.filter(|_| way == Way::Down);
        let mut left = limit.unwrap_or(u64::MAX);
        let line = conn.lines.of(way);
        thread::scope(|scope| {
            let mut delayed = false;
            while !conn.closed.load(Ordering::SeqCst) {
                let piece = self.piece(conn, way);
                let bytes = match from.read(buffer.get_mut(..piece).unwrap_or_default()) {
                    Ok(count) => buffer.get(..count).unwrap_or_default(),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => return conn.reset(),
                };
                // Read the delay after the read, which may have begun before the delay was set.
                let delay = self.delay(conn, way);
                let due = Instant::now() + delay;
                if !delayed && !delay.is_zero() {
                    delayed = true;
                    let mut left = left;
                    let deliver = move || {
                        while let Some(bytes) = line.pop()
                            && self.deliver(conn, way, &bytes, to, &mut left)
                        {
                        }
                    };
                    let thread = thread::Builder::new().name("proxy-delay".into());
                    if thread.spawn_scoped(scope, deliver).is_err() {
                        // Without a thread the bytes can be neither delayed nor kept in order.
                        return conn.reset();
                    }
                }
                let goes_on = if delayed {
                    line.push(bytes, due)
                } else {
                    self.deliver(conn, way, bytes, to, &mut left)
                };
                if !goes_on || bytes.is_empty() {
                    return;
                }
            }
        });
    }

    /// The largest piece that is read at once.
    fn piece(&self, conn: &Connection, way: Way) -> usize {
        let all = self.switches.lock().faults.link.of(way).piece();
        all.min(conn.faults.lock().link.of(way).piece())
    }

    fn delay(&self, conn: &Connection, way: Way) -> Duration {
        let all = *self.switches.lock().faults.delay.of(way);
        all + *conn.faults.lock().delay.of(way)
    }

    /// Forwards or discards `bytes`; `false` when the direction has ended.
    fn deliver(
        &self,
        conn: &Connection,
        way: Way,
        bytes: &[u8],
        to: Option<&TcpStream>,
        left: &mut u64,
    ) -> bool {
        let most = usize::try_from(*left).unwrap_or(usize::MAX);
        let bytes = bytes.get(..most).unwrap_or(bytes);
        match (self.decide(conn, way, bytes), to) {
            (PumpAction::Close, _) => conn.reset(),
            (PumpAction::Discard, _) | (_, None) if bytes.is_empty() => conn.finish(),
            (PumpAction::Discard, _) | (_, None) => {
                self.discarded
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
                    for count in [&self.forwarded, &conn.forwarded] {
                        count
                            .of(way)
                            .fetch_add(piece.len() as u64, Ordering::SeqCst);
                    }
                    if !self.pass(conn, way, piece.len()) || !conn.write(to, piece) {
                        conn.reset();
                        return false;
                    }
                }
                *left = left.saturating_sub(bytes.len() as u64);
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
    fn decide(&self, conn: &Connection, way: Way, bytes: &[u8]) -> PumpAction {
        let is_unknown = way == Way::Up && conn.from.load(Ordering::SeqCst) == 0;
        // Before the lock is taken: it is a function of the user.
        let from = is_unknown.then(|| (self.identify)(bytes).unwrap_or(0));
        let mut switches = self.switches.lock();
        loop {
            if conn.closed.load(Ordering::SeqCst) {
                return PumpAction::Close;
            }
            let own = *conn.faults.lock();
            let all = &switches.faults;
            let black_hole = all.black_hole || own.black_hole;
            let silent = *all.silent.of(way) || *own.silent.of(way);
            let held = *all.held.of(way) || *own.held.of(way);
            if black_hole && !bytes.is_empty() {
                conn.lost.store(true, Ordering::SeqCst);
            }
            if silent && !bytes.is_empty() {
                conn.silenced.of(way).store(true, Ordering::SeqCst);
            }
            if conn.has_lost(way) && !bytes.is_empty() {
                return PumpAction::Discard;
            }
            if !black_hole && !silent && !held {
                break;
            }
            self.changed.wait(&mut switches);
        }
        if conn.has_lost(way) {
            return PumpAction::Discard;
        }
        if let Some(from) = from {
            conn.from.store(from, Ordering::SeqCst);
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
    fn pass(&self, conn: &Connection, way: Way, count: usize) -> bool {
        let rates = |switches: &Switches| {
            let own = conn.faults.lock().link.of(way).rate();
            (switches.faults.link.of(way).rate(), own)
        };
        let mut switches = self.switches.lock();
        let before = rates(&switches);
        let now = Instant::now();
        let all = switches.faults.link.of_mut(way).reserve(count, now);
        let own = conn.faults.lock().link.of_mut(way).reserve(count, now);
        let end = all.max(own);
        loop {
            if conn.closed.load(Ordering::SeqCst) {
                return false;
            }
            let wait = end.saturating_duration_since(Instant::now());
            if wait.is_zero() || rates(&switches) != before {
                return true;
            }
            self.changed.wait_for(&mut switches, wait);
        }
    }
}
