//! `/live`: the server's own state as an event stream, five times a second while somebody listens.
//!
//! It is served by the server itself: a topic of the hub that no public name can reach, whose
//! subscribers come through the admin listener. What it sends counts as the admin listener's, so that
//! looking does not change what is seen.

use super::body::Exchange;
use super::connection::{ConnectionKey, Door};
use super::inspect::Sort;
use super::{Platform, Server};
use crate::config::{Config, Overrides, TopicChange, knobs};
use crate::observe::counters::{CloseReason, Counters};
use crate::observe::histogram::Histogram;
use crate::observe::survey::Survey;
use crate::observe::verdict::Verdict;
use crate::push::hub::Position;
use crate::push::log::Bounds;
use crate::push::topics::TopicKey;
use crate::wire::event::Event;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;

/// The state of `/live`.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Its topic, once a viewer has asked for it. It is internal, so it is never forgotten.
    topic: Option<TopicKey>,
    next_ns: u64,
    /// The distributions as they were when it was last sent, and when that was. `None` at the first
    /// time since somebody listens.
    before: Option<(u64, Box<Distributions>)>,
    /// Changes of knobs, the oldest first, at most [`FLIPS_MAX`].
    flips: VecDeque<Flip>,
}

/// A change of a knob.
#[derive(Debug)]
struct Flip {
    at_ms: u64,
    unix_ms: u64,
    knob: String,
    from: String,
    to: String,
}

/// The distributions of which `/live` shows what an interval has added.
#[derive(Debug, Clone, Default)]
struct Distributions {
    publish_to_kernel_ns: Histogram,
    publish_to_ack_ns: Histogram,
    fanout_spread_ns: Histogram,
    turn_ns: Histogram,
}

impl Distributions {
    fn of(counters: &Counters) -> Distributions {
        Distributions {
            publish_to_kernel_ns: counters.publish_to_kernel_ns.clone(),
            publish_to_ack_ns: counters.stamps.publish_to_ack_ns.clone(),
            fanout_spread_ns: counters.fanout_spread_ns.clone(),
            turn_ns: counters.turns.turn_ns.clone(),
        }
    }

    fn since(&self, before: &Distributions) -> Value {
        let show = |now: &Histogram, before: &Histogram| match now.since(before) {
            added if added.count() == 0 => Value::Null,
            added => json!({
                "count": added.count(),
                "p50": micros(added.quantile(0.5)),
                "p99": micros(added.quantile(0.99)),
                "max": micros(added.max()),
            }),
        };
        json!({
            "publish_to_kernel": show(&self.publish_to_kernel_ns, &before.publish_to_kernel_ns),
            "publish_to_ack": show(&self.publish_to_ack_ns, &before.publish_to_ack_ns),
            "fanout_spread": show(&self.fanout_spread_ns, &before.fanout_spread_ns),
            "turn": show(&self.turn_ns, &before.turn_ns),
        })
    }
}

impl<P: Platform> Server<P> {
    /// Makes a connection of the admin listener a stream of `/live`.
    pub(super) fn subscribe_live(&mut self, key: ConnectionKey, exchange: &Exchange) {
        if exchange.head_only {
            self.write_stream_head(key, exchange, None);
            return self.answered(key, exchange);
        }
        let topic = self.hub.internal_topic(TOPIC, self.now_ns);
        self.live.topic = Some(topic);
        if self.next_live_ns().is_none() {
            // It is the only one. What happened before it came is not the last interval's.
            self.live.before = None;
        }
        let overrun = self.deliveries.base().overrun;
        let resumption = self.hub.resume(&[topic], Position::Latest, overrun);
        self.begin_stream(key, exchange, &[topic], &resumption);
        // The first one at once.
        self.live.next_ns = self.now_ns;
    }

    /// When the next event of `/live` is due.
    pub(super) fn next_live_ns(&self) -> Option<u64> {
        let topic = self.live.topic?;
        let listened_to = !self.hub.topics()[topic].fanout.is_empty();
        listened_to.then_some(self.live.next_ns)
    }

    /// Publishes the state, if that is due.
    pub(super) fn feed_live(&mut self) {
        let (Some(due_ns), Some(topic)) = (self.next_live_ns(), self.live.topic) else { return };
        if self.now_ns < due_ns {
            return;
        }
        // After a pause, one and not those that were missed.
        self.live.next_ns = (due_ns + INTERVAL_NS).max(self.now_ns + INTERVAL_NS / 2);
        let data = self.show_live().to_string();
        let event = Event { id: None, name: Some("live"), retry_ms: None, data: &data };
        let published = self.hub.publish(topic, &event, self.now_ns, LOG_BOUNDS);
        if published.is_ok() {
            // Whatever flush policy holds back the others.
            self.begin_pass(topic);
        }
    }

    fn show_live(&mut self) -> Value {
        let distributions = Distributions::of(&self.counters);
        let before = self.live.before.take();
        let (before_ns, before) =
            before.unwrap_or_else(|| (self.now_ns, Box::new(distributions.clone())));
        let latency_us = distributions.since(&before);
        self.live.before = Some((self.now_ns, Box::new(distributions)));
        let survey = self.survey();
        let (streams, worst) = self.show_streams(Sort::Lag, WORST, None);
        json!({
            "epoch": self.hub.epoch().to_string(),
            "at_ms": (self.now_ns - self.started_ns) / 1_000_000,
            "unix_ms": self.platform.unix_ns() / 1_000_000,
            "interval_ms": (self.now_ns - before_ns) / 1_000_000,
            "counters": show_counters(&self.counters, self.hub.evicted_events()),
            "latency_us": latency_us,
            "lag": self.show_lag(&survey),
            "connections": self.admission.public(),
            "streams": streams,
            "blocked": self.blocked_count(),
            "topics": self.hub.topics().public_len(),
            "verdicts": Verdict::ALL
                .map(|verdict| (verdict.name().to_owned(), survey.with_verdict(verdict, streams as u64).into()))
                .into_iter()
                .collect::<Map<String, Value>>(),
            "memory": {
                "resident_bytes": self.platform.usage().resident_bytes,
                "kernel_bytes": survey.memory_per_stream_bytes().map(|bytes| bytes * streams as u64),
                "log_bytes": self.hub.memory().used_bytes,
                "logs_bytes_max": self.config.limits.logs_bytes_max,
            },
            "knobs": SHOWN_KNOBS
                .iter()
                .filter_map(|name| knobs::find(name).ok())
                .map(|knob| super::admin::shown(knob, &self.config))
                .collect::<Map<String, Value>>(),
            "flips": self.live.flips.iter().map(show_flip).collect::<Vec<_>>(),
            "worst": worst,
        })
    }

    fn blocked_count(&self) -> usize {
        let public = self.connections.iter().filter(|(_, one)| one.door == Door::Public);
        public.filter(|(_, connection)| connection.blocked).count()
    }

    fn show_lag(&self, survey: &Survey) -> Value {
        let show = |histogram: &Histogram| {
            json!({
                "p50": histogram.quantile(0.5),
                "p99": histogram.quantile(0.99),
                "max": histogram.max(),
            })
        };
        let age_ms = |published_ns: u64| self.now_ns.saturating_sub(published_ns) / 1_000_000;
        json!({
            "events": show(&survey.lag_events),
            "bytes": show(&survey.lag_bytes),
            "oldest_ms": survey.oldest_published_ns.map(age_ms),
        })
    }

    /// Notes in what the configuration is about to change. Of many topics whose knobs `changes` at once,
    /// as by a reload, [`FLIPS_MAX`] are shown.
    pub(super) fn note_flips(&mut self, config: &Config, changes: &[TopicChange]) {
        let at_ms = (self.now_ns - self.started_ns) / 1_000_000;
        let unix_ms = self.platform.unix_ns() / 1_000_000;
        let of_knobs = knobs::differences(&self.config, config).map(|(knob, to)| {
            (knob.name.to_owned(), knob.show(&self.config).to_string(), to.to_string())
        });
        let of_topics = changes.iter().take(FLIPS_MAX).map(|change| {
            let [from, to] = [&change.from, &change.to].map(|own| show_own(own.as_deref()));
            (format!("topic {}", change.topic), from, to)
        });
        for (knob, from, to) in of_knobs.chain(of_topics) {
            if self.live.flips.len() == FLIPS_MAX {
                self.live.flips.pop_front();
            }
            let [knob, from, to] = [knob, from, to].map(cut);
            self.live.flips.push_back(Flip { at_ms, unix_ms, knob, from, to });
        }
    }
}

/// A text of at most [`FLIP_CHARS_MAX`] characters. A list of origins may be longer than an event of
/// `/live` can be.
fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(FLIP_CHARS_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// A topic's own knobs, as text.
fn show_own(own: Option<&Overrides>) -> String {
    let all = own.into_iter().flatten().map(|(name, value)| format!("{name}={value}"));
    all.collect::<Vec<_>>().join(" ")
}

fn show_counters(counters: &Counters, evicted: u64) -> Value {
    let write = &counters.write;
    let closes = CloseReason::ALL
        .map(|reason| (reason.name().to_owned(), counters.closes_of(reason).into()));
    json!({
        "published": counters.published,
        "deliveries": write.frames,
        "flushes": write.flushes,
        "calls": {
            "send": write.write_calls,
            "writev": write.writev_calls,
            "send_more": write.more_calls,
            "cork": write.cork_calls,
        },
        "bytes": write.bytes,
        "iovecs": write.iovecs,
        "short_writes": write.short_writes,
        "would_block": write.would_block,
        "reads": counters.reads,
        "turns": counters.turns.turns,
        "accepted": counters.accepted,
        "subscribed": counters.subscribed,
        "gaps": counters.gaps,
        "lost": counters.events_lost,
        "evicted": evicted,
        "heartbeats": counters.heartbeats,
        "nagle_stalls": counters.nagle_stalls,
        "closes": closes.into_iter().collect::<Map<String, Value>>(),
    })
}

fn show_flip(flip: &Flip) -> Value {
    json!({
        "at_ms": flip.at_ms,
        "unix_ms": flip.unix_ms,
        "knob": flip.knob,
        "from": flip.from,
        "to": flip.to,
    })
}

/// Nanoseconds as microseconds, to a tenth.
fn micros(ns: u64) -> f64 {
    (ns as f64 / 100.0).round() / 10.0
}

/// The topic's name holds a control character, which no public one may.
pub(super) const TOPIC: &str = "\u{1}live";
const INTERVAL_NS: u64 = 200_000_000;
const WORST: usize = 8;
const FLIPS_MAX: usize = 32;
const FLIP_CHARS_MAX: usize = 300;
/// Three seconds, for a listener that falls behind; and room for the largest state there can be.
const LOG_BOUNDS: Bounds = Bounds { bytes_max: 512 << 10, frames_max: 16 };
/// The knobs that the live page offers, or shows.
const SHOWN_KNOBS: [&str; 9] = [
    "write_path",
    "flush_policy",
    "overrun",
    "tcp_nodelay",
    "so_sndbuf_bytes",
    "tcp_notsent_lowat_bytes",
    "stall_timeout_ms",
    "timestamp_one_in",
    "observe_ms",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::knobs::KNOBS;

    #[test]
    fn every_knob_that_is_shown_exists() {
        for name in SHOWN_KNOBS {
            assert!(KNOBS.iter().any(|knob| knob.name == name), "{name}");
        }
    }

    #[test]
    fn an_interval_shows_what_it_added() {
        let mut counters = Counters::default();
        counters.publish_to_kernel_ns.record(1_000_000);
        let before = Distributions::of(&counters);
        counters.publish_to_kernel_ns.record(2_000);
        let shown = Distributions::of(&counters).since(&before);
        assert_eq!(shown["publish_to_kernel"]["count"], 1);
        assert!(shown["publish_to_kernel"]["p50"].as_f64().unwrap() < 2.5);
        assert!(shown["turn"].is_null());
    }

    /// The longest texts of flips, each character escaped to six bytes, leave room in an event.
    #[test]
    fn flips_fit_into_an_event() {
        assert_eq!(cut("short".into()), "short");
        let longest = cut("\u{1}".repeat(10_000));
        assert_eq!(longest.chars().count(), FLIP_CHARS_MAX + 1);
        let escaped = json!([longest, longest, longest]).to_string().len() * FLIPS_MAX;
        assert!(escaped < LOG_BOUNDS.bytes_max / 2, "{escaped}");
    }
}
