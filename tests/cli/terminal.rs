//! A pseudoterminal with a program in it, by `script` of util-linux, and the screen that the program draws.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::program::SOON;
use crate::support::wait::eventually;

/// What a terminal shows, as far as `top` needs it: text at positions, the alternate screen and the cursor.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    pub(crate) is_alternate: bool,
    pub(crate) is_cursor_hidden: bool,
    /// What came while the alternate screen was not shown.
    pub(crate) main: String,
    /// The bytes of an escape sequence that is not complete.
    pending: String,
}

impl Shown {
    fn take(&mut self, text: &str) {
        for c in text.chars() {
            if !self.pending.is_empty() || c == '\u{1b}' {
                self.pending.push(c);
                let mut chars = self.pending.chars().skip(1);
                let is_done = match chars.next() {
                    None => false,
                    Some('[') => chars.last().is_some_and(|last| last.is_ascii_alphabetic()),
                    Some(_) => true,
                };
                if is_done {
                    let sequence = std::mem::take(&mut self.pending);
                    self.obey(&sequence[1..]);
                }
            } else if self.is_alternate {
                self.put(c);
            } else {
                self.main.push(c);
            }
        }
    }

    fn put(&mut self, c: char) {
        match c {
            '\r' => self.column = 0,
            '\n' => self.row += 1,
            c if c.is_control() => {}
            c => {
                if self.cells.len() <= self.row {
                    self.cells.resize(self.row + 1, Vec::new());
                }
                let line = &mut self.cells[self.row];
                if line.len() <= self.column {
                    line.resize(self.column + 1, ' ');
                }
                line[self.column] = c;
                self.column += 1;
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        match sequence {
            "[?1049h" => {
                self.is_alternate = true;
                self.cells.clear();
            }
            "[?1049l" => self.is_alternate = false,
            "[?25l" => self.is_cursor_hidden = true,
            "[?25h" => self.is_cursor_hidden = false,
            "[2J" => self.cells.clear(),
            _ if sequence.ends_with('H') => {
                let numbers = sequence[1..sequence.len() - 1].split(';');
                let mut numbers =
                    numbers.map(|number| number.parse().unwrap_or(1_usize).max(1) - 1);
                self.row = numbers.next().unwrap_or(0);
                self.column = numbers.next().unwrap_or(0);
            }
            _ => {}
        }
    }

    /// The lines of the alternate screen.
    pub(crate) fn text(&self) -> String {
        let lines = self
            .cells
            .iter()
            .map(|line| line.iter().collect::<String>());
        let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

/// A program on a terminal of its own. It is ended when this is dropped.
pub(crate) struct Terminal {
    script: Child,
    keys: Option<ChildStdin>,
    shown: Arc<Mutex<Shown>>,
    pid: Pid,
}

impl Terminal {
    /// Runs `etcd-service ARGS` on a terminal of 100 columns and 24 rows; `None`, with a note, without `script`.
    ///
    /// When it ends, the terminal shows its exit code and the settings of the terminal.
    pub(crate) fn start(args: &str) -> Option<Self> {
        let version = Command::new("script").arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        if !version.is_ok_and(|version| version.contains("util-linux")) {
            println!("skipped: there is no script of util-linux");
            return None;
        }
        let program = env!("CARGO_BIN_EXE_etcd-service");
        let run = format!(
            "stty rows 24 cols 100; sh -c 'echo pid $$ .; exec {program} {args}'; echo code $? .; stty -a; echo end"
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--command", &run, "/dev/null"]);
        command
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") {
                command.env_remove(name);
            }
        }
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.stderr(Stdio::null()).spawn().unwrap();
        let shown = Arc::<Mutex<Shown>>::default();
        let (mut output, target) = (script.stdout.take().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let (mut bytes, mut rest) = ([0; 4096], Vec::new());
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                rest.extend_from_slice(&bytes[..count]);
                // A character can be cut at the end.
                let whole = match std::str::from_utf8(&rest) {
                    Ok(_) => rest.len(),
                    Err(error) => error.valid_up_to(),
                };
                let text = String::from_utf8_lossy(&rest[..whole]).into_owned();
                rest.drain(..whole);
                target.lock().unwrap().take(&text);
            }
        });
        let keys = script.stdin.take();
        let find_pid = || {
            let shown = shown.lock().unwrap();
            let rest = shown.main.split_once("pid ")?.1;
            let (pid, _) = rest.split_once(" .")?;
            Pid::from_raw(pid.parse().ok()?)
        };
        let pid = eventually(SOON, "the program starts", find_pid);
        Some(Terminal {
            script,
            keys,
            shown,
            pid,
        })
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        let pipe = self.keys.as_mut().unwrap();
        pipe.write_all(keys.as_bytes()).unwrap();
        pipe.flush().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sets the size of the terminal.
    pub(crate) fn resize(&self, columns: u32, rows: u32) {
        let file = format!("/proc/{}/fd/1", self.pid.as_raw_nonzero());
        let tty = std::fs::read_link(file).unwrap();
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(tty);
        stty.args(["rows", &rows.to_string(), "cols", &columns.to_string()]);
        assert!(stty.status().unwrap().success());
    }

    /// Waits until what is shown meets a condition, and returns the text of the alternate screen.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Shown) -> bool) -> String {
        let begun = std::time::Instant::now();
        loop {
            let shown = self.shown.lock().unwrap();
            if condition(&shown) {
                return shown.text();
            }
            assert!(
                begun.elapsed() < SOON,
                "{what}: {shown:?}\n{}",
                shown.text()
            );
            drop(shown);
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until the alternate screen shows a text.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) -> String {
        self.until(text, |shown| {
            shown.is_alternate && shown.text().contains(text)
        })
    }

    /// Waits until the program has ended, checks that the terminal is as it was, and returns the exit code.
    #[track_caller]
    pub(crate) fn restored(&self) -> i32 {
        self.until("the program ends", |shown| shown.main.contains("end\r\n"));
        let shown = self.shown.lock().unwrap();
        assert!(!shown.is_alternate && !shown.is_cursor_hidden, "{shown:?}");
        let rest = shown.main.split_once("code ").unwrap().1;
        let (code, settings) = rest.split_once(" .").unwrap();
        for flag in [" icanon", " echo", " isig", " opost", " icrnl"] {
            let settings = settings.replace('\n', " ");
            assert!(settings.contains(flag), "{flag}: {settings}");
        }
        code.parse().unwrap()
    }

    /// Closes the terminal, as if its window were closed.
    pub(crate) fn close(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The end of the terminal ends the program.
        let _ = kill_process(self.pid, Signal::CONT);
        self.close();
    }
}

#[test]
fn the_model_of_a_screen_follows_its_sequences() {
    let mut shown = Shown::default();
    shown.take("before\u{1b}[?1049h\u{1b}[?25l\u{1b}[2;3Hab\u{1b}[38;5;2mc\u{1b}[1;1Hü");
    assert_eq!(shown.text(), "ü\n  abc");
    assert!(shown.is_alternate && shown.is_cursor_hidden);
    shown.take("\u{1b}[2");
    shown.take("Jx\u{1b}[?1049l\u{1b}[?25hafter");
    assert_eq!(shown.main, "beforeafter");
    assert!(!shown.is_alternate && !shown.is_cursor_hidden);
}
