//! Decides when each lease is renewed, and when it has ended. It does no I/O and reads no clock.
//!
//! Times count from when a renewal was *sent*. The server counts from when it handled the renewal,
//! which is later, so a lease that is alive here is alive on the server.
//!
//! A stream answers in the order of the requests, with one answer for each, and has at most one
//! unanswered request per lease. So an answer belongs to the one renewal that was sent for its lease.
//!
//! When answers are late, the renewals are sent to another member, too. The
//! [late stream](late_stream::LateStream) is read on until another one answers: the first answer counts.
//!
//! etcd ends the whole stream when it refuses one renewal, such as that of a lease with a key that the
//! user may not write. The oldest unanswered renewal is the refused one. Its lease moves to the
//! [isolated](StreamRole::Isolated) stream until it is renewed there; the other leases are not affected.

mod action;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod input;
mod late_stream;
mod lease_end;
mod schedule;
mod scheduled_lease;
mod stream_failure;
mod stream_role;
mod stream_schedule;
#[cfg(test)]
mod tests;
mod unanswered_renewals;

pub(super) use action::Action;
pub(super) use input::Input;
pub(super) use lease_end::NO_SUCH_LEASE;
pub(super) use schedule::RenewalSchedule;
pub(super) use stream_failure::StreamFailure;
pub(super) use stream_role::StreamRole;
