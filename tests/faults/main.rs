//! Faults, brought upon the real server from outside: its system calls fail, its descriptors and
//! its memory run out, its peers reset, vanish, or do not read, and signals come at a bad moment.
//!
//! One rule holds in every case: each stream that the fault does not hit stays complete, ordered
//! and free of gaps; one that is hit resumes with `Last-Event-ID` and has missed nothing; the
//! process lives, and its descriptors return to what they were.
//!
//! This is a program of its own, not a set of `#[test]`s, because it prints a table.
//! `cargo test` runs the short part; `scripts/faults.sh` runs it all. What cannot be done here is
//! named and passed over.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;

mod descriptors;
mod memory;
mod network;
mod publisher;
mod reader;
mod reload;
mod resets;
mod scenario;
mod server;
mod short_writes;
mod signals;
mod slow_readers;
mod sweep;
mod table;
mod trace;

use std::process::ExitCode;
use std::time::Instant;
use table::Row;

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Within a minute.
    Quick,
    /// Within twenty.
    Full,
}

impl Scale {
    /// One of two sizes.
    fn of<T>(self, quick: T, full: T) -> T {
        match self {
            Scale::Quick => quick,
            Scale::Full => full,
        }
    }
}

/// A kind of fault.
struct Case {
    name: &'static str,
    /// What must be installed.
    programs: &'static [&'static str],
    needs_root: bool,
    run: fn(Scale) -> Vec<Row>,
}

const CASES: &[Case] = &[
    case("sweep", &["strace"], false, sweep::run),
    case("controls", &["strace"], false, sweep::controls),
    case("accept", &["strace"], false, sweep::accept_keeps_failing),
    case("descriptors", &["prlimit"], false, descriptors::run),
    case("reload", &["strace", "prlimit"], false, reload::run),
    case("resets", &["ss"], true, resets::run),
    case("signals", &["unshare"], true, signals::run),
    case("network", &["ip", "iptables", "tc", "unshare", "nsenter"], true, network::run),
    case("memory", &[], true, memory::run),
    case("short-writes", &["strace"], false, short_writes::run),
    case("slow-readers", &["ss"], false, slow_readers::run),
];

const fn case(
    name: &'static str,
    programs: &'static [&'static str],
    needs_root: bool,
    run: fn(Scale) -> Vec<Row>,
) -> Case {
    Case { name, programs, needs_root, run }
}

fn main() -> ExitCode {
    // The limit in force is often a thousandth of what may be had.
    let _as_it_is = pushv::sys::set_descriptor_limit(u64::MAX);
    let mut scale = Scale::Quick;
    let mut only: Option<String> = None;
    let mut inside = false;
    let mut arguments = std::env::args_os().skip(1).map(|one| one.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--full" => scale = Scale::Full,
            "--quick" => scale = Scale::Quick,
            network::INSIDE => inside = true,
            // Of the arguments of an ordinary test program those that matter here.
            "--list" => {
                CASES.iter().for_each(|case| println!("{}: test", case.name));
                return ExitCode::SUCCESS;
            }
            "--skip" | "--test-threads" | "--format" | "--logfile" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            name => only = Some(name.to_owned()),
        }
    }
    if inside {
        network::inside(scale);
        return ExitCode::SUCCESS;
    }
    let chosen = CASES.iter().filter(|case| only.as_deref().is_none_or(|only| case.name == only));
    let rows: Vec<Row> = chosen.flat_map(|case| perform(case, scale)).collect();
    print!("{}", table::summary(&rows));
    ExitCode::from(u8::from(rows.iter().any(|row| row.result.is_err())))
}

/// Runs a case, and prints its rows.
fn perform(case: &Case, scale: Scale) -> Vec<Row> {
    if !case.programs.iter().all(|program| support::installed(&[program]).is_some()) {
        return Vec::new();
    }
    if case.needs_root && !server::is_root() {
        support::skip(&format!("needs root: faults, {}", case.name));
        return Vec::new();
    }
    let begun = Instant::now();
    let rows = (case.run)(scale);
    print!("{}", table::of_case(case.name, &rows, begun.elapsed()));
    rows
}
