//! Whether a series of values rises, and how sure that is.
//!
//! The slope is the median of the slopes between any two points (Theil and Sen), which a few wild
//! points cannot move; its interval is Sen's (*Estimates of the Regression Coefficient Based on
//! Kendall's Tau*, 1968), which assumes no distribution. It does assume that the points are
//! independent. Samples of one process taken seconds apart are not, so [`Trend::of_blocks`] takes
//! the medians of some twenty blocks of them.

/// A slope, per unit of time, with the interval that holds it in 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// The interval's lower end.
    pub low: f64,
    /// The slope.
    pub slope: f64,
    /// The interval's upper end.
    pub high: f64,
    /// How many points it was drawn through.
    pub points: usize,
}

impl Trend {
    /// Through points (time, value) in ascending order of time. `None` if there are fewer than
    /// [`POINTS_MIN`], or not all at different times.
    pub fn of(points: &[(f64, f64)]) -> Option<Trend> {
        let count = points.len();
        if count < POINTS_MIN || points.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return None;
        }
        let mut slopes = Vec::with_capacity(count * (count - 1) / 2);
        for (nth, &(from, before)) in points.iter().enumerate() {
            slopes.extend(
                points[nth + 1..].iter().map(|&(to, after)| (after - before) / (to - from)),
            );
        }
        slopes.sort_unstable_by(f64::total_cmp);
        // Of n (n - 1) / 2 slopes, so many lie between the interval's ends: z times the deviation
        // of Kendall's S.
        let n = count as f64;
        let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let outside = ((slopes.len() as f64 - Z_95 * deviation) / 2.0).max(0.0) as usize;
        Some(Trend {
            low: slopes[outside],
            slope: median(&slopes),
            high: slopes[slopes.len() - 1 - outside],
            points: count,
        })
    }

    /// Through the medians of [`BLOCKS`] runs of points that follow each other.
    pub fn of_blocks(points: &[(f64, f64)]) -> Option<Trend> {
        let per_block = points.len().div_ceil(BLOCKS).max(1);
        // A last block that is short would say as much as the others.
        let whole = points.len() / per_block * per_block;
        let middle = |block: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = block.iter().map(of).collect();
            values.sort_unstable_by(f64::total_cmp);
            median(&values)
        };
        let blocks: Vec<(f64, f64)> = points[..whole]
            .chunks(per_block)
            .map(|block| (middle(block, |point| point.0), middle(block, |point| point.1)))
            .collect();
        Trend::of(&blocks)
    }
}

/// The median of values in ascending order, of which there is at least one.
pub fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Fewer points have no interval of 95 %.
pub const POINTS_MIN: usize = 6;
/// Blocks that a series is cut into.
pub const BLOCKS: usize = 20;
/// The normal distribution has 95 % within so many deviations.
const Z_95: f64 = 1.96;

#[cfg(test)]
mod tests {
    use super::*;

    /// Values between -1 and 1 in no order, the same each time.
    fn noise(nth: usize) -> f64 {
        let mixed = (nth as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) as i64 as f64 / i64::MAX as f64
    }

    fn series(count: usize, value: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
        (0..count).map(|nth| (nth as f64 * 10.0, value(nth))).collect()
    }

    #[test]
    fn a_line_is_found_exactly() {
        let trend = Trend::of(&series(10, |nth| 5.0 + nth as f64 * 20.0)).unwrap();
        assert_eq!((trend.low, trend.slope, trend.high, trend.points), (2.0, 2.0, 2.0, 10));
    }

    /// Of many series that do not rise, the interval holds 0 in about 95 of 100.
    #[test]
    fn the_interval_is_right_as_often_as_it_says() {
        let holds = |of: &usize| {
            let trend = Trend::of(&series(20, |nth| noise(of * 1000 + nth))).unwrap();
            trend.low <= 0.0 && 0.0 <= trend.high
        };
        let right = (0..1000).filter(holds).count();
        assert!((925..=975).contains(&right), "{right} of 1000");
    }

    #[test]
    fn a_small_slope_shows_through_noise_and_wild_points() {
        let wild = |nth: usize| if nth % 40 == 7 { 1e6 } else { 0.0 };
        let points = series(360, |nth| 0.02 * nth as f64 + noise(nth) + wild(nth));
        let trend = Trend::of_blocks(&points).unwrap();
        assert_eq!(trend.points, BLOCKS);
        assert!(trend.low > 0.0 && trend.low < 0.002 && 0.002 < trend.high, "{trend:?}");
    }

    #[test]
    fn too_few_points_have_no_trend() {
        assert_eq!(Trend::of(&series(POINTS_MIN - 1, |_| 1.0)), None);
        assert_eq!(Trend::of(&[(1.0, 1.0); 10]), None);
        assert_eq!(Trend::of_blocks(&[]), None);
    }
}
