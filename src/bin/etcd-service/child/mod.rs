//! Runs a command under supervision.
//!
//! Between this process and the command is a *stage*: this program again, which starts the command in a process
//! group of its own, reaps its orphans, and obeys [`Order`](order::Order)s from a pipe. The stage ends the command
//! by itself when this process has died, and when a time has come that this process has not put off, also
//! while this process is stopped. At the end of the command the stage kills what the command has left behind, and
//! this process does the same if the stage was killed.

mod boot_clock;
mod children;
mod group;
mod order;
mod orphans;
mod stage;
mod supervised;

pub(crate) use boot_clock::boot_now;
pub(crate) use group::Group;
pub(crate) use orphans::end_all;
pub(crate) use stage::{STAGE, stage};
pub(crate) use supervised::Supervised;
