//! Runs `pushv load`, and reads its report.

#![allow(dead_code)] // each test file uses its own part

use serde_json::Value;
use std::process::{Command, Output};

/// `pushv load` for 300 ms, without a warm-up, unless the arguments say otherwise.
pub fn load(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushv"));
    command.args(["load", url, "--warmup", "0s", "--duration", "300ms"]).args(arguments);
    command
}

/// The report of a load, with its exit status.
#[track_caller]
pub fn report(url: &str, arguments: &[&str]) -> (i32, Value) {
    let output = load(url, arguments).arg("--json").output().unwrap();
    let status = output.status.code().expect("it was not killed");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr))
    });
    (status, report)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A run that finds nothing wrong: as many deliveries as events and subscribers make.
#[track_caller]
pub fn good(url: &str, connections: u64, arguments: &[&str]) -> Value {
    let count = connections.to_string();
    let (status, report) = report(url, &[&["-n", &count, "--publish", "self"], arguments].concat());
    assert_eq!((status, &report["verdict"]), (0, &Value::from("ok")), "{report:#}");
    let events = report["published"]["events"].as_u64().unwrap();
    assert!(events > 0);
    assert_eq!(report["published"]["accepted"], events);
    assert_eq!(report["deliveries"]["count"], events * connections, "{report:#}");
    report
}

#[track_caller]
pub fn fails(output: &Output, status: i32, expected: &str) {
    let said = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(expected), "{said}");
}
