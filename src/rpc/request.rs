//! Requests are values: what ties each to its response.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::{ConnectionRole, Limits, Transport};
use crate::observe::Underway;
use crate::rpc::namespace::Namespace;
use crate::types::Revision;

/// A request that can be given to [`Client::call`](crate::Client::call) and
/// [`Client::submit`](crate::Client::submit). The trait is sealed: etcd defines the requests.
pub trait Request: sealed::Rpc {}

impl<T: sealed::Rpc> Request for T {}

pub(crate) mod sealed {
    use super::{
        Arc, ConnectionRole, Duration, Error, Future, Namespace, Namespaced, Operation, Result,
        Revision, Transport,
    };

    /// How a request is checked, named and exchanged for its response.
    pub trait Rpc: Send + 'static {
        /// What comes back.
        type Response: Send + 'static;

        /// Its name in errors.
        #[doc(hidden)]
        fn operation(&self) -> Operation;

        /// The verb of that name, under which metrics count it. What is called often says it without
        /// making the whole name.
        #[doc(hidden)]
        fn verb(&self) -> &'static str {
            self.operation().verb()
        }

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

        /// The `--max-txn-ops` that a server must have to take it.
        #[doc(hidden)]
        fn needs_ops(&self) -> usize {
            0
        }

        /// The request with its keys under a prefix, and the way back for its response. One that
        /// does not say how is refused: a key that nobody thought of must not get out.
        #[doc(hidden)]
        fn within(self, _namespace: &Namespace) -> Result<Namespaced<Self>>
        where
            Self: Sized,
        {
            Err(Error::confined())
        }

        /// The connections that it goes over.
        #[doc(hidden)]
        fn role(&self) -> ConnectionRole {
            ConnectionRole::Calls
        }

        /// The same request again, when a member that is behind may have answered it: a
        /// serializable read.
        #[doc(hidden)]
        fn again(&self) -> Option<Self>
        where
            Self: Sized,
        {
            None
        }

        /// The revision of the store that a response shows, if it shows one.
        #[doc(hidden)]
        fn shown(_response: &Self::Response) -> Revision {
            Revision::NONE
        }

        #[doc(hidden)]
        fn exchange(
            self,
            transport: Arc<Transport>,
            timeout: Duration,
        ) -> impl Future<Output = Result<Self::Response>> + Send + 'static;
    }
}

/// The part of [`Rpc`](sealed::Rpc) that is the same for each request that is one message
/// of a unary method, and makes its response of the reply: its type has `message`, by value or by
/// reference, of the type that is named.
///
/// | | may be repeated | changes something |
/// |---|---|---|
/// | `read` | yes | no |
/// | `write` | no | yes |
/// | `forwarded` | no, and a follower repeats it by itself | yes |
/// | `idempotent` | yes | yes |
///
/// With `without leader`, a member that has none may answer as well. With `applied`, the reply shows the
/// store after everything that was written before.
macro_rules! unary_rpc {
    (write $message:path $(, $without:ident leader)?) => {
        fn writes(&self) -> bool {
            true
        }

        $crate::rpc::request::unary_rpc!(@ write $message $(, $without)?);
    };
    (write $message:path, applied) => {
        fn writes(&self) -> bool {
            true
        }

        $crate::rpc::request::unary_rpc!(@ write $message, applied);
    };
    (forwarded $message:path) => {
        fn writes(&self) -> bool {
            true
        }

        $crate::rpc::request::unary_rpc!(@ forwarded $message);
    };
    (idempotent $message:path $(, $without:ident leader)?) => {
        fn writes(&self) -> bool {
            true
        }

        $crate::rpc::request::unary_rpc!(@ read $message $(, $without)?);
    };
    (read $message:path $(, $without:ident leader)?) => {
        $crate::rpc::request::unary_rpc!(@ read $message $(, $without)?);
    };
    (@ $mode:ident $message:ty $(, $without:ident)?) => {
        fn encoded_len(&self) -> usize {
            let message = self.message();
            prost::Message::encoded_len(std::borrow::Borrow::<$message>::borrow(&message))
        }

        fn exchange(
            self,
            transport: std::sync::Arc<$crate::grpc::Transport>,
            timeout: std::time::Duration,
        ) -> impl Future<Output = $crate::error::Result<Self::Response>> + Send + 'static {
            // Now, by whoever calls: the thread of the runtime has enough to do.
            let request = $crate::grpc::Framed::<$message>::new(
                std::borrow::Borrow::borrow(&self.message()),
            );
            $(let request = $crate::rpc::request::unary_rpc!(@@ $without request);)?
            let call = $crate::grpc::Call::$mode(timeout);
            transport.unary(call, move || self.operation(), request)
        }
    };
    (@@ without $request:ident) => { $request.needs_leader(false) };
    (@@ applied $request:ident) => {
        $request.consistency($crate::grpc::Consistency::Applied)
    };
}
pub(crate) use unary_rpc;

/// A request as it is sent from inside a namespace, and what is done to its response.
pub(crate) struct Namespaced<R: sealed::Rpc> {
    pub(crate) request: R,
    /// Takes the prefix off every key.
    pub(crate) strip: fn(&mut R::Response, &Namespace),
}

impl<R: sealed::Rpc> Namespaced<R> {
    /// A request without keys, and without any in its response.
    pub(crate) fn keyless(request: R) -> Self {
        Namespaced {
            request,
            strip: |_, _| {},
        }
    }
}

/// Exchanges a request for its response, from inside a namespace if there is one.
pub(crate) async fn exchange<R: sealed::Rpc>(
    request: R,
    namespace: Option<&Namespace>,
    transport: Arc<Transport>,
    timeout: Duration,
) -> Result<R::Response> {
    let Some(namespace) = namespace else {
        return request.exchange(transport, timeout).await;
    };
    // Errors name the keys as their user wrote them.
    let about = request.operation();
    let named = |error: Error| error.operation(about.clone());
    let confined = request.within(namespace).map_err(named)?;
    fits(&confined.request, transport.settings().limits).map_err(named)?;
    let sent = confined.request.exchange(transport, timeout).await;
    let mut response = sent.map_err(named)?;
    (confined.strip)(&mut response, namespace);
    Ok(response)
}

/// Exchanges a request that is part of something larger, and counts it like one of its own.
pub(crate) async fn counted<R: sealed::Rpc>(
    request: R,
    transport: Arc<Transport>,
    timeout: Duration,
) -> Result<R::Response> {
    let call = Underway::begin(transport.observer(), request.verb(), || request.operation());
    let exchange = Box::pin(request.exchange(transport, timeout));
    run(call, exchange).await
}

/// An exchange on its way. It is as large as all that may happen to it, and in a box of its own it is
/// moved once and not at every step.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Waits for an exchange that nobody waits for on this thread, and counts it.
pub(crate) async fn run<T>(call: Underway, exchange: Boxed<'_, T>) -> Result<T> {
    let result = call.within(exchange).await;
    call.end(&result);
    result
}

/// Checks a request against itself and against the limits of the client, before anything is sent.
pub(crate) fn check(request: &impl sealed::Rpc, limits: Limits, timeout: Duration) -> Result<()> {
    fits(request, limits)
        .and_then(|()| request.check())
        .and_then(|()| has_time(timeout))
        .map_err(|error| error.operation(request.operation()))
}

/// Refuses what must be over before it begins.
pub(crate) fn has_time(timeout: Duration) -> Result<()> {
    if timeout.is_zero() {
        let reason = "nothing was sent: the timeout is 0 s";
        return Err(Error::new(ErrorKind::Timeout, reason));
    }
    Ok(())
}

fn fits(request: &impl sealed::Rpc, limits: Limits) -> Result<()> {
    let (size, ops) = (request.encoded_len(), request.needs_ops());
    if size > limits.send {
        let limit = limits.send;
        let reason = format!(
            "the request has {size} bytes and the limit is {limit} (ClientBuilder::send_limit)"
        );
        return Err(Error::new(ErrorKind::TooLarge, reason));
    }
    if ops > limits.txn_ops {
        let limit = limits.txn_ops;
        return Err(Error::invalid(format!(
            "the transaction takes {ops} operations, counted as etcd does, and the limit is {limit} (ClientBuilder::max_txn_ops)"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request whose author did not think of namespaces.
    #[derive(Debug)]
    struct Thoughtless;

    impl sealed::Rpc for Thoughtless {
        type Response = ();

        fn operation(&self) -> Operation {
            Operation::new("forget")
        }

        fn check(&self) -> Result<()> {
            Ok(())
        }

        fn encoded_len(&self) -> usize {
            0
        }

        async fn exchange(self, _: Arc<Transport>, _: Duration) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_that_says_nothing_about_namespaces_does_not_leave_one() {
        use sealed::Rpc as _;

        let namespace = Namespace::new("a/".into()).unwrap();
        let refused = Thoughtless.within(&namespace).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}
