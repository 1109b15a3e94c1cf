//! Metrics in Prometheus' text format. Pure.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use etcd_blocking::Status;
use etcd_blocking::metrics::Metrics;

use crate::registry::Picture;

/// The upper ends of the buckets of calls, in seconds.
const BUCKETS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// The statuses that instances can have, so that each has a number, also if it is zero.
const STATUSES: [Status; 6] = [
    Status::Starting,
    Status::Up,
    Status::Draining,
    Status::OutOfService,
    Status::Maintenance,
    Status::Suspect,
];

/// What the server counts about itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerCounts {
    pub(super) requests: u64,
    pub(super) event_streams: usize,
}

/// All metrics. Before etcd has answered there are none about services: no number is better than a wrong one.
pub(super) fn metrics_text(picture: &Picture, client: &Metrics, server: ServerCounts) -> String {
    let mut text = Text::default();
    about_services(&mut text, picture);
    about_client(&mut text, client);
    text.family(
        "etcd_service_http_requests_total",
        "counter",
        "Requests that this server answered.",
    );
    text.sample("etcd_service_http_requests_total", &[], server.requests);
    text.family(
        "etcd_service_event_streams",
        "gauge",
        "Event streams that are open.",
    );
    text.sample("etcd_service_event_streams", &[], server.event_streams);
    text.0
}

fn about_services(text: &mut Text, picture: &Picture) {
    text.family(
        "etcd_service_live",
        "gauge",
        "1 if the lists are up to date, 0 if etcd is away.",
    );
    text.sample("etcd_service_live", &[], u8::from(picture.is_live()));
    let Some(age) = picture.age() else {
        return;
    };
    let name = "etcd_service_staleness_seconds";
    text.family(
        name,
        "gauge",
        "For how long the lists may have been outdated.",
    );
    text.sample(name, &[], age.as_secs_f64());
    text.family(
        "etcd_service_services",
        "gauge",
        "Services that have instances.",
    );
    let with_instances = picture.services.values();
    let with_instances = with_instances.filter(|service| !service.instances.is_empty());
    text.sample("etcd_service_services", &[], with_instances.count());
    let name = "etcd_service_bad_values_total";
    text.family(name, "counter", "Keys whose values are not instances.");
    text.sample(name, &[], picture.bad_total);
    let name = "etcd_service_instances";
    text.family(name, "gauge", "Instances of a service by their status.");
    for service in picture.services.values() {
        for status in STATUSES {
            let labels = [("service", &*service.name), ("status", status.as_str())];
            text.sample(name, &labels, service.with_status(status));
        }
    }
    let name = "etcd_service_changes_total";
    text.family(name, "counter", "Changes of the instances of a service.");
    for service in picture.services.values() {
        let counts = &service.counts;
        for (change, count) in [("added", counts.added), ("updated", counts.updated)] {
            text.sample(
                name,
                &[("service", &service.name), ("change", change)],
                count,
            );
        }
    }
    let name = "etcd_service_removals_total";
    text.family(
        name,
        "counter",
        "Removals of instances of a service by their cause.",
    );
    for service in picture.services.values() {
        let counts = &service.counts;
        for (cause, count) in [
            ("left", counts.left),
            ("expired", counts.expired),
            ("replaced", counts.replaced),
            ("resync", counts.resync),
            ("unknown", counts.unknown),
        ] {
            text.sample(name, &[("service", &service.name), ("cause", cause)], count);
        }
    }
}

fn about_client(text: &mut Text, client: &Metrics) {
    let name = "etcd_client_calls_total";
    text.family(
        name,
        "counter",
        "Calls of this program to etcd, by outcome.",
    );
    for call in &client.calls {
        text.sample(name, &[("verb", call.verb), ("outcome", "ok")], call.ok);
        for (kind, count) in &call.errors {
            let kind = format!("{kind:?}");
            text.sample(name, &[("verb", call.verb), ("outcome", &kind)], count);
        }
    }
    let name = "etcd_client_call_seconds";
    text.family(name, "histogram", "How long calls to etcd took.");
    let latency = client.latency();
    let bucket = format!("{name}_bucket");
    for end in BUCKETS {
        let below = latency.below(Duration::from_secs_f64(end));
        text.sample(&bucket, &[("le", &end.to_string())], below);
    }
    text.sample(&bucket, &[("le", "+Inf")], latency.count());
    text.sample(&format!("{name}_sum"), &[], latency.sum().as_secs_f64());
    text.sample(&format!("{name}_count"), &[], latency.count());
    let name = "etcd_client_connections";
    text.family(name, "gauge", "Open connections to etcd.");
    for endpoint in &client.endpoints {
        text.sample(name, &[("endpoint", &endpoint.endpoint)], endpoint.open);
    }
    let name = "etcd_client_failed_dials_total";
    text.family(name, "counter", "Attempts to connect to etcd that failed.");
    for endpoint in &client.endpoints {
        text.sample(
            name,
            &[("endpoint", &endpoint.endpoint)],
            endpoint.failed_dials,
        );
    }
    let (watches, views) = (&client.watches, &client.views);
    for (name, kind, help, value) in [
        (
            "etcd_client_retries_total",
            "counter",
            "Attempts that were followed by another.",
            client.retries,
        ),
        (
            "etcd_client_watches",
            "gauge",
            "Open watches.",
            watches.open,
        ),
        (
            "etcd_client_watch_events_total",
            "counter",
            "Events that watches delivered.",
            watches.delivered,
        ),
        (
            "etcd_client_watch_resumes_total",
            "counter",
            "Watches that were resumed.",
            watches.resumes,
        ),
        (
            "etcd_client_view_audits_total",
            "counter",
            "Audits of lists of services.",
            views.audits,
        ),
        (
            "etcd_client_view_repairs_total",
            "counter",
            "Audits that found a difference to etcd.",
            views.repairs,
        ),
        (
            "etcd_client_mass_expiries_total",
            "counter",
            "Times at which many instances expired at once.",
            views.mass_expiries,
        ),
    ] {
        text.family(name, kind, help);
        text.sample(name, &[], value);
    }
}

/// Text in Prometheus' format.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", escaped(text)));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
    }
}

/// The value of a label, as the format escapes it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::serve::samples::{picture, shown};

    fn text(picture: &Picture) -> String {
        metrics_text(picture, &Metrics::default(), ServerCounts::default())
    }

    #[test]
    fn instances_are_counted_by_status() {
        let (a, b) = (shown("a"), shown("b"));
        let text = text(&picture(1, &[("api", 1, &[&a, &b])]));
        for line in [
            "etcd_service_live 1",
            "etcd_service_staleness_seconds 0",
            "etcd_service_services 1",
            "etcd_service_instances{service=\"api\",status=\"up\"} 2",
            "etcd_service_instances{service=\"api\",status=\"draining\"} 0",
            "etcd_service_removals_total{service=\"api\",cause=\"expired\"} 0",
            "etcd_client_call_seconds_bucket{le=\"+Inf\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn values_of_labels_are_escaped_and_each_family_has_one_type() {
        let a = shown("a");
        let text = text(&picture(1, &[("a\"b\\c\nd", 1, &[&a])]));
        assert!(
            text.contains("{service=\"a\\\"b\\\\c\\nd\",status=\"up\"} 1"),
            "{text}"
        );
        let mut types: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .collect();
        let count = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), count);
        for line in text.lines() {
            let is_sample = line
                .rsplit_once(' ')
                .is_some_and(|(_, value)| value.parse::<f64>().is_ok());
            assert!(line.starts_with('#') || is_sample, "{line}");
        }
    }

    #[test]
    fn nothing_is_said_about_services_before_etcd_has_answered() {
        let text = text(&Picture::unknown());
        assert!(text.contains("etcd_service_live 0\n"));
        assert!(!text.contains("etcd_service_services"));
    }
}
