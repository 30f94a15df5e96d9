//! Records for tests, made up from a seed: what each variant costs is known, so it can be tested
//! whether the analysis finds it.
//!
//! The noise is that of a virtual machine: each block varies a little, all blocks of a round are
//! slowed down together, the machine drifts during a restart, and now and then a block takes three
//! times as long.

use super::record::*;
use fastrand::Rng;

/// A record to be made up.
#[derive(Debug, Clone)]
pub struct Sample {
    record: Record,
    /// What the variants cost, metric by metric.
    costs: Vec<Vec<f64>>,
    rounds: u32,
    noise: f64,
    spikes: f64,
}

impl Sample {
    /// A cell of an experiment, without metrics and variants, of 5 restarts with 6 rounds each.
    pub fn new(experiment: &str, cell: &str) -> Sample {
        let method = Method {
            profile: Profile::Full,
            seed: 42,
            restarts: 5,
            threshold: 0.03,
            confidence: 0.95,
            wait_max: 0.05,
        };
        let record = Record {
            format: FORMAT,
            experiment: experiment.into(),
            cell: cell.into(),
            factors: Vec::new(),
            method,
            metrics: Vec::new(),
            knobs: Default::default(),
            variants: Vec::new(),
            baseline: 0,
            blocks: Vec::new(),
            distributions: Vec::new(),
            audits: Vec::new(),
            doubts: Vec::new(),
            environment: environment(),
            command: ["pushv", "lab", "run", experiment].map(String::from).to_vec(),
            started_unix_ms: 1_793_750_400_000,
            duration_ms: 61_500,
        };
        Sample { record, costs: Vec::new(), rounds: 6, noise: 0.05, spikes: 0.03 }
    }

    /// With one more factor.
    pub fn factor(mut self, name: &str, value: impl ToString) -> Sample {
        self.record.factors.push((name.into(), value.to_string()));
        self
    }

    /// With one more metric. A time is noisy, a count is not.
    pub fn metric(mut self, name: &str, title: &str, unit: &str, kind: Kind) -> Sample {
        let [name, title, unit] = [name, title, unit].map(String::from);
        self.record.metrics.push(Metric { name, title, unit, kind, better: Better::Less });
        self
    }

    /// With the server's time per delivery and the number of calls.
    pub fn usual_metrics(self) -> Sample {
        self.metric("cpu_ns", "server CPU per delivery", "ns", Kind::Time).metric(
            "calls",
            "write calls per delivery",
            "calls",
            Kind::Count,
        )
    }

    /// With one more variant, and what it costs in each metric. The first is the baseline.
    pub fn variant(mut self, name: &str, costs: &[f64]) -> Sample {
        self.record.variants.push(Variant { name: name.into(), settings: Default::default() });
        self.costs.push(costs.to_vec());
        self
    }

    /// With a setting of the last variant.
    pub fn setting(mut self, name: &str, value: &str) -> Sample {
        if let Some(last) = self.record.variants.last_mut() {
            last.settings.insert(name.into(), value.into());
        }
        self
    }

    /// With so many restarts and rounds.
    pub fn rounds(mut self, restarts: u32, rounds: u32) -> Sample {
        (self.record.method.restarts, self.rounds) = (restarts, rounds);
        self
    }

    /// With this noise (the standard deviation of the logarithm), and no spikes if it is 0.
    pub fn noise(mut self, noise: f64) -> Sample {
        self.noise = noise;
        self.spikes = if noise == 0.0 { 0.0 } else { self.spikes };
        self
    }

    /// With another seed.
    pub fn seed(mut self, seed: u64) -> Sample {
        self.record.method.seed = seed;
        self
    }

    /// With whatever else is to be changed before the blocks are made up.
    pub fn with(mut self, change: impl FnOnce(&mut Record)) -> Sample {
        change(&mut self.record);
        self
    }

    /// Makes it up.
    pub fn build(mut self) -> Record {
        let mut rng = Rng::with_seed(self.record.method.seed);
        for restart in 0..self.record.method.restarts {
            let restart_slow = lognormal(&mut rng, self.noise);
            for round in 0..self.rounds {
                let drift = 1.0 + 2.0 * self.noise * f64::from(round) / f64::from(self.rounds);
                let slow = restart_slow * drift * lognormal(&mut rng, self.noise);
                let mut order: Vec<usize> = (0..self.costs.len()).collect();
                rng.shuffle(&mut order);
                for variant in order {
                    let block = self.block(variant, (restart, round), slow, &mut rng);
                    self.record.blocks.push(block);
                }
            }
        }
        self.record
    }

    fn block(
        &self,
        variant: usize,
        (restart, round): (u32, u32),
        slow: f64,
        rng: &mut Rng,
    ) -> Block {
        let spike = if rng.f64() < self.spikes { 3.0 } else { 1.0 };
        let values = self.costs[variant].iter().zip(&self.record.metrics);
        let values = values.map(|(cost, metric)| match metric.kind {
            Kind::Time => Some(cost * slow * spike * lognormal(rng, self.noise)),
            Kind::Count => Some(*cost),
        });
        let work = Work { events: 1000, bytes: 64_000, checksum: format!("{round:08x}") };
        Block {
            variant,
            restart,
            round,
            values: values.collect(),
            work,
            noise: Noise { wall_ns: 20_000_000, wait_ns: 100_000, involuntary: 1, steal_ns: 0 },
            discarded: None,
        }
    }
}

/// A factor around 1 with about this standard deviation of its logarithm.
fn lognormal(rng: &mut Rng, deviation: f64) -> f64 {
    let sum: f64 = (0..12).map(|_| rng.f64()).sum();
    (deviation * (sum - 6.0)).exp()
}

/// A machine.
pub fn environment() -> Environment {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    Environment {
        commit: Some("0123456789abcdef".into()),
        version: "0.1.0".into(),
        kernel: "6.1.0-18-amd64 #1 SMP PREEMPT_DYNAMIC".into(),
        cpu: "Example Processor @ 2.80GHz".into(),
        processors: 2,
        memory_bytes: 8 << 30,
        hypervisor: true,
        clock_source: "tsc".into(),
        clock_ns: 20.4,
        governor: None,
        mitigations: pairs(&[("meltdown", "Not affected"), ("retbleed", "Mitigation: IBRS")]),
        sysctls: pairs(&[("net.ipv4.tcp_autocorking", "1"), ("net.core.wmem_max", "212992")]),
        network: Network {
            private: true,
            mtu_bytes: 1500,
            congestion: "cubic".into(),
            why_not: None,
        },
        descriptors: 1_048_576,
    }
}
