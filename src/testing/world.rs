//! A seeded world: a real server between simulated clients, under a simulated clock.
//!
//! Everything that happens is drawn from one seed: who connects, reads, naps, leaves, resets;
//! what is published, how, and in how many pieces; how much room each send buffer has; which
//! write path and flush policy is in force; when time passes. Every subscriber checks its stream
//! byte by byte (see [`super::reader`]), and the server checks its own invariants each turn.
//!
//! A failure prints its seed; `PUSHV_SEED=…` replays that one alone.

use super::Dice;
use super::pipe::{ClientEnd, ServerEnd, pipe};
use super::reader::{Entry, Ledger, Reader};
use crate::config::{Config, Heartbeat};
use crate::push::gap::Overrun;
use crate::send::flush::FlushPolicy;
use crate::send::path::WritePath;
use crate::send::rule::CopyRule;
use crate::server::{Door, OwnedEvent, Platform, Server, Token};
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Simulated sockets, and a clock that moves when it is told to, and a little with each look.
#[derive(Debug, Clone)]
pub struct Simulation {
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

/// A connection as its client holds it.
#[derive(Debug)]
struct Line {
    token: Token,
    end: ClientEnd,
    /// The reader whose stream it is; `None` for the publisher's.
    reader: Option<usize>,
}

/// The world. See the [module's text](self).
#[derive(Debug)]
pub struct World {
    dice: Dice,
    clock: Rc<Cell<u64>>,
    server: Server<Simulation>,
    lines: Vec<Line>,
    readers: Vec<Reader>,
    ledger: Ledger,
    /// Events on their way through the publisher's connection: topic, number, own id.
    under_way: VecDeque<(String, u64, Option<String>)>,
    /// What the publisher has been answered.
    answers: Vec<u8>,
    published: u64,
    settling: bool,
    /// Bytes that anybody has received.
    seen_bytes: usize,
    /// How many readers there will be.
    crowd: usize,
}

impl World {
    /// A world that `seed` determines.
    pub fn new(seed: u64) -> World {
        let mut dice = Dice::new(seed);
        let clock = Rc::new(Cell::new(1));
        let config = random_config(&mut dice);
        let crowd = *dice.pick(&[3, 12, 50]);
        let platform = Simulation { now_ns: Rc::clone(&clock) };
        World {
            server: Server::new(config, platform, 1000, 0),
            dice,
            clock,
            lines: Vec::new(),
            readers: Vec::new(),
            ledger: Ledger::default(),
            under_way: VecDeque::new(),
            answers: Vec::new(),
            published: 0,
            settling: false,
            seen_bytes: 0,
            crowd,
        }
    }

    /// Lives through `steps` steps and then lets everything come to rest; panics if anything was
    /// wrong.
    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.turn();
        }
        self.come_to_rest();
    }

    /// How many events and gap notices all readers have seen.
    pub fn seen(&self) -> (usize, usize) {
        self.readers
            .iter()
            .fold((0, 0), |sum, reader| (sum.0 + reader.seen.0, sum.1 + reader.seen.1))
    }

    fn step(&mut self) {
        match self.dice.roll(25) {
            0 | 1 => self.connect_reader(),
            2..=7 => self.publish_from_within(),
            8..=11 => self.publish_over_http(),
            12..=18 => self.read_some(),
            19 => self.leave(),
            20 => self.let_time_pass(),
            21 => self.turn_knobs(),
            22 => self.publish_again(),
            23 if self.dice.once_in(3) => self.settle(),
            _ => {
                for _ in 0..self.dice.roll(40) {
                    self.publish_from_within();
                }
            }
        }
    }

    /// A reader connects, a new one or one that was here before.
    fn connect_reader(&mut self) {
        let gone: Vec<usize> =
            (0..self.readers.len()).filter(|&nth| !self.is_connected(nth)).collect();
        let nth = if gone.is_empty() || (self.readers.len() < self.crowd && self.dice.once_in(3)) {
            let mut topics: Vec<String> = (0..TOPICS).map(|nth| format!("t{nth}")).collect();
            while topics.len() > 1 && !self.dice.once_in(3) {
                topics.swap_remove(self.dice.roll(topics.len()));
            }
            self.readers.push(Reader::new(topics, &self.ledger));
            self.readers.len() - 1
        } else {
            *self.dice.pick(&gone)
        };
        let version = *self.dice.pick(&["1.1", "1.1", "1.1", "1.0"]);
        let request = self.readers[nth].connect(version, &self.ledger);
        let buffer_bytes = *self.dice.pick(&[64, 100, 333, 1000, 5000, 100_000]);
        self.open(buffer_bytes, Some(nth), request.as_bytes());
    }

    fn open(&mut self, buffer_bytes: usize, reader: Option<usize>, request: &[u8]) {
        let (server_end, end) = pipe(buffer_bytes, self.dice.clone());
        end.send(request);
        self.server.begin_turn();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let token = self.server.open(server_end, peer, Door::Public).expect("there is room");
        self.lines.push(Line { token, end, reader });
        // Read at once: what is published before a subscription is not for its reader.
        self.server.readable(token, false);
        self.end_turn();
    }

    fn is_connected(&self, reader: usize) -> bool {
        self.lines.iter().any(|line| line.reader == Some(reader))
    }

    fn next_event(&mut self) -> (String, u64, Option<String>) {
        let topic = format!("t{}", self.dice.roll(TOPICS));
        self.published += 1;
        let own_id = self.dice.once_in(4).then(|| format!("own {}", self.published));
        (topic, self.published, own_id)
    }

    fn publish_from_within(&mut self) {
        if !self.under_way.is_empty() {
            return; // the order of the two ways would be anybody's guess
        }
        let (topic, number, id) = self.next_event();
        let (data, note) = (Ledger::data(&topic, number), (topic.clone(), number, id.clone()));
        let event = OwnedEvent { topic, id, data, ..OwnedEvent::default() };
        self.server.publish(&event).expect("published");
        self.note(self.server.hub().last_seq().0, note);
    }

    fn note(&mut self, seq: u64, (topic, number, own_id): (String, u64, Option<String>)) {
        let id = own_id.unwrap_or_else(|| format!("{}-{seq}", self.server.hub().epoch()));
        self.ledger.publish(&topic, Entry { seq, number, id });
    }

    /// Publishes by way of requests, several in a row, cut anywhere.
    fn publish_over_http(&mut self) {
        if self.lines.iter().all(|line| line.reader.is_some()) {
            self.under_way.clear();
            self.answers.clear();
            self.open(200, None, b"");
        }
        let mut bytes = Vec::new();
        for _ in 0..=self.dice.roll(5) {
            let (topic, number, id) = self.next_event();
            let data = Ledger::data(&topic, number);
            let request = match self.dice.roll(3) {
                0 => {
                    let query = id
                        .as_ref()
                        .map_or(String::new(), |id| format!("?id={}", id.replace(' ', "+")));
                    let length = data.len();
                    format!(
                        "POST /events/{topic}{query} HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\n\r\n{data}"
                    )
                }
                form => {
                    let id = id.as_ref().map_or(String::new(), |id| format!("id: {id}\r\n"));
                    let body = format!(": feed\r\n{id}data: {data}\r\n\r\n");
                    let head = format!(
                        "POST /events/{topic} HTTP/1.1\r\nHost: sim\r\nContent-Type: text/event-stream\r\n"
                    );
                    if form == 1 {
                        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
                    } else {
                        format!(
                            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                            body.len()
                        )
                    }
                }
            };
            bytes.extend(request.bytes());
            self.under_way.push_back((topic, number, id));
        }
        while !bytes.is_empty() {
            let piece: Vec<u8> =
                bytes.drain(..(1 + self.dice.roll(400)).min(bytes.len())).collect();
            if let Some(line) = self.lines.iter().find(|line| line.reader.is_none()) {
                line.end.send(&piece);
            }
            self.turn();
        }
    }

    /// Publishes an id a second time: whether it is retained or not, nobody may see it twice.
    fn publish_again(&mut self) {
        if !self.under_way.is_empty() {
            return;
        }
        let newest = |(topic, events): (&String, &Vec<Entry>)| {
            let newest = events.last().filter(|entry| entry.id.starts_with("own"))?;
            Some((topic.clone(), newest.number, newest.id.clone()))
        };
        let Some((topic, number, id)) = self.ledger.topics.iter().find_map(newest) else { return };
        let data = Ledger::data(&topic, number);
        let before = self.server.hub().last_seq();
        let event = OwnedEvent { topic, id: Some(id), data, ..OwnedEvent::default() };
        self.server.publish(&event).expect("acknowledged");
        assert_eq!(self.server.hub().last_seq(), before, "the newest event of a topic is retained");
    }

    fn read_some(&mut self) {
        for nth in 0..self.lines.len() {
            if self.dice.once_in(2) {
                let count = *self.dice.pick(&[1, 7, 40, 300, 5000, 1 << 20]);
                self.read(nth, count);
            }
        }
    }

    fn read(&mut self, nth: usize, count: usize) {
        let line = &self.lines[nth];
        let bytes = line.end.receive(count);
        self.seen_bytes += bytes.len();
        match line.reader {
            None => self.answers.extend(bytes),
            Some(reader) => {
                let checked = self.readers[reader].receive(&bytes, &self.ledger);
                checked.unwrap_or_else(|why| panic!("reader {reader}: {why}"));
            }
        }
    }

    /// A reader goes, in order or not, perhaps with bytes of it under way.
    fn leave(&mut self) {
        let readers: Vec<usize> =
            (0..self.lines.len()).filter(|&nth| self.lines[nth].reader.is_some()).collect();
        if readers.is_empty() {
            return;
        }
        let line = self.lines.swap_remove(*self.dice.pick(&readers));
        match self.dice.roll(2) {
            0 => line.end.close(),
            _ => line.end.reset(),
        }
        self.server.begin_turn();
        self.server.readable(line.token, true);
        self.end_turn();
    }

    fn let_time_pass(&mut self) {
        let ms = *self.dice.pick(&[1, 10, 100, 1000, 20_000]);
        for _ in 0..25 {
            self.clock.set(self.clock.get() + ms * 1_000_000 / 25);
            self.turn();
        }
    }

    fn turn_knobs(&mut self) {
        let config = random_config(&mut self.dice);
        self.server.reconfigure(config);
    }

    /// One turn of the loop, with what a kernel would report.
    fn turn(&mut self) {
        self.server.begin_turn();
        for nth in 0..self.lines.len() {
            let (token, end) = (self.lines[nth].token, self.lines[nth].end.clone());
            if end.take_writable_edge() || self.has_spurious_event() {
                self.server.writable(token);
            }
            if end.is_readable() || self.has_spurious_event() {
                let before = self.server.hub().last_seq().0;
                self.server.readable(token, false);
                self.note_published(before);
            }
        }
        self.end_turn();
        self.forget_the_ended();
    }

    /// Readiness may be reported that is none. Not while everything settles: looking at a
    /// connection flushes it, which would hide that it had been forgotten.
    fn has_spurious_event(&mut self) -> bool {
        !self.settling && self.dice.once_in(20)
    }

    fn end_turn(&mut self) {
        let before = self.server.hub().last_seq().0;
        self.server.end_turn();
        self.note_published(before);
        self.server.check_invariants();
    }

    /// Events that came in over HTTP are in the hub now.
    fn note_published(&mut self, before: u64) {
        for seq in before + 1..=self.server.hub().last_seq().0 {
            let event = self.under_way.pop_front().expect("somebody has published it");
            self.note(seq, event);
        }
    }

    /// Streams that the server has ended are read to their end and forgotten.
    fn forget_the_ended(&mut self) {
        for nth in (0..self.lines.len()).rev() {
            if self.lines[nth].end.is_over() {
                self.lines.swap_remove(nth);
            }
        }
    }

    /// Everybody comes back and reads.
    fn come_to_rest(&mut self) {
        for nth in 0..self.readers.len() {
            if !self.is_connected(nth) && self.readers[nth].last_id.is_some() {
                let request = self.readers[nth].connect("1.1", &self.ledger);
                self.open(5000, Some(nth), request.as_bytes());
            }
        }
        self.settle();
        let publishing = self.lines.iter().any(|line| line.reader.is_none());
        assert!(!publishing || self.under_way.is_empty(), "unpublished: {:?}", self.under_way);
        let answers = String::from_utf8_lossy(&self.answers);
        assert!(!answers.contains("HTTP/1.1 4") && !answers.contains("HTTP/1.1 5"), "{answers}");
    }

    /// Nothing is held back, everybody reads, and when nothing moves any more, no reader may be
    /// left that does not know of everything that was published to its topics.
    fn settle(&mut self) {
        let mut config = random_config(&mut self.dice);
        config.delivery.flush_policy = FlushPolicy::Turn;
        config.times.connection_age_ms = 0;
        self.server.reconfigure(config);
        self.settling = true;
        let mut quiet_turns = 0;
        while quiet_turns < 10 {
            let before = self.seen_bytes;
            (0..self.lines.len()).for_each(|nth| self.read(nth, usize::MAX));
            self.turn();
            let busy = self.server.until_next_turn() == Some(Duration::ZERO);
            quiet_turns = if busy || self.seen_bytes > before { 0 } else { quiet_turns + 1 };
        }
        self.settling = false;
        for line in &self.lines {
            let Some(reader) = line.reader else { continue };
            let complete = self.readers[reader].check_complete(&self.ledger);
            complete.unwrap_or_else(|why| panic!("reader {reader}: {why}"));
        }
    }
}

fn random_config(dice: &mut Dice) -> Config {
    let mut config = Config::default();
    config.delivery.write_path = *dice.pick(&WritePath::ALL);
    config.delivery.auto_rule =
        *dice.pick(&[CopyRule::NEVER, CopyRule::default(), "2:60,5:100".parse().expect("a rule")]);
    config.delivery.overrun =
        *dice.pick(&[Overrun::Skip, Overrun::Skip, Overrun::Close, Overrun::Latest]);
    config.delivery.flush_policy = *dice.pick(&[
        FlushPolicy::Turn,
        FlushPolicy::Event,
        FlushPolicy::Adaptive,
        FlushPolicy::Buffered { bytes: Some(300), linger: None },
        FlushPolicy::Buffered { bytes: None, linger: Some(Duration::from_millis(5)) },
        FlushPolicy::Buffered { bytes: Some(500), linger: Some(Duration::from_millis(20)) },
    ]);
    // Set without regard to the longest event that is possible: those in use are short.
    config.limits.log_bytes_max = *dice.pick(&[700, 2000, 1 << 20]);
    config.limits.log_events_max = *dice.pick(&[3, 30, 10_000]);
    config.turn.flush_budget_bytes = *dice.pick(&[1, 200, 1 << 20]);
    config.turn.flush_slice_us = *dice.pick(&[10, 100, 2000]);
    config.turn.read_budget_bytes = *dice.pick(&[1, 100_000]);
    config.times.heartbeat = *dice.pick(&[Heartbeat::Comment, Heartbeat::Event, Heartbeat::Off]);
    config.times.stall_timeout_ms = *dice.pick(&[0, 5000]);
    config.times.connection_age_ms = *dice.pick(&[0, 0, 30_000]);
    config.times.feed_timeout_ms = 0;
    config.times.body_timeout_ms = 86_400_000;
    config.times.head_timeout_ms = 86_400_000;
    config.times.idle_timeout_ms = 86_400_000;
    config
}

const TOPICS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn number_from(variable: &str) -> Option<u64> {
        std::env::var(variable).ok()?.parse().ok()
    }

    #[test]
    fn seeds() {
        let one = number_from("PUSHV_SEED");
        let count = number_from("PUSHV_SEEDS").unwrap_or(300);
        let seeds = one.map_or(0..count, |seed| seed..seed + 1);
        let (mut events, mut gaps) = (0, 0);
        for seed in seeds {
            let lived = std::panic::catch_unwind(|| {
                let mut world = World::new(seed);
                world.run(300);
                world.seen()
            });
            let Ok(seen) = lived else { panic!("failed with PUSHV_SEED={seed}") };
            events += seen.0;
            gaps += seen.1;
        }
        println!("{events} events and {gaps} gap notices were checked");
        // A world in which nothing happens proves nothing.
        assert!(one.is_some() || (events > 1000 && gaps > 10), "{events} events, {gaps} gaps");
    }
}
