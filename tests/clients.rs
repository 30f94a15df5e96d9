//! Clients that other people wrote: curl, an `EventSource` in node, a browser.
//!
//! What is not installed is skipped, and the test says so.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Running, Server, installed, skip};

fn curl(arguments: &[&str]) -> String {
    let output =
        Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn curl_publishes_and_subscribes() {
    if installed(&["curl"]).is_none() {
        return;
    }
    let server = Server::start(&[("connection_age_ms", "500")]);
    let url = |path: &str| format!("http://{}{path}", server.public);
    let answer = curl(&["-d", "hello from curl", &url("/events/a")]);
    assert!(answer.contains("\"count\":1"), "{answer}");
    let body = "data: one\n\ndata: two\n\n";
    curl(&["-H", "Content-Type: text/event-stream", "--data-binary", body, &url("/events/a")]);
    curl(&[
        "-H",
        "Content-Type: text/event-stream",
        "-H",
        "Transfer-Encoding: chunked",
        "--data-binary",
        body,
        &url("/events/a"),
    ]);
    // Above a kilobyte curl waits for 100 Continue.
    let long = "x".repeat(5000);
    curl(&["-H", "Expect: 100-continue", "--data-binary", &long, &url("/events/a")]);

    for version in ["--http1.1", "--http1.0"] {
        // The stream ends at its age, so curl does too.
        let stream = curl(&["-N", version, &url("/events/a?last_event_id=earliest")]);
        let data: Vec<&str> =
            stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(
            data,
            ["hello from curl", "one", "two", "one", "two", long.as_str()],
            "{stream}"
        );
        assert!(stream.starts_with("retry: "), "{stream}");
        assert!(!stream.contains("curl: ("), "{stream}");
    }
    let head = curl(&["-I", &url("/events/a")]);
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/event-stream"),
        "{head}"
    );
    assert_eq!(curl(&[&url("/healthz")]), "ok\n");
}

/// An `EventSource` that is dropped every now and then must see every event once, in order, across
/// all its reconnections. It prints what it sees; it knows nothing of this server.
fn drives_an_event_source(server: &Server, mut client: Command) {
    let mut child = Running(client.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut line = || lines.next().expect("it goes on").expect("text");
    while line() != "open" {}
    let mut published = 0;
    let mut seen = 0;
    loop {
        // Until it has been dropped often enough; a few events at a time, so that some fall into
        // the times when it is not connected.
        let enough = server.metric("subscribed_total") >= 6;
        if !enough && published < seen + 7 {
            server.publish("a", &format!("event {published}\nüber zwei Zeilen"));
            published += 1;
            continue;
        }
        if enough && seen == published {
            break;
        }
        let line = line();
        if let Some(data) = line.strip_prefix("message ") {
            let expected = format!("\"event {seen}\\nüber zwei Zeilen\"");
            assert_eq!(data, expected);
            seen += 1;
        } else {
            assert!(line == "open" || line == "error", "{line}");
        }
    }
    assert_eq!(server.metric("gaps_total"), 0);
}

/// Streams last a moment only, so that the client has to come back all the time.
fn restless_server() -> Server {
    Server::start(&[("connection_age_ms", "100"), ("retry_ms", "20"), ("cors_origins", "*")])
}

#[test]
fn an_event_source_in_node() {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules");
    if installed(&["node"]).is_none() {
        return;
    }
    if !modules.join("eventsource").exists() {
        return skip("not installed: eventsource (npm install --no-save eventsource)");
    }
    let server = restless_server();
    let script = format!(
        "const {{ EventSource }} = require('eventsource');
         const source = new EventSource('http://{}/events/a');
         source.onopen = () => console.log('open');
         source.onerror = () => console.log('error');
         source.onmessage = event => console.log('message ' + JSON.stringify(event.data));",
        server.public
    );
    let mut node = Command::new("node");
    node.args(["-e", &script]).env("NODE_PATH", modules);
    drives_an_event_source(&server, node);
}

/// The page reports what it sees by publishing it to another topic, so the browser needs no
/// remote control.
#[test]
fn a_browser() {
    let Some(browser) = installed(&["chromium", "chromium-browser", "google-chrome"]) else {
        return;
    };
    let server = restless_server();
    let reports = Server::start(&[("cors_origins", "*")]);
    let page = format!(
        "<script>
           let queue = Promise.resolve();
           const report = text => queue = queue.then(() => fetch('http://{}/events/reports', {{ method: 'POST', body: text }}));
           const source = new EventSource('http://{}/events/a');
           source.onopen = () => report('open');
           source.onerror = () => report('error');
           source.onmessage = event => report('message ' + JSON.stringify(event.data));
         </script>",
        reports.public, server.public
    );
    let profile = std::env::temp_dir().join(format!("pushv-browser-{}", std::process::id()));
    std::fs::create_dir_all(&profile).unwrap();
    let file = profile.join("page.html");
    std::fs::write(&file, page).unwrap();
    // The reports come back as an event stream; its data lines are what the page printed.
    let mut reporting = reports.subscribe("/reports");
    let mut browsing = Command::new(browser);
    browsing
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", file.display()))
        .stderr(Stdio::null())
        .stdout(Stdio::null());
    let browsing = Running(browsing.spawn().unwrap());
    while reporting.data() != "open" {}
    let (mut published, mut seen) = (0, 0);
    loop {
        let enough = server.metric("subscribed_total") >= 6;
        if !enough && published < seen + 7 {
            server.publish("a", &format!("event {published}"));
            published += 1;
            continue;
        }
        if enough && seen == published {
            break;
        }
        let line = reporting.data();
        if let Some(data) = line.strip_prefix("message ") {
            assert_eq!(data, format!("\"event {seen}\""));
            seen += 1;
        }
    }
    drop(browsing);
    let _gone = std::fs::remove_dir_all(&profile);
    assert_eq!(server.metric("gaps_total"), 0);
}
