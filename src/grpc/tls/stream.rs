//! A TLS connection that keeps the reason why the server refused it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::Error;

use super::reason::reason;
use super::settings::Tls;

/// The reason why the server refused the connection.
///
/// A TLS 1.3 server verifies the client's certificate after the client has finished the handshake.
/// Its alert then arrives below HTTP/2, which keeps only the text of an error.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsRefusal(Arc<OnceLock<String>>);

impl TlsRefusal {
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

pub(crate) struct Stream<S> {
    inner: TlsStream<S>,
    tls: Tls,
    refusal: TlsRefusal,
    /// The write error, kept until the alert that may explain it is read.
    broken: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub(super) fn new(inner: TlsStream<S>, tls: Tls) -> Self {
        let refusal = TlsRefusal::default();
        Stream {
            inner,
            tls,
            refusal,
            broken: None,
        }
    }

    pub(crate) fn refusal(&self) -> TlsRefusal {
        self.refusal.clone()
    }

    fn note(&self, error: &io::Error) {
        if let Some(error) = rustls_error(error)
            && let Some(reason) = reason(error, &self.tls)
        {
            let _ = self.refusal.0.set(reason);
        }
    }

    /// Writes, unless a write failed before.
    ///
    /// A server that refuses sends its alert and closes the connection at once. If a write fails
    /// first, the alert can still be read. Nothing else can be lost: a connection that cannot be
    /// written to is over.
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
        let broken_pipe = || io::ErrorKind::BrokenPipe.into();
        Poll::Ready(Err(self.broken.take().unwrap_or_else(broken_pipe)))
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

/// The rustls error inside an I/O error.
pub(super) fn rustls_error(error: &io::Error) -> Option<&Error> {
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
