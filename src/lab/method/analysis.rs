//! What records say.
//!
//! A variant is held against the baseline of its cell, round by round: the blocks of a round are
//! from the same fraction of a second, so what slows the machine down for longer than that slows
//! both and is not in their ratio. The rules by which a difference is called one were declared
//! before the measurement ([`Method`](super::record::Method)).
//!
//! Invariant: whatever is computed here follows from the records alone.

use super::record::{Block, Kind, Record};
use super::stats::{self, Bootstrap, Interval};
use crate::load::tally::Distribution;
use std::collections::BTreeMap;

/// The records of one experiment, analysed.
#[derive(Debug)]
pub struct Study {
    /// The records, in the order in which they were made.
    pub records: Vec<Record>,
    /// Every variant of every cell held against the cell's baseline, in every metric.
    pub comparisons: Vec<Comparison>,
}

/// One variant held against the baseline of its cell, in one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The record, by its place in [`Study::records`].
    pub record: usize,
    /// The variant, by its place in the record.
    pub variant: usize,
    /// The metric, by its place in the record.
    pub metric: usize,
    /// The variant's value as a part of the baseline's: the median of the rounds' ratios, of a
    /// count the ratio of the medians.
    pub ratio: Interval,
    /// The same by another estimator ([`stats::hodges_lehmann`]). If the two are far apart, the
    /// ratios are not spread evenly, and neither says it all.
    pub hodges_lehmann: f64,
    /// Rounds in which both have a block that counts.
    pub pairs: usize,
    /// The probability of so large a difference if there were none, corrected for the number of
    /// comparisons (Holm). A count is exact and has none: 0.
    pub p: f64,
    /// What follows.
    pub finding: Finding,
}

/// What follows from a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Less than the baseline, by more than the threshold.
    Less,
    /// More than the baseline, by more than the threshold.
    More,
    /// No practical difference: the interval lies within the threshold.
    Same,
    /// The interval is too wide to say.
    Undecided,
}

/// The values of one variant in one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Their median.
    pub median: f64,
    /// Their first quartile.
    pub q1: f64,
    /// Their third quartile.
    pub q3: f64,
    /// How many there are: blocks that count.
    pub n: usize,
    /// The median's interval, if there are enough of them.
    pub interval: Option<Interval>,
}

impl Summary {
    /// The median with its interval, or with itself where there is none.
    pub fn estimate(&self) -> Interval {
        self.interval.unwrap_or(Interval::exact(self.median))
    }
}

impl Study {
    /// Analyses the records of one experiment.
    pub fn new(records: Vec<Record>) -> Study {
        let mut comparisons = Vec::new();
        for (place, record) in records.iter().enumerate() {
            for metric in 0..record.metrics.len() {
                let variants = (0..record.variants.len()).filter(|&one| one != record.baseline);
                comparisons.extend(variants.filter_map(|variant| {
                    Some(Comparison { record: place, ..compare(record, variant, metric)? })
                }));
            }
        }
        judge(&records, &mut comparisons);
        Study { records, comparisons }
    }

    /// The comparison of this variant with the baseline in this metric, all by their places.
    pub fn compare(&self, record: usize, variant: usize, metric: usize) -> Option<&Comparison> {
        let wanted = (record, variant, metric);
        self.comparisons.iter().find(|one| (one.record, one.variant, one.metric) == wanted)
    }

    /// The same, by names.
    pub fn compare_named(&self, record: usize, variant: &str, metric: &str) -> Option<&Comparison> {
        let known = self.records.get(record)?;
        self.compare(record, place_of(known, variant)?, known.metric(metric)?)
    }

    /// The values of this variant in this metric, all by their places.
    pub fn summary(&self, record: usize, variant: usize, metric: usize) -> Option<Summary> {
        summary(self.records.get(record)?, variant, metric)
    }

    /// The same, by names.
    pub fn summary_named(&self, record: usize, variant: &str, metric: &str) -> Option<Summary> {
        let known = self.records.get(record)?;
        summary(known, place_of(known, variant)?, known.metric(metric)?)
    }

    /// The distribution of this variant's values in this metric, all restarts together.
    pub fn distribution(
        &self,
        record: usize,
        variant: usize,
        metric: &str,
    ) -> Option<Distribution> {
        let sampled = &self.records.get(record)?.distributions;
        let of = sampled.iter().filter(|one| one.variant == variant && one.metric == metric);
        let whole = of.fold(Distribution::default(), |mut whole, one| {
            whole.add(&one.values);
            whole
        });
        (whole.count() > 0).then_some(whole)
    }

    /// The place of the record with these factors.
    pub fn find(&self, factors: &[(&str, &str)]) -> Option<usize> {
        let fits = |record: &Record| {
            factors.iter().all(|(name, value)| record.factor(name) == Some(*value))
        };
        self.records.iter().position(fits)
    }

    /// One variant's metric as a part of any other's, paired by rounds. No test is made of it:
    /// that is for comparisons with the baseline, which were declared.
    pub fn ratio(&self, record: usize, of: &str, to: &str, metric: &str) -> Option<Interval> {
        let known = self.records.get(record)?;
        let (of, to) = (place_of(known, of)?, place_of(known, to)?);
        let ratios = ratios_between(known, of, to, known.metric(metric)?);
        let ratios: Vec<f64> = ratios.into_iter().map(|(_, ratio)| ratio).collect();
        bootstrap(known).ratio(&ratios)
    }

    /// How many blocks there are, and how many of them were discarded.
    pub fn blocks(&self) -> (usize, usize) {
        self.records.iter().fold((0, 0), |(all, discarded), record| {
            (all + record.blocks.len(), discarded + discarded_of(record))
        })
    }
}

/// The values of this variant in this metric, of the blocks that count for it.
pub fn values(record: &Record, variant: usize, metric: usize) -> Vec<f64> {
    counting(record, variant, metric).filter_map(|block| value(block, metric)).collect()
}

/// The same, the values of each restart by themselves.
pub fn values_by_restart(record: &Record, variant: usize, metric: usize) -> Vec<Vec<f64>> {
    let mut restarts: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for block in counting(record, variant, metric) {
        restarts.entry(block.restart).or_default().extend(value(block, metric));
    }
    restarts.into_values().filter(|values| !values.is_empty()).collect()
}

/// The values of this variant in this metric, summed up.
pub fn summary(record: &Record, variant: usize, metric: usize) -> Option<Summary> {
    let values = values(record, variant, metric);
    let (q1, q3) = stats::quartiles(&values)?;
    Some(Summary {
        median: stats::median(&values)?,
        q1,
        q3,
        n: values.len(),
        interval: bootstrap(record).median(&values),
    })
}

/// The place of the variant of that name.
pub fn place_of(record: &Record, variant: &str) -> Option<usize> {
    record.variants.iter().position(|one| one.name == variant)
}

/// Whether all of the interval is so near to 1 that it makes no practical difference. The band is
/// as wide for a ratio as for its inverse.
pub fn is_same(ratio: &Interval, threshold: f64) -> bool {
    ratio.low >= 1.0 - threshold && ratio.high <= 1.0 / (1.0 - threshold)
}

/// The blocks of this variant that count for this metric: of a time those that were not discarded,
/// of a count all, because a count is exact whatever disturbs the block.
fn counting(record: &Record, variant: usize, metric: usize) -> impl Iterator<Item = &Block> {
    let exact = record.metrics.get(metric).is_some_and(|metric| metric.kind == Kind::Count);
    let counts = move |block: &&Block| exact || block.discarded.is_none();
    record.blocks.iter().filter(move |block| block.variant == variant).filter(counts)
}

fn value(block: &Block, metric: usize) -> Option<f64> {
    block.values.get(metric).copied().flatten().filter(|value| value.is_finite())
}

fn bootstrap(record: &Record) -> Bootstrap {
    Bootstrap::new(record.method.confidence, record.method.seed)
}

pub(super) fn discarded_of(record: &Record) -> usize {
    record.blocks.iter().filter(|block| block.discarded.is_some()).count()
}

/// The variant's value as a part of the baseline's, with the restart, for each round in which both
/// have one. A time of 0 has no ratio; it was not measured.
pub(super) fn ratios(record: &Record, variant: usize, metric: usize) -> Vec<(u32, f64)> {
    ratios_between(record, variant, record.baseline, metric)
}

/// The same for any two variants.
fn ratios_between(
    record: &Record,
    variant: usize,
    baseline: usize,
    metric: usize,
) -> Vec<(u32, f64)> {
    let of = |variant| {
        counting(record, variant, metric).filter_map(move |block| {
            let value = value(block, metric).filter(|value| *value > 0.0)?;
            Some(((block.restart, block.round), value))
        })
    };
    let baseline: BTreeMap<(u32, u32), f64> = of(baseline).collect();
    let ratio =
        |((restart, round), value)| Some((restart, value / baseline.get(&(restart, round))?));
    of(variant).filter_map(ratio).collect()
}

/// Everything but the finding, and with a probability that is not yet corrected. The place of the
/// record is the caller's to know.
fn compare(record: &Record, variant: usize, metric: usize) -> Option<Comparison> {
    let comparison = |ratio, hodges_lehmann, pairs, p| Comparison {
        record: 0,
        variant,
        metric,
        ratio,
        hodges_lehmann,
        pairs,
        p,
        finding: Finding::Undecided,
    };
    match record.metrics.get(metric)?.kind {
        Kind::Count => {
            let (of, to) =
                (values(record, variant, metric), values(record, record.baseline, metric));
            let baseline = stats::median(&to).filter(|value| *value > 0.0)?;
            let ratio = stats::median(&of)? / baseline;
            Some(comparison(Interval::exact(ratio), ratio, of.len().min(to.len()), 0.0))
        }
        Kind::Time => {
            let ratios: Vec<f64> =
                ratios(record, variant, metric).into_iter().map(|(_, ratio)| ratio).collect();
            let differences: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
            let (interval, p) = (bootstrap(record).ratio(&ratios)?, stats::paired_t(&differences));
            Some(comparison(interval, stats::hodges_lehmann(&ratios)?, ratios.len(), p))
        }
    }
}

pub(super) fn is_tested(records: &[Record], comparison: &Comparison) -> bool {
    records[comparison.record].metrics[comparison.metric].kind == Kind::Time
}

/// Corrects the probabilities of all tests together, then finds.
fn judge(records: &[Record], comparisons: &mut [Comparison]) {
    let mut tested: Vec<&mut Comparison> =
        comparisons.iter_mut().filter(|one| is_tested(records, one)).collect();
    let corrected = stats::holm(&tested.iter().map(|one| one.p).collect::<Vec<f64>>());
    for (comparison, p) in tested.iter_mut().zip(corrected) {
        comparison.p = p;
    }
    for comparison in comparisons {
        let method = &records[comparison.record].method;
        comparison.finding =
            finding(&comparison.ratio, comparison.p, method.threshold, method.confidence);
    }
}

fn finding(ratio: &Interval, p: f64, threshold: f64, confidence: f64) -> Finding {
    let told = p < 1.0 - confidence;
    if is_same(ratio, threshold) {
        Finding::Same
    } else if told && ratio.high < 1.0 && ratio.mid < 1.0 - threshold {
        Finding::Less
    } else if told && ratio.low > 1.0 && ratio.mid > 1.0 / (1.0 - threshold) {
        Finding::More
    } else {
        Finding::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::sample::Sample;

    fn sample(cost: f64) -> Sample {
        Sample::new("toy", "100 subscribers")
            .factor("subscribers", 100)
            .usual_metrics()
            .variant("plain", &[1000.0, 4.0])
            .variant("other", &[1000.0 * cost, 4.0 * cost])
    }

    /// How often the other variant is found to take less, and more, in so many records.
    fn found(cost: f64, records: u64) -> (usize, usize) {
        let findings = (0..records).map(|seed| {
            let record = sample(cost).rounds(5, 10).seed(seed).build();
            Study::new(vec![record]).compare_named(0, "other", "cpu_ns").unwrap().finding
        });
        findings.fold((0, 0), |(less, more), finding| match finding {
            Finding::Less => (less + 1, more),
            Finding::More => (less, more + 1),
            Finding::Same | Finding::Undecided => (less, more),
        })
    }

    #[test]
    fn a_difference_is_found_through_noise_drift_and_spikes() {
        let (less, more) = found(1.1, 50);
        assert!(less == 0 && more >= 48, "{less} {more}");
        let (less, more) = found(0.9, 50);
        assert!(less >= 48 && more == 0, "{less} {more}");
    }

    #[test]
    fn where_there_is_none_none_is_found() {
        let (less, more) = found(1.0, 100);
        assert!(less + more <= 4, "{less} {more} of 100");
    }

    #[test]
    fn findings_follow_the_declared_rule() {
        let check = |low, mid, high, p, expected| {
            assert_eq!(finding(&Interval { low, mid, high }, p, 0.03, 0.95), expected);
        };
        check(0.98, 1.0, 1.02, 0.9, Finding::Same);
        check(0.98, 0.99, 0.995, 0.001, Finding::Same);
        check(0.80, 0.90, 0.95, 0.001, Finding::Less);
        check(0.80, 0.90, 0.99, 0.001, Finding::Less);
        check(0.80, 0.90, 0.95, 0.06, Finding::Undecided);
        check(0.80, 0.90, 1.01, 0.001, Finding::Undecided);
        check(0.96, 0.98, 0.99, 0.001, Finding::Undecided);
        check(1.05, 1.10, 1.20, 0.001, Finding::More);
        check(0.90, 1.00, 1.10, 0.9, Finding::Undecided);
    }

    #[test]
    fn counts_are_exact() {
        let finding = |cost: f64| {
            let study = Study::new(vec![sample(cost).rounds(1, 1).build()]);
            let calls = study.compare_named(0, "other", "calls").unwrap();
            assert_eq!((calls.p, calls.ratio), (0.0, Interval::exact(cost)));
            assert!(study.compare_named(0, "other", "cpu_ns").is_none(), "one round says nothing");
            calls.finding
        };
        assert_eq!(finding(0.5), Finding::Less);
        assert_eq!(finding(1.0), Finding::Same);
        assert_eq!(finding(2.0), Finding::More);
    }

    #[test]
    fn what_cannot_be_compared_is_not() {
        let mut record = sample(1.0).build();
        for block in record.blocks.iter_mut().filter(|block| block.variant == 0) {
            block.values = vec![None, Some(0.0)];
        }
        let study = Study::new(vec![record]);
        assert!(study.comparisons.is_empty());
        assert!(study.summary_named(0, "plain", "cpu_ns").is_none());
        assert_eq!(study.summary_named(0, "other", "calls").map(|calls| calls.n), Some(30));
        assert!(study.compare(1, 1, 0).is_none() && study.summary(0, 9, 9).is_none());
        assert_eq!(study.find(&[("subscribers", "100")]), Some(0));
        assert_eq!(study.find(&[("subscribers", "101")]), None);
    }

    #[test]
    fn discarded_blocks_do_not_count() {
        let mut record = sample(1.0).noise(0.0).build();
        for block in record.blocks.iter_mut().filter(|block| block.restart < 2) {
            block.discarded = Some("waited for 9 % of its time".into());
            block.values[0] = Some(1e9);
        }
        let study = Study::new(vec![record]);
        assert_eq!(study.blocks(), (60, 24));
        let calls = study.summary_named(0, "other", "calls").map(|calls| calls.n);
        assert_eq!(calls, Some(30), "a count is exact whatever disturbs the block");
        let [times, counts] = [0, 1].map(|metric| {
            let restarts = values_by_restart(&study.records[0], 1, metric);
            (restarts.len(), restarts.concat().len())
        });
        assert_eq!((times, counts), ((3, 18), (5, 30)));
        assert_eq!(ratios(&study.records[0], 1, 1).len(), 30);
        assert_eq!(study.compare(0, 1, 0).map(|one| (one.pairs, one.ratio.high)), Some((18, 1.0)));
    }
}
