//! The states of a registration, in words.

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
            "registered: at revision {revision}, under lease {lease}, good for {:.1}s without a renewal",
            valid_until.remaining().as_secs_f64()
        ),
        State::Suspect { valid_until } => format!(
            "suspect: renewals do not get through; lost in {:.1}s unless one does",
            valid_until.remaining().as_secs_f64()
        ),
        State::Lost { why } => format!("lost: {}", loss(why)),
        State::Draining => "draining: asks not to be called any more".to_owned(),
        State::Closed => "closed: it has left".to_owned(),
        // More states may come with later versions of the crate.
        other => format!("{other:?}"),
    }
}

fn loss(why: &Loss) -> String {
    match why {
        Loss::Unreachable => "no renewal got through for as long as its lease lives".to_owned(),
        Loss::LeaseGone => "its lease is gone; putting it back under a new one".to_owned(),
        Loss::KeyDeleted => "somebody deleted its key; putting it back".to_owned(),
        Loss::Overwritten => "somebody overwrote its key; putting it back".to_owned(),
        Loss::Replaced { by } => {
            format!("another process registered it, under lease {by}; waiting until that leaves")
        }
        other => format!("{other:?}"),
    }
}
