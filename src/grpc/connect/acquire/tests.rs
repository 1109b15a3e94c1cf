//! Connections to real HTTP/2 servers that limit their streams and answer pings only.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::ConnectionRole::{Bulk, Calls, Leases, Waits, Watches};
use super::*;
use crate::grpc::connect::endpoint::Endpoint;
use crate::grpc::member_condition::MemberCondition;
use crate::grpc::tests::settings;

const ROLES: [ConnectionRole; 5] = [Calls, Leases, Watches, Waits, Bulk];

/// Longer than any step of these tests.
const SOON: Duration = Duration::from_secs(30);
const FAR: Duration = Duration::from_secs(3600);

/// The server side of the connections; each ends with its task.
type Ends = Rc<RefCell<Vec<JoinHandle<()>>>>;

/// A transport to several members.
struct Cluster {
    transport: Arc<Transport>,
    ends: Ends,
}

impl Cluster {
    async fn start(members: usize, streams: u32) -> Self {
        let ends = Ends::default();
        let mut endpoints = Vec::new();
        for _ in 0..members {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            endpoints.push(Endpoint::parse(&address, false).unwrap());
            tokio::task::spawn_local(serve(listener, streams, Rc::clone(&ends)));
        }
        let transport = Transport::new(endpoints, settings());
        Cluster { transport, ends }
    }

    async fn dial(&self, role: ConnectionRole) -> Connection {
        self.transport.dialled(role, Urgency::Call).await.unwrap()
    }

    async fn error(&self, role: ConnectionRole) -> ConnectError {
        let dialled = self.transport.dialled(role, Urgency::Call).await;
        dialled.unwrap_err()
    }

    /// Whether requests of the role use this connection.
    fn goes_over(&self, role: ConnectionRole, connection: &Connection) -> bool {
        let current = self.transport.current(role);
        current.is_some_and(|current| current.is_same(connection))
    }

    /// Closes every connection; the servers accept new ones.
    async fn hang_up(&self, connections: &[Connection]) {
        self.ends.borrow_mut().drain(..).for_each(|end| end.abort());
        for connection in connections {
            while connection.is_open() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

async fn serve(listener: TcpListener, streams: u32, ends: Ends) {
    while let Ok((socket, _)) = listener.accept().await {
        let end = tokio::task::spawn_local(async move {
            let mut server = h2::server::Builder::new();
            server.max_concurrent_streams(streams);
            let mut server = server.handshake::<_, Bytes>(socket).await.unwrap();
            while server.accept().await.is_some() {}
        });
        ends.borrow_mut().push(end);
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let local = tokio::task::LocalSet::new();
    let test = async { tokio::time::timeout(SOON, local.run_until(test)).await };
    runtime.unwrap().block_on(test).unwrap();
}

/// Another handle of a connection, without a reserved slot.
fn without_slot(connection: Connection) -> Connection {
    Connection::revive(&connection.downgrade()).unwrap()
}

#[test]
fn each_role_has_one_connection_that_its_requests_share() {
    run(async {
        let cluster = Cluster::start(1, u32::MAX).await;
        let mut connections = Vec::new();
        for role in ROLES {
            assert!(cluster.transport.ready_connection(role).is_none());
            let connection = cluster.dial(role).await;
            assert!(cluster.dial(role).await.is_same(&connection));
            assert!(
                cluster
                    .transport
                    .ready_connection(role)
                    .unwrap()
                    .is_same(&connection)
            );
            let is_new = |other: &Connection| !other.is_same(&connection);
            assert!(connections.iter().all(is_new), "{role:?}");
            connections.push(connection);
        }
        cluster.hang_up(&connections).await;
        for (role, old) in ROLES.into_iter().zip(&connections) {
            assert!(
                cluster.transport.ready_connection(role).is_none(),
                "it ended"
            );
            assert!(!cluster.dial(role).await.is_same(old));
            assert!(cluster.transport.pool(role).lock().dialling.is_none());
        }
    });
}

#[test]
fn calls_and_large_ranges_wait_for_a_free_stream_of_one_connection() {
    run(async {
        let cluster = Cluster::start(1, 1).await;
        for role in [Calls, Bulk] {
            assert_eq!(cluster.transport.stream_shortage(Some(role)), None);
            let first = cluster.dial(role).await;
            let shortage = cluster.transport.stream_shortage(Some(role)).unwrap();
            assert!(shortage.contains("permits 1 streams"), "{shortage}");
            assert!(shortage.contains("of 1 connections"), "{shortage}");
            assert!(cluster.transport.ready_connection(role).is_none());
            let mut second = std::pin::pin!(cluster.dial(role));
            let early = tokio::time::timeout(Duration::from_millis(20), second.as_mut());
            assert!(early.await.is_err(), "the stream is in use");
            let first = without_slot(first);
            assert!(second.await.is_same(&first));
            assert_eq!(cluster.transport.stream_shortage(Some(role)), None);
        }
        assert_eq!(cluster.transport.stream_shortage(None), None);
    });
}

#[test]
fn roles_of_endless_requests_have_up_to_32_connections() {
    for role in [Leases, Watches, Waits] {
        run(async {
            let cluster = Cluster::start(1, 1).await;
            let mut connections = Vec::new();
            for _ in 0..32 {
                let connection = cluster.dial(role).await;
                let is_new = |other: &Connection| !other.is_same(&connection);
                assert!(connections.iter().all(is_new), "one stream on each");
                connections.push(connection);
            }
            assert!(cluster.goes_over(role, &connections[0]));
            let error = cluster.error(role).await;
            assert_eq!(error.kind, ErrorKind::RateLimited);
            assert!(error.text.contains("32 connections are in use"), "{error}");
            // A stream that ends frees its slot, on any connection.
            let free = without_slot(connections.remove(7));
            let again = cluster.dial(role).await;
            assert!(again.is_same(&free));
            assert_eq!(cluster.error(role).await.kind, ErrorKind::RateLimited);
            // Closed connections do not count, even if a handle exists.
            connections.push(again);
            cluster.hang_up(&connections).await;
            let first = cluster.dial(role).await;
            assert!(cluster.goes_over(role, &first));
            assert!(!cluster.dial(role).await.is_same(&first));
        });
    }
}

#[test]
fn waiters_for_one_connection_do_not_share_its_only_stream() {
    run(async {
        let cluster = Cluster::start(1, 1).await;
        let (first, second) = tokio::join!(cluster.dial(Watches), cluster.dial(Watches));
        assert!(!first.is_same(&second));
    });
}

#[test]
fn a_released_connection_accepts_no_more_requests() {
    run(async {
        let cluster = Cluster::start(1, 1).await;
        let first = cluster.dial(Watches).await;
        let second = cluster.dial(Watches).await;
        cluster.transport.release(Watches, &second);
        let second = without_slot(second);
        let third = cluster.dial(Watches).await;
        assert!(!third.is_same(&second), "it has a stream that is free");
        cluster.transport.release(Watches, &first);
        assert!(cluster.transport.current(Watches).is_none());
        // Removing an endpoint also stops the use of its connections.
        let calls = cluster.dial(Calls).await;
        let text = Arc::clone(&calls.endpoint.text);
        cluster.transport.keep_only(&[text]);
        assert!(cluster.goes_over(Calls, &calls));
        cluster.transport.keep_only(&[]);
        assert!(cluster.transport.current(Calls).is_none());
    });
}

#[test]
fn the_next_connection_is_to_a_member_that_did_not_fail() {
    run(async {
        let cluster = Cluster::start(2, u32::MAX).await;
        let first = cluster.dial(Calls).await;
        cluster.hang_up(std::slice::from_ref(&first)).await;
        let second = cluster.dial(Calls).await;
        assert_ne!(first.index, second.index, "it broke");
        for condition in [
            MemberCondition::Unable,
            MemberCondition::Silent,
            MemberCondition::Learner,
        ] {
            let cluster = Cluster::start(2, u32::MAX).await;
            let first = cluster.dial(Calls).await;
            cluster
                .transport
                .report(Calls, &first, MemberCondition::Healthy);
            assert!(cluster.goes_over(Calls, &first));
            cluster.transport.report(Calls, &first, condition);
            assert!(!cluster.goes_over(Calls, &first));
            let second = cluster.dial(Calls).await;
            assert_ne!(first.index, second.index, "{condition:?}");
            // There is no other member now.
            cluster.transport.report(Calls, &second, condition);
            assert!(cluster.goes_over(Calls, &second), "{condition:?}");
        }
    });
}

#[test]
fn an_unanswered_stream_moves_to_another_member_or_to_a_new_connection() {
    run(async {
        let alone = Cluster::start(1, u32::MAX).await;
        let first = alone.dial(Leases).await;
        alone.transport.unanswered(Leases, &first, FAR);
        assert!(alone.goes_over(Leases, &first), "something else arrived");
        alone.transport.unanswered(Leases, &first, Duration::ZERO);
        assert!(!alone.goes_over(Leases, &first));
        let two = Cluster::start(2, u32::MAX).await;
        let first = two.dial(Leases).await;
        two.transport.unanswered(Leases, &first, FAR);
        assert!(!two.goes_over(Leases, &first));
        assert_ne!(two.dial(Leases).await.index, first.index);
    });
}

#[test]
fn a_lagging_member_is_left_while_there_is_another_one() {
    run(async {
        let two = Cluster::start(2, u32::MAX).await;
        let first = two.dial(Calls).await;
        assert!(two.transport.lagging(Calls, &first));
        assert!(!two.goes_over(Calls, &first));
        let second = two.dial(Calls).await;
        assert_ne!(first.index, second.index);
        // A late answer is no information about the connection that calls use now.
        assert!(!two.transport.lagging(Calls, &first));
        assert!(two.goes_over(Calls, &second));
        let alone = Cluster::start(1, u32::MAX).await;
        let only = alone.dial(Calls).await;
        assert!(!alone.transport.lagging(Calls, &only));
        assert!(alone.goes_over(Calls, &only));
    });
}
