//! What is measured, and how large it is.

use std::time::Duration;

/// The length of an event's data.
pub const DATA_BYTES: usize = 100;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// One event at a time: the next when everybody has the one before.
    Round,
    /// All events as fast as the server takes them.
    Flood,
    /// Events at a fixed rate, whatever becomes of them.
    Open,
    /// Nothing: what a subscriber that waits takes of memory.
    Idle,
    /// One event at a time, to very many.
    Wide,
}

impl Scene {
    pub const ALL: [Scene; 5] = [Scene::Round, Scene::Flood, Scene::Open, Scene::Idle, Scene::Wide];

    pub fn name(self) -> &'static str {
        match self {
            Scene::Round => "round",
            Scene::Flood => "flood",
            Scene::Open => "open",
            Scene::Idle => "idle",
            Scene::Wide => "wide",
        }
    }
}

/// How large the scenes are.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub runs: usize,
    pub subscribers: usize,
    pub round_blocks: usize,
    pub rounds: usize,
    pub flood_blocks: usize,
    pub flood_events: usize,
    pub open_rate: Duration,
    pub idle: usize,
    pub wide: usize,
    pub wide_rounds: usize,
}

impl Sizes {
    pub const FULL: Sizes = Sizes {
        runs: 5,
        subscribers: 1000,
        round_blocks: 150,
        rounds: 3,
        flood_blocks: 3,
        flood_events: 2000,
        open_rate: Duration::from_secs(4),
        idle: 10_000,
        wide: 15_000,
        wide_rounds: 20,
    };
    pub const QUICK: Sizes = Sizes {
        runs: 1,
        subscribers: 200,
        round_blocks: 20,
        rounds: 3,
        flood_blocks: 1,
        flood_events: 500,
        open_rate: Duration::from_millis(500),
        idle: 1000,
        wide: 1000,
        wide_rounds: 5,
    };

    /// With twice as many contestants a block must be shorter, for nobody may be silent for 200 ms
    /// between two of its own (see `scene::interleave`); and a flood takes some of them half a minute.
    pub fn with_peers(self) -> Sizes {
        Sizes {
            runs: self.runs.min(3),
            round_blocks: 2 * self.round_blocks,
            rounds: 1,
            flood_blocks: 1,
            ..self
        }
    }
}

/// The rate that is offered in [`Scene::Open`], in events per second.
pub const OPEN_PER_S: f64 = 500.0;
