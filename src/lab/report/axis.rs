//! Axes: where a value lies on one, and which values are written beside it.

use super::figure::Axis;
use super::number;

/// An axis with its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// The values that are written beside it, rising.
    pub ticks: Vec<f64>,
}

impl Scale {
    /// An axis for amounts. A linear one begins at 0: the length of what is drawn is then the
    /// amount, and a small difference looks small.
    pub fn of_amounts(axis: &Axis, values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = range(values, axis.log);
        if axis.log {
            return Scale::log(low, high);
        }
        let low = low.min(0.0);
        let high = if high > low { high } else { low + 1.0 };
        let ticks = linear_ticks(low, high * 1.05);
        Scale { low, high: high * 1.05, log: false, ticks }
    }

    /// An axis for places that were chosen: these are written beside it, as far as there is room.
    pub fn of_places(axis: &Axis, values: impl Iterator<Item = f64> + Clone) -> Scale {
        let (low, high) = range(values.clone(), axis.log);
        let margin = 0.04;
        let mut scale = match axis.log {
            true => {
                let factor = (high / low).powf(margin).max(1.01);
                Scale { low: low / factor, high: high * factor, log: true, ticks: Vec::new() }
            }
            false => {
                let room = if high > low { (high - low) * margin } else { high.abs().max(1.0) };
                Scale { low: low - room, high: high + room, log: false, ticks: Vec::new() }
            }
        };
        let mut places: Vec<f64> = values.filter(|value| scale.place(*value).is_some()).collect();
        places.sort_by(f64::total_cmp);
        for place in places {
            let far = |last: &f64| scale.part(place) - scale.part(*last) >= CLOSEST;
            if scale.ticks.last().is_none_or(far) {
                scale.ticks.push(place);
            }
        }
        scale
    }

    /// An axis for parts of a whole, in percent.
    pub fn of_parts() -> Scale {
        let ticks = vec![0.0, 25.0, 50.0, 75.0, 90.0, 100.0];
        Scale { low: 0.0, high: 100.0, log: false, ticks }
    }

    fn log(low: f64, high: f64) -> Scale {
        let (low, high) = (low / 1.2, high * 1.2);
        Scale { low, high, log: true, ticks: log_ticks(low, high) }
    }

    /// Where the value lies, as a part of the axis's length; nothing if it has no place on it, as
    /// a zero has none on a logarithmic one.
    pub fn place(&self, value: f64) -> Option<f64> {
        (value.is_finite() && (value > 0.0 || !self.log)).then(|| self.part(value).clamp(0.0, 1.0))
    }

    fn part(&self, value: f64) -> f64 {
        match self.log {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        }
    }
}

/// What is written at a tick.
pub fn label(tick: f64, unit: &str) -> String {
    number::round(tick, if is_scaled(unit) { unit } else { "" })
}

/// The axis's title, with the unit if it does not stand at the ticks.
pub fn title(axis: &Axis) -> String {
    match axis.unit.as_str() {
        "" => axis.title.clone(),
        unit if is_scaled(unit) => axis.title.clone(),
        unit => format!("{} ({unit})", axis.title),
    }
}

fn is_scaled(unit: &str) -> bool {
    matches!(unit, "ns" | "bytes" | "%")
}

/// Two ticks are not closer to each other than this part of the axis.
const CLOSEST: f64 = 0.07;

/// The range of the values that have a place on the axis.
fn range(values: impl Iterator<Item = f64>, log: bool) -> (f64, f64) {
    let fit = values.filter(|value| value.is_finite() && (*value > 0.0 || !log));
    let range = fit.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if range.0 <= range.1 { range } else { (1.0, 1.0) }
}

/// Four to eight multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let decade = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade);
    let step = steps.into_iter().find(|step| *step >= rough * 0.8).unwrap_or(decade * 10.0);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(|count| count as f64 * step).collect()
}

/// Powers of ten; with twice and five times of them where these alone would be few.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let factors: &[f64] = if decades < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let every = (decades / 8.0).ceil().max(1.0) as i32;
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let ticks = exponents
        .filter(|exponent| exponent.rem_euclid(every) == 0)
        .flat_map(|exponent| factors.iter().map(move |factor| factor * 10f64.powi(exponent)));
    ticks.filter(|tick| (low..=high).contains(tick)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(log: bool) -> Axis {
        Axis { title: "CPU".into(), unit: "ns".into(), log }
    }

    #[test]
    fn ticks_are_round() {
        let check = |low, high, expected: &[f64]| assert_eq!(linear_ticks(low, high), expected);
        check(0.0, 10.0, &[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        check(0.0, 1234.0, &[0.0, 200.0, 400.0, 600.0, 800.0, 1000.0, 1200.0]);
        check(-1.0, 1.0, &[-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(log_ticks(8.0, 600.0), [10.0, 20.0, 50.0, 100.0, 200.0, 500.0]);
        assert_eq!(log_ticks(0.5, 2000.0), [1.0, 10.0, 100.0, 1000.0]);
        assert!(log_ticks(1.0, 1e20).len() <= 9);
    }

    #[test]
    fn every_axis_has_a_range() {
        for values in [&[][..], &[0.0], &[5.0], &[0.0, 0.0], &[f64::NAN], &[1.0, 1e9]] {
            for log in [false, true] {
                let values = || values.iter().copied();
                for scale in [
                    Scale::of_amounts(&axis(log), values()),
                    Scale::of_places(&axis(log), values()),
                ] {
                    assert!(scale.high > scale.low && scale.ticks.len() < 12, "{scale:?}");
                    assert!(scale.place(f64::NAN).is_none());
                }
            }
        }
    }

    #[test]
    fn places_are_ticks_as_far_as_there_is_room() {
        let sizes = [1.0, 4.0, 16.0, 64.0, 256.0, 256.0];
        let scale = |log| Scale::of_places(&axis(log), sizes.into_iter());
        assert_eq!(scale(true).ticks, [1.0, 4.0, 16.0, 64.0, 256.0]);
        assert_eq!(scale(false).ticks, [1.0, 64.0, 256.0]);
        assert_eq!(scale(true).place(0.0), None);
        assert!(scale(true).place(16.0).is_some_and(|place| (place - 0.5).abs() < 1e-9));
    }

    #[test]
    fn units_stand_where_they_are_short() {
        assert_eq!((label(1e4, "ns"), title(&axis(true))), ("10 µs".into(), "CPU".into()));
        let calls = Axis { title: "calls".into(), unit: "per event".into(), log: false };
        assert_eq!(
            (label(1e4, "per event"), title(&calls)),
            ("10 k".into(), "calls (per event)".into())
        );
    }
}
