//! `pushv top`, the program, at a server that runs.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use support::{ClosedAddress, PATIENCE, Running, Server, config, installed};

fn top(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushv"));
    command.arg("top").args(arguments).stdin(Stdio::null());
    let is_setting = |name: &OsStr| name.as_bytes().starts_with(b"PUSHV_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    command
}

fn at(server: &Server, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", server.admin);
    top(&[&["--admin", &admin, "--interval-ms", "300"], arguments].concat()).output().unwrap()
}

#[track_caller]
fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(error.is_empty(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output, status: i32, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{error}");
    assert!(error.contains(expected) && !error.contains("panicked"), "{error}");
}

#[test]
fn once_as_a_table() {
    let server = Server::start(&[]);
    let _readers = [server.subscribe("/a"), server.subscribe("/a"), server.subscribe("/b")];
    server.patch_knobs("", r#"{"write_path":"writev"}"#);
    let shown = text(&at(&server, &["--once"]));
    assert!(shown.starts_with(&format!("pushv top {}", server.admin)), "{shown}");
    for expected in [
        "rates     published 0/s",
        "latency   to kernel",
        "streams   3 of 3 connections",
        "verdicts  idle ",
        "write_path writev",
        "flip      write_path span -> writev",
        "3 of 3 streams, worst lag first",
        "why       ",
    ] {
        assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
    }
    assert!(!shown.contains('\x1b'), "no colours: {shown}");
    let of_topic = text(&at(&server, &["--once", "--topic", "a", "--sort", "age", "--limit", "1"]));
    assert!(of_topic.contains("1 of 2 streams of topic a, worst age first"), "{of_topic}");
}

#[test]
fn once_as_json() {
    let server = Server::start(&[]);
    let mut reader = server.subscribe("/a");
    let id = server.publish("a", "x");
    assert_eq!(reader.data(), "x");
    let deadline = Instant::now() + PATIENCE;
    let object = loop {
        let shown = text(&at(&server, &["--once", "--json"]));
        assert_eq!(shown.lines().count(), 1, "{shown}");
        let object: Value = serde_json::from_str(&shown).unwrap();
        // The reader's kernel may take its time.
        if object["connections"][0]["ladder"]["acked"]["last_event_id"] == id.as_str() {
            break object;
        }
        assert!(Instant::now() < deadline, "{object:#}");
    };
    assert_eq!(object["live"]["counters"]["published"], 1, "{object:#}");
    assert_eq!(object["live"]["streams"], 1, "{object:#}");
    assert_eq!(object["count"], 1, "{object:#}");
    let stream = &object["connections"][0];
    assert_eq!(stream["topics"], serde_json::json!(["a"]), "{object:#}");
    assert!(stream["verdict"] == "idle" || stream["verdict"] == "flowing", "{object:#}");
    assert!(stream["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{object:#}");
}

/// What the program shows is read from fields by name: each of them is really said.
#[test]
fn the_server_says_everything_that_is_shown() {
    let server = Server::start(&[]);
    let _reader = server.subscribe("/a");
    server.patch_knobs("", r#"{"write_path":"writev"}"#);
    let object: Value = serde_json::from_str(&text(&at(&server, &["--once", "--json"]))).unwrap();
    let missing = |object: &Value, recorded: &str| {
        let recorded: Value = serde_json::from_str(recorded).unwrap();
        let mut missing = Vec::new();
        compare(&recorded, object, "", &mut missing);
        missing
    };
    let live = missing(&object["live"], include_str!("../src/cli/top/recorded/live.json"));
    assert_eq!(live, [""; 0], "{:#}", object["live"]);
    let streams = missing(&object, include_str!("../src/cli/top/recorded/connections.json"));
    assert_eq!(streams, [""; 0], "{:#}", object["connections"]);
}

/// Finds the fields of `expected` that `found` does not have. Of a list the first is compared; what
/// is null where it was found is not compared further.
fn compare(expected: &Value, found: &Value, path: &str, missing: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(fields), Value::Object(found)) => {
            for (name, value) in fields {
                let path = format!("{path}/{name}");
                match found.get(name) {
                    Some(found) => compare(value, found, &path, missing),
                    None => missing.push(path),
                }
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            if let (Some(expected), Some(found)) = (expected.first(), found.first()) {
                compare(expected, found, path, missing);
            }
        }
        (_, Value::Null) | (Value::Null, _) => {}
        (expected, found) => {
            if std::mem::discriminant(expected) != std::mem::discriminant(found) {
                missing.push(format!("{path}: {found}"));
            }
        }
    }
}

#[test]
fn what_cannot_be_done_is_explained() {
    let closed = ClosedAddress::new();
    let nobody = format!("http://{}", closed.address);
    let run = |arguments: &[&str]| top(arguments).output().unwrap();
    refused(&run(&["--once", "--admin", &nobody]), 1, &nobody);
    refused(&run(&["--admin", &nobody]), 1, "`pushv serve` starts one");
    refused(&run(&["--admin", "127.0.0.1:9180"]), 2, "http://");
    refused(&run(&["--no-such"]), 2, "--no-such");
    refused(&run(&["--sort", "size"]), 2, "lag, age, bytes, verdict");
    refused(&run(&["--limit", "201"]), 2, "--limit");
    refused(&run(&["--interval-ms", "1"]), 2, "--interval-ms");
    let server = Server::start(&[]);
    // Whoever names the other listener gets an answer, but not the one that was asked for.
    let public = format!("http://{}", server.public);
    refused(&run(&["--once", "--admin", &public]), 1, "HTTP status 404");
    refused(&at(&server, &["--once", "--topic", ""]), 2, "topic");
    let by_variable = top(&["--once"]).env("PUSHV_TOP_ADMIN", &nobody).output().unwrap();
    refused(&by_variable, 1, &nobody);
}

/// The lines of a stream of a child, as they come.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}

#[track_caller]
fn wait_for(lines: &Receiver<String>, is_it: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).expect("it comes in time");
        if is_it(&line) {
            return line;
        }
    }
}

/// The admin listener of a server whose `/live` speaks only when the test says so.
struct Halting {
    url: String,
    speak: Sender<u64>,
}

impl Halting {
    /// Each number that is spoken is the time of an event, in milliseconds, and what is counted.
    fn start() -> Halting {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (speak, events) = channel::<u64>();
        std::thread::spawn(move || {
            let mut events = Some(events);
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                let mut request = String::new();
                BufReader::new(&socket).read_line(&mut request).unwrap();
                if request.starts_with("GET /live ") {
                    let events = events.take().expect("one subscription");
                    std::thread::spawn(move || live(&mut socket, &events));
                    continue;
                }
                let body = r#"{"count":0,"connections":[]}"#;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                // It may have gone.
                let _answered = socket.write_all((head + body).as_bytes());
            }
        });
        Halting { url, speak }
    }
}

fn live(socket: &mut TcpStream, events: &Receiver<u64>) {
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").unwrap();
    for at_ms in events {
        let counters = format!(r#"{{"published":{at_ms}}}"#);
        let data = format!(r#"{{"epoch":"e","at_ms":{at_ms},"counters":{counters}}}"#);
        if write!(socket, "event: live\ndata: {data}\n\n").is_err() {
            return;
        }
    }
}

/// While `/live` is silent and `/connections` answers, what was last said is not shown as of now.
#[test]
fn rates_are_of_now() {
    let server = Halting::start();
    let mut command = top(&["--admin", &server.url, "--interval-ms", "100"]);
    let mut running = Running::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let shown = lines(running.0.stdout.take().unwrap());
    let said = lines(running.0.stderr.take().unwrap());
    let is_rates = |line: &str| line.starts_with("rates ");
    server.speak.send(1000).unwrap();
    let first = wait_for(&shown, is_rates);
    assert!(first.contains("from the next refresh on"), "{first}");
    // On a busy machine the time between two of them may itself be a silence.
    let mut at_ms = 1000;
    while !wait_for(&shown, is_rates).contains("published 1000/s") {
        at_ms += 1000;
        server.speak.send(at_ms).unwrap();
    }
    wait_for(&said, |line| line.contains("/live of ") && line.contains("says nothing"));
    wait_for(&shown, |line| line.starts_with("SILENT "));
    for _ in 0..5 {
        let rates = wait_for(&shown, is_rates);
        assert!(rates.contains("unknown"), "{rates}");
    }
    server.speak.send(at_ms + 9000).unwrap();
    wait_for(&said, |line| line.contains("speaks again"));
}

/// `/live` speaks every 200 ms; an interval that is shorter still gets its rates.
#[test]
fn once_has_rates_however_short_the_interval() {
    let server = Server::start(&[]);
    let admin = format!("http://{}", server.admin);
    for interval_ms in ["100", "150"] {
        let once = ["--admin", &admin, "--once", "--interval-ms", interval_ms];
        let shown = text(&top(&once).output().unwrap());
        assert!(shown.contains("rates     published 0/s"), "{interval_ms}: {shown}");
    }
    let silent = Halting::start();
    silent.speak.send(1000).unwrap();
    let output = top(&["--admin", &silent.url, "--once"]).output().unwrap();
    refused(&output, 1, "/live: it said nothing for");
}

#[test]
fn it_survives_the_server() {
    // Other tests bind to 127.0.0.1, and connections begin there: this address stays free when the
    // server goes.
    let server = Server::start(&[("admin", "127.0.0.3:0")]);
    let admin = server.admin.to_string();
    let url = format!("http://{admin}");
    let mut command = top(&["--admin", &url, "--json", "--interval-ms", "100"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::spawn(&mut command);
    let shown = lines(running.0.stdout.take().unwrap());
    let said = lines(running.0.stderr.take().unwrap());
    let epoch = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["live"]["epoch"].as_str().unwrap().to_string()
    };
    let first = epoch(&wait_for(&shown, |_| true));
    drop(server);
    wait_for(&said, |line| line.contains("no answer from") && line.contains("trying again"));
    let _server = Server::with_config(config(&[("admin", &admin)]));
    wait_for(&said, |line| line.contains("answers again"));
    wait_for(&said, |line| line.contains("the server was restarted"));
    wait_for(&shown, |line| epoch(line) != first);
}

#[test]
fn it_ends_with_whoever_reads_it() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.admin);
    let mut command = top(&["--admin", &url, "--interval-ms", "100"]);
    let mut running = Running::spawn(command.stdout(Stdio::piped()));
    let mut table = BufReader::new(running.0.stdout.take().unwrap());
    let mut line = String::new();
    table.read_line(&mut line).unwrap();
    assert!(line.starts_with("pushv top "), "{line}");
    drop(table);
    assert_eq!(ended(&mut running.0), Some(0));
}

#[track_caller]
fn ended(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(5)); // between two looks
    }
}

/// A program on a terminal of its own, which `script` of util-linux provides.
struct Screen {
    child: Running,
    shown: Receiver<Vec<u8>>,
    seen: String,
}

impl Screen {
    /// Runs `command` in a shell on a terminal of 100 columns and 40 rows, and says in the end what
    /// has become of it.
    fn run(command: &str) -> Screen {
        let command =
            format!("stty rows 40 cols 100; {command}; echo \"status $?.\"; stty -a; echo 'end.'");
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &command, "/dev/null"]).env("TERM", "xterm");
        script.env_remove("NO_COLOR").env("SHELL", "/bin/sh");
        let script = script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Running::spawn(script);
        let mut stdout = child.0.stdout.take().unwrap();
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Screen { child, shown, seen: String::new() }
    }

    /// Waits until `text` is shown, and gives everything up to it.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                return self.seen.drain(..at + text.len()).collect();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(more) = self.shown.recv_timeout(left) else {
                panic!("no {text:?} in {}", self.seen.escape_debug());
            };
            self.seen += &String::from_utf8_lossy(&more);
        }
    }

    fn press(&mut self, key: &str) {
        let stdin = self.child.0.stdin.as_mut().unwrap();
        stdin.write_all(key.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// The program has ended in order, and its terminal is as it was.
    #[track_caller]
    fn expect_end(&mut self) {
        let last = self.until("status ");
        assert!(last.contains("\x1b[?1049l") && last.contains("\x1b[?25h"), "{last:?}");
        self.until("0.");
        let settings = self.until("end.");
        let settings: Vec<&str> = settings.split_whitespace().collect();
        for expected in ["icanon", "echo", "isig", "icrnl"] {
            assert!(settings.contains(&expected), "no {expected} in {settings:?}");
        }
    }
}

#[test]
fn on_a_terminal() {
    if installed(&["script"]).is_none() {
        return;
    }
    let server = Server::start(&[]);
    let _reader = server.subscribe("/a");
    let command = format!(
        "{} top --admin http://{} --interval-ms 100",
        env!("CARGO_BIN_EXE_pushv"),
        server.admin
    );
    let mut screen = Screen::run(&command);
    let begun = screen.until("1 of 1 streams, worst lag first");
    assert!(begun.contains("\x1b[?1049h") && begun.contains("\x1b[1mpushv top"), "{begun:?}");
    for sort in ["age", "bytes", "verdict", "lag"] {
        screen.press(&sort[..1]);
        screen.until(&format!("worst {sort} first"));
    }
    screen.press("p");
    screen.until("p PAUSED");
    screen.press("p");
    screen.until("p pause");
    screen.press("q");
    screen.expect_end();

    // In raw mode, Ctrl-C is a key.
    let mut screen = Screen::run(&command);
    screen.until("worst lag first");
    screen.press("\x03");
    screen.expect_end();

    // One table goes where the cursor is, in colours unless somebody minds.
    let once = format!("{command} --once");
    let coloured = Screen::run(&once).until("streams, worst lag first");
    assert!(coloured.contains("\x1b[1mpushv top") && !coloured.contains("\x1b[?"), "{coloured:?}");
    let plain = Screen::run(&format!("NO_COLOR=1 {once}")).until("streams, worst lag first");
    assert!(plain.contains("pushv top") && !plain.contains('\x1b'), "{plain:?}");
    assert!(plain.lines().all(|line| line.trim_end().chars().count() <= 100), "{plain}");

    let dumb = Screen::run(&format!("TERM=dumb {once}")).until("streams, worst lag first");
    assert!(dumb.contains("pushv top") && !dumb.contains('\x1b'), "{dumb:?}");

    // A signal from elsewhere.
    let mut screen = Screen::run(&format!("sh -c 'echo pid $$.; exec {command}'"));
    screen.until("pid ");
    let pid = screen.until(".").trim_end_matches('.').to_string();
    screen.until("worst lag first");
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    screen.expect_end();
}
