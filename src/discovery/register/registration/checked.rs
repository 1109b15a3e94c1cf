//! A registration whose instance has health checks.

use std::sync::Arc;
use std::task::Waker;

use super::Registration;
use super::shared::Shared;
use crate::discovery::check::check_task::{CheckedRegistration, PlannedChecks};
use crate::discovery::check::consequence::Consequence;
use crate::discovery::check::health::Health;
use crate::discovery::register::command::Command;
use crate::discovery::register::leave_group::LeaveGroup;
use crate::discovery::register::registrar_link::CommandSender;
use crate::discovery::register::verdict::Verdict;
use crate::error::Result;

impl Registration {
    /// Returns the health of the instance as its checks see it, or `None` if it was registered without
    /// checks.
    ///
    /// It does not block. After the registration has ended it stays as it was.
    ///
    /// ```no_run
    /// # use etcd_blocking::Registration;
    /// # fn example(registration: &Registration) {
    /// for check in registration.health().iter().flat_map(|health| &health.checks) {
    ///     println!("{}: {} {:?}", check.name, check.status, check.last_error);
    /// }
    /// # }
    /// ```
    pub fn health(&self) -> Option<Health> {
        self.handle.checks.get().map(|checks| checks.health())
    }

    /// Starts the health checks of a registration that has none.
    pub(in crate::discovery::register) fn start_checks(&self, checks: PlannedChecks) -> Result<()> {
        let checked = Checked {
            number: self.handle.number,
            shared: Arc::clone(&self.handle.shared),
            sender: self.handle.link.sender(),
        };
        let running = checks.start(self.handle.link.client(), Box::new(checked))?;
        // The registration is new, so that nothing was set before.
        let _ = self.handle.checks.set(running);
        Ok(())
    }
}

/// The registration as its checks see it. It keeps nothing registered.
#[derive(Debug)]
struct Checked {
    number: u64,
    shared: Arc<Shared>,
    sender: CommandSender,
}

impl CheckedRegistration for Checked {
    fn apply(&self, consequence: Consequence) {
        if let Consequence::Leave { .. } = consequence {
            // Nobody waits for the outcome; the state of the registration shows it.
            let (_, reply) = LeaveGroup::new();
            self.sender.send(Command::Leave(self.number, reply));
        } else if let Ok(true) = self.shared.set_verdict(consequence.into()) {
            // An error means that the registration has ended.
            self.sender.send(Command::Update(self.number));
        }
    }

    fn has_ended(&self) -> bool {
        self.shared.ended().is_some()
    }

    fn wake_at_end(&self, waker: &Waker) {
        self.shared.wake_at_end(waker);
    }
}

impl From<Consequence> for Verdict {
    fn from(consequence: Consequence) -> Self {
        match consequence {
            Consequence::Healthy => Verdict::Healthy,
            Consequence::OutOfService { reason } => Verdict::OutOfService { reason },
            // The registration has not begun, so that there is nothing to end.
            Consequence::Withdrawn { reason } | Consequence::Leave { reason } => {
                Verdict::Withdrawn { reason }
            }
        }
    }
}
