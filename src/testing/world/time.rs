//! What time does to a simulated world: turns of the loop, and what must hold in each.

use super::{Checked, Party, REST_TURNS_MAX, World};
use crate::config::Heartbeat;
use crate::send::private::ALLOCATED_BYTES_MAX;
use crate::server::{Held, Load};
use crate::testing::caller::Caller;
use crate::testing::publisher::Publisher;
use crate::testing::scenario::TOPICS;
use std::time::Duration;

impl World {
    /// One turn of the loop, with what a kernel would report.
    pub(super) fn turn(&mut self) -> Checked {
        if self.turns.server.is_over() {
            return Ok(());
        }
        self.lived.turns += 1;
        if self.clock.get() >= self.starved_until_ns {
            self.kernel.set_starved(false);
        }
        let reports = self.kernel.poll();
        self.turns.begin();
        reports.into_iter().for_each(|ready| self.turns.dispatch(ready));
        self.take_inbox()?;
        let kernel = self.kernel.clone();
        self.turns.accept(|socket, number| kernel.register(socket, number));
        self.turns.end();
        if !self.turns.server.accepts() {
            self.kernel.close_public_queue();
        }
        self.ledger.read(self.turns.server.hub())?;
        self.turns.server.check_invariants();
        self.check_stale()?;
        let load = self.turns.server.load();
        self.check_memory(&load)?;
        self.check_drain(&load)?;
        self.clients()
    }

    /// What is reported for a connection that is closed does not reach the next one in its slot,
    /// once as room and once as input.
    pub(super) fn check_stale(&self) -> Checked {
        let reported = 2 * self.kernel.stale_reports();
        match self.turns.server.counters().turns.stale_events {
            seen if seen == reported => Ok(()),
            seen => Err(format!("{seen} of {reported} stale events were recognised")),
        }
    }

    pub(super) fn check_memory(&self, load: &Load) -> Checked {
        // A frame that was cut is kept in a buffer that may have grown by doubling.
        let of_stream = HEAD_BYTES_MAX + NOTICE_BYTES_MAX * TOPICS + EVENT_FRAME_BYTES_MAX;
        // Requests wait when so much is allocated; the last answer may go beyond that.
        let of_caller = ALLOCATED_BYTES_MAX + ANSWER_BYTES_MAX;
        let of_onlooker = ALLOCATED_BYTES_MAX + ADMIN_ANSWER_BYTES_MAX;
        // Answers to what was asked before may stand before the stream.
        let of_viewer = of_onlooker + HEAD_BYTES_MAX + NOTICE_BYTES_MAX + STATE_BYTES_MAX;
        check_held("a subscriber's stream", load.subscribers, 2 * of_stream)?;
        check_held("a stream of /live", load.viewers, of_viewer)?;
        check_held("a connection", load.callers, of_caller)?;
        check_held("an admin connection", load.onlookers, of_onlooker)?;
        let bounds = [
            ("listed connections", load.listed, load.slots),
            ("topics in passes", load.passes, 2 * TOPICS + 2),
            ("topics that linger", load.lingers, 2 * TOPICS + 2),
        ];
        check_bounds("of the server", &bounds)
    }

    /// Whether something goes on that needs no time to pass.
    pub(super) fn is_busy(&self) -> bool {
        let sends = |party: &Party<Publisher>| party.line.is_some() && party.client.has_more();
        self.kernel.is_pending()
            || self.publishers.iter().any(sends)
            || self.callers_read()
            || (!self.inbox.is_empty() && !self.turns.server.is_lagging())
            || self.turns.timeout() == Some(Duration::ZERO)
    }

    /// Turns until nothing is left to do now.
    pub(super) fn rest(&mut self) -> Checked {
        for _ in 0..REST_TURNS_MAX {
            if self.turns.server.is_over() || !self.is_busy() {
                return Ok(());
            }
            self.turn()?;
        }
        Err(format!("it does not come to rest: {:?}", self.turns.timeout()))
    }

    /// Lets time pass: the loop turns when something happens, and when it wanted to.
    pub(super) fn pass(&mut self, ms: u64) -> Checked {
        let end_ns = self.clock.get() + ms * 1_000_000;
        let (mut idle_turns, begun) = (0, self.kernel.accept_calls());
        while self.clock.get() < end_ns && !self.turns.server.is_over() {
            self.rest()?;
            let timeout = self.turns.timeout().unwrap_or(Duration::MAX);
            let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            let mut next_ns = end_ns.min(self.clock.get().saturating_add(timeout_ns));
            if self.clock.get() < self.starved_until_ns {
                next_ns = next_ns.min(self.starved_until_ns);
            }
            self.clock.set(next_ns.max(self.clock.get()));
            self.turn()?;
            idle_turns += 1;
        }
        // A tick of the sweep is a millisecond at least, a starved listener tries every ten.
        if idle_turns > 1000 + 2 * ms {
            return Err(format!("{idle_turns} turns for nothing in {ms} ms"));
        }
        let accepts = (self.kernel.accept_calls() - begun) as u64;
        if accepts > 1000 + ms {
            return Err(format!("{accepts} calls of accept in {ms} ms"));
        }
        self.check_stalls()?;
        self.check_viewers()?;
        self.check_heartbeats()
    }

    /// A reader that takes nothing is cut in time.
    pub(super) fn check_stalls(&self) -> Checked {
        let now_ns = self.clock.get();
        let patience_ns = (self.knobs.stall_timeout_ms + SWEEP_MS) * 1_000_000;
        if self.knobs.stall_timeout_ms == 0 || now_ns - self.disturbed_ns <= patience_ns {
            return Ok(());
        }
        let lines = self.subscribers.iter().filter_map(|party| party.line.as_ref());
        match lines.map(|line| line.stalled_ns(now_ns)).find(|&stalled_ns| stalled_ns > patience_ns)
        {
            Some(stalled_ns) => {
                Err(format!("a reader has stalled for {stalled_ns} ns, and is not cut"))
            }
            None => Ok(()),
        }
    }

    /// A viewer of `/live` that reads sees the state again and again.
    fn check_viewers(&self) -> Checked {
        let looks = |party: &&Party<Caller>| {
            party.client.is_live() && party.line.is_some() && party.cut == usize::MAX
        };
        for party in self.onlookers.iter().filter(looks) {
            let since_ns = party.heard_ns.max(self.disturbed_ns);
            let silent_ns = self.clock.get().saturating_sub(since_ns);
            if silent_ns > LIVE_NS_MAX && !self.turns.server.is_over() {
                return Err(format!("a viewer of /live has seen nothing for {silent_ns} ns"));
            }
        }
        Ok(())
    }

    /// A stream that can take something is not left silent for long.
    pub(super) fn check_heartbeats(&self) -> Checked {
        if self.knobs.heartbeat == Heartbeat::Off || self.turns.server.is_over() {
            return Ok(());
        }
        let patience_ns = (self.knobs.heartbeat_ms + SWEEP_MS) * 1_000_000;
        for (who, party) in self.subscribers.iter().enumerate() {
            let since_ns = party.heard_ns.max(self.disturbed_ns);
            let silent_ns = self.clock.get().saturating_sub(since_ns);
            let waits = party.prompt && party.client.is_subscribed() && party.line.is_some();
            if waits && silent_ns > patience_ns {
                return Err(format!("subscriber {who} has heard nothing for {silent_ns} ns"));
            }
        }
        Ok(())
    }

    /// The process is stopped, and goes on as if nothing had been.
    pub(super) fn suspend(&mut self, minutes: u64) -> Checked {
        let streams = self.turns.server.load().streams as u64;
        let before = self.turns.server.counters().heartbeats;
        self.clock.set(self.clock.get() + minutes * 60_000_000_000);
        self.disturbed_ns = self.clock.get();
        self.pass(1500)?;
        let heartbeats = self.turns.server.counters().heartbeats - before;
        // Two at the most: the last one may have been due just before.
        if heartbeats > 2 * streams {
            return Err(format!("{heartbeats} heartbeats for {streams} streams"));
        }
        Ok(())
    }
}

/// What is allocated for one connection has a bound.
fn check_held(whose: &str, held: Held, private_bytes_max: usize) -> Checked {
    let bounds = [
        ("bytes of answers or of its own", held.private, private_bytes_max),
        ("bytes of input", held.input, (16 << 10) + (64 << 10)),
        ("bytes allocated for a body", held.body, BODY_BYTES_MAX),
        ("bytes allocated for a watch", held.watch, WATCH_BYTES_MAX),
    ];
    check_bounds(whose, &bounds)
}

fn check_bounds(whose: &str, bounds: &[(&str, usize, usize)]) -> Checked {
    match bounds.iter().find(|(_, is, bound)| is > bound) {
        Some((what, is, bound)) => Err(format!("{what} of {whose}: {is}, above {bound}")),
        None => Ok(()),
    }
}

/// Longer than the sweep takes to come by.
const SWEEP_MS: u64 = 3000;
/// Longer than the time between two states of `/live`.
const LIVE_NS_MAX: u64 = 1_000_000_000;
/// The longest head of a stream, with the line that follows it at once.
const HEAD_BYTES_MAX: usize = 400;
/// The longest gap notice, in its chunk.
const NOTICE_BYTES_MAX: usize = 120;
/// The longest frame that a draft can become: its data, its fields, and what each line takes.
const EVENT_FRAME_BYTES_MAX: usize = 500;
/// The longest state that `/live` sends.
const STATE_BYTES_MAX: usize = 16 << 10;
/// The longest answer of the public listener,
const ANSWER_BYTES_MAX: usize = 1 << 10;
/// and of the admin listener.
const ADMIN_ANSWER_BYTES_MAX: usize = 64 << 10;
/// The longest body in use is an event, or a line of one, in two buffers and with its fields.
const BODY_BYTES_MAX: usize = 2 << 10;
/// A few dozen interruptions of a stream.
const WATCH_BYTES_MAX: usize = 8 << 10;
