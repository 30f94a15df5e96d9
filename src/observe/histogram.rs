//! Distributions in a fixed number of plain integers.
//!
//! Buckets are log-linear: each power of two is divided into eight equal parts, so a recorded
//! value is known to within 12.5 % over the whole range of `u64`, and recording is two shifts and
//! an increment.

use std::fmt;

/// A distribution of `u64` values, by convention of one unit that its owner names.
#[derive(Clone)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: [0; BUCKETS], sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Histogram::default();
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What was recorded since it was as `before`, which is an earlier state of it. Its largest value
    /// is known as well as any other: to within 12.5 %.
    pub fn since(&self, before: &Histogram) -> Histogram {
        let mut added =
            Histogram { sum: self.sum.saturating_sub(before.sum), ..Histogram::default() };
        for (at, count) in self.counts.iter().enumerate() {
            added.counts[at] = count.saturating_sub(before.counts[at]);
            if added.counts[at] > 0 {
                added.max = upper_bound(at).min(self.max);
            }
        }
        added
    }

    /// The sum of all values recorded; it stays at the largest `u64` rather than overflow.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value recorded, exactly; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// An upper bound of the smallest value that `q` (0 to 1) of all values do not exceed, at most
    /// 12.5 % above it; 0 if nothing was recorded.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = (q * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound(at).min(self.max);
            }
        }
        self.max
    }

    /// How many values lie in buckets that end at or below `limit`: a lower bound of the number of
    /// values up to `limit`, exact if `limit` is a power of two less one.
    pub fn count_up_to(&self, limit: u64) -> u64 {
        let whole = self.counts.iter().enumerate().take_while(|(at, _)| upper_bound(*at) <= limit);
        whole.map(|(_, count)| count).sum()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max)
            .finish()
    }
}

/// Values below 16 have a bucket each; above, the bucket is the position of the highest bit and
/// the three bits behind it.
fn bucket(value: u64) -> usize {
    if value < 2 * PARTS {
        return value as usize;
    }
    let shift = value.ilog2() - PARTS_LOG2;
    (u64::from(shift) * PARTS + (value >> shift)) as usize
}

/// The largest value that falls into bucket `at`.
fn upper_bound(at: usize) -> u64 {
    let at = at as u64;
    if at < 2 * PARTS {
        return at;
    }
    let shift = at / PARTS - 1;
    let mantissa = u128::from(at % PARTS + PARTS + 1);
    ((mantissa << shift) - 1).min(u128::from(u64::MAX)) as u64
}

const PARTS_LOG2: u32 = 3;
const PARTS: u64 = 1 << PARTS_LOG2;
const BUCKETS: usize = ((64 - PARTS_LOG2 as usize) + 1) * PARTS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_tight() {
        let mut expected_start = 0u64;
        for at in 0..BUCKETS {
            let end = upper_bound(at);
            assert_eq!((bucket(expected_start), bucket(end)), (at, at));
            let width = end - expected_start;
            assert!(width <= expected_start / PARTS, "bucket {at}: {expected_start}..={end}");
            expected_start = end.wrapping_add(1);
        }
        assert_eq!(expected_start, 0, "the last bucket ends at the largest value");
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.max()), (0, 0));
        for value in 1..=1000 {
            histogram.record(value);
        }
        assert_eq!((histogram.count(), histogram.sum(), histogram.max()), (1000, 500_500, 1000));
        for (q, exact) in [(0.0, 1), (0.5, 500), (0.9, 900), (0.99, 990), (1.0, 1000)] {
            let value = histogram.quantile(q);
            assert!(value >= exact && value <= exact + exact / 8, "{q}: {value}");
        }
        assert_eq!(histogram.count_up_to(511), 511);
        assert_eq!(histogram.count_up_to(u64::MAX), 1000);
    }

    #[test]
    fn what_was_added_since() {
        let mut histogram = Histogram::default();
        [5, 1000].into_iter().for_each(|value| histogram.record(value));
        let before = histogram.clone();
        assert_eq!(histogram.since(&before).count(), 0);
        [5, 7, 300].into_iter().for_each(|value| histogram.record(value));
        let added = histogram.since(&before);
        assert_eq!((added.count(), added.sum(), added.quantile(0.5)), (3, 312, 7));
        assert!((300..340).contains(&added.max()));
    }
}
