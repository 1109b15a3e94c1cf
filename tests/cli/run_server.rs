//! `run` around a real HTTP server: what happens when the server, `etcd-service` or etcd is killed.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Cause, Change, Client, Discovery, ServiceView};
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{Mark, children};
use crate::program::{Program, SOON, command_for};
use crate::run::Folder;
use crate::support::wait::eventually;

/// What is documented is TTL + 2 s; a machine that is busy may need longer.
const LIMIT: Duration = Duration::from_secs(5 + 2 + 30);

/// A server of Python under `run`, that is registered.
struct Served {
    etcd: LocalEtcd,
    view: ServiceView,
    program: Program,
    addr: String,
    mark: Mark,
    folder: Folder,
}

fn has_python() -> bool {
    let mut python = Command::new("python3");
    let python = python.args(["-c", "import http.server"]);
    let status = python.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let has = status.is_ok_and(|status| status.success());
    if !has {
        println!("skipped: python3 with http.server is not installed");
    }
    has
}

/// An address that nobody else takes: other tests use 127.0.0.1.
fn free_addr() -> String {
    let listener = TcpListener::bind("127.0.0.78:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Whether the server answers with 200.
fn answers(addr: &str) -> bool {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    answer().is_ok_and(|text| {
        text.lines()
            .next()
            .is_some_and(|line| line.contains(" 200 "))
    })
}

impl Served {
    /// Starts `run`; the server begins to listen when the file `go` exists.
    fn start(name: &str) -> Self {
        let mark = Mark::new(name);
        let etcd = LocalEtcd::start().unwrap();
        let folder = Folder::new(name);
        let addr = free_addr();
        let (host, port) = addr.split_once(':').unwrap();
        let script = format!(
            "cd {}; until test -f go; do sleep 0.02; done; \
             exec python3 -m http.server {port} --bind {host}",
            folder.file("").display()
        );
        let check = format!("http://{addr}/");
        let args = [
            "run",
            "--service",
            "web",
            "--addr",
            &addr,
            "--check",
            &check,
            "--ttl",
            "5s",
            "--check-interval",
            "100ms",
            "--check-timeout",
            "20s",
            "--",
            "/bin/sh",
            "-c",
            &script,
        ];
        let program = Program::start(mark.set(&mut command_for(&etcd, &args)));
        let view = view(&etcd);
        Served {
            etcd,
            view,
            program,
            addr,
            mark,
            folder,
        }
    }

    fn registered(name: &str) -> Self {
        let served = Self::start(name);
        served.go();
        served.program.complains("registered, under lease");
        served.view.wait_for(1, LIMIT).unwrap();
        served
    }

    fn go(&self) {
        std::fs::write(self.folder.file("go"), "").unwrap();
    }

    /// The command: the child of the stage.
    fn server(&self) -> Pid {
        let stage = children(self.program.pid());
        let server = children(stage[0]);
        assert_eq!((stage.len(), server.len()), (1, 1));
        server[0]
    }

    /// Waits until the instance is gone, and returns why.
    fn is_gone(&self, since: Instant, what: &str) -> Cause {
        eventually(LIMIT, "the instance is gone", || {
            self.view.snapshot().is_empty().then_some(())
        });
        println!("{what}: the instance is gone after {:?}", since.elapsed());
        eventually(LIMIT, "the view says why", || {
            let mut changes = self.view.changes().try_iter();
            changes.find_map(|change| match change {
                Change::Removed { cause, .. } => Some(cause),
                _ => None,
            })
        })
    }

    fn nothing_runs(&self) {
        eventually(LIMIT, "no process is left", || {
            self.mark.processes().is_empty().then_some(())
        });
    }
}

fn view(etcd: &LocalEtcd) -> ServiceView {
    let client = Client::connect([etcd.endpoint()]).unwrap();
    Discovery::new(&client).service("web").unwrap()
}

#[test]
fn it_is_registered_once_it_answers_and_its_code_is_passed_on() {
    if !has_python() {
        return;
    }
    let served = Served::start("answers");
    served.program.complains("its checks fail");
    assert!(served.view.snapshot().is_empty() && !answers(&served.addr));
    served.go();
    let found = served.view.wait_for(1, LIMIT).unwrap();
    assert_eq!(found[0].addr, served.addr);
    assert!(
        answers(&served.addr),
        "it is registered and does not answer"
    );
    let begun = Instant::now();
    // The interpreter ends with 0 then.
    kill_process(served.server(), Signal::INT).unwrap();
    assert_eq!(served.is_gone(begun, "SIGINT of the server"), Cause::Left);
    served.nothing_runs();
    assert_eq!(served.program.ended().code, 0);
}

#[test]
fn a_killed_server_leaves() {
    if !has_python() {
        return;
    }
    let served = Served::registered("server");
    let begun = Instant::now();
    kill_process(served.server(), Signal::KILL).unwrap();
    assert_eq!(served.is_gone(begun, "SIGKILL of the server"), Cause::Left);
    served.nothing_runs();
    assert_eq!(served.program.ended().code, 137);
}

#[test]
fn the_instance_of_a_killed_wrapper_expires_and_its_server_ends() {
    if !has_python() {
        return;
    }
    let served = Served::registered("wrapper");
    let begun = Instant::now();
    served.program.signal(Signal::KILL);
    served.nothing_runs();
    println!(
        "SIGKILL of etcd-service: no process is left after {:?}",
        begun.elapsed()
    );
    let cause = served.is_gone(begun, "SIGKILL of etcd-service");
    assert_eq!(cause, Cause::Expired);
    assert!(!answers(&served.addr));
    assert_eq!(served.program.ended().code, 137);
}

#[test]
fn a_server_goes_on_while_etcd_is_away_and_is_registered_when_it_is_back() {
    if !has_python() {
        return;
    }
    let mut served = Served::registered("etcd");
    served.etcd.kill().unwrap();
    // For longer than the TTL.
    served.program.complains("lost: etcd did not answer");
    assert!(answers(&served.addr));
    served.etcd.restart().unwrap();
    let begun = Instant::now();
    eventually(LIMIT, "it is registered again", || {
        let said = served.program.stderr();
        (said.matches("registered, under lease").count() == 2).then_some(())
    });
    println!("etcd is back: registered after {:?}", begun.elapsed());
    served.view.wait_for(1, LIMIT).unwrap();

    // The same with a store that has lost everything.
    served.etcd.restart_wiped().unwrap();
    let begun = Instant::now();
    let fresh = view(&served.etcd);
    fresh.wait_for(1, LIMIT).unwrap();
    println!(
        "etcd is back and empty: registered after {:?}",
        begun.elapsed()
    );

    // A server that ends while etcd is away expires when etcd is back.
    served.etcd.kill().unwrap();
    kill_process(served.server(), Signal::KILL).unwrap();
    served.nothing_runs();
    let ended = served.program.ended_within(SOON);
    assert_eq!(ended.code, 137, "{ended:?}");
    assert!(
        ended.stderr.contains("etcd removes the instance within 5s"),
        "{ended:?}"
    );
    served.etcd.restart().unwrap();
    let begun = Instant::now();
    let view = view(&served.etcd);
    eventually(LIMIT, "the instance is gone", || {
        view.snapshot().is_empty().then_some(())
    });
    println!(
        "etcd is back, the server is not: gone after {:?}",
        begun.elapsed()
    );
}
