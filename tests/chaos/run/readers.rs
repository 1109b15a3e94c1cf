//! Readers of watches: each begins another watch when one has ended.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use etcd_blocking::{Client, EventKind, Get, Revision, Watch as Request, WatchResponse, Watcher};
use fastrand::Rng;

use super::clients::{self, PREFIX, range};
use super::stage::{Stage, recorded};
use crate::history::{Event, Item, Keys, Kv, Line, Recorder, Watch, WatchEnd, now};

const PAUSE: Duration = Duration::from_millis(50);

/// What a reader watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// After a list, with previous values.
    Listed,
    /// Everything below the prefix that is written from now on; without deletions.
    FromNow,
    /// From a revision in the past, which may be compacted; without puts.
    Past,
    /// After a list, and slow.
    Slow,
    /// One key.
    Single,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Listed,
        Kind::FromNow,
        Kind::Past,
        Kind::Slow,
        Kind::Single,
    ];
}

/// The name under which a reader reports that it has seen the end: 0 or 1.
pub fn name(chain: u32) -> String {
    format!("watch-{chain}")
}

/// Reads watches until the run is over. `direct` has no proxy.
pub fn follow(stage: &Stage, client: &Client, direct: &Client, chain: u32, kind: Kind) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let recorder = stage.file(&name(chain));
    let reached = stage.reached(&name(chain));
    let mut random = Rng::with_seed(stage.seed ^ u64::from(chain) << 48);
    while !stage.is_over() {
        let number = NEXT.fetch_add(1, SeqCst);
        reached.store(0, SeqCst);
        match begin(client, direct, chain, kind, number, &mut random) {
            Some((watch, watcher, at_end)) => {
                let listed = watch.listed.iter().flatten().any(is_end);
                reached.store(i64::from(listed || at_end), SeqCst);
                recorder.write(Line::Watch(watch));
                read(stage, &recorder, &watcher, number, kind, || {
                    reached.store(1, SeqCst)
                });
            }
            None => thread::sleep(PAUSE),
        }
    }
}

fn begin(
    client: &Client,
    direct: &Client,
    chain: u32,
    kind: Kind,
    number: u64,
    random: &mut Rng,
) -> Option<(Watch, Watcher, bool)> {
    let keys = match kind {
        Kind::Single => Keys::one(&format!("{PREFIX}0")),
        _ => Keys::below(PREFIX),
    };
    // Before the first request: the store may be replaced between the list and the watch.
    let t = now();
    let request = Request::range(range(&keys));
    let (mut listed, mut at_end) = (None, false);
    let mut newest = |client: &Client| {
        let read = client.call(Get::key(clients::end_keys()[0].clone())).ok()?;
        at_end = read.kvs().iter().map(recorded).any(|kv| is_end(&kv));
        Some(read.header().revision.get())
    };
    let (request, mut from, or_earlier) = match kind {
        Kind::Listed | Kind::Slow | Kind::Single => {
            let list = client.call(Get::range(range(&keys))).ok()?;
            let revision = list.header().revision;
            listed = Some(list.kvs().iter().map(recorded).collect());
            (request.after(revision), revision.get() + 1, false)
        }
        Kind::FromNow => (request.no_delete(), 0, true),
        Kind::Past => {
            let at = newest(client)?;
            let from = (at - random.i64(-20..100)).max(1);
            (
                request.no_put().start_revision(Revision::new(from)),
                from,
                false,
            )
        }
    };
    let request = match kind {
        Kind::Listed => request.prev_kv().progress_notify(),
        _ => request,
    };
    let watcher = client.watch(request).ok()?;
    if or_earlier {
        // All that is written after this read comes.
        from = newest(direct)? + 1;
    }
    let watch = Watch {
        watch: number,
        chain,
        t,
        keys,
        from,
        or_earlier,
        prev_kv: kind == Kind::Listed,
        no_put: kind == Kind::Past,
        no_delete: kind == Kind::FromNow,
        listed,
    };
    Some((watch, watcher, at_end))
}

fn read(
    stage: &Stage,
    recorder: &Recorder,
    watcher: &Watcher,
    number: u64,
    kind: Kind,
    mut ended: impl FnMut(),
) {
    let mut count = 0_u32;
    while !stage.is_over() {
        let Ok(item) = watcher.recv_timeout(PAUSE) else {
            if kind == Kind::Listed {
                watcher.request_progress();
            }
            continue;
        };
        let t = now();
        match item {
            Ok(response) => {
                let events = events(&response);
                if events.iter().any(is_end_event) {
                    ended();
                }
                recorder.write(Line::Item(Item {
                    watch: number,
                    t,
                    revision: response.revision().get(),
                    events,
                }));
            }
            Err(error) => {
                recorder.write(Line::WatchEnd(WatchEnd {
                    watch: number,
                    t,
                    kind: format!("{:?}", error.kind()),
                    text: error.to_string(),
                }));
                return;
            }
        }
        count += 1;
        if kind == Kind::Slow && stage.works() && count.is_multiple_of(20) {
            thread::sleep(10 * PAUSE);
        }
    }
}

/// Whether a key has the value that is written last.
fn is_end(kv: &Kv) -> bool {
    kv.value.starts_with(clients::END)
}

fn is_end_event(event: &Event) -> bool {
    is_end(&event.kv) || event.del && event.kv.key == clients::end_keys()[1]
}

fn events(response: &WatchResponse) -> Vec<Event> {
    let events = response.events().iter().map(|event| {
        let del = event.kind() != EventKind::Put;
        Event {
            del,
            kv: recorded(event.kv()),
            prev: event.prev_kv().map(recorded),
        }
    });
    events.collect()
}
