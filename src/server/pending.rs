//! Request heads that are awaited, and what happens when there are too many.
//!
//! Whoever begins a head and does not end it holds a place, and up to a head's length of memory,
//! until its deadline. With enough of those, nobody else finds a place (slowloris). So there is a
//! limit, and above it the head that has been awaited longest gives way: a client that means to
//! send one needs a round trip for it, and is served before so many have come after it.

use super::connection::{ConnectionKey, Door, Phase, Token};
use super::{Platform, Server};
use crate::observe::counters::CloseReason;
use crate::wire::head::Refusal;
use std::collections::VecDeque;

/// The heads that are awaited: the first of each connection from its accept on, and each further
/// one from its first byte on.
#[derive(Debug, Default)]
pub(super) struct PendingHeads {
    count: usize,
    /// In the order in which they began, with some that are awaited no more: an entry counts if
    /// its connection still has its number.
    order: VecDeque<(Token, u32)>,
    last_number: u32,
}

impl PendingHeads {
    #[cfg(any(test, feature = "testing"))]
    pub fn count(&self) -> usize {
        self.count
    }

    fn next_number(&mut self) -> u32 {
        self.last_number = self.last_number.checked_add(1).unwrap_or(1);
        self.last_number
    }
}

impl<P: Platform> Server<P> {
    /// A head is awaited from a connection, unless it has been awaited already.
    pub(super) fn await_head(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key];
        // Those above a limit and those of the admin listener have few places, and their own.
        if connection.pending_head != 0 || connection.over_limit || connection.door == Door::Admin {
            return;
        }
        let number = self.pending_heads.next_number();
        connection.pending_head = number;
        let token = Token { key, generation: connection.generation };
        self.pending_heads.order.push_back((token, number));
        self.pending_heads.count += 1;
        if self.pending_heads.count > self.config.limits.pending_heads_max {
            self.give_up_oldest_head();
        }
        self.tidy_pending_heads();
    }

    /// A head is awaited if part of it has come.
    pub(super) fn note_pending_head(&mut self, key: ConnectionKey) {
        let connection = &self.connections[key];
        if matches!(connection.phase, Phase::Head)
            && !connection.held
            && connection.has_begun_request()
        {
            self.await_head(key);
        }
    }

    /// The head has come, or nobody waits for it any more.
    pub(super) fn forget_pending_head(&mut self, key: ConnectionKey) {
        if std::mem::take(&mut self.connections[key].pending_head) != 0 {
            self.pending_heads.count -= 1;
        }
    }

    /// Gives up the head that has been awaited longest.
    fn give_up_oldest_head(&mut self) {
        while let Some((token, number)) = self.pending_heads.order.pop_front() {
            let Some(connection) = self.connections.find(token) else { continue };
            if connection.pending_head != number {
                continue;
            }
            let reads = matches!(connection.phase, Phase::Head) && !connection.closing;
            let begun = connection.has_begun_request();
            self.forget_pending_head(token.key);
            match (reads, begun) {
                (true, true) => self.refuse_head(token.key, CROWDED_OUT, CloseReason::OverLimit),
                (true, false) => self.close(token.key, CloseReason::OverLimit),
                (false, _) => {}
            }
            return;
        }
        debug_assert_eq!(self.pending_heads.count, 0, "an awaited head stands in the order");
    }

    /// Answers a head that is not complete, and ends the connection.
    pub(super) fn refuse_head(
        &mut self,
        key: ConnectionKey,
        refusal: Refusal,
        reason: CloseReason,
    ) {
        let input = std::mem::take(&mut self.connections[key].input);
        self.refuse_request(key, &input, refusal, reason);
        self.flush_connection(key);
    }

    /// Drops entries that count no more, once they are the greater part: constant time on average.
    fn tidy_pending_heads(&mut self) {
        if self.pending_heads.order.len() <= 2 * self.pending_heads.count + SPARE_ENTRIES {
            return;
        }
        let connections = &mut self.connections;
        self.pending_heads.order.retain(|&(token, number)| {
            connections.find(token).is_some_and(|connection| connection.pending_head == number)
        });
    }
}

const CROWDED_OUT: Refusal =
    Refusal { status: 408, why: "too many request heads are awaited, and this one for longest" };
const SPARE_ENTRIES: usize = 64;
