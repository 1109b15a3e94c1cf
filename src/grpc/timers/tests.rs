//! Which timers fire, then the timer.

#![cfg(target_os = "linux")]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::*;

fn now() -> BootTime {
    let now = clock_gettime(ClockId::Boottime);
    BootTime::from_boot(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
}

fn at(millis: u64) -> BootTime {
    BootTime::from_boot(Duration::from_millis(millis))
}

fn window(from: u64, until: u64) -> Window {
    Window {
        from: at(from),
        until: at(until),
    }
}

#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Sets timers with these windows, and returns which of their tasks are woken at `now`.
fn woken(windows: &[Window], now: u64) -> Vec<bool> {
    let mut table = TimerTable::default();
    let tasks: Vec<_> = windows.iter().map(|_| Arc::new(Task::default())).collect();
    for (window, task) in windows.iter().zip(&tasks) {
        let number = table.number();
        table.set(number, *window);
        assert!(table.wait(number, *window, &Waker::from(Arc::clone(task))));
    }
    for waker in table.fire(at(now)) {
        waker.wake();
    }
    tasks.iter().map(|task| task.0.load(SeqCst) == 1).collect()
}

#[test]
fn a_timer_fires_at_the_end_of_its_window_or_early_with_another() {
    let windows = [window(50, 100), window(70, 120), window(101, 130)];
    assert_eq!(woken(&windows, 99), [false; 3]);
    assert_eq!(woken(&windows, 100), [true, true, false]);
    assert_eq!(woken(&windows, 101), [true; 3]);
    assert_eq!(woken(&windows[1..], 119), [false; 2]);
}

#[test]
fn a_timer_that_is_unset_or_set_again_does_not_fire_at_its_old_time() {
    let mut table = TimerTable::default();
    let (one, other) = (table.number(), table.number());
    table.set(one, window(10, 10));
    table.set(other, window(10, 10));
    table.unset(one, window(10, 10));
    table.set(one, window(30, 30));
    assert_eq!(table.first(), Some(at(10)));
    table.fire(at(20));
    assert!(!table.wait(other, window(10, 10), Waker::noop()));
    assert!(table.wait(one, window(30, 30), Waker::noop()));
    assert_eq!(table.first(), Some(at(30)));
    table.unset(one, window(30, 30));
    assert_eq!(table.first(), None);
}

/// Runs a task of the private runtime.
fn run_task(task: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(task);
}

async fn fired(timer: &mut Timer) {
    let fired = std::future::poll_fn(|cx| timer.poll(cx));
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, fired).await.expect("it fires");
}

#[test]
fn timers_fire_in_their_order_and_never_early() {
    run_task(async {
        let timers = Timers::new(now);
        let (mut one, mut other) = (timers.timer(), timers.timer());
        let begun = timers.now();
        let after = |millis| Window::at(begun + Duration::from_millis(millis));
        // The second one is earlier, and set while the timer runs.
        one.set(Some(after(60)));
        tokio::task::yield_now().await;
        other.set(Some(after(20)));
        fired(&mut other).await;
        let early = timers.now().since(begun);
        assert!(early >= Duration::from_millis(20), "{early:?}");
        // It can be set again.
        other.set(Some(after(80)));
        fired(&mut one).await;
        let late = timers.now().since(begun);
        assert!(late >= Duration::from_millis(60), "{late:?}");
        fired(&mut other).await;
        assert!(timers.now().since(begun) >= Duration::from_millis(80));
        // A time in the past fires at once, and once.
        one.set(Some(Window::at(begun)));
        fired(&mut one).await;
        let again = std::future::poll_fn(|cx| Poll::Ready(one.poll(cx)));
        assert!(again.await.is_pending(), "it is not set");
    });
}

/// The clocks of the timer files of this process, by their numbers.
fn timer_clocks() -> Vec<String> {
    let files = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    let infos = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    let clock = |info: String| {
        let clock = info.lines().find_map(|line| line.strip_prefix("clockid:"));
        clock.map(|clock| clock.trim().to_owned())
    };
    infos.filter_map(clock).collect()
}

/// The kernel fires such a timer when a suspended machine resumes.
#[test]
fn the_timer_runs_on_the_clock_that_includes_suspend() {
    const CLOCK_BOOTTIME: &str = "7";
    run_task(async {
        let timers = Timers::new(now);
        let _timer = timers.timer();
        tokio::task::yield_now().await;
        let clocks = timer_clocks();
        assert!(!clocks.is_empty());
        assert!(
            clocks.iter().all(|clock| clock == CLOCK_BOOTTIME),
            "{clocks:?}"
        );
    });
}

/// How many seconds the machine was suspended.
static SUSPENDED: AtomicUsize = AtomicUsize::new(0);

fn clock_with_suspend() -> BootTime {
    now() + Duration::from_secs(SUSPENDED.load(SeqCst) as u64)
}

#[test]
fn a_suspend_is_detected_also_without_a_timer_file() {
    run_task(async {
        let timers = Timers::new(clock_with_suspend);
        timers.0.table.lock().number();
        tokio::spawn(run(Arc::clone(&timers.0), BootTimer::of_tokio()));
        let mut timer = timers.timer();
        timer.set(Some(Window::at(timers.now() + Duration::from_secs(3600))));
        tokio::task::yield_now().await;
        SUSPENDED.store(2 * 3600, SeqCst);
        fired(&mut timer).await;
    });
}
