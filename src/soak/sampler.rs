//! Asks a server how it is, every so many seconds, until it is gone.

use super::probe::Probe;
use super::sample::Sample;
use crate::client::url::Url;
use crate::load::server_side::Server;
use crate::sys;
use std::fs;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

/// Whom to ask, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server's process.
    pub pid: u32,
    /// Its admin listener.
    pub admin: Url,
    /// The topic to which probes are published.
    pub probe: Url,
    /// The time between two samples.
    pub every: Duration,
}

/// Writes samples to `out`, a line each, until the server's process has ended or [`SAMPLES_MAX`] are
/// taken.
///
/// # Errors
/// As writing; and if the server cannot be asked although it is there.
pub fn run(plan: &Plan, mut out: impl Write) -> io::Result<()> {
    let server =
        Server { pid: Some(plan.pid), admin: Some(plan.admin.clone()), ..Server::default() };
    let probe = Probe::start(plan.probe.clone());
    let begun = Instant::now();
    let (mut before_ns, mut cpu_before_ns) = (sys::monotonic_ns(), 0);
    for nth in 0..SAMPLES_MAX {
        let due = plan.every * nth;
        thread::sleep(due.saturating_sub(begun.elapsed()));
        // Before the question, which takes a descriptor itself.
        let asked = descriptors(plan.pid).and_then(|open| Ok((open, server.sample()?)));
        let (descriptors, answer) = match asked {
            Ok(answer) => answer,
            Err(_) if is_ending(plan.pid) => return Ok(()),
            Err(why) => return Err(io::Error::other(why)),
        };
        let mut sample = Sample {
            t_s: begun.elapsed().as_secs(),
            descriptors,
            resident_bytes: answer.resident_bytes.unwrap_or(0),
            ..Sample::default()
        };
        sample.take_metrics(&answer.counters);
        sample.take_sockstat(&read("/proc/net/sockstat"), sys::page_bytes());
        sample.machine_load = first_number(&read("/proc/loadavg"));
        let (now_ns, cpu_ns) = (sys::monotonic_ns(), answer.cpu_ns.unwrap_or(0));
        if nth > 0 {
            let share = (cpu_ns - cpu_before_ns) as f64 / (now_ns - before_ns) as f64;
            sample.cpu_share = (share * 1e4).round() / 1e4;
        }
        (before_ns, cpu_before_ns) = (now_ns, cpu_ns);
        note_probes(&mut sample, &probe);
        serde_json::to_writer(&mut out, &sample)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

fn note_probes(sample: &mut Sample, probe: &Probe) {
    let tally = probe.take();
    sample.probes_sent = tally.sent;
    sample.probes_received = tally.received;
    sample.probes_refused = tally.refused;
    if tally.time_us.count() > 0 {
        sample.probe_p50_us = tally.time_us.quantile(0.5);
        sample.probe_p99_us = tally.time_us.quantile(0.99);
        sample.probe_max_us = tally.time_us.max();
    }
}

/// How many descriptors a process has open (`/proc/PID/fd`, proc(5)).
fn descriptors(pid: u32) -> Result<u64, String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|error| error.to_string())?;
    Ok(open.count() as u64)
}

/// Whether a process has ended, or does so within the time that a drain takes.
fn is_ending(pid: u32) -> bool {
    let begun = Instant::now();
    while is_there(pid) {
        if begun.elapsed() > DRAIN {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

/// Whether a process exists and has not ended: one that has is listed until its parent asks.
fn is_there(pid: u32) -> bool {
    let status = read(&format!("/proc/{pid}/status"));
    !status.is_empty() && !status.lines().any(|line| line.starts_with("State:\tZ"))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn first_number(text: &str) -> f64 {
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// More than that, and a record is no longer one that is kept beside the source.
pub const SAMPLES_MAX: u32 = 600;
const DRAIN: Duration = Duration::from_secs(20);
