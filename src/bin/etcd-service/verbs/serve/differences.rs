//! What an event stream sends: everything once, and then what differs. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::json::{bad_values, freshness, instance};
use crate::registry::{Picture, ServicePicture, Shown};

/// Everything. `settings` are what a page has to know about its server.
pub(super) fn snapshot(picture: &Picture, settings: &Value) -> Value {
    let services = picture.services.values();
    let services: Vec<Value> = services.map(|service| difference(None, service)).collect();
    json!({
        "freshness": freshness(picture),
        "settings": settings,
        "services": services,
        "bad_values": bad_values(picture),
    })
}

/// What differs between two pictures.
pub(super) fn differences(before: &Picture, after: &Picture) -> Value {
    let changed = after.services.values();
    let changed = changed.filter(|service| service.version > before.version);
    let changed: Vec<Value> = changed
        .map(|service| {
            let before = before.services.get(&service.name);
            difference(before.map(Arc::as_ref), service)
        })
        .collect();
    let gone = before.services.keys();
    let gone: Vec<&str> = gone
        .filter(|name| !after.services.contains_key(*name))
        .map(AsRef::as_ref)
        .collect();
    let mut value = json!({ "freshness": freshness(after), "services": changed, "gone": gone });
    if before.bad != after.bad
        && let Some(object) = value.as_object_mut()
    {
        object.insert("bad_values".into(), bad_values(after));
    }
    value
}

fn difference(before: Option<&ServicePicture>, after: &ServicePicture) -> Value {
    let shown = before.map(|before| before.instances.as_slice());
    let known = by_id(shown.unwrap_or_default());
    let current = by_id(&after.instances);
    let changed = after.instances.iter().filter(|shown| {
        let known = known.get(shown.instance.id.as_str());
        !known.is_some_and(|known| Arc::ptr_eq(&known.instance, &shown.instance))
    });
    let removed = known.keys().filter(|id| !current.contains_key(**id));
    json!({
        "name": after.name.as_ref(),
        "changed": changed.map(instance).collect::<Vec<_>>(),
        "removed": removed.collect::<Vec<_>>(),
        "ends": {
            "left": after.counts.left,
            "expired": after.counts.expired,
            "replaced": after.counts.replaced,
            "resync": after.counts.resync,
            "unknown": after.counts.unknown,
        },
    })
}

fn by_id(shown: &[Shown]) -> BTreeMap<&str, &Shown> {
    let shown = shown.iter();
    shown
        .map(|shown| (shown.instance.id.as_str(), shown))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::serve::samples::{picture, shown};

    #[test]
    fn the_difference_has_only_what_differs() {
        let (a, b, c) = (shown("a"), shown("b"), shown("c"));
        let before = picture(
            1,
            &[("api", 1, &[&a, &b]), ("old", 1, &[]), ("web", 1, &[&a])],
        );
        let after = picture(2, &[("api", 2, &[&b, &c]), ("web", 1, &[&a])]);
        let value = differences(&before, &after);
        assert_eq!(value["gone"], json!(["old"]));
        assert_eq!(value["services"].as_array().unwrap().len(), 1);
        let api = &value["services"][0];
        assert_eq!(api["name"], "api");
        assert_eq!(api["removed"], json!(["a"]));
        assert_eq!(api["changed"].as_array().unwrap().len(), 1);
        assert_eq!(api["changed"][0]["id"], "c");
        assert!(value.get("bad_values").is_none());
    }

    #[test]
    fn a_snapshot_has_everything() {
        let a = shown("a");
        let value = snapshot(&picture(1, &[("api", 1, &[&a])]), &json!({ "x": 1 }));
        assert_eq!(value["services"][0]["changed"][0]["id"], "a");
        assert_eq!(value["freshness"]["state"], "live");
        assert_eq!(value["settings"]["x"], 1);
    }
}
