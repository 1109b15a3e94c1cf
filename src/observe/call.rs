//! One call from start to end: its counters, its latency, and with the feature `tracing` its span.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use super::Telemetry;
use super::verbs::Verb;
use crate::error::{Error, ErrorKind, Operation, Result};

/// A call whose caller waits for it.
#[must_use = "a call that is not ended stays in flight"]
pub(crate) struct ObservedCall<'a> {
    verb: Option<&'a Verb>,
    begun: Instant,
    span: Span,
}

impl<'a> ObservedCall<'a> {
    /// Counts the call as started. `operation` is evaluated only when its span is enabled.
    pub(crate) fn begin(
        telemetry: &'a Telemetry,
        verb: &'static str,
        operation: impl FnOnce() -> Operation,
    ) -> Self {
        let verb = telemetry.verbs.at(telemetry.verbs.slot(verb));
        let span = Span::begin(verb, operation);
        if let Some(verb) = verb {
            verb.begin();
        }
        ObservedCall {
            verb,
            begun: Instant::now(),
            span,
        }
    }

    /// Runs `future` within the span of the call, on any thread.
    pub(crate) fn within<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.span.around(future)
    }

    /// Counts the call as ended.
    pub(crate) fn end<T>(self, result: &Result<T>) {
        self.out(result.as_ref().err());
    }

    fn out(&self, error: Option<&Error>) {
        if let Some(verb) = self.verb {
            verb.end(self.begun.elapsed(), error.map(Error::kind));
        }
        self.span.end(error);
    }
}

/// A submitted call. One that is dropped before its end counts as closed.
pub(crate) struct Underway {
    telemetry: Arc<Telemetry>,
    slot: usize,
    begun: Instant,
    span: Span,
    over: bool,
}

impl Underway {
    /// Counts the call as started.
    pub(crate) fn begin(
        telemetry: &Arc<Telemetry>,
        verb: &'static str,
        operation: impl FnOnce() -> Operation,
    ) -> Self {
        // Stores the place of the verb: a reference into the telemetry cannot be stored beside it.
        let ObservedCall { begun, span, .. } = ObservedCall::begin(telemetry, verb, operation);
        Underway {
            telemetry: Arc::clone(telemetry),
            slot: telemetry.verbs.slot(verb),
            begun,
            span,
            over: false,
        }
    }

    /// Runs `future` within the span of the call, on any thread.
    pub(crate) fn within<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.span.around(future)
    }

    /// Counts the call as ended.
    pub(crate) fn end<T>(mut self, result: &Result<T>) {
        self.over = true;
        let error = result.as_ref().err();
        self.out(error.map(Error::kind));
        self.span.end(error);
    }

    fn out(&self, error: Option<ErrorKind>) {
        if let Some(verb) = self.telemetry.verbs.at(self.slot) {
            verb.end(self.begun.elapsed(), error);
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        // A call whose future was dropped would otherwise stay in flight for ever.
        if !self.over {
            self.out(Some(ErrorKind::Closed));
        }
    }
}

/// The span of a call; empty without the feature `tracing`.
#[cfg(not(feature = "tracing"))]
#[derive(Debug)]
struct Span;

#[cfg(not(feature = "tracing"))]
impl Span {
    fn begin(_: Option<&Verb>, _: impl FnOnce() -> Operation) -> Self {
        Span
    }

    #[expect(
        clippy::unused_self,
        reason = "the same signature as with the feature `tracing`"
    )]
    fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future
    }

    #[expect(
        clippy::unused_self,
        reason = "the same signature as with the feature `tracing`"
    )]
    fn end(&self, _: Option<&Error>) {}
}

#[cfg(feature = "tracing")]
#[derive(Debug)]
struct Span(tracing::Span);

#[cfg(feature = "tracing")]
impl Span {
    fn begin(verb: Option<&Verb>, operation: impl FnOnce() -> Operation) -> Self {
        use tracing::field::Empty;

        let span = tracing::debug_span!(
            target: "etcd_blocking::call",
            "call",
            verb = verb.map(Verb::name),
            request = Empty,
            outcome = Empty,
            error = Empty,
            // A field that is not declared here cannot be recorded later.
            attempts = Empty,
        );
        // The text is made only for an enabled span.
        if !span.is_disabled() {
            span.record("request", tracing::field::display(operation()));
        }
        Span(span)
    }

    fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        use tracing::Instrument as _;

        future.instrument(self.0.clone())
    }

    fn end(&self, error: Option<&Error>) {
        match error {
            None => {
                self.0.record("outcome", "ok");
            }
            Some(error) => {
                self.0
                    .record("outcome", tracing::field::debug(error.kind()));
                self.0.record("error", tracing::field::display(error));
                self.0.record("attempts", error.attempts());
            }
        }
    }
}
