//! Events become writes: passes over the subscribers of topics, one slice of time per turn.

use super::connection::{ConnectionKey, Door, Phase};
use super::watch::Clocks;
use super::{Platform, Server};
use crate::observe::counters::CloseReason;
use crate::push::cursor::Cursor;
use crate::push::gap::{Gap, GapReason, Overrun};
use crate::push::topics::{TopicKey, TopicToken};
use crate::send::drain::{Drain, Outcome, drain};
use crate::send::flush::{Due, FlushPolicy};
use crate::send::path::WritePath;
use crate::send::queue::WriteQueue;
use crate::send::stamped::drain_stamped;
use crate::send::transport::Transport;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;

/// Which topics are to be flushed, and when.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    /// Topics whose subscribers are owed a visit. A topic may stand here although its pass has
    /// ended in the meantime.
    passes: VecDeque<TopicToken>,
    /// Topics that hold events back, by the time at which they are due. Invariant: a topic stands
    /// here at most once; its fan-out says whether it does.
    lingers: BinaryHeap<Reverse<(u64, TopicToken)>>,
    /// When this turn's slice of flushing ends; 0 while it has not begun.
    slice_ends_ns: u64,
    /// Some topic has the flush policy `adaptive`.
    pub adaptive_in_use: bool,
    /// Some topic's subscribers are being flushed more slowly than its log fills up. Publishers
    /// have to wait: the log would evict events that were not yet offered to everybody.
    pub lagging: bool,
}

impl Flushes {
    pub fn begin_turn(&mut self) {
        self.slice_ends_ns = 0;
    }

    pub fn has_passes(&self) -> bool {
        !self.passes.is_empty()
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn passes_len(&self) -> usize {
        self.passes.len()
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn lingers_len(&self) -> usize {
        self.lingers.len()
    }

    pub fn next_ns(&self) -> Option<u64> {
        self.lingers.peek().map(|Reverse((due_ns, _))| *due_ns)
    }
}

impl<P: Platform> Server<P> {
    /// Something was published to a topic: flushes it, or makes that due.
    pub(super) fn published(&mut self, key: TopicKey) {
        if self.fills_up(key) {
            // Whatever the policy would rather wait for.
            self.begin_pass(key);
            self.flushes.lagging |= self.hub.topics()[key].fanout.in_pass();
            return;
        }
        match self.due(key) {
            Due::AtOnce => {
                self.begin_pass(key);
                self.run_passes();
            }
            Due::ThisTurn => self.begin_pass(key),
            Due::At(due_ns) => self.linger(key, due_ns),
            Due::WhenMore => {}
        }
    }

    /// Whether what was not yet offered to everybody takes half of what a topic may retain.
    fn fills_up(&self, key: TopicKey) -> bool {
        let bounds = self.config.log_bounds();
        let unserved = self.hub.topics()[key].fanout.unserved();
        unserved.bytes > bounds.bytes_max as u64 / 2
            || unserved.events > bounds.frames_max as u64 / 2
    }

    /// Whether the subscribers of some topic are flushed more slowly than its log fills up.
    pub(super) fn lags(&self) -> bool {
        // Each topic in pass stands here.
        let passes = self.flushes.passes.iter();
        let mut topics = passes.filter_map(|&token| self.hub.topics().find(token));
        topics.any(|key| {
            let topic = &self.hub.topics()[key];
            // For the server's own topic nobody is made to wait.
            !topic.internal && topic.fanout.in_pass() && self.fills_up(key)
        })
    }

    fn due(&mut self, key: TopicKey) -> Due {
        let topic = &self.hub.topics()[key];
        let policy = self.deliveries.of(&topic.name).flush_policy;
        self.flushes.adaptive_in_use |= policy == FlushPolicy::Adaptive;
        let pending = topic.fanout.pending();
        let adaptive = self.adaptation.controller.buffer(&self.config.adapt);
        policy.due(pending.amount.bytes, pending.since_ns, adaptive)
    }

    fn linger(&mut self, key: TopicKey, due_ns: u64) {
        let token = self.hub.topics().token(key);
        let fanout = &mut self.hub.topic_mut(key).fanout;
        if !std::mem::replace(&mut fanout.lingering, true) {
            self.flushes.lingers.push(Reverse((due_ns, token)));
        }
    }

    pub(super) fn begin_pass(&mut self, key: TopicKey) {
        let topic = self.hub.topic_mut(key);
        let (fanout, internal) = (&mut topic.fanout, topic.internal);
        // How full the feed of the live page is says nothing about what is published.
        if self.flushes.adaptive_in_use && !internal {
            let buffer = self.adaptation.controller.buffer(&self.config.adapt);
            let utilisation = fanout.pending().amount.bytes as f64 / buffer.bytes as f64;
            let signals = &mut self.adaptation.signals;
            signals.utilisation = signals.utilisation.max(utilisation);
        }
        let standing = fanout.in_pass();
        fanout.begin_pass(self.now_ns);
        if !standing && fanout.in_pass() {
            self.flushes.passes.push_back(self.hub.topics().token(key));
        }
    }

    /// Flushes what is due, for as long as this turn's slice lasts.
    pub(super) fn flush_due(&mut self) {
        while let Some(&Reverse((due_ns, topic))) = self.flushes.lingers.peek() {
            if due_ns > self.now_ns {
                break;
            }
            self.flushes.lingers.pop();
            self.end_linger(topic);
        }
        if self.flushes.has_passes() {
            self.run_passes();
            self.counters.turns.slices_cut += u64::from(self.flushes.has_passes());
        }
    }

    /// A topic's time has come, unless it was flushed before it, or forgotten.
    fn end_linger(&mut self, topic: TopicToken) {
        let Some(key) = self.hub.topics().find(topic) else { return };
        let fanout = &mut self.hub.topic_mut(key).fanout;
        fanout.lingering = false;
        if fanout.pending().amount.events == 0 {
            return;
        }
        match self.due(key) {
            Due::At(due_ns) if due_ns > self.now_ns => self.linger(key, due_ns),
            Due::WhenMore => {}
            _ => self.begin_pass(key),
        }
    }

    /// After the policies have changed: asks the new ones about everything that is held back.
    pub(super) fn begin_asking_policies(&mut self) {
        self.flushes.adaptive_in_use = self.deliveries.is_adaptive_in_use();
        self.rounds.begin_topics();
        // Logs may be shorter than they were.
        self.flushes.lagging |= self.lags();
    }

    /// Asks the policy of the topic in slot `slot`, if it holds something back.
    pub(super) fn ask_policy(&mut self, slot: usize) {
        let Some(key) = self.hub.topics().at(slot) else { return };
        if self.hub.topics()[key].fanout.pending().amount.events > 0 {
            self.published(key);
        }
    }

    /// Runs passes until they are done or the slice is over. Topics take turns, so that a wide
    /// one does not keep a narrow one waiting for all its subscribers.
    fn run_passes(&mut self) {
        if self.flushes.slice_ends_ns == 0 {
            self.now_ns = self.platform.now_ns();
            self.flushes.slice_ends_ns = self.now_ns + self.config.turn.flush_slice_us * 1000;
        }
        while self.now_ns < self.flushes.slice_ends_ns {
            let Some(token) = self.flushes.passes.pop_front() else { break };
            let Some(key) = self.hub.topics().find(token) else { continue };
            self.visit_some(key);
            let topic = &self.hub.topics()[key];
            if topic.fanout.in_pass() {
                self.flushes.passes.push_back(token);
            } else if topic.fanout.len() > 1 && !topic.internal {
                let spread_ns = self.now_ns.saturating_sub(topic.fanout.pass_began_ns());
                self.counters.fanout_spread_ns.record(spread_ns);
            }
            // Visits to those that are blocked or up to date do not read the clock.
            self.now_ns = self.now_ns.max(self.platform.now_ns());
        }
        if self.flushes.lagging {
            self.flushes.lagging = self.lags();
        }
    }

    /// Visits the next subscribers of a topic in pass: a number of them, or until the slice is over.
    ///
    /// A visit only asks for connections to be closed, which is done at the end of the turn, and a
    /// topic in pass has events, so it is not forgotten meanwhile: `key` stays good.
    fn visit_some(&mut self, key: TopicKey) {
        for _ in 0..VISITS_IN_A_ROW {
            let fanout = &mut self.hub.topic_mut(key).fanout;
            let Some(subscriber) = fanout.next_visit() else { break };
            // None of them is in the processor's cache; the next one can be, by its turn.
            let next = fanout.upcoming().and_then(|next| self.connections.get(next.into()));
            if let Some(next) = next {
                crate::sys::prefetch(next);
            }
            self.flush_connection(subscriber.into());
            if self.now_ns >= self.flushes.slice_ends_ns {
                break;
            }
        }
    }

    /// Sends a connection whatever it has to get, if its socket has room.
    ///
    /// This runs once per event and subscriber, between system calls that have emptied the first
    /// level of the processor's caches, so what it costs is what it touches, code included:
    /// whatever is rare is kept out of it.
    pub(super) fn flush_connection(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get(key) else { return };
        if connection.blocked || connection.closing {
            return;
        }
        let home = connection.cursors.as_slice().first().map(|cursor| cursor.topic);
        // The live page's own stream counts as an answer of the admin listener.
        let streams = home.is_some_and(|home| !self.hub.topics()[home].internal);
        let stamps = streams && self.stamp_is_due() && self.prepare_stamp(key);
        let connection = &self.connections[key];
        let overrun = |cursor: &Cursor| cursor.next < self.hub.topics()[cursor.topic].log.first();
        let overrun = connection.cursors.as_slice().iter().any(overrun);
        // A notice is written when those before it have left. A reader of a few bytes at a time
        // would be overrun again each time, and its notices would pile up.
        let private_first = overrun && !connection.private.is_empty();
        if overrun && !private_first {
            self.overrun(key);
        }
        let connection = &mut self.connections[key];
        let delivery = match connection.cursors.as_slice().first() {
            Some(home) => self.deliveries.of(&self.hub.topics()[home.topic].name),
            None => self.deliveries.base(),
        };
        let cursors = if private_first { &mut [] } else { connection.cursors.as_mut_slice() };
        let mut queue = WriteQueue {
            private: &mut connection.private,
            cursors,
            delivered: &mut connection.delivered,
            topics: self.hub.topics(),
            framing: connection.framing,
        };
        let budget_bytes = self.config.turn.flush_budget_bytes;
        let counters = match streams {
            true => &mut self.counters.write,
            false if connection.door == Door::Admin => &mut self.counters.admin_answers,
            false => &mut self.counters.answers,
        };
        let (path, rule) = (delivery.write_path, &delivery.auto_rule);
        let (socket, workspace) = (&mut connection.socket, &mut self.workspace);
        let done = if stamps {
            let clocks =
                Clocks { now_ns: self.platform.now_ns(), unix_ns: self.platform.unix_ns() };
            let (done, stamped_bytes) =
                drain_stamped(socket, path, rule, &mut queue, workspace, budget_bytes, counters);
            self.note_stamped(key, stamped_bytes, done.oldest_published_ns, clocks);
            done
        } else {
            drain(socket, path, rule, &mut queue, workspace, budget_bytes, counters)
        };
        if done.calls > 0 {
            self.note_flush(key, path, streams, &done);
        }
        if private_first && done.outcome == Outcome::Drained {
            return self.flush_connection(key);
        }
        let streams_on = matches!(self.connections[key].phase, Phase::Stream);
        if done.outcome != Outcome::Drained || !streams_on {
            self.settle(key, done.outcome);
        }
    }

    fn note_flush(&mut self, key: ConnectionKey, path: WritePath, counts: bool, done: &Drain) {
        self.now_ns = self.platform.now_ns();
        let connection = &mut self.connections[key];
        connection.moved_ns = self.now_ns;
        connection.sent_bytes += done.bytes;
        connection.sent_events += done.frames;
        if done.frames == 0 || !counts {
            return;
        }
        let age_ns = self.now_ns.saturating_sub(done.oldest_published_ns);
        self.counters.publish_to_kernel_ns.record(age_ns);
        self.counters.frames_per_call.record(done.frames.div_ceil(done.calls));
        if done.writev_calls > 0 {
            self.counters.iovecs_per_call.record(done.iovecs.div_ceil(done.writev_calls));
        }
        if self.flushes.adaptive_in_use {
            self.adaptation.latency_ns.record(age_ns);
        }
        if log::log_enabled!(log::Level::Trace) {
            self.trace_flush(key, path, done, age_ns);
        }
    }

    #[cold]
    fn trace_flush(&self, key: ConnectionKey, path: WritePath, done: &Drain, age_ns: u64) {
        log::trace!(
            "flush conn={key} path={path} events={} bytes={} calls={} last={} age_us={} outcome={:?}",
            done.frames,
            done.bytes,
            done.calls,
            self.hub.epoch().id(self.connections[key].delivered),
            age_ns / 1000,
            done.outcome,
        );
    }

    /// What the end of a drain means for the connection, unless it is that a stream goes on.
    #[inline(never)]
    fn settle(&mut self, key: ConnectionKey, outcome: Outcome) {
        let connection = &mut self.connections[key];
        match (outcome, &connection.phase) {
            (Outcome::Blocked, _) => connection.blocked = true,
            (Outcome::BudgetSpent, _) => self.list(key),
            (Outcome::Closed(reason), _) => self.close(key, reason),
            (Outcome::Drained, &Phase::Ending(reason)) => {
                self.cut_off(key, reason);
                self.flush_connection(key);
            }
            (Outcome::Drained, &Phase::Finishing(reason)) => self.linger_on(key, reason),
            (Outcome::Drained, &Phase::Parting(reason)) => self.close(key, reason),
            (Outcome::Drained, Phase::Head) if connection.unread => self.list(key),
            (Outcome::Drained, _) => {}
        }
    }

    /// Closes our side, and leaves the peer some time to read what it was sent.
    fn linger_on(&mut self, key: ConnectionKey, reason: CloseReason) {
        let connection = &mut self.connections[key];
        if connection.peer_closed || connection.socket.shutdown_write().is_err() {
            return self.close(key, reason);
        }
        connection.enter(Phase::Lingering(reason), self.now_ns);
        connection.input = Box::default();
    }

    /// The send buffer of a connection that was blocked has room again.
    pub(super) fn flush_unblocked(&mut self, key: ConnectionKey) {
        let connection = &self.connections[key];
        let (moved_ns, sent_bytes) = (connection.moved_ns, connection.sent_bytes);
        self.flush_connection(key);
        let connection = &mut self.connections[key];
        if connection.blocked && connection.sent_bytes == sent_bytes {
            // It was no progress after all: a stall goes on from where it began.
            connection.moved_ns = moved_ns;
        }
    }

    /// Ends a stream in order: it gets what is in its logs, then a `retry:` and the last chunk.
    pub(super) fn end_stream(&mut self, key: ConnectionKey, reason: CloseReason) {
        self.connections[key].enter(Phase::Ending(reason), self.now_ns);
        self.flush_connection(key);
    }

    /// Some cursor has fallen behind its log's tail: those events are lost to it.
    #[cold]
    fn overrun(&mut self, key: ConnectionKey) {
        for nth in 0..self.connections[key].cursors.as_slice().len() {
            let connection = &mut self.connections[key];
            // A stream that was cut off has no cursors left.
            let Some(cursor) = connection.cursors.as_mut_slice().get_mut(nth) else { return };
            let topic = &self.hub.topics()[cursor.topic];
            let (key_of_topic, log) = (cursor.topic, &topic.log);
            if cursor.next >= log.first() {
                continue;
            }
            let policy = self.deliveries.of(&topic.name).overrun;
            if policy == Overrun::Close {
                // Its last id is from before the loss, and with that it shall come back.
                let lost = log.first() - cursor.next;
                self.counters.events_lost += lost * connection.counted();
                return self.cut_off(key, CloseReason::Overrun);
            }
            let missed = std::mem::replace(&mut cursor.next, policy.go_on_at(log));
            let gap = Gap {
                from: Some(connection.delivered),
                to: (cursor.next < log.end()).then(|| log.entry(cursor.next).seq),
                lost: Some(cursor.next - missed),
                reason: GapReason::Overrun,
            };
            let next = cursor.next;
            self.write_gap(key, key_of_topic, next, gap);
        }
    }

    /// Whether a stream is to be closed because it was overrun, and cannot be told so: it takes no
    /// bytes. Its reader sees that it was cut, and comes back with an id from before the loss.
    pub(super) fn is_overrun_for_good(&self, key: ConnectionKey) -> bool {
        let connection = &self.connections[key];
        connection.blocked
            && connection.cursors.as_slice().iter().any(|cursor| {
                let topic = &self.hub.topics()[cursor.topic];
                cursor.next < topic.log.first()
                    && self.deliveries.of(&topic.name).overrun == Overrun::Close
            })
    }

    /// Ends a stream behind what it has got so far: from here on no event may reach it.
    fn cut_off(&mut self, key: ConnectionKey, reason: CloseReason) {
        self.unsubscribe(key);
        let retry_ms = self.jitter.stretch(self.config.times.retry_ms);
        self.text.clear();
        let written = write!(self.text, "retry: {retry_ms}\n\n");
        debug_assert!(written.is_ok(), "a String takes everything");
        self.write_private(key);
        self.write_last_chunk(key);
        let connection = &mut self.connections[key];
        let silent = connection.unwanted_bytes == 0;
        let phase = if silent { Phase::Parting(reason) } else { Phase::Finishing(reason) };
        connection.enter(phase, self.now_ns);
    }
}

/// How many subscribers of one topic are visited before the next topic has its turn.
const VISITS_IN_A_ROW: usize = 128;
