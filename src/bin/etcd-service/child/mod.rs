//! Runs a command under supervision.
//!
//! Between this process and the command is a *stage*: this program again, which starts the command in a process
//! group of its own, reaps its orphans, and obeys [`Order`](order::Order)s from a pipe. The stage ends the command
//! by itself when this process has died, and when a time has come that this process has not put off, also
//! while this process is stopped.

mod boot_clock;
mod group;
mod order;
mod stage;
mod supervised;

pub(crate) use boot_clock::boot_now;
pub(crate) use group::Running;
pub(crate) use stage::{STAGE, stage};
pub(crate) use supervised::Supervised;
