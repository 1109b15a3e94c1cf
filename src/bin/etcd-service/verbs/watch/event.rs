//! The lines of `watch`. Pure.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::SystemTime;

use clap::ValueEnum;
use etcd_blocking::{Cause, Change, Instance};
use serde_json::json;

use crate::output::{instance_json, json_line, printable, utc};

/// How changes are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// The time, a character for the kind of the change, and what changed
    #[value(alias = "simple")]
    Text,
    /// A JSON object a line
    #[value(alias = "json")]
    Jsonl,
}

/// One line of `watch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Added(Arc<Instance>),
    Updated {
        instance: Arc<Instance>,
        before: Arc<Instance>,
    },
    Removed(Arc<Instance>, Cause),
    /// etcd cannot be followed; the reason, if there is one.
    Stale(String),
    Live,
    Bad {
        key: String,
        reason: String,
    },
}

impl Event {
    /// The events of a change, in the order in which they are to be applied. `before` returns an instance as it was
    /// known until now.
    pub(crate) fn of(
        change: &Change,
        before: impl Fn(&Instance) -> Option<Arc<Instance>>,
    ) -> Vec<Event> {
        if let Change::Bad { key, reason } = change {
            let key = String::from_utf8_lossy(key).into_owned();
            let reason = reason.clone();
            return vec![Event::Bad { key, reason }];
        }
        let gone: Vec<_> = change.causes().collect();
        let is_gone = |id: &str| gone.iter().any(|(instance, _)| instance.id == id);
        let removed = gone
            .iter()
            .map(|(instance, cause)| Event::Removed(Arc::clone(instance), *cause));
        let present = change.present().filter_map(|instance| {
            let instance = Arc::clone(instance);
            match before(&instance).filter(|_| !is_gone(&instance.id)) {
                None => Some(Event::Added(instance)),
                Some(before) if before == instance => None,
                Some(before) => Some(Event::Updated { instance, before }),
            }
        });
        removed.chain(present).collect()
    }

    /// The line of an event.
    pub(crate) fn line(&self, output: Output, time: SystemTime) -> String {
        match output {
            Output::Text => format!("{} {self}", utc(time)),
            Output::Jsonl => self.json(time),
        }
    }

    fn json(&self, time: SystemTime) -> String {
        let (kind, instance) = match self {
            Event::Added(instance) => ("added", Some(instance)),
            Event::Updated { instance, .. } => ("updated", Some(instance)),
            Event::Removed(instance, _) => ("removed", Some(instance)),
            Event::Stale(_) => ("stale", None),
            Event::Live => ("live", None),
            Event::Bad { .. } => ("bad", None),
        };
        let mut value = json!({ "time": utc(time), "change": kind });
        let mut set = |name: &str, field: serde_json::Value| {
            if let Some(object) = value.as_object_mut() {
                object.insert(name.to_owned(), field);
            }
        };
        if let Some(instance) = instance {
            set("service", instance.service.as_str().into());
            set("instance", instance_json(instance));
        }
        match self {
            Event::Updated { before, .. } => set("before", instance_json(before)),
            Event::Removed(_, cause) => set("cause", cause_name(*cause).into()),
            Event::Stale(reason) => set("reason", reason.as_str().into()),
            Event::Bad { key, reason } => {
                set("key", key.as_str().into());
                set("reason", reason.as_str().into());
            }
            Event::Added(_) | Event::Live => {}
        }
        json_line(&value)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Added(instance) => {
                write!(f, "+ {} {}", named(instance), instance.status)?;
                for (name, value) in properties(instance) {
                    write!(f, " {name}={}", printable(&value))?;
                }
                Ok(())
            }
            Event::Updated { instance, before } => {
                write!(f, "~ {} {}: ", named(instance), instance.status)?;
                f.write_str(&difference(before, instance))
            }
            Event::Removed(instance, cause) => {
                write!(f, "- {} {}", named(instance), cause_name(*cause))
            }
            Event::Stale(reason) if reason.is_empty() => f.write_str("! stale"),
            Event::Stale(reason) => write!(f, "! stale: {}", printable(reason)),
            Event::Live => f.write_str("! live"),
            Event::Bad { key, reason } => {
                write!(
                    f,
                    "! bad value of {}: {}",
                    printable(key),
                    printable(reason)
                )
            }
        }
    }
}

fn named(instance: &Instance) -> String {
    let Instance {
        service, id, addr, ..
    } = instance;
    let (service, id, addr) = (printable(service), printable(id), printable(addr));
    format!("{service} {id} {addr}")
}

/// The properties that differ from their defaults.
fn properties(instance: &Instance) -> Vec<(&'static str, String)> {
    let weight = match instance.weight {
        1 => String::new(),
        weight => weight.to_string(),
    };
    let properties = [
        ("weight", weight),
        ("zone", instance.zone.clone()),
        ("version", instance.version.clone()),
        ("tags", instance.tags.join(",")),
        ("reason", instance.reason.clone()),
    ];
    properties
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// What differs between two states of an instance.
fn difference(before: &Instance, after: &Instance) -> String {
    let mut text = String::new();
    let mut differ = |name: &str, before: &str, after: &str| {
        if before != after {
            let comma = if text.is_empty() { "" } else { ", " };
            let (before, after) = (shown(before), shown(after));
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{} {before} -> {after}", printable(name));
        }
    };
    differ("status", before.status.as_str(), after.status.as_str());
    differ("reason", &before.reason, &after.reason);
    differ(
        "weight",
        &before.weight.to_string(),
        &after.weight.to_string(),
    );
    differ("addr", &before.addr, &after.addr);
    differ("zone", &before.zone, &after.zone);
    differ("version", &before.version, &after.version);
    differ("tags", &before.tags.join(","), &after.tags.join(","));
    for (map, before, after) in [
        ("meta", &before.meta, &after.meta),
        ("endpoints", &before.endpoints, &after.endpoints),
    ] {
        let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let value = |of: &std::collections::BTreeMap<String, String>| {
                of.get(name).cloned().unwrap_or_default()
            };
            differ(&format!("{map}.{name}"), &value(before), &value(after));
        }
    }
    match (text.is_empty(), before.incarnation() == after.incarnation()) {
        (true, true) => "registered again".to_owned(),
        (true, false) => "restarted".to_owned(),
        (false, true) => text,
        (false, false) => format!("restarted, {text}"),
    }
}

fn shown(value: &str) -> String {
    match value.is_empty() {
        true => "-".to_owned(),
        false => printable(value).into_owned(),
    }
}

/// The name of a cause, as documented.
pub(crate) fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Left => "left",
        Cause::Expired => "expired",
        Cause::Replaced => "replaced",
        Cause::Resync => "resync",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use etcd_blocking::Status;

    use super::*;

    fn instance() -> Instance {
        Instance::new("web", "10.0.0.5:80").id("a")
    }

    #[test]
    fn a_line_says_what_happened_to_whom() {
        let one = Arc::new(instance().zone("z").weight(3).tag("x").tag("y"));
        let other = instance()
            .zone("z")
            .weight(5)
            .tag("x")
            .tag("y")
            .meta("k", "v");
        let other = Arc::new(other.status(Status::Draining).reason("late"));
        let updated = Event::Updated {
            before: one.clone(),
            instance: other,
        };
        for (event, expected) in [
            (
                Event::Added(one.clone()),
                "+ web a 10.0.0.5:80 up weight=3 zone=z tags=x,y",
            ),
            (
                updated,
                "~ web a 10.0.0.5:80 draining: status up -> draining, reason - -> late, weight 3 -> 5, \
                 meta.k - -> v",
            ),
            (
                Event::Removed(one, Cause::Expired),
                "- web a 10.0.0.5:80 expired",
            ),
            (Event::Stale("no route".into()), "! stale: no route"),
            (Event::Live, "! live"),
            (
                Event::Bad {
                    key: "/a\u{1b}".into(),
                    reason: "no JSON".into(),
                },
                "! bad value of /a\\u{1b}: no JSON",
            ),
        ] {
            assert_eq!(event.to_string(), expected);
            assert_eq!(
                event.line(Output::Text, UNIX_EPOCH),
                format!("1970-01-01T00:00:00.000Z {expected}")
            );
            let line = event.line(Output::Jsonl, UNIX_EPOCH);
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(object["time"], "1970-01-01T00:00:00.000Z");
        }
    }

    #[test]
    fn nothing_of_an_instance_is_obeyed_by_a_terminal() {
        let evil = "\u{1b}[2J\n";
        let one = Instance::new(evil, evil)
            .id(evil)
            .zone(evil)
            .version(evil)
            .tag(evil);
        let one = Arc::new(one.reason(evil).meta(evil, evil).endpoint(evil, evil));
        let plain = Arc::new(Instance::new(evil, "a").id(evil));
        for event in [
            Event::Added(one.clone()),
            Event::Updated {
                instance: one.clone(),
                before: plain.clone(),
            },
            Event::Updated {
                instance: plain,
                before: one.clone(),
            },
            Event::Removed(one, Cause::Left),
        ] {
            for output in [Output::Text, Output::Jsonl] {
                let line = event.line(output, UNIX_EPOCH);
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn a_reset_is_the_difference_to_what_is_known() {
        let known = Arc::new(instance());
        let moved = Arc::new(instance().id("b"));
        let elsewhere = Arc::new(Instance::new("web", "10.0.0.9:80").id("b"));
        let change = Change::Reset {
            added: vec![known.clone(), elsewhere.clone()],
            updated: vec![],
            removed: vec![(moved.clone(), Cause::Replaced)],
        };
        let before = |one: &Instance| {
            [&known, &moved]
                .into_iter()
                .find(|known| known.id == one.id)
                .cloned()
        };
        let events = Event::of(&change, before);
        let expected = [
            Event::Removed(moved.clone(), Cause::Replaced),
            Event::Added(elsewhere),
        ];
        assert_eq!(events, expected);
    }
}
