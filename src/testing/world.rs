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
//! * each request is answered within so many turns of its arrival, however slowly others read;
//! * a look changes nothing, and shows what is so;
//! * what a reload puts in force is without a contradiction;
//! * a drain waits for subscribers and publishers, and not for those who look on;
//! * after a drain no slot is taken, and no stream was cut short that there was time for.

mod callers;
mod clients;
mod ending;
mod looks;
mod settings;
mod time;

use super::Dice;
use super::caller::Caller;
use super::kernel::{Entrance, Kernel};
use super::knobs::Knobs;
use super::ledger::{Draft, Ledger};
use super::pipe::{ClientEnd, ServerEnd};
use super::publisher::Publisher;
use super::scenario::{Scenario, Step};
use super::subscriber::Subscriber;
use crate::push::gap::Overrun;
use crate::reactor::acceptor::Acceptor;
use crate::reactor::turn::Turns;
use crate::server::{Door, Platform, Server};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

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
    /// Answers that callers have received and checked,
    pub answers: usize,
    /// and events of the server's state.
    pub looks: usize,
    /// Configurations that were read again, and adopted.
    pub reloads: usize,
    /// Turns of the loop.
    pub turns: usize,
}

impl std::ops::AddAssign for Lived {
    fn add_assign(&mut self, more: Lived) {
        self.events += more.events;
        self.gaps += more.gaps;
        self.acknowledged += more.acknowledged;
        self.answers += more.answers;
        self.looks += more.looks;
        self.reloads += more.reloads;
        self.turns += more.turns;
    }
}

/// A client and its connection, if it has one.
#[derive(Debug)]
struct Party<C> {
    client: C,
    line: Option<ClientEnd>,
    /// A subscriber reads as soon as it can; a publisher sends, and a caller reads, so many bytes a
    /// turn.
    prompt: bool,
    cut: usize,
    /// For how many turns it has waited for an answer, or for more of one.
    waited: usize,
    /// Nothing is owed to it: it has gone by half, or talked, or was cut off.
    careless: bool,
    /// When it last received something.
    heard_ns: u64,
}

impl<C> Party<C> {
    fn new(client: C) -> Party<C> {
        Party {
            client,
            line: None,
            prompt: true,
            cut: 1000,
            waited: 0,
            careless: false,
            heard_ns: 0,
        }
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
    turns: Turns<Simulation, Entrance>,
    knobs: Knobs,
    subscribers: Vec<Party<Subscriber>>,
    publishers: Vec<Party<Publisher>>,
    callers: Vec<Party<Caller>>,
    /// Those of the admin listener.
    onlookers: Vec<Party<Caller>>,
    strangers: Vec<ClientEnd>,
    /// Who publishes from within.
    feed: Publisher,
    /// What it has handed over, and the loop has not taken yet.
    inbox: VecDeque<Draft>,
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
    /// Since when a drain has had no subscriber and no publisher to wait for.
    unattended_ns: Option<u64>,
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
            done.map_err(|why| format!("{why}\nin step {nth}, {step:?}"))?;
        }
        world.end().map_err(|why| format!("{why}\nat the end"))?;
        Ok(world.lived())
    }

    fn new(scenario: Scenario) -> World {
        let mut dice = Dice::new(scenario.seed);
        let clock = Rc::new(Cell::new(1));
        let kernel = Kernel::new(Dice::new(scenario.seed ^ 1), scenario.faults);
        let simulation = Simulation { now_ns: Rc::clone(&clock) };
        let random = dice.roll(1 << 30) as u64;
        let mut config = scenario.knobs.config();
        scenario.access.set(&mut config);
        let doors = config.admin.map(|_| Door::Admin);
        let doors = std::iter::once(Door::Public).chain(doors);
        let acceptors = doors.map(|door| Acceptor::new(kernel.entrance(door), door)).collect();
        let mut server = Server::new(config, simulation, 200, random);
        server.keep_journal();
        let mut ledger = Ledger::default();
        ledger.narrow = scenario.knobs.is_narrow();
        World {
            dice,
            clock,
            turns: Turns::new(server, acceptors),
            kernel,
            ends_streams: ends_streams(&scenario.knobs),
            holds_back: scenario.knobs.holds_publishers_back(),
            knobs: scenario.knobs.clone(),
            subscribers: Vec::new(),
            publishers: Vec::new(),
            callers: Vec::new(),
            onlookers: Vec::new(),
            strangers: Vec::new(),
            feed: Publisher::new(u8::MAX),
            inbox: VecDeque::new(),
            ledger,
            scenario,
            starved_until_ns: 0,
            disturbed_ns: 0,
            drained_at_seq: None,
            unattended_ns: None,
            lived: Lived::default(),
        }
    }

    fn lived(&self) -> Lived {
        let mut lived = self.lived;
        for party in &self.subscribers {
            lived.events += party.client.seen.0;
            lived.gaps += party.client.seen.1;
        }
        for party in self.callers.iter().chain(&self.onlookers) {
            lived.answers += party.client.seen.0;
            lived.looks += party.client.seen.1;
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
                let drafts = (0..events).map(|_| self.feed.draft(&name_of(topic), own_id));
                self.inbox.extend(drafts);
            }
            Step::Ask { who, ask, times, sip } => self.ask(who, ask, times, sip),
            Step::HangUp { who, admin, how } => self.hang_up(who, admin, how),
            Step::Look => return self.look(),
            Step::Reload(ref reload) => return self.reload(reload),
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
                let line = self.connect(1000, Door::Public);
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

fn ends_streams(knobs: &Knobs) -> bool {
    knobs.overrun == Overrun::Close || knobs.connection_age_ms > 0
}

fn name_of(topic: u8) -> String {
    format!("t{topic}")
}

/// So many turns are enough for whatever can be waiting in a world of this size.
const REST_TURNS_MAX: usize = 50_000;
