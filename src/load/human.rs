//! A report as people read it.

use super::plan::Reader;
use super::report::{Client, Connections, Deliveries, Published, Report, Server};
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connections.fmt(f)?;
        if let Some(published) = &self.published {
            published.fmt(f)?;
        }
        self.deliveries.fmt(f)?;
        let times = [
            ("latency", &self.latency_ns),
            ("spread", &self.spread_ns),
            ("between events", &self.interarrival_ns),
            ("connecting", &self.connections.connect_ns),
            ("sent late by", &self.published.as_ref().and_then(|p| p.lateness_ns)),
        ];
        writeln!(
            f,
            "\n{:>15} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, times) in times {
            let Some(times) = times else { continue };
            let values = [times.p50, times.p90, times.p99, times.p999, times.max].map(Time);
            write!(f, "{name:>15}")?;
            values.iter().try_for_each(|value| write!(f, " {:>10}", value.to_string()))?;
            writeln!(f)?;
        }
        writeln!(f)?;
        self.client.fmt(f)?;
        if let Some(server) = &self.server {
            server.fmt(f)?;
        }
        self.write_verdict(f)
    }
}

impl Report {
    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offences = &self.offences;
        if offences.count() > 0 {
            writeln!(
                f,
                "offences: {} missing, {} repeated, {} out of order, {} altered, {} malformed, \
                 {} misreported",
                offences.missing,
                offences.repeated,
                offences.reordered,
                offences.altered,
                offences.malformed,
                offences.misreported
            )?;
        }
        if let Some(first) = &self.first_offence {
            writeln!(f, "the first: {first}")?;
        }
        write!(f, "verdict: {}", self.verdict)?;
        let checked = self.published.is_some() && self.reader != Reader::Never.to_string();
        match (self.verdict, checked) {
            ("ok", true) => writeln!(f, ", every event of every subscriber was checked"),
            _ => writeln!(f),
        }
    }
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} streams open", self.open, self.wanted)?;
        write!(f, ", opened at {:.0} per second", self.per_s)?;
        let counts = [
            (self.lost, "lost"),
            (self.reconnected, "opened again"),
            (self.away, "away at the end"),
        ];
        for (count, what) in counts {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if let Some(why) = self.first_failure.as_ref().filter(|_| self.failed + self.lost > 0) {
            write!(f, "; the first loss: {why}")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events published, {} accepted", self.events, self.accepted)?;
        for (count, what) in [(self.refused, "refused"), (self.unanswered, "not answered")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if let Some(why) = &self.first_refusal {
            write!(f, "; {why}")?;
        }
        if let Some(planned) = self.planned.filter(|_| self.unpublished > 0) {
            write!(
                f,
                "\n{} of {planned} planned events were never published: latency and spread leave them \
                 out, \"sent late by\" has them with the time that they had waited",
                self.unpublished
            )?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 && self.gaps + self.unchecked == 0 {
            return writeln!(f, "no event was received");
        }
        write!(
            f,
            "{} deliveries, {:.0} per second, {:.1} events per read, {} bytes",
            self.count, self.per_s, self.events_per_read, self.bytes
        )?;
        if self.gaps > 0 {
            write!(f, "; {} gap notices told of {} lost events", self.gaps, self.told_lost)?;
        }
        if self.unchecked > 0 {
            write!(
                f,
                "; {} could not be checked: their subscribers had no stream, or no id to come back with",
                self.unchecked
            )?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<String> =
            self.cpu_shares.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
        writeln!(
            f,
            "generator: {} of a processor, {} per delivery",
            shares.join(" + "),
            Time(self.cpu_per_delivery_ns as u64)
        )?;
        if self.was_the_limit {
            writeln!(f, "the client was the limit: these figures are its own, not the server's")?;
        }
        Ok(())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server:")?;
        let time = |ns: f64| Time(ns as u64);
        if let Some(ns) = self.cpu_per_delivery_ns {
            write!(f, " {} of CPU per delivery", time(ns))?;
        }
        if let Some((user, system)) = self.user_per_delivery_ns.zip(self.system_per_delivery_ns) {
            write!(f, " ({} user, {} system)", time(user), time(system))?;
        }
        if let Some(share) = self.cpu_share {
            write!(f, ", {:.0} % of a processor", share * 100.0)?;
        }
        if let Some(bytes) = self.resident_bytes_per_connection {
            write!(f, ", {bytes:.0} bytes resident per connection")?;
        }
        writeln!(f)
    }
}

/// A time in the unit in which it is best read.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{ns} ns"),
            1_000..1_000_000 => write!(f, "{:.1} µs", ns / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.2} ms", ns / 1e6),
            _ => write!(f, "{:.2} s", ns / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        let check = |ns, expected: &str| assert_eq!(Time(ns).to_string(), expected);
        check(0, "0 ns");
        check(999, "999 ns");
        check(1_500, "1.5 µs");
        check(2_340_000, "2.34 ms");
        check(61_000_000_000, "61.00 s");
    }
}
