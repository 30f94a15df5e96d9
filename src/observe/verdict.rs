//! Why a stream's events are where they are.
//!
//! A server sees that a write went through, or that it did not; it does not see why. The kernel does:
//! it knows whether the peer's window is closed, whether segments have to be sent again, whether
//! anything comes back at all. [`Verdict::of`] weighs what both know. It is a pure function, and each
//! rule of it a line with its reason.

use crate::observe::tcp_info::{Since, TcpInfo};
use std::fmt;

/// Where a stream stands, and who is to blame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything is acknowledged, and there is nothing to send.
    #[default]
    Idle,
    /// Something is under way, and nothing stands in its way.
    Flowing,
    /// Something waits in our log although the socket has room: a flush policy holds it back, or
    /// the loop has not come round.
    NotFlushed,
    /// Our send buffer is full, and neither the reader nor the network is the reason.
    SendBuffer,
    /// The network is the limit: segments are lost, or the congestion window is full.
    Network,
    /// The peer's receive window is closed: its kernel is there, its program does not read.
    NotReading,
    /// Nothing comes back at all.
    PeerGone,
}

/// What there is to be known of a stream at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence {
    /// Bytes that wait in our logs, or among the connection's own.
    pub waiting_bytes: u64,
    /// Our last call found the send buffer full.
    pub blocked: bool,
    /// Bytes that the kernel has taken and the peer's has not acknowledged.
    pub outstanding_bytes: u64,
    /// Something was written or acknowledged within the last second.
    pub moved_lately: bool,
    /// What the kernel knows.
    pub tcp: TcpInfo,
    /// What it has counted since an earlier look. `None` if there was none lately: then what the
    /// connection has gone through in its life says nothing about now.
    pub since: Option<Since>,
}

impl Verdict {
    /// All verdicts, the best first.
    pub const ALL: [Verdict; 7] = [
        Verdict::Idle,
        Verdict::Flowing,
        Verdict::NotFlushed,
        Verdict::SendBuffer,
        Verdict::Network,
        Verdict::NotReading,
        Verdict::PeerGone,
    ];

    /// Its name in JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Idle => "idle",
            Verdict::Flowing => "flowing",
            Verdict::NotFlushed => "not_flushed",
            Verdict::SendBuffer => "send_buffer",
            Verdict::Network => "network",
            Verdict::NotReading => "not_reading",
            Verdict::PeerGone => "peer_gone",
        }
    }

    /// The verdict on a stream. The rules are in the order of their strength: one that is sure of
    /// its case comes before one that only finds nothing better.
    pub fn of(evidence: &Evidence) -> Verdict {
        let Evidence { waiting_bytes, outstanding_bytes, blocked, .. } = *evidence;
        if outstanding_bytes == 0 {
            return match waiting_bytes {
                0 if evidence.moved_lately => Verdict::Flowing,
                0 => Verdict::Idle,
                _ => Verdict::NotFlushed,
            };
        }
        if evidence.is_unanswered() {
            Verdict::PeerGone
        } else if evidence.is_window_closed() {
            Verdict::NotReading
        } else if evidence.is_losing() || evidence.is_congested() {
            Verdict::Network
        } else if blocked {
            Verdict::SendBuffer
        } else if waiting_bytes > 0 {
            Verdict::NotFlushed
        } else {
            Verdict::Flowing
        }
    }

    /// The verdict in a sentence, with the figures it rests on.
    pub fn explain(self, evidence: &Evidence) -> String {
        let Evidence { waiting_bytes, outstanding_bytes, tcp, since, .. } = *evidence;
        match self {
            Verdict::Idle => "everything is acknowledged, and nothing is waiting".into(),
            Verdict::Flowing if outstanding_bytes == 0 => {
                "everything is acknowledged, and something was written within the last second"
                    .into()
            }
            Verdict::Flowing => format!(
                "{outstanding_bytes} bytes are on their way, and nothing stands in their way"
            ),
            Verdict::NotFlushed => format!(
                "{waiting_bytes} bytes wait here although the socket has room: a flush policy \
                 holds them back, or the loop has not come round"
            ),
            Verdict::SendBuffer => format!(
                "the send buffer is full with {outstanding_bytes} bytes although reader and network \
                 would take more{}",
                since.map_or(String::new(), |since| format!(
                    ": it was the limit for {} of the last {} ms that were busy",
                    since.sndbuf_limited_us / 1000,
                    since.busy_us / 1000
                ))
            ),
            Verdict::Network => format!(
                "the network is the limit: {} segments in flight of {} that the congestion window \
                 permits{}",
                tcp.in_flight_segments,
                tcp.cwnd_segments,
                since.map_or(String::new(), |since| format!(
                    ", {} sent again within {} ms",
                    since.retransmitted_segments,
                    since.over_us / 1000
                ))
            ),
            Verdict::NotReading => format!(
                "the peer's kernel answers, but its receive window is {}: its program does not read",
                tcp.snd_wnd_bytes.map_or("closed".into(), |bytes| match bytes {
                    0 => "closed".into(),
                    bytes => format!("full, at {bytes} bytes"),
                })
            ),
            Verdict::PeerGone => format!(
                "nothing has come back for {} ms, although {} retransmissions and {} probes were sent",
                tcp.last_ack_ms, tcp.retransmits, tcp.probes
            ),
        }
    }
}

impl Evidence {
    /// The peer's kernel does not answer what demands an answer. A segment that is sent again twice,
    /// or a probe, is acknowledged at once by any peer that lives, whether its program reads or not.
    fn is_unanswered(&self) -> bool {
        let asked = self.tcp.retransmits >= 2 || self.tcp.probes >= 2;
        let patience_ms = (self.tcp.rto_us / 1000).max(UNANSWERED_MS_MIN);
        asked && self.tcp.last_ack_ms >= patience_ms
    }

    /// What is in flight leaves no room for a segment in the peer's window, and there is more to
    /// send. The kernel holds back what does not fit (`tcp_snd_wnd_test`, `net/ipv4/tcp_output.c`).
    fn is_window_closed(&self) -> bool {
        if self.tcp.unsent_bytes == 0 {
            return false;
        }
        let in_flight_bytes =
            self.outstanding_bytes.saturating_sub(u64::from(self.tcp.unsent_bytes));
        let next_bytes = self.tcp.unsent_bytes.min(self.tcp.mss_bytes);
        let full =
            |window_bytes: u32| in_flight_bytes + u64::from(next_bytes) > u64::from(window_bytes);
        let was_the_limit = |since: Since| since.rwnd_limited_us * 2 > since.busy_us;
        self.tcp.snd_wnd_bytes.map_or(self.since.is_some_and(was_the_limit), full)
    }

    fn is_losing(&self) -> bool {
        let recovers = self.tcp.congestion_state >= CONGESTION_RECOVERY;
        let sent_again = self.since.is_some_and(|since| since.retransmitted_segments > 0);
        self.tcp.retransmits > 0 || recovers || sent_again
    }

    /// More could leave if the congestion window were wider.
    fn is_congested(&self) -> bool {
        self.tcp.unsent_bytes > 0 && self.tcp.in_flight_segments >= self.tcp.cwnd_segments
    }

    /// Whether the tail of the stream, less than a segment, is being held back until what is in
    /// flight is acknowledged: Nagle's algorithm here, a delayed acknowledgement there, each
    /// waiting for the other (RFC 9293 §3.7.4, RFC 1122 §4.2.3.2).
    pub fn is_held_by_nagle(&self) -> bool {
        let tcp = &self.tcp;
        let tail = tcp.unsent_bytes > 0 && tcp.unsent_bytes < tcp.mss_bytes;
        let waits = tcp.in_flight_segments > 0 && tcp.in_flight_segments < tcp.cwnd_segments;
        tail && waits
            && tcp.last_sent_ms >= NAGLE_STALL_MS
            && !self.is_window_closed()
            && !self.is_losing()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long a tail is held back before that is called a stall. A receiver's kernel delays an
/// acknowledgement by 40 ms at least; nothing else that is well takes as long as this.
pub const NAGLE_STALL_MS: u32 = 10;
/// The least silence that counts as such.
const UNANSWERED_MS_MIN: u32 = 1_000;
/// `TCP_CA_Recovery`, include/uapi/linux/tcp.h.
const CONGESTION_RECOVERY: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        let tcp = TcpInfo {
            cwnd_segments: 10,
            mss_bytes: 1448,
            snd_wnd_bytes: Some(65_536),
            rto_us: 204_000,
            ..TcpInfo::default()
        };
        Evidence { tcp, ..Evidence::default() }
    }

    #[track_caller]
    fn check(expected: Verdict, change: impl FnOnce(&mut Evidence)) {
        let mut evidence = evidence();
        change(&mut evidence);
        let found = Verdict::of(&evidence);
        assert_eq!(found, expected, "{evidence:?}");
        assert!(found.explain(&evidence).len() > 20);
    }

    #[test]
    fn nothing_is_outstanding() {
        check(Verdict::Idle, |_| {});
        check(Verdict::Flowing, |e| e.moved_lately = true);
        check(Verdict::NotFlushed, |e| e.waiting_bytes = 1);
    }

    #[test]
    fn something_is_on_its_way() {
        check(Verdict::Flowing, |e| {
            e.outstanding_bytes = 100;
            e.tcp.in_flight_segments = 1;
        });
        check(Verdict::NotFlushed, |e| (e.outstanding_bytes, e.waiting_bytes) = (100, 5));
    }

    #[test]
    fn the_reader_does_not_read() {
        let full = |e: &mut Evidence| {
            (e.outstanding_bytes, e.blocked, e.waiting_bytes) = (50_000, true, 9);
            (e.tcp.unsent_bytes, e.tcp.snd_wnd_bytes) = (50_000, Some(0));
        };
        check(Verdict::NotReading, full);
        check(Verdict::NotReading, |e| {
            full(e);
            (e.tcp.probes, e.tcp.last_ack_ms) = (1, 200); // answered each time
        });
        check(Verdict::NotReading, |e| {
            full(e);
            e.tcp.snd_wnd_bytes = None; // an older kernel
            let (busy_us, rwnd_limited_us) = (1_000_000, 900_000);
            e.since = Some(Since { busy_us, rwnd_limited_us, ..Since::default() });
        });
        check(Verdict::SendBuffer, |e| {
            full(e);
            e.tcp.snd_wnd_bytes = Some(60_000);
        });
    }

    #[test]
    fn the_peer_is_gone() {
        check(Verdict::PeerGone, |e| {
            (e.outstanding_bytes, e.tcp.in_flight_segments) = (12, 1);
            (e.tcp.retransmits, e.tcp.last_ack_ms) = (3, 3_000);
        });
        check(Verdict::PeerGone, |e| {
            (e.outstanding_bytes, e.tcp.unsent_bytes, e.tcp.snd_wnd_bytes) = (12, 12, Some(0));
            (e.tcp.probes, e.tcp.last_ack_ms) = (4, 5_000);
        });
        check(Verdict::Network, |e| {
            (e.outstanding_bytes, e.tcp.in_flight_segments) = (12, 1);
            (e.tcp.retransmits, e.tcp.last_ack_ms) = (1, 250); // not yet
        });
    }

    #[test]
    fn the_network_is_the_limit() {
        check(Verdict::Network, |e| {
            (e.outstanding_bytes, e.tcp.unsent_bytes) = (20_000, 5_520);
            (e.tcp.in_flight_segments, e.blocked) = (10, true);
        });
        check(Verdict::Network, |e| {
            let since = Since { retransmitted_segments: 1, ..Since::default() };
            (e.outstanding_bytes, e.since) = (500, Some(since));
        });
        check(Verdict::Network, |e| (e.outstanding_bytes, e.tcp.congestion_state) = (500, 4));
    }

    /// Whatever the kernel has counted over a connection's life.
    #[test]
    fn without_an_earlier_look_the_past_is_no_evidence() {
        check(Verdict::Flowing, |e| {
            (e.outstanding_bytes, e.tcp.retransmitted_segments) = (500, 1);
        });
        check(Verdict::SendBuffer, |e| {
            (e.outstanding_bytes, e.blocked, e.tcp.unsent_bytes) = (50_000, true, 50_000);
            (e.tcp.busy_us, e.tcp.rwnd_limited_us) = (9_000_000, 9_000_000);
            e.tcp.snd_wnd_bytes = None; // an older kernel
        });
    }

    #[test]
    fn nagle_and_delayed_acknowledgement_wait_for_each_other() {
        let mut held = evidence();
        held.outstanding_bytes = 200;
        (held.tcp.unsent_bytes, held.tcp.in_flight_segments, held.tcp.last_sent_ms) = (100, 1, 12);
        assert!(held.is_held_by_nagle());
        let not = |change: fn(&mut Evidence)| {
            let mut evidence = held;
            change(&mut evidence);
            assert!(!evidence.is_held_by_nagle(), "{evidence:?}");
        };
        not(|e| e.tcp.unsent_bytes = 0);
        not(|e| e.tcp.unsent_bytes = 1448); // a whole segment would leave
        not(|e| e.tcp.in_flight_segments = 0);
        not(|e| e.tcp.in_flight_segments = 10); // the network is the limit
        not(|e| e.tcp.last_sent_ms = 9);
        not(|e| e.tcp.snd_wnd_bytes = Some(150));
        not(|e| e.tcp.retransmits = 1);
    }

    #[test]
    fn names_are_distinct() {
        for (place, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, place, "{verdict}");
        }
    }
}
