//! Records signs of life of the peer on the socket, below TLS and HTTP/2.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_state::ConnectionState;

/// A socket that records each sign of life of the peer:
///
/// - a byte that arrives, also as a part of a frame or in a WINDOW_UPDATE;
/// - a write that succeeds after the socket was full: the TCP stack of the peer accepted data. A
///   write that only fits into the socket's buffer is not a sign.
///
/// A peer that accepts bytes but sends none is still detected: HTTP/2 permits only one window of
/// unacknowledged data (64 KiB in etcd at first).
pub(crate) struct SignsOfLife<T> {
    io: T,
    state: Arc<ConnectionState>,
    full: bool,
}

impl<T> SignsOfLife<T> {
    pub(crate) fn new(io: T, state: &Arc<ConnectionState>) -> Self {
        SignsOfLife {
            io,
            state: Arc::clone(state),
            full: false,
        }
    }

    fn written(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => self.full = true,
            Poll::Ready(Ok(1..)) if self.full => {
                self.full = false;
                self.state.touch();
            }
            Poll::Ready(_) => {}
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for SignsOfLife<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.state.touch();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for SignsOfLife<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
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
    use super::*;

    /// A socket that follows a script.
    struct Script(Vec<Poll<usize>>);

    impl AsyncRead for Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.remove(0).map(|count| {
                buffer.put_slice(&vec![0; count]);
                Ok(())
            })
        }
    }

    impl AsyncWrite for Script {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.remove(0).map(Ok)
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            _: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.poll_write(cx, &[])
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

    enum Way {
        Read,
        Write,
        WriteVectored,
    }

    /// Whether each step of the script was a sign of life.
    fn signs(script: Vec<Poll<usize>>, way: Way) -> Vec<bool> {
        let state = ConnectionState::new();
        let steps = script.len();
        let mut io = SignsOfLife::new(Script(script), &state);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut step = || {
            let before = state.last_sign_of_life();
            std::thread::sleep(std::time::Duration::from_micros(10));
            let io = Pin::new(&mut io);
            match way {
                Way::Read => {
                    let mut buffer = [0; 8];
                    let mut buffer = ReadBuf::new(&mut buffer);
                    // These bytes arrived before.
                    buffer.put_slice(b"old");
                    let _ = io.poll_read(&mut cx, &mut buffer);
                }
                Way::Write => drop(io.poll_write(&mut cx, b"bytes")),
                Way::WriteVectored => {
                    assert!(io.is_write_vectored());
                    let _ = io.poll_write_vectored(&mut cx, &[IoSlice::new(b"bytes")]);
                }
            }
            state.last_sign_of_life() > before
        };
        (0..steps).map(|_| step()).collect()
    }

    #[test]
    fn received_bytes_are_a_sign_of_life_and_the_end_of_the_stream_is_not() {
        let script = vec![Poll::Pending, Poll::Ready(3), Poll::Ready(0)];
        assert_eq!(signs(script, Way::Read), [false, true, false]);
    }

    #[test]
    fn a_write_is_a_sign_of_life_only_after_the_socket_was_full() {
        let script = vec![
            Poll::Ready(5),
            Poll::Pending,
            Poll::Pending,
            Poll::Ready(0),
            Poll::Ready(2),
            Poll::Ready(5),
        ];
        let expected = [false, false, false, false, true, false];
        assert_eq!(signs(script.clone(), Way::Write), expected);
        assert_eq!(signs(script, Way::WriteVectored), expected);
    }
}
