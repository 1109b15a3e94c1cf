//! The state machine of the watches of a client: receives inputs and returns actions.
//!
//! It has no clock, no socket and no randomness. The task feeds one input at a time, and performs
//! the actions in order before the next input. The server answers requests to create watches in
//! their order, and answers are matched by that order alone: etcd before 3.5.6 puts the id of another
//! watch into its refusals.

mod action;
mod catch_up;
mod fragments;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod incoming;
mod input;
mod outgoing;
mod pending_creates;
mod progress_requests;
mod store_revision;
mod stream_backoff;
mod stream_lifecycle;
mod streams;
#[cfg(test)]
mod tests;
mod token_refusals;
mod watch_entry;
mod watches;
mod wire_ids;

pub(crate) use action::Action;
pub(crate) use input::{Input, StreamEnd};
pub(crate) use streams::{SHARED, StreamNo, Streams};
