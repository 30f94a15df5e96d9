//! What the admin listener says, as far as it is shown.
//!
//! Every field has a default, so that a server of another version is shown as far as it goes
//! instead of not at all. A field that is `None` was not measured, which is not the same as 0.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One event of `/live`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Live {
    /// Differs from one start of the server to the next: what counts since the start begins anew.
    pub epoch: String,
    /// Time since the server's start, monotonic.
    pub at_ms: u64,
    /// The time of day, since 1970.
    pub unix_ms: u64,
    /// What the latencies are over.
    pub interval_ms: u64,
    pub counters: Counters,
    pub latency_us: Latencies,
    pub lag: Lag,
    pub connections: u64,
    pub streams: u64,
    pub blocked: u64,
    pub topics: u64,
    pub verdicts: BTreeMap<String, u64>,
    pub memory: Memory,
    pub knobs: Map<String, Value>,
    /// The last changes of knobs, oldest first.
    pub flips: Vec<Flip>,
}

/// What has been counted since the server's start.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Counters {
    pub published: u64,
    pub deliveries: u64,
    /// System calls that write to streams, by their kind.
    pub calls: BTreeMap<String, u64>,
    pub bytes: u64,
    pub short_writes: u64,
    pub would_block: u64,
    pub gaps: u64,
    pub lost: u64,
    pub nagle_stalls: u64,
}

/// What took how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Latencies {
    pub publish_to_kernel: Option<Quantiles>,
    pub publish_to_ack: Option<Quantiles>,
    pub fanout_spread: Option<Quantiles>,
    pub turn: Option<Quantiles>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// How far the streams are behind what was published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Lag {
    pub events: Quantiles,
    pub bytes: Quantiles,
    pub oldest_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub resident_bytes: u64,
    pub kernel_bytes: Option<u64>,
    pub log_bytes: u64,
    pub logs_bytes_max: u64,
}

/// A knob that was turned.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Flip {
    pub at_ms: u64,
    pub knob: String,
    pub from: Value,
    pub to: Value,
}

/// The answer of `/connections`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Streams {
    /// How many there are; not all of them are listed.
    pub count: u64,
    /// The worst of them first.
    pub connections: Vec<Stream>,
}

/// A subscriber's stream.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Stream {
    pub id: String,
    pub peer: String,
    pub topics: Vec<String>,
    pub age_ms: u64,
    pub verdict: String,
    pub why: String,
    pub hint: Option<String>,
    pub blocked_ms: Option<u64>,
    pub unacknowledged_ms: Option<u64>,
    pub sent: Amount,
    pub ladder: Ladder,
    pub tcp: Option<Tcp>,
}

/// Where its bytes are, from the server to the peer's kernel.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ladder {
    pub behind: Amount,
    pub private: Amount,
    pub unsent: Amount,
    pub in_flight: Amount,
    pub acked: Amount,
}

/// Events are `None` where they are no longer known.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Amount {
    pub events: Option<u64>,
    pub bytes: u64,
    pub oldest_ms: Option<u64>,
    pub last_event_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Tcp {
    pub rtt_us: u64,
    pub retransmitted_segments: u64,
}

impl Latencies {
    /// Keeps of each the slower of the two: a table that is drawn once a second has to show the
    /// worst fifth of it, not the last one.
    pub fn keep_slowest(&mut self, other: &Latencies) {
        let keep = |mine: &mut Option<Quantiles>, other: Option<Quantiles>| {
            let slowness = |quantiles: Quantiles| (quantiles.p99, quantiles.max);
            if other.map(slowness) > mine.map(slowness) {
                *mine = other;
            }
        };
        keep(&mut self.publish_to_kernel, other.publish_to_kernel);
        keep(&mut self.publish_to_ack, other.publish_to_ack);
        keep(&mut self.fanout_spread, other.fanout_spread);
        keep(&mut self.turn, other.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_less_is_understood() {
        let live: Live = serde_json::from_str(r#"{"epoch":"a","news":1}"#).unwrap();
        assert_eq!((live.epoch.as_str(), live.memory.kernel_bytes), ("a", None));
        let streams: Streams =
            serde_json::from_str(r#"{"connections":[{"id":"1-1","tcp":null}]}"#).unwrap();
        assert_eq!(streams.connections[0].tcp, None);
    }

    #[test]
    fn the_slowest_is_kept() {
        let of = |p99| Some(Quantiles { p50: 0.1, p99, max: p99 });
        let mut kept =
            Latencies { publish_to_kernel: of(5.0), turn: of(9.5), ..Latencies::default() };
        kept.keep_slowest(&Latencies {
            publish_to_kernel: of(7.0),
            publish_to_ack: of(1.0),
            ..Latencies::default()
        });
        let expected = Latencies {
            publish_to_kernel: of(7.0),
            publish_to_ack: of(1.0),
            turn: of(9.5),
            fanout_spread: None,
        };
        assert_eq!(kept, expected);
    }
}
