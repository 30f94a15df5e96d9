//! What was seen in one cell of an experiment: one line of JSON, with everything that is needed to
//! compute the report again, or to doubt it.

use crate::load::tally::Distribution;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format.
pub const FORMAT: u32 = 1;

/// Everything that was seen in one cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The format's version, [`FORMAT`].
    pub format: u32,
    /// The experiment's name.
    pub experiment: String,
    /// The cell's name, unique in the experiment: its factors, as people write them.
    pub cell: String,
    /// What distinguishes the cell from the experiment's others: names and values, in the order in
    /// which they are shown. A value that is a number is written as one.
    pub factors: Vec<(String, String)>,
    /// How it was measured.
    pub method: Method,
    /// What the columns of [`Block::values`] are.
    pub metrics: Vec<Metric>,
    /// The knobs of the server as it was started, if there was one; a variant's settings are those
    /// that were turned after that.
    #[serde(default)]
    pub knobs: BTreeMap<String, String>,
    /// What was compared. The others are held against the [baseline](Record::baseline).
    pub variants: Vec<Variant>,
    /// The variant that the others are held against, by its place in `variants`.
    pub baseline: usize,
    /// All measurements, in the order in which they were made.
    pub blocks: Vec<Block>,
    /// Distributions over all blocks that count, for metrics of which each block has many values.
    pub distributions: Vec<Sampled>,
    /// The lab's own counters beside the kernel's, from runs that were not timed.
    pub audits: Vec<Audit>,
    /// What makes the figures doubtful, as far as the rig itself has noticed.
    pub doubts: Vec<Doubt>,
    /// Where it was measured.
    pub environment: Environment,
    /// The command line that did it.
    pub command: Vec<String>,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// How large an experiment is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// As small as it gets: does it still run? Its figures mean nothing.
    Smallest,
    /// Half a minute: the large differences.
    Quick,
    /// Minutes: what can be quoted.
    Full,
}

/// What was decided before the first measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// How large it was carried out.
    pub profile: Profile,
    /// From which the order of the blocks follows.
    pub seed: u64,
    /// How often the processes were started anew.
    pub restarts: u32,
    /// Differences of less than this part of the baseline make no practical difference.
    pub threshold: f64,
    /// The confidence of intervals, as a part of 1.
    pub confidence: f64,
    /// A block is discarded if its processes together waited for processors for more than this
    /// part of its time, or if the hypervisor took more than that from the machine. Its counts
    /// are exact all the same, and are kept.
    pub wait_max: f64,
}

/// A column of figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name, unique in the record: `cpu_ns_per_delivery`.
    pub name: String,
    /// What people call it: "server CPU per delivery".
    pub title: String,
    /// The unit of its values: "ns", "calls", "" for a plain number.
    pub unit: String,
    /// What sort of thing it is.
    pub kind: Kind,
    /// Which way is better.
    pub better: Better,
}

/// Sorts of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Exact: the same each time, but for what the system under test does differently.
    Count,
    /// A time, which the machine's other work disturbs.
    Time,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Less of it.
    Less,
    /// More of it.
    More,
    /// It only explains others.
    Neither,
}

/// One of the things that are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Its name, unique in the record.
    pub name: String,
    /// The settings that make it: names and values of knobs, of socket options, of sizes.
    pub settings: BTreeMap<String, String>,
}

/// One variant measured once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Which variant, by its place in [`Record::variants`].
    pub variant: usize,
    /// In which life of the processes, from 0.
    pub restart: u32,
    /// In which round of it, from 0. In each round every variant has one block, and these are
    /// compared with each other: they are from the same fraction of a second.
    pub round: u32,
    /// What was measured: one value for each of [`Record::metrics`]; `None` where there is none.
    pub values: Vec<Option<f64>>,
    /// The proof that the work was done.
    pub work: Work,
    /// What disturbed it.
    pub noise: Noise,
    /// Why its times do not count, by the rule of [`Method::wait_max`].
    pub discarded: Option<String>,
}

/// The proof that the work was done: equal for all variants of a round.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Events, or messages, that arrived, at all receivers together.
    pub events: u64,
    /// Bytes of them that arrived, without what carries them.
    pub bytes: u64,
    /// A checksum over what arrived, as the first receiver got it; all others were compared with
    /// it byte by byte.
    pub checksum: String,
}

/// What disturbed a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// How long the block was.
    pub wall_ns: u64,
    /// How long its processes were ready to run and had no processor (schedstat).
    pub wait_ns: u64,
    /// How often one of them was taken off its processor.
    pub involuntary: u64,
    /// Time that the hypervisor has taken from the whole machine, in steps of a clock tick.
    pub steal_ns: u64,
}

/// All values of one metric and variant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sampled {
    /// Which variant.
    pub variant: usize,
    /// Which metric, by its name.
    pub metric: String,
    /// The values, in nanoseconds, exact to two digits.
    pub values: Distribution,
}

/// Two counts of the same thing, in a run of its own that was not timed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Which variant.
    pub variant: usize,
    /// What was counted: "sendto".
    pub what: String,
    /// What we counted.
    pub ours: u64,
    /// What the auditor counted.
    pub theirs: u64,
    /// Who the auditor was: "tracepoint", "strace".
    pub by: String,
}

/// What makes figures doubtful.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// The subscribers never had nothing to do: they may have been what was measured.
    ClientBound(String),
    /// The server did not keep up with what was published at a fixed rate: latencies are those of a
    /// queue that grows.
    ServerBound(String),
    /// So many blocks were discarded that those that are left are a selection.
    TooNoisy(String),
    /// Too few blocks for an interval.
    TooFew(String),
    /// Loopback is not as it should be.
    Distorted(String),
    /// The lab's counters and the kernel's differ, or there is no auditor.
    Unaudited(String),
    /// Within each life of the processes the figures agree, but from one life to the next they
    /// differ by more than the threshold: something was decided by chance when they began.
    RestartsDiffer(String),
}

/// Where something was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The commit that the program was built from, with `-dirty` behind it if its source was changed.
    pub commit: Option<String>,
    /// The crate's version.
    pub version: String,
    /// The kernel's release and version.
    pub kernel: String,
    /// The processor's model.
    pub cpu: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// Whether it is a virtual machine, as far as the processor says.
    pub hypervisor: bool,
    /// What keeps time.
    pub clock_source: String,
    /// What reading the clock costs, in nanoseconds: part of whatever is timed call by call.
    pub clock_ns: f64,
    /// Who decides on the processor's frequency, if anybody.
    pub governor: Option<String>,
    /// Vulnerabilities of the processor, and what the kernel does about them.
    pub mitigations: BTreeMap<String, String>,
    /// Settings of the kernel that matter here, as the measured processes see them.
    pub sysctls: BTreeMap<String, String>,
    /// The network between the processes.
    pub network: Network,
    /// Limit on open descriptors.
    pub descriptors: u64,
}

/// The network between the processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Whether it is a namespace of its own.
    pub private: bool,
    /// The maximum transmission unit of `lo`, in bytes.
    pub mtu_bytes: u32,
    /// The congestion control.
    pub congestion: String,
    /// Why it is not private, if it is not.
    pub why_not: Option<String>,
}

impl Doubt {
    /// What sort of doubt it is, as people read it.
    pub fn name(&self) -> &'static str {
        match self {
            Doubt::ClientBound(_) => "the subscribers may have been the limit",
            Doubt::ServerBound(_) => "the server did not keep up",
            Doubt::TooNoisy(_) => "too noisy",
            Doubt::TooFew(_) => "too few blocks",
            Doubt::Distorted(_) => "loopback is distorted",
            Doubt::Unaudited(_) => "the counters are not confirmed",
            Doubt::RestartsDiffer(_) => "the restarts differ",
        }
    }

    /// What exactly was seen.
    pub fn detail(&self) -> &str {
        match self {
            Doubt::ClientBound(detail)
            | Doubt::ServerBound(detail)
            | Doubt::TooNoisy(detail)
            | Doubt::TooFew(detail)
            | Doubt::Distorted(detail)
            | Doubt::Unaudited(detail)
            | Doubt::RestartsDiffer(detail) => detail,
        }
    }
}

impl Record {
    /// The place of the metric of that name.
    pub fn metric(&self, name: &str) -> Option<usize> {
        self.metrics.iter().position(|metric| metric.name == name)
    }

    /// The value of a factor.
    pub fn factor(&self, name: &str) -> Option<&str> {
        let mut factors = self.factors.iter();
        factors.find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a factor that is a number.
    pub fn number(&self, factor: &str) -> Option<f64> {
        self.factor(factor)?.parse().ok()
    }
}
