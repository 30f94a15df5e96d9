//! What time does to a simulated world: turns of the loop, and what must hold in each.

use super::{Checked, Party, REST_TURNS_MAX, World, ends_streams};
use crate::config::Heartbeat;
use crate::testing::knobs::Knobs;
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
        let kernel = self.kernel.clone();
        self.turns.accept(|socket, number| kernel.register(socket, number));
        self.turns.end();
        if !self.turns.server.accepts() {
            self.kernel.close_queue();
        }
        self.ledger.read(self.turns.server.hub())?;
        self.turns.server.check_invariants();
        self.check_stale()?;
        self.check_memory()?;
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

    pub(super) fn check_memory(&self) -> Checked {
        let load = self.turns.server.load();
        let per_stream = HEAD_BYTES_MAX + NOTICE_BYTES_MAX * TOPICS + EVENT_FRAME_BYTES_MAX;
        let bounds = [
            ("private bytes of a stream", load.stream_private_bytes, per_stream),
            ("private bytes of answers", load.answer_private_bytes, (64 << 10) + 4096),
            ("unread input", load.input_bytes, (16 << 10) + (64 << 10)),
            ("listed connections", load.listed, load.slots),
            ("topics in passes", load.passes, 2 * TOPICS),
            ("topics that linger", load.lingers, 2 * TOPICS),
        ];
        match bounds.into_iter().find(|(_, is, bound)| is > bound) {
            Some((what, is, bound)) => Err(format!("{what}: {is}, above {bound}")),
            None => Ok(()),
        }
    }

    /// Whether something goes on that needs no time to pass.
    pub(super) fn is_busy(&self) -> bool {
        let sends = |party: &Party<Publisher>| party.line.is_some() && party.client.has_more();
        self.kernel.is_pending()
            || self.publishers.iter().any(sends)
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
        self.check_heartbeats()
    }

    /// A stream that can take something is not left silent for long.
    pub(super) fn check_heartbeats(&self) -> Checked {
        if self.knobs.heartbeat == Heartbeat::Off || self.turns.server.is_over() {
            return Ok(());
        }
        let patience_ns = (self.knobs.heartbeat_ms + 3000) * 1_000_000;
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

    pub(super) fn adopt(&mut self, knobs: &Knobs) {
        self.holds_back &= knobs.holds_publishers_back()
            && knobs.log_bytes_max >= self.knobs.log_bytes_max
            && knobs.log_events_max >= self.knobs.log_events_max;
        self.turns.server.adopt(knobs.config());
        self.knobs = knobs.clone();
        self.ends_streams |= ends_streams(knobs);
        self.disturbed_ns = self.clock.get();
    }
}

/// The longest head of a stream, with the line that follows it at once.
const HEAD_BYTES_MAX: usize = 400;
/// The longest gap notice, in its chunk.
const NOTICE_BYTES_MAX: usize = 120;
/// The longest frame that a draft can become: its data, its fields, and what each line takes.
const EVENT_FRAME_BYTES_MAX: usize = 400;
