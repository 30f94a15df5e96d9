//! A simulated world: a real server between simulated clients, on a simulated kernel, under a
//! simulated clock.
//!
//! It lives through a [`Scenario`] and says what was wrong, if anything was. Besides what the
//! clients check of their streams and answers it checks that
//!
//! * the server's own invariants hold after each turn, and memory stays within its bounds;
//! * it comes to rest: after the last input there are only so many turns until it waits, and it
//!   waits until something is due;
//! * at rest nobody has been forgotten: every subscriber knows of everything that was published to
//!   its topics, every request is answered;
//! * time does what it should: silent streams get heartbeats, one and no burst of them after the
//!   process was stopped; who asks for nothing is sent away;
//! * after a drain no slot is taken, and no stream was cut short that there was time for.

use super::Dice;
use super::kernel::Kernel;
use super::knobs::{HELD_BACK_MS_MAX, Knobs, SILENCE_MS};
use super::ledger::Ledger;
use super::pipe::{ClientEnd, ServerEnd, pipe};
use super::publisher::Publisher;
use super::scenario::{Leave, Scenario, Step, TOPICS};
use super::subscriber::Subscriber;
use crate::config::Heartbeat;
use crate::push::gap::Overrun;
use crate::reactor::acceptor::Acceptor;
use crate::reactor::turn::Turns;
use crate::server::{Door, OwnedEvent, Platform, Server};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Simulated sockets, and a clock that moves when it is told to, and a little with each look.
#[derive(Debug, Clone)]
struct Simulation {
    now_ns: Rc<Cell<u64>>,
}

impl Platform for Simulation {
    type Socket = ServerEnd;

    fn now_ns(&self) -> u64 {
        // A look at the clock stands for the work since the last one.
        self.now_ns.set(self.now_ns.get() + 10_000);
        self.now_ns.get()
    }

    fn unix_s(&self) -> u64 {
        self.now_ns.get() / 1_000_000_000
    }
}

/// How much has happened in a world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lived {
    /// Events that subscribers have received and checked.
    pub events: usize,
    /// Gap notices likewise.
    pub gaps: usize,
    /// Events that publishers were acknowledged.
    pub acknowledged: usize,
    /// Turns of the loop.
    pub turns: usize,
}

impl std::ops::AddAssign for Lived {
    fn add_assign(&mut self, more: Lived) {
        self.events += more.events;
        self.gaps += more.gaps;
        self.acknowledged += more.acknowledged;
        self.turns += more.turns;
    }
}

/// A client and its connection, if it has one.
#[derive(Debug)]
struct Party<C> {
    client: C,
    line: Option<ClientEnd>,
    /// A subscriber reads as soon as it can; a publisher sends so many bytes a turn.
    prompt: bool,
    cut: usize,
    /// Nothing is owed to it: it has gone by half, or talked, or was cut off.
    careless: bool,
    /// When it last received something.
    heard_ns: u64,
}

impl<C> Party<C> {
    fn new(client: C) -> Party<C> {
        Party { client, line: None, prompt: true, cut: 1000, careless: false, heard_ns: 0 }
    }
}

/// What a step comes to: something may be wrong.
type Checked = Result<(), String>;

/// The world. See the [module's text](self).
#[derive(Debug)]
pub struct World {
    dice: Dice,
    clock: Rc<Cell<u64>>,
    kernel: Kernel,
    turns: Turns<Simulation, Kernel>,
    knobs: Knobs,
    subscribers: Vec<Party<Subscriber>>,
    publishers: Vec<Party<Publisher>>,
    strangers: Vec<ClientEnd>,
    /// Who publishes from within.
    feed: Publisher,
    ledger: Ledger,
    scenario: Scenario,
    starved_until_ns: u64,
    /// Streams may have ended before their time: of age, or because their readers were overrun.
    ends_streams: bool,
    /// Publishers have always been made to wait for readers: the logs never shrank, and never were
    /// too small for that.
    holds_back: bool,
    /// When the knobs were last turned, or time was last out of joint.
    disturbed_ns: u64,
    /// What had been published when the drain began.
    drained_at_seq: Option<u64>,
    lived: Lived,
}

impl World {
    /// Lives through a scenario.
    ///
    /// # Errors
    /// What was wrong. The server may panic besides.
    pub fn live(scenario: &Scenario) -> Result<Lived, String> {
        let mut world = World::new(scenario.clone());
        for (nth, step) in scenario.steps.iter().enumerate() {
            let done = world.step(step).and_then(|()| world.turn());
            done.map_err(|why| format!("in step {nth}, {step:?}: {why}"))?;
        }
        world.end().map_err(|why| format!("at the end: {why}"))?;
        Ok(world.lived())
    }

    fn new(scenario: Scenario) -> World {
        let mut dice = Dice::new(scenario.seed);
        let clock = Rc::new(Cell::new(1));
        let kernel = Kernel::new(Dice::new(scenario.seed ^ 1), scenario.faults);
        let simulation = Simulation { now_ns: Rc::clone(&clock) };
        let random = dice.roll(1 << 30) as u64;
        let mut server = Server::new(scenario.knobs.config(), simulation, 200, random);
        server.keep_journal();
        let acceptor = Acceptor::new(kernel.clone(), Door::Public);
        World {
            dice,
            clock,
            turns: Turns::new(server, vec![acceptor]),
            kernel,
            ends_streams: ends_streams(&scenario.knobs),
            holds_back: scenario.knobs.holds_publishers_back(),
            knobs: scenario.knobs.clone(),
            subscribers: Vec::new(),
            publishers: Vec::new(),
            strangers: Vec::new(),
            feed: Publisher::new(u8::MAX),
            ledger: Ledger::default(),
            scenario,
            starved_until_ns: 0,
            disturbed_ns: 0,
            drained_at_seq: None,
            lived: Lived::default(),
        }
    }

    fn lived(&self) -> Lived {
        let mut lived = self.lived;
        for party in &self.subscribers {
            lived.events += party.client.seen.0;
            lived.gaps += party.client.seen.1;
        }
        lived.acknowledged += self.publishers.iter().map(|p| p.client.acknowledged).sum::<usize>();
        lived
    }

    fn step(&mut self, step: &Step) -> Checked {
        match *step {
            Step::Subscribe { who, topics, http10, window_bytes, prompt } => {
                self.subscribe(who, topics, http10, window_bytes, prompt);
            }
            Step::Read { who, bytes } => return self.read(who, bytes),
            Step::Leave { who, how } => self.leave(who, how),
            Step::Chatter { who, bytes } => {
                if let Some((party, line)) = self.line_of(who) {
                    line.send(&vec![b'x'; bytes]);
                    party.careless = true;
                }
            }
            Step::DoomSubscriber { who, bytes } => {
                if let Some((party, line)) = self.line_of(who) {
                    line.doom(bytes);
                    party.careless = true;
                }
            }
            Step::Feed { topic, events, own_id } => {
                return (0..events).try_for_each(|_| self.publish_from_within(topic, own_id));
            }
            Step::Publish { who, topic, form, events, own_id, cut } => {
                self.reach_publisher(who);
                let party = &mut self.publishers[who];
                party.client.publish(&name_of(topic), form, events, own_id);
                party.cut = cut;
            }
            Step::DoomPublisher { who, bytes } => {
                self.reach_publisher(who);
                let party = &mut self.publishers[who];
                party.careless = true;
                party.line.iter().for_each(|line| line.doom(bytes));
            }
            Step::Retry { who } => {
                if let Some(line) = self.publishers.get_mut(who).and_then(|party| party.line.take())
                {
                    line.reset();
                }
                self.reach_publisher(who);
            }
            Step::Stranger { text, closes } => {
                let line = self.connect(1000);
                line.send(text.as_bytes());
                if closes {
                    line.close_half();
                }
                self.strangers.push(line);
            }
            Step::Starve { ms } => {
                self.starved_until_ns = self.clock.get() + ms * 1_000_000;
                self.kernel.set_starved(true);
            }
            Step::Abort => self.kernel.abort_next(),
            Step::RefuseRegistration => self.kernel.refuse_next_registration(),
            Step::Pass { ms } => return self.pass(ms),
            Step::Suspend { minutes } => return self.suspend(minutes),
            Step::Turn(ref knobs) => self.adopt(&Knobs::clone(knobs)),
            Step::Settle => return self.settle(),
            Step::Drain => self.drain(),
        }
        Ok(())
    }
}

/// What clients do.
impl World {
    fn connect(&mut self, window_bytes: usize) -> ClientEnd {
        let dice = Dice::new(self.dice.roll(1 << 30) as u64);
        let (server_end, line) = pipe(window_bytes, dice, self.scenario.faults);
        if self.turns.server.accepts() {
            self.kernel.connect(server_end);
        }
        line
    }

    fn subscribe(&mut self, who: usize, topics: u8, http10: bool, window: usize, prompt: bool) {
        while self.subscribers.len() <= who {
            let named = (0..TOPICS as u8).filter(|topic| topics >> topic & 1 == 1).map(name_of);
            self.subscribers.push(Party::new(Subscriber::new(named.collect())));
        }
        if self.subscribers[who].line.is_some() {
            return;
        }
        let line = self.connect(window);
        let party = &mut self.subscribers[who];
        let version = if http10 { "1.0" } else { "1.1" };
        line.send(party.client.connect(version, &self.ledger).as_bytes());
        (party.line, party.prompt, party.careless) = (Some(line), prompt, false);
    }

    fn line_of(&mut self, who: usize) -> Option<(&mut Party<Subscriber>, ClientEnd)> {
        let party = self.subscribers.get_mut(who)?;
        let line = party.line.clone()?;
        Some((party, line))
    }

    fn read(&mut self, who: usize, bytes: usize) -> Checked {
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
    fn check_end_of_stream(&mut self, who: usize) -> Checked {
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

    fn leave(&mut self, who: usize, how: Leave) {
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
    fn reach_publisher(&mut self, who: usize) {
        while self.publishers.len() <= who {
            let name = self.publishers.len() as u8;
            self.publishers.push(Party::new(Publisher::new(name)));
        }
        if self.publishers[who].line.is_none() {
            let line = self.connect(200);
            let party = &mut self.publishers[who];
            party.client.connect(&mut self.ledger);
            (party.line, party.careless) = (Some(line), false);
        }
    }

    fn publish_from_within(&mut self, topic: u8, own_id: bool) -> Checked {
        // A feed waits while readers lag behind: its reactor takes no more from it.
        for _ in 0..REST_TURNS_MAX {
            if !self.turns.server.is_lagging() {
                break;
            }
            self.turn()?;
        }
        if self.turns.server.is_over() {
            return Ok(());
        }
        let draft = self.feed.draft(&name_of(topic), own_id);
        let event = OwnedEvent {
            topic: draft.topic.clone(),
            id: draft.own_id(),
            data: draft.data(),
            ..OwnedEvent::default()
        };
        self.turns.server.publish(&event)?;
        self.ledger.read(self.turns.server.hub())?;
        match self.ledger.has(&draft) {
            true => Ok(()),
            false => Err(format!("{draft:?} was accepted, and is not published")),
        }
    }

    /// What clients do by themselves after each turn.
    fn clients(&mut self) -> Checked {
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
        self.strangers.retain(|line| {
            line.receive(usize::MAX);
            !line.is_over()
        });
        Ok(())
    }
}

/// What time does.
impl World {
    /// One turn of the loop, with what a kernel would report.
    fn turn(&mut self) -> Checked {
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
    fn check_stale(&self) -> Checked {
        let reported = 2 * self.kernel.stale_reports();
        match self.turns.server.counters().turns.stale_events {
            seen if seen == reported => Ok(()),
            seen => Err(format!("{seen} of {reported} stale events were recognised")),
        }
    }

    fn check_memory(&self) -> Checked {
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
    fn is_busy(&self) -> bool {
        let sends = |party: &Party<Publisher>| party.line.is_some() && party.client.has_more();
        self.kernel.is_pending()
            || self.publishers.iter().any(sends)
            || self.turns.timeout() == Some(Duration::ZERO)
    }

    /// Turns until nothing is left to do now.
    fn rest(&mut self) -> Checked {
        for _ in 0..REST_TURNS_MAX {
            if self.turns.server.is_over() || !self.is_busy() {
                return Ok(());
            }
            self.turn()?;
        }
        Err(format!("it does not come to rest: {:?}", self.turns.timeout()))
    }

    /// Lets time pass: the loop turns when something happens, and when it wanted to.
    fn pass(&mut self, ms: u64) -> Checked {
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
    fn check_heartbeats(&self) -> Checked {
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
    fn suspend(&mut self, minutes: u64) -> Checked {
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

    fn adopt(&mut self, knobs: &Knobs) {
        self.holds_back &= knobs.holds_publishers_back()
            && knobs.log_bytes_max >= self.knobs.log_bytes_max
            && knobs.log_events_max >= self.knobs.log_events_max;
        self.turns.server.reconfigure(knobs.config());
        self.knobs = knobs.clone();
        self.ends_streams |= ends_streams(knobs);
        self.disturbed_ns = self.clock.get();
    }
}

/// How it ends.
impl World {
    /// Nothing is held back, everybody reads, and when nothing moves any more, nobody may be left
    /// who does not know of everything, or waits for an answer.
    fn settle(&mut self) -> Checked {
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

    fn check_complete(&mut self) -> Checked {
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
            None => Ok(()),
        }
    }

    /// Everybody comes back and reads; then all fall silent; then the server goes down.
    fn end(&mut self) -> Checked {
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
        self.drain();
        self.pass(self.knobs.drain_ms + 100)?;
        match self.turns.server.connection_count() {
            0 if self.turns.server.is_over() => Ok(()),
            count => Err(format!("it is not down, {count} connections are left")),
        }
    }

    fn drain(&mut self) {
        if self.drained_at_seq.is_none() {
            self.drained_at_seq = Some(self.ledger.last_seq);
            self.turns.server.drain();
        }
    }
}

fn ends_streams(knobs: &Knobs) -> bool {
    knobs.overrun == Overrun::Close || knobs.connection_age_ms > 0
}

fn name_of(topic: u8) -> String {
    format!("t{topic}")
}

/// The longest head of a stream, with the line that follows it at once.
const HEAD_BYTES_MAX: usize = 400;
/// The longest gap notice, in its chunk.
const NOTICE_BYTES_MAX: usize = 120;
/// The longest frame that a draft can become: its data, its fields, and what each line takes.
const EVENT_FRAME_BYTES_MAX: usize = 400;
/// So many turns are enough for whatever can be waiting in a world of this size.
const REST_TURNS_MAX: usize = 50_000;
