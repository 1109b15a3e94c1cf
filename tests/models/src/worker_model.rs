//! The worker runs a part after each wake-up, in whatever order sources wake it, and ends with its last handle.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use stand_ins::{Receiver, Select, Sender, TryRecvError, TrySendError, bounded, thread, unbounded};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::harness::Model;
use crate::runtime::{BoundedReceiver, Capacity, bounded_queue};
use crate::util::atomic::{AtomicBool, Ordering::SeqCst};
use crate::worker::{NextWork, Part, Worker};

pub(crate) const MODELS: &[Model] = &[
    Model::interrupted("worker: a source wakes its part", 3, source_wakes),
    Model::interrupted("worker: two threads wake one part", 3, two_wakers),
    Model::interrupted("worker: a full channel gets room", 3, full_channel),
    Model::interrupted(
        "worker: a part waits for room, another is woken",
        2,
        full_and_woken,
    ),
    Model::interrupted(
        "worker: a wake-up and the end of the handle",
        3,
        wake_and_end,
    ),
];

const NEVER: Option<NextWork> = Some(NextWork(None));

/// Passes the items of a queue on, and ends with the queue.
struct Reader {
    queue: BoundedReceiver<Result<u8>>,
    read: Sender<u8>,
}

impl Part for Reader {
    fn work(&mut self, _: Instant) -> Option<NextWork> {
        loop {
            match self.queue.try_recv() {
                Ok(item) => self.read.send(item.unwrap()).unwrap(),
                Err(TryRecvError::Empty) => return NEVER,
                Err(TryRecvError::Disconnected) => return None,
            }
        }
    }

    fn failed(&mut self, error: &Error) {
        panic!("{error}");
    }

    fn wait(&self, waker: &Waker) {
        self.queue.wake_when_ready(waker);
    }
}

/// Ends when it sees its flags.
struct Flags {
    flags: Vec<Arc<AtomicBool>>,
    _done: Sender<()>,
}

impl Part for Flags {
    fn work(&mut self, _: Instant) -> Option<NextWork> {
        match self.flags.iter().all(|flag| flag.load(SeqCst)) {
            true => None,
            false => NEVER,
        }
    }

    fn failed(&mut self, error: &Error) {
        panic!("{error}");
    }

    fn wait(&self, _: &Waker) {}
}

/// Sends 1 and 2 into a channel with room for one, and ends.
struct Writer {
    sender: Sender<u8>,
    next: u8,
}

impl Part for Writer {
    fn work(&mut self, _: Instant) -> Option<NextWork> {
        while self.next <= 2 {
            match self.sender.try_send(self.next) {
                Ok(()) => self.next += 1,
                Err(TrySendError::Full(_)) => return NEVER,
                Err(TrySendError::Disconnected(_)) => panic!("the reader stays"),
            }
        }
        None
    }

    fn failed(&mut self, error: &Error) {
        panic!("{error}");
    }

    fn wait(&self, _: &Waker) {}

    fn wait_for_room<'a>(&'a self, select: &mut Select<'a>) {
        select.send(&self.sender);
    }

    fn is_full(&self) -> bool {
        self.next <= 2
    }
}

fn worker() -> Arc<Worker> {
    Worker::of(&Client).unwrap()
}

/// Waits until a part has ended: then its sender is gone.
fn wait_for_end(done: &Receiver<()>) {
    assert!(done.recv().is_err());
}

fn source_wakes() {
    let (mut sender, queue) = bounded_queue(Capacity { items: 8, bytes: 8 }, Err);
    let (read, items) = unbounded();
    let handle = worker().serve(Box::new(Reader { queue, read }));
    let writer = thread::spawn(move || {
        sender.offer(Ok(1), 1);
        sender.offer(Ok(2), 1);
        sender.end();
    });
    assert_eq!([items.recv(), items.recv()], [Ok(1), Ok(2)]);
    assert!(items.recv().is_err());
    drop(handle);
    writer.join().unwrap();
}

fn flags(n: usize) -> (Vec<Arc<AtomicBool>>, Flags, Receiver<()>) {
    let flags: Vec<_> = (0..n).map(|_| Arc::new(AtomicBool::new(false))).collect();
    let (done, ended) = bounded(0);
    (flags.clone(), Flags { flags, _done: done }, ended)
}

fn two_wakers() {
    let (flags, part, ended) = flags(2);
    let handle = worker().serve(Box::new(part));
    let (flag, waker) = (Arc::clone(&flags[0]), handle.waker());
    let other = thread::spawn(move || {
        flag.store(true, SeqCst);
        waker.wake();
    });
    flags[1].store(true, SeqCst);
    handle.wake();
    wait_for_end(&ended);
    other.join().unwrap();
}

fn full_channel() {
    let (sender, receiver) = bounded(1);
    let handle = worker().serve(Box::new(Writer { sender, next: 1 }));
    assert_eq!([receiver.recv(), receiver.recv()], [Ok(1), Ok(2)]);
    assert!(receiver.recv().is_err());
    drop(handle);
}

/// The thread selects on a channel that stays full, and a wake-up of another part has to reach it.
fn full_and_woken() {
    let worker = worker();
    let (sender, receiver) = bounded(1);
    let writer = worker.serve(Box::new(Writer { sender, next: 1 }));
    let (flags, part, ended) = flags(1);
    let handle = worker.serve(Box::new(part));
    let (flag, waker) = (Arc::clone(&flags[0]), handle.waker());
    let other = thread::spawn(move || {
        flag.store(true, SeqCst);
        waker.wake();
    });
    wait_for_end(&ended);
    other.join().unwrap();
    drop(writer);
    assert_eq!(receiver.recv(), Ok(1));
}

/// The part ends with its handle, whoever wakes it meanwhile, and the thread with the last handle.
fn wake_and_end() {
    let worker = worker();
    let (_flags, part, ended) = flags(1);
    let handle = worker.serve(Box::new(part));
    let waker = handle.waker();
    let other = thread::spawn(move || waker.wake());
    drop(handle);
    wait_for_end(&ended);
    other.join().unwrap();
    drop(worker);
}
