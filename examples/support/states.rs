//! The states of a registration as text.

use etcd_blocking::{Loss, State};

/// One line for one state; the first word is the state.
pub(crate) fn describe(state: &State) -> String {
    match state {
        State::Starting => "starting: not in etcd yet".to_owned(),
        State::Registered {
            lease,
            revision,
            valid_until,
        } => format!(
            "registered: at revision {revision}, under lease {lease}, valid for {:.1}s without a renewal",
            valid_until.remaining().as_secs_f64()
        ),
        State::Suspect { valid_until } => format!(
            "suspect: renewals fail; lost in {:.1}s unless one succeeds",
            valid_until.remaining().as_secs_f64()
        ),
        State::Lost { why } => format!("lost: {}", loss(why)),
        State::Draining => "draining: it asks for no new calls".to_owned(),
        State::Withdrawn => "withdrawn: its health checks do not allow it yet".to_owned(),
        State::Closed => "closed: it has left".to_owned(),
        // More states may come with later versions of the crate.
        other => format!("{other:?}"),
    }
}

fn loss(why: &Loss) -> String {
    match why {
        Loss::Unreachable => "no renewal succeeded before its lease ended".to_owned(),
        Loss::LeaseGone => "its lease is gone; restoring it under a new one".to_owned(),
        Loss::KeyDeleted => "its key was deleted; restoring it".to_owned(),
        Loss::Overwritten => "its key was overwritten; restoring it".to_owned(),
        Loss::Replaced { by } => {
            format!("another process registered it, under lease {by}; waiting until that leaves")
        }
        other => format!("{other:?}"),
    }
}
