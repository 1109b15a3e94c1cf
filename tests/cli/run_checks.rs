//! Health checks of `run` that are commands or ask a gRPC server.

use std::fs;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Discovery, ServiceView, Status};
use rustix::process::Signal;

use crate::health_server::{HealthServer, Serving};
use crate::program::{Program, SOON, command_for};
use crate::run::Folder;
use crate::support::wait::eventually;

/// `run` with these checks around a command that does nothing.
fn start(etcd: &LocalEtcd, checks: &[&str]) -> Program {
    start_with(etcd, checks, &["--check-timeout", "20s"])
}

fn start_with(etcd: &LocalEtcd, checks: &[&str], timeout: &[&str]) -> Program {
    let mut args = vec!["run", "--service", "web", "--addr", "127.0.0.1:8000"];
    args.extend(["--check-interval", "50ms"]);
    args.extend(timeout);
    args.extend(["--rise", "1", "--fall", "1", "--drain-time", "0"]);
    for check in checks {
        args.extend(["--check", check]);
    }
    args.extend(["--", "sleep", "1000"]);
    Program::start(&mut command_for(etcd, &args))
}

fn view(etcd: &LocalEtcd) -> ServiceView {
    let client = Client::connect([etcd.endpoint()]).unwrap();
    Discovery::new(&client).service("web").unwrap()
}

#[track_caller]
fn becomes(view: &ServiceView, status: Status, reason: &str) {
    eventually(SOON, &format!("it is {status}: {reason}"), || {
        let now = view.snapshot();
        let one = now.first()?;
        (one.status == status && one.reason.contains(reason)).then_some(())
    });
}

#[test]
fn a_grpc_check_asks_for_the_named_service() {
    let etcd = LocalEtcd::start().unwrap();
    let view = view(&etcd);
    let server = HealthServer::start("shop.Cart");
    let check = format!("grpc://{}/shop.Cart", server.addr());
    let program = start(&etcd, &[&check]);
    program.complains("its health checks do not pass");
    assert!(view.snapshot().is_empty());
    server.set(Serving::Serving);
    view.wait_for(1, SOON).unwrap();
    server.set(Serving::NotServing);
    becomes(&view, Status::OutOfService, "NOT_SERVING");
    server.set(Serving::Serving);
    becomes(&view, Status::Up, "");
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, 143);

    // The server knows this one, and no other.
    let other = start(&etcd, &[&format!("grpc://{}/shop.Other", server.addr())]);
    other.complains("its health checks do not pass");
    other.complains("unknown service");
    assert!(view.snapshot().is_empty());
}

#[test]
fn a_command_passes_fails_or_hangs() {
    let etcd = LocalEtcd::start().unwrap();
    let (view, folder) = (view(&etcd), Folder::new("exec"));
    let code = folder.file("code");
    fs::write(&code, "0").unwrap();
    let check = format!("exec:exit $(cat {})", code.display());
    let program = start(&etcd, &[&check]);
    view.wait_for(1, SOON).unwrap();
    // A check sees whole contents only.
    let set = |text: &str| {
        let new = folder.file("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &code).unwrap();
    };
    set("3");
    becomes(&view, Status::OutOfService, "exit status: 3");
    set("0");
    becomes(&view, Status::Up, "");
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, 143);
}

#[test]
fn a_check_that_hangs_is_killed_with_its_children_and_fails() {
    let etcd = LocalEtcd::start().unwrap();
    let folder = Folder::new("hangs");
    let pid = folder.file("pid");
    let check = format!("exec:sleep 1000 & echo $! > {}; sleep 1000", pid.display());
    let timeout = ["--check-timeout", "300ms"];
    let program = start_with(&etcd, &[&check], &timeout);
    program.complains(" in 300ms");
    let pid: u32 = eventually(SOON, "a check has run", || {
        fs::read_to_string(&pid).ok()?.trim().parse().ok()
    });
    eventually(SOON, "its child is killed", || {
        // Without a command line it is a zombie.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.is_empty().then_some(())
    });
}

#[test]
fn all_checks_have_to_pass() {
    let etcd = LocalEtcd::start().unwrap();
    let (view, folder) = (view(&etcd), Folder::new("all"));
    let server = HealthServer::start("");
    server.set(Serving::Serving);
    let ready = folder.file("ready");
    let checks = [
        format!("grpc://{}", server.addr()),
        format!("tcp://{}", server.addr()),
        format!("exec:test -f {}", ready.display()),
    ];
    let program = start(&etcd, &checks.each_ref().map(String::as_str));
    program.complains("its health checks do not pass");
    assert!(view.snapshot().is_empty());
    fs::write(&ready, "").unwrap();
    view.wait_for(1, SOON).unwrap();
    server.set(Serving::NotServing);
    becomes(&view, Status::OutOfService, "");
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, 143);
}
