//! How many instances of a service took calls over time. Pure.

use std::time::{Duration, SystemTime};

use etcd_blocking::Status;

use crate::registry::Track;

/// The time in which the first list of a recording is written: what it has was there at the beginning.
const LIST: Duration = Duration::from_secs(1);

/// The number of instances that are up, from each time on; the times ascend.
pub(super) fn steps(tracks: &[Track], begun: SystemTime) -> Vec<(SystemTime, usize)> {
    let mut changes: Vec<(SystemTime, isize)> = Vec::new();
    let spans = tracks.iter().flat_map(|track| &track.spans);
    for span in spans.filter(|span| span.status == Status::Up) {
        changes.extend([(start(span.from, begun), 1), (span.to.max(begun), -1)]);
    }
    changes.sort();
    let mut steps = vec![(begun, 0)];
    let mut count = 0_usize;
    for (at, change) in changes {
        count = count.saturating_add_signed(change);
        match steps.last_mut() {
            // Only what holds after all changes of one time is shown.
            Some((last, of)) if *last == at => *of = count,
            _ => steps.push((at, count)),
        }
    }
    steps
}

/// When a span begins in the picture.
fn start(from: SystemTime, begun: SystemTime) -> SystemTime {
    if from < begun + LIST { begun } else { from }
}

/// The share of a span of time in which an instance was up, in percent.
pub(super) fn up_percent(track: &Track, begun: SystemTime, ended: SystemTime) -> u32 {
    let all = ended.duration_since(begun).unwrap_or_default();
    let up = track.spans.iter().filter(|span| span.status == Status::Up);
    let up = up.map(|span| {
        let (from, to) = (start(span.from, begun), span.to.min(ended));
        to.duration_since(from).unwrap_or_default()
    });
    let up: Duration = up.sum();
    let share = up.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE);
    // 100 % means always.
    (share * 100.0).clamp(0.0, 100.0).floor() as u32
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::registry::Span;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn track(spans: &[(u64, u64, Status)]) -> Track {
        let span = |(from, to, status): &(u64, u64, Status)| Span {
            from: at(*from),
            to: at(*to),
            status: *status,
        };
        Track {
            id: "a".into(),
            addr: "a:1".into(),
            spans: spans.iter().map(span).collect(),
            ends: Vec::new(),
            restarts: Vec::new(),
        }
    }

    #[test]
    fn instances_that_are_up_are_counted_over_time() {
        let one = track(&[(0, 10, Status::Up), (10, 20, Status::Draining)]);
        let other = track(&[(5, 10, Status::Up), (10, 20, Status::Up)]);
        let steps = steps(&[one.clone(), other], at(2));
        assert_eq!(steps, [(at(2), 1), (at(5), 2), (at(10), 1), (at(20), 0)]);
        assert_eq!(up_percent(&one, at(0), at(20)), 50);
        assert_eq!(up_percent(&one, at(5), at(6)), 100);
        assert_eq!(up_percent(&one, at(0), at(30)), 33);
        assert_eq!(up_percent(&one, at(12), at(12)), 0);
    }
}
