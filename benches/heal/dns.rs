//! How soon CoreDNS answers for an instance, and stops to.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Instance, Registrar, codec};

use super::{ROUNDS, print, until};

const PAUSE: Duration = Duration::from_millis(5);

/// The program `tests/peers/coredns`: CoreDNS without its cache, and a DNS client.
struct CoreDns {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl CoreDns {
    /// `None` without Go.
    fn start(etcd: &LocalEtcd) -> Option<Self> {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("heal-coredns");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/coredns");
        let mut go = Command::new("go");
        go.current_dir(source)
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local");
        go.args(["build", "-mod=readonly", "-o"])
            .arg(&program)
            .arg(".");
        if !go.status().ok()?.success() {
            return None;
        }
        let mut coredns = Command::new(program);
        coredns.args([&etcd.endpoint(), "cluster.local."]);
        let mut child = coredns
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (questions, answers) = (child.stdin.take()?, child.stdout.take()?);
        let answers = BufReader::new(answers).lines();
        let mut dns = CoreDns {
            child,
            questions,
            answers,
        };
        assert_eq!(dns.answers.next()?.ok()?, "serving");
        Some(dns)
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.questions, "{question}").unwrap();
        self.answers.next().unwrap().unwrap()
    }
}

impl Drop for CoreDns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn run() {
    let etcd = LocalEtcd::start().unwrap();
    let Some(mut dns) = CoreDns::start(&etcd) else {
        return println!("skipped: tests/peers/coredns cannot be built");
    };
    let client = Client::connect(etcd.endpoint()).unwrap();
    let registrar = Registrar::builder(&client)
        .codec(codec::SkyDns)
        .prefix("/skydns/local/cluster/");
    let registrar = registrar.start().unwrap();
    let host = "127-0-1-1-8080.web.cluster.local.";
    let [mut there, mut gone] = [(); 2].map(|()| [(); 2].map(|()| Vec::new()));
    for _ in 0..ROUNDS {
        for (n, (question, answer)) in [
            (
                "A web.cluster.local",
                "NOERROR; A web.cluster.local. 127.0.1.1".to_owned(),
            ),
            (
                "SRV web.cluster.local",
                format!("NOERROR; A {host} 127.0.1.1; SRV {host} 8080 100"),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(dns.ask(question), "NXDOMAIN; ");
            let registration = registrar
                .register(Instance::new("web", "127.0.1.1:8080"))
                .unwrap();
            there[n].push(until(Instant::now(), PAUSE, || dns.ask(question) == answer));
            registration.leave().unwrap();
            gone[n].push(until(Instant::now(), PAUSE, || {
                dns.ask(question) == "NXDOMAIN; "
            }));
        }
    }
    for (kind, times) in ["A", "SRV"].iter().zip(there) {
        print(&format!("{kind} after register() returned"), times);
    }
    for (kind, times) in ["A", "SRV"].iter().zip(gone) {
        print(&format!("no {kind} after leave() returned"), times);
    }
}
