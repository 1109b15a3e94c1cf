//! Pictures as JSON. Pure.

use std::time::SystemTime;

use etcd_blocking::{Cause, Freshness};
use serde_json::{Map, Value, json};

use crate::registry::{BadKey, Event, Picture, ServicePicture, Shown, What};

/// Whether the lists are up to date.
pub(super) fn freshness(picture: &Picture) -> Value {
    let state = match picture.freshness {
        Freshness::Live => "live",
        Freshness::Stale { .. } => "stale",
        _ => "unknown",
    };
    let age = picture.age().map(|age| age.as_millis());
    json!({ "state": state, "age_ms": age, "error": picture.error })
}

/// All services in numbers.
pub(super) fn services(picture: &Picture) -> Value {
    let services = picture.services.values();
    let services: Vec<Value> = services
        .map(|service| {
            json!({
                "name": service.name.as_ref(),
                "instances": service.instances.len(),
                "statuses": statuses(service),
                "revision": service.revision.get(),
            })
        })
        .collect();
    json!({
        "freshness": freshness(picture),
        "revision": picture.revision().get(),
        "services": services,
        "bad_values": bad_values(picture),
    })
}

/// A service with its instances.
pub(super) fn service(picture: &Picture, service: &ServicePicture) -> Value {
    let instances: Vec<Value> = service.instances.iter().map(instance).collect();
    json!({
        "freshness": freshness(picture),
        "revision": service.revision.get(),
        "name": service.name.as_ref(),
        "statuses": statuses(service),
        "instances": instances,
    })
}

fn statuses(service: &ServicePicture) -> Value {
    let mut statuses = Map::new();
    for shown in &service.instances {
        let count = statuses.entry(shown.instance.status.as_str());
        let count = count.or_insert(json!(0));
        *count = json!(count.as_u64().unwrap_or(0) + 1);
    }
    Value::Object(statuses)
}

/// Keys whose values are not instances.
pub(super) fn bad_values(picture: &Picture) -> Value {
    let bad = picture.bad.iter().map(
        |BadKey { at, key, reason }| json!({ "at": millis(*at), "key": key, "reason": reason }),
    );
    bad.collect()
}

/// An instance.
pub(super) fn instance(shown: &Shown) -> Value {
    let instance = &shown.instance;
    json!({
        "id": instance.id,
        "addr": instance.addr,
        "status": instance.status.as_str(),
        "reason": instance.reason,
        "weight": instance.weight,
        "zone": instance.zone,
        "version": instance.version,
        "tags": instance.tags,
        "meta": instance.meta,
        "endpoints": instance.endpoints,
        "since": instance.since().map(millis),
        "status_since": shown.status_since.map(millis),
    })
}

/// The last hour of a service: an entry for each instance, the times without etcd, and the events.
pub(super) fn timeline(service: &ServicePicture, now: SystemTime) -> Value {
    let timeline = &service.timeline;
    let tracks = timeline.tracks(now).into_iter().map(|track| {
        let spans = track.spans.iter();
        let spans: Vec<Value> = spans
            .map(|span| json!([millis(span.from), millis(span.to), span.status.as_str()]))
            .collect();
        let ends = track.ends.iter();
        let ends: Vec<Value> = ends
            .map(|(at, why)| json!([millis(*at), cause(*why)]))
            .collect();
        let restarts: Vec<u64> = track.restarts.iter().copied().map(millis).collect();
        json!({
            "id": track.id.as_ref(),
            "addr": track.addr.as_ref(),
            "spans": spans,
            "ends": ends,
            "restarts": restarts,
        })
    });
    let outages = timeline.outages(now).into_iter();
    let outages: Vec<Value> = outages
        .map(|(from, to)| json!([millis(from), millis(to)]))
        .collect();
    json!({
        "name": service.name.as_ref(),
        "begun": millis(timeline.begun()),
        "now": millis(now),
        "tracks": tracks.collect::<Vec<_>>(),
        "outages": outages,
        "events": timeline.events().map(event).collect::<Vec<_>>(),
    })
}

fn event(event: &Event) -> Value {
    let at = millis(event.at);
    match &event.what {
        What::Added { id, addr, status } => {
            let (id, addr) = (id.as_ref(), addr.as_ref());
            json!({ "at": at, "event": "added", "id": id, "addr": addr, "status": status.as_str() })
        }
        What::Status {
            id,
            from,
            to,
            reason,
        } => json!({
            "at": at, "event": "status", "id": id.as_ref(), "from": from.as_str(), "to": to.as_str(),
            "reason": reason,
        }),
        What::Restarted { id } => json!({ "at": at, "event": "restarted", "id": id.as_ref() }),
        What::Changed { id, what } => {
            json!({ "at": at, "event": "changed", "id": id.as_ref(), "what": what })
        }
        What::Removed {
            id,
            addr,
            cause: why,
        } => json!({
            "at": at, "event": "removed", "id": id.as_ref(), "addr": addr.as_ref(), "cause": cause(*why),
        }),
        What::Stale => json!({ "at": at, "event": "stale" }),
        What::Live => json!({ "at": at, "event": "live" }),
    }
}

/// The name of a cause.
pub(super) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Left => "left",
        Cause::Expired => "expired",
        Cause::Replaced => "replaced",
        Cause::Resync => "resync",
        _ => "unknown",
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}
