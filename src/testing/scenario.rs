//! What happens in a simulated world, as a value.
//!
//! A scenario is drawn from a seed, or from bytes that a fuzzer has chosen, before anything happens.
//! Each step means something whatever came before it, so that a scenario with steps left out is
//! again one. That is how a failure is made small enough to be understood. Its debug text is Rust: it
//! can be pasted into a test.

use super::Dice;
use super::access::{Access, Reload};
use super::caller::{self, Ask};
use super::faults::Faults;
use super::knobs::Knobs;
use super::publisher::Form;
use std::fmt;

/// A world's life. See the [module's text](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What the faults, and the kernel's whims, are drawn from.
    pub seed: u64,
    /// What goes wrong, and how often.
    pub faults: Faults,
    /// The settings to begin with.
    pub knobs: Knobs,
    /// Where the server listens, and which tokens it asks for.
    pub access: Access,
    /// What happens.
    pub steps: Vec<Step>,
}

/// Something that happens. Clients have numbers; whoever is not there yet is made.
#[allow(missing_docs)] // the fields are what their names say
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A subscriber connects, unless it is connected. The topics that it has for life are the bits
    /// of `topics`. One that is not `prompt` reads only when a step says so.
    Subscribe { who: usize, topics: u8, http10: bool, window_bytes: usize, prompt: bool },
    /// A subscriber that is not prompt reads up to so many bytes.
    Read { who: usize, bytes: usize },
    /// A subscriber goes.
    Leave { who: usize, how: Leave },
    /// A subscriber talks on its stream.
    Chatter { who: usize, bytes: usize },
    /// A subscriber's connection is reset when so many more bytes have gone through it.
    DoomSubscriber { who: usize, bytes: usize },
    /// Events are handed over by a feed within the process.
    Feed { topic: u8, events: usize, own_id: bool },
    /// A publisher sends a request, at most `cut` bytes a turn.
    Publish { who: usize, topic: u8, form: Form, events: usize, own_id: bool, cut: usize },
    /// A publisher's connection is reset when so many more bytes have gone through it.
    DoomPublisher { who: usize, bytes: usize },
    /// A publisher goes to another connection, and repeats there what was not answered.
    Retry { who: usize },
    /// A client asks for the same `times` times at once, and reads at most `sip` bytes of the answers
    /// a turn. Those of the admin listener have numbers of their own.
    Ask { who: usize, ask: Ask, times: usize, sip: usize },
    /// A client that asked goes.
    HangUp { who: usize, admin: bool, how: Leave },
    /// Somebody connects and sends this, and then nothing.
    Stranger { text: &'static str, closes: bool },
    /// For so long no descriptor is left for a new connection.
    Starve { ms: u64 },
    /// The next connection fails before it is accepted,
    Abort,
    /// or cannot be registered.
    RefuseRegistration,
    /// Time passes.
    Pass { ms: u64 },
    /// The process is stopped for so long.
    Suspend { minutes: u64 },
    /// Other settings are adopted.
    Turn(Box<Knobs>),
    /// Somebody looks at all streams, several times at once.
    Look,
    /// The configuration is read again.
    Reload(Box<Reload>),
    /// Nothing more happens until all are at rest, and then everybody must know everything.
    Settle,
    /// The server goes down.
    Drain,
}

/// How a subscriber goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Leave {
    Close,
    HalfClose,
    Reset,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn of_seed(seed: u64) -> Scenario {
        Scenario::draw(&mut Dice::new(seed), STEPS)
    }

    /// A scenario of at most `steps_max` steps.
    pub fn draw(dice: &mut Dice, steps_max: usize) -> Scenario {
        let seed = (0..4).fold(0, |seed, _| seed << 16 | dice.roll(1 << 16) as u64);
        let (faults, knobs, access) = (Faults::draw(dice), Knobs::draw(dice), Access::draw(dice));
        let mut steps = Vec::new();
        // Some worlds are crowded, some are lonely.
        let crowd = Crowd {
            subscribers: 1 + dice.roll(8),
            publishers: 1 + dice.roll(3),
            callers: dice.roll(3),
            onlookers: *dice.pick(&[0, 0, 1, 4]),
        };
        let drains = dice.once_in(4);
        while steps.len() < steps_max && !dice.is_spent() {
            steps.push(crowd.step(dice));
        }
        if drains {
            steps.push(Step::Drain);
            steps.extend((0..dice.roll(20)).map(|_| crowd.step(dice)));
        }
        Scenario { seed, faults, knobs, access, steps }
    }
}

/// Who takes part.
#[derive(Debug)]
struct Crowd {
    subscribers: usize,
    publishers: usize,
    /// Those who ask for something else,
    callers: usize,
    /// and those who do at the admin listener.
    onlookers: usize,
}

impl Crowd {
    fn step(&self, dice: &mut Dice) -> Step {
        match dice.roll(48) {
            0..=4 => self.subscribe(dice),
            5..=12 => {
                let bytes = *dice.pick(&[1, 7, 40, 300, 5000, 1 << 20]);
                Step::Read { who: dice.roll(self.subscribers), bytes }
            }
            13 | 14 => {
                let how = *dice.pick(&[Leave::Close, Leave::HalfClose, Leave::Reset]);
                Step::Leave { who: dice.roll(self.subscribers), how }
            }
            15 => {
                let bytes = *dice.pick(&[1, 100, 30_000]);
                Step::Chatter { who: dice.roll(self.subscribers), bytes }
            }
            16 => Step::DoomSubscriber {
                who: dice.roll(self.subscribers),
                bytes: 1 + dice.roll(2000),
            },
            17..=22 => feed(dice, 3),
            23 | 24 => {
                let events_max = *dice.pick(&[40, 40, 40, 300]);
                feed(dice, events_max)
            }
            25..=30 => self.publish(dice),
            31 => {
                Step::DoomPublisher { who: dice.roll(self.publishers), bytes: 1 + dice.roll(1000) }
            }
            32 => Step::Retry { who: dice.roll(self.publishers) },
            33 => Step::Stranger { text: dice.pick::<&str>(&STRANGERS), closes: dice.once_in(2) },
            34 => match dice.roll(4) {
                0 => Step::Starve { ms: 5 },
                1 => Step::Starve { ms: 300 },
                2 => Step::Abort,
                _ => Step::RefuseRegistration,
            },
            35 | 36 => Step::Pass { ms: *dice.pick(&[1, 10, 100, 1000, 5_000, 9_000]) },
            37 if dice.once_in(3) => Step::Suspend { minutes: *dice.pick(&[1, 60, 600]) },
            38 => Step::Turn(Box::new(Knobs::draw(dice))),
            39 if dice.once_in(3) => Step::Settle,
            40 | 47 if self.callers > 0 => self.call(dice),
            41 if dice.once_in(2) => Step::Look,
            42..=45 if self.onlookers > 0 => self.look_on(dice),
            46 => Step::Reload(Box::new(Reload::draw(dice))),
            _ => feed(dice, 10),
        }
    }

    fn subscribe(&self, dice: &mut Dice) -> Step {
        Step::Subscribe {
            who: dice.roll(self.subscribers),
            // Mostly one topic, or few.
            topics: match dice.roll(3) {
                0 => 1 << dice.roll(TOPICS),
                _ => 1 + dice.roll((1 << TOPICS) - 1) as u8,
            },
            http10: dice.once_in(4),
            window_bytes: *dice.pick(&[64, 100, 333, 1000, 5000, 100_000]),
            prompt: dice.once_in(3),
        }
    }

    fn call(&self, dice: &mut Dice) -> Step {
        let who = dice.roll(self.callers);
        if dice.once_in(4) {
            return hang_up(who, false, dice);
        }
        // The more answers there are, the larger are the sips: a world is not to last for ever.
        const CROWDS: [(usize, usize); 8] =
            [(1, 3), (1, 40), (3, 40), (3, 500), (30, 500), (30, 2000), (300, 2000), (900, 3000)];
        let (times, sip) = *dice.pick(&CROWDS);
        Step::Ask { who, ask: *dice.pick(&caller::ASKS), times, sip }
    }

    fn look_on(&self, dice: &mut Dice) -> Step {
        let who = dice.roll(self.onlookers);
        match dice.roll(6) {
            0 => hang_up(who, true, dice),
            1 | 2 => {
                let sip = *dice.pick(&[40, 500, usize::MAX]);
                Step::Ask { who, ask: Ask::Live, times: 1, sip }
            }
            _ => {
                let (times, sip) = *dice.pick(&[(1, 40), (1, 3000), (5, 10_000), (10, 5000)]);
                Step::Ask { who, ask: *dice.pick(&caller::ADMIN_ASKS), times, sip }
            }
        }
    }

    fn publish(&self, dice: &mut Dice) -> Step {
        let chunk = *dice.pick(&[1, 30, 200]);
        Step::Publish {
            who: dice.roll(self.publishers),
            topic: dice.roll(TOPICS) as u8,
            form: *dice.pick(&[Form::Plain, Form::Feed, Form::Chunked(chunk)]),
            events: 1 + dice.roll(6),
            own_id: dice.once_in(2),
            cut: *dice.pick(&[1000, 400, 60, 7]),
        }
    }
}

fn hang_up(who: usize, admin: bool, dice: &mut Dice) -> Step {
    let how = *dice.pick(&[Leave::Close, Leave::HalfClose, Leave::Reset]);
    Step::HangUp { who, admin, how }
}

fn feed(dice: &mut Dice, events_max: usize) -> Step {
    let topic = dice.roll(TOPICS) as u8;
    Step::Feed { topic, events: 1 + dice.roll(events_max), own_id: dice.once_in(4) }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Scenario {{\n    seed: {},", self.seed)?;
        writeln!(f, "    faults: {:?},", self.faults)?;
        writeln!(f, "    knobs: {:?},", self.knobs)?;
        writeln!(f, "    access: {:?},", self.access)?;
        writeln!(f, "    steps: vec![")?;
        self.steps.iter().try_for_each(|step| writeln!(f, "        {step:?},"))?;
        f.write_str("    ],\n}")
    }
}

/// What somebody may send who does not know what this is, or knows it too well.
const STRANGERS: [&str; 12] = [
    "",
    "\r\n\r\n",
    "GET",
    "GET / HTTP/1.1\r\nHost: sim\r\n",
    "GET /healthz HTTP/1.1\r\nHost: sim\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: sim\r\n\r\n",
    "HEAD /events/t0 HTTP/1.1\r\nHost: sim\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}",
    "POST /events/t0 HTTP/1.1\r\nHost: sim\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST /events/t0 HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    "POST /events/t0 HTTP/1.1\r\nHost: sim\r\nContent-Length: 99\r\n\r\nit stops here",
    "POST /events/t0 HTTP/1.1\r\nHost: sim\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: a",
];

/// Topics are called `t0` and so on.
pub(super) const TOPICS: usize = 4;
const STEPS: usize = 120;
