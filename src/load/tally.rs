//! What is counted, and how the tallies of several processes are added up.
//!
//! Distributions are added bucket by bucket. The percentiles of the whole come from the sum; the
//! mean of several percentiles is the percentile of nothing.

use super::checker::Offences;
use hdrhistogram::Histogram;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Everything that a process counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Streams that began, reconnections apart.
    pub opened: u64,
    /// Subscribers that never got a stream.
    pub failed: u64,
    /// Streams that ended without being told to.
    pub lost: u64,
    /// Streams that began again, after a loss or by churn.
    pub reconnected: u64,
    /// Events of this run that subscribers received, whether in order or not.
    pub deliveries: u64,
    /// Events of somebody else.
    pub foreign: u64,
    /// Notices by which the server said that events are lost.
    pub gaps: u64,
    /// Events that were lost that way.
    pub told_lost: u64,
    /// Notices that told of more events than were lost of this run.
    pub overtold: u64,
    /// Events that subscribers may have missed without a fault of the server's.
    pub unchecked: u64,
    /// Subscribers that had no stream at the end, and no other way to get what was outstanding.
    pub away: u64,
    /// Those of them that have found no server when they asked for one again.
    pub unreachable: u64,
    /// Bytes that subscribers received.
    pub bytes: u64,
    /// Reads that brought any.
    pub reads: u64,
    /// What was wrong.
    pub offences: Offences,
    /// The first of it.
    pub first_offence: Option<String>,
    /// Why the first connection failed or was lost.
    pub first_failure: Option<String>,
    /// The publisher's part.
    pub published: Published,
    /// Processor time from the first publish to the end, without what was spent on spinning.
    pub cpu_ns: u64,
    /// From the first publish to the end.
    pub wall_ns: u64,
    /// From the intended moment of an event to its arrival, per delivery.
    pub latency_ns: Distribution,
    /// Between two events of one subscriber; of a run that only listens.
    pub interarrival_ns: Distribution,
    /// From the beginning of a connection to the head of its stream.
    pub connect_ns: Distribution,
    /// When each event arrived first and last; of the first [`SPREADS_MAX`] that were measured.
    pub spreads: Vec<Spread>,
}

/// What became of the events that were to be published.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Published {
    /// Requests sent.
    pub events: u64,
    /// Those that were answered with a status of 2xx.
    pub accepted: u64,
    /// Those that were answered with another one.
    pub refused: u64,
    /// Those that were not answered.
    pub unanswered: u64,
    /// Why the first was refused or not answered.
    pub first_refusal: Option<String>,
    /// In an open loop: how long behind its intended moment each was sent. If this is long, the
    /// generator or the server's answers hold it up. An event that was due and was never sent is in
    /// it with the time that it had waited in the end.
    pub lateness_ns: Distribution,
}

/// When one event arrived at this process's subscribers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread(
    /// First, in nanoseconds of the machine's clock; 0 if it has not.
    pub u64,
    /// Last.
    pub u64,
    /// At how many of them.
    pub u32,
);

/// How many events' spreads are kept.
pub const SPREADS_MAX: usize = 100_000;

impl Tally {
    /// Adds another process's.
    pub fn add(&mut self, other: &Tally) {
        self.opened += other.opened;
        self.failed += other.failed;
        self.lost += other.lost;
        self.reconnected += other.reconnected;
        self.deliveries += other.deliveries;
        self.foreign += other.foreign;
        self.gaps += other.gaps;
        self.told_lost += other.told_lost;
        self.overtold += other.overtold;
        self.unchecked += other.unchecked;
        self.away += other.away;
        self.unreachable += other.unreachable;
        self.bytes += other.bytes;
        self.reads += other.reads;
        self.offences.add(&other.offences);
        keep_first(&mut self.first_offence, &other.first_offence);
        keep_first(&mut self.first_failure, &other.first_failure);
        self.published.add(&other.published);
        self.cpu_ns += other.cpu_ns;
        self.wall_ns = self.wall_ns.max(other.wall_ns);
        self.latency_ns.add(&other.latency_ns);
        self.interarrival_ns.add(&other.interarrival_ns);
        self.connect_ns.add(&other.connect_ns);
        let longest = self.spreads.len().max(other.spreads.len());
        self.spreads.resize(longest, Spread::default());
        for (spread, other) in self.spreads.iter_mut().zip(&other.spreads) {
            spread.add(*other);
        }
    }

    /// Notes that something is wrong; `what` is asked the first time only.
    pub fn note_offence(&mut self, what: impl FnOnce() -> String) {
        self.first_offence.get_or_insert_with(what);
    }

    /// Notes that a connection has failed or was lost.
    pub fn note_failure(&mut self, why: impl FnOnce() -> String) {
        self.first_failure.get_or_insert_with(why);
    }

    /// The time between the first and the last arrival of each event that reached `everybody`.
    pub fn spread_ns(&self, everybody: u64) -> Distribution {
        let mut distribution = Distribution::default();
        for spread in self.spreads.iter().filter(|spread| u64::from(spread.2) >= everybody) {
            distribution.record(spread.1 - spread.0);
        }
        distribution
    }
}

impl Published {
    fn add(&mut self, other: &Published) {
        self.events += other.events;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        keep_first(&mut self.first_refusal, &other.first_refusal);
        self.lateness_ns.add(&other.lateness_ns);
    }
}

impl Spread {
    /// Notes an arrival.
    pub fn note(&mut self, now_ns: u64) {
        self.add(Spread(now_ns, now_ns, 1));
    }

    fn add(&mut self, other: Spread) {
        if other.2 == 0 {
            return;
        }
        self.0 = if self.2 == 0 { other.0 } else { self.0.min(other.0) };
        self.1 = self.1.max(other.1);
        self.2 += other.2;
    }
}

fn keep_first(first: &mut Option<String>, other: &Option<String>) {
    if first.is_none() {
        first.clone_from(other);
    }
}

/// A distribution of times in nanoseconds, exact to three digits (an HDR histogram). It takes
/// memory from the first value on.
#[derive(Debug, Clone, Default)]
pub struct Distribution(Option<Histogram<u64>>);

impl Distribution {
    /// Adds one value. What is longer than an hour counts as an hour.
    pub fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Adds a value so many times.
    pub fn record_many(&mut self, ns: u64, count: u64) {
        self.histogram().saturating_record_n(ns.max(1), count);
    }

    /// Adds another distribution.
    pub fn add(&mut self, other: &Distribution) {
        if let Some(other) = &other.0 {
            let added = self.histogram().add(other);
            debug_assert!(added.is_ok(), "both have the same bounds");
        }
    }

    /// Gives what was recorded, and begins again.
    pub fn take(&mut self) -> Distribution {
        let taken = Distribution(self.0.clone());
        if let Some(histogram) = &mut self.0 {
            histogram.reset();
        }
        taken
    }

    /// The same exact to two digits, which takes a tenth of the room when it is written down.
    pub fn coarse(&self) -> Distribution {
        let mut coarse = Distribution::default();
        for step in self.0.iter().flat_map(Histogram::iter_recorded) {
            let ns = step.value_iterated_to();
            let unit = 10u64.pow(ns.max(1).ilog10().saturating_sub(1));
            coarse.record_many((ns + unit / 2) / unit * unit, step.count_at_value());
        }
        coarse
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The value that the part `q` (0 to 1) of all values does not exceed; 0 if there are none.
    pub fn quantile(&self, q: f64) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.value_at_quantile(q))
    }

    /// The largest value; 0 if there are none.
    pub fn max(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::max)
    }

    /// The histogram, for those who write it to a file.
    pub fn as_histogram(&self) -> Option<&Histogram<u64>> {
        self.0.as_ref()
    }

    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.0.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("these bounds are valid")
        })
    }
}

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = self.0.iter().flat_map(|histogram| {
            histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()))
        });
        serializer.collect_seq(values)
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Distribution, D::Error> {
        let values = Vec::<(u64, u64)>::deserialize(deserializer)?;
        if values.len() > VALUES_MAX {
            return Err(D::Error::custom("more values than a histogram has"));
        }
        let mut distribution = Distribution::default();
        for (ns, count) in values {
            distribution.record_many(ns, count);
        }
        Ok(distribution)
    }
}

const LONGEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;
const VALUES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(values: impl IntoIterator<Item = u64>) -> Distribution {
        let mut distribution = Distribution::default();
        values.into_iter().for_each(|value| distribution.record(value));
        distribution
    }

    #[test]
    fn percentiles_come_from_the_sum() {
        // A process with a hundred fast deliveries and one with a single slow one.
        let mut all = distribution((0..100).map(|_| 1000));
        all.add(&distribution([1_000_000]));
        assert_eq!(all.quantile(0.5), 1000);
        assert_eq!(all.quantile(0.99), 1000, "the mean of both p99 would be half a millisecond");
        assert!(all.max() >= 1_000_000);
    }

    #[test]
    fn distributions_survive_the_way() {
        let sent = distribution((0..1000).map(|n| n * n * 7919));
        let text = serde_json::to_string(&sent).unwrap();
        let received: Distribution = serde_json::from_str(&text).unwrap();
        for q in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
            assert_eq!(received.quantile(q), sent.quantile(q));
        }
        let empty: Distribution = serde_json::from_str("[]").unwrap();
        assert_eq!((empty.count(), empty.max(), empty.quantile(0.5)), (0, 0, 0));
    }

    #[test]
    fn coarse_distributions_are_near_and_small() {
        let fine = distribution((1..100_000).map(|n| n * 13));
        let coarse = fine.coarse();
        assert_eq!(coarse.count(), fine.count());
        for q in [0.01, 0.5, 0.99] {
            let ratio = coarse.quantile(q) as f64 / fine.quantile(q) as f64;
            assert!((0.94..1.06).contains(&ratio), "{q}: {ratio}");
        }
        let values = serde_json::to_value(&coarse).unwrap();
        assert!(values.as_array().unwrap().len() <= 6 * 90);
    }

    #[test]
    fn spreads_are_joined_across_processes() {
        let with = |times: &[u64]| {
            let mut spread = Spread::default();
            times.iter().for_each(|&time| spread.note(time));
            Tally { spreads: vec![spread], ..Tally::default() }
        };
        let mut all = with(&[50, 40]);
        all.add(&with(&[90]));
        all.add(&with(&[]));
        assert_eq!(all.spreads, [Spread(40, 90, 3)]);
        assert_eq!(all.spread_ns(3).max(), 50);
        assert_eq!(all.spread_ns(4).count(), 0, "somebody did not get it");
    }
}
