//! What is told by comparing one look at a stream with another.
//!
//! The kernel counts from a connection's beginning, and a stream is looked at now and then. So there is
//! often no earlier look to compare with: the stream has moved only since, or everything was
//! acknowledged and the looks were forgotten. What cannot be told without one is `None` here, never
//! what has added up over the connection's life.

use crate::observe::tcp_info::{Since, TcpInfo};

/// Two looks at what the kernel counts, some time apart.
#[derive(Debug, Clone, Copy)]
pub struct History {
    /// The latest look that is at least [`APART_NS`] older than the one after it, if there is one.
    before: Option<Look>,
    latest: Look,
}

/// What the kernel said, and when.
#[derive(Debug, Clone, Copy)]
struct Look {
    tcp: TcpInfo,
    at_ns: u64,
}

impl History {
    /// A history that begins with this look.
    pub fn new(tcp: TcpInfo, now_ns: u64) -> History {
        History { before: None, latest: Look { tcp, at_ns: now_ns } }
    }

    /// Adds a look. Gives what the kernel has counted since an earlier one, which was between
    /// [`APART_NS`] and [`APART_NS`] plus [`LATELY_NS_MAX`] ago; `None` if there was none then.
    pub fn add(&mut self, tcp: TcpInfo, now_ns: u64) -> Option<Since> {
        let latest_age_ns = now_ns.saturating_sub(self.latest.at_ns);
        if latest_age_ns > LATELY_NS_MAX {
            *self = History::new(tcp, now_ns);
        } else if latest_age_ns >= APART_NS {
            *self = History { before: Some(self.latest), latest: Look { tcp, at_ns: now_ns } };
        }
        self.before.map(|before| tcp.since(&before.tcp, now_ns.saturating_sub(before.at_ns)))
    }
}

/// Whether what is under way is being acknowledged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Bytes that were acknowledged at the latest look; `None` before the first one.
    acked_bytes: Option<u64>,
    /// Since when something is under way of which nothing is acknowledged, as far as the looks tell.
    waits_since_ns: Option<u64>,
}

impl Progress {
    /// The progress of a stream that is about to send something, and was not looked at.
    pub fn new(now_ns: u64) -> Progress {
        Progress { acked_bytes: None, waits_since_ns: Some(now_ns) }
    }

    /// Notes a look.
    pub fn note(&mut self, acked_bytes: u64, outstanding_bytes: u64, now_ns: u64) {
        // The first look cannot tell whether the count has grown, and accuses nobody.
        let has_grown = self.acked_bytes.is_none_or(|before| acked_bytes > before);
        self.acked_bytes = Some(acked_bytes);
        if outstanding_bytes == 0 {
            self.waits_since_ns = None;
        } else if has_grown || self.waits_since_ns.is_none() {
            self.waits_since_ns = Some(now_ns);
        }
    }

    /// For how long nothing was acknowledged although something is under way, in nanoseconds.
    pub fn unacknowledged_ns(&self, now_ns: u64) -> u64 {
        self.waits_since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns))
    }
}

/// Tells one stall of Nagle's algorithm from the next, since a stall may be seen many times.
#[derive(Debug, Clone, Copy, Default)]
pub struct TailStall {
    /// Of a stall that was seen and is not known to be over: how many bytes of the stream must be
    /// acknowledged before its tail leaves.
    until_acked: Option<u64>,
}

impl TailStall {
    /// Notes a look that found the tail behind byte `sent_end` held back. Tells whether this is a
    /// stall that was not seen before.
    pub fn see(&mut self, acked_bytes: u64, sent_end: u64) -> bool {
        self.note_acked(acked_bytes);
        if self.until_acked.is_some() {
            return false;
        }
        self.until_acked = Some(sent_end);
        true
    }

    /// Notes how much is acknowledged.
    pub fn note_acked(&mut self, acked_bytes: u64) {
        self.until_acked = self.until_acked.filter(|end| acked_bytes < *end);
    }

    /// Notes that byte `last_byte` was held back and has left. Tells whether that was a stall which
    /// was not seen before.
    pub fn leave(&mut self, last_byte: u64) -> bool {
        let seen = self.until_acked.is_some_and(|end| end <= last_byte);
        if seen {
            self.until_acked = None;
        }
        !seen
    }
}

/// How far apart looks are at least that are compared: what the kernel counts in ticks says little
/// about less.
pub const APART_NS: u64 = 1_000_000_000;
/// An older look is not compared with: what has happened since then is not "lately".
pub const LATELY_NS_MAX: u64 = 10_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn tcp(retransmitted_segments: u32) -> TcpInfo {
        TcpInfo { retransmitted_segments, ..TcpInfo::default() }
    }

    /// What a look says of the segments that were sent again, and over how many milliseconds.
    #[track_caller]
    fn check(history: &mut History, at_ms: u64, retransmitted: u32, expected: Option<(u32, u64)>) {
        let since = history.add(tcp(retransmitted), at_ms * MS);
        let told = since.map(|since| (since.retransmitted_segments, since.over_us / 1000));
        assert_eq!(told, expected, "at {at_ms} ms");
    }

    #[test]
    fn a_first_look_tells_nothing_of_before() {
        let mut history = History::new(tcp(7), 5_000 * MS);
        check(&mut history, 5_000, 7, None);
        check(&mut history, 5_999, 8, None);
    }

    #[test]
    fn a_later_look_tells_what_has_happened_in_between() {
        let mut history = History::new(tcp(7), 0);
        check(&mut history, 1_000, 8, Some((1, 1_000)));
        check(&mut history, 1_500, 9, Some((2, 1_500)));
        check(&mut history, 2_000, 9, Some((1, 1_000)));
        check(&mut history, 3_000, 9, Some((0, 1_000)));
    }

    #[test]
    fn an_old_look_is_not_compared_with() {
        let mut history = History::new(tcp(1), 0);
        check(&mut history, 10_000, 2, Some((1, 10_000)));
        check(&mut history, 20_001, 3, None);
        check(&mut history, 21_001, 3, Some((0, 1_000)));
    }

    #[test]
    fn what_is_acknowledged_is_progress() {
        let mut progress = Progress::new(0);
        assert_eq!(progress.unacknowledged_ns(400), 400);
        progress.note(9_000, 10, 500); // of which nothing was known before
        assert_eq!(progress.unacknowledged_ns(600), 100);
        progress.note(9_000, 10, 700);
        assert_eq!(progress.unacknowledged_ns(800), 300);
        progress.note(9_001, 9, 900);
        assert_eq!(progress.unacknowledged_ns(1_000), 100);
    }

    /// What is sent after a pause has not been waiting since before the pause.
    #[test]
    fn a_pause_is_no_wait() {
        let mut progress = Progress::new(0);
        progress.note(100, 0, 500);
        assert_eq!(progress.unacknowledged_ns(90_000), 0);
        progress.note(100, 20, 100_000);
        assert_eq!(progress.unacknowledged_ns(100_000), 0);
        progress.note(100, 20, 130_000);
        assert_eq!(progress.unacknowledged_ns(130_000), 30_000);
    }

    #[test]
    fn a_stall_is_one_however_often_it_is_seen() {
        let mut stall = TailStall::default();
        assert!(stall.see(0, 100));
        assert!(!stall.see(0, 100) && !stall.see(99, 150));
        assert!(stall.see(100, 150), "the first one is over");
        stall.note_acked(150);
        assert!(stall.see(150, 151));
    }

    #[test]
    fn a_stall_that_was_seen_and_stamped_is_one() {
        let mut stall = TailStall::default();
        assert!(stall.see(0, 100));
        assert!(stall.leave(99), "another one, before it");
        assert!(!stall.leave(120), "this one");
        assert!(stall.leave(130), "the next");
        assert!(stall.see(100, 130));
    }
}
