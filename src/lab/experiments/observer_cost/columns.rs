//! What is measured here beside the usual.

use crate::lab::method::record::{Better, Kind};
use crate::lab::rig::block::{ALLOCATIONS, BEHIND, CALLS, CPU, Column, IDLE, P50, P99};
use crate::lab::rig::server::Counts;
use std::collections::BTreeMap;

/// All that the rig measures; [`ANSWERS`] comes behind.
pub(super) const COLUMNS: [&Column; 10] =
    [&LOOKS, &STAMPS, &CALLS, &ALLOCATIONS, &CPU, &P50, &P99, &TURN_P99, &BEHIND, &IDLE];

pub(super) const LOOKS: Column = Column {
    name: "looks_per_s",
    title: "times that the kernel was asked about a stream, per second",
    unit: "looks",
    kind: Kind::Count,
    better: Better::Neither,
    of: |f| {
        let seconds = f.answer.wall_ns as f64 / 1e9;
        (seconds > 0.0).then(|| f.server("pushv_observations_total") / seconds)
    },
};

pub(super) const STAMPS: Column = Column {
    name: "stamps_per_event",
    title: "calls that were stamped, per delivered event",
    unit: "",
    kind: Kind::Count,
    better: Better::Neither,
    of: |f| {
        let events = f.answer.events as f64;
        (events > 0.0).then(|| f.server("pushv_timestamps_total") / events)
    },
};

/// What onlookers have received. The rig does not know of them.
pub(super) const ANSWERS: Column = Column {
    name: "answers_per_s",
    title: "answers and events that onlookers have received, per second",
    unit: "",
    kind: Kind::Count,
    better: Better::Neither,
    of: |_| None,
};

pub(super) const TURN_P99: Column = Column {
    name: "turn_p99_ns",
    title: "time from one poll's return to the next poll, 99th percentile, between powers of two",
    unit: "ns",
    kind: Kind::Time,
    better: Better::Less,
    of: |f| turn_ns(&f.before, &f.after, 0.99),
};

/// A quantile of the turns between two readings of the metrics, in nanoseconds: within a bucket
/// they are taken to be spread evenly. Of what is beyond the last limit, that limit.
fn turn_ns(before: &Counts, after: &Counts, quantile: f64) -> Option<f64> {
    let (earlier, buckets) = (buckets(before), buckets(after));
    let up_to = |(limit, count): (&u64, &f64)| {
        (*limit as f64, count - earlier.get(limit).copied().unwrap_or(0.0))
    };
    let all = buckets.iter().next_back().map(up_to)?.1;
    let wanted = quantile * all;
    let (mut low, mut passed) = (0.0, 0.0);
    for (limit, count) in buckets.iter().map(up_to).filter(|_| all > 0.0) {
        if count >= wanted && count > passed {
            let high = if limit == BEYOND as f64 { low } else { limit };
            return Some(low + (high - low) * (wanted - passed) / (count - passed));
        }
        (low, passed) = (limit, count);
    }
    None
}

/// Limits in nanoseconds, and how many turns were within them.
fn buckets(counts: &Counts) -> BTreeMap<u64, f64> {
    let all = counts.server.range(TURNS.to_owned()..);
    let all = all.take_while(|(name, _)| name.starts_with(TURNS));
    all.filter_map(|(name, count)| {
        let limit = name.strip_prefix(TURNS)?.strip_suffix("\"}")?;
        let limit_s: f64 = limit.parse().ok()?; // "+Inf" is a number
        let limit_ns = if limit_s.is_finite() { (limit_s * 1e9).round() as u64 } else { BEYOND };
        Some((limit_ns, *count))
    })
    .collect()
}

const TURNS: &str = "pushv_turn_seconds_bucket{le=\"";
const BEYOND: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(within: [f64; 4]) -> Counts {
        let limits = ["1.023e-06", "2.047e-06", "4.095e-06", "+Inf"];
        let named = |(limit, count)| (format!("{TURNS}{limit}\"}}"), count);
        Counts { server: limits.into_iter().zip(within).map(named).collect(), ..Counts::default() }
    }

    #[test]
    fn turns_of_a_block() {
        let check = |before, after, quantile, expected| {
            assert_eq!(turn_ns(&counts(before), &counts(after), quantile), expected);
        };
        let before = [10.0, 20.0, 20.0, 25.0];
        check(before, [10.0, 20.0, 20.0, 25.0], 0.5, None);
        check(before, [10.0, 120.0, 120.0, 125.0], 0.5, Some(1535.0));
        check(before, [10.0, 20.0, 120.0, 125.0], 1.0, Some(4095.0));
        check(before, [110.0, 120.0, 120.0, 126.0], 1.0, Some(4095.0));
        assert_eq!(turn_ns(&Counts::default(), &Counts::default(), 0.5), None);
    }
}
