//! The handle by which a program reports that it is alive.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

use super::silence::Beats;

/// Reports that the program is alive, for the check that [`Check::heartbeat`] created with it.
///
/// Clones are handles of the same check, for several threads. When the last one is dropped, the check
/// fails by silence.
///
/// [`Check::heartbeat`]: crate::health::Check::heartbeat
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::health::Check;
/// # use etcd_blocking::{Client, Instance, Registrar};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// # let registrar = Registrar::builder(&client).start()?;
/// # let jobs = etcd_blocking::crossbeam_channel::never::<()>();
/// let (check, heartbeat) = Check::heartbeat(Duration::from_secs(30));
/// heartbeat.beat();
/// let worker = registrar.register_checked(Instance::new("worker", "10.0.0.5:8080"), check)?;
/// for job in jobs {
///     heartbeat.beat();
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Heartbeat {
    pulse: Arc<Pulse>,
}

/// What the handles of a heartbeat have reported.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Mutex<Report>);

#[derive(Debug, Default)]
struct Report {
    beats: Beats,
    failure: Option<String>,
    /// Woken by the next beat. It is absent while the check passes, so that beats are cheap then.
    on_beat: Option<Waker>,
    /// Woken by a reported failure.
    on_failure: Option<Waker>,
}

impl Heartbeat {
    pub(crate) fn new(pulse: Arc<Pulse>) -> Self {
        Heartbeat { pulse }
    }

    /// Reports that the program is alive. It does not block, and may be called at any rate.
    pub fn beat(&self) {
        let mut report = self.pulse.0.lock();
        report.beats.count += 1;
        report.beats.last = Some(Instant::now());
        let waker = report.on_beat.take();
        drop(report);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Reports a failure at once, without waiting for silence. It counts as one failed result.
    pub fn fail(&self, reason: impl ToString) {
        let reason = reason.to_string();
        let mut report = self.pulse.0.lock();
        report.failure = Some(reason);
        let waker = report.on_failure.clone();
        drop(report);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Pulse {
    pub(crate) fn beats(&self) -> Beats {
        self.0.lock().beats
    }

    pub(crate) fn take_failure(&self) -> Option<String> {
        self.0.lock().failure.take()
    }

    /// Wakes the waker at a failure, and also at the next beat if there was none since `seen` and
    /// `each_beat` is set.
    pub(crate) fn wake_at_change(&self, each_beat: bool, seen: Beats, waker: &Waker) {
        let mut report = self.0.lock();
        report.on_failure = Some(waker.clone());
        report.on_beat = each_beat.then(|| waker.clone());
        let is_due = report.failure.is_some() || each_beat && report.beats.count != seen.count;
        drop(report);
        if is_due {
            waker.wake_by_ref();
        }
    }
}
