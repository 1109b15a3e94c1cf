//! Lets h2 send several requests with values of up to 1 KiB in one write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream for h2 whose first answer is that it does not support vectored writes.
///
/// h2 checks this once when it gets a stream, and chooses the size from which it does not copy a frame into
/// its buffer: 256 bytes with vectored writes, and 1 KiB without. A frame that is not copied ends a write, so
/// with 256 bytes each put of a value of that size would be a separate write. h2 checks it again before each
/// write, and then gets the answer of the stream: the header and the payload of a large frame leave in one
/// write.
pub(super) struct BatchedWrites<T> {
    io: T,
    was_asked: AtomicBool,
}

impl<T> BatchedWrites<T> {
    pub(super) fn new(io: T) -> Self {
        BatchedWrites {
            io,
            was_asked: AtomicBool::new(false),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for BatchedWrites<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for BatchedWrites<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.was_asked.swap(true, Relaxed) && self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use parking_lot::Mutex;

    use super::*;

    /// A socket that never receives anything, and records the size of each write and the number of its
    /// parts.
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<(usize, usize)>>>);

    impl AsyncRead for Recorder {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Recorder {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let size = bytes.iter().map(|part| part.len()).sum();
            let parts = bytes.iter().filter(|part| !part.is_empty()).count();
            self.0.lock().push((size, parts));
            Poll::Ready(Ok(size))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The writes of h2 for 8 requests with bodies of this size.
    fn writes(body: usize) -> Vec<(usize, usize)> {
        let recorder = Recorder::default();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.build().unwrap().block_on(async {
            let io = BatchedWrites::new(recorder.clone());
            let handshake = h2::client::handshake(io).await;
            let (send, mut connection): (_, h2::client::Connection<_, Bytes>) = handshake.unwrap();
            let mut poll = async || {
                std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx))).await
            };
            // The preface.
            let _ = poll().await;
            recorder.0.lock().clear();
            let mut send = send.ready().await.unwrap();
            let mut streams = Vec::new();
            for _ in 0..8 {
                let request = http::Request::post("http://localhost/").body(()).unwrap();
                let (response, mut stream) = send.send_request(request, false).unwrap();
                stream.send_data(vec![7; body].into(), true).unwrap();
                streams.push((response, stream));
            }
            let _ = poll().await;
        });
        std::mem::take(&mut *recorder.0.lock())
    }

    #[test]
    fn requests_that_wait_together_leave_in_one_write() {
        for body in [1, 300, 1000] {
            let writes = writes(body);
            assert_eq!(writes.len(), 1, "{body}: {writes:?}");
        }
    }

    #[test]
    fn a_large_frame_and_its_header_leave_in_one_write() {
        let writes = writes(5_000);
        assert_eq!(writes.len(), 8, "{writes:?}");
        assert!(
            writes
                .iter()
                .all(|(size, parts)| *size > 5_000 && *parts == 2)
        );
    }
}
