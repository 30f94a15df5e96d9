//! Figures as people read them: three significant digits, and the unit that makes them short.
//! What cannot be told apart by measuring must not be told apart in print.

use crate::lab::method::stats::Interval;
use crate::wire::date;

/// A value in three significant digits, with its unit: `1.23 µs`, `45.6 ns`, `12.3 k`, `1.00`.
pub fn with_unit(value: f64, unit: &str) -> String {
    let (divisor, name) = scale(value, unit);
    joined(&digits(value / divisor, decimals(value / divisor)), &name)
}

/// An estimate with its interval, in the unit and to the digit of the estimate:
/// `1.23 [1.20–1.26] µs`. What is known exactly stands alone.
pub fn interval(value: &Interval, unit: &str) -> String {
    if value.low == value.high {
        return with_unit(value.mid, unit);
    }
    let (divisor, name) = scale(value.mid, unit);
    let decimals = decimals(value.mid / divisor);
    let [low, mid, high] =
        [value.low, value.mid, value.high].map(|value| digits(value / divisor, decimals));
    joined(&format!("{mid} [{low}–{high}]"), &name)
}

/// A value that is round by itself, such as a place on an axis: `10 µs`, `0.5`, `2 k`.
pub fn round(value: f64, unit: &str) -> String {
    let (divisor, name) = scale(value, unit);
    let digits = digits(value / divisor, decimals(value / divisor));
    let short = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => &digits,
    };
    joined(short, &name)
}

/// A part of 1, as a percentage: `3 %`, `0.5 %`.
pub fn percent(part: f64) -> String {
    round(part * 100.0, "%")
}

/// A duration in milliseconds: `850 ms`, `12 s`, `3 min 20 s`.
pub fn duration_ms(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
    }
}

/// A moment, given in milliseconds since 1970, in UTC: `2026-11-04 13:00 UTC`.
pub fn moment_unix_ms(ms: u64) -> String {
    let minutes = ms / 60_000;
    let (year, month, day) = date::civil(minutes / 1_440);
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    format!("{year}-{:02}-{day:02} {hour:02}:{minute:02} UTC", month + 1)
}

/// By what the value is divided, and what the unit is then called.
fn scale(value: f64, unit: &str) -> (f64, String) {
    // Rounded first: 999.7 ns is 1.00 µs, not 1000 ns.
    let size = rounded(value.abs());
    let steps: &[(f64, &str)] = match unit {
        "ns" => &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")],
        "bytes" => &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")],
        "%" => &[(1.0, "%")],
        _ => &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")],
    };
    let last = steps.len() - 1;
    let (divisor, name) = *steps.iter().find(|(step, _)| size >= *step).unwrap_or(&steps[last]);
    match unit {
        "ns" | "bytes" | "%" => (divisor, name.into()),
        _ => (divisor, joined(name, unit)),
    }
}

fn joined(left: &str, right: &str) -> String {
    match (left, right) {
        ("", text) | (text, "") => text.into(),
        (left, right) => format!("{left} {right}"),
    }
}

fn rounded(value: f64) -> f64 {
    let factor = 10f64.powi(decimals_signed(value));
    (value * factor).round() / factor
}

/// How many decimals make three significant digits.
fn decimals(value: f64) -> usize {
    decimals_signed(rounded(value)).max(0) as usize
}

fn decimals_signed(value: f64) -> i32 {
    match value.abs() {
        0.0 => 0,
        size if size.is_finite() => (2 - size.log10().floor() as i32).min(12),
        _ => 0,
    }
}

fn digits(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_a_unit() {
        let check = |value, unit, expected: &str| assert_eq!(with_unit(value, unit), expected);
        check(1234.0, "ns", "1.23 µs");
        check(45.6, "ns", "45.6 ns");
        check(0.4567, "ns", "0.457 ns");
        check(999.7, "ns", "1.00 µs");
        check(3_456_789_000.0, "ns", "3.46 s");
        check(12_345.0, "", "12.3 k");
        check(12_345.0, "calls", "12.3 k calls");
        check(1.0, "", "1.00");
        check(9.999, "", "10.0");
        check(0.0, "calls", "0 calls");
        check(-1.5, "", "-1.50");
        check(0.000_123_4, "", "0.000123");
        check(2_500_000.0, "bytes", "2.50 MB");
        check(250.0, "", "250");
        check(f64::NAN, "", "NaN");
    }

    #[test]
    fn intervals_share_the_unit() {
        let interval = |low, mid, high, unit| interval(&Interval { low, mid, high }, unit);
        assert_eq!(interval(1200.0, 1230.0, 1264.0, "ns"), "1.23 [1.20–1.26] µs");
        assert_eq!(interval(980.0, 1000.0, 1030.0, "ns"), "1.00 [0.98–1.03] µs");
        assert_eq!(interval(4.0, 4.0, 4.0, "calls"), "4.00 calls");
        assert_eq!(interval(0.8, 0.87, 0.9, ""), "0.870 [0.800–0.900]");
    }

    #[test]
    fn round_values_are_short() {
        let check = |value, unit, expected: &str| assert_eq!(round(value, unit), expected);
        check(10_000.0, "ns", "10 µs");
        check(100.0, "", "100");
        check(0.5, "", "0.5");
        check(2_000.0, "", "2 k");
        check(0.0, "ns", "0 ns");
        assert_eq!(percent(0.03), "3 %");
        assert_eq!(percent(0.005), "0.5 %");
    }

    #[test]
    fn times_are_readable() {
        let check = |seconds: u64, expected: &str| {
            assert_eq!(moment_unix_ms(seconds * 1000), expected);
        };
        check(0, "1970-01-01 00:00 UTC");
        check(951_782_400, "2000-02-29 00:00 UTC");
        check(1_735_689_599, "2024-12-31 23:59 UTC");
        check(1_772_323_200, "2026-03-01 00:00 UTC");
        assert_eq!(duration_ms(200_500), "3 min 20 s");
        assert_eq!(duration_ms(12_900), "12 s");
    }
}
