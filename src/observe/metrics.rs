//! The counters in the OpenMetrics text format.
//!
//! Labels are drawn from fixed lists only: the kind of a call, the reason of a close. A label per
//! topic, id or address would let whoever chooses those decide how much memory a monitoring
//! system needs.

use crate::observe::counters::{CloseReason, Counters, REFUSALS};
use crate::observe::histogram::Histogram;
use crate::observe::survey::Survey;
use crate::observe::verdict::Verdict;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// The media type of [`render`]'s text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The state of a server at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Everything that is counted.
    pub counters: Counters,
    /// Open connections, the admin listener's apart.
    pub connections: usize,
    /// Those of them that are streams.
    pub streams: usize,
    /// Those of them whose send buffer is full.
    pub blocked: usize,
    /// Topics.
    pub topics: usize,
    /// Bytes that the topics' logs have taken.
    pub log_bytes: usize,
    /// Events that they retain.
    pub log_events: u64,
    /// Bytes that the logs of all topics together may take.
    pub log_bytes_max: usize,
    /// Events that are no longer retained.
    pub events_evicted: u64,
    /// The server's clock, in nanoseconds.
    pub now_ns: u64,
    /// All streams.
    pub survey: Survey,
    /// Bytes that belong to single connections: answers, notices, rests of frames.
    pub private_bytes: usize,
    /// Processor time of the reactor's thread, in seconds.
    pub cpu_s: f64,
    /// Allocations of the reactor's thread; 0 if the program's allocator does not count.
    pub allocations: u64,
    /// [`outlet::lines_dropped`](super::outlet::lines_dropped).
    pub log_lines_dropped: u64,
    /// Resident memory of the process, in bytes.
    pub resident_bytes: u64,
}

/// The state in the OpenMetrics text format, `# EOF` included.
pub fn render(snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("pushv");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    let encoded = encode(&mut text, &registry);
    debug_assert!(encoded.is_ok(), "a String takes everything");
    text
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.write_path(&mut out)?;
        self.hub(&mut out)?;
        self.connections(&mut out)?;
        self.streams(&mut out)?;
        self.stamps(&mut out)?;
        self.process(&mut out)
    }
}

impl Snapshot {
    fn write_path(&self, out: &mut Out<'_>) -> fmt::Result {
        let write = &self.counters.write;
        let calls = [
            ("send", write.write_calls),
            ("writev", write.writev_calls),
            ("send_more", write.more_calls),
            ("cork", write.cork_calls),
        ];
        out.counters("write_calls", "System calls that write to streams", "call", calls)?;
        out.counter(
            "write_flushes",
            "Times that a connection with something to send was flushed",
            write.flushes,
        )?;
        out.bytes("write", "Bytes that the kernel took", write.bytes)?;
        out.bytes("write_copied", "Bytes copied in user space to be written", write.copied_bytes)?;
        out.counter("write_iovecs", "I/O vectors handed over by writev", write.iovecs)?;
        out.counter("write_frames", "Events taken off the logs for a subscriber", write.frames)?;
        let answers = &self.counters.answers;
        let help = "System calls that write answers, the admin listener's apart";
        out.counter("answer_calls", help, answers.data_calls() + answers.cork_calls)?;
        out.bytes("answer", "Bytes of answers that the kernel took", answers.bytes)?;
        let outcomes = [
            ("short", write.short_writes),
            ("would_block", write.would_block),
            ("interrupted", write.interrupted),
        ];
        out.counters(
            "write_incomplete",
            "Calls that took less than they were offered",
            "outcome",
            outcomes,
        )?;
        let frames_per_call = &self.counters.frames_per_call;
        out.histogram(
            "frames_per_call",
            "Events carried by a call that carried any",
            None,
            frames_per_call,
            1..13,
            1.0,
        )?;
        let help = "I/O vectors handed over by a flush that called writev, per call";
        let iovecs_per_call = &self.counters.iovecs_per_call;
        out.histogram("iovecs_per_call", help, None, iovecs_per_call, 1..12, 1.0)?;
        let latency = &self.counters.publish_to_kernel_ns;
        let help = "From publish to the return of the call that handed the oldest event of a flush to the kernel";
        out.histogram("publish_to_kernel", help, Some(&Unit::Seconds), latency, 10..35, 1e9)
    }

    fn hub(&self, out: &mut Out<'_>) -> fmt::Result {
        let counters = &self.counters;
        out.counter("events_published", "Events appended to logs", counters.published)?;
        out.bytes("events_published", "Bytes of their frames", counters.published_bytes)?;
        out.counter(
            "events_duplicate",
            "Publishes of an id that was there already",
            counters.duplicates,
        )?;
        out.counter(
            "events_refused",
            "Publishes that no log could take",
            counters.publishes_refused,
        )?;
        out.counter(
            "events_lost",
            "Events lost to slow readers, as far as counted",
            counters.events_lost,
        )?;
        out.counter(
            "events_evicted",
            "Events no longer retained: evicted by newer ones, or gone with their topics",
            self.events_evicted,
        )?;
        out.counter("gaps", "Gap notices written", counters.gaps)?;
        out.counter("heartbeats", "Heartbeats written", counters.heartbeats)?;
        out.counter(
            "topics_forgotten",
            "Topics forgotten because nobody used them",
            counters.topics_forgotten,
        )?;
        out.gauge("topics", "Topics", None, self.topics as u64)?;
        out.gauge(
            "log",
            "Bytes that the topics' logs have taken",
            Some(&Unit::Bytes),
            self.log_bytes as u64,
        )?;
        out.gauge(
            "log_max",
            "Bytes that the topics' logs may take",
            Some(&Unit::Bytes),
            self.log_bytes_max as u64,
        )?;
        out.gauge("log_events", "Events that the topics retain", None, self.log_events)
    }

    fn connections(&self, out: &mut Out<'_>) -> fmt::Result {
        let counters = &self.counters;
        out.gauge("connections", "Open connections", None, self.connections as u64)?;
        out.gauge("streams", "Subscribers' streams among them", None, self.streams as u64)?;
        out.gauge(
            "connections_blocked",
            "Connections whose send buffer is full",
            None,
            self.blocked as u64,
        )?;
        let help = "Bytes that belong to single connections";
        out.gauge("private", help, Some(&Unit::Bytes), self.private_bytes as u64)?;
        out.counter(
            "accepted",
            "Connections accepted, not counting the admin listener's",
            counters.accepted,
        )?;
        out.counter("over_limit", "Connections that were above a limit", counters.over_limit)?;
        out.counter(
            "dropped_at_accept",
            "Connections closed at accept",
            counters.dropped_at_accept,
        )?;
        out.counter(
            "accept_errors",
            "Calls of accept that failed for want of resources",
            counters.accept_errors,
        )?;
        out.counter(
            "requests",
            "Requests whose head was understood, not counting the admin listener's",
            counters.requests,
        )?;
        let refusals: [_; REFUSALS.len()] =
            std::array::from_fn(|at| (REFUSALS[at].1, counters.refusals[at]));
        out.counters("refusals", "Answers that refuse something", "status", refusals)?;
        out.counter("subscribed", "Streams that began", counters.subscribed)?;
        out.counter("read_calls", "Calls of read", counters.reads)?;
        out.bytes("read", "Bytes read", counters.read_bytes)?;
        out.counter("registrations", "Calls of epoll_ctl", counters.registrations)?;
        let closes = CloseReason::ALL.map(|reason| (reason.name(), counters.closes_of(reason)));
        out.counters("closes", "Connections ended", "reason", closes)
    }

    /// Streams as distributions: never one by one.
    fn streams(&self, out: &mut Out<'_>) -> fmt::Result {
        let survey = &self.survey;
        let streams = self.streams as u64;
        let help = "Events that a stream has still to get from the logs, over all streams";
        out.quantiles("lag_events", help, None, &survey.lag_events)?;
        let help = "Bytes that a stream has still to get from the logs, over all streams";
        out.quantiles("lag", help, Some(&Unit::Bytes), &survey.lag_bytes)?;
        let oldest_ns = survey.oldest_published_ns.map(|then| self.now_ns.saturating_sub(then));
        let help = "Age of the oldest event that some stream has still to get";
        out.gauge("lag_oldest", help, Some(&Unit::Seconds), oldest_ns.unwrap_or(0) as f64 / 1e9)?;
        let verdicts =
            Verdict::ALL.map(|verdict| (verdict.name(), survey.with_verdict(verdict, streams)));
        out.gauges("streams_by_verdict", "Streams by what holds them up", "verdict", verdicts)?;
        let each_bytes = survey.memory_per_stream_bytes().unwrap_or(0);
        let help = "The kernel's memory of the streams' sockets, estimated from some of them";
        out.gauge("kernel_memory", help, Some(&Unit::Bytes), each_bytes * streams)?;
        let help = "The same for one stream, on average";
        out.gauge("kernel_memory_per_stream", help, Some(&Unit::Bytes), each_bytes)?;
        let connections = (self.connections as u64).max(1);
        let help = "Resident memory of the process, divided by its connections";
        let resident_bytes = self.resident_bytes / connections;
        out.gauge("resident_per_connection", help, Some(&Unit::Bytes), resident_bytes)?;
        let spread = &self.counters.fanout_spread_ns;
        let help = "From the first to the last subscriber that was offered an event";
        out.histogram("fanout_spread", help, Some(&Unit::Seconds), spread, 10..35, 1e9)?;
        let help = "Times that the kernel was asked about a stream in passing";
        out.counter("observations", help, self.counters.observations)?;
        let help = "Stalls by Nagle's algorithm that the sweep or a stamp has found, each once";
        out.counter("nagle_stalls", help, self.counters.nagle_stalls)
    }

    /// What the kernel's stamps of single calls have told, with `timestamp_one_in`.
    fn stamps(&self, out: &mut Out<'_>) -> fmt::Result {
        let stamps = &self.counters.stamps;
        let outcomes = [("taken", stamps.taken), ("lost", stamps.lost)];
        out.counters("timestamps", "Calls stamped by the kernel", "outcome", outcomes)?;
        let histograms = [
            ("publish_to_write", "From publish to the call", &stamps.publish_to_write_ns),
            (
                "write_to_scheduled",
                "From the call to the packet scheduler",
                &stamps.write_to_scheduled_ns,
            ),
            ("write_to_sent", "From the call to the device", &stamps.write_to_sent_ns),
            (
                "write_to_ack",
                "From the call to the acknowledgement by the peer's kernel",
                &stamps.write_to_ack_ns,
            ),
            (
                "publish_to_ack",
                "From publish to the acknowledgement by the peer's kernel",
                &stamps.publish_to_ack_ns,
            ),
        ];
        for (name, help, histogram) in histograms {
            let help = format!("{help}, of stamped calls");
            out.histogram(name, &help, Some(&Unit::Seconds), histogram, 10..35, 1e9)?;
        }
        Ok(())
    }

    fn process(&self, out: &mut Out<'_>) -> fmt::Result {
        let turns = &self.counters.turns;
        out.counter("turns", "Turns of the loop", turns.turns)?;
        out.counter("readiness_events", "Readiness events", turns.events)?;
        out.counter(
            "stale_events",
            "Readiness events for a connection that was gone",
            turns.stale_events,
        )?;
        out.counter("unblocked", "Blocked connections that became writable", turns.unblocked)?;
        out.counter(
            "slices_cut",
            "Flush slices that ended because their time was up",
            turns.slices_cut,
        )?;
        out.counter("stalls", "Turns of the loop that took longer than 50 ms", turns.stalls)?;
        let help = "Time from one poll's return to the next poll";
        out.histogram("turn", help, Some(&Unit::Seconds), &turns.turn_ns, 10..35, 1e9)?;
        let help = "Processor time of the reactor's thread; on loopback this contains the receivers' kernel half";
        out.counter_of("cpu", help, Some(&Unit::Seconds), self.cpu_s)?;
        let help = "Allocations of the reactor's thread; 0 if nobody counts them";
        out.counter("allocations", help, self.allocations)?;
        let help = "Lines of the log that standard error did not take at once";
        out.counter("log_lines_dropped", help, self.log_lines_dropped)?;
        out.gauge(
            "resident",
            "Resident memory of the process",
            Some(&Unit::Bytes),
            self.resident_bytes,
        )
    }
}

/// The encoder, in the few forms that are used here.
struct Out<'e>(DescriptorEncoder<'e>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counter_of(name, help, None, value)
    }

    fn bytes(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counter_of(name, help, Some(&Unit::Bytes), value)
    }

    fn counter_of(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value_of_label, value) in values {
            let labels = [(label, value_of_label)];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value_of_label, value) in values {
            let labels = [(label, value_of_label)];
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A distribution at one moment, as gauges: it is no sum over time, so it is no histogram, and no
    /// summary, whose label `quantile` would be.
    fn quantiles(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        histogram: &Histogram,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (text, quantile) in [("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("worst", 1.0)] {
            let labels = [("stream", text)];
            family.encode_family(&labels)?.encode_gauge(&histogram.quantile(quantile))?;
        }
        Ok(())
    }

    /// Buckets end just below powers of two, where the histogram's own buckets end too, so the
    /// counts are exact.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        histogram: &Histogram,
        powers: std::ops::Range<u32>,
        scale: f64,
    ) -> fmt::Result {
        let mut before = 0;
        let mut buckets: Vec<(f64, u64)> = powers
            .map(|power| {
                let limit = (1u64 << power) - 1;
                let up_to = histogram.count_up_to(limit);
                let here = up_to - std::mem::replace(&mut before, up_to);
                (limit as f64 / scale, here)
            })
            .collect();
        buckets.push((f64::INFINITY, histogram.count() - before));
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        let sum = histogram.sum() as f64 / scale;
        metric.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_open_metrics() {
        let mut snapshot = Snapshot { connections: 3, cpu_s: 1.5, ..Snapshot::default() };
        snapshot.counters.write.writev_calls = 7;
        (0..2).for_each(|_| snapshot.counters.note_close(CloseReason::Stalled));
        for ns in [900, 1_500, 1_000_000] {
            snapshot.counters.publish_to_kernel_ns.record(ns);
        }
        let text = render(snapshot);
        for line in [
            "# TYPE pushv_write_calls counter",
            "pushv_write_calls_total{call=\"writev\"} 7",
            "pushv_closes_total{reason=\"stalled\"} 2",
            "pushv_connections 3",
            "# UNIT pushv_cpu_seconds seconds",
            "pushv_cpu_seconds_total 1.5",
            "pushv_publish_to_kernel_seconds_count 3",
            "pushv_publish_to_kernel_seconds_bucket{le=\"0.000001023\"} 1",
            "pushv_publish_to_kernel_seconds_bucket{le=\"+Inf\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        check_buckets(&text);
    }

    /// Cumulative counts never fall, and the last one is the count.
    fn check_buckets(text: &str) {
        let counts: Vec<u64> = text
            .lines()
            .filter(|line| line.starts_with("pushv_publish_to_kernel_seconds_bucket"))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(counts.is_sorted() && counts.last() == Some(&3), "{counts:?}");
    }
}
