//! The examples, run as processes: output and exit codes.
//!
//! `cargo test` builds them; `cargo test --test it` does not, and needs `cargo build --examples`.

mod run;
mod usage;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::gateway;
use crate::support::wait::eventually;
use run::{Running, SOON, Scene};

/// Runs the example `register` for an instance of `web`, with a TTL of 2 s.
pub(crate) fn register(etcd: &LocalEtcd, codec: &str, addr: &str) -> Crashing {
    register_with(etcd, codec, addr, &[])
}

pub(crate) fn register_with(etcd: &LocalEtcd, codec: &str, addr: &str, more: &[&str]) -> Crashing {
    let args = [
        "--service",
        "web",
        "--addr",
        addr,
        "--codec",
        codec,
        "--ttl",
        "2",
    ];
    let endpoint = etcd.endpoint();
    let env = [("ETCD_ENDPOINTS", endpoint.as_str())];
    Crashing(Running::start("register", &[&args, more].concat(), &env))
}

/// A program that registered, and is to be killed.
#[derive(Debug)]
pub(crate) struct Crashing(Running);

impl Crashing {
    /// Ends it as `kill -9` does.
    pub(crate) fn kill(self) {
        self.0.signal(Signal::KILL);
    }
}

#[test]
fn quickstart_shows_every_step_and_ends_with_success() {
    let quickstart = Running::start("quickstart", &[], &[]);
    let (code, lines, stderr) = quickstart.finish(Duration::from_secs(60));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{lines:#?}");
    let mut rest = lines.iter();
    for step in [
        "etcd answers at http://",
        "ok: all three are discovered",
        "ok: each of the three was called",
        "view: ~ web-3 out_of_service disk: full",
        "ok: web-3 is out of service (disk: full) and is not called",
        "view: ~ web-3 up",
        "ok: web-3 has recovered",
        "killed web-2 with -9",
        "view: - web-2 Expired",
        "ok: web-2 was gone",
        "asked web-3 to leave",
        "view: - web-3 Left",
        "ok: web-3 was gone",
        "with all its data wiped",
        "later web-1 is registered again and the view follows",
        "calls were answered",
        "ok: every call was answered",
        "ok: the last one has left",
    ] {
        assert!(
            rest.any(|line| line.contains(step)),
            "no {step:?}, in its place, in {lines:#?}"
        );
    }
    for name in ["web-1", "web-2", "web-3"] {
        let answer = format!("answered: {name}, pid ");
        assert!(lines.iter().any(|line| line.contains(&answer)), "{name}");
    }
}

#[test]
fn the_short_examples_print_the_expected_output() {
    let last_lines = [
        ("balance", "used again: true"),
        ("cache", "100,000 reads in "),
        ("health", "picked: true"),
        ("leader", "both candidates have led"),
        ("lock", "the report was written 3 times"),
        ("select", "all three results were seen"),
        ("testing", "without its leader: true"),
        ("tls", "Tls: "),
        ("transaction", "b has 50"),
        ("watch_config", "at the end there are 8 workers"),
    ];
    for examples in last_lines.chunks(4) {
        let start = |name| (name, Running::start(name, &[], &[]));
        let running: Vec<_> = examples.iter().map(|(name, _)| start(*name)).collect();
        for ((name, example), (_, last)) in running.into_iter().zip(examples) {
            let (code, lines, stderr) = example.finish(Duration::from_secs(60));
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{name}: {lines:#?}");
            let begins = lines.last().is_some_and(|line| line.starts_with(last));
            assert!(begins, "{name}: no {last:?} at the end of {lines:#?}");
        }
    }
}

#[test]
fn a_stopped_quickstart_leaves_no_process() {
    let quickstart = Running::start("quickstart", &[], &[]);
    let etcd = quickstart.line(|line| line.contains("etcd answers at"));
    let mut addrs = vec![etcd.rsplit_once("http://").unwrap().1.to_owned()];
    while addrs.len() < 4 {
        let line = quickstart.line(|line| line.contains("view: + web-"));
        addrs.push(line.rsplit_once(' ').unwrap().1.to_owned());
    }
    quickstart.signal(Signal::TERM);
    let (code, _, stderr) = quickstart.finish(SOON);
    assert_eq!(
        (code, stderr.as_str()),
        (Some(1), "quickstart: stopped by a signal\n")
    );
    for addr in addrs {
        let addr: SocketAddr = addr.parse().unwrap();
        eventually(SOON, "the port is closed", || {
            TcpStream::connect(addr).is_err().then_some(())
        });
    }
}

#[test]
fn register_and_discover_print_added_and_removed_instances() {
    for codec in ["native", "plain"] {
        let scene = Scene::new(codec);
        let discover = scene.discover(&[]);
        let stays = scene.register("127.0.0.1:8080", &[]);
        discover.line(|line| line == "+ 127.0.0.1:8080");
        let dies = scene.register("127.0.0.1:8081", &["--ttl", "2"]);
        discover.line(|line| line == "+ 127.0.0.1:8081");
        for registered in [&stays, &dies] {
            registered.line(|line| line.starts_with("registered: "));
        }

        let once = scene.discover(&["--once"]);
        let (code, lines, stderr) = once.finish(SOON);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert_eq!(lines, ["127.0.0.1:8080", "127.0.0.1:8081"]);

        dies.signal(Signal::KILL);
        discover.line(|line| line == "- 127.0.0.1:8081 Expired");
        stays.signal(Signal::TERM);
        discover.line(|line| line == "- 127.0.0.1:8080 Left");
        let (code, lines, stderr) = stays.finish(SOON);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{lines:?}");
        assert_eq!(
            lines.last().map(String::as_str),
            Some("closed: it has left")
        );

        discover.signal(Signal::INT);
        let (code, lines, stderr) = discover.finish(SOON);
        assert_eq!(
            (code, stderr.as_str(), lines.len()),
            (Some(0), "", 0),
            "{lines:?}"
        );
    }
}

// Fault: F14
#[test]
fn a_stopped_process_shows_no_false_expiry_and_registers_again() {
    let scene = Scene::new("native");
    let discover = scene.discover(&[]);
    let register = |addr: &str, ttl: &str| {
        let registered = scene.register(addr, &["--ttl", ttl]);
        discover.line(|line| line == format!("+ {addr}"));
        registered
    };
    let stays = register("127.0.0.1:8090", "2");
    let leaves = register("127.0.0.1:8091", "600");
    let dies = register("127.0.0.1:8092", "2");
    // The reader is stopped for longer than the time to live of those that stay.
    discover.signal(Signal::STOP);
    let (code, _, _) = {
        leaves.signal(Signal::TERM);
        leaves.finish(SOON)
    };
    assert_eq!(code, Some(0));
    dies.signal(Signal::KILL);
    let etcd = etcd_blocking::Client::connect([scene.etcd.endpoint()]).unwrap();
    eventually(SOON, "it has expired", || {
        let key = etcd.get("/services/web/127.0.0.1:8092").unwrap();
        key.is_none().then_some(())
    });
    let joins = scene.register("127.0.0.1:8093", &[]);
    joins.line(|line| line.starts_with("registered: "));
    discover.signal(Signal::CONT);
    let mut wanted = vec![
        "+ 127.0.0.1:8093",
        "- 127.0.0.1:8091 Left",
        "- 127.0.0.1:8092 Expired",
    ];
    while !wanted.is_empty() {
        let line = discover.line(|_| true);
        assert!(!line.contains("8090"), "a false expiry: {line}");
        wanted.retain(|other| *other != line);
    }
    // A program that is stopped expires, and registers again when it continues.
    stays.signal(Signal::STOP);
    discover.line(|line| line == "- 127.0.0.1:8090 Expired");
    stays.signal(Signal::CONT);
    discover.line(|line| line == "+ 127.0.0.1:8090");
}

/// `docs/platforms.md` has the limits. `.ci/static` builds the program.
#[test]
fn a_static_register_is_small_and_uses_little_memory() {
    let Ok(program) = std::env::var("ETCD_BLOCKING_STATIC") else {
        eprintln!("skipped without ETCD_BLOCKING_STATIC, the program that .ci/static builds");
        return;
    };
    let size = std::fs::metadata(&program).unwrap().len();
    // With all eleven formats, which it chooses by name: 1.93 MB.
    assert!(size < 2_000_000, "{size} bytes");

    let etcd = LocalEtcd::start().unwrap();
    let args = ["--service", "web", "--addr", "127.0.0.1:8080"];
    let register = Running::start(&program, &args, &[("ETCD_ENDPOINTS", &etcd.endpoint())]);
    register.line(|line| line.starts_with("registered: "));
    let resident = register.resident_kib();
    assert!(resident < 2_048, "{resident} KiB");
    register.signal(Signal::TERM);
    let (code, _, stderr) = register.finish(SOON);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    eprintln!("{size} bytes, {resident} KiB of memory");
}

#[test]
fn register_and_discover_recover_after_etcd_lost_all_data() {
    let mut scene = Scene::new("native");
    let register = scene.register("127.0.0.1:8080", &[]);
    register.line(|line| line.starts_with("registered: "));
    let discover = scene.discover(&[]);
    discover.line(|line| line == "+ 127.0.0.1:8080");
    scene.etcd.kill().unwrap();
    discover.line(|line| line.starts_with("! stale"));
    scene.etcd.restart_wiped().unwrap();
    register.line(|line| line.starts_with("lost: "));
    register.line(|line| line.starts_with("registered: "));
    discover.line(|line| line.starts_with("! live"));
    let (code, lines, _) = scene.discover(&["--once"]).finish(SOON);
    assert_eq!((code, lines), (Some(0), vec!["127.0.0.1:8080".to_owned()]));
}

/// The requests of a typical Go program: the key `/web/ADDR` holds `ADDR`, on a lease that is revoked to
/// leave; it reads all keys that begin with `/web`.
#[test]
fn the_plain_codec_and_a_go_program_discover_each_other() {
    let scene = Scene::new("plain");
    let discover = scene.discover(&[]);

    let lease = go(&scene.etcd, "lease/grant", &json!({"TTL": 5}))["ID"].clone();
    let put = json!({
        "key": base64("/web/127.0.0.1:9000"),
        "value": base64("127.0.0.1:9000"),
        "lease": lease,
    });
    go(&scene.etcd, "kv/put", &put);
    discover.line(|line| line == "+ 127.0.0.1:9000");

    let register = scene.register("127.0.0.1:8080", &[]);
    discover.line(|line| line == "+ 127.0.0.1:8080");
    let found = go_program_lists(&scene.etcd);
    let expected = [
        ("/web/127.0.0.1:8080", "127.0.0.1:8080"),
        ("/web/127.0.0.1:9000", "127.0.0.1:9000"),
    ]
    .map(|(key, value)| (base64(key), base64(value)));
    assert_eq!(found, expected);

    go(&scene.etcd, "lease/revoke", &json!({"ID": lease}));
    discover.line(|line| line.starts_with("- 127.0.0.1:9000 "));
    register.signal(Signal::TERM);
    discover.line(|line| line == "- 127.0.0.1:8080 Left");
    assert_eq!(go_program_lists(&scene.etcd), []);
}

#[test]
fn the_keys_are_below_the_prefix() {
    let scene = Scene::new("plain");
    let register = scene.register("127.0.0.1:8080", &["--prefix", "/demo/"]);
    register.line(|line| line.starts_with("registered: "));
    let keys = json!({"key": base64("/demo/web/127.0.0.1:8080")});
    assert_eq!(go(&scene.etcd, "kv/range", &keys)["count"], "1");
    let elsewhere = scene.discover(&["--once"]).finish(SOON);
    assert_eq!((elsewhere.0, elsewhere.1.len()), (Some(0), 0));
    let there = scene
        .discover(&["--once", "--prefix", "/demo/"])
        .finish(SOON);
    assert_eq!(there.1, ["127.0.0.1:8080"]);
}

#[test]
fn the_threads_example_works_with_its_own_or_a_given_etcd() {
    let given = LocalEtcd::start().unwrap();
    let endpoint = given.endpoint();
    let own = Running::start("threads", &[], &[]);
    let other = Running::start("threads", &[], &[("ETCD_ENDPOINTS", &endpoint)]);
    for (threads, given) in [(own, false), (other, true)] {
        let (code, lines, stderr) = threads.finish(Duration::from_secs(30));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{lines:#?}");
        assert_eq!(lines[0] == format!("using {endpoint}"), given, "{lines:#?}");
        let summary = lines.last().unwrap();
        assert!(
            summary.starts_with("40 jobs done, 40 results seen"),
            "{summary}"
        );
    }
    let all = json!({"key": base64("examples/"), "range_end": base64("examples0")});
    assert_eq!(
        go(&given, "kv/range", &all).get("count"),
        None,
        "nothing is left"
    );
}

fn go_program_lists(etcd: &LocalEtcd) -> Vec<(String, String)> {
    let prefix = json!({"key": base64("/web"), "range_end": base64("/wec")});
    let found = go(etcd, "kv/range", &prefix);
    let text = |kv: &Value, field: &str| kv[field].as_str().unwrap().to_owned();
    found["kvs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|kv| (text(kv, "key"), text(kv, "value")))
        .collect()
}

fn go(etcd: &LocalEtcd, path: &str, request: &Value) -> Value {
    let (addr, path) = (etcd.client_addr(), format!("/v3/{path}"));
    let (status, body) = gateway::post(addr, &path, &request.to_string(), SOON).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut coded = String::new();
    for three in text.as_bytes().chunks(3) {
        let byte = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            coded.push(if n > three.len() {
                '='
            } else {
                char::from(ALPHABET[(bits >> (18 - 6 * n)) as usize & 63])
            });
        }
    }
    coded
}
