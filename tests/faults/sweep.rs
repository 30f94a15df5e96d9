//! Every system call fails once, at every call of it.
//!
//! `strace` replaces the k-th call by an error: the call is not made. That is what the kernel does
//! for all errors here but two. `EAGAIN` for a send is a lie, because the kernel never saw a full
//! buffer and so will not announce that there is room; and a result (`retval`) is one, because
//! bytes that were not sent are said to be. Both serve as controls: what checks the streams must
//! notice them.

use super::Scale;
use super::reader::Reader;
use super::scenario::{self, Seen};
use super::server::{Refused, Server};
use super::table::Row;
use super::trace::Trace;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A system call, and how it can fail.
struct Fault {
    call: &'static str,
    errors: &'static [&'static str],
    /// Arguments that make the server use it.
    arguments: &'static [&'static str],
    /// How many connections it may cost.
    broken_max: usize,
    /// How many descriptors it may leave open.
    leaked: usize,
}

const FAULTS: &[Fault] = &[
    fault("accept4", &["EINTR", "ECONNABORTED", "EPROTO", "EPERM"], 0),
    fault("accept4", &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"], 1),
    fault("recvfrom", &["EINTR"], 0),
    fault("recvfrom", &["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENOMEM"], 1),
    fault("sendto", &["EINTR"], 0),
    fault("sendto", &["EPIPE", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH"], 1),
    fault("sendto", &["ENOBUFS", "ENOMEM", "EPERM"], 1),
    Fault { arguments: WRITEV, ..fault("writev", &["EINTR"], 0) },
    Fault {
        arguments: WRITEV,
        ..fault("writev", &["EPIPE", "ECONNRESET", "ENOBUFS", "ENOMEM"], 1)
    },
    fault("epoll_wait", &["EINTR"], 0),
    fault("epoll_ctl", &["ENOMEM", "ENOSPC"], 1),
    fault("setsockopt", &["ENOMEM", "ENOBUFS", "EINVAL"], 1),
    fault("shutdown", &["ENOTCONN", "ENOBUFS"], 0),
    // The call is not made: the descriptor stays open, and a peer that waits for an end waits on.
    Fault { leaked: 1, ..fault("close", &["EINTR", "EIO"], 0) },
];
const OTHERS_STEP: usize = 4;
const ATTEMPTS: usize = 20;
const WRITEV: &[&str] = &["--write-path", "writev"];

const fn fault(call: &'static str, errors: &'static [&'static str], broken_max: usize) -> Fault {
    Fault { call, errors, arguments: &[], broken_max, leaked: 0 }
}

impl Fault {
    fn start(&self, trace: &Trace, inject: &[&str]) -> Result<Server, Refused> {
        let arguments = [scenario::ARGUMENTS, self.arguments].concat();
        trace.start(self.call, inject, &arguments)
    }
}

/// One run of the scenario.
struct Run {
    row: usize,
    fault: &'static Fault,
    error: &'static str,
    at: usize,
}

pub fn run(scale: Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut runs = Vec::new();
    for fault in FAULTS {
        let calls = match count_calls(fault) {
            Ok(calls) => calls,
            Err(why) => return vec![Row::new("none: a clean run", 1, Err(why))],
        };
        // Of errors that are handled alike, one is enough for a first look; of the full campaign
        // the first hits every call, and the others every fourth, each another one.
        for (nth, &error) in fault.errors[..scale.of(1, fault.errors.len())].iter().enumerate() {
            let step = if nth == 0 { 1 } else { OTHERS_STEP };
            let places: Vec<usize> = match scale {
                Scale::Quick => vec![calls.div_ceil(2), calls.saturating_sub(calls / 10).max(1)],
                Scale::Full => (1 + nth % step..=calls).step_by(step).collect(),
            };
            let of = if step == 1 { "each" } else { "every fourth" };
            let of = scale.of("two", of);
            rows.push(format!("`{}` {error}, at {of} of {calls} calls", fault.call));
            let row = rows.len() - 1;
            if places.is_empty() {
                rows.pop();
            }
            runs.extend(places.into_iter().map(|at| Run { row, fault, error, at }));
        }
    }
    let outcomes = in_parallel(&runs, |run| injected(run.fault, run.error, run.at));
    let row = |(nth, name): (usize, String)| {
        let of_row = runs.iter().zip(&outcomes).filter(|(run, _)| run.row == nth);
        judge(name, of_row.map(|(_, outcome)| outcome))
    };
    rows.into_iter().enumerate().map(row).collect()
}

/// What came of a run; `None` if the call was not reached.
type Outcome = Result<Option<Seen>, String>;

fn injected(fault: &Fault, error: &str, at: usize) -> Outcome {
    let inject = format!("inject={}:error={error}:when={at}", fault.call);
    let trace = Trace::new();
    let seen = scenario::play(fault.start(&trace, &[&inject]), fault.leaked);
    let seen = seen.and_then(|seen| match seen {
        // A handler passes its signal on through a socket. If that fails, whoever sent it sends it
        // again, which may then be the second one that is heard, and ends the server at once.
        _ if seen.signal_lost && (fault.call == "sendto" || fault.broken_max > 0) => {
            Ok(Seen { broken: 0, ..seen })
        }
        _ if seen.signal_lost => Err("SIGTERM was not heard".into()),
        _ if seen.broken > fault.broken_max => {
            Err(format!("{} connections were broken off", seen.broken))
        }
        seen => Ok(seen),
    });
    let seen = seen.map_err(|why| format!("at call {at}: {why}"))?;
    Ok(trace.text().contains("(INJECTED)").then_some(seen))
}

/// Sums up the runs of one error.
fn judge<'r>(name: String, outcomes: impl Iterator<Item = &'r Outcome>) -> Row {
    let (mut unnoticed, mut broken, mut refused, mut lost, mut missed) = (0, 0, 0, 0, 0);
    let mut wrong = Vec::new();
    for outcome in outcomes {
        match outcome {
            Err(why) => wrong.push(why.clone()),
            Ok(None) => missed += 1,
            Ok(Some(seen)) if seen.refused => refused += 1,
            Ok(Some(seen)) if seen.broken > 0 => broken += 1,
            Ok(Some(seen)) if seen.signal_lost => lost += 1,
            Ok(Some(_)) => unnoticed += 1,
        }
    }
    let times = unnoticed + broken + refused + lost + wrong.len();
    if !wrong.is_empty() {
        wrong.truncate(3);
        return Row::new(name, times, Err(wrong.join("; ")));
    }
    let parts = [
        (unnoticed, "unnoticed"),
        (broken, "one connection closed, which resumed"),
        (refused, "did not start, and said why"),
        (lost, "a signal had to be sent again"),
        (missed, "not reached"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
    Row::new(name, times, Ok(parts.join(", ")))
}

/// How many of these calls a run without faults takes.
fn count_calls(fault: &Fault) -> Result<usize, String> {
    let trace = Trace::new();
    let started = fault.start(&trace, &[]);
    let pid = started.as_ref().map_or(0, Server::pid).to_string();
    let seen = scenario::play(started, 0)?;
    if seen.broken > 0 || seen.refused {
        return Err(format!("without a fault: {seen:?}"));
    }
    let call = format!(" {}(", fault.call);
    let text = trace.text();
    Ok(text.lines().filter(|line| line.starts_with(&pid) && line.contains(&call)).count())
}

/// The injections that lie.
pub fn controls(_: Scale) -> Vec<Row> {
    let sends = fault("sendto", &[], 0);
    let gathers = Fault { arguments: WRITEV, ..fault("writev", &[], 0) };
    let row = |what: &str, result| Row::new(format!("{what} (a lie)"), 1, result);
    vec![
        row("`sendto` is said to have sent all", bytes_vanish(&sends)),
        row("`writev` is said to have sent all", bytes_vanish(&gathers)),
        row("`sendto` is said to have sent 100 bytes", no_room(&sends, "retval=100")),
        row("`sendto` EAGAIN", no_room(&sends, "error=EAGAIN")),
    ]
}

/// A call in the middle of the streams is not made, and said to have taken all it was offered:
/// what checks the streams must see that an event is missing.
fn bytes_vanish(fault: &Fault) -> Result<String, String> {
    // A call that was offered more is one that has no room for the rest: the other lie.
    let is_it = |seen: &Result<Seen, String>| !seen.as_ref().is_ok_and(waited_for_room);
    let mut tries = (0..ATTEMPTS).map(|_| lie(fault, |length| format!("retval={length}")));
    match tries.find(is_it).unwrap_or(Err("each call was offered more".into())) {
        Err(why) if why.starts_with("a malformed stream") || why.starts_with("the event") => {
            Ok(format!("the checker says: {why}"))
        }
        Err(why) => Err(format!("wrong, but not for want of bytes: {why}")),
        Ok(seen) => Err(format!("nobody has noticed that bytes are missing: {seen:?}")),
    }
}

/// A call is said to have found no room. There is room, so the kernel will never announce it.
fn no_room(fault: &Fault, what: &str) -> Result<String, String> {
    let seen = lie(fault, |_| what.into())?;
    let wait_s = seen.longest_wait.as_secs_f64();
    match waited_for_room(&seen) {
        true => Ok(format!(
            "the stream waits for room that is not announced; after {wait_s:.1} s the stall \
             timeout closes the connection, which resumes"
        )),
        false => Err(format!("no stall: {seen:?}")),
    }
}

/// The stall timeout has closed one connection.
fn waited_for_room(seen: &Seen) -> bool {
    seen.longest_wait.as_secs_f64() >= 0.9 && seen.broken == 1
}

/// Lies about a call that sends an event. `what` says what strace is to do with it, by the number
/// of bytes that it sends.
///
/// Which call that is follows from a run without a lie. On a busy machine events are joined now and
/// then, so that in the next run it is another one, which an answer to the publisher may be: what
/// comes of that is not looked at.
fn lie(fault: &Fault, what: impl Fn(usize) -> String) -> Result<Seen, String> {
    for _ in 0..ATTEMPTS {
        let (at, length) = some_event(fault)?;
        let trace = Trace::new();
        let inject = format!("inject={}:{}:when={at}", fault.call, what(length));
        let arguments =
            [scenario::ARGUMENTS, fault.arguments, &["--stall-timeout-ms", "1000"]].concat();
        let seen = scenario::play(trace.start(fault.call, &[&inject], &arguments), 0);
        let text = trace.text_so_far();
        let hit = text.lines().find(|line| line.contains("(INJECTED)"));
        if hit.is_some_and(is_event) {
            return seen;
        }
    }
    Err(format!("in {ATTEMPTS} attempts no event was hit"))
}

/// Whether a traced call sends an event. The trace has the first bytes of what is sent, and an event
/// begins with its data: its id comes last.
fn is_event(line: &str) -> bool {
    line.contains("\\ndata: ")
}

/// Some call that sends an event: which one it is, and how many bytes it sends.
fn some_event(fault: &Fault) -> Result<(usize, usize), String> {
    let trace = Trace::new();
    let started = fault.start(&trace, &[]);
    scenario::play(started, 0)?;
    let (text, call) = (trace.text(), format!(" {}(", fault.call));
    let calls = text.lines().filter(|line| line.contains(&call)).enumerate();
    let events: Vec<_> = calls.filter(|(_, line)| is_event(line)).collect();
    let (nth, line) = events.get(events.len() / 2).ok_or("no event is sent")?;
    let length = line.rsplit("= ").next().and_then(|length| length.trim().parse().ok());
    Ok((nth + 1, length.ok_or("a call without a result")?))
}

/// `accept4` fails for good: the server must not spin, and what it has must go on.
pub fn accept_keeps_failing(_: Scale) -> Vec<Row> {
    let errors = ["EMFILE", "ENOBUFS", "EPERM", "EINVAL", "ENETDOWN"];
    let row = |error: &&str| {
        Row::new(format!("`accept4` {error}, for ever"), 1, accept_fails_with(error))
    };
    errors.iter().map(row).collect()
}

fn accept_fails_with(error: &str) -> Result<String, String> {
    let trace = Trace::new();
    // Two connections are let in; each of them takes a call more, which finds nobody.
    let inject = format!("inject=accept4:error={error}:when=5+");
    let started = trace.start("accept4", &[&inject], &["--heartbeat-ms", "50"]);
    let server = started.map_err(|refused| format!("{refused:?}"))?;
    let mut reader = Reader::new(server.public, "t");
    reader.open()?;
    let mut publisher = super::publisher::Publisher::new(server.public);
    publisher.publish("t", "1", b"before")?;
    let _waits = std::net::TcpStream::connect(server.public).map_err(|error| error.to_string())?;
    let calls = || trace.text_so_far().matches("accept4(").count();
    let (before, begun) = (calls(), Instant::now());
    std::thread::sleep(Duration::from_secs(1)); // the subject is time
    let calls = (calls() - before) as f64 / begun.elapsed().as_secs_f64();
    publisher.publish("t", "2", b"after")?;
    reader.expect(b"before")?;
    reader.expect(b"after")?;
    // Twice every 10 ms: once as always, once with the descriptor that is kept in reserve.
    match calls > 0.0 && calls <= 300.0 {
        true => Ok(format!("{calls:.0} calls in a second; streams flow")),
        false => Err(format!("it spins, or has given up: {calls:.0} calls in a second")),
    }
}

/// Does something with each of `items`, on twice as many threads as there are processors: most of
/// a run is waiting.
fn in_parallel<T: Sync, R: Send>(items: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let workers =
        std::thread::available_parallelism().map_or(1, |count| 2 * count.get()).clamp(2, 8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((nth, item)) = {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    items.get(nth).map(|item| (nth, item))
                } {
                    let result = act(item);
                    results.lock().unwrap().push((nth, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_unstable_by_key(|(nth, _)| *nth);
    results.into_iter().map(|(_, result)| result).collect()
}
