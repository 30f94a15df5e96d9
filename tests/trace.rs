//! The programs of `scripts/trace` load into this kernel, and see what a server under load does.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::{Running, installed, skip};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PUSHV: &str = env!("CARGO_BIN_EXE_pushv");

/// Several of them at once only make each other slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What runs to be looked at. Dropped, it ends.
struct Load {
    server: Running,
    _subscribers: Running,
}

impl Load {
    /// A server with a few subscribers who get 200 events per second.
    fn start() -> Load {
        let mut command = Command::new(PUSHV);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off"]);
        let mut server = Running::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let url = first_line(server.0.stdout.take().unwrap());
        let url = format!("{}/events/a", url.strip_prefix("listening ").unwrap());
        let mut command = Command::new(PUSHV);
        command.args(["load", &url, "--publish", "self", "--rate", "200", "-n", "10"]);
        command.args(["--duration", "3600s"]).stdout(Stdio::null()).stderr(Stdio::null());
        Load { server, _subscribers: Running::spawn(&mut command) }
    }
}

fn first_line(stdout: impl Read) -> String {
    BufReader::new(stdout).lines().next().unwrap().unwrap()
}

/// What `program` says of process `pid` when it has seen enough, unless it may not look: on a busy
/// machine the first few seconds may be over before all of it is in its place.
fn trace(program: &str, pid: &str, enough: impl Fn(&str) -> bool) -> Option<String> {
    let mut says = String::new();
    for seconds in ["3", "10", "30", "100"] {
        says = trace_for(seconds, program, pid)?;
        if enough(&says) {
            return Some(says);
        }
    }
    panic!("{program} does not see enough:\n{says}");
}

/// What `program` says of process `pid` within some seconds, unless it may not look.
fn trace_for(seconds: &str, program: &str, pid: &str) -> Option<String> {
    let file = format!("{ROOT}/scripts/trace/{program}");
    let mut command = Command::new("timeout");
    command.args(["300", "bpftrace", &file, pid, seconds]).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (says, why) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if !status.success() {
        let refusals = ["root user", "not permitted", "ermission"];
        let refused = refusals.iter().any(|word| why.contains(word) || says.contains(word));
        assert!(refused, "{program}: {status}\n{says}\n{why}");
        skip(&format!("{program} is not permitted: {}", why.lines().last().unwrap_or_default()));
        return None;
    }
    Some(says.into_owned())
}

/// The sum of the counts of a map: of the buckets of a histogram, or the number behind the colon.
/// A map that is not there has counted nothing.
fn counted(output: &str, map: &str) -> u64 {
    let mut lines = output.lines().skip_while(|line| !line.starts_with(map));
    let Some(first) = lines.next() else { return 0 };
    if let Some(number) = first.rsplit(": ").next().and_then(|number| number.trim().parse().ok()) {
        return number;
    }
    let buckets = lines.take_while(|line| line.starts_with('['));
    let counts = buckets.map(|line| {
        let (_, behind) = line.split_once([']', ')']).unwrap();
        behind.split_whitespace().find_map(|word| word.parse::<u64>().ok()).unwrap()
    });
    counts.sum()
}

#[test]
fn the_writes() {
    if installed(&["bpftrace"]).is_none() {
        return;
    }
    let _alone = alone();
    let load = Load::start();
    let enough = |seen: &str| {
        let of = |map: &str| counted(seen, &format!("{map}[tracepoint:syscalls:sys_exit_sendto]"));
        of("@bytes") > 100 && of("@time_us") > 100
    };
    let Some(seen) = trace("writes.bt", &load.server.0.id().to_string(), enough) else { return };
    assert!(!seen.contains("@entered"), "{seen}");
}

#[test]
fn from_the_send_to_the_acknowledgement() {
    if installed(&["bpftrace"]).is_none() {
        return;
    }
    if std::fs::metadata("/sys/kernel/btf/vmlinux").is_err() {
        return skip("the kernel does not tell its types");
    }
    let _alone = alone();
    let load = Load::start();
    // An event of the load has more than 100 bytes, and a few of them may be under way.
    let enough = |seen: &str| counted(seen, "@send_to_ack_us") > 100 && seen.contains("[128, 256)");
    let pid = load.server.0.id().to_string();
    let Some(seen) = trace("send_to_ack.bt", &pid, enough) else { return };
    assert_eq!(counted(&seen, "@send_to_ack_us"), counted(&seen, "@window_bytes"), "{seen}");
    assert_eq!(counted(&seen, "@acknowledges_what_was_never_sent"), 0, "{seen}");
}

#[test]
fn the_reactor() {
    if installed(&["bpftrace"]).is_none() {
        return;
    }
    let _alone = alone();
    let load = Load::start();
    let maps = ["@epoll_wait_us", "@events_per_wait", "@turn_us", "@wake_to_run_us", "@slept"];
    let enough =
        |seen: &str| maps.iter().all(|map| counted(seen, map) > 100) && seen.contains("@woken_by[");
    trace("reactor.bt", &load.server.0.id().to_string(), enough);
}

/// A script that ends what it has started when its input ends. Killed, it could not.
struct Asked(std::process::Child);

impl Drop for Asked {
    fn drop(&mut self) {
        let _status = self.0.wait(); // which closes its input first
    }
}

/// On a loopback that drops what is too much, in a network namespace of its own.
#[test]
fn the_retransmissions() {
    for program in ["bpftrace", "unshare", "tc"] {
        if installed(&[program]).is_none() {
            return;
        }
    }
    let _alone = alone();
    let script = format!(
        "ip link set lo up mtu 1500
         tc qdisc add dev lo root tbf rate 2mbit burst 10000 limit 10000 || exit
         {PUSHV} serve --listen 127.0.0.1:8080 --admin off >&2 & server=$!
         until ss -Hltn | grep -q :8080; do sleep 0.1; done
         {PUSHV} load http://127.0.0.1:8080/events/a --publish self --rate 100 --size 500 -n 20 \
           --duration 3600s >&2 & load=$!
         echo $server
         read -r _
         kill $load $server; wait"
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "bash", "-c", &script]).stderr(Stdio::null());
    let narrow = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut narrow = Asked(narrow);
    let pid = BufReader::new(narrow.0.stdout.take().unwrap()).lines().next();
    let Some(Ok(pid)) = pid else { return skip("no network namespace, or none that drops") };
    trace("retransmits.bt", &pid, |seen| {
        let retransmits = seen.contains("@retransmits[127.");
        retransmits && counted(seen, "@sends") > 100 && counted(seen, "@since_last_send_ms") > 0
    });
}
