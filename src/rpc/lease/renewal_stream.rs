//! The stream that renews leases.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::renewal_schedule::{Input, StreamFailure, StreamRole};
use crate::error::ErrorKind;
use crate::grpc::etcd_rs_proto::etcdserverpb::LeaseKeepAliveRequest;
use crate::grpc::{
    AttemptFailure, ConnectionRole, GrpcStream, MemberCondition, StreamClosed, StreamEvent,
    Transport, Urgency,
};
use crate::types::LeaseId;

/// An event of a renewal stream.
#[derive(Debug)]
pub(super) enum RenewalEvent {
    /// Requests can be sent.
    Opened,
    /// A request was answered.
    Answer { lease: LeaseId, ttl: i64 },
    /// The stream ended or could not be opened. It is closed.
    Broken(StreamFailure),
    /// The server ended the stream because it refused a renewal. It is closed.
    Refused(StreamFailure),
}

impl RenewalEvent {
    /// The input of the schedule for this event of the late stream.
    pub(super) fn late_input(self) -> Option<Input> {
        match self {
            RenewalEvent::Opened => None,
            RenewalEvent::Answer { lease, ttl } => Some(Input::LateAnswer { lease, ttl }),
            RenewalEvent::Broken(_) | RenewalEvent::Refused(_) => Some(Input::LateStreamEnded),
        }
    }

    /// The input of the schedule for this event of the stream `role`.
    pub(super) fn input(self, role: StreamRole) -> Input {
        match self {
            RenewalEvent::Opened => Input::Opened(role),
            RenewalEvent::Answer { lease, ttl } => Input::Answer { role, lease, ttl },
            RenewalEvent::Broken(failure) => Input::Broken(role, failure),
            RenewalEvent::Refused(failure) => Input::Refused(role, failure),
        }
    }
}

/// A renewal stream, which can be opened repeatedly.
pub(super) struct RenewalStream {
    transport: Arc<Transport>,
    stream: GrpcStream<LeaseKeepAliveRequest>,
}

impl RenewalStream {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        RenewalStream {
            stream: transport.duplex(ConnectionRole::Leases),
            transport,
        }
    }

    /// Starts to open the stream. Drops an open one.
    pub(super) fn open(&mut self, urgency: Urgency) {
        self.stream.open(urgency);
    }

    pub(super) fn close(&mut self) {
        self.stream.close(MemberCondition::Healthy);
    }

    /// Closes the stream because nothing was answered for `waited`. The next one uses another connection.
    pub(super) fn abandon(&mut self, waited: Duration) {
        self.stream.abandon(waited);
    }

    /// Returns the open stream, which has not answered for `waited`, and takes a closed one in its place. The
    /// next one uses another connection.
    pub(super) fn take_late(&mut self, waited: Duration) -> RenewalStream {
        self.stream.report_unanswered(waited);
        let closed = RenewalStream::new(Arc::clone(&self.transport));
        std::mem::replace(self, closed)
    }

    pub(super) fn send(&mut self, lease: LeaseId) {
        self.stream.send(LeaseKeepAliveRequest { id: lease.get() });
    }

    /// Polls for the next event. Pending while the stream is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RenewalEvent> {
        loop {
            match ready!(self.stream.poll_message(cx)) {
                StreamEvent::Opened => return Poll::Ready(RenewalEvent::Opened),
                StreamEvent::Message(pb) => {
                    // An answer without a lease id belongs to no request.
                    if let Some(lease) = LeaseId::new(pb.id) {
                        return Poll::Ready(RenewalEvent::Answer { lease, ttl: pb.ttl });
                    }
                }
                StreamEvent::Closed(closed) => return Poll::Ready(self.closed(closed)),
            }
        }
    }

    fn closed(&self, closed: StreamClosed) -> RenewalEvent {
        let StreamClosed { endpoint, failure } = closed;
        // Without a connection, no renewal was sent that could be refused.
        let is_refusal = endpoint.is_some() && failure.as_ref().is_some_and(is_about_request);
        let (kind, text) = match failure {
            None => (ErrorKind::Unavailable, "the server ended the stream".into()),
            Some(AttemptFailure::Silence) => (ErrorKind::Timeout, "the server is silent".into()),
            Some(AttemptFailure::NoConnection(error) | AttemptFailure::Broken(error)) => {
                (error.kind, error.text)
            }
            Some(AttemptFailure::Status(answer)) => (answer.kind, answer.text),
        };
        // The texts of other failures to connect contain the endpoint.
        let unconnected = || (kind == ErrorKind::Tls).then(|| self.transport.name());
        let failure = StreamFailure {
            kind,
            text,
            endpoint: endpoint.or_else(unconnected),
        };
        match is_refusal {
            true => RenewalEvent::Refused(failure),
            false => RenewalEvent::Broken(failure),
        }
    }
}

/// Whether the server refused a request, for a reason that is not the member, the token or the time.
fn is_about_request(failure: &AttemptFailure) -> bool {
    let AttemptFailure::Status(answer) = failure else {
        return false;
    };
    failure.token_rejection().is_none()
        && failure.member_condition() == MemberCondition::Healthy
        && !matches!(
            answer.kind,
            ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::RateLimited
                | ErrorKind::Unimplemented
                | ErrorKind::Protocol
        )
}
