//! Reports to a view whether its cache file is written.

use std::io;
use std::path::Path;
use std::task::Waker;

use parking_lot::Mutex;

use crate::observe::Telemetry;

/// How the last write of a file ended, if the view has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheResult {
    Failed,
    /// It was written, and the write before failed.
    Recovered,
}

/// The results of the writes of one file: from the thread that writes to the view.
#[derive(Debug, Default)]
pub(super) struct CacheReport(Mutex<ReportState>);

#[derive(Debug, Default)]
struct ReportState {
    is_failing: bool,
    result: Option<CacheResult>,
    waker: Option<Waker>,
}

impl CacheReport {
    /// Records a write that failed. A series of failures has one event.
    pub(super) fn failed(&self, telemetry: &Telemetry, path: &Path, error: &io::Error) {
        let is_first = self.ended(CacheResult::Failed);
        telemetry.views.cache_not_written(path, error, is_first);
    }

    /// Records a write.
    pub(super) fn written(&self) {
        self.ended(CacheResult::Recovered);
    }

    /// Returns whether the result is another one than that of the write before.
    fn ended(&self, result: CacheResult) -> bool {
        let mut state = self.0.lock();
        let is_failing = result == CacheResult::Failed;
        let is_other = std::mem::replace(&mut state.is_failing, is_failing) != is_failing;
        if is_other || is_failing {
            state.result = Some(result);
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        is_other
    }

    /// Takes the newest result since the last call.
    pub(super) fn take(&self) -> Option<CacheResult> {
        self.0.lock().result.take()
    }

    /// Wakes the waker once: now, if there is a result, or else when there is one.
    pub(super) fn wake_when_ready(&self, waker: &Waker) {
        let mut state = self.0.lock();
        match state.result {
            None => state.waker = Some(waker.clone()),
            Some(_) => waker.wake_by_ref(),
        }
    }
}
