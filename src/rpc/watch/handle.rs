//! The reader's end of a watch.

use crossbeam_channel::Receiver;

use super::event::WatchResponse;
use super::watch_registry::WatchGuard;
use crate::error::Result;
use crate::util::receive::receive_methods;

/// A watch that runs: what it sees arrives here.
///
/// Made by [`Client::watch`](crate::Client::watch).
///
/// # What arrives
///
/// Items are `Result<WatchResponse>`, in the order of revisions: none twice, none missing, and all
/// changes of one revision in one item. A lost connection, a restarted server or a leader that is
/// gone does not show: the watch resumes where it was, on another member if need be, for as long as
/// it takes.
///
/// An `Err` is the last item. It says why there can be no more without a gap:
///
/// | kind | meaning | what to do |
/// |---|---|---|
/// | [`Compacted`](crate::ErrorKind::Compacted) | the history that comes next is gone; also for a start revision that is gone | read, then watch from there |
/// | [`Rewound`](crate::ErrorKind::Rewound) | the store lost data or was restored from a backup | forget what you know, read, watch |
/// | [`PermissionDenied`](crate::ErrorKind::PermissionDenied), [`Unauthenticated`](crate::ErrorKind::Unauthenticated) | the user may not watch this (any more) | |
/// | [`TooLarge`](crate::ErrorKind::TooLarge) | one revision is over the [`receive_limit`](crate::ClientBuilder::receive_limit), with what it replaces if that is asked for | raise it |
/// | [`Closed`](crate::ErrorKind::Closed) | the client was closed | |
///
/// A channel that ends without an `Err` was cancelled by you, with [`close`](Watcher::close) or by
/// dropping the `Watcher`.
///
/// # Users and permissions
///
/// A token that expires, or that changes of users and roles make old, does not show either. What the
/// user may do, etcd checks when it creates a watch: one that runs goes on after its permission was
/// withdrawn, its user deleted or its password changed. It ends, with `PermissionDenied` or
/// `Unauthenticated`, as soon as it has to be created anew: after a lost connection, when another
/// watch finds the token void, or when it was paused for a slow reader.
///
/// # A slow reader
///
/// The channel holds what [`watch_queue`](crate::ClientBuilder::watch_queue) says. When it is full,
/// the watch pauses on the server, and resumes without a gap when half of it is read. History that
/// is compacted meanwhile is gone: then the last item is `Compacted`. Other watches do not wait.
///
/// # Dropping
///
/// Cancels the watch on the server, at once and without blocking. The watch also ends with its
/// client: the last item is then `Closed`.
///
/// ```no_run
/// # use etcd_blocking::{Client, ErrorKind, Watch};
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let watcher = client.watch(Watch::prefix("svc/"))?;
/// let ticks = etcd_blocking::crossbeam_channel::tick(std::time::Duration::from_secs(1));
/// loop {
///     etcd_blocking::crossbeam_channel::select! {
///         recv(watcher.receiver()) -> item => match item {
///             Ok(response) => println!("{} changes", response?.events().len()),
///             Err(_) => break,
///         },
///         recv(ticks) -> _ => println!("still here"),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a watch that is dropped is cancelled"]
pub struct Watcher {
    // First: what is read after the drop is nothing.
    receiver: Receiver<Result<WatchResponse>>,
    ticket: WatchGuard,
}

impl Watcher {
    pub(super) fn new(receiver: Receiver<Result<WatchResponse>>, ticket: WatchGuard) -> Self {
        Watcher { receiver, ticket }
    }

    /// The channel that items arrive on, for `select!`.
    pub fn receiver(&self) -> &Receiver<Result<WatchResponse>> {
        &self.receiver
    }

    /// Asks the server how far the watch is, and returns at once. The answer is an item without
    /// events, whose revision says: everything up to here was delivered.
    ///
    /// The answer comes when the watch has caught up with the store: at once when it has, else when
    /// all watches of the client have; the question is repeated until then. etcd before 3.4.25 and
    /// 3.5.8 answers wrongly about watches that have not: from those such an answer is not delivered.
    pub fn request_progress(&self) {
        self.ticket.request_progress();
    }
}

receive_methods!(Watcher, Result<WatchResponse>);
