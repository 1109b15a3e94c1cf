//! The states of a registration as text. Pure.

use etcd_blocking::{Loss, State};

/// One line for one state; the first word is the state.
pub(crate) fn describe(state: &State) -> String {
    match state {
        State::Starting => "starting: not in etcd yet".to_owned(),
        State::Registered { lease, .. } => format!("registered, under lease {lease}"),
        State::Suspect { valid_until } => format!(
            "suspect: etcd does not answer; the instance is lost in {:.1}s unless it does",
            valid_until.remaining().as_secs_f64()
        ),
        State::Lost { why } => format!("lost: {}", loss(why)),
        State::Draining => "draining".to_owned(),
        State::Withdrawn => "not registered: its health checks do not pass".to_owned(),
        State::Closed => "not registered any more".to_owned(),
        // More states may come with later versions of the crate.
        other => format!("{other:?}"),
    }
}

fn loss(why: &Loss) -> String {
    match why {
        Loss::Unreachable => "etcd did not answer before the lease ended".to_owned(),
        Loss::LeaseGone => "its lease is gone; it is registered again".to_owned(),
        Loss::KeyDeleted => "its key was deleted; it is registered again".to_owned(),
        Loss::Overwritten => "its key was overwritten; it is registered again".to_owned(),
        Loss::Replaced { by } => {
            format!(
                "another process registered the same id, under lease {by}; waiting until that leaves"
            )
        }
        other => format!("{other:?}"),
    }
}
