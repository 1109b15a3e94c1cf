//! Requests are values: what ties each to its response.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::observe::Underway;
use crate::transport::Transport;

/// A request that can be given to [`Client::call`](crate::Client::call) and
/// [`Client::submit`](crate::Client::submit). The trait is sealed: etcd defines the requests.
pub trait Request: sealed::Exchange {}

impl<T: sealed::Exchange> Request for T {}

pub(crate) mod sealed {
    use super::{Arc, Duration, Future, Operation, Result, Transport};

    /// How a request is checked, named and exchanged for its response.
    pub trait Exchange: Send + 'static {
        /// What comes back.
        type Response: Send + 'static;

        /// Its name in errors.
        #[doc(hidden)]
        fn operation(&self) -> Operation;

        /// Refuses what makes no sense, before anything is sent.
        #[doc(hidden)]
        fn check(&self) -> Result<()>;

        /// Whether executing it changes the store.
        #[doc(hidden)]
        fn writes(&self) -> bool {
            false
        }

        /// Its size on the wire.
        #[doc(hidden)]
        fn encoded_len(&self) -> usize;

        #[doc(hidden)]
        fn exchange(
            self,
            transport: Arc<Transport>,
            timeout: Duration,
        ) -> impl Future<Output = Result<Self::Response>> + Send + 'static;
    }
}

/// Exchanges a request that nobody waits for on this thread, and counts it.
pub(crate) fn run<R: Request>(
    request: R,
    checked: Result<()>,
    transport: Arc<Transport>,
    timeout: Duration,
) -> impl Future<Output = Result<R::Response>> + Send + 'static {
    let call = Underway::begin::<R>(transport.observer(), || request.operation());
    async move {
        let result = match checked {
            Ok(()) => call.within(request.exchange(transport, timeout)).await,
            Err(error) => Err(error),
        };
        call.end(&result);
        result
    }
}

/// Checks a request against itself and against the limit for its size.
pub(crate) fn check(request: &impl sealed::Exchange, send_limit: usize) -> Result<()> {
    let size = request.encoded_len();
    let checked = if size > send_limit {
        let reason = format!(
            "the request has {size} bytes and the limit is {send_limit} (ClientBuilder::send_limit)"
        );
        Err(Error::new(ErrorKind::TooLarge, reason))
    } else {
        request.check()
    };
    checked.map_err(|error| error.operation(request.operation()))
}
