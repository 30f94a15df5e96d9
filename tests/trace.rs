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
        command.args(["--duration", "120s"]).stdout(Stdio::null()).stderr(Stdio::null());
        Load { server, _subscribers: Running::spawn(&mut command) }
    }
}

fn first_line(stdout: impl Read) -> String {
    BufReader::new(stdout).lines().next().unwrap().unwrap()
}

/// What `program` says of process `pid` within some seconds, unless it may not look.
fn trace(program: &str, pid: &str) -> Option<String> {
    let file = format!("{ROOT}/scripts/trace/{program}");
    let mut command = Command::new("timeout");
    command.args(["60", "bpftrace", &file, pid, "3"]).stdin(Stdio::null());
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
#[track_caller]
fn counted(output: &str, map: &str) -> u64 {
    let mut lines = output.lines().skip_while(|line| !line.starts_with(map));
    let first = lines.next().unwrap_or_else(|| panic!("no {map} in\n{output}"));
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
    let Some(seen) = trace("writes.bt", &load.server.0.id().to_string()) else { return };
    assert!(counted(&seen, "@bytes[tracepoint:syscalls:sys_exit_sendto]") > 100, "{seen}");
    assert!(counted(&seen, "@time_us[tracepoint:syscalls:sys_exit_sendto]") > 100, "{seen}");
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
    let Some(seen) = trace("send_to_ack.bt", &load.server.0.id().to_string()) else { return };
    assert!(counted(&seen, "@send_to_ack_us") > 100, "{seen}");
    assert_eq!(counted(&seen, "@send_to_ack_us"), counted(&seen, "@window_bytes"), "{seen}");
    assert_eq!(counted(&seen, "@acknowledges_what_was_never_sent"), 0, "{seen}");
    // An event of the load has more than 100 bytes, and a few of them may be under way.
    assert!(seen.contains("[128, 256)"), "{seen}");
}

#[test]
fn the_reactor() {
    if installed(&["bpftrace"]).is_none() {
        return;
    }
    let _alone = alone();
    let load = Load::start();
    let Some(seen) = trace("reactor.bt", &load.server.0.id().to_string()) else { return };
    for map in ["@epoll_wait_us", "@events_per_wait", "@turn_us", "@wake_to_run_us", "@slept"] {
        assert!(counted(&seen, map) > 100, "{map}: {seen}");
    }
    assert!(seen.contains("@woken_by["), "{seen}");
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
           --duration 120s >&2 & load=$!
         echo $server
         read -r _
         kill $load $server; wait"
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "bash", "-c", &script]).stderr(Stdio::null());
    let mut narrow = Running::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let pid = BufReader::new(narrow.0.stdout.take().unwrap()).lines().next();
    let Some(Ok(pid)) = pid else { return skip("no network namespace, or none that drops") };
    let seen = trace("retransmits.bt", &pid);
    drop(narrow.0.stdin.take()); // which is what it waits for
    narrow.0.wait().unwrap();
    let Some(seen) = seen else { return };
    assert!(counted(&seen, "@sends") > 100, "{seen}");
    assert!(seen.contains("@retransmits[127."), "{seen}");
    assert!(counted(&seen, "@since_last_send_ms") > 0, "{seen}");
}
