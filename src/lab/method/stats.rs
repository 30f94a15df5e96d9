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

/// An estimate with the interval that holds the true value with the confidence that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
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

    fn map(self, f: impl Fn(f64) -> f64) -> Interval {
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
        let mut draw = vec![0.0; values.len()];
        self.interval(&[values], median(values)?, |rng| resampled_median(values, &mut draw, rng))
    }

    /// The median of ratios, each of which is of one pair; all are above 0.
    pub fn ratio(&self, ratios: &[f64]) -> Option<Interval> {
        Some(self.median(&logs(ratios))?.map(f64::exp))
    }

    /// The ratio of two medians, for groups whose values do not belong together in pairs; all are
    /// above 0.
    pub fn ratio_unpaired(&self, of: &[f64], to: &[f64]) -> Option<Interval> {
        let (of, to) = (logs(of), logs(to));
        let (mut draw_of, mut draw_to) = (vec![0.0; of.len()], vec![0.0; to.len()]);
        let difference = median(&of)? - median(&to)?;
        let interval = self.interval(&[&of, &to], difference, |rng| {
            resampled_median(&of, &mut draw_of, rng) - resampled_median(&to, &mut draw_to, rng)
        })?;
        Some(interval.map(f64::exp))
    }

    fn interval(
        &self,
        groups: &[&[f64]],
        mid: f64,
        mut estimate: impl FnMut(&mut Rng) -> f64,
    ) -> Option<Interval> {
        if groups.iter().any(|group| group.len() < OBSERVATIONS_MIN) {
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

/// The probability, on both sides, of paired differences that lean so much to one side if they
/// were as likely to be negative as positive (Wilcoxon, *Individual Comparisons by Ranking
/// Methods*, 1945). Differences of zero say nothing of the side and are left out, as Wilcoxon did.
/// Exact up to 25 differences of which no two are equally large; otherwise by the normal
/// approximation, corrected for ties and for continuity. Without differences, 1.
pub fn wilcoxon(differences: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = differences.iter().copied().filter(|value| *value != 0.0).collect();
    sizes.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = sizes.len();
    let (mut positive, mut ties) = (0.0, 0.0);
    let mut place = 0;
    for tied in sizes.chunk_by(|a, b| a.abs() == b.abs()) {
        // Equal sizes share the mean of the ranks that they take up together.
        let rank = place as f64 + (tied.len() as f64 + 1.0) / 2.0;
        positive += rank * tied.iter().filter(|value| **value > 0.0).count() as f64;
        ties += (tied.len() as f64).powi(3) - tied.len() as f64;
        place += tied.len();
    }
    if n <= EXACT_MAX && ties == 0.0 {
        return exact_p(n, positive as usize);
    }
    let n = n as f64;
    let mean = n * (n + 1.0) / 4.0;
    let deviation = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - ties / 48.0).sqrt();
    let z = ((positive - mean).abs() - 0.5).max(0.0) / deviation;
    (2.0 * normal_tail(z)).min(1.0)
}

/// Up to so many differences the distribution of the rank sum is counted out.
const EXACT_MAX: usize = 25;

/// Of the 2ⁿ ways to give signs to the ranks 1 to n, the part whose positive ranks have a sum that
/// is at least as far out as `sum`, on both sides.
fn exact_p(n: usize, sum: usize) -> f64 {
    let sum_max = n * (n + 1) / 2;
    let mut ways = vec![0u64; sum_max + 1];
    ways[0] = 1;
    for rank in 1..=n {
        for sum in (rank..=sum_max).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    // The distribution is symmetric, so one tail is counted and taken twice.
    let nearer = sum.min(sum_max - sum);
    let tail: u64 = ways[..=nearer].iter().sum();
    (2.0 * tail as f64 / (n as f64).exp2()).min(1.0)
}

/// The part of the standard normal distribution above z, for z from 0 on: Marsaglia's series
/// (*Evaluating the Normal Distribution*, 2004) near the middle, and the continued fraction
/// (Abramowitz and Stegun, 26.2.14) where the series would lose its digits.
fn normal_tail(z: f64) -> f64 {
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if z > 3.0 {
        return density / (1..100).rev().fold(z, |below, k| z + f64::from(k) / below);
    }
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term > sum * f64::EPSILON {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 - density * sum
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

/// How many pairs it takes until [`wilcoxon`], if all lean to one side, is below `p` even as the
/// smallest of so many `comparisons` that [`holm`] corrects. With fewer no difference, however
/// large, can be told.
pub fn pairs_needed(comparisons: usize, p: f64) -> usize {
    let needed = (2.0 * comparisons.max(1) as f64 / p).log2();
    OBSERVATIONS_MIN.max(needed.floor() as usize + 1)
}

fn logs(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value.ln()).collect()
}

fn of_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let place = q.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// The median of as many values as there are, drawn with replacement.
fn resampled_median(values: &[f64], draw: &mut [f64], rng: &mut Rng) -> f64 {
    draw.fill_with(|| values[rng.usize(..values.len())]);
    let half = draw.len() / 2;
    let (lower, &mut upper, _) = draw.select_nth_unstable_by(half, f64::total_cmp);
    if !values.len().is_multiple_of(2) {
        return upper;
    }
    let lower = lower.iter().copied().max_by(f64::total_cmp);
    f64::midpoint(lower.unwrap_or(upper), upper)
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

    // Hollander and Wolfe, "Nonparametric Statistical Methods", 1973, page 29: a depression scale
    // of nine patients, before and after. R's help of wilcox.test has the same data.
    const BEFORE: [f64; 9] = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
    #[allow(clippy::approx_constant, reason = "a patient, not π")]
    const AFTER: [f64; 9] = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];

    #[test]
    fn a_published_example_comes_out_as_published() {
        let differences: Vec<f64> = BEFORE.iter().zip(AFTER).map(|(a, b)| a - b).collect();
        near(wilcoxon(&differences), 0.039_062_5); // V = 40
        near(pseudomedian(&differences).unwrap(), 0.46);
    }

    #[test]
    fn the_rank_sums_of_the_tables_are_where_the_tables_have_them() {
        // The largest sums that are significant at 5 % on both sides, and those after them
        // (McCornack, "Extended Tables of the Wilcoxon Matched Pair Signed Rank Statistic", 1965).
        let check = |n, sum| {
            assert!(exact_p(n, sum) <= 0.05, "{n}");
            assert!(exact_p(n, sum + 1) > 0.05, "{n}");
        };
        check(6, 0);
        check(8, 3);
        check(10, 8);
        check(15, 25);
        check(20, 52);
        check(25, 89);
        near(exact_p(10, 8), 0.048_828_125);
        assert!((exact_p(5, 0), exact_p(5, 15), exact_p(0, 0)) == (0.0625, 0.0625, 1.0));
    }

    #[test]
    fn the_approximation_joins_the_exact_distribution() {
        let differences: Vec<f64> =
            (1..=26).map(|n| if n % 3 == 0 { -f64::from(n) } else { f64::from(n) }).collect();
        let exact = exact_p(26, 351 - 108);
        assert!((wilcoxon(&differences) - exact).abs() < 0.001, "{exact}");
    }

    #[test]
    fn ties_and_zeros_are_no_difficulty() {
        // By hand: ranks 2 2 2 4.5 4.5 6, positive 19 of 21; variance 22.75 - (24 + 6) / 48.
        near(wilcoxon(&[1.0, 1.0, -1.0, 2.0, 2.0, 3.0, 0.0]), 0.088_984_2);
        assert_eq!((wilcoxon(&[]), wilcoxon(&[0.0, 0.0])), (1.0, 1.0));
        let one_sided = wilcoxon(&[5.0; 40]);
        assert!(one_sided > 0.0 && one_sided < 1e-8, "{one_sided}");
    }

    #[test]
    fn the_normal_distribution_is_that_of_the_tables() {
        let check = |z, expected: f64| {
            assert!((normal_tail(z) / expected - 1.0).abs() < 1e-9, "{z}: {}", normal_tail(z));
        };
        check(0.0, 0.5);
        check(1.0, 0.158_655_253_931_457);
        check(1.959_963_984_540_054, 0.025);
        check(3.0, 1.349_898_031_630_095e-3);
        check(5.0, 2.866_515_718_791_939e-7);
        check(10.0, 7.619_853_024_160_527e-24);
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

    #[test]
    fn so_many_pairs_are_needed() {
        let check = |comparisons, expected: usize| {
            assert_eq!(pairs_needed(comparisons, 0.05), expected);
            let p = |pairs| exact_p(pairs, 0) * comparisons as f64;
            assert!(p(expected) < 0.05 && p(expected - 1) >= 0.05);
        };
        check(1, 6);
        check(60, 12);
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
        assert_eq!(bootstrap.ratio_unpaired(&[2.0; 5], &[1.0; 4]), None);
        let twice = bootstrap.ratio_unpaired(&[2.0; 5], &[1.0; 6]).unwrap();
        near(twice.mid, 2.0);
        near(twice.high, 2.0);
    }
}
