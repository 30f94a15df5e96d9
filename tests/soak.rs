//! The soak's script runs.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use pushv::soak::record::Run;
use std::path::Path;
use std::process::{Command, Stdio};
use support::installed;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Too short to say anything of growth, and long enough that everything happens that is to.
#[test]
fn the_script_runs() {
    if installed(&["curl"]).is_none() {
        return;
    }
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    let mut script = Command::new(format!("{ROOT}/scripts/soak.sh"));
    script.args(["--hours", "0.005", "--hold", "300", "--out"]).arg(&out).stdin(Stdio::null());
    let output = script.env("PUSHV", env!("CARGO_BIN_EXE_pushv")).output().unwrap();
    let (says, why) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{says}\n{why}");
    let run = Run::read(&out).unwrap_or_else(|error| panic!("{error}\n{says}\n{why}"));
    for criterion in [
        "after the load",
        "connections at once",
        "events of every reader",
        "gaps of prompt readers",
        "connections not accepted",
        "probes",
        "its end",
    ] {
        let findings = run.findings();
        let finding = findings.iter().find(|one| one.criterion == criterion).expect(criterion);
        assert!(finding.passed, "{finding:?}\n{says}\n{why}");
    }
    assert!(run.end.knobs > 0 && run.end.stopped > 1 && run.end.unread > 1, "{:?}", run.end);
    assert!(run.loads.len() == 7 && says.contains("| hold-3 | prompt | 300 |"), "{says}");
}

#[test]
fn wrong_arguments_are_refused() {
    let run = |arguments: &[&str]| {
        Command::new(format!("{ROOT}/scripts/soak.sh")).args(arguments).output().unwrap()
    };
    assert_eq!(run(&["--wrong"]).status.code(), Some(2));
    assert_eq!(run(&["--hours", "0"]).status.code(), Some(1));
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stdout.starts_with(b"usage: scripts/soak.sh"));
}
