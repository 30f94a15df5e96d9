//! What a simulated kernel knows of the bytes that a server has sent: what `SIOCOUTQ` and `TCP_INFO`
//! tell.
//!
//! The client's kernel and its program are one here: what is not received is not acknowledged either.

use crate::observe::tcp_info::TcpInfo;
use std::cell::Cell;
use std::rc::Rc;

/// The bytes of one direction of a connection.
#[derive(Debug)]
pub(super) struct Flow {
    clock: Rc<Cell<u64>>,
    /// Small segments are sent at once.
    pub(super) nodelay: bool,
    sent_bytes: u64,
    acked_bytes: u64,
    sent_ns: u64,
    acked_ns: u64,
    /// Since when something is under way, or nothing.
    since_ns: u64,
    retransmitted_segments: u32,
    /// When a segment was last lost.
    lost_ns: Option<u64>,
}

/// What is known of a flow at one moment.
#[cfg(feature = "admin")]
#[derive(Debug, Clone, Copy)]
pub(super) struct Glimpse {
    /// Something is under way.
    pub(super) outstanding: bool,
    /// Since when that is so, or not so.
    pub(super) since_ns: u64,
    /// When a segment was last lost.
    pub(super) lost_ns: Option<u64>,
}

impl Flow {
    pub(super) fn new(clock: Rc<Cell<u64>>) -> Flow {
        let now_ns = clock.get();
        Flow {
            clock,
            nodelay: true,
            sent_bytes: 0,
            acked_bytes: 0,
            sent_ns: now_ns,
            acked_ns: now_ns,
            since_ns: now_ns,
            retransmitted_segments: 0,
            lost_ns: None,
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.clock.get()
    }

    /// Bytes that are not acknowledged.
    pub(super) fn outstanding_bytes(&self) -> u64 {
        self.sent_bytes - self.acked_bytes
    }

    /// Notes that bytes were sent, of which a segment was `lost` and sent again.
    pub(super) fn note_sent(&mut self, bytes: usize, lost: bool) {
        let now_ns = self.clock.get();
        if bytes == 0 {
            return;
        }
        if self.outstanding_bytes() == 0 {
            self.since_ns = now_ns;
        }
        self.sent_bytes += bytes as u64;
        self.sent_ns = now_ns;
        if lost {
            self.retransmitted_segments += 1;
            self.lost_ns = Some(now_ns);
        }
    }

    /// Notes that all but `unread_bytes` of what was sent has been received.
    pub(super) fn note_received(&mut self, unread_bytes: usize) {
        let acked_bytes = self.sent_bytes - unread_bytes as u64;
        if acked_bytes == self.acked_bytes {
            return;
        }
        (self.acked_bytes, self.acked_ns) = (acked_bytes, self.clock.get());
        if unread_bytes == 0 {
            self.since_ns = self.acked_ns;
        }
    }

    #[cfg(feature = "admin")]
    pub(super) fn glimpse(&self) -> Glimpse {
        let outstanding = self.outstanding_bytes() > 0;
        Glimpse { outstanding, since_ns: self.since_ns, lost_ns: self.lost_ns }
    }

    /// What `TCP_INFO` tells, of a connection whose reader has room for `window_bytes`.
    pub(super) fn tcp_info(&self, window_bytes: u32) -> TcpInfo {
        let outstanding_bytes = self.outstanding_bytes() as u32;
        let mut unsent_bytes = outstanding_bytes.saturating_sub(window_bytes);
        // With Nagle's algorithm a tail waits for the acknowledgement of what precedes it.
        if !self.nodelay && unsent_bytes == 0 {
            unsent_bytes = (outstanding_bytes / 2).min(MSS_BYTES - 1);
        }
        let since_ms = |then_ns| (self.clock.get().saturating_sub(then_ns) / 1_000_000) as u32;
        TcpInfo {
            acked_bytes: self.acked_bytes,
            unsent_bytes,
            in_flight_segments: (outstanding_bytes - unsent_bytes).div_ceil(MSS_BYTES),
            cwnd_segments: 1000,
            snd_wnd_bytes: Some(window_bytes),
            mss_bytes: MSS_BYTES,
            rtt_us: 100,
            min_rtt_us: 100,
            rto_us: 200_000,
            retransmitted_segments: self.retransmitted_segments,
            last_sent_ms: since_ms(self.sent_ns),
            last_ack_ms: since_ms(self.acked_ns),
            ..TcpInfo::default()
        }
    }
}

const MSS_BYTES: u32 = 100;
