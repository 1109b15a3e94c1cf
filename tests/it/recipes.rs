//! Queues and barriers, with the same keys as Go's recipes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use etcd_blocking::concurrency::{Barrier, DoubleBarrier, PriorityQueue, Queue, Session};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Delete, ErrorKind, Get};

use crate::support::child::within;
use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_queue_is_first_in_first_out_by_revision_and_ignores_other_keys() {
    let (_etcd, client) = start();
    let queue = Queue::new(&client, "q");
    // An element of a Go program with a fast clock, and keys that do not belong to the queue.
    client.put("q/9999999999999999999", "first").unwrap();
    client.put("q2/1", "not mine").unwrap();
    client.put("q", "nor this").unwrap();
    let key = queue.enqueue("second").unwrap();
    assert!(
        key.starts_with(b"q/") && key[2..].iter().all(u8::is_ascii_digit),
        "{key:?}"
    );
    queue.enqueue("third").unwrap();
    assert_eq!(queue.count().unwrap(), 3);
    assert_eq!(queue.peek().unwrap().unwrap().value(), "first");
    let out: Vec<_> = std::iter::from_fn(|| queue.try_dequeue().unwrap())
        .map(|element| text(element.value()))
        .collect();
    assert_eq!(out, ["first", "second", "third"]);
    assert_eq!((queue.count().unwrap(), queue.peek().unwrap()), (0, None));
    assert!(client.get("q2/1").unwrap().is_some() && client.get("q").unwrap().is_some());
}

#[test]
fn each_element_goes_to_exactly_one_of_many_consumers() {
    const EACH: usize = 100;
    let (etcd, client) = start();
    let taken = AtomicUsize::new(0);
    let mut all: Vec<String> = thread::scope(|scope| {
        for producer in 0..3 {
            let queue = Queue::new(&client, "q");
            scope.spawn(move || {
                for n in 0..EACH {
                    queue.enqueue(format!("{producer}/{n:03}")).unwrap();
                }
            });
        }
        let consumers: Vec<_> = (0..4)
            .map(|_| {
                let client = Client::connect([etcd.endpoint()]).unwrap();
                let taken = &taken;
                scope.spawn(move || {
                    let queue = Queue::new(&client, "q");
                    let mut mine = Vec::new();
                    while taken.load(Ordering::SeqCst) < 3 * EACH {
                        let wait = Duration::from_millis(300);
                        let Some(element) = queue.dequeue_timeout(wait).unwrap() else {
                            continue;
                        };
                        taken.fetch_add(1, Ordering::SeqCst);
                        mine.push(text(element.value()));
                    }
                    mine
                })
            })
            .collect();
        consumers
            .into_iter()
            .flat_map(|consumer| consumer.join().unwrap())
            .collect()
    });
    assert_eq!(all.len(), 3 * EACH);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3 * EACH, "none twice");
    assert_eq!(Queue::new(&client, "q").count().unwrap(), 0);
}

#[test]
fn a_consumer_waits_for_an_element_until_its_timeout() {
    let (_etcd, client) = start();
    let queue = Queue::new(&client, "q");
    assert_eq!(
        queue.dequeue_timeout(Duration::from_millis(50)).unwrap(),
        None
    );
    assert_eq!(queue.dequeue_timeout(Duration::ZERO).unwrap(), None);
    let waiting = queue.clone();
    let (sender, element) = mpsc::channel();
    let consumer = thread::spawn(move || sender.send(waiting.dequeue()).unwrap());
    client.put("q2/1", "not mine").unwrap();
    let revision = client.put("q/1", "from Go").unwrap().revision();
    let element = element.recv_timeout(SOON).unwrap().unwrap();
    consumer.join().unwrap();
    assert_eq!(
        (element.key(), element.revision()),
        (&"q/1".into(), revision)
    );
    assert_eq!(element.into_value(), "from Go");
}

#[test]
fn a_dequeue_whose_answer_is_lost_names_the_element_it_may_have_taken() {
    let (etcd, direct) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .timeout(Duration::from_secs(4))
        .connect()
        .unwrap();
    let queue = Queue::new(&direct, "q");
    let key = queue.enqueue("job").unwrap();
    client.get("warm").unwrap();
    // The element is taken half a second before its consumer receives the answer.
    proxy.delay(Dir::Both, Duration::from_millis(500));
    let lost = thread::scope(|scope| {
        let consumer = scope.spawn(|| Queue::new(&client, "q").try_dequeue());
        eventually(SOON, "it is taken", || {
            queue.peek().unwrap().is_none().then_some(())
        });
        proxy.hold(Dir::Down, true);
        consumer.join().unwrap()
    });
    let error = lost.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert!(
        error
            .to_string()
            .starts_with(&format!("dequeue \"{}\": ", text(&key))),
        "{error}"
    );
}

#[test]
fn a_priority_queue_has_the_keys_of_go_and_is_ordered_by_priority_and_age() {
    let (_etcd, client) = start();
    let queue = PriorityQueue::new(&client, "pq");
    assert_eq!(queue.enqueue("c", 20).unwrap(), "pq/00020/0000000000000000");
    assert_eq!(queue.enqueue("a", 3).unwrap(), "pq/00003/0000000000000000");
    assert_eq!(queue.enqueue("b", 3).unwrap(), "pq/00003/0000000000000001");
    assert_eq!(
        queue.enqueue("d", u16::MAX).unwrap(),
        "pq/65535/0000000000000000"
    );
    assert_eq!(client.get("__pq/00003").unwrap().unwrap().version(), 2);
    assert_eq!(queue.count().unwrap(), 4);
    assert_eq!(queue.peek().unwrap().unwrap().value(), "a");
    let out: Vec<_> = std::iter::from_fn(|| queue.try_dequeue().unwrap())
        .map(|element| (text(element.value()), element.priority().unwrap()))
        .collect();
    let expected = [("a", 3), ("b", 3), ("c", 20), ("d", u16::MAX)];
    assert_eq!(
        out,
        expected.map(|(value, priority)| (value.to_owned(), priority))
    );
}

#[test]
fn concurrent_priority_producers_and_consumers_lose_and_duplicate_nothing() {
    let (etcd, client) = start();
    let out = thread::scope(|scope| {
        for producer in 0..4 {
            let queue = PriorityQueue::new(&client, "pq");
            scope.spawn(move || {
                for n in 0..25 {
                    queue.enqueue(format!("{producer}/{n}"), 1).unwrap();
                }
            });
        }
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let client = Client::connect([etcd.endpoint()]).unwrap();
                scope.spawn(move || {
                    let queue = PriorityQueue::new(&client, "pq");
                    let take = || queue.dequeue_timeout(SOON).unwrap().unwrap();
                    (0..50).map(|_| text(take().value())).collect::<Vec<_>>()
                })
            })
            .collect();
        let all = consumers
            .into_iter()
            .flat_map(|consumer| consumer.join().unwrap());
        all.collect::<BTreeSet<_>>()
    });
    assert_eq!(out.len(), 100);
    assert_eq!(client.get("__pq/00001").unwrap().unwrap().version(), 100);
}

// Case: R-02
#[test]
fn a_barrier_blocks_waiters_until_its_release() {
    let (_etcd, client) = start();
    let barrier = Barrier::new(&client, "barrier");
    barrier.hold().unwrap();
    let twice = barrier.hold().unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists, "{twice}");
    let kept = barrier
        .wait_timeout(Duration::from_millis(100))
        .unwrap_err();
    assert_eq!(kept.kind(), ErrorKind::Timeout, "{kept}");
    let (sender, free) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..5 {
            let (barrier, sender) = (barrier.clone(), sender.clone());
            scope.spawn(move || sender.send(barrier.wait_timeout(SOON)).unwrap());
        }
        client.put("barrier-2", "no matter").unwrap();
        assert!(
            free.recv_timeout(Duration::from_millis(100)).is_err(),
            "all are kept"
        );
        barrier.release().unwrap();
        for _ in 0..5 {
            free.recv_timeout(SOON).unwrap().unwrap();
        }
    });
    barrier.hold().unwrap();
}

// Case: R-02
#[test]
fn a_barrier_that_is_not_held_blocks_no_waiter() {
    let (_etcd, client) = start();
    client.put("key-0", "").unwrap();
    within(SOON, move || Barrier::new(&client, "key").wait()).unwrap();
}

#[test]
fn a_barrier_on_a_lease_is_released_with_the_lease() {
    let (_etcd, client) = start();
    let lease = client.grant(Duration::from_secs(60)).unwrap().id();
    let barrier = Barrier::new(&client, "barrier");
    barrier.hold_on_lease(lease).unwrap();
    let waiting = barrier.clone();
    let waiter = thread::spawn(move || waiting.wait_timeout(SOON));
    client.revoke(lease).unwrap();
    waiter.join().unwrap().unwrap();
}

fn double_barrier_of(client: &Client, count: usize) -> (Session, DoubleBarrier) {
    let session = Session::builder(client)
        .ttl(Duration::from_secs(60))
        .start()
        .unwrap();
    let barrier = DoubleBarrier::new(&session, "db", count);
    (session, barrier)
}

fn waiters(client: &Client) -> u64 {
    client
        .call(Get::prefix("db/waiters").count_only())
        .unwrap()
        .count()
}

#[test]
fn all_programs_enter_and_leave_a_double_barrier_together_in_every_round() {
    const PARTIES: usize = 4;
    let (_etcd, client) = start();
    let (came, leaving) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for round in 1..4 {
        thread::scope(|scope| {
            for _ in 0..PARTIES {
                let (came, leaving, client) = (&came, &leaving, &client);
                scope.spawn(move || {
                    let (_session, barrier) = double_barrier_of(client, PARTIES);
                    came.fetch_add(1, Ordering::SeqCst);
                    let place = barrier.enter_timeout(SOON).unwrap();
                    assert_eq!(came.load(Ordering::SeqCst), round * PARTIES, "all came");
                    leaving.fetch_add(1, Ordering::SeqCst);
                    place.leave_timeout(SOON).unwrap();
                    assert_eq!(leaving.load(Ordering::SeqCst), round * PARTIES, "all left");
                });
            }
        });
        assert!(
            client.get_prefix("db/").unwrap().is_empty(),
            "nothing is left"
        );
    }
}

// Fault: W6
#[test]
fn a_wait_at_a_double_barrier_fails_at_once_when_its_key_is_deleted() {
    let (_etcd, client) = start();
    // Its next renewal, which would also show the loss, is 100 s away.
    let lasting = Session::builder(&client).ttl(Duration::from_secs(300));
    let session = lasting.start().unwrap();
    let barrier = DoubleBarrier::new(&session, "db", 2);
    let sender = |end: &dyn Fn()| {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| barrier.enter_timeout(Duration::from_secs(60)));
            eventually(SOON, "it waits", || (waiters(&client) == 1).then_some(()));
            // Its watches are open by then, or find the deletion in the history.
            thread::sleep(Duration::from_millis(300));
            end();
            waiting.join().unwrap().unwrap_err()
        })
    };
    let deleted = sender(&|| drop(client.call(Delete::prefix("db/waiters")).unwrap()));
    assert_eq!(deleted.kind(), ErrorKind::NotFound, "{deleted}");
    let revoked = sender(&|| assert!(client.revoke(session.lease()).is_ok()));
    assert_eq!(revoked.kind(), ErrorKind::LeaseNotFound, "{revoked}");
}

// Case: R-03
#[test]
fn a_full_double_barrier_refuses_another_program_and_leaves_no_key() {
    let (_etcd, client) = start();
    let (_a, first) = double_barrier_of(&client, 2);
    let (_b, second) = double_barrier_of(&client, 2);
    let (_c, third) = double_barrier_of(&client, 2);
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| first.enter_timeout(SOON).unwrap());
        (second.enter_timeout(SOON).unwrap(), one.join().unwrap())
    });
    let refused = third.enter_timeout(SOON).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(
        refused.to_string().contains("the barrier is full"),
        "{refused}"
    );
    assert_eq!(waiters(&client), 2);
    thread::scope(|scope| {
        scope.spawn(|| one.leave_timeout(SOON).unwrap());
        two.leave_timeout(SOON).unwrap();
    });
    assert!(client.get_prefix("db/").unwrap().is_empty());
}

// Case: R-03
#[test]
fn a_crashed_program_in_a_double_barrier_does_not_block_the_others() {
    for first_dies in [true, false] {
        let (_etcd, client) = start();
        let (a, first) = double_barrier_of(&client, 2);
        let (b, second) = double_barrier_of(&client, 2);
        let (one, two) = thread::scope(|scope| {
            let one = scope.spawn(|| first.enter_timeout(SOON).unwrap());
            eventually(SOON, "the first is there", || {
                (waiters(&client) == 1).then_some(())
            });
            let two = second.enter_timeout(SOON).unwrap();
            (one.join().unwrap(), two)
        });
        let (dying, stays) = if first_dies { (a, two) } else { (b, one) };
        thread::scope(|scope| {
            let leaving = scope.spawn(|| stays.leave_timeout(SOON));
            client.revoke(dying.lease()).unwrap();
            leaving.join().unwrap().unwrap();
        });
    }
}

#[test]
fn a_wait_at_a_double_barrier_fails_after_its_timeout_or_the_end_of_its_session() {
    let (_etcd, client) = start();
    // A short TTL, because a session detects its end when it renews.
    let session = Session::builder(&client)
        .ttl(Duration::from_secs(3))
        .start()
        .unwrap();
    let barrier = DoubleBarrier::new(&session, "db", 2);
    let late = barrier
        .enter_timeout(Duration::from_millis(100))
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    assert_eq!(waiters(&client), 0, "its key is deleted with its lease");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.enter_timeout(SOON));
        eventually(SOON, "it waits", || (waiters(&client) == 1).then_some(()));
        client.revoke(session.lease()).unwrap();
        let lost = waiting.join().unwrap().unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::LeaseNotFound, "{lost}");
    });
    assert!(
        session.lost().recv_timeout(SOON).is_ok(),
        "the reason is left for its owner"
    );
}
