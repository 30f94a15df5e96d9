//! What a worker hears and says: one JSON object per line, over a socket pair.

use super::plan::Plan;
use super::tally::{Distribution, Tally};
use serde::{Deserialize, Serialize};

/// To a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Open your connections.
    Begin {
        /// What is to be done.
        plan: Box<Plan>,
        /// Which worker it is; the first one publishes.
        worker: usize,
    },
    /// Publish or listen from this moment on, in nanoseconds of the machine's monotonic clock.
    Start {
        /// The moment.
        at_ns: u64,
    },
    /// To the publisher: everybody has the event of this round.
    NextRound {
        /// Its number.
        seq: u64,
    },
    /// So many events were published, and there will be no more: wait for the last ones, and report.
    Finish {
        /// How many.
        events: u64,
    },
    /// Report at once.
    Stop,
}

/// From a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// How far it is; about five times a second.
    Progress(Progress),
    /// Every connection is open or has failed.
    Ready {
        /// How many are open.
        open: usize,
        /// Why the first one failed.
        first_failure: Option<String>,
    },
    /// All subscribers here have the event of this round.
    RoundDone {
        /// Its number.
        seq: u64,
    },
    /// The publisher has sent its last event.
    Published {
        /// How many there were.
        events: u64,
    },
    /// The latencies of about a second.
    Interval {
        /// When it began, in nanoseconds of the machine's monotonic clock.
        start_ns: u64,
        /// How long it was.
        duration_ns: u64,
        /// What was measured.
        latency_ns: Distribution,
    },
    /// The end, with everything that was counted.
    Final(Box<Tally>),
    /// It could not go on.
    Failed(String),
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Streams that are open.
    pub open: usize,
    /// Subscribers without a stream that have asked for one again, and found no server.
    pub unreachable: usize,
    /// Events published.
    pub published: u64,
    /// Events received.
    pub deliveries: u64,
    /// What was wrong so far.
    pub offences: u64,
}
