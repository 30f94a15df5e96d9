//! Bytes that belong to one connection alone: answers, the head of a stream, heartbeats, notices,
//! and the rest of a frame that a short write has cut.

/// A queue of bytes in the order in which they leave.
///
/// Empty, it holds no memory: that is the state of a connection nearly all of the time. What it
/// allocates follows what is still to be sent, not what has ever been queued: a peer that reads more
/// slowly than it asks never lets the queue become empty.
#[derive(Debug, Default)]
pub struct Private {
    bytes: Vec<u8>,
    /// How many of them the kernel has taken. Invariant: fewer than are still to be sent, or zero.
    sent: usize,
}

impl Private {
    /// Adds bytes after those that are queued.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// The queue's buffer, to write `count` bytes after what is queued. With more than it has room
    /// for, the buffer would double by itself, whatever its size.
    pub fn buffer(&mut self, count: usize) -> &mut Vec<u8> {
        self.reserve(count);
        &mut self.bytes
    }

    /// Makes room for `count` more bytes. The buffer doubles up to [`ALLOCATED_BYTES_MAX`], and beyond
    /// that is as large as what it holds.
    fn reserve(&mut self, count: usize) {
        // At most once for each time that the kernel has taken something.
        if self.sent > 0 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        if len + count > capacity {
            let doubled = (2 * capacity).min(ALLOCATED_BYTES_MAX);
            self.bytes.reserve_exact(doubled.max(len + count) - len);
        }
    }

    /// The bytes that are still to be sent.
    #[allow(clippy::indexing_slicing, reason = "sent is at most the length: its invariant")]
    pub fn remaining(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// How many bytes are still to be sent.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether nothing is left to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes up to `count` bytes off the front and gives how many that were.
    pub fn consume(&mut self, count: usize) -> usize {
        let taken = count.min(self.len());
        self.sent += taken;
        if self.is_empty() {
            *self = Private::default();
        } else if self.sent >= self.len() {
            // Moves no more bytes than have been sent since they were last moved.
            self.bytes = self.remaining().to_vec();
            self.sent = 0;
        }
        taken
    }

    /// How many bytes are allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// When answers that wait for a client to read take this much, further requests wait. So they never
/// take more than this and one answer.
pub const ALLOCATED_BYTES_MAX: usize = 64 << 10;
/// The head of an answer is shorter.
pub const HEAD_BYTES: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that takes less than it asks for, so that the queue is never empty.
    #[test]
    fn a_queue_that_never_becomes_empty_does_not_grow() {
        for (answer, taken) in [(100, 99), (100, 7), (900, 1), (1000, 1000), (40, 4000)] {
            let mut private = Private::default();
            let (mut queued, mut seen) = (0_u64, 0_u64);
            for _ in 0..20_000 {
                while private.allocated_bytes() < ALLOCATED_BYTES_MAX {
                    private
                        .buffer(answer)
                        .extend(std::iter::repeat_n((queued % 251) as u8, answer));
                    queued += 1;
                }
                assert!(private.allocated_bytes() <= ALLOCATED_BYTES_MAX);
                let front = &private.remaining()[..taken.min(private.len())];
                for byte in front {
                    assert_eq!(u64::from(*byte), seen / answer as u64 % 251);
                    seen += 1;
                }
                private.consume(taken);
                assert!(!private.is_empty());
            }
        }
    }

    /// A long answer takes what it is, and its memory is freed as it leaves.
    #[test]
    fn memory_follows_what_is_still_to_be_sent() {
        let mut private = Private::default();
        private.push(&vec![b'x'; 1 << 20]);
        assert_eq!(private.allocated_bytes(), 1 << 20);
        while !private.is_empty() {
            private.consume(1000);
            assert!(private.allocated_bytes() <= 2 * private.len() + 1000);
        }
        assert_eq!(private.allocated_bytes(), 0);
    }

    #[test]
    fn bytes_leave_in_order_and_leave_no_memory_behind() {
        for step in 1..=7 {
            let mut private = Private::default();
            private.push(b"abc");
            private.push(b"defg");
            let mut seen = Vec::new();
            while !private.is_empty() {
                let front = private.remaining()[..step.min(private.len())].to_vec();
                assert_eq!(private.consume(step), front.len());
                seen.extend(front);
            }
            assert_eq!(seen, b"abcdefg");
            assert_eq!(private.bytes.capacity(), 0);
            assert_eq!(private.consume(9), 0);
        }
    }
}
