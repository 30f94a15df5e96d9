//! What has been measured, and what is made of it.

use crate::plan::Scene;

/// What is measured in the scenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    RoundNs,
    FloodPerS,
    FloodEventsPerRead,
    OpenP50Ms,
    OpenP99Ms,
    /// Measured only of those that fall behind the offered rate.
    OpenPerS,
    IdleBytes,
    WideNs,
    AcceptMs,
}

/// What a metric is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Yardstick {
    Floor,
    FloorBatched,
    /// The floor does not do it, or does it for nothing.
    None,
}

impl Metric {
    pub const ALL: [Metric; 9] = [
        Metric::RoundNs,
        Metric::FloodPerS,
        Metric::FloodEventsPerRead,
        Metric::OpenP50Ms,
        Metric::OpenP99Ms,
        Metric::OpenPerS,
        Metric::IdleBytes,
        Metric::WideNs,
        Metric::AcceptMs,
    ];

    /// The scene, its name there, and how the name is in the machine-readable report.
    pub fn key(self) -> (Scene, &'static str) {
        match self {
            Metric::RoundNs => (Scene::Round, "server_cpu_ns_per_delivery"),
            Metric::FloodPerS => (Scene::Flood, "deliveries_per_s"),
            Metric::FloodEventsPerRead => (Scene::Flood, "events_per_read"),
            Metric::OpenP50Ms => (Scene::Open, "latency_p50_ms"),
            Metric::OpenP99Ms => (Scene::Open, "latency_p99_ms"),
            Metric::OpenPerS => (Scene::Open, "deliveries_per_s_when_behind"),
            Metric::IdleBytes => (Scene::Idle, "resident_bytes_per_subscriber"),
            Metric::WideNs => (Scene::Wide, "server_cpu_ns_per_delivery"),
            Metric::AcceptMs => (Scene::Wide, "longest_wait_of_a_newcomer_ms"),
        }
    }

    pub fn yardstick(self) -> Yardstick {
        match self {
            Metric::RoundNs | Metric::WideNs => Yardstick::Floor,
            Metric::FloodPerS | Metric::OpenP50Ms | Metric::OpenP99Ms => Yardstick::FloorBatched,
            _ => Yardstick::None,
        }
    }
}

/// The samples of one contestant. In every list the same position is the same block of the same run
/// for all contestants: so where one has no figure, `None` stands in its place.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    samples: [Vec<Option<f64>>; Metric::ALL.len()],
}

impl Figures {
    pub fn record(&mut self, metric: Metric, sample: Option<f64>) {
        self.samples[metric as usize].push(sample);
    }

    pub fn samples(&self, metric: Metric) -> &[Option<f64>] {
        &self.samples[metric as usize]
    }

    pub fn spread(&self, metric: Metric) -> Option<Spread> {
        Spread::of(self.samples(metric).iter().flatten().copied())
    }

    /// The ratios to another contestant's figures, each made within a block.
    pub fn ratio(&self, to: &Figures, metric: Metric) -> Option<Spread> {
        let pairs = self.samples(metric).iter().zip(to.samples(metric));
        Spread::of(pairs.filter_map(|(of, to)| Some((*of)? / (*to)?)))
    }
}

/// The median, and the quartiles around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Rounded outwards: of three samples it is all of them.
        let (low, high) = (last / 4, last - last / 4);
        Some(Spread { low: sorted[low], median: sorted[last / 2], high: sorted[high] })
    }
}
