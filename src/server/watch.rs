//! Looking after streams: what of them is under way, for how long, and why.
//!
//! The sweep looks at each stream that has moved lately, once per `observe_ms`, with the cheapest
//! question there is (`SIOCOUTQ`: is anything unacknowledged?). Nearly always the answer is no, and
//! nothing is remembered. Only of a stream of which something *is* under way is a [`Watch`] kept, and
//! only that is asked for the rest. So a hundred thousand idle streams cost nothing, busy ones one
//! short call a second, and the write path not a single instruction.
//!
//! A peer that has vanished is found here too. A heartbeat of twelve bytes always fits into the
//! kernel's buffer, so no write ever fails; but nothing is acknowledged any more.

use super::connection::{Connection, ConnectionKey, Door};
use super::{Platform, Server, Token};
use crate::observe::counters::CloseReason;
use crate::observe::ladder::{Break, Breaks, Skip};
use crate::observe::looks::{History, Progress, TailStall};
use crate::observe::stamps::{Sent, Stamped as StampedCall, Stamps};
use crate::observe::verdict::{Evidence, NAGLE_STALL_MS, Verdict};
use crate::send::transport::Transport;
use crate::sys::stamps::Station;

/// What is remembered of a stream while something of it is under way.
#[derive(Debug)]
pub(super) struct Watch {
    /// Its interruptions that are not acknowledged.
    pub breaks: Breaks,
    progress: Progress,
    /// What the latest look has found. `None` before the first look, and if the sweep does not look
    /// again (`observe_ms = 0`): it would become old without notice.
    seen: Option<Seen>,
    /// Earlier looks, if something was under way at the latest one.
    history: Option<Box<History>>,
    /// Calls of it that are to be stamped.
    pub stamps: Option<Box<Stamps>>,
    tail_stall: TailStall,
}

/// What a look has found.
#[derive(Debug, Clone, Copy)]
struct Seen {
    #[cfg_attr(
        not(feature = "admin"),
        expect(dead_code, reason = "the admin listener ranks by it")
    )]
    outstanding_bytes: u64,
    verdict: Verdict,
}

impl Watch {
    fn new(now_ns: u64) -> Watch {
        Watch {
            breaks: Breaks::default(),
            progress: Progress::new(now_ns),
            seen: None,
            history: None,
            stamps: None,
            tail_stall: TailStall::default(),
        }
    }

    /// How many bytes are allocated for it.
    #[cfg(any(test, feature = "testing"))]
    pub fn allocated_bytes(&self) -> usize {
        let history = self.history.as_deref().map_or(0, size_of_val);
        let stamps = self.stamps.as_deref().map_or(0, Stamps::allocated_bytes);
        size_of_val(self) + self.breaks.allocated_bytes() + history + stamps
    }

    /// Notes a look.
    fn note(&mut self, acked_bytes: u64, outstanding_bytes: u64, now_ns: u64) {
        self.progress.note(acked_bytes, outstanding_bytes, now_ns);
        self.breaks.forget_below(acked_bytes);
    }
}

impl<S> Connection<S> {
    /// The stream offset behind everything that was sent or is queued as the connection's own.
    pub fn own_end(&self) -> u64 {
        self.sent_bytes + self.private.len() as u64
    }

    /// Notes that what was queued since `from` is no event.
    pub fn interrupt(&mut self, from: u64, skip: Option<Skip>, now_ns: u64)
    where
        S: Transport,
    {
        let (bytes, before) = (self.own_end() - from, self.delivered);
        // The sweep forgets those that are acknowledged; it may come by seldom or never.
        if let Some(watch) = &mut self.watch
            && !watch.breaks.is_empty()
            && self.socket.outstanding_bytes().is_ok_and(|bytes| bytes == 0)
        {
            watch.breaks.forget_below(self.sent_bytes);
        }
        self.watch_mut(now_ns).breaks.push(Break { at: from, bytes, before, skip });
    }

    /// Its watch, which begins now if it has none.
    fn watch_mut(&mut self, now_ns: u64) -> &mut Watch {
        self.watch.get_or_insert_with(|| Box::new(Watch::new(now_ns)))
    }

    /// How long nothing was acknowledged although something is under way, in nanoseconds; 0 if
    /// nothing was under way when it was last looked at.
    pub fn unacknowledged_ns(&self, now_ns: u64) -> u64 {
        self.watch.as_ref().map_or(0, |watch| watch.progress.unacknowledged_ns(now_ns))
    }

    /// Whether something was written within the last second.
    pub fn has_moved_lately(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.moved_ns) < LATELY_NS
    }

    /// Bytes that were not acknowledged when it was last looked at; 0 if it was not.
    #[cfg(feature = "admin")]
    pub fn outstanding_when_seen_bytes(&self) -> u64 {
        self.seen().map_or(0, |seen| seen.outstanding_bytes)
    }

    /// The verdict of the latest look; of one that needs none, what can be told without.
    pub fn verdict(&self, now_ns: u64) -> Verdict {
        match self.seen() {
            Some(seen) => seen.verdict,
            None if self.has_moved_lately(now_ns) => Verdict::Flowing,
            None => Verdict::Idle,
        }
    }

    fn seen(&self) -> Option<Seen> {
        self.watch.as_ref().and_then(|watch| watch.seen)
    }
}

impl<P: Platform> Server<P> {
    /// Looks at a stream as the sweep comes by: forgets what is over, and ends a stream of which
    /// nothing is acknowledged for too long.
    pub(super) fn watch_over(&mut self, key: ConnectionKey) {
        let (now_ns, period_ms) = (self.now_ns, self.config.observe.observe_ms);
        let connection = &mut self.connections[key];
        if period_ms == 0 {
            connection.watch.iter_mut().for_each(|watch| watch.seen = None);
            return;
        }
        if !self.sweep.observes(key.slot(), period_ms) || connection.door == Door::Admin {
            return;
        }
        // After its last write it was looked at and found settled.
        let settled_ns = 3 * period_ms.max(1000) * 1_000_000;
        if connection.watch.is_none() && now_ns.saturating_sub(connection.moved_ns) > settled_ns {
            return;
        }
        self.counters.observations += 1;
        // Stamps that have come belong to the stalls that were seen before this look.
        let token = Token { key, generation: connection.generation };
        self.take_stamps(token);
        let connection = &self.connections[key];
        match connection.socket.outstanding_bytes() {
            Ok(0) => self.settle_watch(key),
            Ok(_) => {
                if let Some(evidence) = self.look(key) {
                    self.note_held_tail(key, &evidence);
                }
                self.reap_unacknowledged(key);
            }
            Err(_) => {} // a stand-in without a kernel, or a socket whose end will be noticed
        }
    }

    /// Nothing is under way: forgets what need not be remembered.
    fn settle_watch(&mut self, key: ConnectionKey) {
        let now_ns = self.now_ns;
        let connection = &mut self.connections[key];
        let Some(watch) = &mut connection.watch else { return };
        watch.note(connection.sent_bytes, 0, now_ns);
        watch.tail_stall.note_acked(connection.sent_bytes);
        if let Some(stamps) = &mut watch.stamps {
            stamps.give_up(connection.sent_bytes, &mut self.counters.stamps);
        }
        let spent = connection.private.is_empty()
            && watch.breaks.are_spent(connection.delivered)
            && watch.stamps.is_none();
        if spent {
            connection.watch = None;
        } else {
            self.look(key);
        }
    }

    fn reap_unacknowledged(&mut self, key: ConnectionKey) {
        let stall_timeout_ms = self.config.times.stall_timeout_ms;
        let unacknowledged_ns = self.connections[key].unacknowledged_ns(self.now_ns);
        if stall_timeout_ms > 0 && unacknowledged_ns / 1_000_000 >= stall_timeout_ms {
            self.close(key, CloseReason::Unacknowledged);
        }
    }

    /// Asks the kernel about a stream, and judges. `None` if the kernel does not say.
    ///
    /// This counts nothing: how often an operator looks must not show in what is counted.
    pub(super) fn look(&mut self, key: ConnectionKey) -> Option<Evidence> {
        let now_ns = self.now_ns;
        let looks_again = self.config.observe.observe_ms > 0;
        let waiting_bytes = self.waiting_bytes(key);
        let connection = &mut self.connections[key];
        let tcp = connection.socket.tcp_info().ok()?;
        // A FIN that was acknowledged counts as a byte.
        let acked_bytes = tcp.acked_bytes.min(connection.sent_bytes);
        let outstanding_bytes = connection.sent_bytes - acked_bytes;
        let (moved_lately, blocked) = (connection.has_moved_lately(now_ns), connection.blocked);
        let mut evidence =
            Evidence { waiting_bytes, blocked, outstanding_bytes, moved_lately, tcp, since: None };
        // What is acknowledged in a moment need not be remembered, nor memory taken for it; unless
        // segments were lost before, and another look is to tell whether that goes on.
        let in_a_moment = tcp.unsent_bytes == 0
            && tcp.last_ack_ms < ACK_DELAY_MS_MAX
            && tcp.retransmitted_segments == 0;
        let watch = match &mut connection.watch {
            None if outstanding_bytes == 0 || in_a_moment => return Some(evidence),
            _ => connection.watch_mut(now_ns),
        };
        watch.note(acked_bytes, outstanding_bytes, now_ns);
        match &mut watch.history {
            history if outstanding_bytes == 0 => *history = None,
            Some(history) => evidence.since = history.add(tcp, now_ns),
            None => watch.history = Some(Box::new(History::new(tcp, now_ns))),
        }
        let verdict = Verdict::of(&evidence);
        watch.seen = looks_again.then_some(Seen { outstanding_bytes, verdict });
        Some(evidence)
    }

    /// Bytes that wait here for a connection.
    fn waiting_bytes(&self, key: ConnectionKey) -> u64 {
        let connection = &self.connections[key];
        let (behind, _) =
            crate::observe::ladder::behind(connection.cursors.as_slice(), self.hub.topics());
        behind.bytes + connection.private.len() as u64
    }

    /// Counts a stall of Nagle's algorithm that the sweep sees for the first time.
    fn note_held_tail(&mut self, key: ConnectionKey, evidence: &Evidence) {
        let connection = &mut self.connections[key];
        let Some(watch) = &mut connection.watch else { return };
        let acked_bytes = connection.sent_bytes - evidence.outstanding_bytes;
        watch.tail_stall.note_acked(acked_bytes);
        if !evidence.is_held_by_nagle() {
            return;
        }
        let unsent_bytes = u64::from(evidence.tcp.unsent_bytes);
        let sent_end = connection.sent_bytes.saturating_sub(unsent_bytes);
        if watch.tail_stall.see(acked_bytes, sent_end) {
            self.note_nagle_stall(key, u64::from(evidence.tcp.last_sent_ms));
        }
    }

    /// The end of a stream was held back until what was before it was acknowledged.
    fn note_nagle_stall(&mut self, key: ConnectionKey, held_ms: u64) {
        self.counters.nagle_stalls += 1;
        let connection = &mut self.connections[key];
        connection.nagle_stalls = connection.nagle_stalls.saturating_add(1);
        if connection.nagle_stalls == 1 {
            log::info!(
                "conn={key} peer={}: a last part of less than a segment waited for {held_ms} ms \
                 until what was before it was acknowledged (Nagle's algorithm, and a delayed \
                 acknowledgement); {NAGLE_REMEDY}",
                connection.peer
            );
        }
    }
}

/// Stamps.
impl<P: Platform> Server<P> {
    /// Whether the next flush of a stream is to be stamped: one in so many is.
    pub(super) fn stamp_is_due(&mut self) -> bool {
        let one_in = self.config.observe.timestamp_one_in;
        if one_in == 0 {
            return false;
        }
        self.stamp_countdown = self.stamp_countdown.min(one_in).saturating_sub(1);
        self.stamp_countdown == 0
    }

    /// Prepares a connection for a call that is stamped; tells whether it is prepared.
    #[cold]
    pub(super) fn prepare_stamp(&mut self, key: ConnectionKey) -> bool {
        let now_ns = self.now_ns;
        let connection = &mut self.connections[key];
        let sent_bytes = connection.sent_bytes;
        if connection.watch.as_ref().is_none_or(|watch| watch.stamps.is_none()) {
            if connection.socket.enable_stamps().is_err() {
                return false;
            }
            connection.watch_mut(now_ns).stamps = Some(Box::new(Stamps::new(sent_bytes)));
        }
        let stamps = connection.watch.as_ref().and_then(|watch| watch.stamps.as_deref());
        stamps.is_some_and(Stamps::has_room)
    }

    /// Notes the call of a flush that was stamped: it ended `bytes` behind what had been sent
    /// before, or has taken nothing, and then the next flush's turn has come.
    #[cold]
    pub(super) fn note_stamped(
        &mut self,
        key: ConnectionKey,
        bytes: u64,
        published_ns: u64,
        clocks: Clocks,
    ) {
        if bytes == 0 {
            return;
        }
        self.stamp_countdown = self.config.observe.timestamp_one_in;
        let connection = &mut self.connections[key];
        let last_byte = connection.sent_bytes + bytes - 1;
        let call = StampedCall {
            last_byte,
            published_ns,
            called_ns: clocks.now_ns,
            called_unix_ns: clocks.unix_ns,
        };
        let stamps = connection.watch.as_mut().and_then(|watch| watch.stamps.as_mut());
        stamps.into_iter().for_each(|stamps| stamps.push(call));
    }

    /// Takes the stamps of a connection's calls that have come back. Tells whether there were any: if
    /// not, whatever was reported of the socket is something else.
    pub fn take_stamps(&mut self, token: Token) -> bool {
        let key = token.key;
        let Some(connection) = self.connections.find(token) else { return false };
        let Some(stamps) = connection.watch.as_mut().and_then(|watch| watch.stamps.as_mut()) else {
            return false;
        };
        let (mut any, mut held) = (false, None);
        for _ in 0..STAMPS_AT_ONCE {
            let Ok(Some(stamp)) = connection.socket.next_stamp() else { break };
            any = true;
            let sent = stamps.take(&stamp, &mut self.counters.stamps);
            debug_assert!(sent.is_none() || stamp.station == Station::Sent);
            held = held.max(sent);
        }
        if let Some(sent) = held
            && sent.after_ns >= u64::from(NAGLE_STALL_MS) * 1_000_000
        {
            self.judge_delay(key, sent);
        }
        any
    }

    /// A call's bytes left late. If Nagle's algorithm is on, and neither the reader nor the network
    /// was the limit, it is the reason.
    fn judge_delay(&mut self, key: ConnectionKey, sent: Sent) {
        let now_ns = self.now_ns;
        let connection = &mut self.connections[key];
        let is_new = connection.watch_mut(now_ns).tail_stall.leave(sent.last_byte);
        let was = connection.verdict(now_ns);
        // What is limited now was so a moment ago; there may have been no look then.
        let is = self.look(key).map_or(was, |evidence| Verdict::of(&evidence));
        let connection = &self.connections[key];
        let home = connection.cursors.as_slice().first();
        let delivery = home.map_or(self.deliveries.base(), |home| {
            self.deliveries.of(&self.hub.topics()[home.topic].name)
        });
        let nagle = !delivery.socket.nodelay;
        let limits =
            |verdict| matches!(verdict, Verdict::NotReading | Verdict::Network | Verdict::PeerGone);
        if is_new && nagle && !limits(was) && !limits(is) && !connection.blocked {
            self.note_nagle_stall(key, sent.after_ns / 1_000_000);
        }
    }
}

/// What the server's clock and the clock of stamps show at the same moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    pub now_ns: u64,
    pub unix_ns: u64,
}

/// What to do about a stall of Nagle's algorithm.
pub(super) const NAGLE_REMEDY: &str =
    "set tcp_nodelay = true, or a write path that sends an event in one call (span, writev, copy)";
const LATELY_NS: u64 = 1_000_000_000;
/// How long a peer's kernel that is well may put off an acknowledgement (`TCP_DELACK_MAX`,
/// `include/net/tcp.h`).
const ACK_DELAY_MS_MAX: u32 = 200;
/// More stamps than one connection can have waiting.
const STAMPS_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests;
