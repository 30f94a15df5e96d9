//! What is sent: pieces that lie scattered in memory, as events do that were published one by one.

use std::ops::Range;

/// The bytes of one call, in pieces.
#[derive(Debug)]
pub(super) struct Payload {
    arena: Vec<u8>,
    /// Where each piece lies, in the order in which they are sent.
    pieces: Vec<Range<usize>>,
    piece_bytes: usize,
    /// For how many calls the checksum has been computed, and the checksum.
    checksum: Option<(usize, u32)>,
}

impl Payload {
    /// So many pieces of so many bytes. They are apart from each other and in no order; after the
    /// first call all of them are in the cache as far as it reaches.
    pub fn new(pieces: usize, piece_bytes: usize) -> Payload {
        let stride = (piece_bytes + CACHE_LINE_BYTES).next_multiple_of(CACHE_LINE_BYTES);
        let mut places: Vec<Range<usize>> =
            (0..pieces).map(|nth| nth * stride..nth * stride + piece_bytes).collect();
        let mut rng = fastrand::Rng::with_seed(ORDER);
        rng.shuffle(&mut places);
        let arena = (0..pieces * stride).map(|_| rng.u8(..)).collect();
        Payload { arena, pieces: places, piece_bytes, checksum: None }
    }

    /// Whether it is of this shape.
    pub fn is(&self, pieces: usize, piece_bytes: usize) -> bool {
        (self.pieces.len(), self.piece_bytes) == (pieces, piece_bytes)
    }

    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.pieces.len() * self.piece_bytes
    }

    /// Writes a call's number into it, so that no two calls send the same.
    pub fn stamp(&mut self, number: usize) {
        let first = self.pieces[0].clone();
        let number = (number as u64).to_le_bytes();
        let bytes = first.len().min(number.len());
        self.arena[first][..bytes].copy_from_slice(&number[..bytes]);
    }

    /// The first piece.
    pub fn first(&self) -> &[u8] {
        &self.arena[self.pieces[0].clone()]
    }

    /// All pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|place| &self.arena[place.clone()])
    }

    /// The checksum of what so many calls send, each stamped with its number.
    pub fn checksum(&mut self, calls: usize) -> u32 {
        if let Some((_, checksum)) = self.checksum.filter(|(known, _)| *known == calls) {
            return checksum;
        }
        let mut hasher = crc32fast::Hasher::new();
        for number in 0..calls {
            self.stamp(number);
            self.pieces().for_each(|piece| hasher.update(piece));
        }
        let checksum = hasher.finalize();
        self.checksum = Some((calls, checksum));
        checksum
    }
}

const CACHE_LINE_BYTES: usize = 64;

/// Any number: the order is to be the same in each process.
const ORDER: u64 = 7;
