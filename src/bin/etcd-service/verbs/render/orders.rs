//! What signals tell the verb to do, also while it waits for a command.

use etcd_blocking::crossbeam_channel::Receiver;
use signal_hook::consts::SIGHUP;

/// The signals that arrived.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) signals: Receiver<i32>,
    reads_again: bool,
    ends: bool,
}

impl Orders {
    pub(super) fn new(signals: Receiver<i32>) -> Self {
        Orders {
            signals,
            reads_again: false,
            ends: false,
        }
    }

    /// Whether the program is to end.
    pub(super) fn ends(&mut self) -> bool {
        for signal in self.signals.try_iter() {
            match signal {
                SIGHUP => self.reads_again = true,
                _ => self.ends = true,
            }
        }
        self.ends
    }

    /// Whether the template is to be read again. It is true once for each SIGHUP.
    pub(super) fn reads_again(&mut self) -> bool {
        self.ends();
        std::mem::take(&mut self.reads_again)
    }
}

#[cfg(test)]
mod tests {
    use etcd_blocking::crossbeam_channel::unbounded;
    use signal_hook::consts::{SIGINT, SIGTERM};

    use super::*;

    #[test]
    fn a_hangup_reads_again_and_others_end() {
        let (sender, signals) = unbounded();
        let mut orders = Orders::new(signals);
        assert!(!orders.ends() && !orders.reads_again());
        sender.send(SIGHUP).unwrap();
        assert!(!orders.ends());
        assert!(orders.reads_again() && !orders.reads_again());
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            sender.send(signal).unwrap();
        }
        assert!(orders.ends() && orders.ends());
    }
}
