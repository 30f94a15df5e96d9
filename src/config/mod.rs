//! Every limit and every knob, with its default and the reason for it.
//!
//! A [`Config`] is a plain value. The [table of knobs](knobs) gives each field a name under which
//! a flag, an environment variable, a configuration file and the admin listener can set and show
//! it, so that all four agree without knowing each other.

mod cors;
#[cfg(feature = "config-file")]
pub mod file;
pub mod knobs;
mod reload;
mod topics;
mod value;

pub use cors::Cors;
pub use topics::{TopicChange, TopicKnobs};
pub use value::{Heartbeat, Secret};

use crate::push::gap::Overrun;
use crate::push::log::Bounds;
use crate::push::topic::check_name;
use crate::send::adapt::AdaptKnobs;
use crate::send::flush::FlushPolicy;
use crate::send::path::WritePath;
use crate::send::rule::CopyRule;
use crate::send::socket_knobs::SocketKnobs;
use crate::wire::chunk;
use crate::wire::event::frame_bytes_max;
use crate::wire::head::HeadLimits;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// All settings of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses of the public listener. Port 0 asks the kernel for a free one.
    pub listen: Vec<SocketAddr>,
    /// Address of the admin listener, if there is to be one.
    pub admin: Option<SocketAddr>,
    /// How many connections the kernel may keep waiting to be accepted (listen(2)).
    pub backlog: u32,
    /// The processor that the reactor's thread is bound to, if to one.
    pub cpu: Option<usize>,
    /// Where the publishers' token is read from.
    pub publish_token_file: Option<PathBuf>,
    /// The token that a publisher must present. Not a knob: it is never shown.
    pub publish_token: Option<Secret>,
    /// Where the token of the admin listener is read from.
    pub admin_token_file: Option<PathBuf>,
    /// The token that every request to the admin listener must present, but for `/healthz`. Not a
    /// knob either.
    pub admin_token: Option<Secret>,
    /// The web origins whose pages may read answers.
    pub cors_origins: Cors,
    /// Whether to publish the time to the topic `clock`, and to serve a page that shows it.
    pub demo: bool,
    /// The topic to which each line of standard input is published.
    pub stdin: Option<String>,
    /// What is refused above which size or number.
    pub limits: Limits,
    /// What happens after which time.
    pub times: Times,
    /// How events leave. A topic can override these.
    pub delivery: Delivery,
    /// Parameters of the flush policy `adaptive`.
    pub adapt: AdaptKnobs,
    /// How the loop divides its time.
    pub turn: TurnBudget,
    /// How much the server looks on at itself.
    pub observe: Observe,
    /// Settings for single topics: the names and values of knobs of [`Delivery`].
    pub topics: TopicKnobs,
}

/// Names and values of knobs that differ for one topic.
pub type Overrides = BTreeMap<&'static str, String>;

/// What is refused above which size or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. 0: as many as the descriptor limit permits.
    pub connections_max: usize,
    /// Open connections from one address. 0: no limit, since behind a proxy all share one.
    pub connections_per_address_max: usize,
    /// Topics.
    pub topics_max: usize,
    /// Topics on one connection.
    pub topics_per_connection_max: usize,
    /// Bytes that a topic's log may retain.
    pub log_bytes_max: usize,
    /// Events that a topic's log may retain.
    pub log_events_max: usize,
    /// Bytes that all logs together may take.
    pub logs_bytes_max: usize,
    /// Bytes of one event's data.
    pub event_bytes_max: usize,
    /// Bytes of a request head.
    pub head_bytes_max: usize,
    /// Bytes of a request target.
    pub target_bytes_max: usize,
    /// Bytes of a request method.
    pub method_bytes_max: usize,
    /// Header fields of a request.
    pub headers_max: usize,
    /// Empty lines in front of a request.
    pub empty_lines_max: usize,
    /// Bytes of a chunk's size line.
    pub chunk_line_bytes_max: u32,
    /// Bytes of all chunk extensions of one body.
    pub chunk_extensions_bytes_max: u32,
    /// Bytes of a body's trailer section.
    pub trailer_bytes_max: u32,
    /// Connections whose request head is awaited.
    pub pending_heads_max: usize,
    /// Bytes that are read and thrown away behind a connection's last answer.
    pub linger_bytes_max: u32,
}

/// What happens after which time. All are in milliseconds, and are checked by a sweep that visits
/// each connection about once a second, or eight times within the shortest of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// What heartbeats are made of.
    pub heartbeat: Heartbeat,
    /// How long a stream stays silent before it gets a heartbeat.
    pub heartbeat_ms: u64,
    /// The reconnection time that streams are told, before jitter stretches it up to twofold.
    pub retry_ms: u64,
    /// How long a request head may take from its first byte, and a first one from accept.
    pub head_timeout_ms: u64,
    /// How long the body of a request may take.
    pub body_timeout_ms: u64,
    /// How long a body of media type `text/event-stream` may be silent. 0: for ever.
    pub feed_timeout_ms: u64,
    /// How long a connection may wait for its next request.
    pub idle_timeout_ms: u64,
    /// How long a peer may accept no bytes while some are waiting for it. 0: for ever.
    pub stall_timeout_ms: u64,
    /// How long to wait, after a refusal, for the peer to read it.
    pub linger_ms: u64,
    /// How long a stream may last; jitter shortens it by up to a fifth. 0: for ever.
    pub connection_age_ms: u64,
    /// How long a topic is kept that nobody publishes to and nobody is subscribed to. 0: for ever.
    pub topic_idle_ms: u64,
    /// How long a shutdown may take.
    pub drain_ms: u64,
}

/// How events leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// How queued frames become system calls.
    pub write_path: WritePath,
    /// What the write path `auto` goes by.
    pub auto_rule: CopyRule,
    /// When they do.
    pub flush_policy: FlushPolicy,
    /// What a reader gets that has been overrun.
    pub overrun: Overrun,
    /// Options of the sockets.
    pub socket: SocketKnobs,
}

/// How much the server looks on at itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observe {
    /// How often the kernel is asked about a stream that has moved lately, in milliseconds. 0:
    /// never; then a peer that has vanished is noticed only when the send buffer is full, or by the
    /// kernel.
    pub observe_ms: u64,
    /// One flush in so many is stamped by the kernel. 0: none.
    pub timestamp_one_in: u32,
}

/// How the loop divides its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnBudget {
    /// How long a flush goes on before the loop polls again, in microseconds.
    pub flush_slice_us: u64,
    /// Bytes that one connection is sent before the others have their turn.
    pub flush_budget_bytes: usize,
    /// Bytes that are read from one connection before the others have their turn.
    pub read_budget_bytes: usize,
    /// Connections accepted per listener and turn.
    pub accept_batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            admin: cfg!(feature = "admin").then(|| SocketAddr::from(([127, 0, 0, 1], 9180))),
            // The kernel caps it at net.core.somaxconn, 4096 by default.
            backlog: 4096,
            cpu: None,
            publish_token_file: None,
            publish_token: None,
            admin_token_file: None,
            admin_token: None,
            cors_origins: Cors::Nobody,
            demo: false,
            stdin: None,
            limits: Limits::default(),
            times: Times::default(),
            delivery: Delivery::default(),
            adapt: AdaptKnobs::default(),
            turn: TurnBudget::default(),
            observe: Observe::default(),
            topics: TopicKnobs::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (head, chunks) = (HeadLimits::default(), chunk::Limits::default());
        Limits {
            connections_max: 0,
            connections_per_address_max: 0,
            topics_max: 100_000,
            topics_per_connection_max: 64,
            // Minutes of a brisk topic: enough to come back from a lost connection.
            log_bytes_max: 1 << 20,
            log_events_max: 16_384,
            logs_bytes_max: 1 << 30,
            // Its frame must fit the log even if every byte of it is a line end.
            event_bytes_max: 64 << 10,
            head_bytes_max: head.head_bytes_max,
            target_bytes_max: head.target_bytes_max,
            method_bytes_max: head.method_bytes_max,
            headers_max: head.headers_max,
            empty_lines_max: head.empty_lines_max,
            chunk_line_bytes_max: chunks.line_bytes_max,
            chunk_extensions_bytes_max: chunks.extensions_bytes_max,
            trailer_bytes_max: chunks.trailer_bytes_max,
            // More than come within one round trip when everybody comes back at once; at
            // head_bytes_max each they hold 64 MiB.
            pending_heads_max: 4096,
            // Whoever sends a body that is refused may have most of it under way already.
            linger_bytes_max: 16 << 20,
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        Times {
            heartbeat: Heartbeat::Comment,
            // The standard suggests a comment every 15 s or so, against proxies that drop silent
            // connections (WHATWG HTML §9.2.7).
            heartbeat_ms: 15_000,
            retry_ms: 2_000,
            head_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            feed_timeout_ms: 300_000,
            idle_timeout_ms: 75_000,
            stall_timeout_ms: 60_000,
            linger_ms: 2_000,
            connection_age_ms: 0,
            topic_idle_ms: 3_600_000,
            drain_ms: 10_000,
        }
    }
}

impl Default for Observe {
    fn default() -> Self {
        // A look costs a fifth of a microsecond: 15,000 busy streams, 3 ms each second.
        Observe { observe_ms: 1_000, timestamp_one_in: 0 }
    }
}

impl Default for TurnBudget {
    fn default() -> Self {
        TurnBudget {
            // Some two hundred calls on loopback: a new connection waits that long at most.
            flush_slice_us: 2_000,
            flush_budget_bytes: 256 << 10,
            read_budget_bytes: 256 << 10,
            accept_batch: 256,
        }
    }
}

impl Config {
    /// Checks what the table of knobs cannot check one by one.
    ///
    /// # Errors
    /// The first contradiction, with the way out of it.
    pub fn validate(&self) -> Result<(), String> {
        let limits = &self.limits;
        let frame_bytes = frame_bytes_max(limits.event_bytes_max);
        if limits.log_bytes_max < frame_bytes {
            return Err(format!(
                "log_bytes_max = {} cannot hold an event of event_bytes_max = {}, whose frame can \
                 take {frame_bytes} bytes",
                limits.log_bytes_max, limits.event_bytes_max
            ));
        }
        if limits.logs_bytes_max < limits.log_bytes_max {
            return Err(
                "logs_bytes_max, for all topics, is less than log_bytes_max, for one".into()
            );
        }
        if limits.head_bytes_max <= limits.target_bytes_max {
            return Err("head_bytes_max must be above target_bytes_max".into());
        }
        if self.adapt.floor_bytes > self.adapt.cap_bytes {
            return Err("adapt_floor_bytes is above adapt_cap_bytes".into());
        }
        if self.adapt.low_utilisation > self.adapt.high_utilisation {
            return Err("adapt_low_utilisation is above adapt_high_utilisation".into());
        }
        self.validate_listeners()?;
        if let Some(topic) = &self.stdin {
            check_name(topic).map_err(|why| format!("stdin = {topic:?}: {why}"))?;
        }
        self.delivery.socket.probe().map_err(|error| error.to_string())
    }

    fn validate_listeners(&self) -> Result<(), String> {
        if self.listen.is_empty() {
            return Err("listen names no address".into());
        }
        let exposed = self.listen.iter().find(|address| !address.ip().is_loopback());
        if let Some(address) = exposed.filter(|_| self.publish_token.is_none()) {
            return Err(format!(
                "listening on {address} without a token would let anybody publish: give \
                 --publish-token-file FILE (or the environment variable PUSHV_PUBLISH_TOKEN), or \
                 listen on a loopback address"
            ));
        }
        match self.admin {
            Some(address) if !address.ip().is_loopback() && self.admin_token.is_none() => {
                Err(format!(
                    "an admin listener on {address} without a token would let anybody turn knobs: \
                     give --admin-token-file FILE (or the environment variable PUSHV_ADMIN_TOKEN), \
                     or a loopback address"
                ))
            }
            Some(_) if !cfg!(feature = "admin") => {
                Err("this build has no admin listener: it lacks the feature `admin`".into())
            }
            _ => Ok(()),
        }
    }

    /// How much a topic's log may retain.
    pub fn log_bounds(&self) -> Bounds {
        Bounds { bytes_max: self.limits.log_bytes_max, frames_max: self.limits.log_events_max }
    }

    /// The sizes at which a request head is refused.
    pub fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            head_bytes_max: self.limits.head_bytes_max,
            target_bytes_max: self.limits.target_bytes_max,
            method_bytes_max: self.limits.method_bytes_max,
            headers_max: self.limits.headers_max,
            empty_lines_max: self.limits.empty_lines_max,
        }
    }

    /// How much of what is ignored a chunked body may hold.
    pub fn chunk_limits(&self) -> chunk::Limits {
        chunk::Limits {
            line_bytes_max: self.limits.chunk_line_bytes_max,
            extensions_bytes_max: self.limits.chunk_extensions_bytes_max,
            trailer_bytes_max: self.limits.trailer_bytes_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_consistent() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn contradictions_are_named() {
        let check = |change: fn(&mut Config), expected: &str| {
            let mut config = Config::default();
            change(&mut config);
            let why = config.validate().unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check(|c| c.limits.event_bytes_max = 1 << 20, "cannot hold an event");
        check(|c| c.limits.logs_bytes_max = 1, "logs_bytes_max");
        check(|c| c.listen = vec!["0.0.0.0:80".parse().unwrap()], "--publish-token-file");
        check(|c| c.admin = Some("10.0.0.1:80".parse().unwrap()), "--admin-token-file");
        check(|c| c.delivery.socket.congestion = "nonsense".into(), "tcp_congestion = nonsense");
        check(|c| c.delivery.socket.maxseg_bytes = 1, "tcp_maxseg_bytes = 1: TCP_MAXSEG");
        check(|c| c.adapt.low_utilisation = 0.9, "adapt_low_utilisation");
        check(|c| c.stdin = Some("x".repeat(300)), "longer than 256 bytes");
    }

    #[test]
    fn tokens_permit_any_address() {
        let config = Config {
            listen: vec!["0.0.0.0:80".parse().unwrap()],
            publish_token: Some(Secret::new("s")),
            admin: cfg!(feature = "admin").then(|| "10.0.0.1:80".parse().unwrap()),
            admin_token: Some(Secret::new("t")),
            ..Config::default()
        };
        config.validate().unwrap();
    }
}
