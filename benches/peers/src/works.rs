//! The works, with their sizes in a full and in a quick run.

use peers::params::Params;

/// What the runner does before, during and after a run of a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    /// The data of the server is enough.
    Data,
    /// Nothing, and the history is compacted after each run, because its values are large.
    Compacted,
    /// Events are put once the peer is ready.
    Live { events: usize, keys: usize },
    /// There is a history of events.
    Past { events: usize },
    /// There are leases with known ids, and what is left of them is counted at the end.
    Leases { count: usize, ttl: usize },
    /// The keys of this many instances.
    Instances { count: usize },
    /// The peer only holds clients, and is observed from outside.
    Idle,
}

/// One row of the tables.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) name: String,
    /// What an operation is.
    pub(crate) unit: &'static str,
    /// The name by which a peer knows the work.
    pub(crate) verb: &'static str,
    pub(crate) params: Params,
    pub(crate) feed: Feed,
    /// Whether something else than the client determines the rate.
    pub(crate) paced: bool,
}

fn work(name: impl Into<String>, verb: &'static str, params: &[(&str, &str)]) -> Work {
    Work {
        name: name.into(),
        unit: "call",
        verb,
        params: params.iter().copied().collect(),
        feed: Feed::Data,
        paced: false,
    }
}

impl Work {
    fn of(self, unit: &'static str, feed: Feed) -> Self {
        Self { unit, feed, ..self }
    }

    fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.params.set(key, value);
        self
    }
}

/// All works, in the order in which they run.
pub(crate) fn all(quick: bool) -> Vec<Work> {
    let pick = |full: usize, small: usize| if quick { small } else { full };
    let span = |work: Work| {
        let (warm, secs) = if quick { ("0.5", "0.5") } else { ("2", "2") };
        let most = if work.params.has("most") {
            work
        } else {
            work.with("most", 100_000_000)
        };
        most.with("warm", warm).with("secs", secs)
    };
    let mut works = Vec::new();
    for threads in ["1", "16"] {
        for verb in ["get", "put", "txn"] {
            let name = format!(
                "{verb}, {threads} thread{}",
                if threads == "1" { "" } else { "s" }
            );
            works.push(span(work(
                name,
                verb,
                &[("threads", threads), ("size", "256")],
            )));
        }
    }
    for verb in ["get", "put"] {
        let name = format!("{verb}, 64 in flight");
        let params = [("verb", verb), ("flight", "64"), ("size", "256")];
        works.push(span(work(name, "pipeline", &params)));
    }
    // The number of large puts is limited, because etcd keeps its newest entries in memory.
    for (size, text, most) in [
        (32, "32 B", None),
        (4096, "4 KiB", None),
        (65536, "64 KiB", Some(500)),
        (1 << 20, "1 MiB", Some(40)),
    ] {
        for verb in ["get", "put"] {
            let sized =
                work(format!("{verb} of {text}"), verb, &[("threads", "1")]).with("size", size);
            let sized = match most {
                Some(most) if verb == "put" => sized.with("most", most).of("call", Feed::Compacted),
                _ => sized,
            };
            works.push(span(sized));
        }
    }
    works.push(span(work(
        "range of 20,000 keys",
        "range",
        &[("threads", "1"), ("size", "20000")],
    )));
    let keys = pick(1_000_000, 50_000);
    works.push(
        work(format!("pages of {} keys", thousands(keys)), "pages", &[])
            .with("keys", keys)
            .of("key", Feed::Data),
    );
    let events = pick(200_000, 20_000);
    for (watchers, text) in [(1, "1 watch"), (1_000, "1,000 watches")] {
        let live = work(format!("events of {text}"), "watch", &[])
            .with("watchers", watchers)
            .with("events", events);
        let mut live = live.of(
            "event",
            Feed::Live {
                events,
                keys: 1_000,
            },
        );
        live.paced = true;
        works.push(live);
    }
    let events = pick(1_000_000, 50_000);
    let past = work(
        format!("replay of {} events", thousands(events)),
        "replay",
        &[],
    )
    .with("events", events);
    works.push(past.of("event", Feed::Past { events }));
    let kept: &[(usize, usize)] = if quick {
        &[(1_000, 9), (10_000, 9)]
    } else {
        &[(1_000, 9), (10_000, 9), (100_000, 60)]
    };
    for &(count, ttl) in kept {
        let leases = work(
            format!("renewals of {} leases", thousands(count)),
            "leases",
            &[],
        );
        let leases = leases
            .with("count", count)
            .with("ttl", ttl)
            .with("secs", ttl);
        let mut leases = leases.of("renewal", Feed::Leases { count, ttl });
        leases.paced = true;
        works.push(leases);
    }
    works.push(span(work(
        "grant and put, 16 threads",
        "register",
        &[("threads", "16"), ("size", "256")],
    )));
    let count = pick(100_000, 5_000);
    let list = work(
        format!("first list of {} instances", thousands(count)),
        "list",
        &[],
    )
    .with("count", count);
    works.push(list.of("instance", Feed::Instances { count }));
    let picks = work(
        format!("pick of {} instances", thousands(count)),
        "pick",
        &[("secs", "0.5")],
    )
    .with("count", count);
    works.push(picks.of("pick", Feed::Instances { count }));
    works.push(
        work("connect, to the first answer", "connect", &[])
            .with("count", pick(200, 30))
            .of("client", Feed::Data),
    );
    works.push(
        work("idle", "idle", &[])
            .with("clients", pick(100, 20))
            .of("", Feed::Idle),
    );
    works
}

/// A number with commas.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
