//! What happens in a simulated world, as a value.
//!
//! A scenario is drawn from a seed, or from bytes that a fuzzer has chosen, before anything happens.
//! Each step means something whatever came before it, so that a scenario with steps left out is
//! again one. That is how a failure is made small enough to be understood. Its debug text is Rust: it
//! can be pasted into a test.

use super::Dice;
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
    /// Events come from within the process.
    Feed { topic: u8, events: usize, own_id: bool },
    /// A publisher sends a request, at most `cut` bytes a turn.
    Publish { who: usize, topic: u8, form: Form, events: usize, own_id: bool, cut: usize },
    /// A publisher's connection is reset when so many more bytes have gone through it.
    DoomPublisher { who: usize, bytes: usize },
    /// A publisher goes to another connection, and repeats there what was not answered.
    Retry { who: usize },
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
        let (faults, knobs) = (Faults::draw(dice), Knobs::draw(dice));
        let mut steps = Vec::new();
        // Some worlds are crowded, some are lonely.
        let crowd = Crowd { subscribers: 1 + dice.roll(8), publishers: 1 + dice.roll(3) };
        let drains = dice.once_in(4);
        while steps.len() < steps_max && !dice.is_spent() {
            steps.push(crowd.step(dice));
        }
        if drains {
            steps.push(Step::Drain);
            steps.extend((0..dice.roll(20)).map(|_| crowd.step(dice)));
        }
        Scenario { seed, faults, knobs, steps }
    }
}

/// Who takes part.
#[derive(Debug)]
struct Crowd {
    subscribers: usize,
    publishers: usize,
}

impl Crowd {
    fn step(&self, dice: &mut Dice) -> Step {
        match dice.roll(40) {
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
            23 | 24 => feed(dice, 40),
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
            35 | 36 => Step::Pass { ms: *dice.pick(&[1, 10, 100, 1000, 5_000]) },
            37 if dice.once_in(3) => Step::Suspend { minutes: *dice.pick(&[1, 60, 600]) },
            38 => Step::Turn(Box::new(Knobs::draw(dice))),
            39 if dice.once_in(3) => Step::Settle,
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

fn feed(dice: &mut Dice, events_max: usize) -> Step {
    let topic = dice.roll(TOPICS) as u8;
    Step::Feed { topic, events: 1 + dice.roll(events_max), own_id: dice.once_in(4) }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Scenario {{\n    seed: {},", self.seed)?;
        writeln!(f, "    faults: {:?},", self.faults)?;
        writeln!(f, "    knobs: {:?},", self.knobs)?;
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
