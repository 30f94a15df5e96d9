//! What it costs that the server looks on at itself: looks at streams, stamps of calls, the live
//! page, scrapes.
//!
//! Looking on costs by the second, not by the event. So the bursts come at a fixed rate, a block
//! lasts a second, and what is compared is the processor time of that second.

mod audited;
mod columns;
mod judge;
mod onlooker;
mod price;
#[cfg(test)]
mod tests;

use super::{Experiment, Judgement, Rig};
use crate::lab::method::analysis::Study;
use crate::lab::method::cell::{Budget, Cell, Measured, Plan, Stop};
use crate::lab::method::record::{Profile, Record, Variant};
use crate::lab::report::figure::{Figure, Table};
use crate::lab::report::standard;
use crate::lab::rig::block::{self, CALLS, CPU, Column, P50, P99, ServerRig, Setup};
use crate::lab::rig::orders::{Order, Pace, Reader, Run};
use crate::lab::rig::stream::FRAME_BYTES;
use crate::lab::run::{Group, Lab};
use columns::{ANSWERS, COLUMNS, LOOKS, STAMPS, TURN_P99};
use onlooker::{Looks, Onlooker};
use std::collections::BTreeMap;
use std::time::Duration;

/// The experiment.
#[derive(Debug)]
pub struct ObserverCost;

const NAME: &str = "observer-cost";
const SUBSCRIBERS: &str = "subscribers";
const BURST: &str = "burst";

/// A way of looking on.
#[derive(Debug)]
struct Regard {
    name: &'static str,
    /// What it costs more than: the same without what it is about.
    beside: &'static str,
    /// Whether its connections have been stamped before.
    ///
    /// A socket that was prepared for stamps stays so for its life, and its server remembers it. So
    /// these have a server of their own, lest they make the others dearer.
    stamped: bool,
    observe_ms: u32,
    timestamp_one_in: u32,
    /// Who asks the admin listener meanwhile.
    onlooker: Option<Looks>,
}

const OFF: &str = "off";
const LOOKS_1_S: &str = "looks 1 s";
const LOOKS_20_MS: &str = "looks 20 ms";
const STAMPED_BEFORE: &str = "stamped before";
const STAMPS_1_IN_1000: &str = "stamps 1/1000";
const STAMPS_1_IN_16: &str = "stamps 1/16";
const STAMPS_ALL: &str = "stamps 1/1";
const LIVE: &str = "live page";
const METRICS: &str = "metrics 5/s";
const CONNECTIONS: &str = "connections 5/s";

const REGARDS: [Regard; 10] = {
    const fn looks(name: &'static str, beside: &'static str, observe_ms: u32) -> Regard {
        Regard { name, beside, stamped: false, observe_ms, timestamp_one_in: 0, onlooker: None }
    }
    const fn stamps(name: &'static str, beside: &'static str, timestamp_one_in: u32) -> Regard {
        Regard { stamped: true, timestamp_one_in, ..looks(name, beside, 0) }
    }
    const fn asked(name: &'static str, onlooker: Looks) -> Regard {
        Regard { onlooker: Some(onlooker), ..looks(name, LOOKS_1_S, 1000) }
    }
    [
        looks(OFF, OFF, 0),
        looks(LOOKS_1_S, OFF, 1000),
        looks(LOOKS_20_MS, OFF, 20),
        stamps(STAMPED_BEFORE, OFF, 0),
        stamps(STAMPS_1_IN_1000, STAMPED_BEFORE, 1000),
        stamps(STAMPS_1_IN_16, STAMPED_BEFORE, 16),
        stamps(STAMPS_ALL, STAMPED_BEFORE, 1),
        asked(LIVE, Looks::Live),
        asked(METRICS, Looks::Polls("/metrics")),
        asked(CONNECTIONS, Looks::Polls("/connections")),
    ]
};

impl Regard {
    fn knobs(&self) -> BTreeMap<String, String> {
        let one_in = ("timestamp_one_in".to_owned(), self.timestamp_one_in.to_string());
        [("observe_ms".to_owned(), self.observe_ms.to_string()), one_in].into()
    }

    fn variant(&self) -> Variant {
        let mut settings = self.knobs();
        if self.stamped {
            settings.insert("connections".into(), "stamped before".into());
        }
        if let Some(onlooker) = self.onlooker {
            settings.insert("asked for".into(), onlooker.target().into());
        }
        Variant { name: self.name.into(), settings }
    }
}

/// The cells of so many subscribers: those that share servers.
struct Subscribers {
    profile: Profile,
    subscribers: usize,
    bursts: &'static [usize],
}

/// Two servers on one processor, of which one sleeps: one has never stamped, the other every
/// connection.
struct Rigs {
    plain: ServerRig,
    stamped: ServerRig,
}

/// Of each of the two.
fn setup(subscribers: usize) -> Setup {
    Setup {
        topics: vec!["t".into()],
        subscribers,
        // A whole burst may leave in one visit.
        arguments: vec!["--flush-budget-bytes", "16777216"],
        ..Setup::default()
    }
}

impl Rigs {
    fn start(lab: &Lab<'_>, subscribers: usize) -> Result<Rigs, String> {
        let setup = setup(subscribers);
        let rigs =
            Rigs { plain: ServerRig::start(lab, &setup)?, stamped: ServerRig::start(lab, &setup)? };
        let rigs = Rigs { stamped: stamp_all(rigs.stamped)?, ..rigs };
        // Whoever is not measured does not look on either.
        for rig in [&rigs.plain, &rigs.stamped] {
            rig.server().turn_knobs(None, &REGARDS[0].knobs())?;
        }
        Ok(rigs)
    }

    fn of(&mut self, regard: &Regard) -> &mut ServerRig {
        if regard.stamped { &mut self.stamped } else { &mut self.plain }
    }

    /// A burst leaves as a whole, however many reads its request takes.
    fn flush_whole(&self, burst: usize) -> Result<(), String> {
        let policy = format!("size:{},linger:1000", burst * FRAME_BYTES);
        let policy = BTreeMap::from([("flush_policy".to_owned(), policy)]);
        [&self.plain, &self.stamped].iter().try_for_each(|rig| rig.turn_knobs(0, &policy))
    }

    /// One block of a second.
    fn block(&mut self, regard: &Regard, run: &Run) -> Result<Measured, String> {
        let rig = self.of(regard);
        rig.server().turn_knobs(None, &regard.knobs())?;
        let looks = |looks: Looks| Onlooker::start(looks, rig.server());
        let onlooker = regard.onlooker.map(looks).transpose()?;
        rig.warm_up_apart(&Run { pace: Pace::Closed, ..*run })?;
        let answers = onlooker.as_ref().map_or(0, Onlooker::answers);
        let figures = rig.block(run, None)?;
        let answers = onlooker.as_ref().map_or(0, Onlooker::answers) - answers;
        let answers_per_s = answers as f64 * 1e9 / figures.answer.wall_ns.max(1) as f64;
        onlooker.map_or(Ok(()), Onlooker::stop)?;
        rig.server().turn_knobs(None, &REGARDS[0].knobs())?;
        let mut measured = figures.measured(&COLUMNS);
        measured.values.push(Some(answers_per_s));
        Ok(measured)
    }
}

/// Has every connection stamped once.
fn stamp_all(mut rig: ServerRig) -> Result<ServerRig, String> {
    let all = BTreeMap::from([("timestamp_one_in".to_owned(), "1".to_owned())]);
    rig.server().turn_knobs(None, &all)?;
    let bursts = STAMPED_BURSTS;
    rig.ask(&Order::Run(Run { bursts, burst: 1, pace: Pace::Closed, ..BLOCK }))?;
    Ok(rig)
}

impl Subscribers {
    fn plan(&self, burst: usize) -> Plan {
        let (ms, rounds_min, rounds_max) = match self.profile {
            Profile::Smallest => (0, 1, 1),
            Profile::Quick => (15_000, 3, 6),
            Profile::Full => (20_000, 3, 8),
        };
        Plan {
            experiment: NAME.into(),
            factors: vec![
                (SUBSCRIBERS.into(), self.subscribers.to_string()),
                (BURST.into(), burst.to_string()),
            ],
            metrics: COLUMNS.iter().chain([&&ANSWERS]).map(|column| column.metric()).collect(),
            variants: REGARDS.iter().map(Regard::variant).collect(),
            baseline: 0,
            budget: Budget { time: Duration::from_millis(ms), rounds_min, rounds_max },
        }
    }

    fn block_of(&self, burst: usize) -> Run {
        let bursts = if self.profile == Profile::Smallest { 5 } else { BLOCK.bursts };
        Run { burst, bursts, ..BLOCK }
    }
}

impl Group for Subscribers {
    fn cells(&self) -> Vec<String> {
        self.bursts.iter().map(|&burst| self.plan(burst).name()).collect()
    }

    fn estimate(&self) -> Duration {
        let cells = self.bursts.len() as f64;
        Duration::from_secs_f64(match self.profile {
            Profile::Smallest => 7.0,
            Profile::Quick => 100.0 * cells,
            Profile::Full => 250.0 * cells,
        })
    }

    fn connections(&self) -> usize {
        setup(self.subscribers).connections()
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        let mut cells: Vec<(Run, Cell)> = self
            .bursts
            .iter()
            .map(|&burst| (self.block_of(burst), Cell::new(self.plan(burst))))
            .collect();
        let restarts = lab.method.restarts;
        for restart in 0..restarts {
            let mut rigs = Rigs::start(lab, self.subscribers)?;
            let knobs = rigs.plain.server().knobs()?;
            for (run, cell) in &mut cells {
                cell.knobs(knobs.clone());
                rigs.flush_whole(run.burst)?;
                lab.measure(cell, restart, &mut |variant| rigs.block(&REGARDS[variant], run))?;
                if restart + 1 == restarts {
                    audited::audit(&mut rigs, run, cell)?;
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

impl Experiment for ObserverCost {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        "What looking on costs"
    }

    fn question(&self) -> &'static str {
        "The server asks the kernel about its streams, has calls stamped, feeds a live page and is \
         asked for its metrics: what does that cost it? Ten bursts a second go to every subscriber, \
         for a second in each block, while it looks on in one way or another; the knobs are turned \
         on the running server. Looks every second are the default, and the rows about the live page \
         and about polls have them too. Connections that were ever stamped belong to a server of \
         their own."
    }

    fn rig(&self) -> Rig {
        Rig::Server
    }

    fn groups(&self, profile: Profile) -> Vec<Box<dyn Group>> {
        let group = |subscribers, bursts| -> Box<dyn Group> {
            Box::new(Subscribers { profile, subscribers, bursts })
        };
        match profile {
            Profile::Smallest => vec![group(2, &[3])],
            Profile::Quick => vec![group(100, &[1]), group(1000, &[1])],
            Profile::Full => vec![group(100, &[1, 64]), group(1000, &[1, 64])],
        }
    }

    fn judge(&self, study: &Study) -> Vec<Judgement> {
        judge::judge(study)
    }

    fn tables(&self, study: &Study) -> Vec<Table> {
        let titles = [
            (&LOOKS, "Looks at streams, a second"),
            (&STAMPS, "Stamped calls per delivered event"),
            (&ANSWERS, "Answers to onlookers, a second"),
            (&CALLS, "Write calls per delivered event"),
            (&CPU, "Server CPU per delivered event"),
            (&P50, "Latency of a delivery, median"),
            (&P99, "Latency of a delivery, 99th percentile"),
            (&TURN_P99, "Turns of the loop, 99th percentile"),
        ];
        let metric =
            |(column, title): (&Column, &str)| standard::metric_table(study, column.name(), title);
        price::table(study).into_iter().chain(titles.into_iter().filter_map(metric)).collect()
    }

    fn figures(&self, study: &Study) -> Vec<Figure> {
        let widest = study.find(&[(SUBSCRIBERS, "1000"), (BURST, "1")]).or(Some(0));
        let latencies = widest.and_then(|place| {
            let title = format!("Latencies of all deliveries: {}", study.records.get(place)?.cell);
            standard::distribution_chart(study, place, block::LATENCY, &title)
        });
        price::charts(study).into_iter().chain(latencies).collect()
    }

    fn cannot_show(&self) -> &'static [&'static str] {
        &[
            "What cannot be turned off: the counters, the clock that is read after every call, and \
             the histograms are in every row.",
            "Rates other than ten bursts a second. What is looked at by the second is a larger part \
             of less traffic, and a smaller one of more.",
            "Streams that do not flow. One of which something is under way is asked for more than \
             whether that is so; here the subscribers acknowledge at once.",
            "What the onlookers themselves cost, and a browser that draws the page: they are on the \
             subscribers' processor. On loopback the server's time contains the kernel's half of \
             their connections, and each poll here is a connection of its own.",
            "A network card that makes stamps. On loopback a stamp is made and queued within the \
             call or in the acknowledgement that interrupts it.",
        ]
    }
}

const BLOCK: Run = Run {
    topic: 0,
    bursts: BURSTS_PER_S,
    burst: 1,
    // Less than the 200 ms after which a connection counts as silent.
    pace: Pace::EveryUs(1_000_000 / BURSTS_PER_S as u64),
    reader: Reader::Spinning,
};
const BURSTS_PER_S: usize = 10;
const STAMPED_BURSTS: usize = 3;
