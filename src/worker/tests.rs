use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

fn worker() -> Arc<Worker> {
    Arc::new(Worker::start().unwrap())
}

/// Works or, on the command `true`, panics, and reports it.
struct Probe {
    commands: Receiver<bool>,
    reports: Sender<&'static str>,
}

impl Part for Probe {
    fn work(&mut self, _: Instant) -> Option<NextWork> {
        match self.commands.try_recv() {
            Ok(true) => panic!("on command"),
            Ok(false) => drop(self.reports.send("worked")),
            Err(error) if error.is_disconnected() => return None,
            Err(_) => {}
        }
        Some(NextWork(None))
    }

    fn failed(&mut self, error: &Error) {
        assert_eq!(error.kind(), ErrorKind::Panicked);
        let _ = self.reports.send("failed");
        panic!("again");
    }

    fn wait(&self, waker: &Waker) {
        if !self.commands.is_empty() {
            waker.wake_by_ref();
        }
    }
}

// Fault: Q4, F38
#[test]
fn a_part_that_panics_ends_alone_and_reports_the_error() {
    let worker = worker();
    let start = || {
        let ((command, commands), (report, reports)) = (unbounded(), unbounded());
        let part = worker.serve(Box::new(Probe {
            commands,
            reports: report,
        }));
        let send = move |panic| {
            command.send(panic).unwrap();
            part.wake();
        };
        (send, reports)
    };
    let ((bad, bad_reports), (good, good_reports)) = (start(), start());
    bad(true);
    assert_eq!(bad_reports.recv_timeout(LIMIT), Ok("failed"));
    assert!(
        bad_reports.recv_timeout(LIMIT).is_err(),
        "the part has ended"
    );
    for _ in 0..3 {
        good(false);
        assert_eq!(good_reports.recv_timeout(LIMIT), Ok("worked"));
    }
    let (late, late_reports) = start();
    late(false);
    assert_eq!(late_reports.recv_timeout(LIMIT), Ok("worked"));
}

/// Counts its runs.
struct Counter {
    worked: Arc<AtomicUsize>,
    items: Receiver<()>,
    taken: Sender<()>,
    due: Option<Duration>,
}

impl Part for Counter {
    fn work(&mut self, now: Instant) -> Option<NextWork> {
        self.worked.fetch_add(1, SeqCst);
        match self.items.try_recv() {
            Ok(()) => drop(self.taken.send(())),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        Some(NextWork(self.due.map(|due| now + due)))
    }

    fn failed(&mut self, _: &Error) {}

    fn wait(&self, waker: &Waker) {
        if !self.items.is_empty() {
            waker.wake_by_ref();
        }
    }
}

#[test]
fn an_item_wakes_its_part_and_no_other() {
    let worker = worker();
    let start = || {
        let worked = Arc::new(AtomicUsize::new(0));
        let ((item, items), (taken, took)) = (unbounded(), unbounded());
        item.send(()).unwrap();
        let part = worker.serve(Box::new(Counter {
            worked: Arc::clone(&worked),
            items,
            taken,
            due: None,
        }));
        (part, item, took, worked)
    };
    let parts: Vec<_> = (0..100).map(|_| start()).collect();
    for (_, _, took, _) in &parts {
        took.recv_timeout(LIMIT).unwrap();
    }
    let before: Vec<_> = parts.iter().map(|part| part.3.load(SeqCst)).collect();
    let (part, item, took, _) = &parts[7];
    for _ in 0..10 {
        item.send(()).unwrap();
        part.wake();
        took.recv_timeout(LIMIT).unwrap();
    }
    for (n, part) in parts.iter().enumerate().filter(|(n, _)| *n != 7) {
        assert_eq!(part.3.load(SeqCst), before[n], "part {n} worked");
    }
}

#[test]
fn a_part_is_woken_again_while_items_remain() {
    let worker = worker();
    let ((item, items), (taken, took)) = (unbounded(), unbounded());
    (0..100).for_each(|_| item.send(()).unwrap());
    let _part = worker.serve(Box::new(Counter {
        worked: Arc::default(),
        items,
        taken,
        due: None,
    }));
    for _ in 0..100 {
        took.recv_timeout(LIMIT).unwrap();
    }
}

#[test]
fn a_part_runs_when_it_is_due() {
    let worker = worker();
    let worked = Arc::new(AtomicUsize::new(0));
    let _part = worker.serve(Box::new(Counter {
        worked: Arc::clone(&worked),
        items: unbounded().1,
        taken: unbounded().0,
        due: Some(Duration::from_millis(1)),
    }));
    let begun = Instant::now();
    while worked.load(SeqCst) < 10 {
        assert!(begun.elapsed() < LIMIT);
        thread::yield_now();
    }
}

/// Fills a channel whose reader takes the items later.
struct Full {
    sender: Sender<()>,
    left: usize,
}

impl Part for Full {
    fn work(&mut self, _: Instant) -> Option<NextWork> {
        while self.left > 0 && self.sender.try_send(()).is_ok() {
            self.left -= 1;
        }
        Some(NextWork(None))
    }

    fn failed(&mut self, _: &Error) {}

    fn wait(&self, _: &Waker) {}

    fn wait_for_room<'a>(&'a self, select: &mut Select<'a>) {
        select.send(&self.sender);
    }

    fn is_full(&self) -> bool {
        self.left > 0
    }
}

#[test]
fn a_part_continues_when_its_full_channel_has_room_beside_few_and_many_others() {
    for others in [0, 3, 2 * MAX_FULL] {
        let worker = worker();
        let fill = |left| {
            let (sender, receiver) = bounded(1);
            (worker.serve(Box::new(Full { sender, left })), receiver)
        };
        let _others: Vec<_> = (0..others).map(|_| fill(2)).collect();
        let (_part, receiver) = fill(5);
        for _ in 0..5 {
            receiver.recv_timeout(LIMIT).unwrap();
        }
    }
}

/// Reports its drop.
struct Dropped(#[expect(dead_code, reason = "its drop is the report")] Sender<()>);

impl Part for Dropped {
    fn work(&mut self, _: Instant) -> Option<NextWork> {
        Some(NextWork(None))
    }

    fn failed(&mut self, _: &Error) {}

    fn wait(&self, _: &Waker) {}
}

#[test]
fn dropping_the_handle_drops_the_part() {
    let worker = worker();
    let (alive, dropped) = bounded(0);
    let part = worker.serve(Box::new(Dropped(alive)));
    drop(part);
    let ended = dropped.recv_timeout(LIMIT);
    assert_eq!(
        ended,
        Err(crossbeam_channel::RecvTimeoutError::Disconnected)
    );

    let (alive, dropped) = bounded(0);
    let part = worker.serve(Box::new(Dropped(alive)));
    drop(worker);
    assert_eq!(
        dropped.try_recv(),
        Err(TryRecvError::Empty),
        "the handle keeps the worker"
    );
    drop(part);
    let ended = dropped.recv_timeout(LIMIT);
    assert_eq!(
        ended,
        Err(crossbeam_channel::RecvTimeoutError::Disconnected)
    );
}
