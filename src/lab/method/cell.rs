//! One cell while it is measured: its variants take turns in short blocks, in an order drawn anew
//! for each round.
//!
//! A machine drifts: its speed over a minute is not that of the minute before. Within a round all
//! variants meet the same machine, so it is rounds that are compared, and the random order sees to
//! it that nobody always comes first. Which calls the processes' memory layout favours is decided
//! when they start (Mytkowicz et al., ASPLOS 2009), so they are started several times.

use super::record::{
    Audit, Block, Doubt, Environment, FORMAT, Method, Metric, Noise, Record, Sampled, Variant, Work,
};
use super::stats;
use crate::load::tally::Distribution;
use crate::sys;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a cell is to compare.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The experiment's name.
    pub experiment: String,
    /// Names and values of what distinguishes the cell from the others; they make its name.
    pub factors: Vec<(String, String)>,
    /// What is measured.
    pub metrics: Vec<Metric>,
    /// What is compared.
    pub variants: Vec<Variant>,
    /// The variant that the others are held against.
    pub baseline: usize,
    /// How long.
    pub budget: Budget,
}

/// How long a cell is measured in one life of its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Rounds are begun until so much time has passed,
    pub time: Duration,
    /// but until at least so many have no block that is discarded, if that does not take three
    /// times as long,
    pub rounds_min: u32,
    /// and at most so many.
    pub rounds_max: u32,
}

/// One block, as the rig has measured it.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// One value for each metric.
    pub values: Vec<Option<f64>>,
    /// All values of a metric, by its name.
    pub distributions: Vec<(&'static str, Distribution)>,
    /// What was done.
    pub work: Work,
    /// What disturbed it.
    pub noise: Noise,
}

/// A cell that is being measured.
#[derive(Debug)]
pub struct Cell {
    plan: Plan,
    blocks: Vec<Block>,
    distributions: Vec<Sampled>,
    audits: Vec<Audit>,
    doubts: Vec<Doubt>,
    knobs: BTreeMap<String, String>,
    started_unix_ms: u64,
    measured_for: Duration,
}

/// What ends the measuring before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The user.
    Interrupted,
    /// Something that does not work.
    Failed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::Failed(why)
    }
}

impl Cell {
    /// A cell of which nothing has been measured.
    pub fn new(plan: Plan) -> Cell {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Cell {
            plan,
            blocks: Vec::new(),
            distributions: Vec::new(),
            audits: Vec::new(),
            doubts: Vec::new(),
            knobs: BTreeMap::new(),
            started_unix_ms: now.as_millis() as u64,
            measured_for: Duration::ZERO,
        }
    }

    /// What it compares.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Measures in one life of the processes. `measure` makes one block of a variant; the first
    /// round of several is thrown away, since in it everything is done for the first time. `each_round` is
    /// asked before each round whether to go on.
    ///
    /// # Errors
    /// What ends the whole.
    pub fn measure(
        &mut self,
        restart: u32,
        method: &Method,
        rng: &mut fastrand::Rng,
        each_round: &mut dyn FnMut() -> Result<(), Stop>,
        measure: &mut dyn FnMut(usize) -> Result<Measured, String>,
    ) -> Result<(), Stop> {
        let begun_ns = sys::monotonic_ns();
        let elapsed = || Duration::from_nanos(sys::monotonic_ns() - begun_ns);
        let budget = self.plan.budget;
        let mut order: Vec<usize> = (0..self.plan.variants.len()).collect();
        // Where a single round is all there is time for, it is so long that its beginning is no part.
        let warm_up = if budget.rounds_max > 1 { &order[..] } else { &[] };
        for &variant in warm_up {
            each_round()?;
            measure(variant).map_err(|why| self.told(variant, &why))?;
        }
        let (mut round, mut undisturbed) = (0, 0);
        while round < budget.rounds_max && budget.goes_on(round, undisturbed, elapsed()) {
            each_round()?;
            rng.shuffle(&mut order);
            for &variant in &order {
                let measured = measure(variant).map_err(|why| self.told(variant, &why))?;
                self.take(variant, restart, round, measured, method);
            }
            self.check_work(restart, round)?;
            let mut of_the_round = self.blocks.iter().rev().take(order.len());
            undisturbed += u32::from(of_the_round.all(|block| block.discarded.is_none()));
            round += 1;
        }
        self.measured_for += elapsed();
        Ok(())
    }

    /// The median of a time over a variant's blocks that were not discarded.
    pub fn median(&self, variant: usize, metric: &str) -> Option<f64> {
        let column = self.plan.metrics.iter().position(|known| known.name == metric)?;
        let counts = |block: &&Block| block.variant == variant && block.discarded.is_none();
        let blocks = self.blocks.iter().filter(counts);
        stats::median(&blocks.filter_map(|block| block.values[column]).collect::<Vec<f64>>())
    }

    /// Notes what an auditor has counted.
    pub fn audit(&mut self, audits: impl IntoIterator<Item = Audit>) {
        self.audits.extend(audits);
    }

    /// Notes the knobs of the server.
    pub fn knobs(&mut self, knobs: BTreeMap<String, String>) {
        self.knobs = knobs;
    }

    /// Notes what makes the figures doubtful, once.
    pub fn doubt(&mut self, doubt: Doubt) {
        if !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
    }

    /// The record.
    pub fn finish(self, method: &Method, environment: &Environment, command: &[String]) -> Record {
        let coarse = |sampled: Sampled| Sampled { values: sampled.values.coarse(), ..sampled };
        Record {
            format: FORMAT,
            experiment: self.plan.experiment.clone(),
            cell: self.plan.name(),
            factors: self.plan.factors,
            method: method.clone(),
            metrics: self.plan.metrics,
            knobs: self.knobs,
            variants: self.plan.variants,
            baseline: self.plan.baseline,
            blocks: self.blocks,
            distributions: self.distributions.into_iter().map(coarse).collect(),
            audits: self.audits,
            doubts: self.doubts,
            environment: environment.clone(),
            command: command.to_vec(),
            started_unix_ms: self.started_unix_ms,
            duration_ms: self.measured_for.as_millis() as u64,
        }
    }

    fn told(&self, variant: usize, why: &str) -> Stop {
        let (cell, variant) = (self.plan.name(), &self.plan.variants[variant].name);
        Stop::Failed(format!("{}, {cell}, {variant}: {why}", self.plan.experiment))
    }

    fn take(
        &mut self,
        variant: usize,
        restart: u32,
        round: u32,
        measured: Measured,
        method: &Method,
    ) {
        let Measured { values, distributions, work, noise } = measured;
        debug_assert_eq!(values.len(), self.plan.metrics.len());
        let discarded = super::noise::discard(&noise, method.wait_max);
        if discarded.is_none() {
            for (metric, values) in distributions {
                self.sampled(variant, metric).add(&values);
            }
        }
        let values = values.into_iter().map(|value| value.map(six_digits)).collect();
        self.blocks.push(Block { variant, restart, round, values, work, noise, discarded });
    }

    fn sampled(&mut self, variant: usize, metric: &str) -> &mut Distribution {
        let found = self
            .distributions
            .iter()
            .position(|sampled| sampled.variant == variant && sampled.metric == metric);
        let at = found.unwrap_or_else(|| {
            let values = Distribution::default();
            self.distributions.push(Sampled { variant, metric: metric.into(), values });
            self.distributions.len() - 1
        });
        &mut self.distributions[at].values
    }

    /// Variants that did not do the same work cannot be compared.
    fn check_work(&self, restart: u32, round: u32) -> Result<(), Stop> {
        let same_round = |block: &&Block| block.restart == restart && block.round == round;
        let mut blocks = self.blocks.iter().rev().take_while(same_round);
        let Some(first) = blocks.next() else { return Ok(()) };
        let other = blocks.find(|block| {
            (block.work.events, block.work.bytes) != (first.work.events, first.work.bytes)
        });
        match other {
            None => Ok(()),
            Some(other) => Err(self.told(
                other.variant,
                &format!(
                    "{:?} was received, but {:?} of {}",
                    other.work, first.work, self.plan.variants[first.variant].name
                ),
            )),
        }
    }
}

impl Budget {
    fn goes_on(&self, rounds: u32, undisturbed: u32, elapsed: Duration) -> bool {
        let enough = undisturbed >= self.rounds_min;
        elapsed < self.time
            || rounds < self.rounds_min
            || (!enough && elapsed < self.time * PATIENCE)
    }
}

/// How many times its time a cell is given to find rounds that nothing disturbs.
const PATIENCE: u32 = 3;

/// The value as far as anybody could measure it, which takes less room when it is written down.
fn six_digits(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

impl Plan {
    /// The cell's name: its factors.
    pub fn name(&self) -> String {
        if self.factors.is_empty() {
            return "all".into();
        }
        let named = |(name, value): &(String, String)| format!("{name} {value}");
        self.factors.iter().map(named).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::record::{Better, Kind, Profile};

    fn cell(variants: usize, rounds: u32) -> Cell {
        let metric = Metric {
            name: "ns".into(),
            title: "time".into(),
            unit: "ns".into(),
            kind: Kind::Time,
            better: Better::Less,
        };
        let variant = |nth| Variant { name: format!("v{nth}"), settings: Default::default() };
        Cell::new(Plan {
            experiment: "toy".into(),
            factors: Vec::new(),
            metrics: vec![metric],
            variants: (0..variants).map(variant).collect(),
            baseline: 0,
            budget: Budget { time: Duration::ZERO, rounds_min: rounds, rounds_max: rounds },
        })
    }

    fn measured(value: f64, events: u64) -> Measured {
        let work = Work { events, ..Work::default() };
        Measured { values: vec![Some(value)], work, ..Measured::default() }
    }

    /// The variants of the blocks, in the order in which they were made, warm-up included.
    fn order(seed: u64) -> Vec<usize> {
        let (mut cell, mut made) = (cell(5, 4), Vec::new());
        let method = Method::of(Profile::Smallest, seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        cell.measure(0, &method, &mut rng, &mut || Ok(()), &mut |variant| {
            made.push(variant);
            Ok(measured(1.0, 7))
        })
        .unwrap();
        made
    }

    #[test]
    fn every_round_has_every_variant_in_an_order_of_its_own() {
        let made = order(1);
        let rounds: Vec<&[usize]> = made.chunks(5).collect();
        assert_eq!(rounds.len(), 1 + 4, "the first one is a warm-up");
        for round in &rounds {
            let mut sorted = round.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
        }
        assert!(rounds[1..].windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(order(1), made, "the seed decides");
        assert_ne!(order(2), made);
    }

    #[test]
    fn variants_that_do_different_work_are_not_compared() {
        let (mut cell, method) = (cell(2, 1), Method::of(Profile::Smallest, 1));
        let mut rng = fastrand::Rng::with_seed(1);
        let outcome = cell.measure(0, &method, &mut rng, &mut || Ok(()), &mut |variant| {
            Ok(measured(1.0, 7 + variant as u64))
        });
        assert!(matches!(outcome, Err(Stop::Failed(why)) if why.contains("toy, all, v")));
    }

    #[test]
    fn figures_are_kept_to_six_digits() {
        assert_eq!(six_digits(1_234.567_89), 1234.57);
        assert_eq!((six_digits(0.0), six_digits(1.0 / 3.0)), (0.0, 0.333_333));
    }
}
