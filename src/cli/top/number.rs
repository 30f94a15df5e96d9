//! Numbers in few columns.

/// A count, a rate or a ratio, in at most five columns up to a thousand billions.
pub fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        _ if value >= 999_500_000.0 => (value / 1e9, "G"),
        _ if value >= 999_500.0 => (value / 1e6, "M"),
        _ if value >= 9_999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{unit}", digits(scaled, unit.is_empty()))
}

/// The same for a whole number, or a dash for one that is not known.
pub fn count(value: Option<u64>) -> String {
    value.map_or_else(|| "-".into(), |value| short(value as f64))
}

/// Bytes, in units of a thousand.
pub fn bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..=9_999 => format!("{bytes}B"),
        10_000..=999_499 => format!("{}kB", digits(value / 1e3, false)),
        999_500..=999_499_999 => format!("{}MB", digits(value / 1e6, false)),
        _ => format!("{}GB", digits(value / 1e9, false)),
    }
}

/// A span of time.
pub fn time_ms(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..=59 => format!("{:.1}s", ms as f64 / 1e3),
        60..=3_599 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..=86_399 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// A short span of time.
pub fn time_us(us: f64) -> String {
    match us {
        _ if us < 999.5 => format!("{}us", digits(us, true)),
        _ if us < 999_500.0 => format!("{}ms", digits(us / 1e3, false)),
        _ => time_ms((us / 1e3) as u64),
    }
}

/// The time of day in UTC, of milliseconds since 1970.
pub fn clock(unix_ms: u64) -> String {
    let s = unix_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3_600, s % 3_600 / 60, s % 60)
}

/// Three digits; fewer decimals for a number that is nearly whole, if it may be.
fn digits(value: f64, whole: bool) -> String {
    match value {
        _ if value >= 99.95 || (whole && value.fract() == 0.0) => format!("{value:.0}"),
        _ if value >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let cases = [0.0, 0.5, 7.0, 7.25, 99.94, 99.96, 9_999.0, 9_999.6, 123_456.0, 2.5e6, 7e9];
        let texts = cases.map(short);
        let expected =
            ["0", "0.50", "7", "7.25", "99.9", "100", "9999", "10.0k", "123k", "2.50M", "7.00G"];
        assert_eq!(texts, expected);
        assert_eq!(
            [0, 9_999, 10_000, 999_500, 64_000_000].map(bytes),
            ["0B", "9999B", "10.0kB", "1.00MB", "64.0MB"]
        );
        assert_eq!(bytes(1 << 40), "1100GB");
        assert_eq!(
            [0, 999, 1_000, 59_900, 61_000, 7_260_000, 90_000_000].map(time_ms),
            ["0ms", "999ms", "1.0s", "59.9s", "1m01s", "2h01m", "1d01h"]
        );
        assert_eq!(
            [7.0, 32.8, 1_500.0, 99_960.0, 2e6].map(time_us),
            ["7us", "32.8us", "1.50ms", "100ms", "2.0s"]
        );
        assert_eq!(clock(1_790_000_000_000), "14:13:20");
        assert_eq!((count(None), count(Some(3))), ("-".into(), "3".into()));
    }
}
