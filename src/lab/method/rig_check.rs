//! What the rig finds where there is nothing to find.
//!
//! The experiment `aa` compares variants that are all the same thing, but for one that is known to
//! cost more. A rig that tells the first apart, or does not find the second, is not to be believed
//! in anything else; so this is the first figure of a report.
//!
//! Invariant: a check that could not be made is not passed. Blocks are discarded, and with them
//! whole comparisons; what is left must not stand for what is missing.

use super::analysis::{Comparison, Finding, Study, is_tested, place_of};
use super::record::{Record, Variant};
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
    /// The checks that could not be made, and why, a sentence each.
    pub not_made: Vec<String>,
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
    /// Evaluates the records of the experiment; nothing if there is none.
    pub fn new(study: &Study) -> Option<RigCheck> {
        let confidence = study.records.first()?.method.confidence;
        let (mut same, mut planted) = (Vec::new(), Vec::new());
        for comparison in &study.comparisons {
            let record = &study.records[comparison.record];
            let metric = &record.metrics[comparison.metric];
            if !is_tested(&study.records, comparison) {
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
        let differs = |finding| matches!(finding, Finding::Less | Finding::More);
        let half_width = |ratio: Interval| (ratio.high - ratio.low) / 2.0;
        let half_widths: Vec<f64> = same.iter().map(|one| half_width(one.ratio)).collect();
        Some(RigCheck {
            comparisons: same.len(),
            false_positives: same.iter().filter(|one| differs(one.finding)).count(),
            missed: same.iter().filter(|one| !one.ratio.holds(1.0)).count(),
            confidence,
            half_width: stats::median(&half_widths),
            planted,
            not_made: (0..study.records.len()).flat_map(|place| not_made(study, place)).collect(),
        })
    }

    /// In how many places the planted difference was found.
    pub fn found(&self) -> usize {
        self.planted.iter().filter(|one| one.is_found()).count()
    }

    /// Whether every check was made, and the rig has told apart nothing that is the same, and
    /// everything that is not.
    pub fn has_passed(&self) -> bool {
        let wrong = self.false_positives as f64 > (1.0 - self.confidence) * self.comparisons as f64;
        self.not_made.is_empty() && !wrong && self.found() == self.planted.len()
    }
}

/// Which of the two checks could not be made in a cell, and why.
fn not_made(study: &Study, place: usize) -> Vec<String> {
    let record = &study.records[place];
    let is_planted = |one: &&Comparison| factor(&record.variants[one.variant]).is_some();
    let of_the_cell = study.comparisons.iter().filter(|one| one.record == place);
    let times = of_the_cell.filter(|one| is_tested(&study.records, one));
    let (planted, same): (Vec<_>, Vec<_>) = times.partition(is_planted);
    let mut not_made = Vec::new();
    if same.is_empty() {
        let others =
            (0..record.variants.len()).filter(|&one| factor(&record.variants[one]).is_none());
        let why = why_not(record, &others.collect::<Vec<usize>>());
        not_made.push(format!("{}: nothing was compared with itself, because {why}.", record.cell));
    }
    if planted.is_empty() {
        let why = match place_of(record, PLANTED) {
            Some(variant) => why_not(record, &[record.baseline, variant]),
            None => "none was planted".into(),
        };
        not_made.push(format!(
            "{}: whether a planted difference would be found is unknown, because {why}.",
            record.cell
        ));
    }
    not_made
}

/// Why there is no comparison between these variants.
fn why_not(record: &Record, variants: &[usize]) -> String {
    let blocks = || record.blocks.iter().filter(|block| variants.contains(&block.variant));
    let (all, discarded) =
        (blocks().count(), blocks().filter(|block| block.discarded.is_some()).count());
    let needed = stats::OBSERVATIONS_MIN;
    match discarded {
        0 => format!("there are {all} blocks of it, and an interval takes {needed} rounds"),
        _ => format!(
            "{discarded} of its {all} blocks were discarded, and an interval takes {needed} rounds"
        ),
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

    fn sample(planted: f64, same: f64) -> Sample {
        Sample::new(EXPERIMENT, "100 subscribers")
            .usual_metrics()
            .variant("a", &[1000.0, 1.0])
            .variant("b", &[1000.0 * same, 1.0])
            .variant("c", &[1000.0, 1.0])
            .variant(PLANTED, &[1000.0 * planted, 1.0])
            .setting(PLANTED, "1.10")
            .rounds(5, 12)
    }

    fn check(planted: f64, same: f64) -> RigCheck {
        evaluate(vec![sample(planted, same).build()])
    }

    fn evaluate(records: Vec<Record>) -> RigCheck {
        RigCheck::new(&Study::new(records)).unwrap()
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

    /// All other blocks are as good as they can be, and a second cell has what the first one lacks.
    #[test]
    fn a_check_that_was_not_made_is_not_passed() {
        let refused = |change: &dyn Fn(&mut Record), expected: &[&str]| {
            let mut record = sample(1.1, 1.0).build();
            change(&mut record);
            for records in [vec![record.clone()], vec![sample(1.1, 1.0).build(), record]] {
                let rig = evaluate(records);
                assert!(!rig.has_passed(), "{rig:?}");
                assert_eq!(rig.not_made.len(), 1, "{rig:?}");
                assert!(expected.iter().all(|words| rig.not_made[0].contains(words)), "{rig:?}");
            }
        };
        let discard = |record: &mut Record, of: &dyn Fn(usize) -> bool| {
            for block in record.blocks.iter_mut().filter(|block| of(block.variant)) {
                block.discarded = Some("waited 9.0 % of its time for processors".into());
            }
        };
        let planted = "whether a planted difference would be found is unknown";
        refused(
            &|record| discard(record, &|variant| variant == 3),
            &["100 subscribers: ", planted, "60 of its 120 blocks were discarded"],
        );
        refused(&|record| record.variants[3].name = "d".into(), &[planted, "none was planted"]);
        refused(
            &|record| discard(record, &|variant| variant == 1 || variant == 2),
            &["nothing was compared with itself", "120 of its 180 blocks were discarded"],
        );
        // A run of the smallest size has too few rounds for anything.
        let few = evaluate(vec![sample(1.1, 1.0).rounds(1, 2).build()]);
        assert!(!few.has_passed() && few.not_made.len() == 2, "{few:?}");
    }
}
