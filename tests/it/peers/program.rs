//! Builds and runs the Go programs of the peers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, thread};

use etcd_blocking::crossbeam_channel::{Receiver, unbounded};
use etcd_blocking::local::LocalEtcd;

use super::SOON;

/// A build from an empty cache downloads and compiles some hundred packages.
const BUILD: Duration = Duration::from_secs(300);

/// A program of a peer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    GoNaming,
    GoZero,
    Kratos,
    CoreDns,
}

impl Peer {
    /// The program, built once; `None` without Go.
    pub(super) fn program(self) -> Option<PathBuf> {
        static GO: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static COREDNS: OnceLock<Result<PathBuf, String>> = OnceLock::new();

        let (name, built) = match self {
            Peer::GoNaming => ("naming", GO.get_or_init(|| build("go"))),
            Peer::GoZero => ("gozero", GO.get_or_init(|| build("go"))),
            Peer::Kratos => ("kratos", GO.get_or_init(|| build("go"))),
            Peer::CoreDns => ("coredns", COREDNS.get_or_init(|| build("coredns"))),
        };
        match built {
            Ok(programs) => Some(programs.join(name)),
            Err(why) if env::var("ETCD_BLOCKING_GO").as_deref() == Ok("required") => {
                panic!("the peers cannot be built: {why}")
            }
            Err(why) => {
                eprintln!("skipped without Go and the library: {why}");
                None
            }
        }
    }
}

/// Builds the programs of a module, with exactly the modules in its `go.sum`, and returns their folder.
fn build(module: &str) -> Result<PathBuf, String> {
    let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("peers-{module}"));
    std::fs::create_dir_all(&programs).map_err(|error| error.to_string())?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let mut go = Command::new("go")
        .current_dir(source.join(module))
        // Without a C compiler, and with the version of Go that is installed.
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .args(["build", "-mod=readonly", "-o"])
        // A folder, because of the slash at its end.
        .arg(programs.join(""))
        .arg("./...")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("go: {error}"))?;
    let mut pipe = go.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut text = String::new();
        let _ = pipe.read_to_string(&mut text);
        text
    });
    let start = Instant::now();
    let status = loop {
        match go.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if start.elapsed() > BUILD => {
                let _ = go.kill();
                let _ = go.wait();
                return Err(format!("go build did not end in {BUILD:?}"));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    if status.success() {
        Ok(programs)
    } else {
        Err(errors.join().unwrap_or_default())
    }
}

/// A running program, which is killed when dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(super) fn start(program: &Path, etcd: &LocalEtcd, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .arg(etcd.endpoint())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = unbounded();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            lines.all(|line| sender.send(line).is_ok())
        });
        Running { child, lines }
    }

    /// The next line that is accepted.
    #[track_caller]
    pub(super) fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut others = Vec::new();
        loop {
            match self.lines.recv_timeout(SOON) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => others.push(line),
                Err(error) => panic!("no such line ({error}), only {others:#?}"),
            }
        }
    }

    /// Waits for this line.
    #[track_caller]
    pub(super) fn says(&self, line: &str) {
        self.line(|other| other == line);
    }

    /// Sends a line.
    pub(super) fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Ends it as `kill -9` does.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
