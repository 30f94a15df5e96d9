//! Clients that other people wrote. Each must receive every event exactly once while its connections
//! are cut. `docs/PROTOCOL.md` says how each of them resumes.
//!
//! What is not installed is skipped, and the test says so.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../browser/mod.rs"]
mod browser;
mod cutter;
mod drive;
mod node;
mod pages;
mod python;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;
use support::{Server, installed};

fn curl(arguments: &[&str]) -> String {
    let output =
        Command::new("curl").args(["-sS", "--max-time", "120"]).args(arguments).output().unwrap();
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
