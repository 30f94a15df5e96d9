//! Requests on the publisher's connection: what is still to be sent, what was not answered, and what
//! becomes of both when the connection ends.
//!
//! A request that was not written to its last byte cannot have been carried out, nor can one behind
//! an answer that closes the connection (RFC 9112 §9.6). Those are sent again, in order. Whether
//! any other was carried out before the connection ended, nobody can say: sent again, it could be
//! published twice, so it is given up.

use super::payload::Stamp;
use std::collections::VecDeque;

/// The requests of one publisher, over all of its connections.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    /// Bytes that are still to be sent.
    unsent: VecDeque<u8>,
    /// Events whose answer has not come, and where their requests end in the bytes of this
    /// connection. Invariant: in ascending order.
    under_way: VecDeque<(Stamp, u64)>,
    /// Events that are to be sent again on the next connection, before any other.
    again: VecDeque<Stamp>,
    /// Bytes of this connection's requests so far.
    appended: u64,
    /// How many of them were written.
    written: u64,
    /// Answers on this connection.
    answers: u64,
}

impl Pipeline {
    /// Appends the request for an event.
    pub fn append(&mut self, stamp: Stamp, parts: &[&[u8]]) {
        for part in parts {
            self.unsent.extend(*part);
            self.appended += part.len() as u64;
        }
        self.under_way.push_back((stamp, self.appended));
    }

    /// The next event that is to be sent again. It is to be appended then.
    pub fn take_again(&mut self) -> Option<Stamp> {
        self.again.pop_front()
    }

    /// Whether any event is to be sent again.
    pub fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Bytes to be sent, if not all that there are.
    pub fn to_send(&self) -> &[u8] {
        self.unsent.as_slices().0
    }

    /// Bytes that wait for the socket.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// So many bytes were written.
    pub fn wrote(&mut self, bytes: usize) {
        self.unsent.drain(..bytes);
        self.written += bytes as u64;
    }

    /// An answer has come; gives whether a request was waiting for it.
    pub fn answered(&mut self) -> bool {
        self.answers += 1;
        self.under_way.pop_front().is_some()
    }

    /// Requests on this connection that were not answered.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Events whose answer has not come, those that are to be sent again included.
    pub fn unanswered(&self) -> usize {
        self.under_way.len() + self.again.len()
    }

    /// Whether anything was asked on this connection.
    pub fn was_used(&self) -> bool {
        self.appended > 0
    }

    /// Whether anything was answered on this connection.
    pub fn was_answered(&self) -> bool {
        self.answers > 0
    }

    /// The connection is over; `announced` if an answer said so. Gives how many requests are given
    /// up.
    pub fn end(&mut self, announced: bool) -> u64 {
        let (written, mut given_up) = (self.written, 0);
        // In front of what was to be sent again anyway, which is younger.
        while let Some((stamp, end)) = self.under_way.pop_back() {
            match announced || end > written {
                true => self.again.push_front(stamp),
                false => given_up += 1,
            }
        }
        self.unsent.clear();
        (self.appended, self.written, self.answers) = (0, 0, 0);
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(seq: u64) -> Stamp {
        Stamp { run: 1, seq, intended_ns: 0 }
    }

    /// Three requests of ten bytes, so many bytes of which were written, and so many answered.
    fn pipeline(written: usize, answers: usize) -> Pipeline {
        let mut pipeline = Pipeline::default();
        (0..3).for_each(|seq| pipeline.append(stamp(seq), &[b"head ", b"body "]));
        let mut left = written;
        while left > 0 {
            let bytes = left.min(pipeline.to_send().len());
            pipeline.wrote(bytes);
            left -= bytes;
        }
        (0..answers).for_each(|_| assert!(pipeline.answered()));
        pipeline
    }

    /// However far the requests had got: each is answered, sent again in order, or given up.
    #[test]
    fn no_request_gets_lost() {
        for written in 0..=30 {
            for answers in 0..=written / 10 {
                for announced in [false, true] {
                    let mut pipeline = pipeline(written, answers);
                    let given_up = pipeline.end(announced);
                    let again: Vec<u64> =
                        std::iter::from_fn(|| pipeline.take_again()).map(|one| one.seq).collect();
                    let first = if announced { answers } else { written / 10 };
                    let context = format!("{written} bytes, {answers} answers, {announced}");
                    assert_eq!(again, (first as u64..3).collect::<Vec<_>>(), "{context}");
                    assert_eq!(given_up, (first - answers) as u64, "{context}");
                    assert!(pipeline.unsent_bytes() == 0 && !pipeline.was_used());
                }
            }
        }
    }

    #[test]
    fn what_is_sent_again_goes_first() {
        let mut pipeline = pipeline(5, 0);
        pipeline.end(false);
        let first = pipeline.take_again().unwrap();
        pipeline.append(first, &[b"request"]);
        assert_eq!((pipeline.under_way(), pipeline.unanswered()), (1, 3));
        pipeline.end(false);
        assert_eq!(pipeline.take_again(), Some(stamp(0)));
        assert!(!Pipeline::default().answered(), "an answer that nothing waits for");
    }
}
