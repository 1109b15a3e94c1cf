//! A connection under TLS that remembers why the other side ended it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::Error;

use super::reason::reason;
use super::settings::Tls;

/// Why the server does not want this connection, once it has said so.
///
/// A server of TLS 1.3 judges the client's certificate when the client already takes the handshake
/// for done. Its alert then arrives somewhere below HTTP/2, which keeps of an error only its text.
#[derive(Clone, Debug, Default)]
pub(in crate::grpc) struct Refusal(Arc<OnceLock<String>>);

impl Refusal {
    pub(in crate::grpc) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

pub(in crate::grpc) struct Stream<S> {
    inner: TlsStream<S>,
    tls: Tls,
    refusal: Refusal,
    /// Why it cannot be written to, until the alert that may explain it is read.
    broken: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub(super) fn new(inner: TlsStream<S>, tls: Tls) -> Self {
        let refusal = Refusal::default();
        Stream {
            inner,
            tls,
            refusal,
            broken: None,
        }
    }

    pub(in crate::grpc) fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    fn note(&self, error: &io::Error) {
        if let Some(error) = behind(error)
            && let Some(reason) = reason(error, &self.tls)
        {
            let _ = self.refusal.0.set(reason);
        }
    }

    /// Writes, unless that failed before.
    ///
    /// A server that refuses sends its alert and hangs up at once. When a write notices the hang-up
    /// first, the alert is still there to be read. Nothing else can be lost by that: a connection that
    /// cannot be written to is over.
    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TlsStream<S>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.broken.is_none() {
            match write(Pin::new(&mut self.inner), cx) {
                Poll::Ready(Err(error)) => self.broken = Some(error),
                written => return written,
            }
        }
        ready!(self.read_alert(cx));
        let gone = || io::ErrorKind::BrokenPipe.into();
        Poll::Ready(Err(self.broken.take().unwrap_or_else(gone)))
    }

    fn read_alert(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) => return Poll::Ready(()),
                Err(error) => {
                    self.note(&error);
                    return Poll::Ready(());
                }
            }
        }
    }
}

/// The error of rustls in one of I/O.
pub(super) fn behind(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &result {
            self.note(error);
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |inner, cx| inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(cx, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
