//! What the callers of a simulated world do.

use super::{Checked, Party, World};
use crate::server::Door;
use crate::testing::caller::{Ask, Caller};
use crate::testing::pipe::ClientEnd;
use crate::testing::scenario::Leave;

impl World {
    /// A caller asks. One that has no connection gets one.
    pub(super) fn ask(&mut self, who: usize, ask: Ask, times: usize, sip: usize) {
        let door = ask.door();
        let admin = door == Door::Admin;
        while self.callers_at(admin).len() <= who {
            self.callers_at(admin).push(Party::new(Caller::default()));
        }
        if self.callers_at(admin)[who].line.is_none() {
            if !self.turns.acceptors().any(|acceptor| acceptor.door() == door) {
                return;
            }
            let line = self.connect(WINDOW_BYTES, door);
            let party = &mut self.callers_at(admin)[who];
            party.client.connect();
            (party.line, party.careless, party.waited) = (Some(line), false, 0);
        }
        let party = &mut self.callers_at(admin)[who];
        // Whoever still has much to read does not begin to read more slowly.
        party.cut = if party.client.waits() { party.cut.max(sip) } else { sip };
        if let Some(line) = party.line.as_ref().filter(|_| !party.careless) {
            line.send(&party.client.ask(ask, times));
        }
    }

    pub(super) fn hang_up(&mut self, who: usize, admin: bool, how: Leave) {
        let Some(party) = self.callers_at(admin).get_mut(who) else { return };
        let Some(line) = &party.line else { return };
        match how {
            // What was asked before is still answered.
            Leave::HalfClose => {
                party.careless = true;
                return line.close_half();
            }
            Leave::Close => line.close(),
            Leave::Reset => line.reset(),
        }
        party.line = None;
    }

    /// Each reads its sip. Whoever has asked, and takes what it is given, gets more of it soon.
    pub(super) fn callers(&mut self) -> Checked {
        let now_ns = self.clock.get();
        let mut returning = Vec::new();
        let callers = self.callers.iter_mut().map(|party| (None, party));
        let onlookers = self.onlookers.iter_mut().enumerate();
        for (nth, party) in callers.chain(onlookers.map(|(nth, party)| (Some(nth), party))) {
            let Some(line) = &party.line else { continue };
            let received = line.receive(party.cut);
            let named = |why: String| format!("a caller: {why}");
            party.client.receive(&received).map_err(named)?;
            let over = line.is_over();
            if !received.is_empty() {
                (party.heard_ns, party.waited) = (now_ns, 0);
            } else if party.client.waits() && line.has_arrived() && !over {
                party.waited += 1;
            }
            if party.waited > WAITED_TURNS_MAX {
                return Err(format!("a caller has waited for {WAITED_TURNS_MAX} turns: {party:?}"));
            }
            if over {
                party.line = None;
                returning.extend(nth.filter(|_| party.client.is_live()));
            }
        }
        // The live page comes back when its stream ends, at once while the server goes down.
        if self.drained_at_seq.is_some() {
            returning.into_iter().for_each(|who| self.ask(who, Ask::Live, 1, usize::MAX));
        }
        Ok(())
    }

    /// Whether a caller has something to read. A stream has no end: a slow reader of one is behind
    /// for as long as it reads.
    pub(super) fn callers_read(&self) -> bool {
        let reads = |party: &Party<Caller>| {
            let slow_stream = party.client.is_live() && party.cut < usize::MAX;
            !slow_stream && party.line.as_ref().is_some_and(ClientEnd::has_unread)
        };
        self.callers.iter().chain(&self.onlookers).any(reads)
    }

    /// Everything that was asked has been answered.
    pub(super) fn check_answered(&self) -> Checked {
        let all = self.callers.iter().chain(&self.onlookers);
        let mut waiting = all.filter(|party| party.line.is_some() && party.client.waits());
        waiting.next().map_or(Ok(()), |party| Err(format!("a caller is not answered: {party:?}")))
    }

    fn callers_at(&mut self, admin: bool) -> &mut Vec<Party<Caller>> {
        if admin { &mut self.onlookers } else { &mut self.callers }
    }
}

/// The send buffer behind each connection of a caller.
const WINDOW_BYTES: usize = 4000;
/// Readiness is late by three turns at most, and everything else is prompt.
pub(super) const WAITED_TURNS_MAX: usize = 500;
