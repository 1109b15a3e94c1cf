//! The handle of a watch.

use crossbeam_channel::Receiver;

use super::event::WatchResponse;
use super::watch_guard::WatchGuard;
use crate::error::{Error, Result};
use crate::runtime::BoundedReceiver;
use crate::util::receive::receive_methods;

/// The handle of a watch, and the receiver of its items.
///
/// Made by [`Client::watch`](crate::Client::watch).
///
/// # Items
///
/// Items are `Result<WatchResponse>`, in the order of revisions: none twice, none missing, and all
/// changes of one revision in one item. Lost connections, restarted servers and leader changes are
/// not visible: the watch resumes after the last delivered revision, on another member if necessary,
/// and retries without a time limit.
///
/// An `Err` is the last item. It gives the reason why the watch cannot go on without a gap:
///
/// | kind | meaning | what to do |
/// |---|---|---|
/// | [`Compacted`](crate::ErrorKind::Compacted) | the history after the last item, or at the start revision, was compacted | read, then watch from the revision of the read |
/// | [`Rewound`](crate::ErrorKind::Rewound) | the store lost data or was restored from a backup | discard what was read before, read, watch |
/// | [`PermissionDenied`](crate::ErrorKind::PermissionDenied), [`Unauthenticated`](crate::ErrorKind::Unauthenticated) | the user may not watch this range (any more) | |
/// | [`TooLarge`](crate::ErrorKind::TooLarge) | one revision, including previous values if requested, is over the [`receive_limit`](crate::ClientBuilder::receive_limit) | raise the limit |
/// | [`Closed`](crate::ErrorKind::Closed) | the client was closed | |
///
/// A channel that ends without an `Err` belongs to a watch that its reader cancelled, with
/// [`close`](Watcher::close) or by dropping the `Watcher`.
///
/// # Users and permissions
///
/// Tokens that expire, or that a change of users and roles makes invalid, are renewed without a
/// visible effect. etcd checks permissions only when it creates a watch: a running watch goes on
/// after its permission was withdrawn, its user deleted or its password changed. It ends with
/// `PermissionDenied` or `Unauthenticated` when it must be created again: after a lost connection,
/// after another watch found the token invalid, or after a pause for a slow reader.
///
/// # Slow readers
///
/// The channel is bounded by [`watch_queue`](crate::ClientBuilder::watch_queue). When it is full,
/// the watch pauses on the server; it resumes without a gap when half of the channel is read. If the
/// history that follows is compacted during the pause, the last item is `Compacted`. A slow reader
/// does not delay other watches.
///
/// # Dropping
///
/// Dropping a `Watcher` cancels the watch on the server, without blocking. When the client is closed
/// first, the last item is `Closed`.
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
#[must_use = "dropping a watcher cancels its watch"]
pub struct Watcher {
    // Dropped first, so that the task has no reader to send a last item to.
    items: BoundedReceiver<Result<WatchResponse>>,
    guard: WatchGuard,
}

impl Watcher {
    pub(super) fn new(items: BoundedReceiver<Result<WatchResponse>>, guard: WatchGuard) -> Self {
        Watcher { items, guard }
    }

    /// The channel of the items, for `select!`.
    pub fn receiver(&self) -> &Receiver<Result<WatchResponse>> {
        self.items.receiver()
    }

    /// Returns the error of the last item: the reason why the watch ended. `None` before the last item. It
    /// does not block.
    pub fn ended(&self) -> Option<Error> {
        self.items.ended()
    }

    /// Asks the server for the progress of the watch, and returns at once. The answer is an item
    /// without events: everything up to its revision was delivered.
    ///
    /// A watch that has received everything is answered at once; otherwise the answer comes when all
    /// watches of the client have caught up, and the request is repeated until then. etcd before
    /// 3.4.25 and 3.5.8 sends wrong answers for watches that have not caught up; those are not
    /// delivered.
    pub fn request_progress(&self) {
        self.guard.request_progress();
    }
}

receive_methods!(Watcher, Result<WatchResponse>);
