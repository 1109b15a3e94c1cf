//! A headless Chromium, driven by the DevTools protocol over two pipes.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::serve_programs::{folder, is_installed};

/// The longest wait for what a browser does; it starts slowly on a machine that does much else.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// A browser with one page. It is killed when it is dropped.
pub(crate) struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    events: Vec<Value>,
    session: Option<String>,
    last: u64,
    folder: PathBuf,
}

impl Browser {
    /// Starts a browser with an empty page of 1280 x 900. `None` if there is no Chromium.
    pub(crate) fn start(name: &str) -> Option<Self> {
        if !is_installed("chromium") {
            return None;
        }
        let folder = folder(name);
        // Chromium reads commands from descriptor 3 and writes to 4.
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null",
            "sh",
        ]);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
        ]);
        command.arg(format!("--user-data-dir={}", folder.display()));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.process_group(0).spawn().unwrap();
        let commands = child.stdin.take().unwrap();
        let replies = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = unbounded();
        thread::spawn(move || {
            for message in replies.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else {
                    return;
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            child,
            commands,
            messages,
            events: Vec::new(),
            session: None,
            last: 0,
            folder,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.resize(1280, 900);
        Some(browser)
    }

    /// Calls a method of the protocol.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap();
        let until = Instant::now() + LIMIT;
        loop {
            let message = match self.messages.recv_deadline(until) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => panic!("{method}: no reply"),
                Err(RecvTimeoutError::Disconnected) => panic!("{method}: the browser has ended"),
            };
            match message["id"].as_u64() {
                None => self.events.push(message),
                Some(id) if id == self.last => {
                    assert!(message["error"].is_null(), "{method}: {message}");
                    return message["result"].clone();
                }
                Some(_) => {}
            }
        }
    }

    /// The parameters of the events with this name until now.
    pub(crate) fn events(&mut self, method: &str) -> Vec<Value> {
        // The reply to a call comes after the events before it.
        self.call("Runtime.evaluate", json!({ "expression": "0" }));
        let named = self.events.iter().filter(|event| event["method"] == method);
        named.map(|event| event["params"].clone()).collect()
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    /// Chooses the dark or the light colours.
    pub(crate) fn colours(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
    }

    pub(crate) fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{opened}");
    }

    /// The value of an expression of JavaScript; that of a promise, once it has one.
    #[track_caller]
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        // A document that is being replaced has no values.
        let guarded =
            format!("(() => {{ try {{ return !!({expression}) }} catch {{ return false }} }})()");
        while self.value(&guarded) != json!(true) {
            if begun.elapsed() > LIMIT {
                let text = self.value("document.body.innerText");
                panic!("not within {LIMIT:?}: {expression}; the page: {text}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses and releases a key.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, number, text) = match key {
            "Tab" | "Shift+Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            " " => ("Space", 32, " "),
            other => panic!("unknown key {other}"),
        };
        let modifiers = if key.starts_with("Shift+") { 8 } else { 0 };
        let name = key.trim_start_matches("Shift+");
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({
                "type": kind, "key": name, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers,
            });
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Enters text as if it was typed.
    pub(crate) fn enter(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Clicks into the middle of an element with a mouse, once it has come to rest and nothing covers it.
    #[track_caller]
    pub(crate) fn click(&mut self, selector: &str) {
        let middle = format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{ block: 'center' }}); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()",
            json!(selector)
        );
        self.until(&format!(
            "(() => {{ const [x, y] = {middle}; const was = window.middle; window.middle = `${{x}} ${{y}}`; \
             return window.middle === was && document.elementFromPoint(x, y).closest({}) }})()",
            json!(selector)
        ));
        let middle = self.value(&middle);
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({ "type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    /// Writes pictures of the page into the folder of the build, for people to look at: light, dark and narrow.
    pub(crate) fn pictures(&mut self, name: &str) {
        for (kind, scheme, width) in [
            ("dark", "dark", 1280),
            ("narrow", "light", 390),
            ("light", "light", 1280),
        ] {
            self.colours(scheme);
            self.resize(width, 900);
            // The timeline is drawn anew for the width.
            self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))");
            let shot = self.call("Page.captureScreenshot", json!({}));
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-pictures");
            fs::create_dir_all(&folder).unwrap();
            let picture = decode(shot["data"].as_str().unwrap());
            fs::write(folder.join(format!("{name}-{kind}.png")), picture).unwrap();
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Decodes base64.
fn decode(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let digits: Vec<u32> = digits
        .map(|byte| DIGITS.iter().position(|digit| *digit == byte).unwrap() as u32)
        .collect();
    let mut bytes = Vec::with_capacity(text.len());
    for group in digits.chunks(4) {
        let all = group.iter().fold(0, |all, digit| all << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&all.to_be_bytes()[1..group.len()]);
    }
    bytes
}
