//! Server-sent events: the picture of all services, and then each difference.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::differences::{differences, snapshot};
use super::http::Connection;
use crate::registry::Registry;

/// The shortest time between two events.
const PACE: Duration = Duration::from_millis(250);

/// The time after which a comment is sent if there is no event.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Sends events until the client is gone; with `is_once` only the first.
pub(super) fn send_events(
    mut connection: Connection,
    registry: &Registry,
    settings: &Value,
    is_once: bool,
) {
    let mut picture = registry.picture();
    let first = event("snapshot", &snapshot(&picture, settings));
    let mut result = connection.send(&first);
    let mut sent_at = Instant::now();
    while result.is_ok() && !is_once {
        let left = KEEP_ALIVE.saturating_sub(sent_at.elapsed());
        let newest = registry.wait(picture.version, left);
        if newest.version != picture.version {
            let changed = differences(&picture, &newest);
            result = connection.send(&event("change", &changed));
            picture = Arc::clone(&newest);
        } else {
            // It also finds out whether the client is still there.
            result = connection.send(": nothing changed\n\n");
        }
        sent_at = Instant::now();
        thread::sleep(PACE);
    }
    if result.is_ok() {
        connection.end();
    }
}

/// JSON has no line break outside of its strings, and none within, so it is one line.
fn event(name: &str, value: &Value) -> String {
    format!("event: {name}\ndata: {value}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_etcd_cannot_end_an_event() {
        let text = event("x", &Value::from("a\n\ndata: b\r\nevent: c"));
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains('\r'));
    }
}
