//! The main experiment: the server's seven write paths, and the one that chooses between two of
//! them, over bursts and subscribers.

use super::{Experiment, Judgement, Rig, Verdict};
use crate::lab::method::analysis::{Finding, Study};
use crate::lab::method::audit::Auditor;
use crate::lab::method::cell::{Budget, Cell, Plan, Stop};
use crate::lab::method::record::{Audit, Doubt, Profile, Record, Variant};
use crate::lab::report::figure::{Figure, Table};
use crate::lab::report::{number, standard};
use crate::lab::rig::block::{
    self, ACKS, ALLOCATIONS, CALLS, COPIED, CPU, CUT, Column, FRAMES, IDLE, IOVECS, P50, P99,
    SEGMENTS, ServerRig, Setup, TURNS, WALL,
};
use crate::lab::rig::orders::{Order, Pace, Reader, Run};
use crate::lab::rig::stream::FRAME_BYTES;
use crate::lab::run::{Group, Lab};
use crate::send::path::WritePath;
use std::collections::BTreeMap;
use std::time::Duration;

/// The experiment.
#[derive(Debug)]
pub struct WriteVsWritev;

const NAME: &str = "write-vs-writev";
const SUBSCRIBERS: &str = "subscribers";
const BURST: &str = "burst";

/// The paths that are compared.
const PATHS: [WritePath; 8] = [
    WritePath::Write,
    WritePath::Split,
    WritePath::Writev,
    WritePath::Copy,
    WritePath::More,
    WritePath::Cork,
    WritePath::Span,
    WritePath::Auto,
];

const COLUMNS: [&Column; 14] = [
    &CALLS,
    &FRAMES,
    &IOVECS,
    &COPIED,
    &CUT,
    &SEGMENTS,
    &ACKS,
    &TURNS,
    &ALLOCATIONS,
    &CPU,
    &WALL,
    &P50,
    &P99,
    &IDLE,
];

/// The cells, by the number of subscribers: those that share a server.
fn sizes(profile: Profile) -> Vec<(usize, &'static [usize])> {
    match profile {
        Profile::Smallest => vec![(2, &[1, 3])],
        Profile::Quick => vec![(100, &[1, 8, 64]), (1000, &[1, 8])],
        Profile::Full => {
            const BURSTS: &[usize] = &[1, 2, 8, 64, 512];
            vec![(1, BURSTS), (100, BURSTS), (1000, BURSTS), (5000, BURSTS)]
        }
    }
}

struct Fanout {
    profile: Profile,
    subscribers: usize,
    bursts: &'static [usize],
}

impl Fanout {
    fn plan(&self, burst: usize) -> Plan {
        let (ms, rounds_min, rounds_max) = match self.profile {
            Profile::Smallest => (0, 2, 2),
            Profile::Quick => (900, 4, 20),
            // Where all paths together take the better part of a minute, once in each life.
            Profile::Full if burst * self.subscribers > 1_000_000 => (0, 1, 1),
            Profile::Full => (2500, 2, 10),
        };
        let variants = PATHS.map(|path| Variant {
            name: path.name().into(),
            settings: BTreeMap::from([
                ("write_path".into(), path.name().into()),
                // A burst leaves as a whole, however many reads its request takes.
                ("flush_policy".into(), format!("size:{},linger:1000", burst * FRAME_BYTES)),
            ]),
        });
        Plan {
            experiment: NAME.into(),
            factors: vec![
                (SUBSCRIBERS.into(), self.subscribers.to_string()),
                (BURST.into(), burst.to_string()),
            ],
            metrics: COLUMNS.map(Column::metric).into(),
            variants: variants.into(),
            baseline: 0,
            budget: Budget { time: Duration::from_millis(ms), rounds_min, rounds_max },
        }
    }

    /// A block of some milliseconds on the fastest path.
    fn block_of(&self, burst: usize) -> Run {
        let bursts = (BLOCK_DELIVERIES / (burst * self.subscribers)).clamp(1, BLOCK_BURSTS_MAX);
        let bursts = if self.profile == Profile::Smallest { 2 } else { bursts };
        Run { topic: 0, bursts, burst, pace: Pace::Closed, reader: Reader::Spinning }
    }

    fn setup(&self) -> Setup {
        Setup {
            topics: vec!["t".into()],
            subscribers: self.subscribers,
            // A whole burst may leave in one visit.
            arguments: vec!["--flush-budget-bytes", "16777216"],
            ..Setup::default()
        }
    }
}

impl Group for Fanout {
    fn cells(&self) -> Vec<String> {
        self.bursts.iter().map(|&burst| self.plan(burst).name()).collect()
    }

    fn estimate(&self) -> Duration {
        let deliveries: usize = self.bursts.iter().map(|burst| burst * self.subscribers).sum();
        let cells = self.bursts.len() as f64;
        let seconds = match self.profile {
            Profile::Smallest => 0.3,
            Profile::Quick => 1.0 + 2.4 * cells,
            Profile::Full => 5.0 + 13.0 * cells + deliveries as f64 * 80e-6,
        };
        Duration::from_secs_f64(seconds)
    }

    fn connections(&self) -> usize {
        self.setup().connections()
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        let mut cells: Vec<(Run, Cell)> = self
            .bursts
            .iter()
            .map(|&burst| (self.block_of(burst), Cell::new(self.plan(burst))))
            .collect();
        let restarts = lab.method.restarts;
        for restart in 0..restarts {
            let mut rig = ServerRig::start(lab, &self.setup())?;
            let knobs = rig.server().knobs()?;
            for (run, cell) in &mut cells {
                cell.knobs(knobs.clone());
                let settings: Vec<_> =
                    cell.plan().variants.iter().map(|variant| variant.settings.clone()).collect();
                lab.measure(cell, restart, &mut |variant| {
                    rig.turn_knobs(0, &settings[variant])?;
                    Ok(rig.block(run, None)?.measured(&COLUMNS))
                })?;
                if restart + 1 == restarts {
                    audit(&mut rig, run, cell)?;
                }
            }
        }
        let finish = |(_, mut cell): (Run, Cell)| {
            block::doubts(lab, &cell).into_iter().for_each(|doubt| cell.doubt(doubt));
            lab.finish(cell)
        };
        Ok(cells.into_iter().map(finish).collect())
    }
}

/// Holds the server's counters against the kernel's, in blocks that are not timed: counting makes
/// every call dearer.
fn audit(rig: &mut ServerRig, run: &Run, cell: &mut Cell) -> Result<(), Stop> {
    if run.burst > AUDITED_BURST_MAX {
        return Ok(());
    }
    let auditor = match Auditor::new() {
        Ok(auditor) => auditor,
        Err(why) => {
            cell.doubt(Doubt::Unaudited(format!("nobody could count beside the server: {why}")));
            return Ok(());
        }
    };
    let run = Run { bursts: run.bursts.min(AUDITED_BURSTS), ..*run };
    for variant in 0..cell.plan().variants.len() {
        rig.turn_knobs(0, &cell.plan().variants[variant].settings)?;
        let before = rig.server().counts_before()?;
        let pid = rig.server().pid();
        let names: Vec<&str> = AUDITED.iter().map(|(call, _)| *call).collect();
        let theirs = auditor.count(pid, &names, &mut || rig.ask(&Order::Run(run)).map(drop))?;
        let after = rig.server().counts_after()?;
        let audits = AUDITED.map(|(call, counters)| Audit {
            variant,
            what: call.into(),
            ours: counters.iter().map(|name| after.server_since(&before, name)).sum::<f64>() as u64,
            theirs: theirs.get(call).copied().unwrap_or(0),
            by: auditor.name().into(),
        });
        if audits.iter().any(|audit| audit.ours != audit.theirs) {
            let why = format!("the server and {} do not agree", auditor.name());
            cell.doubt(Doubt::Unaudited(why));
        }
        cell.audit(audits);
    }
    Ok(())
}

/// System calls, and the counters that count them.
const AUDITED: [(&str, &[&str]); 3] = [
    (
        "sendto",
        &[
            "pushv_write_calls_total{call=\"send\"}",
            "pushv_write_calls_total{call=\"send_more\"}",
            "pushv_answer_calls_total", // to the publisher
        ],
    ),
    ("writev", &["pushv_write_calls_total{call=\"writev\"}"]),
    ("setsockopt", &["pushv_write_calls_total{call=\"cork\"}"]),
];
const AUDITED_BURST_MAX: usize = 64;
const AUDITED_BURSTS: usize = 5;
const BLOCK_DELIVERIES: usize = 4000;
const BLOCK_BURSTS_MAX: usize = 200;

impl Experiment for WriteVsWritev {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        "Write against writev"
    }

    fn question(&self) -> &'static str {
        "So many events are queued for each of so many subscribers, and are flushed at once: what \
         does each way of making system calls of them cost? The server is pushv itself, its write \
         path exchanged while the connections are live; a burst is published in one request, \
         everybody receives it and compares every byte, then comes the next. An event has 100 bytes \
         of data and 131 on the wire."
    }

    fn rig(&self) -> Rig {
        Rig::Server
    }

    fn groups(&self, profile: Profile) -> Vec<Box<dyn Group>> {
        let group = |(subscribers, bursts)| -> Box<dyn Group> {
            Box::new(Fanout { profile, subscribers, bursts })
        };
        sizes(profile).into_iter().map(group).collect()
    }

    fn judge(&self, study: &Study) -> Vec<Judgement> {
        vec![
            less_than_write(
                study,
                "writev",
                "One writev of the queue costs less than a write per event",
            ),
            writev_is_best(study),
            less_than_write(
                study,
                "more",
                "Writing with MSG_MORE saves what is lost by a write per event",
            ),
            less_than_write(
                study,
                "cork",
                "TCP_CORK around the writes saves what is lost by a write per event",
            ),
            split_costs(study),
        ]
    }

    fn tables(&self, study: &Study) -> Vec<Table> {
        let tables = [
            standard::metric_table(study, CALLS.name(), "System calls per delivered event"),
            standard::metric_table(study, FRAMES.name(), "Events per call"),
            standard::metric_table(
                study,
                SEGMENTS.name(),
                "TCP segments with data per delivered event",
            ),
            standard::metric_table(
                study,
                ACKS.name(),
                "Other segments, acknowledgements, per delivered event",
            ),
            standard::metric_table(study, IOVECS.name(), "I/O vectors per delivered event"),
            standard::metric_table(
                study,
                COPIED.name(),
                "Bytes copied in user space per delivered event",
            ),
            standard::metric_table(
                study,
                CUT.name(),
                "Calls cut short by a full send buffer, per delivered event",
            ),
            standard::metric_table(study, TURNS.name(), "Turns of the server's loop per burst"),
            standard::metric_table(
                study,
                ALLOCATIONS.name(),
                "Allocations per delivered event, publishing included",
            ),
            standard::metric_table(study, CPU.name(), "Server CPU per delivered event"),
            standard::ratio_table(study, CPU.name(), "Server CPU per delivered event, write = 1"),
            standard::metric_table(study, P50.name(), "Latency of a delivery, median"),
            standard::metric_table(study, P99.name(), "Latency of a delivery, 99th percentile"),
        ];
        tables.into_iter().flatten().collect()
    }

    fn figures(&self, study: &Study) -> Vec<Figure> {
        let mut figures = Vec::new();
        for subscribers in factor_values(study, SUBSCRIBERS) {
            let fixed = [(SUBSCRIBERS, subscribers.as_str())];
            let of = |what: &str| format!("{what}, {subscribers} subscribers");
            for (metric, title) in [
                (CPU.name(), "Server CPU per delivered event"),
                (P99.name(), "Latency, 99th percentile"),
            ] {
                figures.extend(standard::interval_chart(study, metric, BURST, &fixed, &of(title)));
            }
        }
        if let Some(record) = widest(study) {
            let cell = &study.records[record].cell;
            let title = format!("Latencies of all deliveries: {cell}");
            figures.extend(standard::distribution_chart(study, record, block::LATENCY, &title));
        }
        figures
    }

    fn cannot_show(&self) -> &'static [&'static str] {
        &[
            "A network card. On loopback the kernel does the receiver's half of the work inside the \
             sender's call, so a call is dearer here than where somebody else receives.",
            "Waking readers. The subscribers never sleep, because waking a sleeper costs more than \
             all that is compared, and costs every path the same.",
            "Readers that are slower than the server, or far away.",
            "What a path costs apart from publishing: parsing a burst and appending it to the log is \
             part of the server's CPU, the same on all paths. With one subscriber it is most of it.",
        ]
    }
}

/// How a path that makes fewer or lighter calls fares against a write per event.
fn less_than_write(study: &Study, path: &str, statement: &str) -> Judgement {
    let bursts = cells(study, |burst| burst >= 2.0);
    let findings: Vec<Finding> = bursts
        .iter()
        .filter_map(|&record| study.compare_named(record, path, CPU.name()))
        .map(|comparison| comparison.finding)
        .collect();
    let less = findings.iter().filter(|&&finding| finding == Finding::Less).count();
    let told = findings.iter().filter(|&&finding| finding != Finding::Undecided).count();
    let verdict = match (less, told) {
        (_, 0) => Verdict::CannotBeJudged,
        (less, told) if less == told => Verdict::Confirmed,
        (0, _) => Verdict::Refuted,
        _ => Verdict::Depends,
    };
    let example = |burst_min: f64, burst_max: f64| {
        let found = cells(study, |burst| burst >= burst_min && burst <= burst_max);
        let &record = found.last()?;
        let ratio = study.compare_named(record, path, CPU.name())?.ratio;
        let shown = number::interval(&ratio, "");
        Some(format!("{shown} × write's CPU with {}", study.records[record].cell))
    };
    let examples: Vec<String> = [example(1.0, 1.0), example(2.0, 8.0), example(9.0, f64::MAX)]
        .into_iter()
        .flatten()
        .collect();
    let undecided = match findings.len() - told {
        0 => String::new(),
        some => format!(", and could not be told in {some}"),
    };
    let cells = findings.len();
    Judgement {
        claim: None,
        statement: statement.into(),
        verdict,
        because: match examples.is_empty() {
            true => "No interval could be had.".into(),
            false => format!(
                "With two events or more it took less CPU in {less} of {cells} cells{undecided}: {}.",
                examples.join("; ")
            ),
        },
    }
}

/// Whether one vector per event is what one wants, or fewer and larger pieces.
fn writev_is_best(study: &Study) -> Judgement {
    let mut beaten = Vec::new();
    let told = |&record: &usize| study.ratio(record, "span", "writev", CPU.name()).is_some();
    let many: Vec<usize> = cells(study, |burst| burst >= 8.0).into_iter().filter(told).collect();
    for &record in &many {
        for path in ["copy", "span", "auto"] {
            let ratio = study.ratio(record, path, "writev", CPU.name());
            if let Some(ratio) = ratio.filter(|ratio| ratio.high < 1.0) {
                beaten.push((record, path, ratio));
            }
        }
    }
    let cells_beaten = {
        let mut records: Vec<usize> = beaten.iter().map(|(record, ..)| *record).collect();
        records.dedup();
        records.len()
    };
    let verdict = match cells_beaten {
        _ if many.is_empty() => Verdict::CannotBeJudged,
        0 => Verdict::Confirmed,
        cells if cells == many.len() => Verdict::Refuted,
        _ => Verdict::Depends,
    };
    let best = beaten.iter().min_by(|a, b| a.2.mid.total_cmp(&b.2.mid));
    let example = best.map(|(record, path, ratio)| {
        let (shown, cell) = (number::interval(ratio, ""), &study.records[*record].cell);
        format!(" The most is {path} with {cell}: {shown} × writev's CPU.")
    });
    Judgement {
        claim: None,
        statement: "A vector with one entry per queued event is the best that can be done".into(),
        verdict,
        because: format!(
            "With eight events or more, copying them into one buffer or sending them as the one or \
             two pieces that they are in the log took less CPU in {cells_beaten} of {} cells.{}",
            many.len(),
            example.unwrap_or_default()
        ),
    }
}

/// What three writes per event cost.
fn split_costs(study: &Study) -> Judgement {
    let ratios: Vec<f64> = cells(study, |_| true)
        .iter()
        .filter_map(|&record| study.compare_named(record, "split", CPU.name()))
        .map(|comparison| comparison.ratio.mid)
        .collect();
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    let threshold = study.records.first().map_or(0.0, |record| record.method.threshold);
    let verdict = match () {
        () if ratios.is_empty() => Verdict::CannotBeJudged,
        () if low > 1.0 + threshold => Verdict::Confirmed,
        () if high < 1.0 + threshold => Verdict::Refuted,
        () => Verdict::Depends,
    };
    Judgement {
        claim: None,
        statement:
            "Writing size line, event and line end each by itself costs more than the event \
                    in one piece"
                .into(),
        verdict,
        because: match ratios.len() {
            0 => "No interval could be had.".into(),
            _ => format!("It took {low:.2} to {high:.2} times the CPU of one write per event."),
        },
    }
}

/// The cells whose burst is such, by subscribers and burst.
fn cells(study: &Study, such: impl Fn(f64) -> bool) -> Vec<usize> {
    let burst = |record: usize| study.records[record].number(BURST);
    (0..study.records.len()).filter(|&record| burst(record).is_some_and(&such)).collect()
}

/// A cell with many subscribers and a burst that is neither one event nor a flood.
fn widest(study: &Study) -> Option<usize> {
    let all = cells(study, |burst| (2.0..=64.0).contains(&burst));
    let deliveries = |record: usize| {
        let record = &study.records[record];
        record.number(SUBSCRIBERS).unwrap_or(0.0) * record.number(BURST).unwrap_or(0.0)
    };
    all.into_iter().max_by(|&a, &b| deliveries(a).total_cmp(&deliveries(b)))
}

/// The values of a factor, in the order of the records.
fn factor_values(study: &Study, factor: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for value in study.records.iter().filter_map(|record| record.factor(factor)) {
        if !values.iter().any(|known| known == value) {
            values.push(value.into());
        }
    }
    values
}
