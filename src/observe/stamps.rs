//! How long single writes take on their way through the kernel, by the kernel's own times.
//!
//! One flush in so many asks for stamps of its first call: when its last byte was handed to the
//! packet scheduler, when to the device, and when the peer's kernel acknowledged it. What a call
//! says that returns is only that the bytes were copied; on loopback the acknowledgement may be
//! there before that.
//!
//! The kernel keeps one request per packet: if a later call's bytes join the same packet, the
//! earlier request is silently replaced (net/ipv4/tcp.c, `tcp_tx_timestamp`). Such a stamp never
//! comes, and is counted as lost when a later one is acknowledged.

use crate::observe::histogram::Histogram;
use crate::sys::stamps::{Stamp, Station};
use std::collections::VecDeque;

/// What the stamps have told, in nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct StampCounters {
    /// From the publish of the flush's oldest event to the call.
    pub publish_to_write_ns: Histogram,
    /// From the call to the packet scheduler.
    pub write_to_scheduled_ns: Histogram,
    /// From the call to the device.
    pub write_to_sent_ns: Histogram,
    /// From the call to the acknowledgement.
    pub write_to_ack_ns: Histogram,
    /// From publish to the acknowledgement.
    pub publish_to_ack_ns: Histogram,
    /// Flushes that were stamped and acknowledged.
    pub taken: u64,
    /// Flushes whose stamps did not come.
    pub lost: u64,
}

/// A call that was to be stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamped {
    /// The offset of its last byte, counted in bytes from the connection's first.
    pub last_byte: u64,
    /// When the flush's oldest event was published, in nanoseconds of the server's clock; 0 if it
    /// carried none.
    pub published_ns: u64,
    /// When the call was made, by the same clock,
    pub called_ns: u64,
    /// and by the clock of the stamps, in nanoseconds since 1970.
    pub called_unix_ns: u64,
}

/// The calls of one connection that are waiting for stamps.
#[derive(Debug)]
pub struct Stamps {
    /// The connection's bytes when stamps were enabled: the kernel counts from there.
    base: u64,
    /// Invariant: in the order of the calls, and at most [`PENDING_MAX`].
    pending: VecDeque<Stamped>,
}

/// What a stamp told of the way from a call to the device. The longest comes last in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    /// How long it took, in nanoseconds.
    pub after_ns: u64,
    /// The offset of the call's last byte.
    pub last_byte: u64,
}

impl Stamps {
    /// How many bytes are allocated for them.
    #[cfg(any(test, feature = "testing"))]
    pub fn allocated_bytes(&self) -> usize {
        size_of_val(self) + self.pending.capacity() * size_of::<Stamped>()
    }

    /// Of a connection that has sent `base` bytes.
    pub fn new(base: u64) -> Stamps {
        Stamps { base, pending: VecDeque::new() }
    }

    /// Whether another call may be stamped: there are not too many that wait.
    pub fn has_room(&self) -> bool {
        self.pending.len() < PENDING_MAX
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Notes a call that was made.
    pub fn push(&mut self, call: Stamped) {
        if self.has_room() {
            self.pending.push_back(call);
        }
    }

    /// Takes up a stamp. Gives how long the call's bytes took to the device, if that is what it
    /// tells.
    pub fn take(&mut self, stamp: &Stamp, counters: &mut StampCounters) -> Option<Sent> {
        let base = self.base;
        let is_it = |call: &Stamped| (call.last_byte - base) as u32 == stamp.byte;
        let place = self.pending.iter().position(is_it)?;
        let call = self.pending[place];
        // The clock may have been set back in between.
        let after_ns = stamp.unix_ns.saturating_sub(call.called_unix_ns);
        match stamp.station {
            Station::Scheduled => counters.write_to_scheduled_ns.record(after_ns),
            Station::Sent => counters.write_to_sent_ns.record(after_ns),
            Station::Acknowledged => {
                // Acknowledgements are cumulative: earlier calls that were not heard of by now
                // will not be.
                counters.lost += place as u64;
                counters.taken += 1;
                counters.write_to_ack_ns.record(after_ns);
                if call.published_ns > 0 {
                    let waited_ns = call.called_ns.saturating_sub(call.published_ns);
                    counters.publish_to_write_ns.record(waited_ns);
                    counters.publish_to_ack_ns.record(waited_ns + after_ns);
                }
                self.pending.drain(..=place);
            }
        }
        let last_byte = call.last_byte;
        (stamp.station == Station::Sent).then_some(Sent { after_ns, last_byte })
    }

    /// Gives up the calls whose bytes are all acknowledged without a stamp.
    pub fn give_up(&mut self, acked: u64, counters: &mut StampCounters) {
        while self.pending.front().is_some_and(|call| call.last_byte < acked) {
            self.pending.pop_front();
            counters.lost += 1;
        }
    }
}

/// How many calls of one connection may wait for stamps.
const PENDING_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn call(last_byte: u64) -> Stamped {
        Stamped { last_byte, published_ns: 100, called_ns: 150, called_unix_ns: 1_000_000 }
    }

    fn stamp(station: Station, byte: u32) -> Stamp {
        Stamp { station, byte, unix_ns: 1_000_000 + 70 }
    }

    #[test]
    fn a_call_is_followed_to_its_acknowledgement() {
        let (mut stamps, mut counters) = (Stamps::new(1000), StampCounters::default());
        stamps.push(call(1010));
        assert_eq!(stamps.take(&stamp(Station::Scheduled, 10), &mut counters), None);
        let sent = Sent { after_ns: 70, last_byte: 1010 };
        assert_eq!(stamps.take(&stamp(Station::Sent, 10), &mut counters), Some(sent));
        assert!(!stamps.is_empty());
        stamps.take(&stamp(Station::Acknowledged, 10), &mut counters);
        assert!(stamps.is_empty());
        let maxima = [
            counters.publish_to_write_ns.max(),
            counters.write_to_scheduled_ns.max(),
            counters.write_to_sent_ns.max(),
            counters.write_to_ack_ns.max(),
            counters.publish_to_ack_ns.max(),
        ];
        assert_eq!(maxima, [50, 70, 70, 70, 120]);
        assert_eq!((counters.taken, counters.lost), (1, 0));
    }

    /// The request of the first call went away when the second one's bytes joined its packet.
    #[test]
    fn a_stamp_that_was_replaced_is_lost() {
        let (mut stamps, mut counters) = (Stamps::new(0), StampCounters::default());
        stamps.push(call(10));
        stamps.push(call(20));
        stamps.push(call(30));
        stamps.take(&stamp(Station::Acknowledged, 20), &mut counters);
        assert_eq!((counters.taken, counters.lost), (1, 1));
        stamps.give_up(30, &mut counters);
        assert_eq!(counters.lost, 1, "byte 30 is not acknowledged by 30");
        stamps.give_up(31, &mut counters);
        assert!(stamps.is_empty() && counters.lost == 2);
    }

    #[test]
    fn a_stamp_of_nobody_changes_nothing() {
        let (mut stamps, mut counters) = (Stamps::new(0), StampCounters::default());
        stamps.push(call(10));
        assert_eq!(stamps.take(&stamp(Station::Sent, 11), &mut counters), None);
        assert_eq!(counters.write_to_sent_ns.count(), 0);
        assert!(!stamps.is_empty());
    }

    #[test]
    fn the_kernels_count_wraps_round() {
        let (mut stamps, mut counters) = (Stamps::new(7), StampCounters::default());
        stamps.push(call(7 + (1 << 32) + 5));
        let sent = stamps.take(&stamp(Station::Sent, 5), &mut counters).unwrap();
        assert_eq!((sent.after_ns, sent.last_byte), (70, 7 + (1 << 32) + 5));
    }

    #[test]
    fn only_so_many_wait() {
        let mut stamps = Stamps::new(0);
        for byte in 0..100 {
            assert_eq!(stamps.has_room(), byte < PENDING_MAX as u64);
            stamps.push(call(byte));
        }
        assert_eq!(stamps.pending.len(), PENDING_MAX);
    }
}
