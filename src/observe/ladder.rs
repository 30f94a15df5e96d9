//! Where a stream's events are: in our log, in the kernel unsent, in flight, or acknowledged.
//!
//! The kernel counts bytes, readers count events. Between the two lies one fact: what a stream
//! carries is runs of consecutive frames of its logs, interrupted now and then by bytes of its own
//! (its head, a heartbeat, a gap notice). So it is enough to remember the interruptions, the
//! [`Breaks`], to tell which event stands at which byte. Nothing is noted per event: from the last
//! frame that was handed over, whose end is at a known byte, the frames are counted back as they
//! stand in the logs. Where the stream begins need not be noted either: with as many events as it was
//! sent.
//!
//! What an acknowledgement proves: that the *kernel* at the other end of this connection has the
//! bytes. It does not prove that a program has read them, and behind a proxy that kernel is the
//! proxy's.

use crate::push::cursor::Cursor;
use crate::push::id::Seq;
use crate::push::log::{FrameNo, Log};
use crate::push::topics::{TopicKey, Topics};
use crate::send::queue::Framing;
use std::collections::VecDeque;

/// Bytes of a stream that are no log's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Break {
    /// Where they begin, counted in bytes from the connection's first.
    pub at: u64,
    /// How many they are.
    pub bytes: u64,
    /// The last event before them.
    pub before: Seq,
    /// If they tell of a loss: the topic, and where it goes on. Its events between
    /// [`before`](Break::before) and there are not part of the stream.
    pub skip: Option<Skip>,
}

/// A topic, and the first event of it that a stream gets after a loss.
pub type Skip = (TopicKey, Seq);

/// The interruptions of a stream that matter still: those which are not acknowledged.
#[derive(Debug, Default)]
pub struct Breaks {
    /// Invariant: in the order of the stream, and no more than [`BREAKS_MAX`].
    list: VecDeque<Break>,
    /// The newest break of each topic that tells of a loss and is no longer in the list.
    skips: Vec<Break>,
    /// Some were forgotten before they were acknowledged: what lies below them is not known.
    overflowed: bool,
}

impl Breaks {
    /// Notes an interruption.
    pub fn push(&mut self, one: Break) {
        debug_assert!(self.list.back().is_none_or(|last| last.at + last.bytes <= one.at));
        if self.list.len() == BREAKS_MAX {
            self.overflowed = true;
            self.forget_oldest();
        }
        if self.list.capacity() == 0 {
            self.list.reserve_exact(1); // which is nearly always enough
        }
        self.list.push_back(one);
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets what lies below byte `acked`, which will not be asked for again.
    pub fn forget_below(&mut self, acked: u64) {
        while self.list.front().is_some_and(|oldest| oldest.at + oldest.bytes <= acked) {
            self.forget_oldest();
            self.overflowed = false;
        }
    }

    /// How many bytes are allocated for them.
    #[cfg(any(test, feature = "testing"))]
    pub fn allocated_bytes(&self) -> usize {
        (self.list.capacity() + self.skips.capacity()) * size_of::<Break>()
    }

    /// Whether nothing needs to be remembered of a stream that has been handed everything up to
    /// `delivered`, all of which is acknowledged.
    pub fn are_spent(&self, delivered: Seq) -> bool {
        let passed = |skip: Option<Skip>| skip.is_none_or(|(_, first)| first <= delivered);
        self.list.is_empty() && self.skips.iter().all(|one| passed(one.skip))
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.list.pop_front() else { return };
        if let Some((topic, _)) = oldest.skip {
            self.skips.retain(|one| one.skip.is_none_or(|(known, _)| known != topic));
            self.skips.push(oldest);
        }
    }

    /// From which event on a topic is part of the stream in the run above the first `breaks`.
    fn floor(&self, topic: TopicKey, breaks: usize) -> Seq {
        let all = self.skips.iter().chain(self.list.iter().take(breaks));
        let of_it = all.filter_map(|one| one.skip).filter(|(known, _)| *known == topic);
        of_it.map(|(_, first)| first).max().unwrap_or_default()
    }
}

/// A stream as it has been handed over: what [`Tape::later_than`] counts back.
#[derive(Debug)]
pub struct Tape<'a> {
    /// Its interruptions; none if all of them are acknowledged.
    pub breaks: Option<&'a Breaks>,
    /// Its places in the logs.
    pub cursors: &'a [Cursor],
    /// The topics that the cursors point into.
    pub topics: &'a Topics,
    /// The coding of its body.
    pub framing: Framing,
    /// The last event that was taken off the logs for it.
    pub delivered: Seq,
    /// Bytes that the kernel has taken.
    pub sent_bytes: u64,
    /// Events that were taken off the logs.
    pub sent_events: u64,
    /// The connection's own bytes that the kernel has not taken.
    pub private_bytes: u64,
}

/// What lies behind a byte of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later {
    /// Events whose last byte lies behind it.
    pub events: u64,
    /// The last event before that, if it is still retained or was the last before an interruption.
    pub last: Option<Seq>,
}

/// One rung.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rung {
    /// Bytes.
    pub bytes: u64,
    /// Events, each counted on the rung of its last byte; `None` if they cannot be told any more,
    /// because the log has evicted them.
    pub events: Option<u64>,
}

/// A stream's bytes and events by where they are, ours first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ladder {
    /// In our logs, and not handed to the kernel.
    pub behind: Rung,
    /// When the oldest of them was published, in nanoseconds of the server's clock.
    pub oldest_published_ns: Option<u64>,
    /// The connection's own bytes, which go before the logs'.
    pub private_bytes: u64,
    /// In our kernel, not sent.
    pub unsent: Rung,
    /// Sent, not acknowledged.
    pub in_flight: Rung,
    /// Acknowledged by the kernel at the other end.
    pub acked: Rung,
    /// The last event that it has acknowledged to the last byte.
    pub last_acked: Option<Seq>,
}

/// What the kernel has of a stream, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InKernel {
    /// Not sent.
    pub unsent_bytes: u64,
    /// Sent and not acknowledged.
    pub in_flight_bytes: u64,
}

impl Ladder {
    /// The ladder of a stream. It counts back at most `steps` events, and takes off what it has
    /// used.
    pub fn of(tape: &Tape<'_>, kernel: InKernel, steps: &mut usize) -> Ladder {
        let (behind, oldest_published_ns) = behind(tape.cursors, tape.topics);
        let sent_end = tape.sent_bytes.saturating_sub(kernel.unsent_bytes);
        let acked_end = sent_end.saturating_sub(kernel.in_flight_bytes);
        let unsent = tape.later_than(sent_end, steps);
        let unacked = tape.later_than(acked_end, steps);
        let events = |later: Option<Later>| later.map(|later| later.events);
        let between = events(unacked).zip(events(unsent)).map(|(all, some)| all - some);
        let acked = events(unacked).map(|later| tape.sent_events.saturating_sub(later));
        Ladder {
            behind,
            oldest_published_ns,
            private_bytes: tape.private_bytes,
            unsent: Rung { bytes: kernel.unsent_bytes, events: events(unsent) },
            in_flight: Rung { bytes: kernel.in_flight_bytes, events: between },
            acked: Rung { bytes: acked_end, events: acked },
            last_acked: unacked.and_then(|later| later.last).filter(|_| acked != Some(0)),
        }
    }
}

/// What a stream has still to get from its logs, and when the oldest of that was published.
pub fn behind(cursors: &[Cursor], topics: &Topics) -> (Rung, Option<u64>) {
    let (mut bytes, mut events, mut oldest_ns) = (0, 0, None);
    for cursor in cursors {
        let log = &topics[cursor.topic].log;
        let next = cursor.next.max(log.first());
        if next < log.end() {
            // What was evicted before it was sent is lost, not waiting.
            bytes += log.offset(log.end()) - log.offset(next);
            events += log.end() - next;
            let published_ns = log.entry(next).published_ns;
            oldest_ns = Some(oldest_ns.map_or(published_ns, |oldest| published_ns.min(oldest)));
        }
    }
    (Rung { bytes, events: Some(events) }, oldest_ns)
}

/// How counting back through one run of frames ended.
enum Walk {
    /// At the byte that was asked for.
    Reached(Option<Seq>),
    /// At the run's beginning, which lies behind that byte.
    Through,
    /// At a frame that is no longer retained.
    Lost,
}

impl Tape<'_> {
    /// What lies behind byte `offset` of the connection; `None` if that is not known any more.
    pub fn later_than(&self, offset: u64, steps: &mut usize) -> Option<Later> {
        static NONE: Breaks =
            Breaks { list: VecDeque::new(), skips: Vec::new(), overflowed: false };
        let breaks = self.breaks.unwrap_or(&NONE);
        let mut events = 0;
        let (mut last, mut end) = (self.delivered, self.sent_bytes + self.private_bytes);
        for above in (0..=breaks.list.len()).rev() {
            let below = above.checked_sub(1).map(|place| breaks.list[place]);
            let run = Run { breaks, above, last, below, end };
            match self.walk(&run, offset, &mut events, steps) {
                Walk::Reached(last) => return Some(Later { events, last }),
                Walk::Lost => return None,
                Walk::Through => {}
            }
            let below = below?;
            if offset >= below.at {
                return Some(Later { events, last: Some(below.before) });
            }
            if above == 1 && breaks.overflowed {
                return None;
            }
            (last, end) = (below.before, below.at);
        }
        None
    }

    /// Counts the frames of a run back until the one that ends at or before `offset`.
    fn walk(&self, run: &Run<'_>, offset: u64, events: &mut u64, steps: &mut usize) -> Walk {
        let mut end = run.end;
        let below = run.below.map(|below| below.before);
        if below == Some(run.last) {
            return Walk::Through;
        }
        let mut heads: Vec<Head<'_>> = self.cursors.iter().map(|one| self.head(run, one)).collect();
        loop {
            let evicted = heads.iter().filter_map(Head::evicted).max();
            let newest = heads.iter_mut().filter(|head| head.next > head.first);
            let newest = newest.max_by_key(|head| head.seq());
            let known = newest.as_ref().map(|head| head.seq()).filter(|seq| evicted < Some(*seq));
            if *events == self.sent_events {
                return Walk::Reached(None); // the stream's head is all that comes before
            }
            if end <= offset {
                // What was skipped hides what its topic had before.
                let hidden = |seq: &Seq| run.breaks.skips.iter().any(|one| *seq <= one.before);
                let last = known.filter(|seq| below.is_some() || !hidden(seq));
                return Walk::Reached(last.or(below.filter(|_| evicted.is_none())));
            }
            let (Some(_), Some(head), 1..) = (known, newest, *steps) else {
                let whole = evicted.is_none() && run.below.is_some() && *steps > 0;
                return if whole { Walk::Through } else { Walk::Lost };
            };
            head.next = head.next.before();
            end = end.saturating_sub(self.framing.bytes(head.log, head.next).len() as u64);
            *events += 1;
            *steps -= 1;
        }
    }

    /// Where counting back begins in a log, and where it ends.
    fn head(&self, run: &Run<'_>, cursor: &Cursor) -> Head<'_> {
        let log = &self.topics[cursor.topic].log;
        let floor = run.breaks.floor(cursor.topic, run.above);
        // The run has what is behind the break below it, and not before the floor.
        let after_break = run.below.map(|below| below.before);
        let bottom = Seq(floor.0.saturating_sub(1)).max(after_break.unwrap_or_default());
        let bounded = after_break.is_some() || floor > Seq(0);
        Head { log, next: log.after(run.last), first: log.after(bottom), bottom, bounded }
    }
}

/// The frames between two interruptions.
struct Run<'a> {
    breaks: &'a Breaks,
    /// How many breaks lie below it.
    above: usize,
    /// Its last frame,
    last: Seq,
    /// and the stream offset behind that.
    end: u64,
    /// The break before its first frame.
    below: Option<Break>,
}

/// A place in one log while counting back.
struct Head<'a> {
    log: &'a Log,
    /// One above the next frame to count.
    next: FrameNo,
    /// The first retained frame that the run can have.
    first: FrameNo,
    /// What the run has comes after this.
    bottom: Seq,
    /// There is such a bottom. Otherwise the run begins somewhere in what is acknowledged.
    bounded: bool,
}

impl Head<'_> {
    fn seq(&self) -> Seq {
        self.log.entry(self.next.before()).seq
    }

    /// The newest event that the run may have had and the log has not any more: below it, nothing
    /// can be told.
    fn evicted(&self) -> Option<Seq> {
        let evicted = self.log.evicted();
        let relevant = if self.bounded { evicted > self.bottom } else { evicted > Seq(0) };
        relevant.then_some(evicted)
    }
}

/// How many interruptions of a stream are remembered. A heartbeat is one, and comes when nothing
/// else has for seconds; a gap notice is one.
pub const BREAKS_MAX: usize = 32;

#[cfg(test)]
mod tests;
