//! One block on the server rig: knobs turned, a warm-up, counters and clocks read, the work done,
//! counters and clocks read again.

use super::child::Child;
use super::orders::{Answer, Order, Pace, Reader, Run};
use super::server::{Counts, Server};
use super::stream::FRAME_BYTES;
use crate::lab::method::cell::{Cell, Measured};
use crate::lab::method::noise::Ledger;
use crate::lab::method::record::{Better, Doubt, Kind, Metric, Noise, Work};
use crate::lab::run::Lab;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A server and its subscribers. Dropped, both are ended.
#[derive(Debug)]
pub struct ServerRig {
    server: Server,
    probe: Child<Order, Answer>,
    topics: Vec<String>,
    subscribers: usize,
    /// For each topic, when its last block ended.
    silent_since: Vec<Instant>,
}

/// What a rig is made of.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The topics. Each has subscribers of its own.
    pub topics: Vec<String>,
    /// Subscribers of each topic.
    pub subscribers: usize,
    /// `SO_RCVBUF` of the subscribers; 0 leaves it to the kernel.
    pub rcvbuf_bytes: usize,
    /// Knobs of single topics, turned before anybody subscribes.
    pub knobs: Vec<(String, BTreeMap<String, String>)>,
    /// Arguments of the server beyond the usual.
    pub arguments: Vec<&'static str>,
}

impl Setup {
    /// Connections of the server, and of the probe: the subscribers', and the publisher's.
    pub fn connections(&self) -> usize {
        self.topics.len() * self.subscribers + 1
    }
}

/// What one block came to.
#[derive(Debug)]
pub struct Figures {
    /// What the probe has seen.
    pub answer: Answer,
    /// Bursts that were published.
    pub bursts: usize,
    /// When each was due.
    pub pace: Pace,
    /// The server's processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// The counters before and after.
    pub before: Counts,
    /// After.
    pub after: Counts,
    /// What disturbed it.
    pub noise: Noise,
}

/// A metric of this rig: how it is called, and how it is computed.
#[derive(Debug)]
pub struct Column {
    /// Its name, unique in a record.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Whether it is measured or counted.
    pub kind: Kind,
    /// Which of two values is the better one.
    pub better: Better,
    /// How it is computed; nothing if there is nothing to compute it from.
    pub of: fn(&Figures) -> Option<f64>,
}

impl ServerRig {
    /// Starts a server and opens the subscribers.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn start(lab: &Lab<'_>, setup: &Setup) -> Result<ServerRig, String> {
        let congestion = &lab.environment.network.congestion;
        let processor = lab.processors.subject;
        let server = Server::start(lab.command("serve"), processor, congestion, &setup.arguments)?;
        for (topic, knobs) in &setup.knobs {
            server.turn_knobs(Some(topic), knobs)?;
        }
        let mut probe = Child::spawn(lab.command(PROBE))?;
        probe.ask(&Order::Open {
            address: server.address(),
            topics: setup.topics.clone(),
            subscribers: setup.subscribers,
            rcvbuf_bytes: setup.rcvbuf_bytes,
            processor: lab.processors.other,
        })?;
        for topic in 0..setup.topics.len() {
            probe.ask(&Order::Run(Run { topic, ..SETTLING }))?;
        }
        let Setup { topics, subscribers, .. } = setup.clone();
        // The segments of the streams' heads are among those acknowledged at once.
        let long_ago = Instant::now().checked_sub(2 * SILENCE).unwrap_or_else(Instant::now);
        let silent_since = vec![long_ago; topics.len()];
        Ok(ServerRig { server, probe, topics, subscribers, silent_since })
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Turns knobs of one topic, by its place.
    ///
    /// # Errors
    /// What the server has against it.
    pub fn turn_knobs(&self, topic: usize, knobs: &BTreeMap<String, String>) -> Result<(), String> {
        self.server.turn_knobs(Some(&self.topics[topic]), knobs)
    }

    /// Has the probe do something that is not measured.
    ///
    /// # Errors
    /// What went wrong.
    pub fn ask(&mut self, order: &Order) -> Result<Answer, String> {
        self.probe.ask(order)
    }

    /// Does the work and measures it. With `hidden`, does that as well within the same time and
    /// does not say so: a difference that is known, to see whether it is found.
    ///
    /// # Errors
    /// What went wrong.
    pub fn block(&mut self, run: &Run, hidden: Option<&Run>) -> Result<Figures, String> {
        self.warm_up(run)?;
        let before = self.server.counts_before()?;
        let ledger = Ledger::start(&[self.server.pid(), self.probe.pid()]);
        let cpu_ns = self.server.cpu_at_rest_ns()?;
        let answer = self.probe.ask(&Order::Run(*run))?;
        if let Some(hidden) = hidden {
            self.probe.ask(&Order::Run(*hidden))?;
        }
        let cpu_ns = self.server.cpu_at_rest_ns()?.saturating_sub(cpu_ns);
        let noise = ledger.stop();
        self.silent_since[run.topic] = Instant::now();
        let after = self.server.counts_after()?;
        Ok(Figures { answer, bursts: run.bursts, pace: run.pace, cpu_ns, before, after, noise })
    }
}

impl ServerRig {
    /// Does what [`block`](ServerRig::block) does before it measures. One whose bursts are far
    /// apart does this first, at a pace of its own: a dozen of them would take seconds.
    ///
    /// # Errors
    /// What went wrong.
    pub fn warm_up_apart(&mut self, run: &Run) -> Result<(), String> {
        self.warm_up(run)?;
        self.silent_since[run.topic] = Instant::now();
        Ok(())
    }

    /// The first burst after a change of knobs is the first for many things.
    ///
    /// A connection that was silent for longer than its retransmission timeout, 200 ms, has its next
    /// 16 segments acknowledged at once (`TCP_MAX_QUICKACKS`, `tcp_input.c`), and that is a
    /// third of the cost of a delivery. A pause of the machine must not be a difference between two
    /// variants.
    fn warm_up(&mut self, run: &Run) -> Result<(), String> {
        if run.burst * self.subscribers >= LONG_BURST {
            return Ok(()); // of a burst that takes seconds its beginning is no part
        }
        let segments = (run.burst * FRAME_BYTES).div_ceil(SEGMENT_BYTES);
        let bursts = match self.silent_since[run.topic].elapsed() > SILENCE {
            true => QUICKACKS.div_ceil(segments) + 1,
            false => 1,
        };
        self.probe.ask(&Order::Run(Run { bursts, ..*run })).map(drop)
    }
}

impl Figures {
    /// The values of `columns`, and what goes with them.
    pub fn measured(self, columns: &[&Column]) -> Measured {
        let values = columns.iter().map(|column| (column.of)(&self)).collect();
        let Answer { events, bytes, checksum, latency_ns, .. } = self.answer;
        Measured {
            values,
            distributions: vec![(LATENCY, latency_ns)],
            work: Work { events, bytes, checksum },
            noise: self.noise,
        }
    }

    /// Deliveries.
    fn deliveries(&self) -> f64 {
        self.answer.events as f64
    }

    /// The growth of one of the server's counters.
    pub fn server(&self, name: &str) -> f64 {
        self.after.server_since(&self.before, name)
    }

    fn network(&self, name: &str) -> f64 {
        self.after.network_since(&self.before, name)
    }

    /// Calls that can carry data.
    fn data_calls(&self) -> f64 {
        self.server("pushv_write_calls_total")
            - self.server("pushv_write_calls_total{call=\"cork\"}")
    }

    /// The part of the time in which the subscribers had nothing to do.
    pub fn idle_part(&self) -> f64 {
        self.answer.idle_ns as f64 / self.answer.wall_ns.max(1) as f64
    }
}

impl Column {
    /// Its name, unique in a record.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// As it stands in a record.
    pub fn metric(&self) -> Metric {
        Metric {
            name: self.name.into(),
            title: self.title.into(),
            unit: self.unit.into(),
            kind: self.kind,
            better: self.better,
        }
    }
}

/// A quotient, if there is anything to divide by.
fn per(count: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| count / of)
}

macro_rules! column {
    ($id:ident, $name:literal, $title:literal, $unit:literal, $kind:ident, $better:ident, $of:expr) => {
        #[doc = $title]
        pub const $id: Column = Column {
            name: $name,
            title: $title,
            unit: $unit,
            kind: Kind::$kind,
            better: Better::$better,
            of: $of,
        };
    };
}

column!(CALLS, "calls_per_event", "write calls per delivered event", "calls", Count, Less, |f| {
    per(f.server("pushv_write_calls_total"), f.deliveries())
});
column!(FRAMES, "frames_per_call", "events per call", "events", Count, More, |f| {
    per(f.server("pushv_write_frames_total"), f.data_calls())
});
column!(IOVECS, "iovecs_per_event", "I/O vectors per delivered event", "", Count, Neither, |f| {
    per(f.server("pushv_write_iovecs_total"), f.deliveries())
});
column!(
    COPIED,
    "copied_per_event",
    "bytes copied in user space per delivered event",
    "bytes",
    Count,
    Less,
    |f| per(f.server("pushv_write_copied_bytes_total"), f.deliveries())
);
column!(
    CUT,
    "cut_per_event",
    "calls that took less than offered, per delivered event",
    "calls",
    Count,
    Less,
    |f| per(f.server("pushv_write_incomplete_total"), f.deliveries())
);
column!(
    SEGMENTS,
    "segments_per_event",
    "TCP segments with data per delivered event",
    "segments",
    Count,
    Less,
    |f| per(f.network("TCPOrigDataSent"), f.deliveries())
);
column!(
    ACKS,
    "other_segments_per_event",
    "other TCP segments (acknowledgements) per delivered event",
    "segments",
    Count,
    Less,
    |f| { per(f.network("OutSegs") - f.network("TCPOrigDataSent"), f.deliveries()) }
);
column!(
    TURNS,
    "turns_per_burst",
    "turns of the server's loop per burst",
    "turns",
    Count,
    Neither,
    |f| per(f.server("pushv_turns_total"), f.bursts as f64)
);
column!(
    ALLOCATIONS,
    "allocations_per_event",
    "allocations of the server per delivered event",
    "",
    Count,
    Less,
    |f| per(f.server("pushv_allocations_total"), f.deliveries())
);
column!(
    RECEIVED,
    "received_here_per_event",
    "packets received on the server's processor per delivered event",
    "",
    Count,
    Neither,
    |f| {
        let count = f.after.received_here - f.before.received_here;
        per(count, f.deliveries()).filter(|count| count.is_finite())
    }
);
column!(CPU, "cpu_ns_per_event", "server CPU per delivered event", "ns", Time, Less, |f| per(
    f.cpu_ns as f64,
    f.deliveries()
));
column!(WALL, "wall_ns_per_event", "time per delivered event", "ns", Time, Less, |f| per(
    f.answer.wall_ns as f64,
    f.deliveries()
));
column!(P50, "latency_p50_ns", "latency, median", "ns", Time, Less, |f| (f
    .answer
    .latency_ns
    .count()
    > 0)
.then(|| f.answer.latency_ns.quantile(0.5) as f64));
column!(P99, "latency_p99_ns", "latency, 99th percentile", "ns", Time, Less, |f| (f
    .answer
    .latency_ns
    .count()
    >= 100)
    .then(|| f.answer.latency_ns.quantile(0.99) as f64));
column!(
    IDLE,
    "reader_idle",
    "part of the time in which the subscribers had nothing to read",
    "",
    Time,
    Neither,
    |f| Some(f.idle_part())
);

/// What every connection receives before anything is measured on it: 200 kB, in segments that are
/// full.
///
/// Without it, the cost of the same delivery of a small event jumps between four levels, the
/// highest nearly twice the lowest, and stays at each for half a second: the reader's kernel
/// acknowledges either within the sender's call or when the reader reads, which is another
/// processor's time. Which it is depends on what it takes for a full segment
/// (`__tcp_ack_snd_check`, `tcp_input.c`), and that it has yet to learn.
const SETTLING: Run =
    Run { topic: 0, bursts: 25, burst: 64, pace: Pace::Closed, reader: Reader::Spinning };
/// Deliveries of one burst that take so long that nothing is gained by making them twice.
const LONG_BURST: usize = 50_000;
/// How long a connection may be silent, with some room to the kernel's 200 ms.
const SILENCE: Duration = Duration::from_millis(150);
const QUICKACKS: usize = 16;
/// A segment of Ethernet's size.
const SEGMENT_BYTES: usize = 1448;

column!(
    BEHIND,
    "behind_schedule",
    "how far the end of a block was behind its schedule, as a part of the schedule",
    "",
    Time,
    Neither,
    |f| match f.pace {
        Pace::EveryUs(us) => {
            let scheduled_ns = (us * 1000 * f.bursts as u64) as f64;
            Some((f.answer.wall_ns as f64 / scheduled_ns - 1.0).max(0.0))
        }
        Pace::Closed => None,
    }
);

/// The name under which the latencies of all deliveries are kept.
pub const LATENCY: &str = "latency_ns";

/// The subcommand that calls [`super::probe::run`].
pub const PROBE: &str = "lab-probe";

/// What makes the figures of a cell on this rig doubtful: the machine, and variants under which the
/// subscribers had hardly a moment without something to read, so that it may be they who were
/// measured.
pub fn doubts(lab: &Lab<'_>, cell: &Cell) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let network = &lab.environment.network;
    if !network.private {
        let why = network.why_not.as_deref().unwrap_or("unknown");
        let mtu = network.mtu_bytes;
        doubts.push(Doubt::Distorted(format!(
            "loopback is the machine's own, with an MTU of {mtu} bytes: segments and send buffers \
             are far larger than on a network ({why})"
        )));
    }
    if !lab.processors.are_two() {
        let why = "the server and its subscribers share one processor";
        doubts.push(Doubt::Distorted(why.into()));
    }
    let behind =
        |variant: usize| cell.median(variant, BEHIND.name).is_some_and(|part| part > LATE_MAX);
    let named = |such: &dyn Fn(usize) -> bool| -> Option<String> {
        let variants = cell.plan().variants.iter().enumerate();
        let such = variants.filter(|(nth, _)| such(*nth));
        let names: Vec<&str> = such.map(|(_, variant)| variant.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if let Some(names) = named(&behind) {
        doubts.push(Doubt::ServerBound(format!(
            "under {names} the median block took more than {:.0} % longer than its schedule",
            LATE_MAX * 100.0
        )));
    }
    let hungry =
        |variant: usize| cell.median(variant, IDLE.name).is_some_and(|idle| idle < IDLE_MIN);
    if let Some(names) = named(&hungry) {
        doubts.push(Doubt::ClientBound(format!(
            "under {names} the subscribers had nothing to read for less than {:.0} % of the time of \
             the median block: latencies are theirs as much as the server's",
            IDLE_MIN * 100.0
        )));
    }
    doubts
}

/// By which part a block at a fixed rate may be late: a napping reader is, by half a nap.
const LATE_MAX: f64 = 0.25;
/// The part of the time that subscribers must have to spare.
const IDLE_MIN: f64 = 0.05;
