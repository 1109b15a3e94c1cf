//! The timelines of the services of a recording. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd_blocking::codec::Codec;
use etcd_blocking::{Cause, Instance};

use super::picture::Chart;
use crate::registry::{Event, Timeline, What};
use crate::verbs::record::{Kind, Line};

/// The largest number of events of one service.
const EVENTS: usize = 200_000;

/// The span of a timeline: a recording is shown whole.
const WHOLE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Follows the lines of a recording.
#[derive(Debug)]
pub(super) struct History {
    formats: Vec<(Arc<dyn Codec>, String)>,
    begun: Option<SystemTime>,
    ended: SystemTime,
    keys: BTreeMap<Vec<u8>, Instance>,
    services: BTreeMap<String, Timeline>,
}

impl History {
    pub(super) fn new(formats: Vec<(Arc<dyn Codec>, String)>) -> Self {
        History {
            formats,
            begun: None,
            ended: SystemTime::UNIX_EPOCH,
            keys: BTreeMap::new(),
            services: BTreeMap::new(),
        }
    }

    /// Applies the next line.
    pub(super) fn apply(&mut self, line: &Line) {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(line.time));
        // Clocks can be set back.
        let at = at.unwrap_or(self.ended).max(self.ended);
        self.begun.get_or_insert(at);
        self.ended = at;
        match line.kind {
            Kind::Reset if line.cause.as_deref() == Some("first") => {
                // Another recording begins: what happened before is not known.
                for (_, instance) in std::mem::take(&mut self.keys) {
                    self.removed(instance, at, Cause::Resync);
                }
            }
            Kind::Reset => {}
            Kind::Put => {
                if let (Some(key), Some(value)) = (line.key(), line.value()) {
                    self.put(key, &value, at);
                }
            }
            Kind::Delete => {
                let cause = match line.cause.as_deref() {
                    Some("left") => Cause::Left,
                    Some("expired") => Cause::Expired,
                    Some("resync") => Cause::Resync,
                    _ => Cause::Unknown,
                };
                let instance = line.key().and_then(|key| self.keys.remove(&key));
                if let Some(instance) = instance {
                    self.removed(instance, at, cause);
                }
            }
            Kind::Stale | Kind::Live => {
                for timeline in self.services.values_mut() {
                    let what = match line.kind {
                        Kind::Stale => What::Stale,
                        _ => What::Live,
                    };
                    timeline.record(Event { at, what });
                }
            }
        }
    }

    fn put(&mut self, key: Vec<u8>, value: &[u8], at: SystemTime) {
        let mut decoded = self.formats.iter().filter(|(codec, prefix)| {
            let range = codec.all(prefix);
            range.contains(&key)
        });
        let decoded =
            decoded.find_map(|(codec, prefix)| codec.decode(prefix, &key, value).ok().flatten());
        let Some(instance) = decoded else {
            if let Some(before) = self.keys.remove(&key) {
                self.removed(before, at, Cause::Replaced);
            }
            return;
        };
        let id: Arc<str> = instance.id.as_str().into();
        let before = self.keys.insert(key, instance.clone());
        let same = before
            .as_ref()
            .filter(|before| before.service == instance.service && before.id == instance.id);
        let events = match same {
            Some(before) => {
                let restarted = before.incarnation() != instance.incarnation();
                let restarted = restarted.then(|| What::Restarted {
                    id: Arc::clone(&id),
                });
                let status = (before.status != instance.status).then(|| What::Status {
                    id,
                    from: before.status,
                    to: instance.status,
                    reason: instance.reason.clone(),
                });
                [restarted, status]
            }
            None => {
                let added = What::Added {
                    id,
                    addr: instance.addr.as_str().into(),
                    status: instance.status,
                };
                [Some(added), None]
            }
        };
        if same.is_none()
            && let Some(before) = before
        {
            self.removed(before, at, Cause::Replaced);
        }
        let timeline = self.timeline(&instance.service, at);
        for what in events.into_iter().flatten() {
            timeline.record(Event { at, what });
        }
    }

    fn removed(&mut self, instance: Instance, at: SystemTime, cause: Cause) {
        let what = What::Removed {
            id: instance.id.as_str().into(),
            addr: instance.addr.as_str().into(),
            cause,
        };
        let timeline = self.timeline(&instance.service, at);
        timeline.record(Event { at, what });
    }

    fn timeline(&mut self, service: &str, at: SystemTime) -> &mut Timeline {
        let begun = self.begun.unwrap_or(at);
        let timeline = self.services.entry(service.to_owned());
        timeline.or_insert_with(|| Timeline::new(begun, WHOLE, EVENTS))
    }

    /// What is to be drawn.
    pub(super) fn chart(&self) -> Chart {
        let services = self.services.iter();
        Chart {
            begun: self.begun.unwrap_or(self.ended),
            ended: self.ended,
            services: services
                .map(|(name, timeline)| (name.clone(), timeline.tracks(self.ended)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_blocking::Status;

    use super::*;

    fn line(time: u64, kind: Kind, value: &str, cause: Option<&str>) -> Line {
        Line {
            time,
            kind,
            key: Some("/services/api/a".into()),
            value: Some(value.into()),
            cause: cause.map(str::to_owned),
            ..Line::default()
        }
    }

    #[test]
    fn an_instance_has_spans_of_each_status_and_the_cause_of_its_end() {
        let native = etcd_blocking::codec::by_name("native").unwrap();
        let mut history = History::new(vec![(native, "/services/".into())]);
        let up = r#"{"addr":"10.0.0.1:80","status":"up"}"#;
        let draining = r#"{"addr":"10.0.0.1:80","status":"draining"}"#;
        history.apply(&line(1_000, Kind::Reset, "", Some("first")));
        history.apply(&line(2_000, Kind::Put, up, None));
        history.apply(&line(3_000, Kind::Put, draining, None));
        history.apply(&line(4_000, Kind::Delete, "", Some("expired")));
        history.apply(&line(5_000, Kind::Put, up, None));
        // A clock that was set back.
        history.apply(&line(2_500, Kind::Put, "not an instance", None));
        history.apply(&line(9_000, Kind::Live, "", None));
        let chart = history.chart();
        let (name, tracks) = &chart.services[0];
        assert_eq!((name.as_str(), tracks.len()), ("api", 1));
        let statuses: Vec<_> = tracks[0].spans.iter().map(|span| span.status).collect();
        assert_eq!(statuses, [Status::Up, Status::Draining, Status::Up]);
        let causes: Vec<_> = tracks[0].ends.iter().map(|(_, cause)| *cause).collect();
        assert_eq!(causes, [Cause::Expired, Cause::Replaced]);
        assert_eq!(
            chart.ended.duration_since(chart.begun).unwrap().as_secs(),
            8
        );
    }
}
