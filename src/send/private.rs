//! Bytes that belong to one connection alone: answers, the head of a stream, heartbeats, notices,
//! and the rest of a frame that a short write has cut.

/// A queue of bytes in the order in which they leave.
///
/// Empty, it holds no memory: that is the state of a connection nearly all of the time.
#[derive(Debug, Default)]
pub struct Private {
    bytes: Vec<u8>,
    /// How many of them the kernel has taken. Invariant: less than `bytes.len()`, or both zero.
    sent: usize,
}

impl Private {
    /// Adds bytes behind those that are queued.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The queue's buffer, to write behind what is queued.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes that are still to be sent.
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
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
