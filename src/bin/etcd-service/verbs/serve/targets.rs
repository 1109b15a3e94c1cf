//! Targets for the service discovery of Prometheus over HTTP. Pure.

use serde_json::{Map, Value, json};

use crate::registry::{ServicePicture, Shown};

/// The target groups of services: one for each instance, as each has labels of its own. With `status`, only instances
/// with this status.
///
/// Prometheus scrapes what is draining or out of service, too, so by default all instances are targets.
pub(super) fn targets<'a>(
    services: impl Iterator<Item = &'a ServicePicture>,
    status: Option<&str>,
) -> Value {
    let mut groups = Vec::new();
    for service in services {
        let instances = service.instances.iter();
        let chosen = instances
            .filter(|shown| status.is_none_or(|status| shown.instance.status.as_str() == status));
        groups.extend(chosen.filter_map(|shown| group(&service.name, shown)));
    }
    Value::Array(groups)
}

/// `None` if the address is not a host with a port, which Prometheus would refuse together with all others.
fn group(service: &str, shown: &Shown) -> Option<Value> {
    let instance = &shown.instance;
    instance.host_and_port()?;
    if instance
        .addr
        .contains(|c: char| c.is_control() || c.is_whitespace() || c == '/')
    {
        return None;
    }
    let mut labels = Map::new();
    let mut label = |name: &str, value: &str| {
        labels.insert(format!("__meta_etcd_{name}"), json!(value));
    };
    for (key, value) in &instance.meta {
        label(&format!("meta_{}", label_name(key)), value);
    }
    label("service", service);
    label("id", &instance.id);
    label("status", instance.status.as_str());
    label("weight", &instance.weight.to_string());
    label("zone", &instance.zone);
    label("version", &instance.version);
    if !instance.tags.is_empty() {
        // Commas around each tag, so that `.*,tag,.*` finds it, as in Prometheus' own discoveries.
        label("tags", &format!(",{},", instance.tags.join(",")));
    }
    Some(json!({ "targets": [instance.addr], "labels": labels }))
}

/// A name that Prometheus accepts.
fn label_name(name: &str) -> String {
    let legal = |c: char| match c.is_ascii_alphanumeric() {
        true => c,
        false => '_',
    };
    name.chars().map(legal).collect()
}

#[cfg(test)]
mod tests {
    use etcd_blocking::{Instance, Status};

    use super::*;
    use crate::verbs::serve::samples::{of, picture};

    fn of_instances(instances: Vec<Instance>, status: Option<&str>) -> Value {
        let shown: Vec<Shown> = instances.into_iter().map(of).collect();
        let shown: Vec<&Shown> = shown.iter().collect();
        let picture = picture(1, &[("a\"b", 1, &shown)]);
        targets(picture.services.values().map(AsRef::as_ref), status)
    }

    #[test]
    fn an_instance_is_a_target_with_labels() {
        let instance = Instance::new("x", "10.0.0.5:80")
            .id("i")
            .zone("z")
            .weight(3);
        let instance = instance.tag("blue").tag("new").meta("build-no", "7\n8");
        let value = of_instances(vec![instance], None);
        let expected = json!([{
            "targets": ["10.0.0.5:80"],
            "labels": {
                "__meta_etcd_service": "a\"b", "__meta_etcd_id": "i", "__meta_etcd_status": "up",
                "__meta_etcd_weight": "3", "__meta_etcd_zone": "z", "__meta_etcd_version": "",
                "__meta_etcd_tags": ",blue,new,", "__meta_etcd_meta_build_no": "7\n8",
            },
        }]);
        assert_eq!(value, expected);
    }

    #[test]
    fn addresses_that_prometheus_refuses_are_left_out() {
        let addresses = ["nohost", "h:80/x", "h p:80", "[::1]:80", "h:80"];
        let instances = addresses
            .map(|addr| Instance::new("x", addr).id(addr))
            .to_vec();
        let value = of_instances(instances, None);
        let found: Vec<_> = value
            .as_array()
            .unwrap()
            .iter()
            .map(|group| &group["targets"][0])
            .collect();
        assert_eq!(found, ["[::1]:80", "h:80"]);
    }

    #[test]
    fn targets_can_be_chosen_by_status() {
        let up = Instance::new("x", "h:1").id("a");
        let draining = Instance::new("x", "h:2").id("b").status(Status::Draining);
        let instances = vec![up, draining];
        assert_eq!(
            of_instances(instances.clone(), None)
                .as_array()
                .unwrap()
                .len(),
            2
        );
        let drained = of_instances(instances, Some("draining"));
        assert_eq!(drained[0]["targets"], json!(["h:2"]));
    }
}
