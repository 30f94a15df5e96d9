//! What the clients of a simulated world do.

use super::{Checked, Party, World, name_of};
use crate::server::{Door, OwnedEvent};
use crate::testing::Dice;
use crate::testing::ledger::Draft;
use crate::testing::pipe::{ClientEnd, pipe};
use crate::testing::publisher::Publisher;
use crate::testing::scenario::{Leave, TOPICS};
use crate::testing::subscriber::Subscriber;

impl World {
    pub(super) fn connect(&mut self, window_bytes: usize, door: Door) -> ClientEnd {
        let dice = Dice::new(self.dice.roll(1 << 30) as u64);
        let (server_end, line) = pipe(window_bytes, dice, self.scenario.faults, self.clock.clone());
        if self.turns.acceptors().any(|acceptor| acceptor.door() == door) {
            self.kernel.connect(server_end, door);
        }
        line
    }

    pub(super) fn subscribe(
        &mut self,
        who: usize,
        topics: u8,
        http10: bool,
        window: usize,
        prompt: bool,
    ) {
        while self.subscribers.len() <= who {
            let named = (0..TOPICS as u8).filter(|topic| topics >> topic & 1 == 1).map(name_of);
            self.subscribers.push(Party::new(Subscriber::new(named.collect())));
        }
        if self.subscribers[who].line.is_some() {
            return;
        }
        let line = self.connect(window, Door::Public);
        let party = &mut self.subscribers[who];
        let version = if http10 { "1.0" } else { "1.1" };
        line.send(party.client.connect(version, &self.ledger).as_bytes());
        (party.line, party.prompt, party.careless) = (Some(line), prompt, false);
    }

    pub(super) fn line_of(&mut self, who: usize) -> Option<(&mut Party<Subscriber>, ClientEnd)> {
        let party = self.subscribers.get_mut(who)?;
        let line = party.line.clone()?;
        Some((party, line))
    }

    pub(super) fn read(&mut self, who: usize, bytes: usize) -> Checked {
        let now_ns = self.clock.get();
        let Some(party) = self.subscribers.get_mut(who) else { return Ok(()) };
        let Some(line) = &party.line else { return Ok(()) };
        let received = line.receive(bytes);
        if !received.is_empty() {
            party.heard_ns = now_ns;
        }
        let overruns = party.client.overruns;
        party
            .client
            .receive(&received, &self.ledger)
            .map_err(|why| format!("subscriber {who}: {why}"))?;
        if party.client.overruns > overruns && !line.was_full() && self.holds_back {
            return Err(format!("subscriber {who} was overrun, and its socket was never full"));
        }
        if line.is_over() {
            party.line = None;
            return self.check_end_of_stream(who);
        }
        Ok(())
    }

    /// A stream that ends in order while the server goes down has got everything before.
    pub(super) fn check_end_of_stream(&mut self, who: usize) -> Checked {
        let party = &mut self.subscribers[who];
        let complete = !self.ends_streams && !party.careless;
        match self.drained_at_seq {
            Some(seq) if complete && party.client.has_ended() => party
                .client
                .check_complete(seq, &self.ledger)
                .map_err(|why| format!("subscriber {who} was drained: {why}")),
            _ => Ok(()),
        }
    }

    pub(super) fn leave(&mut self, who: usize, how: Leave) {
        let Some((party, line)) = self.line_of(who) else { return };
        match how {
            // It goes on reading until the server has noticed.
            Leave::HalfClose => {
                party.careless = true;
                return line.close_half();
            }
            Leave::Close => line.close(),
            Leave::Reset => line.reset(),
        }
        party.line = None;
    }

    /// A publisher that has no connection gets one.
    pub(super) fn reach_publisher(&mut self, who: usize) {
        while self.publishers.len() <= who {
            let name = self.publishers.len() as u8;
            self.publishers.push(Party::new(Publisher::new(name)));
        }
        if self.publishers[who].line.is_none() {
            let line = self.connect(200, Door::Public);
            let party = &mut self.publishers[who];
            party.client.connect(&mut self.ledger);
            (party.line, party.careless) = (Some(line), false);
        }
    }

    /// What a feed has handed over is published, as far as the loop takes it in this turn.
    pub(super) fn take_inbox(&mut self) -> Checked {
        let World { inbox, turns, ledger, .. } = self;
        let mut next = || inbox.pop_front().map(|draft| (event_of(&draft), draft));
        let (mut drafts, mut results) = (Vec::new(), Vec::new());
        turns.publish(
            || {
                let (event, draft) = next()?;
                drafts.push(draft);
                Some(event)
            },
            |_, published| results.push(published),
        );
        if drafts.is_empty() {
            return Ok(());
        }
        ledger.read(turns.server.hub())?;
        for (draft, published) in drafts.iter().zip(results) {
            match published {
                Ok(()) if ledger.has(draft) => {}
                Ok(()) => return Err(format!("{draft:?} was accepted, and is not published")),
                Err(_) if ledger.narrow => {}
                Err(why) => return Err(format!("{draft:?} was refused: {why}")),
            }
        }
        Ok(())
    }

    /// What clients do by themselves after each turn.
    pub(super) fn clients(&mut self) -> Checked {
        for who in 0..self.subscribers.len() {
            let party = &self.subscribers[who];
            let over = party.line.as_ref().is_some_and(ClientEnd::is_over);
            if party.prompt || over {
                self.read(who, usize::MAX)?;
            }
        }
        for (who, party) in self.publishers.iter_mut().enumerate() {
            let Some(line) = &party.line else { continue };
            line.send(&party.client.next_bytes(party.cut));
            let received = line.receive(usize::MAX);
            let checked = party.client.receive(&received, &self.ledger);
            checked.map_err(|why| format!("publisher {who}: {why}"))?;
            if line.is_over() {
                party.line = None;
            }
        }
        self.callers()?;
        self.strangers.retain(|line| {
            line.receive(usize::MAX);
            !line.is_over()
        });
        Ok(())
    }
}

fn event_of(draft: &Draft) -> OwnedEvent {
    OwnedEvent {
        topic: draft.topic.clone(),
        id: draft.own_id(),
        data: draft.data(),
        ..OwnedEvent::default()
    }
}
