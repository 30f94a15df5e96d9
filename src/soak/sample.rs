//! How the server is at one moment, as a line of JSON.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One sample. Counters count from the server's start; what is called a share or a quantile is of
/// the time since the sample before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the sampler began.
    pub t_s: u64,
    /// Open descriptors of the process.
    pub descriptors: u64,
    /// Its resident memory, in bytes.
    pub resident_bytes: u64,
    /// TCP sockets of the whole network namespace, and the pages of memory that the kernel has
    /// given all TCP sockets of the machine, in bytes (`/proc/net/sockstat`).
    pub tcp_sockets: u64,
    /// See `tcp_sockets`.
    pub tcp_bytes: u64,
    /// Open connections, the admin listener's apart.
    pub connections: u64,
    /// Streams among them whose send buffer is full.
    pub blocked: u64,
    /// Bytes of all topics' logs.
    pub log_bytes: u64,
    /// Bytes that belong to single connections.
    pub private_bytes: u64,
    /// Events published.
    pub published: u64,
    /// Events handed over to subscribers.
    pub delivered: u64,
    /// Gap notices written.
    pub gaps: u64,
    /// Events that readers lost by being slow, as far as counted.
    pub lost: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that could not be accepted, or were closed at once for want of room.
    pub not_accepted: u64,
    /// Connections ended, by reason; reasons that have not been seen are left out.
    pub closes: BTreeMap<String, u64>,
    /// Processor time of the server's loop, as a part of one processor.
    pub cpu_share: f64,
    /// How many processes of the machine wanted to run, on average over a minute (`/proc/loadavg`).
    pub machine_load: f64,
    /// Probes: events published so far, and received.
    pub probes_sent: u64,
    /// See `probes_sent`.
    pub probes_received: u64,
    /// Probes that the server has not accepted.
    pub probes_refused: u64,
    /// From the moment at which a probe was to be published to the one at which it was read, of
    /// the probes of this interval: in microseconds. 0 without any.
    pub probe_p50_us: u64,
    /// See `probe_p50_us`.
    pub probe_p99_us: u64,
    /// See `probe_p50_us`.
    pub probe_max_us: u64,
}

impl Sample {
    /// Takes from the server's metrics (names with labels) what it says of itself.
    pub fn take_metrics(&mut self, metrics: &BTreeMap<String, f64>) {
        let value = |name: &str| metrics.get(name).copied().unwrap_or(0.0) as u64;
        self.connections = value("pushv_connections");
        self.blocked = value("pushv_connections_blocked");
        self.log_bytes = value("pushv_log_bytes");
        self.private_bytes = value("pushv_private_bytes");
        self.published = value("pushv_events_published_total");
        self.delivered = value("pushv_write_frames_total");
        self.gaps = value("pushv_gaps_total");
        self.lost = value("pushv_events_lost_total");
        self.accepted = value("pushv_accepted_total");
        self.not_accepted =
            value("pushv_dropped_at_accept_total") + value("pushv_accept_errors_total");
        let closes = metrics.iter().filter_map(|(name, &count)| {
            let reason = name.strip_prefix("pushv_closes_total{reason=\"")?.strip_suffix("\"}")?;
            (count > 0.0).then(|| (reason.to_string(), count as u64))
        });
        self.closes = closes.collect();
    }

    /// Takes what `/proc/net/sockstat` says: `TCP: inuse 27 orphan 0 tw 2 alloc 29 mem 3`.
    pub fn take_sockstat(&mut self, text: &str, page_bytes: u64) {
        let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |name: &str| {
            let found = words.chunks(2).find(|pair| pair[0] == name);
            found.and_then(|pair| pair.get(1)?.parse::<u64>().ok()).unwrap_or(0)
        };
        self.tcp_sockets = value("inuse");
        self.tcp_bytes = value("mem") * page_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::counters::CloseReason;

    /// The names of metrics are those that the server uses.
    #[cfg(feature = "admin")]
    #[test]
    fn metrics_are_taken_from_what_the_server_prints() {
        use crate::observe::metrics::{Snapshot, render};
        let mut snapshot =
            Snapshot { connections: 1, blocked: 2, log_bytes: 3, ..Snapshot::default() };
        snapshot.private_bytes = 4;
        let counters = &mut snapshot.counters;
        (counters.published, counters.write.frames, counters.gaps) = (5, 6, 7);
        (counters.events_lost, counters.accepted) = (8, 9);
        (counters.dropped_at_accept, counters.accept_errors) = (10, 11);
        (0..12).for_each(|_| counters.note_close(CloseReason::Stalled));
        let metrics = crate::load::server_side::metrics(&render(snapshot));
        let mut sample = Sample::default();
        sample.take_metrics(&metrics);
        let expected = Sample {
            connections: 1,
            blocked: 2,
            log_bytes: 3,
            private_bytes: 4,
            published: 5,
            delivered: 6,
            gaps: 7,
            lost: 8,
            accepted: 9,
            not_accepted: 21,
            closes: [("stalled".to_string(), 12)].into(),
            ..Sample::default()
        };
        assert_eq!(sample, expected);
    }

    #[test]
    fn the_kernels_account_of_sockets_is_read() {
        let mut sample = Sample::default();
        sample.take_sockstat(
            "sockets: used 99\nTCP: inuse 27 orphan 1 tw 2 alloc 29 mem 3\nUDP: inuse 5 mem 6\n",
            4096,
        );
        assert_eq!((sample.tcp_sockets, sample.tcp_bytes), (27, 12_288));
        sample.take_sockstat("", 4096);
        assert_eq!(sample.tcp_sockets, 0);
    }

    #[test]
    fn a_line_is_short_and_reads_back() {
        let mut sample = Sample { t_s: 86_400, resident_bytes: 1 << 30, ..Sample::default() };
        sample.closes = CloseReason::ALL.map(|reason| (reason.name().into(), 123_456)).into();
        let line = serde_json::to_string(&sample).unwrap();
        assert!(line.len() < 850, "{} bytes", line.len());
        assert_eq!(serde_json::from_str::<Sample>(&line).unwrap(), sample);
    }
}
