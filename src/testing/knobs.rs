//! Settings that a simulated world can have, and change.

use super::Dice;
use crate::config::{Config, Heartbeat};
use crate::push::gap::Overrun;
use crate::send::flush::FlushPolicy;
use crate::send::path::WritePath;
use crate::send::rule::CopyRule;
use crate::wire::event::frame_bytes_max;
use std::fmt;
use std::time::Duration;

/// The settings, with their defaults: `Knobs`, what shows those of them that are not the default's,
/// and for each a function that makes it the default's.
macro_rules! knobs {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,)*) => {
        /// The settings that matter to what is simulated.
        #[derive(Clone, PartialEq)]
        #[allow(missing_docs)] // named as the knobs are, see `Config`
        pub struct Knobs {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for Knobs {
            fn default() -> Knobs {
                Knobs { $($field: $default,)* }
            }
        }

        /// As Rust: what differs from the default.
        impl fmt::Debug for Knobs {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let default = Knobs::default();
                f.write_str("Knobs { ")?;
                $(if self.$field != default.$field {
                    write!(f, concat!(stringify!($field), ": {:?}, "), self.$field)?;
                })*
                f.write_str("..Knobs::default() }")
            }
        }

        /// Each makes one setting the default's.
        pub(super) const RESETS: &[fn(&mut Knobs)] =
            &[$(|knobs| knobs.$field = Knobs::default().$field),*];
    };
}

knobs! {
    write_path: WritePath = WritePath::default(),
    auto_rule: &'static str = "never",
    overrun: Overrun = Overrun::Skip,
    flush_policy: FlushPolicy = FlushPolicy::Turn,
    /// The policy of topic `t0`, if it has one of its own.
    flush_policy_of_t0: Option<FlushPolicy> = None,
    log_bytes_max: usize = 1 << 20,
    log_events_max: usize = 10_000,
    logs_bytes_max: usize = 1 << 30,
    event_bytes_max: usize = EVENT_BYTES_MAX,
    topics_max: usize = 1000,
    pending_heads_max: usize = 1000,
    flush_budget_bytes: usize = 1 << 20,
    flush_slice_us: u64 = 2000,
    read_budget_bytes: usize = 100_000,
    accept_batch: usize = 256,
    connections_max: usize = 0,
    heartbeat: Heartbeat = Heartbeat::Comment,
    heartbeat_ms: u64 = 15_000,
    stall_timeout_ms: u64 = 0,
    connection_age_ms: u64 = 0,
    topic_idle_ms: u64 = 0,
    drain_ms: u64 = 10_000,
    nodelay: bool = true,
}

impl Knobs {
    /// Settings of a random world. In some, memory and places are so few that next to nothing is
    /// left.
    pub fn draw(dice: &mut Dice) -> Knobs {
        let mut knobs = Knobs::draw_wide(dice);
        match dice.roll(8) {
            0..=4 => {}
            5 | 6 => knobs.narrow(dice),
            _ => {
                knobs.narrow(dice);
                knobs.resolve();
            }
        }
        knobs
    }

    fn narrow(&mut self, dice: &mut Dice) {
        self.log_bytes_max = *dice.pick(&[self.log_bytes_max, 2400, 600, 90]);
        self.log_events_max = *dice.pick(&[self.log_events_max, 3, 1]);
        self.logs_bytes_max = *dice.pick(&[self.logs_bytes_max, 20_000, 5000, 600, 300, 0]);
        self.event_bytes_max = *dice.pick(&[EVENT_BYTES_MAX, 20]);
        self.topics_max = *dice.pick(&[self.topics_max, 3, 1]);
        self.pending_heads_max = *dice.pick(&[self.pending_heads_max, 3, 1]);
    }

    /// Widens what contradicts itself.
    pub fn resolve(&mut self) {
        self.log_bytes_max = self.log_bytes_max.max(frame_bytes_max(self.event_bytes_max));
        self.logs_bytes_max = self.logs_bytes_max.max(self.log_bytes_max);
    }

    fn draw_wide(dice: &mut Dice) -> Knobs {
        Knobs {
            write_path: *dice.pick(&WritePath::ALL),
            auto_rule: dice.pick::<&str>(&["never", "2:60,5:100"]),
            overrun: *dice.pick(&[Overrun::Skip, Overrun::Skip, Overrun::Close, Overrun::Latest]),
            flush_policy: *dice.pick(&POLICIES),
            flush_policy_of_t0: (dice.roll(3) == 2).then(|| *dice.pick(&POLICIES)),
            // The least is set without regard to the longest event that is possible.
            log_bytes_max: *dice.pick(&[1 << 20, 8000, 2400, 900]),
            log_events_max: *dice.pick(&[10_000, 100, 30, 3]),
            logs_bytes_max: 1 << 30,
            event_bytes_max: EVENT_BYTES_MAX,
            topics_max: 1000,
            pending_heads_max: 1000,
            flush_budget_bytes: *dice.pick(&[1 << 20, 200, 1]),
            flush_slice_us: *dice.pick(&[2000, 100, 10]),
            read_budget_bytes: *dice.pick(&[100_000, 1]),
            accept_batch: *dice.pick(&[256, 1]),
            connections_max: *dice.pick(&[0, 0, 0, 4]),
            heartbeat: *dice.pick(&[Heartbeat::Comment, Heartbeat::Event, Heartbeat::Off]),
            heartbeat_ms: *dice.pick(&[15_000, 4_000]),
            stall_timeout_ms: *dice.pick(&[0, 5000]),
            connection_age_ms: *dice.pick(&[0, 0, 8_000]),
            topic_idle_ms: *dice.pick(&[0, 0, 6_000]),
            drain_ms: *dice.pick(&[6_000, 300]),
            nodelay: !dice.once_in(3),
        }
    }

    /// The same, with nothing held back and nobody sent away: so that all come to rest.
    pub fn settled(&self) -> Knobs {
        Knobs {
            flush_policy: FlushPolicy::Turn,
            flush_policy_of_t0: None,
            connection_age_ms: 0,
            connections_max: 0,
            ..self.clone()
        }
    }

    /// Whether no event is held back for longer than [`HELD_BACK_MS_MAX`].
    pub fn flushes_in_time(&self) -> bool {
        let in_time = |policy: &FlushPolicy| match policy {
            FlushPolicy::Turn | FlushPolicy::Event => true,
            FlushPolicy::Buffered { linger, .. } => linger.is_some(),
            FlushPolicy::Adaptive => false,
        };
        in_time(&self.flush_policy) && self.flush_policy_of_t0.iter().all(in_time)
    }

    /// Whether publishers are made to wait before a reader is overrun that takes what it is offered:
    /// half a log holds what can come in before it is asked, and one visit can send it.
    pub fn holds_publishers_back(&self) -> bool {
        self.log_bytes_max >= 8000
            && self.logs_bytes_max == 1 << 30
            && self.log_events_max >= 100
            && self.flush_budget_bytes >= self.log_bytes_max
    }

    /// Whether an event may be refused: for its length, or for want of memory or of a topic.
    pub fn is_narrow(&self) -> bool {
        let wide = Knobs::default();
        self.log_bytes_max < 900
            || self.logs_bytes_max < wide.logs_bytes_max
            || self.event_bytes_max < wide.event_bytes_max
            || self.topics_max < wide.topics_max
    }

    /// As a server takes them.
    pub fn config(&self) -> Config {
        let mut config = Config { admin: None, ..Config::default() }; // see `Access`
        config.delivery.write_path = self.write_path;
        config.delivery.auto_rule = self.auto_rule.parse().unwrap_or(CopyRule::NEVER);
        config.delivery.overrun = self.overrun;
        config.delivery.flush_policy = self.flush_policy;
        if let Some(policy) = self.flush_policy_of_t0 {
            let overrides = [("flush_policy", policy.to_string())].into();
            let set = config.topics.set("t0", overrides);
            debug_assert!(set.is_ok(), "a policy shows what can be set");
        }
        config.delivery.socket.nodelay = self.nodelay;
        config.limits.log_bytes_max = self.log_bytes_max;
        config.limits.log_events_max = self.log_events_max;
        config.limits.logs_bytes_max = self.logs_bytes_max;
        config.limits.event_bytes_max = self.event_bytes_max;
        config.limits.topics_max = self.topics_max;
        config.limits.pending_heads_max = self.pending_heads_max;
        config.limits.connections_max = self.connections_max;
        config.turn.flush_budget_bytes = self.flush_budget_bytes;
        config.turn.flush_slice_us = self.flush_slice_us;
        config.turn.read_budget_bytes = self.read_budget_bytes;
        config.turn.accept_batch = self.accept_batch;
        config.times.heartbeat = self.heartbeat;
        config.times.heartbeat_ms = self.heartbeat_ms;
        config.times.stall_timeout_ms = self.stall_timeout_ms;
        config.times.connection_age_ms = self.connection_age_ms;
        config.times.topic_idle_ms = self.topic_idle_ms;
        config.times.drain_ms = self.drain_ms;
        // Shorter than by default: a world waits for each of them.
        config.times.head_timeout_ms = PATIENCE_MS;
        config.times.body_timeout_ms = PATIENCE_MS;
        config.times.feed_timeout_ms = PATIENCE_MS;
        config.times.idle_timeout_ms = PATIENCE_MS;
        config.times.linger_ms = PATIENCE_MS;
        config
    }
}

/// More bytes than any event's data in use has.
const EVENT_BYTES_MAX: usize = 250;
/// How long a request, a connection without one, or one that was refused may take. The shorter the
/// shortest of all times, the more often the sweep ticks, and a world has to live through that.
const PATIENCE_MS: u64 = 4_000;
/// Longer than any deadline of a request, of an answer, and of a connection without either.
pub(super) const SILENCE_MS: u64 = 10_000;

/// Longer than any policy among those waits, if it does not wait for more events.
pub(super) const HELD_BACK_MS_MAX: u64 = 60;

const POLICIES: [FlushPolicy; 6] = [
    FlushPolicy::Turn,
    FlushPolicy::Event,
    FlushPolicy::Adaptive,
    FlushPolicy::Buffered { bytes: Some(300), linger: None },
    FlushPolicy::Buffered { bytes: None, linger: Some(Duration::from_millis(5)) },
    FlushPolicy::Buffered { bytes: Some(500), linger: Some(Duration::from_millis(20)) },
];
