//! What the kernel tells of a connection, in plain units.

use crate::sys::tcp::RawTcpInfo;
use std::mem::offset_of;

/// A TCP connection as its kernel sees it (`TCP_INFO`, tcp(7); the fields are those of
/// `struct tcp_info`, include/uapi/linux/tcp.h). Fields that the kernel is too old for are 0, unless
/// said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes that the peer's kernel has acknowledged, since the connection stands.
    pub acked_bytes: u64,
    /// Bytes that were written and have not been sent.
    pub unsent_bytes: u32,
    /// Segments that were sent and not acknowledged.
    pub in_flight_segments: u32,
    /// The congestion window, in segments: how many may be in flight as far as the network goes.
    pub cwnd_segments: u32,
    /// The peer's receive window, in bytes: how much may be in flight as far as the reader goes.
    /// `None` on kernels before 5.4.
    pub snd_wnd_bytes: Option<u32>,
    /// The segment size for sending, in bytes of data.
    pub mss_bytes: u32,
    /// The smoothed round trip time, in microseconds.
    pub rtt_us: u32,
    /// The shortest round trip time lately, in microseconds.
    pub min_rtt_us: u32,
    /// The retransmission timeout, in microseconds.
    pub rto_us: u32,
    /// Timeouts in a row without an acknowledgement: the segment at the front is being sent again.
    pub retransmits: u8,
    /// Probes of a closed window that have not been answered.
    pub probes: u8,
    /// The state of congestion control: 0 is open, 3 recovers from a loss, 4 from a timeout
    /// (`enum tcp_ca_state`).
    pub congestion_state: u8,
    /// Segments that were ever sent again.
    pub retransmitted_segments: u32,
    /// Since the last segment with data was sent, in milliseconds.
    pub last_sent_ms: u32,
    /// Since the last acknowledgement came, in milliseconds.
    pub last_ack_ms: u32,
    /// How long there ever was something to send, in microseconds; counted in ticks, like the two
    /// that are part of it.
    pub busy_us: u64,
    /// How much of that the peer's window was the limit.
    pub rwnd_limited_us: u64,
    /// How much of that our send buffer was the limit.
    pub sndbuf_limited_us: u64,
    /// Segments sent that carried data.
    pub data_segments_sent: u32,
    /// Segments received, acknowledgements included.
    pub segments_received: u32,
}

/// The offset of a field of the kernel's structure.
macro_rules! field {
    ($field:ident) => {
        offset_of!(libc::tcp_info, $field)
    };
}

impl From<RawTcpInfo> for TcpInfo {
    fn from(raw: RawTcpInfo) -> TcpInfo {
        let byte = |at| raw.u8_at(at).unwrap_or(0);
        let word = |at| raw.u32_at(at).unwrap_or(0);
        let long = |at| raw.u64_at(at).unwrap_or(0);
        TcpInfo {
            acked_bytes: long(field!(tcpi_bytes_acked)),
            unsent_bytes: word(field!(tcpi_notsent_bytes)),
            in_flight_segments: word(field!(tcpi_unacked)),
            cwnd_segments: word(field!(tcpi_snd_cwnd)),
            snd_wnd_bytes: raw.u32_at(field!(tcpi_snd_wnd)),
            mss_bytes: word(field!(tcpi_snd_mss)),
            rtt_us: word(field!(tcpi_rtt)),
            min_rtt_us: word(field!(tcpi_min_rtt)),
            rto_us: word(field!(tcpi_rto)),
            retransmits: byte(field!(tcpi_retransmits)),
            probes: byte(field!(tcpi_probes)),
            congestion_state: byte(field!(tcpi_ca_state)),
            retransmitted_segments: word(field!(tcpi_total_retrans)),
            last_sent_ms: word(field!(tcpi_last_data_sent)),
            last_ack_ms: word(field!(tcpi_last_ack_recv)),
            busy_us: long(field!(tcpi_busy_time)),
            rwnd_limited_us: long(field!(tcpi_rwnd_limited)),
            sndbuf_limited_us: long(field!(tcpi_sndbuf_limited)),
            data_segments_sent: word(field!(tcpi_data_segs_out)),
            segments_received: word(field!(tcpi_segs_in)),
        }
    }
}

impl TcpInfo {
    /// What has happened since `earlier`, a look at the same connection `over_ns` nanoseconds ago.
    pub fn since(&self, earlier: &TcpInfo, over_ns: u64) -> Since {
        Since {
            over_us: over_ns / 1000,
            busy_us: self.busy_us.saturating_sub(earlier.busy_us),
            rwnd_limited_us: self.rwnd_limited_us.saturating_sub(earlier.rwnd_limited_us),
            sndbuf_limited_us: self.sndbuf_limited_us.saturating_sub(earlier.sndbuf_limited_us),
            retransmitted_segments: self
                .retransmitted_segments
                .saturating_sub(earlier.retransmitted_segments),
        }
    }
}

/// What has happened between two looks at a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Since {
    /// How long ago the earlier one was, in microseconds.
    pub over_us: u64,
    /// How long there was something to send, in microseconds.
    pub busy_us: u64,
    /// How much of that the peer's window was the limit.
    pub rwnd_limited_us: u64,
    /// How much of that our send buffer was the limit.
    pub sndbuf_limited_us: u64,
    /// Segments that were sent again.
    pub retransmitted_segments: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_is_described() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // The side that accepts counts from 0; the other one counts its SYN.
        let (mut ours, _) = listener.accept().unwrap();
        let look = || TcpInfo::from(crate::sys::tcp::tcp_info(&ours).unwrap());
        let first = look();
        assert_eq!((first.acked_bytes, first.unsent_bytes), (0, 0));
        assert!(first.mss_bytes > 0 && first.cwnd_segments > 0 && first.rto_us > 0);
        assert!(first.snd_wnd_bytes.is_none_or(|bytes| bytes > 0));
        (&ours).write_all(&[1; 10_000]).unwrap();
        while look().acked_bytes < 10_000 {}
        let second = look();
        assert_eq!((second.acked_bytes, second.in_flight_segments), (10_000, 0));
        assert!(second.data_segments_sent >= 1 && second.segments_received >= 2);
        assert_eq!(second.since(&first, 0).retransmitted_segments, 0);
        ours.flush().unwrap();
    }
}
