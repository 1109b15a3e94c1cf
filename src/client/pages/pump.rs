//! Reads a stream ahead of its reader: into pages, and never far.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::grpc::Transport;
use crate::rpc::kv::{Get, RangeStream, RangeStreamEnd};
use crate::rpc::namespace::Namespace;
use crate::types::KeyValue;

/// How long a reader may take over a page. A stream that nobody reads holds up its connection, so it
/// is given up; what comes next is read by a request when it is wanted.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// What a reader gets. A channel that ends without `Last` or `Ended` was given up.
#[derive(Debug)]
pub(crate) enum Piece {
    Page(Vec<KeyValue>),
    Last(Vec<KeyValue>),
    Ended(RangeStreamEnd),
}

/// What to read, and how.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) get: Get,
    pub(crate) size: usize,
    pub(crate) namespace: Option<Namespace>,
    /// How long the server may take over each step.
    pub(crate) patience: Duration,
}

/// Reads until the end, or until nobody wants more.
pub(crate) async fn pump(transport: Arc<Transport>, order: Order, pages: mpsc::Sender<Piece>) {
    let read = read(transport, order, &pages);
    let mut read = std::pin::pin!(read);
    let mut gone = std::pin::pin!(pages.closed());
    let ended = std::future::poll_fn(|cx| match gone.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(Ok(())),
        Poll::Pending => read.as_mut().poll(cx),
    });
    if let Err(ended) = ended.await {
        // A reader so slow learns nothing by it.
        let _ = pages.send_timeout(Piece::Ended(ended), PATIENCE).await;
    }
}

async fn read(
    transport: Arc<Transport>,
    order: Order,
    pages: &mpsc::Sender<Piece>,
) -> Result<(), RangeStreamEnd> {
    let size = order.size;
    let mut chunks =
        RangeStream::open(transport, order.get, order.namespace, order.patience).await?;
    let mut page = Vec::new();
    while let Some(chunk) = chunks.next().await? {
        for kv in chunk {
            // A full page waits for the key after it, so that none is empty.
            if page.len() >= size {
                let full = std::mem::replace(&mut page, Vec::with_capacity(size.min(1 << 16)));
                if pages
                    .send_timeout(Piece::Page(full), PATIENCE)
                    .await
                    .is_err()
                {
                    return Ok(());
                }
            }
            page.push(kv);
        }
    }
    let _ = pages.send_timeout(Piece::Last(page), PATIENCE).await;
    Ok(())
}
