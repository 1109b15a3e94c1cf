//! The timelines of the services of a recording. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd_blocking::codec::Codec;
use etcd_blocking::{Cause, Instance};

use super::picture::Chart;
use crate::registry::{Event, Timeline, Track, What};
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
    outages: Vec<(SystemTime, SystemTime)>,
    gaps: Vec<(SystemTime, String)>,
    /// Since when etcd is away.
    away: Option<SystemTime>,
}

impl History {
    pub(super) fn new(formats: Vec<(Arc<dyn Codec>, String)>) -> Self {
        History {
            formats,
            begun: None,
            ended: SystemTime::UNIX_EPOCH,
            keys: BTreeMap::new(),
            services: BTreeMap::new(),
            outages: Vec::new(),
            gaps: Vec::new(),
            away: None,
        }
    }

    /// Applies the next line.
    pub(super) fn apply(&mut self, line: &Line) {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(line.time));
        // Clocks can be set back.
        let at = at.unwrap_or(self.ended).max(self.ended);
        let is_first = self.begun.is_none();
        self.begun.get_or_insert(at);
        self.ended = at;
        match line.kind {
            Kind::Reset if line.cause.as_deref() == Some("first") => {
                // What happened before is not known. The line has the prefix that it is about.
                let prefix = line.key().unwrap_or_default();
                let known = std::mem::take(&mut self.keys).into_iter();
                let (gone, kept): (BTreeMap<_, _>, _) =
                    known.partition(|(key, _)| key.starts_with(&prefix));
                self.keys = kept;
                if !is_first && !gone.is_empty() {
                    self.gaps.push((at, "another recording begins".into()));
                }
                for (_, instance) in gone {
                    self.removed(instance, at, Cause::Resync);
                }
            }
            Kind::Reset => {
                let cause = line.cause.as_deref().unwrap_or("other");
                self.gaps.push((at, cause.to_owned()));
            }
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
            Kind::Stale => self.away = self.away.or(Some(at)),
            Kind::Live => self.outages.extend(self.away.take().map(|from| (from, at))),
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

    /// What is to be drawn: what happened between two times, each of which may be open.
    pub(super) fn chart(&self, from: Option<SystemTime>, to: Option<SystemTime>) -> Chart {
        let begun = self.begun.unwrap_or(self.ended);
        let begun = from.map_or(begun, |from| from.clamp(begun, self.ended));
        let ended = to.map_or(self.ended, |to| to.clamp(begun, self.ended));
        let services = self.services.iter().map(|(name, timeline)| {
            let tracks = timeline.tracks(self.ended).into_iter();
            let tracks = tracks.filter_map(|track| within(track, begun, ended));
            (name.clone(), tracks.collect::<Vec<_>>())
        });
        let away = self.away.map(|from| (from, self.ended));
        let outages = self.outages.iter().copied().chain(away);
        let gaps = self.gaps.iter();
        let gaps = gaps.filter(|(at, _)| (begun..=ended).contains(at));
        Chart {
            gaps: gaps.cloned().collect(),
            begun,
            ended,
            services: services.filter(|(_, tracks)| !tracks.is_empty()).collect(),
            outages: outages
                .filter(|(from, to)| *from <= ended && *to >= begun)
                .collect(),
        }
    }
}

/// The part of a track between two times; `None` if there is nothing.
fn within(mut track: Track, begun: SystemTime, ended: SystemTime) -> Option<Track> {
    track
        .spans
        .retain(|span| span.from <= ended && span.to >= begun);
    track.ends.retain(|(at, _)| (begun..=ended).contains(at));
    track.restarts.retain(|at| (begun..=ended).contains(at));
    (!track.spans.is_empty() || !track.ends.is_empty()).then_some(track)
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
        let chart = history.chart(None, None);
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

    #[test]
    fn a_recording_that_goes_on_has_gaps_and_forgets_its_own_prefix_only() {
        let native = etcd_blocking::codec::by_name("native").unwrap();
        let formats = ["/services/", "/other/"].map(|prefix| (Arc::clone(&native), prefix.into()));
        let mut history = History::new(formats.to_vec());
        let up = r#"{"addr":"10.0.0.1:80","status":"up"}"#;
        let of = |prefix: &str| Line {
            key: Some(prefix.into()),
            ..line(1_000, Kind::Reset, "", Some("first"))
        };
        history.apply(&of("/services/"));
        history.apply(&line(1_000, Kind::Put, up, None));
        history.apply(&of("/other/"));
        assert_eq!(history.keys.len(), 1);
        history.apply(&line(2_000, Kind::Reset, "", Some("relisted")));
        assert_eq!(history.keys.len(), 1);
        history.apply(&of("/services/"));
        assert_eq!(history.keys.len(), 0);
        let chart = history.chart(None, None);
        let gaps: Vec<_> = chart.gaps.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(gaps, ["relisted", "another recording begins"]);
    }

    #[test]
    fn a_part_of_a_recording_has_only_what_happened_in_it() {
        let native = etcd_blocking::codec::by_name("native").unwrap();
        let mut history = History::new(vec![(native, "/services/".into())]);
        let up = r#"{"addr":"10.0.0.1:80","status":"up"}"#;
        history.apply(&line(1_000, Kind::Put, up, None));
        history.apply(&line(4_000, Kind::Delete, "", Some("left")));
        history.apply(&line(5_000, Kind::Stale, "", None));
        history.apply(&line(7_000, Kind::Live, "", None));
        history.apply(&line(9_000, Kind::Stale, "", None));
        history.apply(&line(10_000, Kind::Reset, "", Some("relisted")));
        let at = |millis| Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        let counts = |from, to| {
            let chart = history.chart(from, to);
            let tracks = chart.services.iter().map(|(_, tracks)| tracks);
            let ends = tracks.flatten().map(|track| track.ends.len());
            (
                chart.services.len(),
                ends.sum::<usize>(),
                chart.outages.len(),
            )
        };
        assert_eq!(counts(None, None), (1, 1, 2));
        assert_eq!(counts(None, at(3_000)), (1, 0, 0));
        assert_eq!(counts(at(5_000), at(6_000)), (0, 0, 1));
        assert_eq!(counts(at(9_500), None), (0, 0, 1));
        // Times outside of the recording, and in the wrong order, are moved into it.
        let chart = history.chart(at(20_000), at(2));
        assert_eq!(
            (Some(chart.begun), Some(chart.ended)),
            (at(10_000), at(10_000))
        );
    }
}
