//! The table of knobs: one row for each setting that has a name.
//!
//! Flags (`--heartbeat-ms`), environment variables (`PUSHV_HEARTBEAT_MS`), keys of the
//! configuration file (`heartbeat_ms`) and keys of `/knobs` on the admin listener are all read off
//! this table, and so is the page `docs/KNOBS.md`.

use super::Config;
pub use super::value::Shown;
use super::value::Value;
use std::fmt;

/// One setting.
pub struct Knob {
    /// Its name, with its unit at the end.
    pub name: &'static str,
    /// When and where it can be set.
    pub scope: Scope,
    /// The heading under which it is listed.
    pub group: Group,
    /// The values it takes, for a reader.
    pub values: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
    show: fn(&Config) -> Shown,
    set: fn(&mut Config, &str) -> Result<(), String>,
    copy: fn(&Config, &mut Config),
}

/// When and where a knob can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// At start only.
    Start,
    /// At start, and when the configuration is read again.
    Reload,
    /// While the server runs.
    Live,
    /// While the server runs, for all topics or for one.
    Topic,
}

/// Headings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Group {
    Listening,
    Access,
    Feeds,
    Delivery,
    Sockets,
    Limits,
    Times,
    Turns,
    Observing,
    Adaptive,
}

impl Group {
    /// The heading's text.
    pub fn title(self) -> &'static str {
        match self {
            Group::Listening => "Listening",
            Group::Access => "Access",
            Group::Feeds => "Feeds",
            Group::Delivery => "Delivery",
            Group::Sockets => "Sockets",
            Group::Limits => "Limits",
            Group::Times => "Life cycle",
            Group::Turns => "The loop",
            Group::Observing => "Observing",
            Group::Adaptive => "Flush policy `adaptive`",
        }
    }
}

impl Knob {
    /// Its value in `config`.
    pub fn show(&self, config: &Config) -> Shown {
        (self.show)(config)
    }

    /// Sets it in `config`.
    ///
    /// # Errors
    /// What is wrong with `text`, with the knob's name; `config` is as before.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        (self.set)(config, text.trim()).map_err(|why| format!("{}: {why}", self.name))
    }

    /// Gives it in `to` the value that it has in `from`.
    pub fn copy(&self, from: &Config, to: &mut Config) {
        (self.copy)(from, to);
    }

    /// Its flag, with the dashes.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("PUSHV_{}", self.name.to_uppercase())
    }
}

impl fmt::Debug for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Knob").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The knob of that name.
///
/// # Errors
/// That there is none, naming the nearest.
pub fn find(name: &str) -> Result<&'static Knob, String> {
    KNOBS.iter().find(|knob| knob.name == name).ok_or_else(|| {
        let nearest = nearest(name, KNOBS.iter().map(|knob| knob.name));
        let hint = nearest.map(|nearest| format!("; did you mean {nearest}?"));
        format!("there is no knob {name:?}{}", hint.unwrap_or_default())
    })
}

/// Which of `names` was probably meant by `wrong`.
pub fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // A name that is no name, however long, is not compared at length.
    let wrong: Vec<u8> = wrong.bytes().take(100).collect();
    let edits = |name: &&str| edits(&wrong, name.as_bytes());
    // A slip, a beginning, or a part: with less in common it would be a guess at random.
    let near = |name: &&str| {
        let common = wrong.iter().zip(name.bytes()).take_while(|(a, b)| **a == *b).count();
        edits(name) <= name.len() / 3
            || (common >= 3 && common * 2 >= name.len().min(wrong.len()))
            || (wrong.len() >= 4 && name.as_bytes().windows(wrong.len()).any(|part| part == wrong))
    };
    names.into_iter().filter(near).min_by_key(edits)
}

/// How many bytes must be put in, left out or replaced to make one text of the other (Levenshtein).
fn edits(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (nth, byte) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], nth + 1);
        for (at, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(byte != other);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[to.len()]
}

/// The settings by which two configurations differ, with the value that each has in `after`.
pub fn differences<'c>(
    before: &'c Config,
    after: &'c Config,
) -> impl Iterator<Item = (&'static Knob, Shown)> + 'c {
    KNOBS.iter().filter_map(|knob| {
        let value = knob.show(after);
        (knob.show(before) != value).then_some((knob, value))
    })
}

/// A knob whose type says what values it takes.
macro_rules! knob {
    ($name:literal, $scope:ident, $group:ident, $($field:ident).+, $values:literal, $help:literal) => {
        Knob {
            name: $name,
            scope: Scope::$scope,
            group: Group::$group,
            values: $values,
            help: $help,
            show: |config| config.$($field).+.show(),
            set: |config, text| {
                config.$($field).+ = Value::read(text)?;
                Ok(())
            },
            copy: |from, to| to.$($field).+.clone_from(&from.$($field).+),
        }
    };
}

/// A knob that is a whole number from a range.
macro_rules! number {
    ($name:literal, $scope:ident, $group:ident, $($field:ident).+, $low:literal..=$high:expr, $help:literal) => {
        Knob {
            name: $name,
            scope: Scope::$scope,
            group: Group::$group,
            values: concat!($low, " to ", stringify!($high)),
            help: $help,
            show: |config| Shown::Int(config.$($field).+ as u64),
            set: |config, text| {
                config.$($field).+ = whole_number(text, $low, $high)? as _;
                Ok(())
            },
            copy: |from, to| to.$($field).+ = from.$($field).+,
        }
    };
}

/// A knob that is a number from a range, fractions included.
macro_rules! fraction {
    ($name:literal, $group:ident, $($field:ident).+, $low:literal..=$high:literal, $help:literal) => {
        Knob {
            name: $name,
            scope: Scope::Live,
            group: Group::$group,
            values: concat!($low, " to ", $high),
            help: $help,
            show: |config| Shown::Float(config.$($field).+),
            set: |config, text| {
                let number = text.parse().ok().filter(|number| (f64::from($low)..=f64::from($high)).contains(number));
                config.$($field).+ = number
                    .ok_or_else(|| format!("wants a number from {} to {}, not {text:?}", $low, $high))?;
                Ok(())
            },
            copy: |from, to| to.$($field).+ = from.$($field).+,
        }
    };
}

fn whole_number(text: &str, low: u64, high: u64) -> Result<u64, String> {
    let number = text.replace('_', "").parse().ok();
    number
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| format!("wants a whole number from {low} to {high}, not {text:?}"))
}

/// All knobs, in the order in which they are listed.
#[rustfmt::skip]
pub static KNOBS: &[Knob] = &[
    knob!("listen", Start, Listening, listen, "HOST:PORT[,…]",
        "Addresses of the public listener; port 0 takes a free one"),
    knob!("admin", Start, Listening, admin, "HOST:PORT or off",
        "Address of the admin listener: /metrics, /knobs, /topics. Without admin_token_file it must be a loopback address"),
    number!("backlog", Start, Listening, backlog, 1..=1_000_000,
        "Connections that the kernel may keep waiting to be accepted"),
    knob!("cpu", Start, Listening, cpu, "a processor's number, or off",
        "Bind the reactor's thread to a processor"),

    knob!("publish_token_file", Reload, Access, publish_token_file, "a path, or off",
        "File whose first line is the token that publishers must present as Authorization: Bearer"),
    knob!("admin_token_file", Reload, Access, admin_token_file, "a path, or off",
        "File whose first line is the token that every request to the admin listener must present, but for /healthz"),
    knob!("cors_origins", Live, Access, cors_origins, "ORIGIN[,…] or *",
        "Web origins whose pages may subscribe, and publish"),

    knob!("demo", Start, Feeds, demo, "true or false",
        "Publish the time to the topic clock once a second, and serve a page at / that shows it"),
    knob!("stdin", Start, Feeds, stdin, "a topic, or off",
        "Publish each line of standard input to this topic"),

    knob!("write_path", Topic, Delivery, delivery.write_path, "split, write, writev, copy, more, cork, span, auto",
        "How queued events become system calls"),
    knob!("auto_rule", Topic, Delivery, delivery.auto_rule, "PIECES:BYTES[,…] or never",
        "What write_path auto goes by: from so many events on, copy them if they have on average at most so many bytes"),
    knob!("flush_policy", Topic, Delivery, delivery.flush_policy, "event, turn, size:BYTES, linger:MS, size:BYTES,linger:MS, adaptive",
        "When events are handed to their subscribers"),
    knob!("overrun", Topic, Delivery, delivery.overrun, "skip, close, latest",
        "What becomes of a reader that is slower than the log is long: a gap notice and the oldest retained event, the end of its stream, or a gap notice and the newest event"),

    knob!("tcp_nodelay", Topic, Sockets, delivery.socket.nodelay, "true or false",
        "TCP_NODELAY: send small segments at once"),
    number!("so_sndbuf_bytes", Topic, Sockets, delivery.socket.sndbuf_bytes, 0..=1_073_741_824,
        "SO_SNDBUF, which the kernel doubles; 0 leaves it to the kernel's autotuning"),
    number!("tcp_notsent_lowat_bytes", Topic, Sockets, delivery.socket.notsent_lowat_bytes, 0..=2_147_483_647,
        "TCP_NOTSENT_LOWAT: unsent bytes above which the kernel takes no more; 0 is the system's value"),
    number!("tcp_user_timeout_ms", Topic, Sockets, delivery.socket.user_timeout_ms, 0..=2_147_483_647,
        "TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged; 0 is the system's value"),
    knob!("tcp_congestion", Topic, Sockets, delivery.socket.congestion, "a name",
        "TCP_CONGESTION: the congestion control; empty is the system's"),
    number!("tcp_maxseg_bytes", Live, Sockets, delivery.socket.maxseg_bytes, 0..=65_535,
        "TCP_MAXSEG, taken from the public listener at accept, before a topic is known; 0 is what the route permits"),

    number!("connections_max", Live, Limits, limits.connections_max, 0..=10_000_000,
        "Open connections; 0 is as many as the descriptor limit permits. Above it a subscriber is told to come back, a publisher gets 503"),
    number!("connections_per_address_max", Live, Limits, limits.connections_per_address_max, 0..=10_000_000,
        "Open connections from one address, likewise; 0 is no limit"),
    number!("topics_max", Live, Limits, limits.topics_max, 1..=100_000_000,
        "Topics; above it, what would make another is answered with 503"),
    number!("topics_per_connection_max", Live, Limits, limits.topics_per_connection_max, 1..=1_024,
        "Topics of one subscription; above it the answer is 400"),
    number!("log_bytes_max", Live, Limits, limits.log_bytes_max, 4_096..=1_073_741_824,
        "Bytes that a topic retains, framing included; the oldest events are evicted"),
    number!("log_events_max", Live, Limits, limits.log_events_max, 1..=100_000_000,
        "Events that a topic retains; the oldest are evicted"),
    number!("logs_bytes_max", Live, Limits, limits.logs_bytes_max, 4_096..=1_099_511_627_776,
        "Bytes allocated for all topics' logs, their indexes and publishers' ids; above it logs evict instead of growing, and what fits nowhere is answered with 503"),
    number!("event_bytes_max", Live, Limits, limits.event_bytes_max, 1..=67_108_864,
        "Bytes of an event's data; above it the answer is 413"),
    number!("head_bytes_max", Live, Limits, limits.head_bytes_max, 1_024..=1_048_576,
        "Bytes of a request head; above it the answer is 431"),
    number!("target_bytes_max", Live, Limits, limits.target_bytes_max, 256..=1_048_576,
        "Bytes of a request target; above it the answer is 414"),
    number!("method_bytes_max", Live, Limits, limits.method_bytes_max, 7..=1_024,
        "Bytes of a request method; above it the answer is 501, and the connection ends"),
    number!("headers_max", Live, Limits, limits.headers_max, 1..=512,
        "Header fields of a request; above it the answer is 431"),
    number!("empty_lines_max", Live, Limits, limits.empty_lines_max, 0..=64,
        "Empty lines in front of a request; above it the answer is 400"),
    number!("chunk_line_bytes_max", Live, Limits, limits.chunk_line_bytes_max, 16..=65_536,
        "Bytes of a chunk's size line, extensions included; above it the answer is 400"),
    number!("chunk_extensions_bytes_max", Live, Limits, limits.chunk_extensions_bytes_max, 0..=1_048_576,
        "Bytes of all chunk extensions of a body, which are ignored; above it the answer is 400"),
    number!("trailer_bytes_max", Live, Limits, limits.trailer_bytes_max, 0..=1_048_576,
        "Bytes of a body's trailer section, which is ignored; above it the answer is 400"),
    number!("pending_heads_max", Live, Limits, limits.pending_heads_max, 1..=10_000_000,
        "Connections whose request head is awaited; above it the one that has taken longest is told 408, or closed if it has said nothing"),
    number!("linger_bytes_max", Live, Limits, limits.linger_bytes_max, 0..=1_073_741_824,
        "Bytes that are read and thrown away after the last answer, so that it can arrive; above it the connection is closed, which resets it"),

    knob!("heartbeat", Live, Times, times.heartbeat, "comment, event, off",
        "What a silent stream is sent"),
    number!("heartbeat_ms", Live, Times, times.heartbeat_ms, 10..=86_400_000,
        "How long a stream is silent before that"),
    number!("retry_ms", Live, Times, times.retry_ms, 1..=86_400_000,
        "The reconnection time that each stream is told, stretched at random up to twofold"),
    number!("head_timeout_ms", Live, Times, times.head_timeout_ms, 10..=86_400_000,
        "How long a request head may take; then 408"),
    number!("body_timeout_ms", Live, Times, times.body_timeout_ms, 10..=86_400_000,
        "How long a request body may take; then 408"),
    number!("feed_timeout_ms", Live, Times, times.feed_timeout_ms, 0..=86_400_000,
        "How long a text/event-stream body may be silent; 0 is for ever"),
    number!("idle_timeout_ms", Live, Times, times.idle_timeout_ms, 10..=86_400_000,
        "How long a connection may wait for its next request"),
    number!("stall_timeout_ms", Live, Times, times.stall_timeout_ms, 0..=86_400_000,
        "How long a peer may take no bytes while some wait for it; 0 is for ever"),
    number!("linger_ms", Live, Times, times.linger_ms, 0..=60_000,
        "How long a refusal is given to be read before the connection is closed"),
    number!("connection_age_ms", Live, Times, times.connection_age_ms, 0..=604_800_000,
        "How long a stream may last, shortened at random by up to a fifth; 0 is for ever"),
    number!("topic_idle_ms", Live, Times, times.topic_idle_ms, 0..=2_592_000_000,
        "How long a topic is kept without publishes and subscribers; 0 is for ever"),
    number!("drain_ms", Live, Times, times.drain_ms, 0..=3_600_000,
        "How long a shutdown may take"),

    number!("flush_slice_us", Live, Turns, turn.flush_slice_us, 10..=10_000_000,
        "How long a flush goes on before the loop polls again"),
    number!("flush_budget_bytes", Live, Turns, turn.flush_budget_bytes, 1..=1_073_741_824,
        "Bytes that one connection is sent before the others have their turn"),
    number!("read_budget_bytes", Live, Turns, turn.read_budget_bytes, 1..=1_073_741_824,
        "Bytes that are read from one connection before the others have their turn"),
    number!("accept_batch", Live, Turns, turn.accept_batch, 1..=1_000_000,
        "Connections accepted per listener and turn"),

    number!("observe_ms", Live, Observing, observe.observe_ms, 0..=3_600_000,
        "How often the kernel is asked about a stream that has moved lately; 0 is never"),
    number!("timestamp_one_in", Live, Observing, observe.timestamp_one_in, 0..=1_000_000_000,
        "One flush in so many is stamped by the kernel on its way to the peer; 0 is none"),

    number!("adapt_period_ms", Live, Adaptive, adapt.period_ms, 10..=60_000,
        "How often the rule is applied"),
    number!("adapt_floor_bytes", Live, Adaptive, adapt.floor_bytes, 1..=1_073_741_824,
        "The smallest buffer"),
    number!("adapt_cap_bytes", Live, Adaptive, adapt.cap_bytes, 1..=1_073_741_824,
        "The largest buffer"),
    fraction!("adapt_shrink", Adaptive, adapt.shrink, 0..=1,
        "The factor of shrinking"),
    fraction!("adapt_grow", Adaptive, adapt.grow, 1..=1000,
        "The factor of growing"),
    fraction!("adapt_high_utilisation", Adaptive, adapt.high_utilisation, 0..=1,
        "Utilisation above which the buffer shrinks, if it is slow too"),
    fraction!("adapt_low_utilisation", Adaptive, adapt.low_utilisation, 0..=1,
        "Utilisation below which the buffer grows, if the loop is calm too"),
    number!("adapt_slow_p99_ms", Live, Adaptive, adapt.slow_p99_ms, 0..=60_000,
        "p99 of publish-to-kernel time above which it is slow"),
    number!("adapt_calm_stall_ms", Live, Adaptive, adapt.calm_stall_ms, 0..=60_000,
        "Longest turn of the loop below which it is calm"),
    number!("adapt_linger_ms", Live, Adaptive, adapt.linger_ms, 1..=60_000,
        "How long an event is held back at most"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::RETRY_MS;
    use std::collections::BTreeSet;

    #[test]
    fn every_knob_is_shown_as_it_is_set() {
        let names: BTreeSet<&str> = KNOBS.iter().map(|knob| knob.name).collect();
        assert_eq!(names.len(), KNOBS.len(), "names are unique");
        for knob in KNOBS {
            let mut config = Config::default();
            let shown = knob.show(&config);
            knob.set(&mut config, &shown.to_string()).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(knob.show(&config), shown, "{}", knob.name);
            assert!(knob.help.len() > 10 && !knob.help.ends_with('.'), "{}", knob.name);
        }
    }

    #[test]
    fn each_knob_changes_its_own_field_alone() {
        let samples = [
            "7",
            "4096",
            "20000",
            "127.0.0.1:1",
            "true",
            "false",
            "copy",
            "event",
            "close",
            "0.5",
            "reno",
            "2:64",
            "https://a.example",
        ];
        for knob in KNOBS {
            let (before, mut after) = (Config::default(), Config::default());
            let changed = samples.iter().any(|sample| {
                knob.set(&mut after, sample).is_ok() && knob.show(&after) != knob.show(&before)
            });
            assert!(changed, "no sample changes {}", knob.name);
            let differing: Vec<&str> =
                differences(&before, &after).map(|(knob, _)| knob.name).collect();
            assert_eq!(differing, [knob.name]);
            let mut copied = Config::default();
            knob.copy(&after, &mut copied);
            assert_eq!(differences(&after, &copied).count(), 0, "{} is copied", knob.name);
        }
    }

    #[test]
    fn a_bad_value_changes_nothing_and_says_why() {
        let mut config = Config::default();
        let check = |config: &mut Config, name: &str, value: &str, expected: &str| {
            let why = find(name).unwrap().set(config, value).unwrap_err();
            assert!(why.starts_with(name) && why.contains(expected), "{why}");
        };
        check(&mut config, "write_path", "fast", "split, write, writev");
        check(&mut config, "heartbeat_ms", "9", "from 10 to");
        check(&mut config, "heartbeat_ms", "-1", "from 10 to");
        check(&mut config, "heartbeat_ms", "soon", "whole number");
        check(&mut config, "tcp_nodelay", "maybe", "true or false, not \"maybe\"");
        for knob in ["adapt_high_utilisation", "adapt_low_utilisation", "adapt_shrink"] {
            for value in ["7", "1.01", "-0.1", "nan", "inf", "", "much"] {
                check(&mut config, knob, value, &format!("from 0 to 1, not {value:?}"));
            }
        }
        check(&mut config, "adapt_grow", "0.5", "from 1 to 1000");
        // What an event may set, a stream may be told.
        let (low, high) = RETRY_MS.into_inner();
        for value in [low - 1, high + 1, 1 << 32] {
            check(&mut config, "retry_ms", &value.to_string(), &format!("from {low} to {high}"));
        }
        for knob in ["stdin", "publish_token_file", "admin_token_file", "admin", "cpu", "listen"] {
            check(&mut config, knob, "", "wants ");
        }
        check(&mut config, "stdin", &"x".repeat(300), "longer than 256 bytes");
        check(&mut config, "stdin", "a\u{7}b", "control character");
        assert_eq!(differences(&Config::default(), &config).count(), 0);
    }

    #[test]
    fn names_are_guessed() {
        assert!(find("write_paths").unwrap_err().contains("did you mean write_path"));
        let check = |wrong: &str, expected: &str| {
            let why = find(wrong).unwrap_err();
            assert!(why.ends_with(&format!("did you mean {expected}?")), "{why}");
        };
        check("hartbeat_ms", "heartbeat_ms");
        check("publish_token", "publish_token_file");
        check("pubish_token_file", "publish_token_file");
        check("tcp_no_delay", "tcp_nodelay");
        for wrong in ["xyz", "", "zzzzzzzzzzzz", "nope"] {
            assert!(!find(wrong).unwrap_err().contains("did you mean"), "{wrong}");
        }
        assert_eq!((edits(b"", b"abc"), edits(b"abc", b""), edits(b"abcd", b"acdx")), (3, 3, 2));
    }
}
