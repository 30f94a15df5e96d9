//! What the rig finds where there is nothing to find.
//!
//! The experiment `aa` compares variants that are all the same thing, but for one that is known to
//! cost more. A rig that tells the first apart, or does not find the second, is not to be believed
//! in anything else; so this is the first figure of a report.

use super::analysis::{Finding, Study};
use super::record::{Kind, Variant};
use super::stats::{self, Interval};

/// The name of the experiment.
pub const EXPERIMENT: &str = "aa";

/// The name of the variant that costs more, and of the setting that says how many times as much.
pub const PLANTED: &str = "planted";

/// What the rig has found.
#[derive(Debug, Clone, PartialEq)]
pub struct RigCheck {
    /// Comparisons of a thing with itself, in times.
    pub comparisons: usize,
    /// Those in which a difference was found.
    pub false_positives: usize,
    /// Those whose interval does not hold 1. With intervals that keep their promise it is the part
    /// of them that is missing to the confidence.
    pub missed: usize,
    /// The confidence of the intervals.
    pub confidence: f64,
    /// The median of the intervals' half-widths, as a part of the baseline: what smaller
    /// differences cannot be told.
    pub half_width: Option<f64>,
    /// The planted difference, wherever it was to be found.
    pub planted: Vec<Planted>,
}

/// A planted difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Planted {
    /// The cell.
    pub cell: String,
    /// The metric's title.
    pub metric: String,
    /// What the variant costs, as a multiple of the others.
    pub factor: f64,
    /// What was measured.
    pub ratio: Interval,
    /// What was found.
    pub finding: Finding,
}

impl RigCheck {
    /// Evaluates the records of the experiment; nothing if there is nothing to evaluate.
    pub fn new(study: &Study) -> Option<RigCheck> {
        let (mut same, mut planted) = (Vec::new(), Vec::new());
        for comparison in &study.comparisons {
            let record = &study.records[comparison.record];
            let metric = &record.metrics[comparison.metric];
            if metric.kind != Kind::Time {
                continue;
            }
            match factor(&record.variants[comparison.variant]) {
                None => same.push(comparison),
                Some(factor) => planted.push(Planted {
                    cell: record.cell.clone(),
                    metric: metric.title.clone(),
                    factor,
                    ratio: comparison.ratio,
                    finding: comparison.finding,
                }),
            }
        }
        if same.is_empty() && planted.is_empty() {
            return None;
        }
        let differs = |finding| matches!(finding, Finding::Less | Finding::More);
        let half_width = |ratio: Interval| (ratio.high - ratio.low) / 2.0;
        let half_widths: Vec<f64> = same.iter().map(|one| half_width(one.ratio)).collect();
        Some(RigCheck {
            comparisons: same.len(),
            false_positives: same.iter().filter(|one| differs(one.finding)).count(),
            missed: same.iter().filter(|one| !one.ratio.holds(1.0)).count(),
            confidence: study.records.first()?.method.confidence,
            half_width: stats::median(&half_widths),
            planted,
        })
    }

    /// In how many places the planted difference was found.
    pub fn found(&self) -> usize {
        self.planted.iter().filter(|one| one.is_found()).count()
    }

    /// Whether the rig has told apart nothing that is the same, and everything that is not.
    pub fn has_passed(&self) -> bool {
        let wrong = self.false_positives as f64 > (1.0 - self.confidence) * self.comparisons as f64;
        self.comparisons > 0 && !wrong && self.found() == self.planted.len()
    }
}

impl Planted {
    /// Whether the difference was found, on the right side.
    pub fn is_found(&self) -> bool {
        self.finding == if self.factor < 1.0 { Finding::Less } else { Finding::More }
    }
}

/// What a variant costs, if it is the planted one.
fn factor(variant: &Variant) -> Option<f64> {
    let factor = || variant.settings.get(PLANTED)?.parse().ok();
    (variant.name == PLANTED).then(|| factor().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::sample::Sample;

    fn check(planted: f64, same: f64) -> RigCheck {
        let record = Sample::new(EXPERIMENT, "100 subscribers")
            .usual_metrics()
            .variant("a", &[1000.0, 1.0])
            .variant("b", &[1000.0 * same, 1.0])
            .variant("c", &[1000.0, 1.0])
            .variant(PLANTED, &[1000.0 * planted, 1.0])
            .setting(PLANTED, "1.10")
            .rounds(5, 12);
        RigCheck::new(&Study::new(vec![record.build()])).unwrap()
    }

    #[test]
    fn a_good_rig_passes() {
        let rig = check(1.1, 1.0);
        assert_eq!((rig.comparisons, rig.false_positives, rig.found()), (2, 0, 1));
        assert!(rig.has_passed() && rig.half_width.unwrap() < 0.05, "{rig:?}");
        assert_eq!(rig.planted[0].factor, 1.1);
    }

    #[test]
    fn a_bad_one_does_not() {
        assert!(!check(1.0, 1.0).has_passed(), "the planted difference is not found");
        let rig = check(1.1, 1.2);
        assert_eq!((rig.false_positives, rig.missed), (1, 1));
        assert!(!rig.has_passed());
        assert_eq!(RigCheck::new(&Study::new(Vec::new())), None);
    }
}
