//! Time passes: one hand goes round the connections and looks at each for what has fallen due.
//!
//! There is no timer per connection. A timer would have to be moved at every write, and moving
//! hundreds of thousands of timers a second to the effect that none of them fires is most of what
//! a timer wheel in a server does. A hand that comes by once a second costs each connection one
//! look per second, and nothing on the write path.

use super::body::Sink;
use super::connection::{Connection, ConnectionKey, Phase};
use super::jitter::shorten;
use super::subscribe::frame_private;
use super::{Platform, Server};
use crate::config::{Config, Heartbeat};
use crate::observe::counters::CloseReason;
use crate::wire::event;
use crate::wire::head::Refusal;

/// The hand.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The next slot of the table of connections to look at.
    hand: u32,
    /// When the hand began its round, and the one before.
    round_ns: u64,
    round_before_ns: u64,
    /// How many slots are still to be looked at in this tick.
    owed: u32,
    /// The next topic to look at.
    topic_hand: usize,
    next_ns: u64,
    tick_ns: u64,
}

impl Sweep {
    pub fn new(now_ns: u64) -> Sweep {
        Sweep {
            hand: 0,
            round_ns: now_ns,
            round_before_ns: now_ns,
            owed: 0,
            topic_hand: 0,
            next_ns: now_ns,
            tick_ns: ROUND_NS_MAX / TICKS_PER_ROUND,
        }
    }

    /// Sets the pace: a round takes an eighth of the shortest time that is to be kept, within
    /// bounds.
    pub fn retime(&mut self, config: &Config, now_ns: u64) {
        let times = &config.times;
        let heartbeat_ms = if times.heartbeat == Heartbeat::Off { 0 } else { times.heartbeat_ms };
        let all_ms = [
            heartbeat_ms,
            times.head_timeout_ms,
            times.body_timeout_ms,
            times.feed_timeout_ms,
            times.idle_timeout_ms,
            times.stall_timeout_ms,
            times.linger_ms,
            times.connection_age_ms,
        ];
        let shortest_ms = all_ms.into_iter().filter(|&ms| ms > 0).min().unwrap_or(u64::MAX);
        let observe_ns = match config.observe.observe_ms {
            0 => u64::MAX,
            ms => ms.saturating_mul(1_000_000),
        };
        let round_ns = shortest_ms.saturating_mul(1_000_000 / 8).min(observe_ns);
        self.tick_ns = round_ns.clamp(ROUND_NS_MIN, ROUND_NS_MAX) / TICKS_PER_ROUND;
        self.next_ns = self.next_ns.min(now_ns + self.tick_ns);
    }

    /// Whether the hand, which stands at slot `slot`, is to ask the kernel in this round: it may come by
    /// much more often than every `period_ms`, which is not 0. Neighbours are asked at different times.
    pub fn observes(&self, slot: u32, period_ms: u64) -> bool {
        let period_ns = period_ms * 1_000_000;
        let shift_ns = period_ns / 64 * u64::from(slot % 64);
        let periods = |round_ns: u64| (round_ns + shift_ns) / period_ns;
        periods(self.round_ns) != periods(self.round_before_ns)
    }

    /// Moves the hand on, in a table of `slots`.
    fn advance(&mut self, slots: u32, now_ns: u64) {
        self.hand += 1;
        if self.hand >= slots {
            self.hand = 0;
            self.round_before_ns = std::mem::replace(&mut self.round_ns, now_ns);
        }
    }

    /// Whether a tick could not be finished within its turn.
    pub fn is_behind(&self) -> bool {
        self.owed > 0
    }

    /// The time of the next tick, if there is anything to look at.
    pub fn next_ns(&self, connections: bool, topics: bool) -> Option<u64> {
        match (connections, topics) {
            (true, _) => Some(self.next_ns),
            (false, true) => Some(self.next_ns + ROUND_NS_MAX),
            (false, false) => None,
        }
    }
}

impl<P: Platform> Server<P> {
    /// Looks at as many connections as are due, for one slice of time at most.
    ///
    /// Not while the kernel has more to report: after the process was stopped, say, time has passed
    /// that nobody has made use of, and what would show progress may be in the next turn's report.
    pub(super) fn sweep(&mut self) {
        if self.is_readiness_unseen() {
            return;
        }
        if self.now_ns >= self.sweep.next_ns {
            self.sweep.next_ns = self.now_ns + self.sweep.tick_ns;
            let slots = self.connections.slots();
            self.sweep.owed = slots.min(self.sweep.owed + slots.div_ceil(TICKS_PER_ROUND as u32));
            self.forget_idle_topics();
        }
        let slice_ends_ns = self.now_ns + self.config.turn.flush_slice_us * 1000;
        while self.sweep.owed > 0 && self.now_ns < slice_ends_ns {
            self.sweep.owed -= 1;
            let found = self.connections.at(self.sweep.hand);
            let open = found.filter(|(_, connection)| !connection.closing).map(|(key, _)| key);
            self.sweep.advance(self.connections.slots(), self.now_ns);
            if let Some(key) = open {
                self.look_at(key);
            }
        }
    }

    fn look_at(&mut self, key: ConnectionKey) {
        let times = &self.config.times;
        let connection = &self.connections[key];
        let in_phase_ms = self.now_ns.saturating_sub(connection.since_ns) / 1_000_000;
        let unmoved_ms = self.now_ns.saturating_sub(connection.moved_ns) / 1_000_000;
        if connection.blocked && times.stall_timeout_ms > 0 && unmoved_ms >= times.stall_timeout_ms
        {
            return self.close(key, CloseReason::Stalled);
        }
        if self.is_overrun_for_good(key) {
            return self.close(key, CloseReason::Overrun);
        }
        match &connection.phase {
            Phase::Head => self.look_at_head(key, in_phase_ms),
            Phase::Body(body) if matches!(body.sink, Sink::Feed(_)) => {
                if times.feed_timeout_ms > 0 && in_phase_ms >= times.feed_timeout_ms {
                    self.time_out_body(key, "the event stream has been silent for too long");
                }
            }
            Phase::Body(_) if in_phase_ms >= times.body_timeout_ms => {
                self.time_out_body(key, "the body did not arrive in time");
            }
            Phase::Stream => self.look_at_stream(key, unmoved_ms),
            Phase::Lingering(reason) if in_phase_ms >= times.linger_ms => {
                let reason = *reason;
                self.close(key, reason);
            }
            Phase::Ending(_) => self.watch_over(key),
            Phase::Body(_) | Phase::Finishing(_) | Phase::Parting(_) | Phase::Lingering(_) => {}
        }
    }

    fn look_at_head(&mut self, key: ConnectionKey, in_phase_ms: u64) {
        let times = &self.config.times;
        let connection = &self.connections[key];
        let first = !connection.answered;
        let begun = connection.has_begun_request();
        // It waits for us, or for its own peer to take earlier answers: stall_timeout_ms is for that.
        if connection.held || (!begun && !connection.private.is_empty()) {
            return;
        }
        let head_timeout_ms = match connection.over_limit {
            true => times.head_timeout_ms.min(OVER_LIMIT_HEAD_TIMEOUT_MS),
            false => times.head_timeout_ms,
        };
        if begun && in_phase_ms >= head_timeout_ms {
            self.time_out_head(key);
        } else if first && !begun && in_phase_ms >= head_timeout_ms {
            self.close(key, CloseReason::HeadTimeout);
        } else if !first && !begun && in_phase_ms >= times.idle_timeout_ms {
            self.close(key, CloseReason::IdleTimeout);
        }
    }

    fn time_out_head(&mut self, key: ConnectionKey) {
        let refusal = Refusal { status: 408, why: "the request head did not arrive in time" };
        self.refuse_head(key, refusal, CloseReason::HeadTimeout);
    }

    fn time_out_body(&mut self, key: ConnectionKey, why: &str) {
        let phase = std::mem::replace(&mut self.connections[key].phase, Phase::Head);
        if let Phase::Body(body) = phase {
            self.refuse_body(key, *body, 408, why, CloseReason::BodyTimeout);
            self.flush_connection(key);
        }
    }

    fn look_at_stream(&mut self, key: ConnectionKey, unmoved_ms: u64) {
        self.watch_over(key);
        if self.connections[key].closing {
            return;
        }
        let times = &self.config.times;
        let connection = &self.connections[key];
        if times.connection_age_ms > 0 && has_aged(connection, times.connection_age_ms, self.now_ns)
        {
            return self.end_stream(key, CloseReason::Aged);
        }
        let silent = !connection.blocked
            && connection.private.is_empty()
            && unmoved_ms >= times.heartbeat_ms;
        let heartbeat: &[u8] = match times.heartbeat {
            Heartbeat::Comment if silent => b":\n\n",
            Heartbeat::Event if silent => HEARTBEAT_EVENT.as_bytes(),
            _ => return,
        };
        let connection = &mut self.connections[key];
        let from = connection.own_end();
        frame_private(connection.framing, heartbeat, &mut connection.private);
        connection.interrupt(from, None, self.now_ns);
        self.counters.heartbeats += connection.counted();
        self.flush_connection(key);
    }

    /// Looks at a few topics, and forgets those that nobody has used for long.
    fn forget_idle_topics(&mut self) {
        let idle_ns = self.config.times.topic_idle_ms.saturating_mul(1_000_000);
        let slots = self.hub.topics().slots();
        if idle_ns == 0 || slots == 0 {
            return;
        }
        for _ in 0..TOPICS_PER_TICK.min(slots) {
            let slot = self.sweep.topic_hand % slots;
            self.sweep.topic_hand = slot + 1;
            let Some(key) = self.hub.topics().at(slot) else { continue };
            let used_ns = self.hub.topics()[key].used_ns;
            if self.now_ns.saturating_sub(used_ns) >= idle_ns && self.hub.forget(key) {
                self.counters.topics_forgotten += 1;
            }
        }
    }
}

fn has_aged<S>(connection: &Connection<S>, age_ms: u64, now_ns: u64) -> bool {
    let age_ms = shorten(age_ms, connection.generation);
    now_ns.saturating_sub(connection.opened_ns) / 1_000_000 >= age_ms
}

/// A round takes at most a second, and at least so long that the sweep stays negligible.
const ROUND_NS_MAX: u64 = 1_000_000_000;
const ROUND_NS_MIN: u64 = 20_000_000;
/// A round is cut into ticks, so that what falls due together is not done all at once.
const TICKS_PER_ROUND: u64 = 20;
const TOPICS_PER_TICK: usize = 64;
const OVER_LIMIT_HEAD_TIMEOUT_MS: u64 = 1_000;
const HEARTBEAT_EVENT: &str = "event: heartbeat\ndata: {}\n\n";
const _: () = assert!(event::HEARTBEAT.len() == 9, "the event is named in HEARTBEAT_EVENT");

#[cfg(test)]
mod tests {
    use super::*;

    /// However fast the hand goes round, it asks about each connection once per period.
    #[test]
    fn the_kernel_is_asked_once_per_period() {
        for (slots, step_ns) in [(1, 1_000_000), (3, 7_000_000), (200, 10_000_000)] {
            let mut sweep = Sweep::new(0);
            let (mut asked, mut rounds) = (vec![0; slots as usize], 0);
            for now_ns in (0..).step_by(step_ns as usize).take_while(|now| *now < 20_000_000_000) {
                for _ in 0..slots {
                    asked[sweep.hand as usize] += u32::from(sweep.observes(sweep.hand, 1000));
                    sweep.advance(slots, now_ns);
                }
                rounds += 1;
            }
            assert!(rounds >= 2000);
            assert!(asked.iter().all(|count| (19..=21).contains(count)), "{asked:?}");
        }
    }
}
