//! Begins a run, watches it, and ends it.
//!
//! The coordinator spawns the workers, each this same program in a process of its own, and does
//! nothing on the way of an event. A worker whose coordinator is gone ends by itself.

use super::message::{Order, Progress, Report};
use super::plan::Plan;
use super::server_side::{Sample, Server};
use super::tally::{Distribution, Tally};
use crate::sys;
use std::io::{BufRead, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What is shown while a run goes on.
pub trait Watch {
    /// So many of the streams are open.
    fn opening(&mut self, open: usize, wanted: usize);
    /// The run goes on; `part` (0 to 1) of its time is over.
    fn running(&mut self, part: f64, progress: Progress);
    /// Something is to be known at once.
    fn warn(&mut self, text: &str);
    /// Whether the run is to be ended before its time.
    fn is_interrupted(&self) -> bool;
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Everything that was counted, of all workers.
    pub tally: Tally,
    /// The processor time of each worker, as a part of the time that passed.
    pub cpu_shares: Vec<f64>,
    /// The latencies second by second, with the beginning of each.
    pub intervals: Vec<Interval>,
    /// How it ended.
    pub end: End,
    /// The server, if it was asked: before the first connection, before the first event, and at
    /// the end.
    pub samples: Option<[Sample; 3]>,
    /// How long it took to open the streams.
    pub opening: Duration,
}

/// The latencies of about a second.
#[derive(Debug)]
pub struct Interval {
    /// Its beginning, in nanoseconds since the run's first event.
    pub start_ns: u64,
    /// Its length in nanoseconds.
    pub duration_ns: u64,
    /// What was measured.
    pub latency_ns: Distribution,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was carried out.
    Complete,
    /// Its user has ended it.
    Interrupted,
    /// The server is gone.
    ServerGone,
}

/// Carries out `plan`. `program` is how to start a worker: a command that calls
/// [`worker::run`](super::worker::run) with its standard input.
///
/// # Errors
/// Why there is nothing to report: no stream could be opened, or a worker failed.
pub fn run(
    plan: &Plan,
    server: &Server,
    program: impl Fn() -> Command,
    watch: &mut dyn Watch,
) -> Result<Outcome, String> {
    check_descriptors(plan)?;
    let mut run = Run::begin(plan, server, program)?;
    run.open_streams(watch)?;
    run.publish(watch)?;
    run.collect(watch)
}

/// A worker needs a descriptor for each connection, and the coordinator some for each worker. Both
/// raise their limit as far as they may.
fn check_descriptors(plan: &Plan) -> Result<(), String> {
    let limit = sys::set_descriptor_limit(u64::MAX).map_err(|error| error.to_string())?;
    enough_descriptors(plan.connections as u64, plan.processes as u64, limit)
}

fn enough_descriptors(connections: u64, processes: u64, limit: u64) -> Result<(), String> {
    let own = |processes: u64| processes * DESCRIPTORS_OF_A_WORKER + DESCRIPTORS_RESERVED;
    let each = connections.div_ceil(processes.max(1)) + DESCRIPTORS_RESERVED;
    let needed = each.max(own(processes));
    if needed <= limit {
        return Ok(());
    }
    let room = limit.saturating_sub(DESCRIPTORS_RESERVED).max(1);
    let others = connections.div_ceil(room);
    let way_out = if limit > DESCRIPTORS_RESERVED && own(others) <= limit {
        format!("Give --processes {others}, or raise")
    } else {
        "Raise".into()
    };
    Err(format!(
        "the limit on open descriptors (RLIMIT_NOFILE) may not be raised above {limit}, and \
         {connections} connections in {processes} worker processes need {needed}. {way_out} it: \
         `ulimit -Hn`, or LimitNOFILE= of systemd"
    ))
}

struct Run<'p> {
    plan: &'p Plan,
    server: &'p Server,
    workers: Vec<Worker>,
    reports: Receiver<(usize, Option<Report>)>,
    samples: Vec<Sample>,
    started_ns: u64,
    open: usize,
    opening: Duration,
    progress: Vec<Progress>,
    rounds: Rounds,
    tallies: Vec<Tally>,
    intervals: Vec<Interval>,
    end: End,
}

/// The rounds of a closed loop over several workers.
#[derive(Debug)]
struct Rounds {
    /// The last event that all subscribers of a worker have.
    done: Vec<Option<u64>>,
    /// The last round that was over.
    last: Option<u64>,
}

impl Rounds {
    /// The round that is over now, if one is: every worker has done it that has any stream.
    fn over(&mut self, progress: &[Progress]) -> Option<u64> {
        let newest = self.done.iter().flatten().max().copied();
        let waits =
            |(done, progress): (&Option<u64>, &Progress)| *done != newest && progress.open > 0;
        if newest == self.last || self.done.iter().zip(progress).any(waits) {
            return None;
        }
        self.last = newest;
        newest
    }
}

/// A worker's process. Dropped, it is ended.
struct Worker {
    child: Child,
    control: UnixStream,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl<'p> Run<'p> {
    fn begin(
        plan: &'p Plan,
        server: &'p Server,
        program: impl Fn() -> Command,
    ) -> Result<Run<'p>, String> {
        let samples = if server.is_known() { vec![server.sample()?] } else { Vec::new() };
        let (sender, reports) = channel();
        let mut workers = Vec::new();
        for nth in 0..plan.processes {
            let worker = Worker::spawn(nth, program(), sender.clone())
                .map_err(|error| format!("a worker could not be started: {error}"))?;
            workers.push(worker);
        }
        let mut run = Run {
            plan,
            server,
            workers,
            reports,
            samples,
            started_ns: 0,
            open: 0,
            opening: Duration::ZERO,
            progress: vec![Progress::default(); plan.processes],
            rounds: Rounds { done: vec![None; plan.processes], last: None },
            tallies: Vec::new(),
            intervals: Vec::new(),
            end: End::Complete,
        };
        for nth in 0..plan.processes {
            run.say(nth, &Order::Begin { plan: Box::new(plan.clone()), worker: nth });
        }
        Ok(run)
    }

    /// Says something to a worker. If it is gone, its silence will tell.
    fn say(&mut self, nth: usize, order: &Order) {
        let mut line = serde_json::to_vec(order).unwrap_or_default();
        line.push(b'\n');
        let _said = self.workers[nth].control.write_all(&line);
    }

    fn say_to_all(&mut self, order: &Order) {
        (0..self.workers.len()).for_each(|nth| self.say(nth, order));
    }

    /// What a worker says next; `None` if none does for a while.
    fn hear(&mut self) -> Result<Option<(usize, Report)>, String> {
        match self.reports.recv_timeout(TICK) {
            Ok((nth, Some(Report::Failed(why)))) => Err(format!("worker {nth}: {why}")),
            Ok((nth, None)) => Err(format!("worker {nth} has ended before its time")),
            Ok((nth, Some(report))) => Ok(Some((nth, report))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("all workers have ended".into()),
        }
    }

    fn total(&self) -> Progress {
        let mut total = Progress::default();
        for progress in &self.progress {
            total.open += progress.open;
            total.unreachable += progress.unreachable;
            total.published += progress.published;
            total.deliveries += progress.deliveries;
            total.offences += progress.offences;
        }
        total
    }

    /// Waits until every connection is open or has failed.
    fn open_streams(&mut self, watch: &mut dyn Watch) -> Result<(), String> {
        let (wanted, begun) = (self.plan.connections, Instant::now());
        let mut failure = None;
        let mut ready = 0;
        while ready < self.workers.len() {
            match self.hear()? {
                Some((nth, Report::Ready { open, first_failure })) => {
                    ready += 1;
                    self.progress[nth].open = open;
                    self.open += open;
                    failure = failure.or(first_failure);
                }
                Some((nth, Report::Progress(progress))) => self.progress[nth] = progress,
                _ => {}
            }
            watch.opening(self.total().open, wanted);
            if watch.is_interrupted() {
                return Err("interrupted before the first event".into());
            }
        }
        self.opening = begun.elapsed();
        let why = failure.unwrap_or_else(|| "no reason known".into());
        if self.open == 0 {
            return Err(format!("no stream could be opened at {}: {why}", self.plan.url));
        }
        if self.open < wanted {
            watch.warn(&format!("only {} of {wanted} streams are open: {why}", self.open));
        }
        watch.opening(self.open, wanted);
        Ok(())
    }

    /// From the first event to the last.
    fn publish(&mut self, watch: &mut dyn Watch) -> Result<(), String> {
        self.sample()?;
        self.started_ns = sys::monotonic_ns() + START_DELAY_NS;
        self.say_to_all(&Order::Start { at_ns: self.started_ns });
        let plan_ns = (self.plan.warmup_ms + self.plan.duration_ms) * 1_000_000;
        let ends_ns = self.started_ns + plan_ns;
        let mut alive = Instant::now();
        loop {
            match self.hear()? {
                Some((_, Report::Published { events })) => {
                    self.say_to_all(&Order::Finish { events });
                    return Ok(());
                }
                Some((nth, report)) => self.note(nth, report),
                None => {}
            }
            if let Some(seq) = self.rounds.over(&self.progress) {
                self.say(0, &Order::NextRound { seq });
            }
            let (now_ns, total) = (sys::monotonic_ns(), self.total());
            let part = now_ns.saturating_sub(self.started_ns) as f64 / plan_ns.max(1) as f64;
            watch.running(part.min(1.0), total);
            // Who waits for as long as the server has told has not asked yet.
            if total.open > 0 || total.unreachable == 0 {
                alive = Instant::now();
            }
            if watch.is_interrupted() {
                self.end = End::Interrupted;
            } else if alive.elapsed() > GONE_AFTER {
                self.end = End::ServerGone;
            }
            if self.end != End::Complete {
                self.say_to_all(&Order::Stop);
                return Ok(());
            }
            if self.plan.publish.is_none() && now_ns >= ends_ns {
                self.say_to_all(&Order::Finish { events: 0 });
                return Ok(());
            }
        }
    }

    /// Waits for what every worker has counted.
    fn collect(mut self, watch: &mut dyn Watch) -> Result<Outcome, String> {
        let patience = Duration::from_millis(self.plan.grace_ms) + PATIENCE;
        let begun = Instant::now();
        while self.tallies.len() < self.workers.len() {
            if let Some((nth, report)) = self.hear()? {
                self.note(nth, report);
            }
            watch.running(1.0, self.total());
            if watch.is_interrupted() && self.end == End::Complete {
                self.end = End::Interrupted;
                self.say_to_all(&Order::Stop);
            }
            if begun.elapsed() > patience {
                return Err("a worker does not end".into());
            }
        }
        // A server that is gone cannot be asked any more; what it has cost stays unknown.
        if let Err(why) = self.sample() {
            watch.warn(&format!("the server's side is not known: {why}"));
        }
        let share = |tally: &Tally| tally.cpu_ns as f64 / tally.wall_ns.max(1) as f64;
        let cpu_shares = self.tallies.iter().map(share).collect();
        let mut tally = Tally::default();
        self.tallies.iter().for_each(|other| tally.add(other));
        self.intervals.sort_by_key(|interval| interval.start_ns);
        Ok(Outcome {
            tally,
            cpu_shares,
            intervals: self.intervals,
            end: self.end,
            samples: self.samples.try_into().ok(),
            opening: self.opening,
        })
    }

    fn note(&mut self, nth: usize, report: Report) {
        match report {
            Report::Progress(progress) => self.progress[nth] = progress,
            Report::RoundDone { seq } => self.rounds.done[nth] = Some(seq),
            Report::Final(tally) => self.tallies.push(*tally),
            Report::Interval { start_ns, duration_ns, latency_ns } if latency_ns.count() > 0 => {
                let start_ns = start_ns.saturating_sub(self.started_ns);
                self.intervals.push(Interval { start_ns, duration_ns, latency_ns });
            }
            _ => {}
        }
    }

    fn sample(&mut self) -> Result<(), String> {
        if self.server.is_known() {
            self.samples.push(self.server.sample()?);
        }
        Ok(())
    }
}

impl Worker {
    /// Starts a worker, and a thread that hands on what it says; `None` when it has ended.
    fn spawn(
        nth: usize,
        mut program: Command,
        sender: Sender<(usize, Option<Report>)>,
    ) -> std::io::Result<Worker> {
        let (control, theirs) = UnixStream::pair()?;
        // In a group of its own, so that Ctrl-C reaches the coordinator alone.
        program.stdin(OwnedFd::from(theirs)).process_group(0);
        sys::process::end_with_parent(&mut program);
        let child = program.spawn()?;
        let lines = BufReader::new(control.try_clone()?).lines();
        thread::Builder::new().name(format!("worker {nth}")).spawn(move || {
            let mut over = false;
            for line in lines.map_while(Result::ok) {
                let Ok(report) = serde_json::from_str::<Report>(&line) else { break };
                over |= matches!(report, Report::Final(_));
                if sender.send((nth, Some(report))).is_err() {
                    return;
                }
            }
            if !over {
                let _nobody_listens = sender.send((nth, None));
            }
        })?;
        Ok(Worker { child, control })
    }
}

/// A socket to talk to it, and the same once more for the thread that listens.
const DESCRIPTORS_OF_A_WORKER: u64 = 2;
/// Standard streams, control, epoll, timer, and the publisher's connection.
const DESCRIPTORS_RESERVED: u64 = 16;
const TICK: Duration = Duration::from_millis(100);
/// Time for the order to reach every worker.
const START_DELAY_NS: u64 = 50_000_000;
/// A server with which nobody has a stream for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that has lost an event, or all of its streams, does not hold up the rounds after it;
    /// and what it says of an old round does not end a later one.
    #[test]
    fn rounds_are_over_when_all_have_done_them() {
        let streams = |open: [usize; 2]| open.map(|open| Progress { open, ..Progress::default() });
        let mut rounds = Rounds { done: vec![None; 2], last: None };
        let mut done = |nth: usize, seq, open| {
            rounds.done[nth] = Some(seq);
            rounds.over(&streams(open))
        };
        assert_eq!(done(0, 0, [3, 3]), None);
        assert_eq!(done(1, 0, [3, 3]), Some(0));
        assert_eq!(done(0, 1, [3, 3]), None, "the second worker never has 1");
        assert_eq!(done(0, 2, [3, 3]), None);
        assert_eq!(done(1, 2, [3, 3]), Some(2));
        assert_eq!(done(1, 2, [3, 3]), None, "once");
        assert_eq!(done(0, 3, [3, 0]), Some(3), "the second worker has no streams");
    }

    #[test]
    fn what_descriptors_are_needed_is_named() {
        let check = |connections, processes, limit, expected: Option<&str>| {
            let found = enough_descriptors(connections, processes, limit);
            match expected {
                None => assert_eq!(found, Ok(())),
                Some(words) => {
                    let why = found.unwrap_err();
                    let limit = format!("(RLIMIT_NOFILE) may not be raised above {limit}, ");
                    assert!(why.contains(&limit) && why.contains(words), "{why}");
                }
            }
        };
        check(100, 1, 116, None);
        check(100, 1, 115, Some("in 1 worker processes need 116. Give --processes 2, or"));
        check(100, 2, 66, None);
        check(100, 1, 64, Some("Give --processes 3, or raise it"));
        check(10_000, 1, 64, Some("need 10016. Raise it"));
        check(100, 30, 64, Some("in 30 worker processes need 76. Give --processes 3, or"));
        for limit in 0..=16 {
            check(1, 1, limit, Some("Raise it"));
        }
    }
}
