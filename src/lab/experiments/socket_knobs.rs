//! Nagle, send buffers and `TCP_NOTSENT_LOWAT`: what they do to latency and segments, and where
//! bytes wait when nobody reads.

use super::{Experiment, Judgement, Rig, Verdict};
use crate::lab::method::analysis::{Finding, Study};
use crate::lab::method::cell::{Budget, Cell, Measured, Plan, Stop};
use crate::lab::method::noise::Ledger;
use crate::lab::method::record::{Better, Kind, Metric, Profile, Record, Variant, Work};
use crate::lab::report::figure::{Figure, Table};
use crate::lab::report::{number, standard};
use crate::lab::rig::block::{
    self, ACKS, BEHIND, CALLS, CPU, Column, P50, P99, SEGMENTS, ServerRig, Setup,
};
use crate::lab::rig::orders::{Order, Pace, Reader, Run};
use crate::lab::rig::stream::FRAME_BYTES;
use crate::lab::run::{Group, Lab};
use std::collections::BTreeMap;
use std::time::Duration;

/// The experiment.
#[derive(Debug)]
pub struct SocketKnobs;

const NAME: &str = "socket-knobs";
const WRITES: &str = "writes per event";
const READER: &str = "reader";

/// Every combination of the three options. Each is a topic with subscribers of its own, because a
/// send buffer that was set once cannot be given back to the kernel.
fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    for nodelay in [true, false] {
        for sndbuf in [0, BUFFER_BYTES] {
            for lowat in [0, LOWAT_BYTES] {
                let name = [
                    if nodelay { "NODELAY" } else { "Nagle" },
                    if sndbuf > 0 { " + SNDBUF" } else { "" },
                    if lowat > 0 { " + LOWAT" } else { "" },
                ];
                let settings = [
                    ("tcp_nodelay", nodelay.to_string()),
                    ("so_sndbuf_bytes", sndbuf.to_string()),
                    ("tcp_notsent_lowat_bytes", lowat.to_string()),
                ];
                let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
                variants.push(Variant { name: name.concat(), settings });
            }
        }
    }
    variants
}

fn setup(subscribers: usize, rcvbuf_bytes: usize) -> Setup {
    let topics: Vec<String> = (0..variants().len()).map(|nth| format!("v{nth}")).collect();
    let knobs = topics.iter().cloned().zip(variants().into_iter().map(|one| one.settings));
    Setup { knobs: knobs.collect(), topics, subscribers, rcvbuf_bytes, ..Setup::default() }
}

/// How late events are, published at a steady rate.
struct Latency {
    profile: Profile,
}

impl Latency {
    fn cells(&self) -> Vec<(usize, Reader)> {
        let both = |writes| [(writes, Reader::Spinning), (writes, Reader::NapMs(NAP_MS))];
        [both(1), both(3)].concat()
    }

    fn plan(&self, writes: usize, reader: Reader) -> Plan {
        let reader = match reader {
            Reader::NapMs(ms) => format!("naps {ms} ms"),
            Reader::Spinning | Reader::Asleep => "prompt".into(),
        };
        Plan {
            experiment: NAME.into(),
            factors: vec![(WRITES.into(), writes.to_string()), (READER.into(), reader)],
            metrics: COLUMNS.map(Column::metric).into(),
            variants: variants(),
            baseline: 0,
            budget: match self.profile {
                Profile::Smallest => budget(0, 1, 1),
                Profile::Quick => budget(2000, 3, 10),
                Profile::Full => budget(6000, 3, 10),
            },
        }
    }

    fn block_of(&self, reader: Reader) -> Run {
        let bursts = match self.profile {
            Profile::Smallest => 3,
            Profile::Quick => 20,
            Profile::Full => 40,
        };
        // Of the smallest size the counts are checked. At a steady rate they would depend on whether
        // the server keeps up, because one that is late writes several events at once.
        let pace = match self.profile {
            Profile::Smallest => Pace::Closed,
            Profile::Quick | Profile::Full => Pace::EveryUs(INTERVAL_US),
        };
        Run { topic: 0, bursts, burst: 1, pace, reader }
    }

    fn subscribers(&self) -> usize {
        if self.profile == Profile::Smallest { 1 } else { 20 }
    }
}

impl Group for Latency {
    fn cells(&self) -> Vec<String> {
        self.cells().into_iter().map(|(writes, reader)| self.plan(writes, reader).name()).collect()
    }

    fn estimate(&self) -> Duration {
        Duration::from_secs_f64(match self.profile {
            Profile::Smallest => 1.0,
            Profile::Quick => 35.0,
            Profile::Full => 170.0,
        })
    }

    fn connections(&self) -> usize {
        setup(self.subscribers(), 0).connections()
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        let mut cells: Vec<_> = self
            .cells()
            .into_iter()
            .map(|(writes, reader)| (writes, reader, Cell::new(self.plan(writes, reader))))
            .collect();
        for restart in 0..lab.method.restarts {
            let mut rig = ServerRig::start(lab, &setup(self.subscribers(), 0))?;
            let knobs = rig.server().knobs()?;
            for (writes, reader, cell) in &mut cells {
                cell.knobs(knobs.clone());
                let path = if *writes == 1 { "span" } else { "split" };
                let path = BTreeMap::from([("write_path".to_owned(), path.to_owned())]);
                for topic in 0..variants().len() {
                    rig.turn_knobs(topic, &path)?;
                }
                let run = self.block_of(*reader);
                lab.measure(cell, restart, &mut |variant| {
                    Ok(rig.block(&Run { topic: variant, ..run }, None)?.measured(&COLUMNS))
                })?;
            }
        }
        let finish = |(_, _, mut cell): (usize, Reader, Cell)| {
            block::doubts(lab, &cell).into_iter().for_each(|doubt| cell.doubt(doubt));
            lab.finish(cell)
        };
        Ok(cells.into_iter().map(finish).collect())
    }
}

/// Where bytes wait when nobody reads.
struct Pile {
    profile: Profile,
}

impl Pile {
    fn plan(&self) -> Plan {
        let metric = |name: &str, title: &str| Metric {
            name: name.into(),
            title: title.into(),
            unit: "bytes".into(),
            kind: Kind::Count,
            better: Better::Neither,
        };
        Plan {
            experiment: NAME.into(),
            factors: vec![(READER.into(), "does not read".into())],
            metrics: vec![
                metric(
                    IN_LOG,
                    "bytes per subscriber in the server's log, where they can be skipped",
                ),
                metric(IN_SEND_QUEUE, "bytes per subscriber in the server's kernel, sent or not"),
                metric(IN_RECEIVE_QUEUE, "bytes per subscriber in the reader's kernel"),
            ],
            variants: variants(),
            baseline: 0,
            budget: match self.profile {
                Profile::Smallest => budget(0, 1, 1),
                Profile::Quick => budget(0, 1, 1),
                Profile::Full => budget(0, 3, 3),
            },
        }
    }

    /// A block: published, looked at, received.
    fn block(&self, rig: &mut ServerRig, topic: usize) -> Result<Measured, String> {
        let ledger = Ledger::start(&[rig.server().pid()]);
        let before = rig.server().counts_before()?;
        let events = PILED_EVENTS;
        let mut piled = rig.ask(&Order::Pile { topic, events })?;
        let mut after = rig.server().counts_after()?;
        // A server that gets no processor looks as if nothing moved. While it answers it has turns,
        // so once two looks agree it has written all that its kernel takes.
        loop {
            let still = rig.ask(&Order::Settle { topic })?;
            let counts = rig.server().counts_after()?;
            let written = counts.server_since(&after, "pushv_write_bytes_total");
            let is_at_rest = written == 0.0 && still.unread_bytes == piled.unread_bytes;
            (piled, after) = (still, counts);
            if is_at_rest {
                break;
            }
        }
        let received = rig.ask(&Order::Receive { topic })?;
        let each = |bytes: f64| bytes / piled.subscribers as f64;
        let published = (events * FRAME_BYTES) as f64;
        let accepted = each(after.server_since(&before, "pushv_write_bytes_total"));
        let unread = each(piled.unread_bytes as f64);
        Ok(Measured {
            values: vec![Some(published - accepted), Some(accepted - unread), Some(unread)],
            distributions: Vec::new(),
            work: Work {
                events: received.events,
                bytes: received.bytes,
                checksum: received.checksum,
            },
            noise: ledger.stop(),
        })
    }
}

impl Group for Pile {
    fn cells(&self) -> Vec<String> {
        vec![self.plan().name()]
    }

    fn estimate(&self) -> Duration {
        Duration::from_secs_f64(match self.profile {
            Profile::Smallest => 1.5,
            Profile::Quick => 4.0,
            Profile::Full => 20.0,
        })
    }

    fn connections(&self) -> usize {
        setup(1, RCVBUF_BYTES).connections()
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        let mut cell = Cell::new(self.plan());
        for restart in 0..lab.method.restarts {
            let mut rig = ServerRig::start(lab, &setup(1, RCVBUF_BYTES))?;
            cell.knobs(rig.server().knobs()?);
            lab.measure(&mut cell, restart, &mut |variant| self.block(&mut rig, variant))?;
        }
        let idle_does_not_matter = block::doubts(lab, &cell);
        idle_does_not_matter.into_iter().for_each(|doubt| cell.doubt(doubt));
        Ok(vec![lab.finish(cell)])
    }
}

impl Experiment for SocketKnobs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        "Socket options"
    }

    fn question(&self) -> &'static str {
        "TCP_NODELAY against Nagle's algorithm, a send buffer of 16 KiB against the kernel's \
         autotuning, TCP_NOTSENT_LOWAT of 16 KiB against none, in all combinations: how late is an \
         event that is published every 5 ms, to readers that read at once or every 20 ms, if it is \
         one write or three? How many segments does it take? And where do half a megabyte of events \
         wait if the reader does not read at all?"
    }

    fn rig(&self) -> Rig {
        Rig::Server
    }

    fn groups(&self, profile: Profile) -> Vec<Box<dyn Group>> {
        vec![Box::new(Latency { profile }), Box::new(Pile { profile })]
    }

    fn judge(&self, study: &Study) -> Vec<Judgement> {
        vec![nagle_delays(study), nodelay_storms(study), lowat_keeps_bytes(study)]
    }

    fn tables(&self, study: &Study) -> Vec<Table> {
        let tables = [
            standard::metric_table(
                study,
                SEGMENTS.name(),
                "TCP segments with data per delivered event",
            ),
            standard::metric_table(
                study,
                ACKS.name(),
                "Other segments (acknowledgements) per delivered event",
            ),
            standard::metric_table(study, CALLS.name(), "System calls per delivered event"),
            standard::metric_table(study, P50.name(), "Latency, median"),
            standard::metric_table(study, P99.name(), "Latency, 99th percentile"),
            standard::metric_table(study, CPU.name(), "Server CPU per delivered event"),
            standard::metric_table(study, IN_LOG, "Nobody reads: bytes in the server's log"),
            standard::metric_table(
                study,
                IN_SEND_QUEUE,
                "Nobody reads: bytes in the server's kernel",
            ),
            standard::metric_table(
                study,
                IN_RECEIVE_QUEUE,
                "Nobody reads: bytes in the reader's kernel",
            ),
        ];
        tables.into_iter().flatten().collect()
    }

    fn figures(&self, study: &Study) -> Vec<Figure> {
        let places =
            (0..study.records.len()).filter(|&place| study.records[place].factor(WRITES).is_some());
        let chart = |place: usize| {
            let title = format!("Latencies: {}", study.records[place].cell);
            standard::distribution_chart(study, place, block::LATENCY, &title)
        };
        places.filter_map(chart).collect()
    }

    fn cannot_show(&self) -> &'static [&'static str] {
        &[
            "A round trip. Nagle's algorithm waits for an acknowledgement, which on loopback is \
             there before the call returns unless the reader withholds it; over a distance it waits \
             for a round trip each time.",
            "Receivers other than Linux, which delay acknowledgements by other rules.",
            "Autocorking and TCP small queues: loopback has no queue for them to look at.",
        ]
    }
}

/// Whether Nagle's algorithm delays events, by reader and by writes per event.
fn nagle_delays(study: &Study) -> Judgement {
    let mut told = Vec::new();
    let mut delayed = 0;
    for (place, record) in study.records.iter().enumerate() {
        let Some(comparison) = study.compare_named(place, "Nagle", P50.name()) else { continue };
        delayed += usize::from(comparison.finding == Finding::More);
        told.push(format!("{}: {} ×", record.cell, number::interval(&comparison.ratio, "")));
    }
    let verdict = match delayed {
        _ if told.is_empty() => Verdict::CannotBeJudged,
        0 => Verdict::Refuted,
        all if all == told.len() => Verdict::Confirmed,
        _ => Verdict::Depends,
    };
    Judgement {
        claim: Some("C13"),
        statement: "Nagle's algorithm delays events that are written at once".into(),
        verdict,
        because: format!("Median latency under Nagle, NODELAY = 1: {}.", told.join("; ")),
    }
}

/// Whether NODELAY multiplies segments and acknowledgements.
fn nodelay_storms(study: &Study) -> Judgement {
    let mut lines = Vec::new();
    let mut worst: f64 = 0.0;
    for (place, record) in study.records.iter().enumerate() {
        let of = |variant: &str, metric: &str| {
            study.summary_named(place, variant, metric).map(|summary| summary.median)
        };
        let values = ["NODELAY", "Nagle"]
            .map(|variant| Some((of(variant, SEGMENTS.name())?, of(variant, ACKS.name())?)));
        let [Some((segments, acks)), Some((with_nagle, acks_with_nagle))] = values else {
            continue;
        };
        worst = worst.max(acks / segments.max(f64::MIN_POSITIVE));
        lines.push(format!(
            "{}: {segments:.2} segments and {acks:.2} acknowledgements per event, under Nagle \
             {with_nagle:.2} and {acks_with_nagle:.2}",
            record.cell
        ));
    }
    let verdict = match () {
        () if lines.is_empty() => Verdict::CannotBeJudged,
        () if worst > 1.5 => Verdict::Confirmed,
        () => Verdict::Refuted,
    };
    Judgement {
        claim: Some("C08"),
        statement: "NODELAY sends small segments at once but may cause an ACK storm".into(),
        verdict,
        because: format!(
            "A storm would be more acknowledgements than segments; there were at most {worst:.2} per \
             segment. {}. What multiplies both is several writes per event.",
            lines.join("; ")
        ),
    }
}

/// Whether `TCP_NOTSENT_LOWAT` keeps bytes where they can still be skipped.
fn lowat_keeps_bytes(study: &Study) -> Judgement {
    let place = study.find(&[(READER, "does not read")]);
    let in_kernel = |variant: &str| {
        let summary = study.summary_named(place?, variant, IN_SEND_QUEUE)?;
        Some(summary.median)
    };
    let (with, without) = (in_kernel("NODELAY + LOWAT"), in_kernel("NODELAY"));
    let verdict = match (with, without) {
        (Some(with), Some(without)) if with < without / 2.0 => Verdict::Confirmed,
        (Some(_), Some(_)) => Verdict::Refuted,
        _ => Verdict::CannotBeJudged,
    };
    let shown =
        |bytes: Option<f64>| bytes.map_or("?".into(), |bytes| number::with_unit(bytes, "bytes"));
    Judgement {
        claim: None,
        statement: "TCP_NOTSENT_LOWAT keeps events in the server, where they can be skipped".into(),
        verdict,
        because: format!(
            "With a reader that does not read, {} waited in the server's kernel, and {} without it; \
             a send buffer of 16 KiB has the same effect ({}), and turns autotuning off for good.",
            shown(with),
            shown(without),
            shown(in_kernel("NODELAY + SNDBUF"))
        ),
    }
}

fn budget(ms: u64, rounds_min: u32, rounds_max: u32) -> Budget {
    Budget { time: Duration::from_millis(ms), rounds_min, rounds_max }
}

const COLUMNS: [&Column; 7] = [&P50, &P99, &SEGMENTS, &ACKS, &CALLS, &CPU, &BEHIND];
const IN_LOG: &str = "in_log_bytes";
const IN_SEND_QUEUE: &str = "in_send_queue_bytes";
const IN_RECEIVE_QUEUE: &str = "in_receive_queue_bytes";
const BUFFER_BYTES: usize = 16 << 10;
const LOWAT_BYTES: usize = 16 << 10;
const RCVBUF_BYTES: usize = 32 << 10;
const NAP_MS: u64 = 20;
const INTERVAL_US: u64 = 5000;
/// Half a megabyte: less than a topic retains, so that nothing is lost.
const PILED_EVENTS: usize = 3800;
