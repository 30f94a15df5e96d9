//! The publishers' own ids of one topic: which retained frame carries which.

use crate::push::log::{FrameNo, Log};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The retained frames that carry a publisher's own id, by a keyed hash of it.
///
/// The ids themselves stand in the log; a second copy would be an allocation per event and take more
/// than the table. Of two retained ids with the same hash, which are one pair in 2^64, the older one
/// is no longer found, so publishing it again publishes it twice. No id is ever taken for another.
#[derive(Debug, Default)]
pub struct OwnIds {
    frames: HashMap<u64, FrameNo>,
    hasher: RandomState,
}

impl OwnIds {
    /// The frame of `log` that carries `id`.
    pub fn find(&self, id: &str, log: &Log) -> Option<FrameNo> {
        let found = self.frames.get(&self.hash(id.as_bytes())).copied();
        found.filter(|&no| log.id(no) == id.as_bytes())
    }

    /// Notes that frame `no` carries `id`.
    pub fn insert(&mut self, id: &[u8], no: FrameNo) {
        self.frames.insert(self.hash(id), no);
    }

    /// Forgets the id of frame `no`, which is evicted.
    pub fn remove(&mut self, id: &[u8], no: FrameNo) {
        let hash = self.hash(id);
        if self.frames.get(&hash) == Some(&no) {
            self.frames.remove(&hash);
        }
    }

    /// Makes room for one more id.
    pub fn reserve_one(&mut self) {
        self.frames.reserve(1);
    }

    /// How many bytes are allocated.
    pub fn allocated_bytes(&self) -> usize {
        table_bytes(self.frames.capacity())
    }

    /// How many bytes [`OwnIds::reserve_one`] would allocate.
    pub fn growth_bytes(&self) -> usize {
        match self.is_full() {
            // A full table moves to one of twice as many buckets.
            true => table_bytes(self.frames.capacity() + 1) - self.allocated_bytes(),
            false => 0,
        }
    }

    /// Whether there is room for no further id.
    pub fn is_full(&self) -> bool {
        self.frames.len() == self.frames.capacity()
    }

    /// Whether no retained frame carries a publisher's own id.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn hash(&self, id: &[u8]) -> u64 {
        self.hasher.hash_one(id)
    }
}

/// The memory of the standard library's table with room for `entries`: a power of two of buckets, at
/// least four, of which seven eighths are filled, with one control byte for each.
fn table_bytes(entries: usize) -> usize {
    match entries {
        0 => 0,
        1..=3 => 4 * BUCKET_BYTES,
        _ => (entries * 8).div_ceil(7).next_power_of_two() * BUCKET_BYTES,
    }
}

const BUCKET_BYTES: usize = size_of::<(u64, FrameNo)>() + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_a_further_id_allocates() {
        let mut ids = OwnIds::default();
        assert_eq!((ids.allocated_bytes(), ids.is_full()), (0, true));
        for nth in 0..5000_u64 {
            let (before, growth) = (ids.allocated_bytes(), ids.growth_bytes());
            assert_eq!(growth > 0, ids.is_full());
            ids.reserve_one();
            assert_eq!(ids.allocated_bytes() - before, growth, "at {nth}");
            ids.insert(&nth.to_le_bytes(), FrameNo(nth));
            assert_eq!(ids.allocated_bytes() - before, growth, "at {nth}");
        }
        let full = ids.allocated_bytes();
        for nth in 0..5000_u64 {
            ids.remove(&nth.to_le_bytes(), FrameNo(nth + 1));
            assert_eq!(ids.frames.len() as u64, 5000 - nth, "another frame's id stays");
            ids.remove(&nth.to_le_bytes(), FrameNo(nth));
        }
        assert!(ids.is_empty());
        assert_eq!(ids.allocated_bytes(), full, "an empty table keeps its memory, which counts");
    }
}
