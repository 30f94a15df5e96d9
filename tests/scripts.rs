//! The scripts that look at a running server still work: each starts a server and a load, looks
//! for a second, and prints what it promises.
//!
//! On a busy machine a second may be too short to see anything, so they look for longer until
//! there is enough to see.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use support::{installed, skip};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Several of them at once only make each other slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What the script says when it has seen enough, unless it may not look.
fn run(script: &str, arguments: &[&str], enough: impl Fn(&str) -> bool) -> Option<String> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut says = String::new();
    for seconds in ["1", "5", "20", "80"] {
        says = run_for(seconds, script, arguments)?;
        if enough(&says) {
            return Some(says);
        }
    }
    panic!("{script} does not see enough:\n{says}");
}

/// What the script says when it has looked for so long, unless it may not look.
fn run_for(seconds: &str, script: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(format!("{ROOT}/scripts/{script}"));
    command.args(arguments).args(["--seconds", seconds]).stdin(Stdio::null());
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

/// The number in front of, or behind, the name of a call, in whatever table; 0 if it is in none.
fn calls(table: &str, name: &str) -> u64 {
    let mut lines = table.lines().filter(|line| !line.contains("bytes_per_write"));
    let Some(line) = lines.find(|line| line.contains(name)) else { return 0 };
    let numbers = line.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    numbers.fold(0.0, f64::max) as u64
}

#[test]
fn strace_sees_the_writes() {
    if installed(&["strace"]).is_none() {
        return;
    }
    // Without a choice it is the first that is installed.
    run("trace_syscalls.sh", &[], |table| {
        table.contains("usecs/call") && calls(table, "sendto") > 100
    });
}

#[test]
fn perf_counts_the_writes() {
    if installed(&["perf"]).is_none() {
        return;
    }
    let writev = ["--perf", "--write-path", "writev"];
    run("trace_syscalls.sh", &writev, |table| calls(table, "writev") > 100);
}

#[test]
fn bpftrace_measures_the_writes() {
    if installed(&["bpftrace"]).is_none() {
        return;
    }
    let enough = |table: &str| calls(table, "sys_exit_sendto") > 100;
    let Some(table) = run("trace_syscalls.sh", &["--bpftrace"], enough) else { return };
    // Each call carries one event of the load, or several if the server was late. A call that found
    // no room is not in the histogram.
    let (_, histogram) = table.split_once("@bytes_per_write[").unwrap();
    let buckets = histogram.lines().skip(1).take_while(|line| line.starts_with('['));
    let buckets: Vec<(&str, u64)> = buckets
        .map(|line| line.split_once(')').unwrap())
        .map(|(bounds, rest)| (bounds, rest.split_whitespace().next().unwrap().parse().unwrap()))
        .filter(|(_, count)| *count > 0)
        .collect();
    let sum: u64 = buckets.iter().map(|(_, count)| count).sum();
    assert!((100..=calls(&table, "sys_exit_sendto")).contains(&sum), "{table}");
    let least: u64 =
        buckets[0].0.trim_start_matches('[').split(',').next().unwrap().parse().unwrap();
    assert!(least >= 128, "{table}");
}

#[test]
fn the_path_through_the_kernel_is_drawn() {
    if installed(&["perf"]).is_none() {
        return;
    }
    let svg = format!("{}/kernel_path.svg", env!("CARGO_TARGET_TMPDIR"));
    let share = |table: &str, layer: &str| -> f64 {
        let line = table.lines().find(|line| line.contains(layer));
        line.map_or(0.0, |line| line.split_whitespace().next().unwrap().parse().unwrap())
    };
    let seen = run("kernel_path.sh", &["--out", &svg], |table| {
        let layers = ["TCP, sendmsg", "receive (softirq)", "user space"];
        layers.iter().all(|layer| share(table, layer) > 0.0)
    });
    if seen.is_none() {
        return;
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
    run("screenshot.sh", &["--out", directory], |_| true).unwrap();
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
    for script in ["trace_syscalls.sh", "kernel_path.sh", "screenshot.sh", "faults.sh", "busy.sh"] {
        let run =
            |argument| Command::new(format!("{ROOT}/scripts/{script}")).arg(argument).output();
        assert_eq!(run("--wrong").unwrap().status.code(), Some(2));
        let help = run("--help").unwrap();
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(help.status.success() && text.starts_with("usage: scripts/"), "{text}");
    }
}
