//! A headless Chromium with one page, driven by its `DevTools` protocol over a pair of pipes.
//!
//! The protocol is JSON, each message ended by a NUL. Over pipes it needs no port, no WebSocket and
//! no library; and a browser whose pipe is closed ends by itself.
//! <https://chromedevtools.github.io/devtools-protocol/>

#![allow(dead_code)] // each test uses its own part

use crate::support::{PATIENCE, Running, installed};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// A browser that shows a page. Dropped, it ends, and its profile goes with it.
pub struct Browser {
    _process: Running,
    requests: ChildStdin,
    messages: Receiver<Value>,
    profile: PathBuf,
    session: Option<String>,
    last_id: u64,
    loaded: bool,
    /// Exceptions of the page, and what its policy forbade.
    pub complaints: Vec<String>,
}

impl Browser {
    /// A browser with an empty page, or `None`, having said so, if there is none to start.
    #[track_caller]
    pub fn start() -> Option<Browser> {
        let program = installed(&["chromium", "chromium-browser", "google-chrome"])?;
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let profile =
            std::env::temp_dir().join(format!("pushv-page-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&profile).expect("a directory");
        let mut process = Running::spawn(&mut command(program, &profile));
        let (requests, answers) =
            (process.0.stdin.take().expect("piped"), process.0.stdout.take().expect("piped"));
        let mut browser = Browser {
            _process: process,
            requests,
            messages: messages(answers),
            profile,
            session: None,
            last_id: 0,
            loaded: false,
            complaints: Vec::new(),
        };
        browser.attach();
        Some(browser)
    }

    #[track_caller]
    fn attach(&mut self) {
        let target = self.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.ask("Target.attachToTarget", attach);
        self.session = Some(attached["sessionId"].as_str().expect("a session").into());
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            self.ask(domain, json!({}));
        }
    }

    /// Makes a request of the protocol, and gives its result.
    #[track_caller]
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut request = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).expect("the browser runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut message = self.message(method, deadline);
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.notice(&message);
        }
    }

    #[track_caller]
    fn message(&mut self, what: &str, deadline: Instant) -> Value {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = self.messages.recv_timeout(left);
        message.unwrap_or_else(|why| panic!("{what} is not answered: {why}"))
    }

    fn notice(&mut self, message: &Value) {
        let params = &message["params"];
        self.loaded |= message["method"] == "Page.loadEventFired";
        let complains = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => params["entry"]["source"] == "security",
            _ => false,
        };
        if complains {
            self.complaints.push(params.to_string());
        }
    }

    /// Opens an address in the page, and waits until it is loaded.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        self.loaded = false;
        let opened = self.ask("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{opened}");
        let deadline = Instant::now() + PATIENCE;
        while !self.loaded {
            let message = self.message("the opening of a page", deadline);
            self.notice(&message);
        }
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.ask("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// The text of the first element that a selector finds; empty if it finds none.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        let expression = format!("document.querySelector({selector:?})?.textContent ?? ''");
        self.evaluate(&expression).as_str().expect("text").into()
    }

    /// Clicks the first element that a selector finds.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        self.evaluate(&format!("document.querySelector({selector:?}).click()"));
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub fn wait_until(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.evaluate(&format!("Boolean({expression})")) != true {
            if Instant::now() > deadline {
                let page = self.evaluate("document.body.innerText");
                panic!("never true: {expression}\n{}", page.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20)); // between two looks
        }
    }

    /// Shows the page as a window of this size would.
    #[track_caller]
    pub fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", size);
    }

    /// Has the user prefer a scheme of colours: `light` or `dark`.
    #[track_caller]
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Presses a key that types `text`, or nothing.
    #[track_caller]
    pub fn press(&mut self, key: &str, text: &str) {
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            "Escape" => 27,
            _ => panic!("no code for {key}"),
        };
        let event = |kind: &str, text: &str| json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
        self.ask("Input.dispatchKeyEvent", event("keyDown", text));
        self.ask("Input.dispatchKeyEvent", event("keyUp", ""));
    }

    /// Types into what has the focus.
    #[track_caller]
    pub fn type_text(&mut self, text: &str) {
        self.ask("Input.insertText", json!({ "text": text }));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _gone = self.requests.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        // Its last message is the end of the pipe. Whatever still runs after that is killed.
        while self.messages.recv_timeout(Duration::from_secs(5)).is_ok() {} // between two looks
        let _gone = std::fs::remove_dir_all(&self.profile);
    }
}

/// The shell puts the pipes where the browser looks for them: it reads 3 and writes to 4.
fn command(program: &str, profile: &std::path::Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh", program])
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg("--remote-debugging-pipe")
        .arg(format!("--user-data-dir={}", profile.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// A thread reads, so that every wait for a message can have a deadline.
fn messages(answers: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for message in BufReader::new(answers).split(0).map_while(Result::ok) {
            let message = serde_json::from_slice(&message).expect("JSON");
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}
