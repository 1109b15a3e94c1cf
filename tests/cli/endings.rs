//! How every verb ends: by signals, without a reader, on a full disk. Each test has a table of verbs; a verb that is
//! missing in one of them fails [`every_verb_is_in_a_table`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;
use rustix::process::Signal;

use crate::program::{Ended, Program, SOON, command, command_for, run};
use crate::render::Folder;
use crate::support::wait::eventually;

const UP: &str = r#"{"addr":"10.0.0.1:80","status":"up"}"#;

/// A recording of one instance.
const RECORDING: &str = concat!(
    r#"{"time":1000,"revision":1,"kind":"reset","cause":"first"}"#,
    "\n",
    r#"{"time":1000,"revision":2,"kind":"put","key":"/services/web/a","value":"{\"addr\":\"10.0.0.1:80\"}"}"#,
    "\n",
    r#"{"time":9000,"revision":2,"kind":"live"}"#,
    "\n",
);

/// The verbs that run until a signal ends them: their arguments, what is in stderr or stdout once they work, and the
/// exit codes for SIGINT, SIGTERM and SIGHUP. `None` is a signal that does not end them.
const RUNNING: [(&str, &str, &str, [Option<i32>; 3]); 9] = [
    // The signal goes to the command.
    (
        "run",
        "--service web --id r --addr 10.0.0.9:80 --drain-time 0s -- sleep 600",
        "registered",
        [Some(143), Some(143), Some(129)],
    ),
    (
        "register",
        "--service web --id g --addr 10.0.0.9:80",
        "registered",
        [Some(0), Some(0), None],
    ),
    ("watch", "web", "+", [Some(0); 3]),
    (
        "render",
        "@hosts --out OUT",
        "was written",
        [Some(0), Some(0), None],
    ),
    ("lock", "l", "l/", [Some(0); 3]),
    ("lead", "e", "e/", [Some(0); 3]),
    ("serve", "--listen 127.0.0.1:0", "listening", [Some(0); 3]),
    ("record", "--out OUT", "", [Some(0); 3]),
    // On a terminal: see `top`.
    ("top", "--once", "", [None; 3]),
];

/// The verbs that print and end: their arguments.
const PRINTING: [(&str, &str); 8] = [
    ("list", "web"),
    ("doctor", "--verbose"),
    ("top", "--once"),
    ("replay", "RECORDING"),
    ("completions", "bash"),
    ("manual", "OUT"),
    ("--help", ""),
    ("--version", ""),
];

/// The verbs that print nothing: they change one key.
const SILENT: [(&str, &str); 3] = [
    ("drain", "web a"),
    ("weight", "web a 5"),
    ("undrain", "web a"),
];

struct Setting {
    etcd: LocalEtcd,
    folder: Folder,
}

impl Setting {
    fn new() -> Self {
        let etcd = LocalEtcd::start().unwrap();
        let client = Client::connect(etcd.endpoint()).unwrap();
        client.put("/services/web/a", UP).unwrap();
        let folder = Folder::new();
        folder.write("recording", RECORDING);
        Setting { etcd, folder }
    }

    fn out(&self) -> String {
        self.folder.path("out")
    }

    fn words(&self, verb: &str, args: &str) -> Vec<String> {
        let words = std::iter::once(verb).chain(args.split_whitespace());
        let words = words.map(|word| match word {
            "OUT" => self.out(),
            "RECORDING" => self.folder.path("recording"),
            word => word.to_owned(),
        });
        words.collect()
    }

    fn command(&self, verb: &str, args: &str) -> Command {
        let words = self.words(verb, args);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        command_for(&self.etcd, &words)
    }

    /// Waits until the verb works.
    fn start(&self, verb: &str, args: &str, works: &str) -> Program {
        let _ = fs::remove_file(self.out());
        let program = Program::start(&mut self.command(verb, args));
        match verb {
            "lock" | "lead" | "watch" => {
                program.line_with(works);
            }
            "record" => {
                eventually(SOON, "it records", || {
                    let lines = fs::read_to_string(self.out()).unwrap_or_default();
                    lines.contains("web/a").then_some(())
                });
            }
            _ => program.complains(works),
        }
        program
    }
}

/// No message is of a panic or longer than the documented lines.
#[track_caller]
fn is_plain(ended: &Ended) {
    for word in ["panicked", "RUST_BACKTRACE", "stack backtrace", "src/"] {
        assert!(!ended.stderr.contains(word), "{ended:?}");
    }
}

#[test]
fn every_verb_is_in_a_table() {
    let help = run(&mut command(&["--help"])).stdout;
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs = verbs.take_while(|line| !line.is_empty());
    let verbs = verbs.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let verbs: BTreeSet<&str> = verbs
        .filter(|verb| !verb.is_empty() && *verb != "help")
        .collect();
    let running = RUNNING.iter().map(|(verb, ..)| *verb);
    let printing = PRINTING.iter().map(|(verb, _)| *verb);
    let silent = SILENT.iter().map(|(verb, _)| *verb);
    let tables: BTreeSet<&str> = running.chain(printing).chain(silent).collect();
    let missing: Vec<_> = verbs.difference(&tables).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn signals_end_what_runs() {
    let setting = Setting::new();
    for (verb, args, works, codes) in RUNNING {
        let signals = [Signal::INT, Signal::TERM, Signal::HUP];
        for (signal, code) in signals.into_iter().zip(codes) {
            if verb == "top" {
                continue;
            }
            let mut program = setting.start(verb, args, works);
            program.signal(signal);
            let ended = match code {
                Some(_) => program.ended_within(SOON),
                None => {
                    // It goes on, and another signal ends it.
                    program.signal(Signal::TERM);
                    program.ended_within(SOON)
                }
            };
            let expected = code.unwrap_or(0);
            assert_eq!(ended.code, expected, "{verb} {signal:?}: {ended:?}");
            is_plain(&ended);
        }
    }
    // Nothing of what ran is left: neither instances nor locks.
    let client = Client::connect(setting.etcd.endpoint()).unwrap();
    for (prefix, expected) in [("/services/", 1), ("l/", 0), ("e/", 0)] {
        let keys = etcd_blocking::Get::prefix(prefix).count_only();
        assert_eq!(client.call(keys).unwrap().count(), expected, "{prefix}");
    }
}

#[test]
fn a_second_signal_ends_what_is_stuck() {
    let setting = Setting::new();
    // Nobody reads the pipe, so the recording is stuck in a write.
    let (reader, writer) = std::io::pipe().unwrap();
    let client = Client::connect(setting.etcd.endpoint()).unwrap();
    let long = UP.replace("up", &"u".repeat(100_000));
    client.put("/services/web/long", long).unwrap();
    let mut recorder = setting.command("record", "--out /dev/stdout");
    recorder.stdout(Stdio::from(writer)).stderr(Stdio::piped());
    let mut child = recorder.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    eventually(SOON, "the pipe is full", || {
        let bytes = rustix::io::ioctl_fionread(&reader).unwrap();
        (bytes >= 60_000).then_some(())
    });
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    // The first one waits in the queue for as long as the write.
    let status = eventually(SOON, "it ends", || {
        rustix::process::kill_process(pid, Signal::INT).ok();
        child.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(130), "{status:?}");
}

#[test]
fn without_a_reader_of_stdout_nothing_fails() {
    let setting = Setting::new();
    for (verb, args) in PRINTING.into_iter().chain(SILENT) {
        let closed = closed_pipe();
        let ended = with_stdout(setting.command(verb, args), closed);
        // A warning about the instance of the test has an exit code.
        let expected = if verb == "doctor" { 15 } else { 0 };
        assert_eq!(ended.code, expected, "{verb}: {ended:?}");
        assert_eq!(ended.stderr, "", "{verb}");
    }
    for (verb, args, ..) in RUNNING {
        if !["watch", "lock", "lead"].contains(&verb) {
            continue;
        }
        let ended = with_stdout(setting.command(verb, args), closed_pipe());
        assert_eq!(ended.code, 0, "{verb}: {ended:?}");
        is_plain(&ended);
    }
    let client = Client::connect(setting.etcd.endpoint()).unwrap();
    for prefix in ["l/", "e/"] {
        eventually(SOON, "the lock is given back", || {
            let keys = etcd_blocking::Get::prefix(prefix).count_only();
            (client.call(keys).unwrap().count() == 0).then_some(())
        });
    }
}

#[test]
fn a_full_disk_at_stdout_is_an_error_of_one_line() {
    if !Path::new("/dev/full").exists() {
        println!("skipped: there is no /dev/full");
        return;
    }
    let setting = Setting::new();
    let running = RUNNING.into_iter().map(|(verb, args, ..)| (verb, args));
    let running = running.filter(|(verb, _)| ["watch", "lock", "lead"].contains(verb));
    for (verb, args) in PRINTING.into_iter().chain(running) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = with_stdout(setting.command(verb, args), full.into());
        assert_eq!(ended.code, 1, "{verb}: {ended:?}");
        let expected = "etcd-service: write to stdout: No space left on device (os error 28)\n";
        assert_eq!(ended.stderr, expected, "{verb}");
    }
}

#[test]
fn a_full_disk_at_out_leaves_no_half_file() {
    let setting = Setting::new();
    let client = Client::connect(setting.etcd.endpoint()).unwrap();
    for index in 0..50 {
        client
            .put(format!("/services/web/{index:0200}"), UP)
            .unwrap();
    }
    let long: String = (0..50)
        .map(|index| RECORDING.replace("web/a", &format!("web/{index:0200}")))
        .collect();
    setting.folder.write("recording", &long);
    // The limit of file sizes is as a full disk; its signal is ignored here.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
    for (verb, args) in [
        ("render", "@hosts --out OUT --once"),
        ("replay", "RECORDING --out OUT"),
        ("manual", "OUT"),
        ("record", "--out OUT"),
    ] {
        let out = setting.out();
        if verb != "record" && verb != "manual" {
            fs::write(&out, "old").unwrap();
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_etcd-service")]);
        shell.args(setting.words(verb, args));
        shell.env("ETCDCTL_ENDPOINTS", setting.etcd.endpoint());
        let ended = run(shell.stdin(Stdio::null()));
        assert_eq!(ended.code, 1, "{verb}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{verb}: {ended:?}");
        assert!(ended.stderr.contains("write "), "{verb}: {ended:?}");
        is_plain(&ended);
        match verb {
            "record" => {
                let lines = fs::read_to_string(&out).unwrap();
                assert!(lines.is_empty() || lines.ends_with("}\n"), "{lines}");
            }
            "manual" => {
                for page in fs::read_dir(&out).unwrap() {
                    let page = fs::read_to_string(page.unwrap().path()).unwrap();
                    assert!(page.contains(".SH"), "{page}");
                }
                fs::remove_dir_all(&out).unwrap();
            }
            _ => assert_eq!(fs::read_to_string(&out).unwrap(), "old", "{verb}"),
        }
        let _ = fs::remove_file(&out);
        let names = fs::read_dir(setting.folder.path(".")).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["recording"], "{verb}");
    }
}

/// A pipe whose reader is gone.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Runs a command whose stdout is this.
fn with_stdout(mut command: Command, stdout: Stdio) -> Ended {
    let mut child = command
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default());
    let mut wait = || child.try_wait().unwrap();
    let what = format!("{command:?} ends");
    let status = eventually(SOON, &what, &mut wait);
    Ended {
        code: status.code().unwrap_or(-1),
        stdout: String::new(),
        stderr: reader.join().unwrap(),
    }
}
