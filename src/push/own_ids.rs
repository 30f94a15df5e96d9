//! The publishers' own ids of one topic: which retained frame carries which.

use crate::push::log::{FrameNo, Log};
use std::collections::HashMap;
use std::hash::BuildHasher;

/// The retained frames that carry a publisher's own id, by a keyed hash of it.
///
/// The ids themselves stand in the log; a second copy would be an allocation per event and take more
/// than the table. Of two retained ids with the same hash, which are one pair in 2^64, the older one
/// is no longer found, so publishing it again publishes it twice. No id is ever taken for another.
#[derive(Debug, Default)]
pub struct OwnIds {
    frames: HashMap<u64, FrameNo, Hasher>,
    /// How many entries the table has room for when it is fresh. Its own count of that is lower while
    /// places of removed entries cannot be used again.
    room: usize,
    hasher: Hasher,
}

/// A key of its own for each table, so that nobody can choose ids whose hashes are alike.
#[cfg(not(any(test, feature = "testing")))]
type Hasher = std::hash::RandomState;
/// A simulated world shall be the same each time.
#[cfg(any(test, feature = "testing"))]
type Hasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

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
        self.room = self.room.max(self.frames.capacity());
    }

    /// How many bytes are allocated.
    pub fn allocated_bytes(&self) -> usize {
        table_bytes(self.room)
    }

    /// How many bytes [`OwnIds::reserve_one`] would allocate.
    pub fn growth_bytes(&self) -> usize {
        let full = self.frames.len() == self.frames.capacity();
        // A table that is at most half in use tidies itself up instead (hashbrown, `reserve_rehash`).
        match full && self.frames.len() + 1 > self.room / 2 {
            // It moves to one of twice as many buckets.
            true => table_bytes(self.room + 1) - self.allocated_bytes(),
            false => 0,
        }
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
        assert_eq!(ids.allocated_bytes(), 0);
        for nth in 0..5000_u64 {
            let (before, growth) = (ids.allocated_bytes(), ids.growth_bytes());
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

    /// Ids come and go for long: removed entries leave places behind that cannot be used before the
    /// table tidies itself up, and then no memory is taken.
    #[test]
    fn what_comes_and_goes_allocates_nothing() {
        for retained in [1, 3, 14, 28, 100] {
            let (mut ids, mut allocated) = (OwnIds::default(), 0);
            for nth in 0..20_000_u64 {
                if let Some(oldest) = nth.checked_sub(retained) {
                    ids.remove(&oldest.to_le_bytes(), FrameNo(oldest));
                }
                allocated += ids.growth_bytes();
                ids.reserve_one();
                ids.insert(&nth.to_le_bytes(), FrameNo(nth));
                assert_eq!(ids.allocated_bytes(), allocated, "{retained} at {nth}");
            }
            let most = table_bytes(4 * retained as usize);
            assert!(allocated <= most, "{allocated} for {retained}");
        }
    }
}
