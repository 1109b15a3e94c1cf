//! Messages of the examples for wrong arguments, and without an etcd.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::run::{Running, SOON, Scene};
use crate::support::pace::Pace;
use crate::support::raw::{RawServer, swallow};
use crate::support::wait::eventually;

/// A port without a listener.
const NOBODY: (&str, &str) = ("ETCD_ENDPOINTS", "http://127.0.0.1:1");

fn one_line(stderr: &str, with: &str) -> bool {
    stderr.lines().count() == 1 && stderr.contains(with)
}

#[test]
fn invalid_flags_are_named_in_one_line_and_exit_with_2() {
    let web = ["--service", "web", "--addr", "a:1"];
    let and = |more: &[&'static str]| [&web, more].concat();
    let register = [
        (vec![], "--service is missing"),
        (vec!["--service", "web"], "--addr is missing"),
        (vec!["--addr"], "--addr needs a value"),
        (
            vec!["--service", "--addr", "a:1"],
            "--service needs a value",
        ),
        (and(&["--ttl", "soon"]), "--ttl is a number"),
        (and(&["--ttl", "0"]), "--ttl is a number"),
        (and(&["--ttl=-1"]), "--ttl is a number"),
        (and(&["--ttl=5", "--ttl=6"]), "--ttl is given twice"),
        (
            and(&["--codec", "json"]),
            "--codec is one of native, plain, go-naming",
        ),
        (and(&["--codec=kratos,json"]), "not \"json\""),
        (and(&["--prefix=/a/,/b/"]), "more prefixes than"),
        (and(&["--once"]), "unknown argument \"--once\""),
        (and(&["more"]), "unknown argument \"more\""),
        (vec!["--service", "a/b", "--addr", "a:1"], "\"a/b\""),
        (
            vec!["--service", "web", "--addr", "a"],
            "\"a\" is not host:port",
        ),
    ];
    let discover = [
        (vec![], "--service is missing"),
        (vec!["--service", "a/b"], "\"a/b\""),
        (
            vec!["--service", "web", "--codec=native,plain", "--prefix=a,b,c"],
            "more prefixes than",
        ),
        (
            vec!["--service", "web", "--once=1"],
            "--once takes no value",
        ),
        (
            vec!["--service", "web", "--addr", "a:1"],
            "unknown argument \"--addr\"",
        ),
    ];
    let register = register
        .into_iter()
        .map(|(args, text)| ("register", args, text));
    let discover = discover
        .into_iter()
        .map(|(args, text)| ("discover", args, text));
    for (name, args, text) in register.chain(discover) {
        let (code, lines, stderr) = Running::start(name, &args, &[NOBODY]).finish(SOON);
        assert_eq!(
            (code, lines.len()),
            (Some(2), 0),
            "{name} {args:?}: {stderr}"
        );
        assert!(one_line(&stderr, text), "{name} {args:?}: {stderr}");
    }
}

#[test]
fn a_malformed_endpoint_is_a_usage_error() {
    let env = ("ETCD_ENDPOINTS", "ftp://etcd");
    let args = ["--service", "web", "--once"];
    let (code, _, stderr) = Running::start("discover", &args, &[env]).finish(SOON);
    assert_eq!(code, Some(2));
    assert!(one_line(&stderr, "ftp://etcd"), "{stderr}");
}

#[test]
fn help_exits_with_0() {
    for name in ["register", "discover", "threads", "quickstart"] {
        for flag in ["--help", "-h"] {
            let (code, lines, stderr) = Running::start(name, &[flag], &[]).finish(SOON);
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{name}");
            assert!(
                lines
                    .iter()
                    .any(|line| line.starts_with(&format!("    {name}")))
            );
        }
    }
}

#[test]
fn without_etcd_the_programs_print_one_line_and_exit_with_1() {
    let pace = Pace::start();
    let begun = Instant::now();
    let running = [
        ("register", vec!["--service", "web", "--addr", "a:1"]),
        ("discover", vec!["--service", "web"]),
        ("discover", vec!["--service", "web", "--once"]),
        ("threads", vec![]),
    ]
    .map(|(name, args)| (name, Running::start(name, &args, &[NOBODY])));
    for (name, running) in running {
        let (code, _, stderr) = running.finish(SOON);
        assert_eq!(code, Some(1), "{name}: {stderr}");
        assert!(one_line(&stderr, "127.0.0.1:1"), "{name}: {stderr}");
        assert!(one_line(&stderr, "refused"), "{name}: {stderr}");
    }
    // The client's timeout is 5 s.
    pace.check("all of them", begun, Duration::from_secs(15));
}

#[test]
fn a_signal_ends_the_programs_while_etcd_is_silent() {
    for (name, args) in [
        ("register", &["--service", "web", "--addr", "a:1"][..]),
        ("discover", &["--service", "web"]),
    ] {
        let silent = RawServer::start(|stream, _| swallow(stream));
        let endpoint = silent.addr().to_string();
        let running = Running::start(name, args, &[("ETCD_ENDPOINTS", &endpoint)]);
        // The programs handle signals before they connect.
        eventually(SOON, "it has connected", || {
            (silent.connections() > 0).then_some(())
        });
        running.signal(Signal::TERM);
        let (code, lines, stderr) = running.finish(Duration::from_secs(4));
        assert_eq!((code, lines.len(), stderr.as_str()), (Some(0), 0, ""));
    }
}

#[test]
fn discover_ends_without_error_when_its_output_is_closed() {
    let scene = Scene::new("native");
    let env = [("ETCD_ENDPOINTS", &*scene.etcd.endpoint())];
    let args = ["--service", "web"];
    let discover = Running::start_and_read(1, "discover", &args, &env);
    let _first = scene.register("127.0.0.1:1", &[]);
    discover.line(|line| line == "+ 127.0.0.1:1");
    discover.unread();
    let _second = scene.register("127.0.0.1:2", &[]);
    let (code, lines, stderr) = discover.finish(SOON);
    assert_eq!((code, lines.len(), stderr.as_str()), (Some(0), 0, ""));
}
