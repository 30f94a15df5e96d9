//! A connection's write queue: its private bytes, then its part of the logs.
//!
//! The queue is not stored anywhere. It is a view that exists for the time of one drain: the
//! private bytes and the cursors of a connection, and the logs that the cursors point into. A
//! [`Plan`] fixes which frames the drain is to send and in which order; the write paths turn the
//! plan into calls; [`WriteQueue::consume`] moves the queue on by what a call took.
//!
//! A subscriber of several topics gets their events in the order of the hub. It must: its browser
//! will send back one id only, the last one it saw, and that id resumes all topics. If a later
//! event of one topic overtook an earlier event of another, a connection lost between the two
//! would lose the earlier one for good.

use crate::push::cursor::Cursor;
use crate::push::id::Seq;
use crate::push::log::{FrameNo, Log};
use crate::push::topics::Topics;
use crate::send::private::Private;
use std::ops::ControlFlow;

/// What stands around a frame's payload on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One chunk per event, as frames stand in the log (HTTP/1.1).
    Chunked,
    /// Nothing: the end of the connection ends the body (HTTP/1.0). The frames' chunk framing is
    /// left out, so a run of frames is no longer contiguous.
    Plain,
}

/// What one connection has still to send. See the [module's text](self).
#[derive(Debug)]
pub struct WriteQueue<'a> {
    /// The connection's own bytes. They leave before any byte of a log.
    pub private: &'a mut Private,
    /// Its place in each of its topics; none if it is not a subscriber.
    pub cursors: &'a mut [Cursor],
    /// Everything up to this event has been taken off the logs for this connection.
    pub delivered: &'a mut Seq,
    /// The topics that the cursors point into.
    pub topics: &'a Topics,
    /// The coding of its body.
    pub framing: Framing,
}

/// The frames that one drain is to send, in order, and how far it has come. Kept from drain to
/// drain for its memory.
#[derive(Debug, Default)]
pub struct Plan {
    runs: Vec<Run>,
    /// The run that is being sent.
    front: usize,
    /// How many bytes of the next frame the kernel has taken. Invariant: zero between drains;
    /// [`WriteQueue::spill`] sees to it.
    cut: usize,
    /// Working memory of the merge: the next frame of each cursor.
    heads: Vec<FrameNo>,
}

/// Consecutive frames of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// The index of its cursor.
    cursor: usize,
    next: FrameNo,
    end: FrameNo,
}

impl Plan {
    /// The runs that are still to be sent, the one that is being sent first.
    fn left(&self) -> &[Run] {
        self.runs.get(self.front..).unwrap_or_default()
    }
}

impl WriteQueue<'_> {
    /// Plans to send everything up to the heads of the logs, but no more than `bytes_max` bytes of
    /// frames, or a single frame if that is longer.
    pub fn plan(&self, plan: &mut Plan, bytes_max: usize) {
        debug_assert_eq!(plan.cut, 0);
        plan.runs.clear();
        plan.front = 0;
        match &*self.cursors {
            [] => {}
            [one] => {
                let run = Run {
                    cursor: 0,
                    next: one.next,
                    end: self.log(0).run_within(one.next, bytes_max),
                };
                plan.runs.extend((run.next < run.end).then_some(run));
            }
            _ => self.plan_merged(plan, bytes_max),
        }
    }

    /// Merges the logs by seq: the log with the oldest frame gives all its frames up to the
    /// oldest frame of any other log, and so on.
    #[inline(never)]
    #[allow(clippy::indexing_slicing, reason = "there is a head for each cursor")]
    fn plan_merged(&self, plan: &mut Plan, bytes_max: usize) {
        plan.heads.clear();
        plan.heads.extend(self.cursors.iter().map(|cursor| cursor.next));
        let mut bytes_left = bytes_max as u64;
        loop {
            let (mut oldest, mut rival) = (None, Seq(u64::MAX));
            for (cursor, &head) in plan.heads.iter().enumerate() {
                let log = self.log(cursor);
                if head == log.end() {
                    continue;
                }
                let seq = log.entry(head).seq;
                match oldest {
                    Some((_, lowest)) if seq > lowest => rival = rival.min(seq),
                    Some((_, lowest)) => (oldest, rival) = (Some((cursor, seq)), lowest),
                    None => oldest = Some((cursor, seq)),
                }
            }
            let Some((cursor, _)) = oldest else { break };
            let (log, next) = (self.log(cursor), plan.heads[cursor]);
            if !plan.runs.is_empty() && u64::from(log.entry(next).len) > bytes_left {
                break;
            }
            let end = log.after(Seq(rival.0 - 1)).min(log.run_within(next, bytes_left as usize));
            bytes_left = bytes_left.saturating_sub(log.offset(end) - log.offset(next));
            plan.heads[cursor] = end;
            plan.runs.push(Run { cursor, next, end });
        }
    }

    /// Whether nothing is left of the private bytes and the plan.
    pub fn is_done(&self, plan: &Plan) -> bool {
        self.private.is_empty() && plan.front == plan.runs.len()
    }

    /// Whether a log has frames that were not taken off it yet, planned or not.
    pub fn has_frames(&self) -> bool {
        self.cursors.iter().enumerate().any(|(cursor, place)| place.next < self.log(cursor).end())
    }

    /// When the oldest frame of the plan was published, in nanoseconds of the server's clock; 0 if
    /// it has none.
    pub fn oldest_published_ns(&self, plan: &Plan) -> u64 {
        let oldest = plan.left().first();
        oldest.map_or(0, |run| self.log(run.cursor).entry(run.next).published_ns)
    }

    /// How many pieces are left of the private bytes and the plan, each frame being one, and their
    /// bytes together. Frames count with their framing, whether it is sent or not.
    pub fn pieces(&self, plan: &Plan) -> (usize, u64) {
        let private = self.private.remaining().len();
        let nothing = (usize::from(private > 0), private as u64);
        plan.left().iter().fold(nothing, |(pieces, bytes), run| {
            let log = self.log(run.cursor);
            let frames = (run.end - run.next) as usize;
            (pieces + frames, bytes + (log.offset(run.end) - log.offset(run.next)))
        })
    }

    /// Hands out the frames of the plan, each as it leaves, until `take` has had enough.
    pub fn frames<'s>(&'s self, plan: &Plan, mut take: impl FnMut(&'s [u8]) -> ControlFlow<()>) {
        debug_assert_eq!(plan.cut, 0, "whole frames only");
        for run in plan.left() {
            let log = self.log(run.cursor);
            for no in run.next.up_to(run.end) {
                if take(self.framing.bytes(log, no)).is_break() {
                    return;
                }
            }
        }
    }

    /// Hands out the frames of the plan in the longest contiguous pieces there are, until `take`
    /// has had enough.
    pub fn spans<'s>(&'s self, plan: &Plan, mut take: impl FnMut(&'s [u8]) -> ControlFlow<()>) {
        debug_assert_eq!(plan.cut, 0, "whole frames only");
        if self.framing == Framing::Plain {
            return self.frames(plan, take);
        }
        for run in plan.left() {
            let (upper, lower) = self.log(run.cursor).spans(run.next, run.end);
            if take(upper).is_break() || (!lower.is_empty() && take(lower).is_break()) {
                return;
            }
        }
    }

    /// The rest of the next frame of the plan.
    pub fn next_frame(&self, plan: &Plan) -> Option<&[u8]> {
        let run = plan.left().first()?;
        self.framing.bytes(self.log(run.cursor), run.next).get(plan.cut..)
    }

    /// The rest of the next part of a frame: its size line, its payload, or its CRLF.
    pub fn next_part(&self, plan: &Plan) -> Option<&[u8]> {
        let rest = self.next_frame(plan)?;
        if self.framing == Framing::Plain {
            return Some(rest);
        }
        let run = plan.left().first()?;
        let entry = self.log(run.cursor).entry(run.next);
        let (line, len) = (usize::from(entry.line_bytes), entry.len as usize);
        let part_end = [line, len - 2, len].into_iter().find(|&end| end > plan.cut).unwrap_or(len);
        rest.get(..part_end - plan.cut)
    }

    /// Whether the next frame is the last of the plan.
    pub fn next_is_last(&self, plan: &Plan) -> bool {
        matches!(plan.left(), [run] if run.next + 1 == run.end)
    }

    /// Takes off the queue what the kernel took: `bytes` from the front. Gives the number of
    /// frames that were taken to their last byte.
    pub fn consume(&mut self, plan: &mut Plan, bytes: usize) -> u64 {
        let from_private = self.private.consume(bytes);
        debug_assert!(
            bytes == from_private || self.private.is_empty(),
            "private bytes leave first"
        );
        let mut left = bytes - from_private + std::mem::take(&mut plan.cut);
        let mut frames = 0;
        while left > 0 {
            let Some(&run) = plan.left().first() else {
                debug_assert!(false, "the kernel took {left} bytes more than it was offered");
                return frames;
            };
            let next;
            (next, left) = self.framing.skip(self.log(run.cursor), run.next, run.end, left);
            frames += self.pass(plan, next);
            if next < run.end {
                break;
            }
        }
        plan.cut = left;
        frames
    }

    /// Ends the drain. If a frame was cut, its rest becomes private bytes and the cursor moves
    /// behind it, so that the cursor stands on a frame border again and the log may evict the
    /// frame. Gives the number of bytes copied.
    #[cold]
    pub fn spill(&mut self, plan: &mut Plan) -> usize {
        if plan.cut == 0 {
            return 0;
        }
        let Some(&run) = plan.left().first() else { return 0 };
        let topic = self.cursors.get(run.cursor).map(|cursor| &self.topics[cursor.topic]);
        let frame = topic.map_or(&[][..], |topic| self.framing.bytes(&topic.log, run.next));
        let rest = frame.get(std::mem::take(&mut plan.cut)..).unwrap_or_default();
        self.private.push(rest);
        let copied = rest.len();
        self.pass(plan, run.next + 1);
        copied
    }

    /// Moves the front run and its cursor to `next`; gives the number of frames passed.
    fn pass(&mut self, plan: &mut Plan, next: FrameNo) -> u64 {
        let Some(run) = plan.runs.get_mut(plan.front) else { return 0 };
        let passed = next - run.next;
        if passed > 0
            && let Some(cursor) = self.cursors.get_mut(run.cursor)
        {
            cursor.next = next;
            *self.delivered = self.topics[cursor.topic].log.entry(next.before()).seq;
        }
        run.next = next;
        if run.next == run.end {
            plan.front += 1;
        }
        passed
    }

    #[allow(clippy::indexing_slicing, reason = "runs are of this queue's cursors")]
    fn log(&self, cursor: usize) -> &Log {
        &self.topics[self.cursors[cursor].topic].log
    }
}

impl Framing {
    /// Frame `no` as it leaves.
    pub(crate) fn bytes(self, log: &Log, no: FrameNo) -> &[u8] {
        match self {
            Framing::Chunked => log.frame(no),
            Framing::Plain => log.payload(no),
        }
    }

    /// Where `bytes` bytes from the start of frame `next` lead, but not beyond the start of `end`:
    /// the frame there, and what is left of the bytes.
    fn skip(self, log: &Log, mut next: FrameNo, end: FrameNo, bytes: usize) -> (FrameNo, usize) {
        match self {
            Framing::Chunked => {
                let target = log.offset(next) + bytes as u64;
                let reached = if target >= log.offset(end) { end } else { log.at_offset(target) };
                (reached, (target - log.offset(reached)) as usize)
            }
            Framing::Plain => {
                let mut left = bytes;
                while next < end && left >= log.payload(next).len() {
                    left -= log.payload(next).len();
                    next += 1;
                }
                (next, left)
            }
        }
    }
}
