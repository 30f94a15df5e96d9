//! Cells of bare calls that are measured on the same processes.

use super::Reader;
use super::bench::{Bench, metrics};
use super::block::Task;
use crate::lab::method::cell::{Budget, Cell, Plan, Stop};
use crate::lab::method::record::{Method, Profile, Record, Variant};
use crate::lab::run::{Group, Lab};
use std::time::Duration;

/// Cells that differ in what is sent, not in who reads.
#[derive(Debug)]
pub struct Bare {
    /// The experiment's name.
    pub experiment: &'static str,
    /// Who reads.
    pub reader: Reader,
    /// How large the experiment is.
    pub profile: Profile,
    /// What is sent.
    pub cells: Vec<Compared>,
}

/// A cell: tasks that bring the same bytes.
#[derive(Debug, Clone)]
pub struct Compared {
    /// What distinguishes it.
    pub factors: Vec<(String, String)>,
    /// The variants' names, what they do, and their tasks; the first is the baseline.
    pub tasks: Vec<(&'static str, &'static str, Task)>,
}

impl Group for Bare {
    fn cells(&self) -> Vec<String> {
        self.cells.iter().map(|cell| self.plan(cell).name()).collect()
    }

    fn estimate(&self) -> Duration {
        let tasks: usize = self.cells.iter().map(|cell| cell.tasks.len()).sum();
        let rounds = rounds(self.profile) + 1;
        let restarts = Method::of(self.profile, 0).restarts;
        block_time(self.profile) * tasks as u32 * rounds * restarts
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        if self.reader != Reader::Nobody && !lab.processors.are_two() {
            return Ok(Vec::new()); // its reader would take turns with the sender
        }
        let mut cells: Vec<Option<Cell>> = self.cells.iter().map(|_| None).collect();
        for restart in 0..lab.method.restarts {
            let mut bench = Bench::open(lab, self.reader)?;
            for (compared, cell) in self.cells.iter().zip(&mut cells) {
                if compared.bytes() > bench.opened.call_bytes_max {
                    continue; // this system's buffers are too small
                }
                let cell = cell.get_or_insert_with(|| Cell::new(self.prepared(compared, &bench)));
                lab.measure(cell, restart, &mut |variant| {
                    let (block, noise) = bench.measure(compared.tasks[variant].2)?;
                    Ok(block.measured(noise))
                })?;
            }
        }
        Ok(cells.into_iter().flatten().map(|cell| lab.finish(cell)).collect())
    }
}

impl Bare {
    fn plan(&self, compared: &Compared) -> Plan {
        let variant =
            |(name, what, _): &(&str, &str, Task)| Variant::named(name, [("what", (*what).into())]);
        let rounds = rounds(self.profile);
        Plan {
            experiment: self.experiment.into(),
            factors: compared.factors.clone(),
            metrics: metrics(),
            variants: compared.tasks.iter().map(variant).collect(),
            baseline: 0,
            budget: Budget { time: Duration::ZERO, rounds_min: rounds, rounds_max: rounds },
        }
    }

    /// With what the process says of itself.
    fn prepared(&self, compared: &Compared, bench: &Bench) -> Plan {
        let mut plan = self.plan(compared);
        let opened = &bench.opened;
        for (variant, (_, _, task)) in plan.variants.iter_mut().zip(&compared.tasks) {
            let settings = [
                ("calls", task.calls.to_string()),
                ("clock_ns", opened.clock_ns.to_string()),
                ("thread_clock_ns", opened.thread_clock_ns.to_string()),
                ("segment_bytes", opened.segment_bytes.to_string()),
                ("tcp_nodelay", "true".into()),
            ];
            variant.settings.extend(settings.map(|(name, value)| (name.into(), value)));
        }
        plan
    }
}

impl Compared {
    /// Bytes of one call.
    fn bytes(&self) -> usize {
        self.tasks.iter().map(|(_, _, task)| task.pieces * task.piece_bytes).max().unwrap_or(0)
    }
}

impl Variant {
    /// A variant with these settings.
    pub fn named<const N: usize>(name: &str, settings: [(&str, String); N]) -> Variant {
        let settings = settings.map(|(name, value)| (name.into(), value));
        Variant { name: name.into(), settings: settings.into() }
    }
}

/// How many calls of so many bytes are about as long as a block is to be.
pub fn calls(profile: Profile, reader: Reader, bytes: usize) -> usize {
    let around_ns = match reader {
        Reader::Nobody => 6_000,
        Reader::Asleep => 85_000,
        Reader::Spinning => 56_000,
    };
    let each_ns = around_ns + bytes / 4;
    let calls = block_time(profile).as_nanos() as usize / each_ns;
    // Of two pieces, each call can be one; of eight calls, one has its processor time taken.
    calls.clamp(16, 4000) / 16 * 16
}

/// How long a block is.
fn block_time(profile: Profile) -> Duration {
    Duration::from_millis(match profile {
        Profile::Smallest => 1,
        Profile::Quick => 10,
        Profile::Full => 20,
    })
}

/// Rounds in each life of the processes. Where hundreds of comparisons are corrected for their
/// number, it takes some twenty rounds altogether for even a large difference to be certain.
pub fn rounds(profile: Profile) -> u32 {
    match profile {
        Profile::Smallest => 1,
        Profile::Quick => 4,
        Profile::Full => 6,
    }
}
