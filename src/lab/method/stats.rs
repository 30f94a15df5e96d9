//! Statistics, as pure functions.
//!
//! A block is one observation. What happens within a block is autocorrelated and says little about
//! the next one, so intervals come from resampling blocks, never from the thousands of values
//! within them. Costs multiply (a machine that is slow for a second makes everything slower by the
//! same factor), so two things are compared by the logarithm of their ratio: the comparison of A
//! with B and that of B with A then say the same.
//!
//! Invariant: the same values with the same seed give the same figures, to the last bit.

use fastrand::Rng;
use serde::Serialize;
use std::f64::consts::FRAC_PI_2;

/// An estimate with the interval that holds the true value with the confidence that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The interval's lower end.
    pub low: f64,
    /// The estimate.
    pub mid: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Interval {
    /// The interval of a value that is known exactly.
    pub fn exact(value: f64) -> Interval {
        Interval { low: value, mid: value, high: value }
    }

    /// Whether the value lies in it.
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The interval of a function of the value, which rises.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Interval {
        Interval { low: f(self.low), mid: f(self.mid), high: f(self.high) }
    }
}

/// Fewer observations than this have no interval: the bootstrap has nothing to draw from.
pub const OBSERVATIONS_MIN: usize = 5;

/// How often intervals resample.
pub const RESAMPLES: usize = 10_000;

/// Intervals by the bootstrap's percentile method (Efron 1979; Efron and Tibshirani, *An
/// Introduction to the Bootstrap*, 1993, chapter 13).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// The confidence, as a part of 1.
    pub confidence: f64,
    /// How often to resample.
    pub resamples: usize,
    /// From which the resamples follow.
    pub seed: u64,
}

impl Bootstrap {
    /// With [`RESAMPLES`].
    pub fn new(confidence: f64, seed: u64) -> Bootstrap {
        Bootstrap { confidence, resamples: RESAMPLES, seed }
    }

    /// The median. Nothing if there are fewer than [`OBSERVATIONS_MIN`].
    pub fn median(&self, values: &[f64]) -> Option<Interval> {
        let mut resampler = Resampler::new(&[values]);
        self.interval(values.len(), median(values)?, |rng| resampler.median(rng))
    }

    /// The median of ratios, each of which is of one pair; all are above 0.
    pub fn ratio(&self, ratios: &[f64]) -> Option<Interval> {
        Some(self.median(&logs(ratios))?.map(f64::exp))
    }

    /// The ratio of two medians whose values do not belong together in pairs, and were made in
    /// groups (the blocks of one life of the processes). What is decided by chance once for a whole
    /// group cannot be seen within it, so groups are drawn first, and then the values of each
    /// (Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8). All
    /// values are above 0.
    pub fn ratio_unpaired(&self, of: &[Vec<f64>], to: &[Vec<f64>]) -> Option<Interval> {
        let [of, to] = [of, to].map(|set| set.iter().map(|one| logs(one)).collect::<Vec<_>>());
        let [all_of, all_to] = [&of, &to].map(|set| set.concat());
        let difference = median(&all_of)? - median(&all_to)?;
        let (mut of, mut to) = (Resampler::new(&of), Resampler::new(&to));
        let fewest = all_of.len().min(all_to.len());
        let interval = self.interval(fewest, difference, |rng| of.median(rng) - to.median(rng))?;
        Some(interval.map(f64::exp))
    }

    fn interval(
        &self,
        observations: usize,
        mid: f64,
        mut estimate: impl FnMut(&mut Rng) -> f64,
    ) -> Option<Interval> {
        if observations < OBSERVATIONS_MIN {
            return None;
        }
        let mut rng = Rng::with_seed(self.seed);
        let mut estimates: Vec<f64> = (0..self.resamples).map(|_| estimate(&mut rng)).collect();
        estimates.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        let (low, high) = (of_sorted(&estimates, tail)?, of_sorted(&estimates, 1.0 - tail)?);
        Some(Interval { low, mid, high })
    }
}

/// The median; that of an even number of values is the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The quantile of type 7 of Hyndman and Fan (*Sample Quantiles in Statistical Packages*, 1996):
/// linear between the order statistics, the definition that R uses unless told otherwise.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    of_sorted(&sorted, q)
}

/// The first and the third quartile.
pub fn quartiles(values: &[f64]) -> Option<(f64, f64)> {
    Some((quantile(values, 0.25)?, quantile(values, 0.75)?))
}

/// The ratio in the middle of all ratios and of all geometric means of two of them: an estimate
/// that uses more of the values than their median does, and is nearly as hard to upset by a few
/// (Hodges and Lehmann, *Estimates of Location Based on Rank Tests*, 1963, on logarithms).
pub fn hodges_lehmann(ratios: &[f64]) -> Option<f64> {
    pseudomedian(&logs(ratios)).map(f64::exp)
}

fn pseudomedian(values: &[f64]) -> Option<f64> {
    let means = values
        .iter()
        .enumerate()
        .flat_map(|(place, a)| values[place..].iter().map(move |b| f64::midpoint(*a, *b)));
    median(&means.collect::<Vec<f64>>())
}

/// The probability, on both sides, of paired differences with a mean so far from zero, measured by
/// their own spread, if the true mean were zero (Student, *The Probable Error of a Mean*, 1908),
/// with a seventh of them trimmed at each end, which is none of fewer than seven (Yuen, *The Two-Sample
/// Trimmed t for Unequal Population Variances*, 1974): a spike of the machine is no evidence. Of
/// fewer than two differences, 1.
///
/// A test by ranks would assume less, but cannot be below 2^(1-n) with n pairs: with ten pairs and
/// a hundred comparisons to correct for, a factor of six would not be told from chance.
pub fn paired_t(differences: &[f64]) -> f64 {
    let n = differences.len();
    if n < 2 {
        return 1.0;
    }
    let mut sorted = differences.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let trimmed = n / 7;
    let kept = n - 2 * trimmed;
    let mean = sorted[trimmed..n - trimmed].iter().sum::<f64>() / kept as f64;
    // What is trimmed counts for the spread as if it were the outermost that is kept (Winsor).
    let (low, high) = (sorted[trimmed], sorted[n - 1 - trimmed]);
    let winsored = || sorted.iter().map(|value| value.clamp(low, high));
    let centre = winsored().sum::<f64>() / n as f64;
    let squares: f64 = winsored().map(|value| (value - centre).powi(2)).sum();
    if squares == 0.0 {
        return if mean == 0.0 { 1.0 } else { 0.0 };
    }
    let deviation_of_mean = (squares / (kept * (kept - 1)) as f64).sqrt();
    student_tails(mean / deviation_of_mean, kept as u32 - 1)
}

/// The part of Student's distribution that is beyond ±t, by the finite series for whole degrees of
/// freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
fn student_tails(t: f64, freedom: u32) -> f64 {
    let angle = (t.abs() / f64::from(freedom).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    // 1 + k/(k+1) cos² + k(k+2)/((k+1)(k+3)) cos⁴ …, up to cos^(freedom-2) or cos^(freedom-3).
    let odd = freedom % 2;
    let (mut term, mut sum) = (1.0, 1.0);
    for k in (odd + 1..freedom.saturating_sub(1)).step_by(2) {
        term *= f64::from(k) / f64::from(k + 1) * cos * cos;
        sum += term;
    }
    let within = match (odd, freedom) {
        (1, 1) => angle / FRAC_PI_2,
        (1, _) => (angle + sin * cos * sum) / FRAC_PI_2,
        _ => sin * sum,
    };
    (1.0 - within).max(0.0)
}

/// The probabilities corrected for there being so many of them, each in its place (Holm, *A Simple
/// Sequentially Rejective Multiple Test Procedure*, 1979): the smallest is multiplied by their
/// number, the next by one less, and none becomes smaller than one before it.
pub fn holm(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    let mut corrected = vec![0.0; probabilities.len()];
    let mut largest = 0.0_f64;
    for (rank, &place) in order.iter().enumerate() {
        let factor = (probabilities.len() - rank) as f64;
        largest = largest.max(probabilities[place] * factor).min(1.0);
        corrected[place] = largest;
    }
    corrected
}

fn logs(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value.ln()).collect()
}

fn of_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let place = q.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// Draws as many groups as there are, with replacement, and of each as many values as it has. To
/// find the median of what was drawn it is enough to count how often each value was, so nothing is
/// sorted but once.
struct Resampler {
    sorted: Vec<f64>,
    /// The place in `sorted` of each value, group by group, as they were given. Draws are by the
    /// given order, so that values and their negatives are drawn alike.
    ranks: Vec<Vec<usize>>,
    /// How often each of `sorted` was drawn.
    drawn: Vec<usize>,
}

impl Resampler {
    fn new<G: AsRef<[f64]>>(groups: &[G]) -> Resampler {
        let values: Vec<f64> = groups.iter().flat_map(AsRef::as_ref).copied().collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let mut ranks = vec![0; values.len()];
        for (rank, &place) in order.iter().enumerate() {
            ranks[place] = rank;
        }
        let mut ranks = ranks.into_iter();
        let ranks = groups.iter().map(|group| ranks.by_ref().take(group.as_ref().len()).collect());
        let sorted = order.iter().map(|place| values[*place]).collect();
        Resampler { sorted, ranks: ranks.collect(), drawn: vec![0; values.len()] }
    }

    fn median(&mut self, rng: &mut Rng) -> f64 {
        self.drawn.fill(0);
        let mut n = 0;
        for _ in 0..self.ranks.len() {
            let group = &self.ranks[rng.usize(..self.ranks.len())];
            for _ in 0..group.len() {
                self.drawn[group[rng.usize(..group.len())]] += 1;
            }
            n += group.len();
        }
        f64::midpoint(self.drawn_at((n - 1) / 2), self.drawn_at(n / 2))
    }

    /// The value at this place among what was drawn, had it been sorted.
    fn drawn_at(&self, place: usize) -> f64 {
        let mut passed = 0;
        let reaches = |count: &usize| {
            passed += count;
            passed > place
        };
        self.drawn.iter().position(reaches).map_or(f64::NAN, |rank| self.sorted[rank])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() <= expected.abs() * 1e-4 + 1e-9, "{value}, {expected}");
    }

    #[test]
    fn quantiles_are_those_of_r() {
        // R: quantile(c(2, 3, 5, 7, 11, 13), c(0, .1, .25, .5, .75, 1))
        let primes = [13.0, 2.0, 11.0, 3.0, 7.0, 5.0];
        let check = |q, expected| near(quantile(&primes, q).unwrap(), expected);
        check(0.0, 2.0);
        check(0.1, 2.5);
        check(0.25, 3.5);
        check(0.5, 6.0);
        check(0.75, 10.0);
        check(1.0, 13.0);
        assert_eq!(quartiles(&primes), Some((3.5, 10.0)));
        assert_eq!((median(&[]), median(&[4.0])), (None, Some(4.0)));
    }

    // Student, "The Probable Error of a Mean", 1908: hours of sleep that ten patients gained by one
    // drug and by another. R has the same data under the name `sleep`.
    const ONE: [f64; 10] = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
    const OTHER: [f64; 10] = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];

    #[test]
    fn a_published_example_comes_out_as_published() {
        let differences: Vec<f64> = ONE.iter().zip(OTHER).map(|(a, b)| a - b).collect();
        // Six are not trimmed: t = -3.833 with 5 degrees of freedom; ten by one at each end: t = -5.966
        // with 7.
        near(student_tails(4.062_127_7, 9), 0.002_832_89); // as published, without trimming
        near(paired_t(&differences[..6]), 0.012_207_11);
        near(paired_t(&differences), 0.000_561_14);
        near(pseudomedian(&differences).unwrap(), -1.3);
    }

    #[test]
    fn students_distribution_is_that_of_the_tables() {
        // Fisher and Yates, "Statistical Tables", table III: t for 5 %, 1 % and 0.1 % on both sides.
        let check = |freedom, t: [f64; 3]| {
            for (t, expected) in t.into_iter().zip([0.05, 0.01, 0.001]) {
                let tails = student_tails(t, freedom);
                assert!((tails / expected - 1.0).abs() < 2e-3, "{freedom} {t}: {tails}");
                assert_eq!(student_tails(-t, freedom), tails);
            }
        };
        check(1, [12.706, 63.657, 636.619]);
        check(2, [4.303, 9.925, 31.599]);
        check(3, [3.182, 5.841, 12.924]);
        check(4, [2.776, 4.604, 8.610]);
        check(9, [2.262, 3.250, 4.781]);
        check(10, [2.228, 3.169, 4.587]);
        check(30, [2.042, 2.750, 3.646]);
        check(120, [1.980, 2.617, 3.373]);
    }

    #[test]
    fn degenerate_differences() {
        assert_eq!((paired_t(&[]), paired_t(&[3.0])), (1.0, 1.0));
        assert_eq!((paired_t(&[0.0; 5]), paired_t(&[2.0; 5])), (1.0, 0.0));
    }

    #[test]
    fn holm_steps_down() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (value, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            near(*value, expected);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    fn lognormal(rng: &mut Rng, deviation: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| rng.f64()).sum();
        (deviation * (sum - 6.0)).exp()
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_promise() {
        let mut rng = Rng::with_seed(7);
        let held = (0..400).filter(|&seed| {
            let ratios: Vec<f64> = (0..21).map(|_| 1.2 * lognormal(&mut rng, 0.1)).collect();
            let bootstrap = Bootstrap { confidence: 0.95, resamples: 400, seed };
            bootstrap.ratio(&ratios).unwrap().holds(1.2)
        });
        let held = held.count();
        assert!((368..=396).contains(&held), "{held} of 400, where 380 are to be expected");
    }

    #[test]
    fn a_ratio_and_its_inverse_say_the_same() {
        let mut rng = Rng::with_seed(3);
        let ratios: Vec<f64> = (0..20).map(|_| lognormal(&mut rng, 0.3)).collect();
        let inverse: Vec<f64> = ratios.iter().map(|ratio| 1.0 / ratio).collect();
        let bootstrap = Bootstrap::new(0.9, 11);
        let (one, other) = (bootstrap.ratio(&ratios).unwrap(), bootstrap.ratio(&inverse).unwrap());
        near(one.mid, 1.0 / other.mid);
        near(one.low, 1.0 / other.high);
        near(one.high, 1.0 / other.low);
        near(hodges_lehmann(&ratios).unwrap(), 1.0 / hodges_lehmann(&inverse).unwrap());
        assert_eq!(bootstrap.ratio(&ratios), Some(one), "the seed decides");
    }

    #[test]
    fn few_values_have_no_interval() {
        let bootstrap = Bootstrap::new(0.95, 1);
        assert_eq!(bootstrap.median(&[1.0; 4]), None);
        assert_eq!(bootstrap.median(&[1.0; 5]), Some(Interval::exact(1.0)));
        assert_eq!(bootstrap.ratio_unpaired(&[vec![2.0; 5]], &[vec![1.0; 4]]), None);
        let groups = [vec![1.0; 3], vec![1.0; 3]];
        let twice = bootstrap.ratio_unpaired(&[vec![2.0; 5]], &groups).unwrap();
        near(twice.mid, 2.0);
        near(twice.high, 2.0);
    }

    #[test]
    fn what_groups_have_in_common_widens_the_interval() {
        let bootstrap = Bootstrap::new(0.95, 1);
        let width = |groups: &[Vec<f64>]| {
            let ratio = bootstrap.ratio_unpaired(groups, &[vec![1.0; 5]]).unwrap();
            ratio.high / ratio.low
        };
        let together = vec![1.0, 1.0, 1.0, 1.1, 1.1, 1.1, 1.2, 1.2, 1.2];
        let apart: Vec<Vec<f64>> = together.chunks(3).map(<[f64]>::to_vec).collect();
        near(width(&apart), 1.2);
        assert!(width(&[together]) <= 1.2);
    }
}
