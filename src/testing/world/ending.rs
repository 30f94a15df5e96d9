//! How a simulated world comes to rest, and how it ends.

use super::{Checked, Party, World};
use crate::server::Load;
use crate::testing::caller::Ask;
use crate::testing::knobs::{HELD_BACK_MS_MAX, SILENCE_MS};
use crate::testing::publisher::Publisher;

impl World {
    /// Nothing is held back, everybody reads, and when nothing moves any more, nobody may be left
    /// who does not know of everything, or waits for an answer.
    pub(super) fn settle(&mut self) -> Checked {
        let prompt: Vec<bool> = self.subscribers.iter().map(|party| party.prompt).collect();
        self.subscribers.iter_mut().for_each(|party| party.prompt = true);
        self.clients()?;
        // Accepting may have to wait for a descriptor; nothing else has to.
        self.rest()?;
        let begun_ns = self.clock.get().max(self.starved_until_ns);
        while self.kernel.queue_len() > 0 && !self.turns.server.is_over() {
            self.pass(20)?;
            if self.clock.get() > begun_ns + 1_000_000_000 {
                return Err("there are descriptors, and who waits is not accepted".into());
            }
        }
        if self.knobs.flushes_in_time() && self.drained_at_seq.is_none() {
            self.pass(HELD_BACK_MS_MAX)?;
            self.check_complete()?;
        }
        self.adopt(&self.knobs.settled());
        self.rest()?;
        for (party, prompt) in self.subscribers.iter_mut().zip(prompt) {
            party.prompt = prompt;
        }
        if self.drained_at_seq.is_some() {
            return Ok(());
        }
        self.check_complete()
    }

    pub(super) fn check_complete(&mut self) -> Checked {
        for (who, party) in self.subscribers.iter_mut().enumerate() {
            if party.line.is_none() || party.careless || !party.client.is_subscribed() {
                continue;
            }
            let complete = party.client.check_complete(self.ledger.last_seq, &self.ledger);
            complete.map_err(|why| format!("subscriber {who}: {why}"))?;
        }
        let waits = |party: &Party<Publisher>| {
            party.line.is_some() && !party.careless && !party.client.is_answered()
        };
        match self.publishers.iter().position(waits) {
            Some(who) => Err(format!("publisher {who} is not answered")),
            None => self.check_answered(),
        }
    }

    /// Everybody comes back and reads; then all fall silent; then the server goes down.
    pub(super) fn end(&mut self) -> Checked {
        for who in 0..self.subscribers.len() {
            if self.subscribers[who].line.is_none() && self.subscribers[who].client.can_resume() {
                self.subscribe(who, 0, false, 5000, true);
            }
        }
        self.settle()?;
        self.subscribers.iter_mut().for_each(|party| party.prompt = true);
        self.clients()?;
        self.pass(SILENCE_MS)?;
        let load = self.turns.server.load();
        if load.connections > load.streams {
            return Err(format!("somebody is still there who asks for nothing: {load:?}"));
        }
        // In some worlds the live page is open.
        if self.dice.once_in(4) {
            self.ask(0, Ask::Live, 1, usize::MAX);
            self.rest()?;
        }
        self.drain();
        self.pass(self.knobs.drain_ms + 100)?;
        match self.turns.server.connection_count() {
            0 if self.turns.server.is_over() => Ok(()),
            count => Err(format!("it is not down, {count} connections are left")),
        }
    }

    /// A drain is over soon after the last subscriber and the last publisher have gone. Viewers of
    /// `/live` come back as often as their streams end, and do not prolong it.
    pub(super) fn check_drain(&mut self, load: &Load) -> Checked {
        let now_ns = self.clock.get();
        if self.drained_at_seq.is_none() || load.public > 0 || self.turns.server.is_over() {
            self.unattended_ns = None;
            return Ok(());
        }
        let since_ns = (*self.unattended_ns.get_or_insert(now_ns)).max(self.disturbed_ns);
        match now_ns - since_ns > PARTING_NS_MAX {
            true => Err(format!("a drain goes on for those who look on: {load:?}")),
            false => Ok(()),
        }
    }

    pub(super) fn drain(&mut self) {
        if self.drained_at_seq.is_none() {
            self.drained_at_seq = Some(self.ledger.last_seq);
            self.turns.server.drain();
        }
    }
}

/// Longer than the last answers of the admin listener may take.
const PARTING_NS_MAX: u64 = 2_000_000_000;
