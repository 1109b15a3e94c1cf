//! Reads a range stream into pages, a bounded number of pages ahead of the reader.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::grpc::Transport;
use crate::rpc::kv::{Get, RangeStream, RangeStreamEnd};
use crate::rpc::namespace::Namespace;
use crate::types::KeyValue;

/// The time limit of a reader for one page. A stream that is not read blocks its connection, so the task
/// closes it; the next page is then read by a request.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// An item of the reader. A channel that ends without `Last` or `Ended` was closed by the task.
#[derive(Debug)]
pub(crate) enum Piece {
    Page(Vec<KeyValue>),
    Last(Vec<KeyValue>),
    Ended(RangeStreamEnd),
}

/// The range to read, and its settings.
#[derive(Debug)]
pub(crate) struct PageRead {
    pub(crate) get: Get,
    pub(crate) size: usize,
    pub(crate) namespace: Option<Namespace>,
    /// The time limit of the server for each step.
    pub(crate) patience: Duration,
}

/// Reads until the end of the range, or until the reader is dropped.
pub(crate) async fn pump(transport: Arc<Transport>, request: PageRead, pages: mpsc::Sender<Piece>) {
    let read = read(transport, request, &pages);
    let mut read = std::pin::pin!(read);
    // A dropped reader ends the stream at once, also while the server is silent.
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
    request: PageRead,
    pages: &mpsc::Sender<Piece>,
) -> Result<(), RangeStreamEnd> {
    let size = request.size;
    let mut chunks =
        RangeStream::open(transport, request.get, request.namespace, request.patience).await?;
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
