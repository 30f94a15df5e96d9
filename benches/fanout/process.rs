//! What the kernel knows about a process and its descendants.

use std::fs::read_to_string;
use std::time::{Duration, Instant};

/// How long to wait for a process to have nothing to do.
const REST_PATIENCE: Duration = Duration::from_millis(100);

/// The process and its descendants, parents first.
pub fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let children = read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        next += 1;
    }
    found
}

/// The time that all threads of these processes have been on a processor, as the scheduler counts
/// it (`schedstat`, first field).
fn cpu(pids: &[u32]) -> Duration {
    let ns = threads(pids, "schedstat")
        .map(|text| text.split(' ').next().and_then(|field| field.parse::<u64>().ok()));
    Duration::from_nanos(ns.map(|ns| ns.expect("nanoseconds")).sum())
}

/// The same once no thread has anything left to do. What a server does after its last `send` is
/// part of the price; and only when a thread goes to sleep is its account exact.
pub fn cpu_at_rest(pids: &[u32]) -> Duration {
    let deadline = Instant::now() + REST_PATIENCE;
    while Instant::now() < deadline {
        // The state is the field behind the name, which may itself contain anything.
        let mut running = threads(pids, "stat")
            .map(|text| text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('R')));
        if !running.any(|running| running) {
            break;
        }
    }
    cpu(pids)
}

/// The contents of that file of every thread. A thread that ends meanwhile is left out.
fn threads(pids: &[u32], file: &str) -> impl Iterator<Item = String> {
    pids.iter()
        .filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flatten()
        .filter_map(move |thread| read_to_string(thread.ok()?.path().join(file)).ok())
}

/// The resident memory of these processes.
pub fn resident_bytes(pids: &[u32]) -> u64 {
    let pages = pids.iter().map(|pid| {
        let text = read_to_string(format!("/proc/{pid}/statm")).expect("statm");
        text.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok()).expect("pages")
    });
    pages.sum::<u64>() * pushv::sys::page_bytes()
}
