//! What came of a run: the figures, and whether they can be trusted.
//!
//! The JSON form is for scripts: its names are documented here and stay. Times are whole
//! nanoseconds, sizes bytes, shares between 0 and 1 of one processor.

use super::checker::Offences;
use super::coordinator::{End, Outcome};
use super::plan::{Pace, Plan};
use super::server_side::Sample;
use super::tally::{Distribution, Tally};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

/// A run's results.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of this form; it grows when a name changes its meaning.
    pub format: u32,
    /// Where the subscribers were.
    pub url: String,
    /// `rate`, `round`, `flood`, or `listen`.
    pub mode: &'static str,
    /// How the subscribers read; what those with `never` miss is not looked for.
    pub reader: String,
    /// `ok`, or what is wrong: `offences`, `incomplete`, `interrupted`, `server gone`.
    pub verdict: &'static str,
    /// The connections.
    pub connections: Connections,
    /// The publisher; absent if the run only listened.
    pub published: Option<Published>,
    /// The deliveries.
    pub deliveries: Deliveries,
    /// From an event's intended moment to its arrival at a subscriber, per delivery.
    pub latency_ns: Option<Percentiles>,
    /// From an event's first arrival to its last, per event that reached everybody.
    pub spread_ns: Option<Percentiles>,
    /// Between two events of one subscriber; only of a run that listened.
    pub interarrival_ns: Option<Percentiles>,
    /// What was wrong with what subscribers received.
    pub offences: Offences,
    /// The first of it.
    pub first_offence: Option<String>,
    /// What the generator itself took.
    pub client: Client,
    /// What the server took, if it was asked.
    pub server: Option<Server>,
}

/// The connections of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Connections {
    /// How many there should have been.
    pub wanted: usize,
    /// How many were open when the run began.
    pub open: usize,
    /// How many were opened per second.
    pub per_s: f64,
    /// How many could not be opened.
    pub failed: u64,
    /// How many ended during the run without being told to.
    pub lost: u64,
    /// How many streams began again, after a loss or by churn.
    pub reconnected: u64,
    /// How many were waited for in vain at the end: their streams had ended and did not begin again.
    pub away: u64,
    /// Why the first failed or was lost.
    pub first_failure: Option<String>,
    /// From the beginning of a connection to the head of its stream.
    pub connect_ns: Option<Percentiles>,
}

/// What became of the events.
#[derive(Debug, Clone, Serialize)]
pub struct Published {
    /// Events that were due before the end; only of an open loop.
    pub planned: Option<u64>,
    /// Requests sent.
    pub events: u64,
    /// Events that were due and were never sent, because the server, its answers, or the generator
    /// held them up. Latency and spread say nothing of them, `lateness_ns` does.
    pub unpublished: u64,
    /// Those answered with a status of 2xx.
    pub accepted: u64,
    /// Those answered with another status.
    pub refused: u64,
    /// Those not answered.
    pub unanswered: u64,
    /// Why the first was refused, or why the publisher's connection failed.
    pub first_refusal: Option<String>,
    /// How long behind its intended moment each was sent; only of an open loop. One that was never
    /// sent counts with the time that it had waited in the end.
    pub lateness_ns: Option<Percentiles>,
}

/// What arrived.
#[derive(Debug, Clone, Serialize)]
pub struct Deliveries {
    /// Events of this run, or any if it only listened.
    pub count: u64,
    /// Per second, from the first publish to the end.
    pub per_s: f64,
    /// Bytes, of which framing is a part.
    pub bytes: u64,
    /// Events per read that brought any byte.
    pub events_per_read: f64,
    /// Events of somebody else.
    pub foreign: u64,
    /// Notices by which the server said that events are lost, and the events lost that way. They
    /// are no offence.
    pub gaps: u64,
    /// See `gaps`.
    pub told_lost: u64,
    /// Events that subscribers may have missed without a fault of the server's, and that this run
    /// therefore says nothing about: they had no stream, or had come back without an id.
    pub unchecked: u64,
}

/// The generator.
#[derive(Debug, Clone, Serialize)]
pub struct Client {
    /// The processor time of each of its processes, as a part of the time that passed.
    pub cpu_shares: Vec<f64>,
    /// Its processor time per delivery.
    pub cpu_per_delivery_ns: f64,
    /// The figures say more of the generator than of the server: a process of it was busy nearly
    /// all the time.
    pub was_the_limit: bool,
}

/// The server.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    /// Its processor time per delivery, of all its threads.
    pub cpu_per_delivery_ns: Option<f64>,
    /// The part of it in user mode, as far as the kernel's clock ticks tell.
    pub user_per_delivery_ns: Option<f64>,
    /// The part of it in the kernel, likewise.
    pub system_per_delivery_ns: Option<f64>,
    /// Its processor time as a part of the time that passed.
    pub cpu_share: Option<f64>,
    /// Growth of its resident memory per connection, while they were opened.
    pub resident_bytes_per_connection: Option<f64>,
    /// Its resident memory at the end.
    pub resident_bytes: Option<u64>,
    /// What its counters grew by during the run, those that did.
    pub counters: BTreeMap<String, f64>,
}

/// A distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many values there are.
    pub count: u64,
    /// Half of them are at most this.
    pub p50: u64,
    /// Nine tenths.
    pub p90: u64,
    /// 99 of a hundred.
    pub p99: u64,
    /// 999 of a thousand.
    pub p999: u64,
    /// The largest.
    pub max: u64,
}

impl Percentiles {
    fn of(distribution: &Distribution) -> Option<Percentiles> {
        (distribution.count() > 0).then(|| Percentiles {
            count: distribution.count(),
            p50: distribution.quantile(0.5),
            p90: distribution.quantile(0.9),
            p99: distribution.quantile(0.99),
            p999: distribution.quantile(0.999),
            max: distribution.max(),
        })
    }
}

impl Report {
    /// The report of a run.
    pub fn new(plan: &Plan, outcome: &Outcome) -> Report {
        let tally = &outcome.tally;
        let open = tally.opened as usize;
        let wall_s = tally.wall_ns.max(1) as f64 / 1e9;
        let deliveries = tally.deliveries.max(1) as f64;
        let mut report = Report {
            format: 1,
            url: plan.url.clone(),
            mode: mode(plan),
            reader: plan.reader.to_string(),
            verdict: "ok",
            connections: Connections {
                wanted: plan.connections,
                open,
                per_s: open as f64 / outcome.opening.as_secs_f64().max(1e-9),
                failed: tally.failed,
                lost: tally.lost,
                reconnected: tally.reconnected,
                away: tally.away,
                first_failure: tally.first_failure.clone(),
                connect_ns: Percentiles::of(&tally.connect_ns),
            },
            published: published(plan, tally),
            deliveries: Deliveries {
                count: tally.deliveries,
                per_s: tally.deliveries as f64 / wall_s,
                bytes: tally.bytes,
                events_per_read: tally.deliveries as f64 / tally.reads.max(1) as f64,
                foreign: tally.foreign,
                gaps: tally.gaps,
                told_lost: tally.told_lost,
                unchecked: tally.unchecked,
            },
            latency_ns: Percentiles::of(&tally.latency_ns),
            spread_ns: Percentiles::of(&tally.spread_ns(open as u64)),
            interarrival_ns: Percentiles::of(&tally.interarrival_ns),
            offences: tally.offences,
            first_offence: tally.first_offence.clone(),
            client: Client {
                cpu_shares: outcome.cpu_shares.clone(),
                cpu_per_delivery_ns: tally.cpu_ns as f64 / deliveries,
                was_the_limit: outcome.cpu_shares.iter().any(|&share| share > BUSY),
            },
            server: outcome
                .samples
                .as_ref()
                .map(|samples| server(samples, deliveries, tally.wall_ns, open)),
        };
        if tally.overtold > 0 && tally.foreign == 0 {
            // Nobody else's events can have been lost with those of this run.
            report.offences.misreported += tally.overtold;
            let text = || "misreported: a notice told of more events than were lost".into();
            report.first_offence.get_or_insert_with(text);
        }
        report.verdict = report.verdict_of(&outcome.end, tally.unreachable > 0);
        report
    }

    /// `unreachable`: some subscriber that was away in the end has found no server.
    fn verdict_of(&self, end: &End, unreachable: bool) -> &'static str {
        let all_away = self.connections.away == self.connections.open as u64;
        match end {
            End::Interrupted => return "interrupted",
            End::ServerGone => return "server gone",
            End::Complete if unreachable && all_away => return "server gone",
            End::Complete => {}
        }
        // What the server refused to publish reaches nobody, but not for its want of trying.
        let published = self.published.as_ref();
        let refused =
            published.map_or(0, |published| published.events.saturating_sub(published.accepted));
        let excused = refused.saturating_mul(self.connections.open as u64);
        let without_stream = self.connections.wanted.saturating_sub(self.connections.open);
        let incomplete = published.is_some_and(|it| it.events == 0 || it.unpublished > 0)
            || refused + self.deliveries.unchecked + self.connections.away > 0
            || without_stream > 0;
        match self.offences.besides_missing() > 0 || self.offences.missing > excused {
            true => "offences",
            false if incomplete => "incomplete",
            false => "ok",
        }
    }
}

fn mode(plan: &Plan) -> &'static str {
    match plan.publish.as_ref().map(|publish| publish.pace) {
        None => "listen",
        Some(Pace::Rate(_)) => "rate",
        Some(Pace::Round) => "round",
        Some(Pace::Flood) => "flood",
    }
}

fn published(plan: &Plan, tally: &Tally) -> Option<Published> {
    let (planned, published) = (plan.planned(), &tally.published);
    plan.publish.as_ref().map(|_| Published {
        planned,
        events: published.events,
        unpublished: planned.unwrap_or(0).saturating_sub(published.events),
        accepted: published.accepted,
        refused: published.refused,
        unanswered: published.unanswered,
        first_refusal: published.first_refusal.clone(),
        lateness_ns: Percentiles::of(&published.lateness_ns),
    })
}

/// What changed between the samples.
fn server(samples: &[Sample; 3], deliveries: f64, wall_ns: u64, open: usize) -> Server {
    let [idle, before, after] = samples;
    let grown =
        |of: fn(&Sample) -> Option<u64>| Some(of(after)?.saturating_sub(of(before)?) as f64);
    let memory = idle.resident_bytes.zip(before.resident_bytes);
    let counters = after.counters.iter().filter(|(name, _)| name.contains("_total"));
    let counters = counters.filter_map(|(name, after)| {
        let grown = after - before.counters.get(name).copied().unwrap_or(0.0);
        (grown != 0.0).then(|| (name.clone(), grown))
    });
    Server {
        cpu_per_delivery_ns: grown(|sample| sample.cpu_ns).map(|ns| ns / deliveries),
        user_per_delivery_ns: grown(|sample| sample.user_ns).map(|ns| ns / deliveries),
        system_per_delivery_ns: grown(|sample| sample.system_ns).map(|ns| ns / deliveries),
        cpu_share: grown(|sample| sample.cpu_ns).map(|ns| ns / wall_ns.max(1) as f64),
        resident_bytes_per_connection: memory
            .map(|(idle, open_bytes)| (open_bytes as f64 - idle as f64) / open.max(1) as f64),
        resident_bytes: after.resident_bytes,
        counters: counters.collect(),
    }
}

/// Writes the latencies, second by second, as an HDR histogram log (the usual viewers read it). The
/// values are nanoseconds.
///
/// # Errors
/// As writing to `out`, to the last byte.
pub fn write_hdr_log(outcome: &Outcome, out: impl io::Write) -> io::Result<()> {
    let mut out = io::BufWriter::new(out);
    let mut serializer = V2DeflateSerializer::new();
    let begun = SystemTime::now().checked_sub(Duration::from_nanos(outcome.tally.wall_ns));
    let mut builder = IntervalLogWriterBuilder::new();
    let mut log = builder
        .add_comment("pushv load: latency from the intended moment, in nanoseconds")
        .with_start_time(begun.unwrap_or(SystemTime::UNIX_EPOCH))
        .with_base_time(begun.unwrap_or(SystemTime::UNIX_EPOCH))
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut out, &mut serializer)?;
    for interval in &outcome.intervals {
        let Some(histogram) = interval.latency_ns.as_histogram() else { continue };
        let start = Duration::from_nanos(interval.start_ns);
        let duration = Duration::from_nanos(interval.duration_ns);
        log.write_histogram(histogram, start, duration, None::<Tag<'_>>)
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
    }
    // A buffer that is dropped keeps to itself that its rest could not be written.
    io::Write::flush(&mut out)
}

/// The share of a processor above which a process is its own limit.
const BUSY: f64 = 0.9;
