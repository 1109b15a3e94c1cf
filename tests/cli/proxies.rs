//! Real proxies behind `render`, while the instances are restarted one after the other.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Instance, Registrar, Registration, Status};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::program::{Program, SOON, command_for, run};
use crate::render::Folder;
use crate::support::wait::{Raise, eventually};

/// An instance without a request for this time gets none any more.
const QUIET: Duration = Duration::from_millis(500);

/// An HTTP server that answers each connection once.
struct Backend {
    addr: String,
    last: Arc<Mutex<Instant>>,
    served: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Backend {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (last, served) = (
            Arc::new(Mutex::new(Instant::now())),
            Arc::<AtomicU64>::default(),
        );
        let stop = Arc::<AtomicBool>::default();
        let shared = (Arc::clone(&last), Arc::clone(&served), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let (last, served, stop) = shared;
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(SeqCst) {
                    return;
                }
                if answer(stream).is_some() {
                    *last.lock().unwrap() = Instant::now();
                    served.fetch_add(1, SeqCst);
                }
            }
        });
        Backend {
            addr,
            last,
            served,
            stop,
            thread: Some(thread),
        }
    }

    fn is_quiet(&self) -> bool {
        self.last.lock().unwrap().elapsed() >= QUIET
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(&self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes).ok()? {
            0 => return None,
            n => request.extend_from_slice(&bytes[..n]),
        }
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        .ok()
}

/// One request over a connection of its own.
fn request(addr: &str) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(addr).map_err(text)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .map_err(text)?;
    let request = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).map_err(text)?;
    match reply.starts_with("HTTP/1.1 200") {
        true => Ok(()),
        false => Err(format!("reply {:?}", reply.lines().next())),
    }
}

/// A process whose group is killed when it is dropped.
struct Proxy(Child);

impl Proxy {
    fn start(command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Proxy(command.process_group(0).spawn().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

fn has(program: &str) -> bool {
    let is_there = Command::new(program).arg("-v").output().is_ok();
    if !is_there {
        eprintln!("skipped: there is no {program}");
    }
    is_there
}

/// An address that is still free when a program listens on it: outgoing connections use 127.0.0.1.
fn free_addr() -> String {
    let listener = TcpListener::bind("127.0.0.77:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Restarts three instances behind a proxy, which `start` starts with the file of `render`.
fn rolling_restart(
    folder: &Folder,
    render: &[&str],
    addr: &str,
    reload: &str,
    start: impl FnOnce() -> Proxy,
) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let registrar = Registrar::builder(&client)
        .ttl(Duration::from_secs(10))
        .start()
        .unwrap();
    let begin = |id: usize| -> (Backend, Registration) {
        let backend = Backend::start();
        let instance = Instance::new("web", &backend.addr).id(id.to_string());
        (backend, registrar.register(instance).unwrap())
    };
    let mut running: Vec<_> = (0..3).map(begin).collect();

    let once = run(&mut command_for(&etcd, &[render, &["--once"]].concat()));
    assert_eq!(once.code, 0, "{once:?}");
    let _proxy = start();
    eventually(SOON, "the proxy answers", || request(addr).ok());
    let reloaded = folder.path("reloaded");
    let reload = format!("{reload} && echo >> {reloaded}");
    let follow = [render, &["--reload", &reload, "--debounce", "50ms"]].concat();
    let follower = Program::start(&mut command_for(&etcd, &follow));

    let (requests, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let _stop = Raise(&stop);
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    if let Err(failure) = request(addr) {
                        failures.lock().unwrap().push(failure);
                    }
                    requests.fetch_add(1, SeqCst);
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        for (id, slot) in running.iter_mut().enumerate() {
            slot.1.set_status(Status::Draining).unwrap();
            let what = format!("instance {id} gets no requests; {}", follower.stderr());
            eventually(SOON, &what, || slot.0.is_quiet().then_some(()));
            // The new one is there before the old one is gone.
            let next = begin(id + 10);
            let old = std::mem::replace(slot, next);
            old.1.leave().unwrap();
            drop(old);
            let what = format!("the new instance {id} gets requests; {}", follower.stderr());
            eventually(SOON, &what, || {
                (slot.0.served.load(SeqCst) > 0).then_some(())
            });
        }
    });
    let (requests, failures) = (requests.into_inner(), failures.into_inner().unwrap());
    assert!(
        failures.is_empty(),
        "{} of {requests} failed: {:?}",
        failures.len(),
        failures.first()
    );
    assert!(requests > 50, "{requests}");
    let reloads = std::fs::read_to_string(&reloaded).unwrap().lines().count();
    eprintln!("{requests} requests, {reloads} reloads, none failed");
    assert!(reloads >= 3, "{reloads}");
    follower.signal(Signal::TERM);
    assert_eq!(follower.ended().code, 0);
}

#[test]
fn no_request_through_haproxy_fails_while_the_instances_are_restarted() {
    if !has("haproxy") {
        return;
    }
    let folder = Folder::new();
    let (out, addr, pid) = (folder.path("haproxy.cfg"), free_addr(), folder.path("pid"));
    let listen = format!("listen={addr}");
    let args = [
        "render", "@haproxy", "--set", "name=web", "--set", &listen, "--out", &out,
    ];
    let check = ["--check", "haproxy -c -f {} >/dev/null"];
    let reload = format!("kill -USR2 $(cat {pid})");
    rolling_restart(
        &folder,
        &[&args[..], &check].concat(),
        &addr,
        &reload,
        || Proxy::start(Command::new("haproxy").args(["-W", "-f", &out, "-p", &pid])),
    );
}

#[test]
fn no_request_through_nginx_fails_while_the_instances_are_restarted() {
    if !has("nginx") {
        return;
    }
    let folder = Folder::new();
    let (out, addr, pid) = (folder.path("web.conf"), free_addr(), folder.path("pid"));
    let listen = format!("listen={addr}");
    let dir = folder.path(".");
    let main = |include: &str| {
        format!(
            "daemon off;\npid {pid};\nerror_log {dir}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n  \
             client_body_temp_path {dir}/b;\n  proxy_temp_path {dir}/p;\n  fastcgi_temp_path {dir}/f;\n  \
             uwsgi_temp_path {dir}/u;\n  scgi_temp_path {dir}/s;\n  include {include};\n}}\n"
        )
    };
    let conf = folder.write("nginx.conf", &main(&out));
    // The new file is checked as a part of the whole.
    let checked = folder.write(
        "checked.in",
        &main("NEW").replace(&pid, &folder.path("pid-of-check")),
    );
    let conf_of_check = folder.path("checked.conf");
    let check = format!(
        "sed \"s|NEW|$ETCD_SERVICE_FILE|\" {checked} > {conf_of_check} && nginx -q -t -c {conf_of_check}"
    );
    let args = [
        "render", "@nginx", "--set", "name=web", "--set", &listen, "--out", &out, "--check", &check,
    ];
    let reload = format!("kill -HUP $(cat {pid})");
    rolling_restart(&folder, &args, &addr, &reload, || {
        Proxy::start(Command::new("nginx").args(["-e", &folder.path("early.log"), "-c", &conf]))
    });
}
