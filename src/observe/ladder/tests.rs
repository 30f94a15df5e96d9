//! The ladder against a model that remembers every byte.

use super::*;
use crate::push::fanout::Slot;
use crate::push::hub::Hub;
use crate::push::log::Bounds;
use crate::testing::Dice;
use crate::wire::event::Event;

/// What a byte of the stream belongs to: an event's place in the stream, or none.
type Owner = Option<u64>;

/// A stream that is written the way the server does it, with everything noted.
struct Model {
    hub: Hub,
    bounds: Bounds,
    cursors: Vec<Cursor>,
    breaks: Breaks,
    framing: Framing,
    delivered: Seq,
    /// Whose each byte is that was ever handed over or queued.
    bytes: Vec<Owner>,
    /// The seq of each event of the stream.
    events: Vec<Seq>,
    random: Dice,
}

impl Model {
    fn new(seed: u64, topics: usize, framing: Framing, bounds: Bounds) -> Model {
        let mut hub = Hub::new(7, 1 << 20);
        let keys = (0..topics).map(|nth| hub.topic(&format!("t{nth}"), 9, 0).unwrap());
        let cursors = keys.collect::<Vec<_>>().into_iter();
        let cursors = cursors
            .map(|topic| Cursor { topic, slot: Slot::default(), next: FrameNo(0) })
            .collect();
        let mut model = Model {
            hub,
            bounds,
            cursors,
            breaks: Breaks::default(),
            framing,
            delivered: Seq(0),
            // The head of a stream.
            bytes: vec![None; 20],
            events: Vec::new(),
            random: Dice::new(seed),
        };
        // It begins behind what was published before.
        (0..5).for_each(|_| model.publish());
        for cursor in &mut model.cursors {
            cursor.next = model.hub.topics()[cursor.topic].log.end();
        }
        model.delivered = model.hub.last_seq();
        model
    }

    fn publish(&mut self) {
        let data = "x".repeat(self.random.roll(40));
        let event = Event { id: None, name: None, retry_ms: None, data: &data };
        let place = self.random.roll(self.cursors.len());
        let topic = self.cursors[place].topic;
        self.hub.publish(topic, &event, 0, self.bounds).unwrap();
    }

    /// Bytes of the stream's own.
    fn interrupt(&mut self, skip: Option<Skip>) {
        let bytes = 1 + self.random.roll(8);
        let at = self.bytes.len() as u64;
        self.breaks.push(Break { at, bytes: bytes as u64, before: self.delivered, skip });
        self.bytes.extend(std::iter::repeat_n(None, bytes));
    }

    /// A notice for a topic that was overrun or is to be skipped, as the server writes it.
    fn skip(&mut self, place: usize, to: FrameNo) {
        self.cursors[place].next = to;
        let log = &self.hub.topics()[self.cursors[place].topic].log;
        let first = if to < log.end() { log.entry(to).seq } else { Seq(log.last_seq().0 + 1) };
        self.interrupt(Some((self.cursors[place].topic, first)));
    }

    fn tell_losses(&mut self) {
        for place in 0..self.cursors.len() {
            let first = self.hub.topics()[self.cursors[place].topic].log.first();
            if self.cursors[place].next < first {
                self.skip(place, first);
            }
        }
    }

    /// Hands over up to `count` frames, in the order of the hub.
    fn flush(&mut self, count: usize) {
        self.tell_losses();
        for _ in 0..count {
            let topics = self.hub.topics();
            let log = |cursor: &Cursor| &topics[cursor.topic].log;
            let waiting = self.cursors.iter_mut().filter(|cursor| cursor.next < log(cursor).end());
            let Some(cursor) = waiting.min_by_key(|cursor| log(cursor).entry(cursor.next).seq)
            else {
                return;
            };
            let log = log(cursor);
            let length = self.framing.bytes(log, cursor.next).len();
            self.delivered = log.entry(cursor.next).seq;
            cursor.next += 1;
            let owner = Some(self.events.len() as u64);
            self.bytes.extend(std::iter::repeat_n(owner, length));
            self.events.push(self.delivered);
        }
    }

    fn tape(&self, private_bytes: u64) -> Tape<'_> {
        Tape {
            breaks: Some(&self.breaks),
            cursors: &self.cursors,
            topics: self.hub.topics(),
            framing: self.framing,
            delivered: self.delivered,
            sent_bytes: self.bytes.len() as u64 - private_bytes,
            sent_events: self.events.len() as u64,
            private_bytes,
        }
    }

    /// The answer, from what is noted of each byte: events that end behind `offset`, and the last
    /// one before.
    fn truth(&self, offset: usize) -> (u64, Option<Seq>) {
        let first_later = self.bytes[offset..].iter().flatten().next().copied();
        let complete = first_later.unwrap_or(self.events.len() as u64);
        let last = complete.checked_sub(1).map(|place| self.events[place as usize]);
        (self.events.len() as u64 - complete, last)
    }

    /// Asks at every byte from `from`, and gives how many answers were to be had.
    fn check(&self, from: usize, rest: u64) -> usize {
        let tape = self.tape(rest);
        let mut told = 0;
        for offset in from..=self.bytes.len() {
            let Some(later) = tape.later_than(offset as u64, &mut 10_000) else { continue };
            told += 1;
            let (events, last) = self.truth(offset);
            assert_eq!(later.events, events, "at {offset} of {}", self.bytes.len());
            // What stands before the stream's first event is not an event of it.
            if let (Some(found), Some(last)) = (later.last, last) {
                assert_eq!(found, last, "at {offset} of {}", self.bytes.len());
            }
        }
        told
    }
}

const WIDE: Bounds = Bounds { bytes_max: 1 << 16, frames_max: 10_000 };
const NARROW: Bounds = Bounds { bytes_max: 4096, frames_max: 12 };

/// Any history, asked at any byte: what is told is true; and while nothing is evicted, all is told.
#[test]
fn every_byte_of_a_stream() {
    for seed in 0..400 {
        let framing = [Framing::Chunked, Framing::Plain][seed as usize % 2];
        let bounds = if seed % 3 == 0 { NARROW } else { WIDE };
        let mut model = Model::new(seed, 1 + seed as usize / 2 % 3, framing, bounds);
        let mut acked = 0;
        for step in 0..60 {
            match model.random.roll(12) {
                0..=5 => model.publish(),
                6..=8 => {
                    let count = 1 + model.random.roll(5);
                    model.flush(count);
                }
                9 => model.interrupt(None),
                10 => {
                    model.tell_losses();
                    let place = model.random.roll(model.cursors.len());
                    let end = model.hub.topics()[model.cursors[place].topic].log.end();
                    model.skip(place, end.before().max(model.cursors[place].next));
                }
                _ => {
                    acked += model.random.roll(model.bytes.len() - acked + 1);
                    model.breaks.forget_below(acked as u64);
                }
            }
            if step % 8 < 7 {
                continue;
            }
            let told = model.check(acked, 0);
            if bounds == WIDE && !model.breaks.overflowed {
                assert_eq!(told, model.bytes.len() + 1 - acked, "seed {seed}: all is told");
            }
        }
    }
}

/// The rest of a frame that was cut is the connection's own, and still the frame's.
#[test]
fn a_cut_frame_ends_with_its_rest() {
    let mut model = Model::new(1, 1, Framing::Chunked, WIDE);
    model.interrupt(None);
    (0..5).for_each(|_| model.publish());
    model.flush(5);
    for rest in 1..20 {
        model.check(0, rest);
        let tape = model.tape(rest);
        let unsent_bytes = 3;
        let kernel = InKernel { unsent_bytes, in_flight_bytes: 0 };
        let ladder = Ladder::of(&tape, kernel, &mut 100);
        assert_eq!(ladder.acked.bytes, tape.sent_bytes - unsent_bytes);
        assert!(ladder.unsent.events >= Some(1), "its last byte has not left");
        assert_eq!(ladder.private_bytes, rest);
    }
}

#[test]
fn rungs_add_up() {
    let mut model = Model::new(2, 2, Framing::Chunked, WIDE);
    model.interrupt(None);
    (0..20).for_each(|_| model.publish());
    model.flush(15);
    let all = model.bytes.len() as u64;
    for unsent_bytes in 0..all {
        for in_flight_bytes in [0, 1, 100].into_iter().filter(|bytes| bytes + unsent_bytes <= all) {
            let kernel = InKernel { unsent_bytes, in_flight_bytes };
            let ladder = Ladder::of(&model.tape(0), kernel, &mut 1000);
            let rungs = [ladder.unsent, ladder.in_flight, ladder.acked];
            assert_eq!(rungs.iter().map(|rung| rung.bytes).sum::<u64>(), all);
            assert_eq!(rungs.iter().map(|rung| rung.events.unwrap()).sum::<u64>(), 15);
            assert_eq!(ladder.behind.events, Some(5));
        }
    }
}

/// Without interruptions that matter, nothing is remembered, and nothing needs to be.
#[test]
fn a_stream_without_breaks() {
    let mut model = Model::new(3, 1, Framing::Chunked, WIDE);
    (0..6).for_each(|_| model.publish());
    model.flush(6);
    let tape = Tape { breaks: None, ..model.tape(0) };
    for offset in 0..=model.bytes.len() {
        let later = tape.later_than(offset as u64, &mut 100).unwrap();
        assert_eq!((later.events, later.last), model.truth(offset));
    }
}

/// Counting back is bounded, and what it did not reach is not known rather than wrong.
#[test]
fn steps_are_bounded() {
    let mut model = Model::new(4, 1, Framing::Chunked, WIDE);
    model.interrupt(None);
    (0..50).for_each(|_| model.publish());
    model.flush(50);
    let mut steps = 10;
    assert_eq!(model.tape(0).later_than(20, &mut steps), None);
    assert_eq!(steps, 0);
    let kernel = InKernel { unsent_bytes: 0, in_flight_bytes: 0 };
    assert_eq!(Ladder::of(&model.tape(0), kernel, &mut 0).acked.events, Some(50));
}

#[test]
fn breaks_are_bounded() {
    let mut model = Model::new(5, 1, Framing::Chunked, WIDE);
    for _ in 0..3 * BREAKS_MAX {
        model.interrupt(None);
        model.publish();
        model.flush(1);
    }
    assert_eq!(model.breaks.list.len(), BREAKS_MAX);
    let told = model.check(0, 0);
    assert!(told > 0 && told < model.bytes.len());
    assert_eq!(model.tape(0).later_than(0, &mut 10_000), None);
}
