//! The `Date` of an answer (RFC 9110 §5.6.7, IMF-fixdate), without a calendar library.

use std::fmt;

/// Displays a count of seconds since 1970 as an HTTP date, always 29 bytes:
/// `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix_s: u64,
}

impl fmt::Display for HttpDate {
    #[allow(clippy::indexing_slicing, reason = "a remainder by 7, and a month from 1 to 12")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.unix_s / 86_400, self.unix_s % 86_400);
        let (year, month, day) = civil(days);
        write!(
            f,
            "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
            WEEKDAYS[(days % 7) as usize],
            MONTHS[month as usize],
            second / 3600,
            second / 60 % 60,
            second % 60,
        )
    }
}

impl HttpDate {
    /// The same moment as ISO 8601 writes it for names of files: `1994-11-06T084937Z`.
    pub fn in_a_file_name(self) -> String {
        let (days, second) = (self.unix_s / 86_400, self.unix_s % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        format!("{year:04}-{:02}-{day:02}T{hour:02}{minute:02}{:02}Z", month + 1, second % 60)
    }
}

/// Year, month (0 = January) and day of the `days`-th day since 1970-01-01.
///
/// Counted in years that begin on 1 March, so that the leap day is a year's last, and in eras of
/// 400 years, which all have the same number of days.
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    const DAYS_FROM_ERA_START: u64 = 719_468; // 0000-03-01 to 1970-01-01
    let day = days + DAYS_FROM_ERA_START;
    let (era, day) = (day / ERA_DAYS, day % ERA_DAYS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day + 2) / 153;
    let day = day - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let next_year = u64::from(month < 2);
    (era * 400 + year + next_year, month, day)
}

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // 1970-01-01 was a Thursday
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |unix_s, expected: &str| assert_eq!(HttpDate { unix_s }.to_string(), expected);
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(HttpDate { unix_s: 784_111_777 }.in_a_file_name(), "1994-11-06T084937Z");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT");
        check(1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(0);
        for days in 1..200_000 {
            let (year, month, day) = civil(days);
            let follows = if day > 1 {
                (year, month, day) == (last.0, last.1, last.2 + 1)
            } else if month > 0 {
                (year, month) == (last.0, last.1 + 1) && (28..=31).contains(&last.2)
            } else {
                (year, last.1, last.2) == (last.0 + 1, 11, 31)
            };
            assert!(follows, "{last:?} then {:?}", (year, month, day));
            last = (year, month, day);
        }
    }
}
