//! Limits how much the watch task delivers before it yields to the other tasks of the runtime.

use super::task_watcher_item::ROOM;

/// The inputs of streams in a turn. Each delivers at most one response to a watch.
const INPUTS: usize = ROOM.items / 8;

/// The bytes of events in a turn. The last input may exceed it.
const BYTES: usize = ROOM.bytes / 8;

// Each turn costs a poll of the task, so a turn is not too short; and the queue has room for several.
const _: () = assert!(INPUTS >= 16 && INPUTS <= ROOM.items / 4 && BYTES <= ROOM.bytes / 4);

/// Counts the inputs and bytes that the watch task has handled since it last yielded.
///
/// A stream may have thousands of responses at once, and the tasks that read watches run on the same thread:
/// without a limit their queues would be full before they can read, and their watches would pause. The
/// queue of a [`TaskWatcher`](super::task_watcher::TaskWatcher) has room for several turns, because the
/// runtime may run other tasks and this one again before the reader.
#[derive(Debug, Default)]
pub(super) struct Turn {
    inputs: usize,
    bytes: usize,
}

impl Turn {
    /// Counts an input of a stream.
    pub(super) fn input(&mut self) {
        self.inputs += 1;
    }

    /// Counts the size of a response that was delivered.
    pub(super) fn delivered(&mut self, size: usize) {
        self.bytes = self.bytes.saturating_add(size);
    }

    /// Returns whether the task must yield now.
    pub(super) fn is_over(&self) -> bool {
        self.inputs >= INPUTS || self.bytes >= BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_with_its_inputs_or_with_its_bytes() {
        let mut turn = Turn::default();
        for _ in 0..INPUTS {
            assert!(!turn.is_over());
            turn.input();
        }
        assert!(turn.is_over());

        let mut turn = Turn::default();
        turn.delivered(BYTES - 1);
        assert!(!turn.is_over());
        turn.delivered(1);
        assert!(turn.is_over());
        turn.delivered(usize::MAX);
        assert!(turn.is_over());
    }
}
