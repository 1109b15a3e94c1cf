//! Notices that the key of a lock or a leadership is gone, also if its lease lives on.

use std::thread;
use std::time::Duration;

use etcd_blocking::crossbeam_channel::{Receiver, bounded};
use etcd_blocking::{Client, EventKind, Get, Result, Revision, Watch};

use crate::failure::Failure;

/// The wait before a watch that has failed is repeated.
const AGAIN: Duration = Duration::from_millis(500);

/// Returns a channel that receives an item once the key that was created at this revision is gone. While etcd does not
/// answer, nothing is received: that time is limited by the lease. The channel is never disconnected.
pub(super) fn gone(client: &Client, key: &str, created: Revision) -> Outcome {
    let (sender, gone) = bounded(1);
    let (client, key) = (client.clone(), key.to_owned());
    let wait = move || {
        let mut known = created;
        loop {
            match wait_for_delete(&client, &key, created, known) {
                Ok(()) => break,
                // The revision was compacted, or another store answers: read again.
                Err(_) => match read(&client, &key, created) {
                    Ok(None) => break,
                    Ok(Some(revision)) => known = revision,
                    Err(_) => {}
                },
            }
            thread::sleep(AGAIN);
        }
        let _ = sender.send(());
        loop {
            thread::park();
        }
    };
    let thread = thread::Builder::new().name("own key".into()).spawn(wait);
    thread.map_err(|error| Failure::failed(format!("start a thread: {error}")))?;
    Ok(gone)
}

type Outcome = std::result::Result<Receiver<()>, Failure>;

/// Waits until the key is deleted or created anew after the revision `known`.
fn wait_for_delete(client: &Client, key: &str, created: Revision, known: Revision) -> Result<()> {
    for response in &client.watch(Watch::key(key).after(known))? {
        let is_gone = response?.events().iter().any(|event| {
            event.kind() == EventKind::Delete || event.kv().create_revision() != created
        });
        if is_gone {
            return Ok(());
        }
    }
    Ok(())
}

/// Returns the revision at which the key is still there, or `None`.
fn read(client: &Client, key: &str, created: Revision) -> Result<Option<Revision>> {
    let found = client.call(Get::key(key).keys_only())?;
    let is_there = found
        .first()
        .is_some_and(|kv| kv.create_revision() == created);
    Ok(is_there.then(|| found.header().revision))
}
