//! Counters, incremented where the thing happens and read when somebody asks.

use crate::observe::histogram::Histogram;
use crate::observe::stamps::StampCounters;
use std::fmt;

/// Everything that the server counts.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// The write path of streams.
    pub write: WriteCounters,
    /// The same for answers to publishers and to refused requests.
    pub answers: WriteCounters,
    /// The same for answers of the admin listener, which counts apart so that whoever reads the
    /// other counters does not change them.
    pub admin_answers: WriteCounters,
    /// The loop.
    pub turns: TurnCounters,
    /// Events that were published.
    pub published: u64,
    /// Their bytes of frame.
    pub published_bytes: u64,
    /// Publishes of an id that was already there.
    pub duplicates: u64,
    /// Publishes that were refused because a log could not take them.
    pub publishes_refused: u64,
    /// Requests whose head was understood, the admin listener's apart.
    pub requests: u64,
    /// Answers of the public listener that refuse something; indexed like [`REFUSALS`].
    pub refusals: [u64; REFUSALS.len()],
    /// Streams that began.
    pub subscribed: u64,
    /// Connections accepted, the admin listener's apart.
    pub accepted: u64,
    /// Those of them that were above a limit, and were taken on to be told so.
    pub over_limit: u64,
    /// Connections that were dropped right after accept: no slot or no descriptor left.
    pub dropped_at_accept: u64,
    /// Failed `accept4` calls that say something about us: no descriptor, no memory.
    pub accept_errors: u64,
    /// Calls of `read`, the admin listener's connections apart.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Heartbeats written.
    pub heartbeats: u64,
    /// Gap notices written.
    pub gaps: u64,
    /// Events lost to slow readers, as far as their number is known.
    pub events_lost: u64,
    /// Topics forgotten because nobody used them.
    pub topics_forgotten: u64,
    /// `epoll_ctl` calls: one per connection, at accept.
    pub registrations: u64,
    /// Connections ended, the admin listener's apart; by the number of their [`CloseReason`].
    closes: [u64; CloseReason::ALL.len()],
    /// From publish to the return of the call that handed the event to the kernel, one value per
    /// flush and subscriber, for the oldest event that the flush carried. In nanoseconds.
    pub publish_to_kernel_ns: Histogram,
    /// Frames carried by a call that carried any.
    pub frames_per_call: Histogram,
    /// I/O vectors that a call of `writev` was given, on average over the calls of a flush.
    pub iovecs_per_call: Histogram,
    /// From the first to the last subscriber that was offered an event, one value for each pass over
    /// a topic's subscribers, of which there were at least two. In nanoseconds.
    pub fanout_spread_ns: Histogram,
    /// Times that the sweep asked the kernel about a stream.
    pub observations: u64,
    /// Stalls by Nagle's algorithm that the sweep or a stamp has found, each once.
    pub nagle_stalls: u64,
    /// What stamped calls have told.
    pub stamps: StampCounters,
}

/// The statuses that refuse something, and their labels.
pub const REFUSALS: [(u16, &str); 14] = [
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (417, "417"),
    (431, "431"),
    (501, "501"),
    (503, "503"),
    (505, "505"),
];

impl Counters {
    /// Counts the end of a connection.
    pub fn note_close(&mut self, reason: CloseReason) {
        if let Some(count) = self.closes.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// How many connections have ended for this reason.
    pub fn closes_of(&self, reason: CloseReason) -> u64 {
        self.closes.get(reason as usize).copied().unwrap_or(0)
    }

    /// Counts an answer with this status, if it refuses something.
    pub fn note_answer(&mut self, status: u16) {
        let refusal = REFUSALS.iter().position(|&(refusal, _)| refusal == status);
        debug_assert!(refusal.is_some() || status < 400, "{status} is not counted");
        if let Some(at) = refusal {
            self.refusals[at] += 1;
        }
    }
}

/// What the write path does. One flush of an unblocked subscriber is one call on the default
/// path, whatever its backlog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteCounters {
    /// Times that a connection with something to send was flushed.
    pub flushes: u64,
    /// Calls of `send` without flags.
    pub write_calls: u64,
    /// Calls of `writev`.
    pub writev_calls: u64,
    /// Calls of `send` with `MSG_MORE`.
    pub more_calls: u64,
    /// Calls of `setsockopt` with `TCP_CORK`.
    pub cork_calls: u64,
    /// Bytes that the kernel took.
    pub bytes: u64,
    /// I/O vectors handed over in `writev` calls.
    pub iovecs: u64,
    /// Frames handed over to the last byte, or to a connection's private bytes.
    pub frames: u64,
    /// Calls that took less than they were offered.
    pub short_writes: u64,
    /// Calls that took nothing because the send buffer was full (EAGAIN).
    pub would_block: u64,
    /// Calls that a signal interrupted (EINTR).
    pub interrupted: u64,
    /// Bytes copied in user space: joined frames, and the rests of frames that were cut.
    pub copied_bytes: u64,
}

impl WriteCounters {
    /// All calls that can carry data.
    pub fn data_calls(&self) -> u64 {
        self.write_calls + self.writev_calls + self.more_calls
    }
}

/// What the loop does.
#[derive(Debug, Clone, Default)]
pub struct TurnCounters {
    /// Turns of the loop, which is returns of `epoll_wait`.
    pub turns: u64,
    /// Readiness events among them.
    pub events: u64,
    /// Events for a connection that was already gone.
    pub stale_events: u64,
    /// Connections whose blocked stream became writable again.
    pub unblocked: u64,
    /// Flush slices that ended because their time was up.
    pub slices_cut: u64,
    /// Turns that took longer than [`STALL_NS`]: everybody else has waited for so long.
    pub stalls: u64,
    /// The time from one poll's return to the next poll, in nanoseconds.
    pub turn_ns: Histogram,
}

/// From when on a turn of the loop counts as a stall, in nanoseconds: 50 ms.
pub const STALL_NS: u64 = 50_000_000;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The answer was sent and the connection was not to be reused.
    Done,
    /// The peer closed its side. For a stream that means it has left.
    PeerLeft,
    /// The peer reset the connection, or its host or network is gone.
    PeerReset,
    /// Another error of the socket.
    SocketError,
    /// The request was malformed.
    BadRequest,
    /// A limit on connections.
    OverLimit,
    /// The head of a request did not arrive in time.
    HeadTimeout,
    /// The body of a request did not arrive in time.
    BodyTimeout,
    /// No further request came.
    IdleTimeout,
    /// The peer accepted no bytes for too long.
    Stalled,
    /// The peer's kernel acknowledged nothing for too long, although something was under way.
    Unacknowledged,
    /// The reader was too slow, and the policy is to close.
    Overrun,
    /// The connection reached its maximum age.
    Aged,
    /// The peer sent too much after subscribing.
    Chatter,
    /// The server is going down, and the stream ended in order.
    Drained,
    /// The server went down before the stream could end in order.
    Cut,
}

impl CloseReason {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [CloseReason; 16] = [
        CloseReason::Done,
        CloseReason::PeerLeft,
        CloseReason::PeerReset,
        CloseReason::SocketError,
        CloseReason::BadRequest,
        CloseReason::OverLimit,
        CloseReason::HeadTimeout,
        CloseReason::BodyTimeout,
        CloseReason::IdleTimeout,
        CloseReason::Stalled,
        CloseReason::Unacknowledged,
        CloseReason::Overrun,
        CloseReason::Aged,
        CloseReason::Chatter,
        CloseReason::Drained,
        CloseReason::Cut,
    ];

    /// The reason's name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            CloseReason::Done => "done",
            CloseReason::PeerLeft => "peer_left",
            CloseReason::PeerReset => "peer_reset",
            CloseReason::SocketError => "socket_error",
            CloseReason::BadRequest => "bad_request",
            CloseReason::OverLimit => "over_limit",
            CloseReason::HeadTimeout => "head_timeout",
            CloseReason::BodyTimeout => "body_timeout",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::Stalled => "stalled",
            CloseReason::Unacknowledged => "unacknowledged",
            CloseReason::Overrun => "overrun",
            CloseReason::Aged => "aged",
            CloseReason::Chatter => "chatter",
            CloseReason::Drained => "drained",
            CloseReason::Cut => "cut",
        }
    }

    /// The reason that an error of the socket stands for.
    pub fn of(error: &std::io::Error) -> CloseReason {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown => CloseReason::PeerReset,
            _ => CloseReason::SocketError,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_their_counters() {
        for (at, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at, "{reason}");
        }
    }
}
