//! All streams at one moment, as distributions.

use crate::observe::histogram::Histogram;
use crate::observe::ladder::Rung;
use crate::observe::verdict::Verdict;

/// What is found by going through the streams once.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Streams that were gone through.
    pub streams: u64,
    /// Events that each has still to get from its logs.
    pub lag_events: Histogram,
    /// Their bytes, framing included.
    pub lag_bytes: Histogram,
    /// When the oldest event of any was published, in nanoseconds of the server's clock.
    pub oldest_published_ns: Option<u64>,
    /// Streams by [`Verdict`].
    pub verdicts: [u64; Verdict::ALL.len()],
    /// Streams that the kernel was asked about for their memory,
    pub memory_asked: u64,
    /// and its memory of those, in bytes.
    pub memory_bytes: u64,
}

impl Survey {
    /// Adds a stream.
    pub fn add(&mut self, behind: Rung, oldest_published_ns: Option<u64>, verdict: Verdict) {
        self.streams += 1;
        self.lag_events.record(behind.events.unwrap_or(0));
        self.lag_bytes.record(behind.bytes);
        self.verdicts[verdict as usize] += 1;
        if let Some(published_ns) = oldest_published_ns {
            let oldest_ns = self.oldest_published_ns.unwrap_or(published_ns);
            self.oldest_published_ns = Some(oldest_ns.min(published_ns));
        }
    }

    /// The kernel's memory per stream, in bytes; `None` if it did not tell of any.
    pub fn memory_per_stream_bytes(&self) -> Option<u64> {
        self.memory_bytes.checked_div(self.memory_asked)
    }

    /// How many of `all` streams have this verdict: as counted, or scaled up if only a part was gone
    /// through.
    pub fn with_verdict(&self, verdict: Verdict, all: u64) -> u64 {
        let counted = self.verdicts[verdict as usize];
        let scaled = u128::from(counted) * u128::from(all);
        scaled.checked_div(u128::from(self.streams)).map_or(0, |scaled| scaled as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_add_up() {
        let mut survey = Survey::default();
        let rung = |events, bytes| Rung { events: Some(events), bytes };
        survey.add(rung(0, 0), None, Verdict::Idle);
        survey.add(rung(5, 500), Some(70), Verdict::NotReading);
        survey.add(rung(2, 200), Some(90), Verdict::NotReading);
        assert_eq!(survey.oldest_published_ns, Some(70));
        assert_eq!((survey.lag_events.max(), survey.lag_bytes.quantile(0.5)), (5, 207));
        assert_eq!(survey.with_verdict(Verdict::NotReading, 3), 2);
        assert_eq!(survey.with_verdict(Verdict::NotReading, 30), 20);
        assert_eq!(Survey::default().with_verdict(Verdict::Idle, 0), 0);
        assert_eq!(survey.memory_per_stream_bytes(), None);
    }
}
