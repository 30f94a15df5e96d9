//! The rig against itself: the same thing under several names, and a tenth more of it.
//!
//! A rig that finds differences where there are none, or none where there is one, is not worth
//! reading on. So this comes first in every report.

use super::{Experiment, Judgement, Rig};
use crate::lab::bare::Reader as Peer;
use crate::lab::bare::bench::{self, Bench};
use crate::lab::bare::block::{Kind, Task};
use crate::lab::bare::call::Call;
use crate::lab::method::analysis::Study;
use crate::lab::method::cell::{Budget, Cell, Plan, Stop};
use crate::lab::method::record::{Metric, Profile, Record, Variant};
use crate::lab::method::rig_check::{EXPERIMENT as NAME, PLANTED};
use crate::lab::report::figure::{Figure, Table};
use crate::lab::rig::block::{self, ACKS, CPU, IDLE, P50, P99, RECEIVED, ServerRig, Setup, WALL};
use crate::lab::rig::orders::{Pace, Reader, Run};
use crate::lab::run::{Group, Lab};
use std::collections::BTreeMap;
use std::time::Duration;

/// The experiment.
#[derive(Debug)]
pub struct AgainstItself {
    /// What is to be checked.
    pub rig: Rig,
}

impl Experiment for AgainstItself {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        "The rig against itself"
    }

    fn question(&self) -> &'static str {
        "The same thing is measured under several names, in the same way as different things are \
         below. Every difference that is found between them is a false one. One more variant does a \
         tenth more work than it says: that difference is real, and must be found."
    }

    fn rig(&self) -> Rig {
        self.rig
    }

    fn groups(&self, profile: Profile) -> Vec<Box<dyn Group>> {
        let mut groups: Vec<Box<dyn Group>> = Vec::new();
        if self.rig != Rig::Bare {
            groups.push(Box::new(ServerAgainstItself { profile }));
        }
        if self.rig != Rig::Server {
            groups.push(Box::new(CallAgainstItself { profile }));
        }
        groups
    }

    fn judge(&self, _study: &Study) -> Vec<Judgement> {
        Vec::new() // the report has a section of its own for it
    }

    fn tables(&self, _study: &Study) -> Vec<Table> {
        Vec::new()
    }

    fn figures(&self, _study: &Study) -> Vec<Figure> {
        Vec::new()
    }

    fn cannot_show(&self) -> &'static [&'static str] {
        &[
            "That the rig measures the right thing: an error that all variants share is not seen.",
            "How it fares with differences of less than a tenth.",
        ]
    }
}

/// The names of the variants: one is the baseline, and the last one is planted.
pub fn variants(profile: Profile) -> Vec<Variant> {
    let same = if profile == Profile::Full { 8 } else { 4 };
    let mut variants: Vec<Variant> = (1..=same)
        .map(|nth| Variant { name: format!("same {nth}"), settings: BTreeMap::new() })
        .collect();
    let settings = BTreeMap::from([(PLANTED.to_owned(), "1.10".to_owned())]);
    variants.push(Variant { name: PLANTED.into(), settings });
    variants
}

/// The plan of either rig.
fn plan(profile: Profile, rig: &str, metrics: Vec<Metric>, time: Duration) -> Plan {
    let rounds_min = match profile {
        Profile::Smallest => 2,
        Profile::Quick => 4,
        Profile::Full => 8,
    };
    let rounds_max = if profile == Profile::Smallest { rounds_min } else { 20 };
    Plan {
        experiment: NAME.into(),
        factors: vec![("rig".into(), rig.into())],
        metrics,
        variants: variants(profile),
        baseline: 0,
        budget: Budget { time, rounds_min, rounds_max },
    }
}

/// How long one life of the processes is measured.
fn life(profile: Profile) -> Duration {
    Duration::from_millis(match profile {
        Profile::Smallest => 0,
        Profile::Quick => 1000,
        Profile::Full => 4000,
    })
}

fn estimate(profile: Profile) -> Duration {
    Duration::from_millis(match profile {
        Profile::Smallest => 200,
        Profile::Quick => 2500,
        Profile::Full => 21_000,
    })
}

struct ServerAgainstItself {
    profile: Profile,
}

impl ServerAgainstItself {
    fn plan(&self) -> Plan {
        let metrics = COLUMNS.map(block::Column::metric).into();
        plan(self.profile, "server", metrics, life(self.profile))
    }

    fn setup(&self) -> Setup {
        let subscribers = if self.profile == Profile::Smallest { 2 } else { 200 };
        Setup { topics: vec!["t".into()], subscribers, ..Setup::default() }
    }
}

impl Group for ServerAgainstItself {
    fn cells(&self) -> Vec<String> {
        vec![self.plan().name()]
    }

    fn estimate(&self) -> Duration {
        estimate(self.profile)
    }

    fn connections(&self) -> usize {
        self.setup().connections()
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        let mut cell = Cell::new(self.plan());
        let (pace, reader) = (Pace::Closed, Reader::Spinning);
        let run = Run { topic: 0, bursts: 20, burst: 1, pace, reader };
        let hidden = Run { bursts: 2, ..run };
        let planted = cell.plan().variants.len() - 1;
        for restart in 0..lab.method.restarts {
            let mut rig = ServerRig::start(lab, &self.setup())?;
            cell.knobs(rig.server().knobs()?);
            lab.measure(&mut cell, restart, &mut |variant| {
                if variant != planted {
                    return Ok(rig.block(&run, None)?.measured(&COLUMNS));
                }
                let mut measured = rig.block(&run, Some(&hidden))?.measured(&COLUMNS);
                // What is hidden shows in the processor time alone.
                measured.values[1..].fill(None);
                Ok(measured)
            })?;
        }
        block::doubts(lab, &cell).into_iter().for_each(|doubt| cell.doubt(doubt));
        Ok(vec![lab.finish(cell)])
    }
}

const COLUMNS: [&block::Column; 7] = [&CPU, &P50, &P99, &WALL, &IDLE, &RECEIVED, &ACKS];

/// One write of 64 bytes.
struct CallAgainstItself {
    profile: Profile,
}

impl CallAgainstItself {
    fn plan(&self) -> Plan {
        plan(self.profile, "call", bench::metrics(), life(self.profile))
    }
}

impl Group for CallAgainstItself {
    fn cells(&self) -> Vec<String> {
        vec![self.plan().name()]
    }

    fn estimate(&self) -> Duration {
        estimate(self.profile)
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        let mut cell = Cell::new(self.plan());
        let calls = if self.profile == Profile::Smallest { 20 } else { 1000 };
        let task =
            |calls| Task { work: Kind::Call(Call::Write), pieces: 1, piece_bytes: 64, calls };
        let planted = cell.plan().variants.len() - 1;
        for restart in 0..lab.method.restarts {
            let mut bench = Bench::open(lab, Peer::Nobody)?;
            lab.measure(&mut cell, restart, &mut |variant| {
                let (block, noise) = bench.measure(task(calls))?;
                if variant != planted {
                    return Ok(block.measured(noise));
                }
                let (hidden, _) = bench.measure(task(calls / 10))?;
                let cpu_ns = block.cpu_ns + hidden.cpu_ns / 10.0;
                let mut measured = block.measured(noise);
                let values = measured.values.iter_mut().zip(bench::metrics());
                for (value, metric) in values {
                    *value = value.filter(|_| metric.name == bench::CPU_NS).map(|_| cpu_ns);
                }
                Ok(measured)
            })?;
        }
        Ok(vec![lab.finish(cell)])
    }
}
