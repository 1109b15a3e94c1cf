//! The body of a streaming response, read from `h2`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body as HttpBody, Frame};

use super::connect_error::ConnectError;
use super::open_stream::OpenStream;

/// A response body for tonic. The reader controls the flow.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    stream: RecvStream,
    open: OpenStream,
    data_ended: bool,
}

impl ResponseBody {
    pub(super) fn new(stream: RecvStream, open: OpenStream) -> Self {
        ResponseBody {
            stream,
            open,
            data_ended: false,
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = ConnectError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectError>>> {
        let this = &mut *self;
        if !this.data_ended {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails only on a closed stream, which the next poll reports.
                    let _ = this.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(this.open.explain(&error)))),
                None => this.data_ended = true,
            }
        }
        match ready!(this.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(this.open.explain(&error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
