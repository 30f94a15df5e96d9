//! The write path against a scripted socket: every path sends the same bytes, whatever the kernel
//! takes of them, and makes the calls that its description promises.

use crate::observe::counters::{CloseReason, WriteCounters};
use crate::push::cursor::Cursor;
use crate::push::fanout::Slot;
use crate::push::hub::Hub;
use crate::push::id::Seq;
use crate::push::log::Bounds;
use crate::push::log::FrameNo;
use crate::push::topics::TopicKey;
use crate::send::drain::{Outcome, Workspace, drain};
use crate::send::path::WritePath;
use crate::send::private::Private;
use crate::send::queue::{Framing, WriteQueue};
use crate::send::rule::CopyRule;
use crate::testing::script::{Called, Script, Step};
use crate::wire::event::Event;

const BOUNDS: Bounds = Bounds { bytes_max: 1 << 20, frames_max: 5000 };
const UNLIMITED: usize = usize::MAX >> 1;

/// A hub, one connection's half of a write queue, and its socket.
struct Rig {
    hub: Hub,
    private: Private,
    cursors: Vec<Cursor>,
    delivered: Seq,
    framing: Framing,
    socket: Script,
    workspace: Workspace,
    rule: CopyRule,
    counters: WriteCounters,
    /// What the peer must have received in the end.
    expected: Vec<u8>,
}

impl Rig {
    fn new(topics: usize, framing: Framing) -> Rig {
        let mut hub = Hub::new(0, UNLIMITED);
        let topic = |nth: usize| hub.topic(&format!("t{nth}"), 100, 0).unwrap();
        let cursors = (0..topics)
            .map(topic)
            .map(|topic| Cursor { topic, slot: Slot::default(), next: FrameNo(0) })
            .collect();
        Rig {
            hub,
            private: Private::default(),
            cursors,
            delivered: Seq(0),
            framing,
            socket: Script::default(),
            workspace: Workspace::default(),
            // Of the frames of these tests, some are longer and some shorter.
            rule: "2:40,4:50".parse().unwrap(),
            counters: WriteCounters::default(),
            expected: Vec::new(),
        }
    }

    fn private(&mut self, bytes: &[u8]) {
        self.private.push(bytes);
        self.expected.extend_from_slice(bytes);
    }

    fn publish(&mut self, nth_topic: usize, data: &str, bounds: Bounds) {
        let key = self.cursors[nth_topic].topic;
        self.publish_to(key, data, bounds);
        let log = &self.hub.topics()[key].log;
        let no = log.end().before();
        self.expected.extend_from_slice(match self.framing {
            Framing::Chunked => log.frame(no),
            Framing::Plain => log.payload(no),
        });
    }

    fn publish_to(&mut self, key: TopicKey, data: &str, bounds: Bounds) {
        self.hub.publish(key, &Event { data, ..Event::default() }, 0, bounds).unwrap();
    }

    fn drain(&mut self, path: WritePath, budget_bytes: usize) -> Outcome {
        let mut queue = WriteQueue {
            private: &mut self.private,
            cursors: &mut self.cursors,
            delivered: &mut self.delivered,
            topics: self.hub.topics(),
            framing: self.framing,
        };
        let (workspace, counters) = (&mut self.workspace, &mut self.counters);
        drain(&mut self.socket, path, &self.rule, &mut queue, workspace, budget_bytes, counters)
            .outcome
    }

    fn drain_all(&mut self, path: WritePath, budget_bytes: usize) {
        while self.drain(path, budget_bytes) != Outcome::Drained {}
        self.check_end();
    }

    fn check_end(&self) {
        assert!(self.private.is_empty());
        assert_eq!(self.delivered, self.hub.last_seq());
        if self.socket.bytes != self.expected {
            let at =
                self.socket.bytes.iter().zip(&self.expected).take_while(|(a, b)| a == b).count();
            panic!(
                "byte {at} differs: sent {}, expected {}",
                self.socket.bytes.len(),
                self.expected.len()
            );
        }
        assert_eq!(self.counters.bytes, self.expected.len() as u64);
    }
}

/// All write paths, codings and numbers of topics; every length of data and every length of write
/// among them. Each call takes `step` bytes at most, so a drain ends inside a frame, on its parts'
/// borders, and on its end, and begins again from there.
#[test]
fn every_frame_length_times_every_write_length() {
    for path in WritePath::ALL {
        for framing in [Framing::Chunked, Framing::Plain] {
            for topics in [1, 2, 3] {
                for step in 1..=64 {
                    let mut rig = Rig::new(topics, framing);
                    rig.private(b"head\r\n\r\n");
                    for len in 0..24 {
                        rig.publish(len * 7 % topics, &"0123456789abcdefghijklmn"[..len], BOUNDS);
                    }
                    rig.socket = Script::new(vec![Step::Take(step); 10_000]);
                    rig.drain_all(path, UNLIMITED);
                }
            }
        }
    }
}

/// The same with a log so small that frames wrap around its ring, and with private bytes that are
/// queued while a frame is cut: they must come behind its rest.
#[test]
fn cut_frames_and_notices_and_a_wrapping_log() {
    let bounds = Bounds { bytes_max: 300, frames_max: 100 };
    for path in WritePath::ALL {
        for step in 1..=70 {
            let mut rig = Rig::new(1, Framing::Chunked);
            rig.socket = Script::new(vec![Step::Take(step); 10_000]);
            for round in 0..40 {
                rig.publish(0, &"x".repeat(round % 37), bounds);
                rig.drain(path, UNLIMITED);
                if !rig.private.is_empty() && round % 3 == 0 {
                    // Behind the frame's rest, in front of every later frame.
                    rig.private.push(b"notice");
                    let at = rig.socket.bytes.len() + rig.private.len() - b"notice".len();
                    rig.expected.splice(at..at, *b"notice");
                }
                while rig.hub.topics()[rig.cursors[0].topic].log.end() - rig.cursors[0].next > 2 {
                    rig.drain(path, UNLIMITED);
                }
            }
            rig.drain_all(path, UNLIMITED);
        }
    }
}

/// Backlogs above the number of buffers that one `writev` takes.
#[test]
fn backlogs_above_1024_frames() {
    for path in WritePath::ALL {
        for topics in [1, 2] {
            for step in [1000, 4096, 100_000, UNLIMITED] {
                let mut rig = Rig::new(topics, Framing::Chunked);
                rig.private(b"head");
                for nth in 0..2600 {
                    rig.publish(nth % topics, "some data", BOUNDS);
                }
                rig.socket = Script::new(vec![Step::Take(step); 10_000]);
                rig.drain_all(path, UNLIMITED);
            }
        }
    }
}

#[test]
fn interruptions_and_full_buffers_lose_nothing() {
    use Step::{Block, Interrupt, Take};
    for path in WritePath::ALL {
        let mut rig = Rig::new(2, Framing::Chunked);
        rig.private(b"head");
        for nth in 0..9 {
            rig.publish(nth % 2, "some data", BOUNDS);
        }
        rig.socket = Script::new([
            Interrupt,
            Take(2),
            Interrupt,
            Interrupt,
            Block,
            Take(30),
            Block,
            Block,
            Take(1),
        ]);
        rig.drain_all(path, UNLIMITED);
        assert_eq!((rig.counters.interrupted, rig.counters.would_block), (3, 3));
    }
}

/// What one flush of three frames costs on each path, call by call.
#[test]
fn the_calls_of_each_path() {
    use Called::{Cork, More, Write, Writev};
    // "28\r\n" "data: 0123456789012345678\nid: aaaaaaaa-1\n\n" "\r\n"
    let (line, payload, crlf) = (4, 0x2b, 2);
    let frame = line + payload + crlf;
    let check = |path, frames: usize, private: &str, expected: &[Called]| {
        let mut rig = Rig::new(1, Framing::Chunked);
        rig.private(private.as_bytes());
        for _ in 0..frames {
            rig.publish(0, &"0123456789".repeat(3)[..20], BOUNDS);
        }
        rig.drain_all(path, UNLIMITED);
        assert_eq!(rig.socket.calls, expected, "{path}");
        assert_eq!(rig.counters.flushes, u64::from(!expected.is_empty()));
    };
    for path in WritePath::ALL {
        check(path, 0, "", &[]);
    }
    let part = |len| Write(len);
    check(
        WritePath::Split,
        2,
        "",
        &[part(line), part(payload), part(crlf), part(line), part(payload), part(crlf)],
    );
    check(WritePath::Write, 3, "", &[Write(frame), Write(frame), Write(frame)]);
    check(WritePath::Write, 1, "head", &[Write(4), Write(frame)]);
    check(WritePath::Writev, 3, "", &[Writev(vec![frame; 3])]);
    check(WritePath::Writev, 1, "", &[Writev(vec![frame])]);
    check(WritePath::Copy, 3, "head", &[Write(4 + 3 * frame)]);
    check(WritePath::More, 3, "", &[More(frame), More(frame), Write(frame)]);
    check(WritePath::More, 1, "head", &[More(4), Write(frame)]);
    check(WritePath::More, 0, "head", &[Write(4)]);
    check(WritePath::Cork, 2, "", &[Cork(true), Write(frame), Write(frame), Cork(false)]);
    check(WritePath::Span, 1, "", &[Write(frame)]);
    check(WritePath::Span, 3, "", &[Write(3 * frame)]);
    check(WritePath::Span, 3, "head", &[Writev(vec![4, 3 * frame])]);
    // Two frames are too long on average, but not if there are four, or something short with them.
    check(WritePath::Auto, 1, "", &[Write(frame)]);
    check(WritePath::Auto, 0, "head", &[Write(4)]);
    check(WritePath::Auto, 2, "", &[Writev(vec![frame; 2])]);
    check(WritePath::Auto, 2, "head", &[Write(4 + 2 * frame)]);
    check(WritePath::Auto, 4, "", &[Write(4 * frame)]);
}

#[test]
fn a_flush_of_a_wrapped_log_is_one_call_of_two_spans() {
    let bounds = Bounds { bytes_max: 512, frames_max: 100 };
    let mut rig = Rig::new(1, Framing::Chunked);
    for _ in 0..30 {
        rig.publish(0, "0123456789", bounds);
        rig.drain_all(WritePath::Span, UNLIMITED);
    }
    assert_eq!(rig.counters.data_calls(), 30);
    let mut spans = Vec::new();
    for _ in 0..30 {
        for _ in 0..8 {
            rig.publish(0, "0123456789", bounds);
        }
        rig.drain_all(WritePath::Span, UNLIMITED);
        spans.push(match rig.socket.calls.last().unwrap() {
            Called::Writev(pieces) => pieces.len(),
            _ => 1,
        });
    }
    assert_eq!(rig.counters.data_calls(), 60, "one call per flush");
    assert_eq!((spans.iter().min(), spans.iter().max()), (Some(&1), Some(&2)));
}

#[test]
fn a_short_write_ends_the_drain_without_another_call() {
    for path in WritePath::ALL.into_iter().filter(|&path| path != WritePath::Cork) {
        let mut rig = Rig::new(1, Framing::Chunked);
        rig.publish(0, "some data", BOUNDS);
        rig.socket = Script::new([Step::Take(3)]);
        assert_eq!(rig.drain(path, UNLIMITED), Outcome::Blocked);
        assert_eq!((rig.socket.calls.len(), rig.counters.short_writes), (1, 1));
        assert_eq!(
            rig.cursors[0].next,
            FrameNo(1),
            "the cursor stands behind the frame that was cut"
        );
        assert_eq!(rig.private.len(), rig.expected.len() - 3);
    }
}

#[test]
fn a_cork_is_always_drawn() {
    use Called::{Cork, Write};
    let mut rig = Rig::new(1, Framing::Chunked);
    rig.publish(0, "some data", BOUNDS);
    rig.socket = Script::new([Step::Block]);
    assert_eq!(rig.drain(WritePath::Cork, UNLIMITED), Outcome::Blocked);
    assert_eq!(rig.socket.calls, [Cork(true), Write(rig.expected.len()), Cork(false)]);
}

#[test]
fn failures_close() {
    let check = |step, reason| {
        let mut rig = Rig::new(1, Framing::Chunked);
        rig.publish(0, "some data", BOUNDS);
        rig.socket = Script::new([step]);
        assert_eq!(rig.drain(WritePath::Span, UNLIMITED), Outcome::Closed(reason));
    };
    check(Step::Reset, CloseReason::PeerReset);
    check(Step::Zero, CloseReason::SocketError);
}

/// A budget is kept to the frame, but a frame longer than the budget still goes out.
#[test]
fn budgets() {
    for path in WritePath::ALL {
        for topics in [1, 2] {
            let mut rig = Rig::new(topics, Framing::Chunked);
            for nth in 0..10 {
                rig.publish(nth % topics, "some data", BOUNDS);
            }
            let frame = rig.expected.len() / 10;
            for (budget, frames) in [(1, 1), (2 * frame, 2), (3 * frame - 1, 2)] {
                let before = rig.counters.frames;
                assert_eq!(rig.drain(path, budget), Outcome::BudgetSpent);
                assert_eq!(rig.counters.frames - before, frames, "{path} with {budget}");
            }
            rig.drain_all(path, 5 * frame);
        }
    }
}

/// A subscriber of several topics sees the hub's order, however the topics take turns.
#[test]
fn topics_are_merged_in_the_order_of_the_hub() {
    let mut state = 7u64;
    for path in WritePath::ALL {
        for budget in [1, 100, 300, UNLIMITED] {
            let mut rig = Rig::new(5, Framing::Chunked);
            for _ in 0..200 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                rig.publish((state >> 60) as usize % 5, "x", BOUNDS);
                if state >> 50 & 7 == 0 {
                    rig.drain(path, budget);
                }
            }
            rig.drain_all(path, budget);
        }
    }
}
