//! The truth: a watch of everything at each member, from the first revision on and without a proxy.

use std::io::{BufRead, BufReader, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::gateway::{Gateway, Stream, base64};
use super::stage::Stage;
use crate::history::{Event, Kv, Line, Truth, now};

const PAUSE: Duration = Duration::from_millis(20);

/// The name under which a member reports how far it is.
pub fn name(member: u32) -> String {
    format!("truth-{member}")
}

/// Watches a member until the run is over.
pub fn start(stage: &Arc<Stage>, member: u32, gateway: Gateway) -> JoinHandle<()> {
    let stage = Arc::clone(stage);
    thread::spawn(move || watch(&stage, member, &gateway))
}

fn watch(stage: &Stage, member: u32, gateway: &Gateway) {
    let recorder = stage.file(&name(member));
    let reached = stage.reached(&name(member));
    let (mut era, mut next) = (0, 1);
    while !stage.is_over() {
        let now_in = stage.era.load(SeqCst);
        if now_in != era {
            (era, next) = (now_in, 1);
            reached.store(0, SeqCst);
        }
        let Ok(stream) = gateway.watch(next) else {
            thread::sleep(PAUSE);
            continue;
        };
        let mut skipped_to = 0;
        read(stage, stream, |reply| {
            // A connection that was made while a store was replaced may be to either store.
            if stage.era.load(SeqCst) != era {
                return false;
            }
            if let Some(first) = number(reply, "compact_revision").filter(|at| *at > 0) {
                // A revision before the first may be reported still, and is not requested.
                (next, skipped_to) = (first, first);
                return false;
            }
            let events: Vec<Event> = reply["events"]
                .as_array()
                .into_iter()
                .flatten()
                .map(event)
                .collect();
            if let Some(last) = events.last().map(|event| event.kv.modified) {
                recorder.write(Line::Truth(Truth {
                    member,
                    era,
                    t: now(),
                    skipped_to: 0,
                    events,
                }));
                next = last + 1;
                reached.store(last, SeqCst);
            }
            true
        });
        if skipped_to > 0 {
            recorder.write(Line::Truth(Truth {
                member,
                era,
                t: now(),
                skipped_to,
                events: Vec::new(),
            }));
        }
        thread::sleep(PAUSE);
    }
}

/// Reads replies, one a line, until the stream ends or `take` returns false.
fn read(stage: &Stage, stream: Box<dyn Stream>, mut take: impl FnMut(&Value) -> bool) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while !stage.is_over() {
        match stream.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if !line.ends_with(b"\n") => return,
            Ok(_) => {}
            // What was read is in `line`.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => return,
        }
        let reply: Value = serde_json::from_slice(&line).unwrap();
        line.clear();
        if reply.get("error").is_some() || !take(&reply["result"]) {
            return;
        }
    }
}

fn number(of: &Value, field: &str) -> Option<i64> {
    of.get(field)?.as_str()?.parse().ok()
}

fn text(of: &Value, field: &str) -> String {
    let encoded = of.get(field).and_then(Value::as_str).unwrap_or_default();
    String::from_utf8_lossy(&base64(encoded).unwrap()).into_owned()
}

fn event(event: &Value) -> Event {
    let kv = &event["kv"];
    let number = |field| number(kv, field).unwrap_or_default();
    Event {
        del: event.get("type").and_then(Value::as_str) == Some("DELETE"),
        kv: Kv {
            key: text(kv, "key"),
            value: text(kv, "value"),
            create: number("create_revision"),
            modified: number("mod_revision"),
            version: number("version"),
            lease: number("lease"),
        },
        prev: None,
    }
}
