//! The kernel's own reckoning of the system calls of a process, beside ours.
//!
//! A server that counts its writes could count wrong, or leave some out. Who counts them here is
//! not the server: the kernel, at the tracepoints through which every system call passes, or else
//! strace(1), which stops the process at each. Neither belongs into a run that is timed.

use crate::sys::process;
use crate::sys::trace::{self, Counter};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// Somebody who can count the system calls of other processes.
#[derive(Debug)]
pub struct Auditor {
    method: Method,
}

#[derive(Debug)]
enum Method {
    /// Counters at tracepoints, which are described in this directory.
    Tracepoint(PathBuf),
    Strace,
}

/// What was counted: names, as they were asked for, and numbers.
pub type Counts = BTreeMap<String, u64>;

impl Auditor {
    /// The best auditor that there is: tracepoints, which disturb least, or else strace.
    ///
    /// For tracepoints the kernel's file system of them must be mounted. If it is not, and we are
    /// permitted to, it is mounted where everybody expects it, and stays there, as perf(1) has it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn new() -> Result<Auditor, String> {
        Auditor::by_tracepoints().or_else(|no_tracepoints| {
            Auditor::by_strace().map_err(|no_strace| format!("{no_tracepoints}; {no_strace}"))
        })
    }

    /// One that uses tracepoints. It has counted some calls of this process, as a test.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn by_tracepoints() -> Result<Auditor, String> {
        let events = events().ok_or(
            "no tracepoints: /sys/kernel/tracing is not mounted, or may not be read by this user",
        )?;
        let id = tracepoint(&events, "getpid")?;
        let counted = own_calls(id).map_err(|why| format!("no counters of tracepoints: {why}"))?;
        if counted != OWN_CALLS {
            return Err(format!("a tracepoint saw {counted} calls, but there were {OWN_CALLS}"));
        }
        Ok(Auditor { method: Method::Tracepoint(events) })
    }

    /// One that uses strace. Whether it may attach to a process is seen when it does.
    ///
    /// # Errors
    /// That it is not installed.
    pub fn by_strace() -> Result<Auditor, String> {
        let mut command = Command::new("strace");
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => Ok(Auditor { method: Method::Strace }),
            _ => Err("not installed: strace".into()),
        }
    }

    /// What it uses: "tracepoint" or "strace".
    pub fn name(&self) -> &'static str {
        match self.method {
            Method::Tracepoint(_) => "tracepoint",
            Method::Strace => "strace",
        }
    }

    /// How often the process makes these system calls while `work` is done, all its threads
    /// together. With tracepoints a name may also be that of any event, for example
    /// `net/net_dev_xmit`; counted is what happens while a thread of the process is on its
    /// processor, which may be in the service of others.
    ///
    /// The names are the kernel's: on most processors there is no `send`, but `sendto`.
    ///
    /// # Errors
    /// If something is not known or not permitted, or if `work` fails.
    pub fn count(
        &self,
        pid: u32,
        calls: &[&str],
        work: &mut dyn FnMut() -> Result<(), String>,
    ) -> Result<Counts, String> {
        match &self.method {
            Method::Tracepoint(events) => count_by_tracepoints(events, pid, calls, work),
            Method::Strace => count_by_strace(pid, calls, work),
        }
    }
}

fn count_by_tracepoints(
    events: &Path,
    pid: u32,
    calls: &[&str],
    work: &mut dyn FnMut() -> Result<(), String>,
) -> Result<Counts, String> {
    let mut counters = Vec::new();
    for &call in calls {
        let id = tracepoint(events, call)?;
        for tid in threads(pid)? {
            let counter = Counter::open(id, tid).map_err(|why| format!("{call}: {why}"))?;
            counters.push((call, counter));
        }
    }
    let each = |act: fn(&Counter) -> std::io::Result<()>| {
        counters.iter().try_for_each(|(call, it)| act(it).map_err(|why| format!("{call}: {why}")))
    };
    each(Counter::enable)?;
    work()?;
    each(Counter::disable)?;
    let mut counts = Counts::new();
    for (call, counter) in &counters {
        let count = counter.read().map_err(|why| format!("{call}: {why}"))?;
        *counts.entry((*call).to_string()).or_default() += count;
    }
    Ok(counts)
}

/// The number of a tracepoint: of "group/event", or of where a system call begins.
fn tracepoint(events: &Path, name: &str) -> Result<u64, String> {
    let folder = match name.split_once('/') {
        Some(_) => events.join(name),
        None => events.join(format!("syscalls/sys_enter_{name}")),
    };
    let id = fs::read_to_string(folder.join("id"));
    let id = id.map_err(|why| format!("{}: {why}", folder.display()))?;
    id.trim().parse().map_err(|_| format!("{}: not a number: {id}", folder.display()))
}

fn threads(pid: u32) -> Result<Vec<u32>, String> {
    let folder = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = folder.map_err(|why| format!("process {pid}: {why}"))?;
    Ok(threads.flatten().filter_map(|thread| thread.file_name().to_str()?.parse().ok()).collect())
}

/// The directory of tracepoints.
fn events() -> Option<PathBuf> {
    const MOUNTED_AT: &str = "/sys/kernel/tracing";
    let find = || {
        let mut places = [MOUNTED_AT, "/sys/kernel/debug/tracing"].iter();
        places.find_map(|place| {
            let events = Path::new(place).join("events");
            fs::read_dir(&events).is_ok().then_some(events)
        })
    };
    find().or_else(|| {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tracefs", "nodev", MOUNTED_AT]).stderr(Stdio::null());
        // Not everybody may; whether it is there now is what matters.
        let _status = mount.status();
        find()
    })
}

/// What a counter says of a known number of calls of this thread.
fn own_calls(getpid: u64) -> std::io::Result<u64> {
    let this_thread = 0;
    let counter = Counter::open(getpid, this_thread)?;
    counter.enable()?;
    for _ in 0..OWN_CALLS {
        std::hint::black_box(std::process::id());
    }
    counter.disable()?;
    counter.read()
}

const OWN_CALLS: u64 = 10;

fn count_by_strace(
    pid: u32,
    calls: &[&str],
    work: &mut dyn FnMut() -> Result<(), String>,
) -> Result<Counts, String> {
    if let Some(event) = calls.iter().find(|name| name.contains('/')) {
        return Err(format!("strace counts system calls, not {event}"));
    }
    let mut strace = Strace::attach(pid, calls)?;
    let done = work();
    await_rest(pid);
    let table = strace.detach()?;
    done.map(|()| parse_table(&table, calls))
}

/// Waits until the process sleeps: strace counts a call when it returns, which the last one has
/// perhaps not when its effect is seen. One that never sleeps is not waited for without end.
fn await_rest(pid: u32) {
    let deadline = Instant::now() + REST_PATIENCE;
    while Instant::now() < deadline && !rests(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn rests(pid: u32) -> bool {
    threads(pid).unwrap_or_default().iter().all(|tid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
        // The state is the field behind the name, which may itself contain anything.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
    })
}

const REST_PATIENCE: Duration = Duration::from_secs(10);

/// A strace that is attached. Dropped, it is killed, which lets the process go.
struct Strace {
    child: Child,
    says: Lines<BufReader<ChildStderr>>,
}

impl Strace {
    fn attach(pid: u32, calls: &[&str]) -> Result<Strace, String> {
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-p", &pid.to_string(), "-e"]);
        command.arg(format!("trace={}", calls.join(",")));
        // What it says is looked at, so that it must not be translated.
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
        // Killed, it lets the process go.
        process::end_with_parent(&mut command);
        let spawned = command.stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|why| format!("strace: {why}"))?;
        let stderr = child.stderr.take().ok_or("strace: it says nothing")?;
        let mut strace = Strace { child, says: BufReader::new(stderr).lines() };
        let mut heard = Vec::new();
        for line in strace.says.by_ref().map_while(Result::ok) {
            // "Process 7 attached", "Process 7 attached with 3 threads".
            if line.contains(" attached") {
                return Ok(strace);
            }
            heard.push(line);
        }
        Err(heard.join("; "))
    }

    /// Lets the process go, and gives all that strace has said since.
    fn detach(&mut self) -> Result<String, String> {
        trace::interrupt(&self.child).map_err(|why| format!("strace: {why}"))?;
        let lines: Vec<String> = self.says.by_ref().map_while(Result::ok).collect();
        Ok(lines.join("\n"))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// From the table of `strace -c`: `% time, seconds, usecs/call, calls, errors, syscall`, where the
/// column before the last one may be empty. Calls that are not in it were not made.
fn parse_table(table: &str, calls: &[&str]) -> Counts {
    let mut counts: Counts = calls.iter().map(|&call| (call.to_string(), 0)).collect();
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(number), Some(name)) = (fields.get(3), fields.last()) else { continue };
        if let (Some(count), Ok(number)) = (counts.get_mut(*name), number.parse::<u64>()) {
            *count += number;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    /// A shell that is asked for a number of lines makes one write(2) for each.
    fn counted(auditor: Result<Auditor, String>, name: &str) {
        let auditor = match auditor {
            Ok(auditor) => auditor,
            Err(why) => return skip(&why),
        };
        assert_eq!(auditor.name(), name);
        let mut shell = Shell::start();
        shell.ask(3).unwrap();
        let pid = shell.child.id();
        match auditor.count(pid, &["write", "writev"], &mut || shell.ask(1000)) {
            Ok(counts) => {
                assert_eq!((counts["write"], counts["writev"]), (1000, 0));
                shell.ask(1).unwrap(); // it was let go
            }
            Err(why) if why.contains("not permitted") => skip(&why),
            Err(why) => panic!("{why}"),
        }
    }

    #[test]
    fn tracepoints_count_every_call() {
        counted(Auditor::by_tracepoints(), "tracepoint");
    }

    #[test]
    fn strace_counts_every_call() {
        counted(Auditor::by_strace(), "strace");
    }

    #[test]
    fn other_events_are_counted_too() {
        let Ok(auditor) = Auditor::by_tracepoints() else { return skip("no tracepoints") };
        let mut shell = Shell::start();
        let names = ["raw_syscalls/sys_enter", "net/net_dev_xmit"];
        let counts = auditor.count(shell.child.id(), &names, &mut || shell.ask(10)).unwrap();
        assert!(counts[names[0]] >= 11 && counts.contains_key(names[1]), "{counts:?}");
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let shell = Shell::start();
        let nothing = &mut || Ok(());
        for auditor in [Auditor::by_tracepoints(), Auditor::by_strace()].into_iter().flatten() {
            assert!(auditor.count(u32::MAX, &["write"], nothing).is_err());
            let why = auditor.count(shell.child.id(), &["no_such_call"], nothing).unwrap_err();
            assert!(why.contains("no_such_call"), "{why}");
            let failing = &mut || Err("it failed".to_string());
            if let Err(why) = auditor.count(shell.child.id(), &["write"], failing) {
                assert!(why == "it failed" || why.contains("not permitted"), "{why}");
            }
        }
        let strace = Auditor { method: Method::Strace };
        assert!(strace.count(shell.child.id(), &["net/net_dev_xmit"], nothing).is_err());
    }

    #[test]
    fn the_table_is_understood() {
        let table = "strace: Process 7 detached\n\
            % time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            \x20 99.10    0.088779           8     10200         3 sendto\n\
            \x20  0.90    0.002371           9       252           epoll_wait\n\
            100.00    0.091771           8     10452         3 total\n";
        let counts = parse_table(table, &["sendto", "epoll_wait", "writev"]);
        let counts: Vec<(&str, u64)> =
            counts.iter().map(|(name, &count)| (name.as_str(), count)).collect();
        assert_eq!(counts, [("epoll_wait", 252), ("sendto", 10200), ("writev", 0)]);
    }

    /// A shell that writes a line when it has read one, and as many as that says.
    struct Shell {
        child: Child,
    }

    impl Shell {
        fn start() -> Shell {
            let script = "while read n; do while [ $n -gt 0 ]; do echo; n=$((n-1)); done; done";
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            Shell { child: command.spawn().unwrap() }
        }

        fn ask(&mut self, lines: usize) -> Result<(), String> {
            writeln!(self.child.stdin.as_mut().unwrap(), "{lines}").unwrap();
            let mut answer = vec![0; lines];
            let read = self.child.stdout.as_mut().unwrap().read_exact(&mut answer);
            read.map_err(|why| why.to_string())
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            self.child.kill().and_then(|()| self.child.wait()).unwrap();
        }
    }

    fn skip(why: &str) {
        writeln!(std::io::stderr(), "SKIPPED: {why}").unwrap();
    }
}
