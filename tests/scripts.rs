//! The scripts that look at a running server still work: each starts a server and a load, looks
//! for a second, and prints what it promises.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::process::{Command, Output, Stdio};
use support::{installed, skip};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What the script says, unless it may not look.
fn run(script: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(format!("{ROOT}/scripts/{script}"));
    command.args(arguments).args(["--seconds", "1"]).stdin(Stdio::null());
    command.env("PUSHV", env!("CARGO_BIN_EXE_pushv"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (says, why) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if !status.success() {
        // The scripts' own word for it, and those of the tools.
        let refusals = ["not permitted", "ermission"];
        let refused = refusals.iter().any(|word| why.contains(word) || says.contains(word));
        assert!(refused, "{script}: {status}\n{says}\n{why}");
        skip(&format!("{script} is not permitted: {}", why.lines().last().unwrap_or_default()));
        return None;
    }
    Some(says.into_owned())
}

/// The number in front of, or behind, the name of a call, in whatever table.
fn calls(table: &str, name: &str) -> u64 {
    let mut lines = table.lines().filter(|line| !line.contains("bytes_per_write"));
    let line = lines.find(|line| line.contains(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{table}"));
    let numbers = line.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    numbers.fold(0.0, f64::max) as u64
}

#[test]
fn strace_sees_the_writes() {
    if installed(&["strace"]).is_none() {
        return;
    }
    // Without a choice it is the first that is installed.
    if let Some(table) = run("trace_syscalls.sh", &[]) {
        assert!(table.contains("usecs/call") && calls(&table, "sendto") > 100, "{table}");
    }
}

#[test]
fn perf_counts_the_writes() {
    if installed(&["perf"]).is_none() {
        return;
    }
    if let Some(table) = run("trace_syscalls.sh", &["--perf", "--write-path", "writev"]) {
        assert!(calls(&table, "writev") > 100, "{table}");
    }
}

#[test]
fn bpftrace_measures_the_writes() {
    if installed(&["bpftrace"]).is_none() {
        return;
    }
    if let Some(table) = run("trace_syscalls.sh", &["--bpftrace"]) {
        assert!(calls(&table, "sys_exit_sendto") > 100, "{table}");
        assert!(table.contains("bytes_per_write") && table.contains("[128, 256)"), "{table}");
    }
}

#[test]
fn the_path_through_the_kernel_is_drawn() {
    if installed(&["perf"]).is_none() {
        return;
    }
    let svg = format!("{}/kernel_path.svg", env!("CARGO_TARGET_TMPDIR"));
    let Some(table) = run("kernel_path.sh", &["--out", &svg]) else { return };
    for layer in ["TCP, sendmsg", "receive (softirq)", "user space"] {
        let line = table.lines().find(|line| line.contains(layer)).unwrap();
        let share: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
        assert!(share > 0.0, "{table}");
    }
    let drawing = std::fs::read_to_string(svg).unwrap();
    assert!(drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"), "{drawing}");
    assert!(drawing.matches("<g>").count() == drawing.matches("</g>").count());
    assert!(drawing.contains("tcp_sendmsg"), "{drawing}");
}

#[test]
fn pictures_of_the_live_page_are_taken() {
    if installed(&["chromium"]).is_none() {
        return;
    }
    let directory = env!("CARGO_TARGET_TMPDIR");
    run("screenshot.sh", &["--out", directory]).unwrap();
    for (name, width) in [("live.png", 1280), ("live-dark-phone.png", 720)] {
        let png = std::fs::read(format!("{directory}/{name}")).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}");
        // The width stands in the header chunk, which is the first (PNG specification, 11.2.1).
        assert_eq!(png[16..20], u32::to_be_bytes(width), "{name}");
        assert!(png.len() > 50_000, "{name} shows little: {} bytes", png.len());
    }
}

#[test]
fn wrong_arguments_are_refused() {
    for script in ["trace_syscalls.sh", "kernel_path.sh", "screenshot.sh", "faults.sh"] {
        let run =
            |argument| Command::new(format!("{ROOT}/scripts/{script}")).arg(argument).output();
        assert_eq!(run("--wrong").unwrap().status.code(), Some(2));
        let help = run("--help").unwrap();
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(help.status.success() && text.starts_with("usage: scripts/"), "{text}");
    }
}
