//! A watch for a task on the runtime.

use tokio::sync::mpsc;

use super::event::WatchResponse;
use super::watch_registry::WatchGuard;
use crate::error::{Error, Result};

/// What a task is told of its watch.
#[derive(Debug)]
pub(crate) enum TaskWatcherItem {
    /// Events, progress, or the error that is the last note.
    Item(Result<WatchResponse>),
    /// The watch is cut off from its server.
    Down,
    /// The server has it (again).
    Up,
}

/// The notes that may wait.
pub(super) const ROOM: usize = 64;

/// So many places are kept for `Down`, `Up` and the last item.
pub(super) const SPARE: usize = 4;

/// The reading end; dropping it cancels the watch.
#[derive(Debug)]
pub(crate) struct TaskWatcher {
    pub(super) receiver: mpsc::Receiver<TaskWatcherItem>,
    pub(super) ticket: WatchGuard,
}

impl TaskWatcher {
    /// The next note. After an error come only errors.
    pub(crate) async fn recv(&mut self) -> TaskWatcherItem {
        match self.receiver.recv().await {
            Some(note) => note,
            None => TaskWatcherItem::Item(Err(Error::closed())),
        }
    }

    /// The next note, for those who wait for several things at a time.
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<TaskWatcherItem> {
        let note = self.receiver.poll_recv(cx);
        note.map(|note| note.unwrap_or_else(|| TaskWatcherItem::Item(Err(Error::closed()))))
    }

    /// Asks how far the watch is; the answer is a note with progress.
    pub(crate) fn request_progress(&self) {
        self.ticket.request_progress();
    }
}

#[cfg(all(test, feature = "local"))]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::local::LocalEtcd;
    use crate::rpc::watch::Host as _;
    use crate::rpc::watch::request::Watch;

    #[test]
    fn a_task_is_told_when_its_watch_is_down_and_up_again() {
        let mut etcd = LocalEtcd::start().unwrap();
        let client = Client::connect([etcd.endpoint()]).unwrap();
        let bridge = client.bridge();
        let mut notes = client
            .registry()
            .open_for_task(bridge, Watch::key("k"))
            .unwrap();
        // Each step takes the notes, and gives them back with what it got.
        let mut next = move || {
            let (sender, receiver) = std::sync::mpsc::channel();
            let note = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build()
                        .unwrap();
                    let limit = std::time::Duration::from_secs(10);
                    let note =
                        runtime.block_on(async { tokio::time::timeout(limit, notes.recv()).await });
                    sender.send(note.unwrap()).unwrap();
                });
                receiver.recv().unwrap()
            });
            (note, notes.request_progress())
        };
        assert!(matches!(next().0, TaskWatcherItem::Up));
        assert!(matches!(next().0, TaskWatcherItem::Item(Ok(response)) if response.is_progress()));
        etcd.restart().unwrap();
        let mut seen = Vec::new();
        while !matches!(seen.last(), Some(TaskWatcherItem::Up)) {
            seen.push(next().0);
        }
        assert!(
            seen.iter()
                .any(|note| matches!(note, TaskWatcherItem::Down))
        );
        client.put("k", "v").unwrap();
        loop {
            match next().0 {
                TaskWatcherItem::Item(Ok(response)) if response.is_progress() => {}
                TaskWatcherItem::Item(Ok(response)) => {
                    break assert_eq!(response.events().len(), 1);
                }
                note => panic!("{note:?}"),
            }
        }
        client.close().unwrap();
        while let TaskWatcherItem::Item(Ok(_)) = next().0 {}
    }
}
