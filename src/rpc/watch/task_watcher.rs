//! A watch that a task of the runtime reads.

use std::task::{Context, Poll};

use crossbeam_channel::TryRecvError;

use super::task_watcher_item::TaskWatcherItem;
use super::watch_guard::WatchGuard;
use crate::error::Error;
use crate::runtime::BoundedReceiver;

/// The reading end; dropping it cancels the watch.
#[derive(Debug)]
pub(crate) struct TaskWatcher {
    items: BoundedReceiver<TaskWatcherItem>,
    guard: WatchGuard,
}

impl TaskWatcher {
    pub(super) fn new(items: BoundedReceiver<TaskWatcherItem>, guard: WatchGuard) -> Self {
        TaskWatcher { items, guard }
    }

    /// The next item. An error is followed by errors only.
    pub(crate) async fn recv(&mut self) -> TaskWatcherItem {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next item.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<TaskWatcherItem> {
        match self.items.try_recv() {
            Ok(item) => Poll::Ready(item),
            Err(TryRecvError::Disconnected) => {
                Poll::Ready(TaskWatcherItem::Response(Err(Error::closed())))
            }
            Err(TryRecvError::Empty) => {
                self.items.wake_when_ready(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Asks the server for progress; the answer is an item without events.
    pub(crate) fn request_progress(&self) {
        self.guard.request_progress();
    }
}

#[cfg(all(test, feature = "local"))]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::local::LocalEtcd;
    use crate::rpc::watch::WatchContext as _;
    use crate::rpc::watch::watch_request::Watch;

    #[test]
    fn a_task_receives_down_and_up_of_its_watch() {
        let mut etcd = LocalEtcd::start().unwrap();
        let client = Client::connect([etcd.endpoint()]).unwrap();
        let bridge = client.bridge();
        let mut watcher = client
            .registry()
            .open_for_task(bridge, Watch::key("k"))
            .unwrap();
        // Receives one item on another thread.
        let mut next = move || {
            let (sender, receiver) = std::sync::mpsc::channel();
            let item = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build()
                        .unwrap();
                    let limit = std::time::Duration::from_secs(10);
                    let item = runtime
                        .block_on(async { tokio::time::timeout(limit, watcher.recv()).await });
                    sender.send(item.unwrap()).unwrap();
                });
                receiver.recv().unwrap()
            });
            (item, watcher.request_progress())
        };
        assert!(matches!(next().0, TaskWatcherItem::Up));
        assert!(
            matches!(next().0, TaskWatcherItem::Response(Ok(response)) if response.is_progress())
        );
        etcd.restart().unwrap();
        let mut seen = Vec::new();
        while !matches!(seen.last(), Some(TaskWatcherItem::Up)) {
            seen.push(next().0);
        }
        assert!(
            seen.iter()
                .any(|item| matches!(item, TaskWatcherItem::Down))
        );
        client.put("k", "v").unwrap();
        loop {
            match next().0 {
                TaskWatcherItem::Response(Ok(response)) if response.is_progress() => {}
                TaskWatcherItem::Response(Ok(response)) => {
                    break assert_eq!(response.events().len(), 1);
                }
                item => panic!("{item:?}"),
            }
        }
        client.close().unwrap();
        while let TaskWatcherItem::Response(Ok(_)) = next().0 {}
    }
}
