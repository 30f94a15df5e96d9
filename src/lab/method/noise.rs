//! What disturbs a block: the time for which its processes wanted a processor and had none.
//!
//! Not the spread of the results decides what is discarded, but this, by a rule that was declared
//! before: otherwise the lab would choose its figures.

use super::record::Noise;
use crate::sys;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;

/// The accounts at the beginning of a block.
#[derive(Debug)]
pub struct Ledger {
    pids: Vec<u32>,
    threads: BTreeMap<u32, Account>,
    steal_ns: u64,
    began_ns: u64,
}

/// What the kernel says of a thread since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Account {
    wait_ns: u64,
    involuntary: u64,
}

impl Ledger {
    /// Begins to watch all threads of these processes.
    pub fn start(pids: &[u32]) -> Ledger {
        Ledger {
            pids: pids.to_vec(),
            threads: threads(pids),
            steal_ns: steal_ns(),
            began_ns: sys::monotonic_ns(),
        }
    }

    /// What has disturbed them since.
    ///
    /// The kernel writes a wait into the account when it ends: one that goes on at this moment is
    /// missing here, and is found in the next block. A thread that has ended takes its account
    /// with it.
    pub fn stop(self) -> Noise {
        let wall_ns = sys::monotonic_ns() - self.began_ns;
        let mut noise = Noise { wall_ns, ..Noise::default() };
        noise.steal_ns = steal_ns().saturating_sub(self.steal_ns);
        for (tid, now) in threads(&self.pids) {
            let before = self.threads.get(&tid).copied().unwrap_or_default();
            noise.wait_ns += now.wait_ns.saturating_sub(before.wait_ns);
            noise.involuntary += now.involuntary.saturating_sub(before.involuntary);
        }
        noise
    }
}

/// Why the times of a block do not count, if they do not: its processes together waited for
/// processors for more than the part `wait_max` of its time, or the hypervisor took so much of it
/// from the machine. There is no other reason.
///
/// The kernel tells what the hypervisor took in steps of a tick, mostly 10 ms. In a block that is
/// shorter than a tick divided by `wait_max`, any step is too much.
pub fn discard(noise: &Noise, wait_max: f64) -> Option<String> {
    let limit_ns = wait_max * noise.wall_ns as f64;
    let percent = |ns: u64| 100.0 * ns as f64 / noise.wall_ns as f64;
    if noise.wait_ns as f64 > limit_ns {
        return Some(format!("waited {:.1} % of its time for processors", percent(noise.wait_ns)));
    }
    if noise.steal_ns as f64 > limit_ns {
        let percent = percent(noise.steal_ns);
        return Some(format!("the hypervisor took {percent:.1} % of its time"));
    }
    None
}

/// Whether the kernel keeps these accounts: without them every block would look undisturbed.
///
/// # Errors
/// What is missing.
pub fn is_told() -> Result<(), String> {
    // A process that asks has been on a processor.
    match fs::read_to_string("/proc/self/schedstat").ok().and_then(|text| number(&text, 0)) {
        Some(1..) => Ok(()),
        _ => Err("the kernel does not tell how long a process waits for a processor \
                  (/proc/self/schedstat: CONFIG_SCHED_INFO)"
            .into()),
    }
}

fn threads(pids: &[u32]) -> BTreeMap<u32, Account> {
    let folders = pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    let threads = folders.flatten().flatten();
    threads
        .filter_map(|thread| {
            let read = |file| fs::read_to_string(thread.path().join(file)).ok();
            let tid = thread.file_name().to_str()?.parse().ok()?;
            let wait_ns = number(&read("schedstat")?, 1)?;
            Some((tid, Account { wait_ns, involuntary: involuntary(&read("status")?)? }))
        })
        .collect()
}

fn involuntary(status: &str) -> Option<u64> {
    let mut lines = status.lines().rev();
    number(lines.find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?, 0)
}

/// Of all processors together (proc(5)).
fn steal_ns() -> u64 {
    // The first line is the sum over all processors; there may be thousands more.
    let mut line = [0; 256];
    let read = fs::File::open("/proc/stat").and_then(|mut file| file.read(&mut line));
    let line = String::from_utf8_lossy(&line[..read.unwrap_or(0)]);
    steal_ticks(&line).unwrap_or(0) * (1_000_000_000 / sys::ticks_per_s())
}

/// The eighth value behind `cpu`.
fn steal_ticks(stat: &str) -> Option<u64> {
    number(stat.lines().next()?.strip_prefix("cpu ")?, 7)
}

fn number(text: &str, nth: usize) -> Option<u64> {
    text.split_whitespace().nth(nth)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::run::Processors;
    use std::process::{Child, Command};
    use std::time::Duration;

    #[test]
    fn a_block_of_nothing_is_quiet() {
        is_told().unwrap();
        let ledger = Ledger::start(&[]);
        std::thread::sleep(Duration::from_millis(2)); // the subject is time
        let noise = ledger.stop();
        assert!(noise.wall_ns >= 2_000_000);
        assert_eq!((noise.wait_ns, noise.involuntary), (0, 0));
    }

    /// Two children that want the same processor wait for each other, and whoever else wants it: in
    /// the end both have waited, however long it takes until both run.
    #[test]
    fn competitors_wait() {
        // Children inherit the binding of the thread that starts them.
        let start = || {
            sys::bind_to_cpu(Processors::of_this_machine().subject).unwrap();
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]);
            [(); 2].map(|()| command.spawn().unwrap())
        };
        let mut children = std::thread::spawn(start).join().unwrap();
        let pids = children.each_ref().map(Child::id);
        let is_told = |noise: &Noise| {
            let waited = discard(noise, 0.05).is_some_and(|why| why.starts_with("waited "));
            waited && noise.wait_ns > 10_000_000 && noise.involuntary > 0
        };
        let blocks = std::iter::repeat_with(|| {
            let ledger = Ledger::start(&pids);
            std::thread::sleep(Duration::from_millis(100)); // the subject is time
            ledger.stop()
        });
        let noise = blocks.take(100).find(is_told);
        for child in &mut children {
            child.kill().and_then(|()| child.wait()).unwrap();
        }
        assert!(noise.is_some());
    }

    #[test]
    fn the_rule_is_as_declared() {
        let block = Noise { wall_ns: 50_000_000, ..Noise::default() };
        assert_eq!(discard(&block, 0.02), None);
        assert_eq!(discard(&Noise { wait_ns: 1_000_000, ..block }, 0.02), None);
        let waited = discard(&Noise { wait_ns: 1_000_001, ..block }, 0.02).unwrap();
        assert_eq!(waited, "waited 2.0 % of its time for processors");
        let stolen = discard(&Noise { steal_ns: 10_000_000, ..block }, 0.02).unwrap();
        assert_eq!(stolen, "the hypervisor took 20.0 % of its time");
        assert_eq!(discard(&Noise { steal_ns: 10_000_000, ..block }, 0.2), None);
    }

    #[test]
    fn files_of_the_kernel_are_understood() {
        assert_eq!(steal_ticks("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n"), Some(8));
        assert_eq!(steal_ticks("cpu0 1 2 3 4 5 6 7 8\n"), None);
        let status = "voluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t5\n";
        assert_eq!(involuntary(status), Some(5));
    }
}
