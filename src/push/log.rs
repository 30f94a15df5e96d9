//! A topic's log: a bounded run of frames in contiguous memory, with an index entry per frame.
//!
//! Frames stand in a ring, each in one piece: a frame that does not fit before the ring's end is
//! placed at its start, and the bytes it skipped stay unused until the ring comes round. So any
//! run of frames is at most two spans, which one `writev` can send, and any single frame is one
//! slice, which one `write` can send.
//!
//! ```text
//!        wrapped:                              not wrapped:
//!  0     head      tail    upper_end  cap     0    tail            head     cap
//!  |ffff|          |fffffff|unused|           |    |fffffffffffffff|        |
//!  newest           oldest                          oldest    newest
//! ```
//!
//! A frame has three coordinates: its *number* in this log (cursors count in these), its *seq* in
//! the whole hub (ids count in these), and its *offset* in the stream of all bytes ever appended
//! (a subscriber's progress inside a span counts in these). All three only ever grow.
//!
//! Memory is taken as it is needed: the ring and the index begin small and double until they reach a
//! bound; only then does appending evict. An empty topic has neither.

use crate::push::id::Seq;
use crate::wire::event::{self, Frame};
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// The number of a frame in its log: 0 for the first ever appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameNo(pub u64);

impl Add<u64> for FrameNo {
    type Output = FrameNo;

    fn add(self, frames: u64) -> FrameNo {
        FrameNo(self.0 + frames)
    }
}

impl AddAssign<u64> for FrameNo {
    fn add_assign(&mut self, frames: u64) {
        self.0 += frames;
    }
}

/// How many frames lie between two.
impl Sub for FrameNo {
    type Output = u64;

    fn sub(self, earlier: FrameNo) -> u64 {
        self.0 - earlier.0
    }
}

impl FrameNo {
    /// The frames from this one up to `end`, which is not among them.
    pub fn up_to(self, end: FrameNo) -> impl Iterator<Item = FrameNo> {
        (self.0..end.0).map(FrameNo)
    }

    /// The frame before this one; for the first one itself.
    pub fn before(self) -> FrameNo {
        FrameNo(self.0.saturating_sub(1))
    }
}

impl fmt::Display for FrameNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A bounded, append-only run of frames.
#[derive(Debug, Default)]
pub struct Log {
    ring: Vec<u8>,
    /// Where the next frame goes, unless it does not fit there. Zero while the log is empty.
    head: usize,
    /// Where the frames before the wrap end. Meaningful only while wrapped.
    upper_end: usize,
    entries: VecDeque<Entry>,
    /// The number of the oldest retained frame, and of the next one while there is none.
    first: FrameNo,
    /// The stream offset at which the next frame begins.
    end_offset: u64,
    /// The seq of the newest frame that is no longer here.
    evicted: Seq,
}

/// What the log knows of one frame.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its place in the order of the whole hub.
    pub seq: Seq,
    /// The stream offset of its first byte.
    pub offset: u64,
    /// When it was published, in nanoseconds of the server's clock.
    pub published_ns: u64,
    /// Where it stands in the ring.
    at: u32,
    /// Its length in bytes, chunk framing included.
    pub len: u32,
    /// The length of the id at the end of its payload.
    id_bytes: u16,
    /// The length of its chunk's size line.
    pub line_bytes: u8,
    /// The id is the publisher's, not the hub's.
    pub own_id: bool,
}

/// How much one log may retain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the ring.
    pub bytes_max: usize,
    /// Frames.
    pub frames_max: usize,
}

/// The memory of all logs together: their rings, their indexes, and what is noted of publishers' ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that are allocated, in use or not.
    pub used_bytes: usize,
    /// Bytes that may be.
    pub bytes_max: usize,
}

impl Memory {
    /// Whether `bytes` more may be allocated.
    pub fn affords(&self, bytes: usize) -> bool {
        self.used_bytes.saturating_add(bytes) <= self.bytes_max
    }
}

/// The frame cannot be retained, even with everything else evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// It is longer than the log's own bound.
    Log,
    /// All logs together have no memory left for it.
    Memory,
}

impl Log {
    /// An empty log whose frames up to `evicted` are to be considered lost: a reader that asks to
    /// resume from before cannot be told that it missed nothing.
    pub fn new(evicted: Seq) -> Log {
        Log { evicted, ..Log::default() }
    }

    /// Whether a frame of `len` bytes can be appended, and `ids_bytes` be allocated for its id.
    /// Everything may be evicted for it, so what the log retains does not matter. Gives how many bytes
    /// of its ring the log has to [give up](Log::give_up) for the id.
    ///
    /// A frame that needs no new memory is always taken, even if the bound has been lowered below
    /// what is allocated: a log that is full evicts, it does not refuse.
    ///
    /// # Errors
    /// [`Full`], with what is in the way.
    pub fn check_room(
        &self,
        len: usize,
        ids_bytes: usize,
        bounds: Bounds,
        memory: &Memory,
    ) -> Result<usize, Full> {
        if len > bounds.bytes_max {
            return Err(Full::Log);
        }
        // A ring above its bound is replaced by one of that size first.
        let kept = self.ring.len().min(bounds.bytes_max);
        let used = memory.used_bytes - (self.ring.len() - kept);
        let available = memory.bytes_max.saturating_sub(used);
        let index = if self.entries.capacity() == 0 { INDEX_ENTRIES_MIN * ENTRY_BYTES } else { 0 };
        let grown = if len > kept { ring_bytes(len, kept, bounds) - kept } else { 0 };
        let missing = (index + grown + ids_bytes).saturating_sub(available);
        let spare = if grown > 0 { 0 } else { kept - len };
        if missing > spare { Err(Full::Memory) } else { Ok(missing) }
    }

    /// Makes the ring smaller by `bytes`, which [`Log::check_room`] gave, and evicts what does not fit.
    pub fn give_up(
        &mut self,
        bytes: usize,
        bounds: Bounds,
        memory: &mut Memory,
        mut forget_id: impl FnMut(&[u8], FrameNo),
    ) {
        let capacity = self.ring.len().min(bounds.bytes_max).saturating_sub(bytes);
        while self.live_bytes() > capacity {
            self.evict_oldest(&mut forget_id);
        }
        self.resize(capacity, memory);
    }

    /// Appends a frame, evicting the oldest ones as far as the bounds demand; `forget_id` is given
    /// the id and the number of each evicted frame that carries its publisher's own.
    ///
    /// # Errors
    /// [`Full`]. Then nothing was evicted.
    #[allow(
        clippy::indexing_slicing,
        reason = "place() gives a place of len bytes within the ring"
    )]
    pub fn append(
        &mut self,
        frame: Frame<'_>,
        stamp: Stamp,
        bounds: Bounds,
        memory: &mut Memory,
        mut forget_id: impl FnMut(&[u8], FrameNo),
    ) -> Result<(), Full> {
        debug_assert!(stamp.seq > self.last_seq(), "seqs only grow");
        let len = frame.bytes.len();
        self.check_room(len, 0, bounds, memory)?;
        while self.entries.len() >= bounds.frames_max.max(1) || self.live_bytes() > bounds.bytes_max
        {
            self.evict_oldest(&mut forget_id);
        }
        if self.ring.len() > bounds.bytes_max {
            self.resize(bounds.bytes_max, memory);
        }
        if self.entries.capacity() == 0 {
            self.grow_index(memory);
        }
        let at = loop {
            match self.place(len) {
                Some(at) if self.entries.len() < self.entries.capacity() => break at,
                Some(_) if memory.affords(self.index_growth()) => self.grow_index(memory),
                Some(_) => self.evict_oldest(&mut forget_id),
                None => match self.larger_ring(len, bounds, memory) {
                    Some(capacity) => self.resize(capacity, memory),
                    None if self.entries.is_empty() => return Err(Full::Memory),
                    None => self.evict_oldest(&mut forget_id),
                },
            }
        };
        if at < self.head {
            self.upper_end = self.head;
        }
        self.ring[at..at + len].copy_from_slice(frame.bytes);
        self.head = at + len;
        self.entries.push_back(Entry {
            seq: stamp.seq,
            offset: self.end_offset,
            published_ns: stamp.published_ns,
            at: at as u32,
            len: len as u32,
            id_bytes: frame.id_bytes,
            line_bytes: frame.line_bytes,
            own_id: stamp.own_id,
        });
        self.end_offset += len as u64;
        Ok(())
    }

    /// Gives the memory back; the log must not be used again.
    pub fn release(&mut self) {
        self.evicted = self.last_seq();
        self.ring = Vec::new();
        self.entries = VecDeque::new();
    }

    /// The number of the oldest retained frame; equals [`Log::end`] if none is.
    pub fn first(&self) -> FrameNo {
        self.first
    }

    /// The number that the next frame will have.
    pub fn end(&self) -> FrameNo {
        self.first + self.entries.len() as u64
    }

    /// How many frames are retained.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no frame is retained.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes of frames are retained.
    pub fn live_bytes(&self) -> usize {
        self.entries.front().map_or(0, |oldest| (self.end_offset - oldest.offset) as usize)
    }

    /// How many bytes the ring has taken.
    pub fn ring_bytes(&self) -> usize {
        self.ring.len()
    }

    /// How many bytes are allocated, for the ring and for the index.
    pub fn allocated_bytes(&self) -> usize {
        self.ring.len() + self.entries.capacity() * ENTRY_BYTES
    }

    /// The seq of the newest frame that the log ever had.
    pub fn last_seq(&self) -> Seq {
        self.entries.back().map_or(self.evicted, |newest| newest.seq)
    }

    /// The seq of the newest frame that is no longer retained.
    pub fn evicted(&self) -> Seq {
        self.evicted
    }

    /// The index entry of frame `no`.
    ///
    /// # Panics
    /// If it is not retained.
    #[allow(clippy::indexing_slicing, reason = "the assertion before it")]
    pub fn entry(&self, no: FrameNo) -> &Entry {
        assert!(no >= self.first && no < self.end(), "frame {no} is not retained");
        &self.entries[(no - self.first) as usize]
    }

    /// The bytes of frame `no`, chunk framing included.
    pub fn frame(&self, no: FrameNo) -> &[u8] {
        self.bytes_of(self.entry(no))
    }

    /// The bytes of frame `no` without chunk framing.
    #[allow(clippy::indexing_slicing, reason = "a frame is a size line, a payload and CRLF")]
    pub fn payload(&self, no: FrameNo) -> &[u8] {
        let entry = self.entry(no);
        let frame = self.bytes_of(entry);
        &frame[usize::from(entry.line_bytes)..frame.len() - 2]
    }

    /// The id of frame `no`, as its readers see it.
    pub fn id(&self, no: FrameNo) -> &[u8] {
        self.id_of(self.entry(no))
    }

    /// The frames `from..to` as one or two spans of contiguous bytes; the second is empty if they
    /// do not wrap.
    #[allow(
        clippy::indexing_slicing,
        reason = "retained frames stand within the ring, up to upper_end before the wrap"
    )]
    pub fn spans(&self, from: FrameNo, to: FrameNo) -> (&[u8], &[u8]) {
        if from >= to {
            return (&[], &[]);
        }
        let (oldest, newest) = (self.entry(from), self.entry(to.before()));
        let (start, end) = (oldest.at as usize, (newest.at + newest.len) as usize);
        if start < end {
            (&self.ring[start..end], &[])
        } else {
            (&self.ring[start..self.upper_end], &self.ring[..end])
        }
    }

    /// The stream offset at which frame `no` begins, or will begin.
    pub fn offset(&self, no: FrameNo) -> u64 {
        if no == self.end() { self.end_offset } else { self.entry(no).offset }
    }

    /// The frame among the retained ones that holds the byte at stream offset `offset`; the end
    /// if that byte is still to come.
    pub fn at_offset(&self, offset: u64) -> FrameNo {
        if offset >= self.end_offset {
            return self.end();
        }
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        debug_assert!(after > 0, "offset {offset} is not retained");
        (self.first + after as u64).before()
    }

    /// The first retained frame whose seq is greater than `seq`.
    pub fn after(&self, seq: Seq) -> FrameNo {
        // Nearly every reader stands at the head.
        if self.last_seq() <= seq {
            return self.end();
        }
        self.first + self.entries.partition_point(|entry| entry.seq <= seq) as u64
    }

    /// The end of the longest run of frames from `from` that takes at most `bytes_max` bytes, but
    /// at least one frame if there is one.
    pub fn run_within(&self, from: FrameNo, bytes_max: usize) -> FrameNo {
        let limit = self.offset(from) + bytes_max as u64;
        if self.end_offset <= limit {
            return self.end();
        }
        // The frame that holds the first byte beyond the limit is the first that is left out.
        self.at_offset(limit).max(from + 1)
    }

    #[allow(clippy::indexing_slicing, reason = "a retained frame stands within the ring")]
    fn bytes_of(&self, entry: &Entry) -> &[u8] {
        &self.ring[entry.at as usize..(entry.at + entry.len) as usize]
    }

    fn id_of(&self, entry: &Entry) -> &[u8] {
        event::id_of_frame(self.bytes_of(entry), entry.id_bytes)
    }

    /// Where `len` bytes can stand without moving anything.
    fn place(&self, len: usize) -> Option<usize> {
        let Some(tail) = self.entries.front().map(|oldest| oldest.at as usize) else {
            return (len <= self.ring.len()).then_some(0);
        };
        // Frames are never empty, so head == tail can only mean that the ring is full.
        let wrapped = self.head <= tail;
        if wrapped {
            (len <= tail - self.head).then_some(self.head)
        } else if len <= self.ring.len() - self.head {
            Some(self.head)
        } else {
            (len <= tail).then_some(0)
        }
    }

    /// The size to which the ring may grow to make room for `len` more bytes.
    fn larger_ring(&self, len: usize, bounds: Bounds, memory: &Memory) -> Option<usize> {
        let wanted = ring_bytes(self.live_bytes() + len, self.ring.len(), bounds);
        let larger = wanted > self.ring.len();
        let affordable = memory.used_bytes - self.ring.len() + wanted <= memory.bytes_max;
        (larger && affordable).then_some(wanted)
    }

    /// Moves the frames, oldest first, to the front of a ring of `capacity` bytes.
    #[allow(clippy::indexing_slicing, reason = "the frames fit into the capacity")]
    fn resize(&mut self, capacity: usize, memory: &mut Memory) {
        debug_assert!(self.live_bytes() <= capacity);
        // Zeroed pages come from the kernel untouched: a large ring costs nothing until used.
        let mut ring = vec![0; capacity];
        let (upper, lower) = self.spans(self.first, self.end());
        ring[..upper.len()].copy_from_slice(upper);
        ring[upper.len()..upper.len() + lower.len()].copy_from_slice(lower);
        self.head = upper.len() + lower.len();

        let base = self.end_offset - self.head as u64;
        for entry in &mut self.entries {
            entry.at = (entry.offset - base) as u32;
        }
        memory.used_bytes = memory.used_bytes - self.ring.len() + capacity;
        self.ring = ring;
    }

    /// How many bytes a larger index takes more than this one.
    fn index_growth(&self) -> usize {
        self.entries.capacity().max(INDEX_ENTRIES_MIN) * ENTRY_BYTES
    }

    /// Doubles the index.
    fn grow_index(&mut self, memory: &mut Memory) {
        let before = self.entries.capacity();
        // The frames that are there, and as many again as there is room for now.
        let more = before.max(INDEX_ENTRIES_MIN) + before - self.entries.len();
        self.entries.reserve_exact(more);
        memory.used_bytes += (self.entries.capacity() - before) * ENTRY_BYTES;
    }

    /// Evicts the oldest frame.
    fn evict_oldest(&mut self, forget_id: &mut impl FnMut(&[u8], FrameNo)) {
        let Some(oldest) = self.entries.front() else { return };
        if oldest.own_id {
            forget_id(self.id_of(oldest), self.first);
        }
        self.evicted = oldest.seq;
        self.first += 1;
        self.entries.pop_front();
        if self.entries.is_empty() {
            self.head = 0;
        }
    }
}

/// What the hub says of a frame when it appends it.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Its place in the order of the whole hub.
    pub seq: Seq,
    /// The time, in nanoseconds of the server's clock.
    pub published_ns: u64,
    /// The id is the publisher's.
    pub own_id: bool,
}

/// The size of a larger ring than one of `before` bytes, for `wanted` bytes of frames.
fn ring_bytes(wanted: usize, before: usize, bounds: Bounds) -> usize {
    wanted.next_power_of_two().max(before * 2).max(RING_BYTES_MIN).min(bounds.bytes_max)
}

/// One small event fits.
const RING_BYTES_MIN: usize = 256;
const INDEX_ENTRIES_MIN: usize = 4;
const ENTRY_BYTES: usize = size_of::<Entry>();

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes_max: usize) -> Memory {
        Memory { used_bytes: 0, bytes_max }
    }

    /// A frame of `len` bytes that can be told from every other.
    fn frame(seq: u64, len: usize) -> Vec<u8> {
        (0..len).map(|at| (seq as usize * 31 + at * 7) as u8).collect()
    }

    fn append(
        log: &mut Log,
        seq: u64,
        len: usize,
        bounds: Bounds,
        memory: &mut Memory,
    ) -> Result<(), Full> {
        let bytes = frame(seq, len);
        let frame = Frame { bytes: &bytes, line_bytes: 0, id_bytes: 0 };
        let stamp = Stamp { seq: Seq(seq), published_ns: seq * 10, own_id: false };
        log.append(frame, stamp, bounds, memory, |_, _| {})
    }

    /// Everything that must hold after every step, against the plain list of what was appended.
    fn check(log: &Log, appended: &[(u64, Vec<u8>)], bounds: Bounds) {
        assert!(log.ring_bytes() <= bounds.bytes_max && log.len() <= bounds.frames_max);
        assert_eq!(log.end(), FrameNo(appended.len() as u64));
        let retained = &appended[log.first().0 as usize..];
        assert_eq!(log.live_bytes(), retained.iter().map(|(_, bytes)| bytes.len()).sum::<usize>());
        for (no, (seq, bytes)) in log.first().up_to(log.end()).zip(retained) {
            assert_eq!(log.entry(no).seq, Seq(*seq));
            assert_eq!(log.frame(no), bytes, "frame {no}");
            let (offset, len) = (log.entry(no).offset, bytes.len() as u64);
            assert_eq!((log.at_offset(offset), log.at_offset(offset + len - 1)), (no, no));
            assert_eq!((log.after(Seq(seq - 1)), log.after(Seq(*seq))), (no, no + 1));
            let (upper, lower) = log.spans(no, log.end());
            let expected: Vec<u8> = retained[(no - log.first()) as usize..]
                .iter()
                .flat_map(|(_, b)| b.clone())
                .collect();
            assert_eq!([upper, lower].concat(), expected, "spans from {no}");
        }
        assert_eq!(log.at_offset(log.offset(log.end())), log.end());
    }

    /// Every sequence of six frame lengths out of five, for several bounds: all ways in which
    /// frames can meet the ring's end, fill it exactly, or force each other out.
    #[test]
    fn every_short_history() {
        for bounds in [(8, 100), (10, 100), (13, 3), (300, 2), (1000, 100)] {
            let bounds = Bounds { bytes_max: bounds.0, frames_max: bounds.1 };
            for history in 0..5usize.pow(6) {
                let lens = (0..6).map(|digit| [1, 3, 4, 7, 8][history / 5usize.pow(digit) % 5]);
                let mut memory = memory(usize::MAX);
                let (mut log, mut appended) = (Log::default(), Vec::new());
                for (nth, len) in lens.enumerate() {
                    let seq = 2 * nth as u64 + 1;
                    append(&mut log, seq, len, bounds, &mut memory).unwrap();
                    appended.push((seq, frame(seq, len)));
                    assert_eq!(memory.used_bytes, log.allocated_bytes());
                }
                check(&log, &appended, bounds);
            }
        }
    }

    #[test]
    fn a_long_history_under_changing_bounds() {
        let mut memory = memory(usize::MAX);
        let (mut log, mut appended) = (Log::default(), Vec::new());
        let mut state = 1u64;
        for nth in 0..20_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bounds =
                Bounds { bytes_max: 600 + (nth / 1000 % 5 * 900) as usize, frames_max: 40 };
            let len = 1 + (state >> 40) as usize % 500;
            append(&mut log, nth * 3 + 1, len, bounds, &mut memory).unwrap();
            appended.push((nth * 3 + 1, frame(nth * 3 + 1, len)));
            if nth % 7 == 0 {
                check(&log, &appended, bounds);
            }
        }
    }

    #[test]
    fn memory_is_taken_as_needed_and_given_back() {
        let bounds = Bounds { bytes_max: 1 << 20, frames_max: 1000 };
        let mut memory = memory(1 << 20);
        let mut log = Log::default();
        assert_eq!(log.ring_bytes(), 0);
        append(&mut log, 1, 100, bounds, &mut memory).unwrap();
        assert_eq!(log.ring_bytes(), RING_BYTES_MIN);
        append(&mut log, 2, 1000, bounds, &mut memory).unwrap();
        assert_eq!(log.ring_bytes(), 2048);
        assert_eq!(memory.used_bytes, log.allocated_bytes());
        log.release();
        assert_eq!(log.allocated_bytes(), 0);
    }

    #[test]
    fn when_memory_is_short_a_log_keeps_its_size_and_evicts() {
        let bounds = Bounds { bytes_max: 1 << 20, frames_max: 1000 };
        let mut memory = memory(512 + 8 * ENTRY_BYTES);
        let mut log = Log::default();
        for seq in 1..=50 {
            append(&mut log, seq, 100, bounds, &mut memory).unwrap();
        }
        assert_eq!((log.ring_bytes(), log.len()), (512, 5));
        assert_eq!(append(&mut log, 51, 600, bounds, &mut memory), Err(Full::Memory));
        assert_eq!(append(&mut log, 51, 2 << 20, bounds, &mut memory), Err(Full::Log));
        assert_eq!((log.first(), log.len()), (FrameNo(45), 5), "what is refused evicts nothing");
    }

    /// Small frames need more memory for their index than for themselves.
    #[test]
    fn the_index_counts_and_is_bounded() {
        let bounds = Bounds { bytes_max: 1 << 20, frames_max: 100_000 };
        let mut memory = memory(64 << 10);
        let mut log = Log::default();
        for seq in 1..=20_000 {
            append(&mut log, seq, 4, bounds, &mut memory).unwrap();
            assert_eq!(memory.used_bytes, log.allocated_bytes());
            assert!(memory.used_bytes <= memory.bytes_max);
        }
        assert_eq!(log.len(), 1024, "the index takes 40 KiB for them, and cannot double again");
    }

    /// Whatever is appended under whatever bounds and memory: it is refused and nothing changes, or
    /// it is there and all bounds hold.
    #[test]
    fn a_frame_is_taken_or_changes_nothing() {
        let mut dice = crate::testing::Dice::new(7);
        for _ in 0..300 {
            let mut memory = memory(dice.roll(4000));
            // Another log's part of the memory, which comes and goes.
            let mut other = 0;
            let mut log = Log::default();
            for seq in 1..=100 {
                let bounds =
                    Bounds { bytes_max: 1 + dice.roll(2000), frames_max: 1 + dice.roll(20) };
                memory.used_bytes -= other;
                other = dice.roll((memory.bytes_max - memory.used_bytes).max(1));
                memory.used_bytes += other;
                let before = (log.first(), log.end(), log.allocated_bytes());
                let appended = append(&mut log, seq, 1 + dice.roll(900), bounds, &mut memory);
                assert_eq!(memory.used_bytes, log.allocated_bytes() + other);
                assert!(memory.used_bytes <= memory.bytes_max);
                match appended {
                    Ok(()) => {
                        assert_eq!(log.end(), before.1 + 1);
                        assert!(log.len() <= bounds.frames_max);
                        assert!(log.live_bytes() <= bounds.bytes_max);
                    }
                    Err(_) => assert_eq!((log.first(), log.end(), log.allocated_bytes()), before),
                }
            }
        }
    }

    #[test]
    fn what_is_lost_is_known() {
        let bounds = Bounds { bytes_max: 1000, frames_max: 2 };
        let mut memory = memory(usize::MAX);
        let mut log = Log::new(Seq(7));
        assert_eq!((log.evicted(), log.last_seq()), (Seq(7), Seq(7)));
        for seq in [8, 11, 12] {
            append(&mut log, seq, 10, bounds, &mut memory).unwrap();
        }
        assert_eq!((log.evicted(), log.last_seq(), log.first()), (Seq(8), Seq(12), FrameNo(1)));
    }

    #[test]
    fn runs_stay_within_a_budget_but_make_progress() {
        let bounds = Bounds { bytes_max: 10_000, frames_max: 100 };
        let mut memory = memory(usize::MAX);
        let mut log = Log::default();
        for seq in 1..=10 {
            append(&mut log, seq, 100, bounds, &mut memory).unwrap();
        }
        let check = |from, bytes_max, expected| {
            assert_eq!(log.run_within(FrameNo(from), bytes_max), FrameNo(expected))
        };
        check(0, 5000, 10);
        check(0, 1000, 10);
        check(0, 999, 9);
        check(0, 200, 2);
        check(0, 199, 1);
        check(0, 1, 1);
        check(9, 1, 10);
        check(10, 1, 10);
    }
}
