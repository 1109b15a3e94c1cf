//! The wait for several registrations that leave.

#[path = "../../../../src/discovery/register/leave_group.rs"]
mod leave_group;

use std::time::Instant;

use stand_ins::thread;

use self::leave_group::{LeaveGroup, LeaveOutcome};
use crate::harness::Model;

pub(super) const MODELS: &[Model] = &[Model::every_order(
    "leave: the last of two outcomes ends the wait",
    last_outcome,
)];

fn last_outcome() {
    let (group, first) = LeaveGroup::new();
    let second = first.another();
    let left = thread::spawn(move || first.complete(Ok(())));
    let lost = thread::spawn(move || drop(second));
    let outcome = group.wait(Instant::now());
    assert!(matches!(outcome, LeaveOutcome::Failed(1, _)), "{outcome:?}");
    left.join().unwrap();
    lost.join().unwrap();
}
