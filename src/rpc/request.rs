//! The trait of all requests, and the call of a request.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::{ConnectionRole, MessageLimits, Transport};
use crate::observe::Underway;
use crate::rpc::namespace::Namespace;
use crate::types::Revision;

/// A request for [`Client::call`](crate::Client::call) and [`Client::submit`](crate::Client::submit). The
/// trait is sealed: etcd defines the requests.
///
/// ```no_run
/// use etcd_blocking::{Client, Request, Result};
///
/// fn call_twice<R: Request + Clone>(client: &Client, request: R) -> Result<R::Response> {
///     client.call(request.clone())?;
///     client.call(request)
/// }
/// ```
pub trait Request: sealed::Rpc {}

impl<T: sealed::Rpc> Request for T {}

pub(crate) mod sealed {
    use super::{
        Arc, ConnectionRole, Duration, Error, Future, Namespace, Namespaced, Operation, Result,
        Revision, Transport,
    };

    /// Checks a request, names it, and executes it.
    pub trait Rpc: Send + 'static {
        /// The response to the request.
        type Response: Send + 'static;

        /// The operation, as errors name it.
        #[doc(hidden)]
        fn operation(&self) -> Operation;

        /// The verb of the operation, for metrics. Frequent requests return it without formatting the
        /// operation.
        #[doc(hidden)]
        fn verb(&self) -> &'static str {
            self.operation().verb()
        }

        /// Refuses an invalid request, before anything is sent.
        #[doc(hidden)]
        fn check(&self) -> Result<()>;

        /// Whether the request changes the store.
        #[doc(hidden)]
        fn writes(&self) -> bool {
            false
        }

        /// The size of the encoded message in bytes.
        #[doc(hidden)]
        fn encoded_len(&self) -> usize;

        /// The `--max-txn-ops` that a server needs to accept it.
        #[doc(hidden)]
        fn needs_ops(&self) -> usize {
            0
        }

        /// The request with the prefix of a namespace added to its keys, and the function that strips
        /// it from the response. By default a request is refused inside a namespace, so that a new
        /// request cannot access keys outside of it.
        #[doc(hidden)]
        fn within(self, _namespace: &Namespace) -> Result<Namespaced<Self>>
        where
            Self: Sized,
        {
            Err(Error::confined())
        }

        /// The role of the connection for the request.
        #[doc(hidden)]
        fn role(&self) -> ConnectionRole {
            ConnectionRole::Calls
        }

        /// A copy for a repetition, if the answer may come from an outdated member: for a serializable
        /// read.
        #[doc(hidden)]
        fn again(&self) -> Option<Self>
        where
            Self: Sized,
        {
            None
        }

        /// The revision of the store in a response, if it has one.
        #[doc(hidden)]
        fn shown(_response: &Self::Response) -> Revision {
            Revision::NONE
        }

        /// Sends the request, repeats it where that is safe, and waits for the response.
        #[doc(hidden)]
        fn execute(
            self,
            transport: Arc<Transport>,
            timeout: Duration,
        ) -> impl Future<Output = Result<Self::Response>> + Send + 'static;
    }
}

/// Implements the common part of [`Rpc`](sealed::Rpc) for a request of a unary method. The request type
/// has a method `message`, which returns the named message by value or by reference, and the response
/// type converts from the reply.
///
/// | mode | may be repeated | changes the store |
/// |---|---|---|
/// | `read` | yes | no |
/// | `write` | no | yes |
/// | `forwarded` | no; a follower itself repeats it to the leader | yes |
/// | `idempotent` | yes | yes |
///
/// With `without leader`, a member without a leader may answer. With `applied`, the reply has a revision
/// that includes all earlier writes.
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

        fn execute(
            self,
            transport: std::sync::Arc<$crate::grpc::Transport>,
            timeout: std::time::Duration,
        ) -> impl Future<Output = $crate::error::Result<Self::Response>> + Send + 'static {
            // Encoded on the calling thread, to relieve the runtime thread.
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

/// A request with the prefix of a namespace, and the function that strips it from the response.
pub(crate) struct Namespaced<R: sealed::Rpc> {
    pub(crate) request: R,
    /// Strips the prefix from every key.
    pub(crate) strip: fn(&mut R::Response, &Namespace),
}

impl<R: sealed::Rpc> Namespaced<R> {
    /// A request without keys in the request and in the response.
    pub(crate) fn keyless(request: R) -> Self {
        Namespaced {
            request,
            strip: |_, _| {},
        }
    }
}

/// Executes a request, inside a namespace if there is one.
pub(crate) async fn execute<R: sealed::Rpc>(
    request: R,
    namespace: Option<&Namespace>,
    transport: Arc<Transport>,
    timeout: Duration,
) -> Result<R::Response> {
    let Some(namespace) = namespace else {
        return request.execute(transport, timeout).await;
    };
    // Errors name the keys without the prefix.
    let about = request.operation();
    let named = |error: Error| error.operation(about.clone());
    let namespaced = request.within(namespace).map_err(named)?;
    // The prefix makes the request larger, so its size is checked again.
    fits(&namespaced.request, transport.settings().limits).map_err(named)?;
    let sent = namespaced.request.execute(transport, timeout).await;
    let mut response = sent.map_err(named)?;
    (namespaced.strip)(&mut response, namespace);
    Ok(response)
}

/// Executes a request that is part of another operation, and counts it in the metrics.
pub(crate) async fn counted<R: sealed::Rpc>(
    request: R,
    transport: Arc<Transport>,
    timeout: Duration,
) -> Result<R::Response> {
    let call = Underway::begin(transport.telemetry(), request.verb(), || {
        request.operation()
    });
    let running = Box::pin(request.execute(transport, timeout));
    run(call, running).await
}

/// A running request. Boxed, because its future is large and would be moved at every step.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Waits for a request, and counts it in the metrics.
pub(crate) async fn run<T>(call: Underway, running: Boxed<'_, T>) -> Result<T> {
    let result = call.within(running).await;
    call.end(&result);
    result
}

/// Validates a request and checks it against the limits of the client, before anything is sent.
pub(crate) fn check(
    request: &impl sealed::Rpc,
    limits: MessageLimits,
    timeout: Duration,
) -> Result<()> {
    fits(request, limits)
        .and_then(|()| request.check())
        .and_then(|()| has_time(timeout))
        .map_err(|error| error.operation(request.operation()))
}

/// Refuses a timeout of zero.
pub(crate) fn has_time(timeout: Duration) -> Result<()> {
    if timeout.is_zero() {
        let reason = "nothing was sent: the timeout is 0 s";
        return Err(Error::new(ErrorKind::Timeout, reason));
    }
    Ok(())
}

fn fits(request: &impl sealed::Rpc, limits: MessageLimits) -> Result<()> {
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

    /// A request without support for namespaces.
    #[derive(Debug)]
    struct WithoutNamespace;

    impl sealed::Rpc for WithoutNamespace {
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

        async fn execute(self, _: Arc<Transport>, _: Duration) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_without_support_for_namespaces_is_refused_in_one() {
        use sealed::Rpc as _;

        let namespace = Namespace::new("a/".into()).unwrap();
        let refused = WithoutNamespace.within(&namespace).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}
