//! What makes figures doubtful and can be seen in the figures themselves.

use super::analysis::{Study, discarded_of, ratios};
use super::record::{Better, Doubt, Kind, Metric, Record};
use super::stats;
use std::collections::BTreeSet;

impl Study {
    /// What makes the figures of a record doubtful: what the rig has noticed, and what can be seen
    /// in the figures.
    pub fn doubts(&self, record: usize) -> Vec<Doubt> {
        let Some(known) = self.records.get(record) else { return Vec::new() };
        let mut doubts = known.doubts.clone();
        doubts.extend(too_noisy(known));
        doubts.extend(too_few(known));
        doubts.extend(restarts_differ(known));
        doubts
    }
}

/// Too few pairs have no interval. What a variant does not have at all (a copy, where nothing is
/// copied) is not missed.
fn too_few(record: &Record) -> Option<Doubt> {
    let metrics = record.metrics.iter().enumerate();
    let times = metrics.filter(|(_, metric)| metric.kind == Kind::Time);
    let others = || (0..record.variants.len()).filter(|&one| one != record.baseline);
    let pairs = times
        .flat_map(|(metric, _)| others().map(move |variant| ratios(record, variant, metric).len()));
    let blocks = &record.blocks;
    let discarded = !blocks.is_empty() && blocks.iter().all(|block| block.discarded.is_some());
    let fewest = pairs.filter(|&pairs| pairs > 0).min().or(discarded.then_some(0))?;
    let needed = stats::OBSERVATIONS_MIN;
    (fewest < needed).then(|| {
        Doubt::TooFew(format!("{fewest} rounds; an interval takes {needed}, a narrow one more"))
    })
}

fn too_noisy(record: &Record) -> Option<Doubt> {
    let (all, discarded) = (record.blocks.len(), discarded_of(record));
    (discarded * 3 > all).then(|| {
        let detail = "those that are left are a selection";
        Doubt::TooNoisy(format!("{discarded} of {all} blocks were discarded; {detail}"))
    })
}

/// Looks at ratios to the baseline: a machine that is slower today than yesterday changes both.
fn restarts_differ(record: &Record) -> Option<Doubt> {
    let metrics = record.metrics.iter().enumerate();
    let differ: Vec<String> = metrics
        .filter(|(_, metric)| metric.kind == Kind::Time && metric.better != Better::Neither)
        .flat_map(|(place, metric)| {
            let variants = record.variants.iter().enumerate();
            variants.filter_map(move |(variant, known)| {
                let (low, high) = differing_medians(record, variant, place)?;
                Some(differing(metric, &known.name, low, high))
            })
        })
        .collect();
    let (shown, more) = differ.split_at(differ.len().min(SHOWN_MAX));
    let more = match more.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (!shown.is_empty()).then(|| Doubt::RestartsDiffer(shown.join("; ") + &more))
}

/// How many differences between restarts are told in full.
const SHOWN_MAX: usize = 3;

fn differing(metric: &Metric, variant: &str, low: f64, high: f64) -> String {
    format!("{}: `{variant}` takes {low:.3} to {high:.3} of the baseline", metric.title)
}

/// The lowest and the highest median of a restart, if they differ by more than the threshold and
/// no restart is spread so widely by itself.
fn differing_medians(record: &Record, variant: usize, metric: usize) -> Option<(f64, f64)> {
    let ratios = ratios(record, variant, metric);
    let restarts: BTreeSet<u32> = ratios.iter().map(|(restart, _)| *restart).collect();
    let factor_max = 1.0 / (1.0 - record.method.threshold);
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for restart in restarts {
        let of: Vec<f64> =
            ratios.iter().filter(|(one, _)| *one == restart).map(|(_, ratio)| *ratio).collect();
        let (q1, q3) = stats::quartiles(&of)?;
        if of.len() < stats::OBSERVATIONS_MIN || q3 / q1 > factor_max {
            return None;
        }
        let median = stats::median(&of)?;
        (low, high) = (low.min(median), high.max(median));
    }
    (high / low > factor_max).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::record::Block;
    use crate::lab::method::sample::Sample;

    fn sample() -> Sample {
        Sample::new("toy", "100 subscribers")
            .usual_metrics()
            .variant("plain", &[1000.0, 4.0])
            .variant("other", &[1000.0, 4.0])
    }

    #[test]
    fn many_discarded_blocks_are_a_doubt() {
        let mut record = sample().build();
        for block in record.blocks.iter_mut().filter(|block| block.restart < 2) {
            block.discarded = Some("waited for 9 % of its time".into());
        }
        let doubts = Study::new(vec![record]).doubts(0);
        assert!(matches!(doubts[..], [Doubt::TooNoisy(_)]), "{doubts:?}");
    }

    #[test]
    fn too_few_rounds_are_a_doubt() {
        let study = Study::new(vec![sample().rounds(1, 4).build()]);
        assert!(matches!(study.doubts(0)[..], [Doubt::TooFew(_)]), "{:?}", study.doubts(0));
        let study = Study::new(vec![sample().rounds(1, 5).build()]);
        assert_eq!(study.doubts(0), []);
    }

    #[test]
    fn restarts_that_differ_are_a_doubt() {
        let mut record = sample().noise(0.001).build();
        let lucky = |block: &&mut Block| block.restart == 3 && block.variant == 1;
        for block in record.blocks.iter_mut().filter(lucky) {
            block.values[0] = block.values[0].map(|value| value * 0.9);
        }
        let doubts = Study::new(vec![record]).doubts(0);
        assert!(matches!(doubts[..], [Doubt::RestartsDiffer(_)]), "{doubts:?}");
        assert_eq!(Study::new(vec![sample().noise(0.001).build()]).doubts(0), []);
    }
}
