//! Delay line of a link with latency: each piece arrives a fixed time after it was sent.

use std::{collections::VecDeque, time::Instant};

use parking_lot::{Condvar, Mutex};

/// Maximum number of bytes in flight. A link of 300 ms still carries 14 MB/s.
const CAPACITY: usize = 4 << 20;

/// One direction of one connection. Pieces stay in order, and the sender blocks while [`CAPACITY`] bytes are in
/// flight.
#[derive(Debug, Default)]
pub(super) struct DelayLine {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    closed: bool,
}

impl DelayLine {
    /// Sends a piece that arrives at `due`; `false` when the line was closed.
    pub(super) fn push(&self, piece: &[u8], due: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.closed && state.bytes >= CAPACITY {
            self.changed.wait(&mut state);
        }
        if state.closed {
            return false;
        }
        state.bytes += piece.len();
        state.pieces.push_back((due, piece.to_vec()));
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Waits for the next piece to arrive; `None` when the line was closed.
    pub(super) fn pop(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        while !state.closed {
            let due = state.pieces.front().map(|(due, _)| *due);
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            match wait {
                Some(wait) if wait.is_zero() => {
                    let (_, piece) = state.pieces.pop_front()?;
                    state.bytes -= piece.len();
                    self.changed.notify_all();
                    return Some(piece);
                }
                Some(wait) => drop(self.changed.wait_for(&mut state, wait)),
                None => self.changed.wait(&mut state),
            }
        }
        None
    }

    /// Discards all pieces and accepts no more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.pieces.clear();
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn pieces_arrive_when_due_and_in_order_and_the_sender_waits_for_capacity() {
        let line = DelayLine::default();
        let soon = Instant::now() + Duration::from_millis(30);
        assert!(line.push(b"first", soon));
        assert!(line.push(b"second", Instant::now()), "due before the first");
        assert_eq!(line.pop().unwrap(), b"first");
        assert!(Instant::now() >= soon);
        assert_eq!(line.pop().unwrap(), b"second");

        let late = Instant::now() + Duration::from_secs(60);
        let piece = vec![0; CAPACITY / 4];
        thread::scope(|scope| {
            let sender = scope.spawn(|| (0..).take_while(|_| line.push(&piece, late)).count());
            while line.state.lock().bytes < CAPACITY {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(20));
            line.close();
            assert_eq!(sender.join().unwrap(), 4, "no more than the capacity");
        });
        assert_eq!(line.pop(), None);
    }
}
