//! What tests look at: invariants between turns, and how much of what is bounded is in use.

use super::connection::Token;
use super::{Platform, Server};
use crate::push::topic::Topic;

/// How much there is of what has a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Open connections.
    pub connections: usize,
    /// Streams among them.
    pub streams: usize,
    /// Slots of the table of connections.
    pub slots: usize,
    /// The most bytes that are allocated for private bytes of any stream.
    pub stream_private_bytes: usize,
    /// The most bytes that are allocated for answers of any other connection.
    pub answer_private_bytes: usize,
    /// The most input that is kept for any connection.
    pub input_bytes: usize,
    /// Entries in the list of connections that are to be continued.
    pub listed: usize,
    /// Entries in the list of topics that are being flushed.
    pub passes: usize,
    /// Entries in the list of topics that hold events back.
    pub lingers: usize,
}

impl<P: Platform> Server<P> {
    /// Keeps a journal of what is published from now on.
    pub fn keep_journal(&mut self) {
        self.hub.keep_journal();
    }

    /// How much is in use.
    pub fn load(&self) -> Load {
        let all = || self.connections.iter().map(|(_, connection)| connection);
        let streams = || all().filter(|connection| connection.is_stream());
        let others = || all().filter(|connection| !connection.is_stream());
        Load {
            connections: self.connections.len(),
            streams: streams().count(),
            slots: self.connections.slots() as usize,
            stream_private_bytes: streams()
                .map(|stream| stream.private.allocated_bytes())
                .max()
                .unwrap_or(0),
            answer_private_bytes: others()
                .map(|other| other.private.allocated_bytes())
                .max()
                .unwrap_or(0),
            input_bytes: all().map(|connection| connection.input.len()).max().unwrap_or(0),
            listed: self.listed.len(),
            passes: self.flushes.passes_len(),
            lingers: self.flushes.lingers_len(),
        }
    }

    /// Checks what must hold between turns; panics if something does not.
    pub fn check_invariants(&self) {
        assert!(self.closing.is_empty());
        let mut subscriptions = 0;
        for (key, connection) in self.connections.iter() {
            assert!(!connection.closing, "conn={key} was not reaped");
            for cursor in connection.cursors.as_slice() {
                let topic = &self.hub.topics()[cursor.topic];
                assert_eq!(topic.fanout.in_slot(cursor.slot), Some(key.into()));
                assert!(cursor.next <= topic.log.end());
                subscriptions += 1;
            }
            assert_eq!(connection.is_stream(), !connection.cursors.as_slice().is_empty());
            if connection.listed {
                let token = Token { key, generation: connection.generation };
                assert!(self.listed.contains(&token), "conn={key} is on no list");
            }
        }
        let listed: usize = self.hub.topics().iter().map(|(_, topic)| topic.fanout.len()).sum();
        assert_eq!(subscriptions, listed);
        let allocated = |(_, topic): (_, &Topic)| topic.allocated_bytes();
        let logs: usize = self.hub.topics().public().map(allocated).sum();
        assert_eq!(logs, self.hub.memory().used_bytes);
        assert_eq!(self.admission.total(), self.connections.len());
        let pending = self.connections.iter().filter(|(_, open)| open.pending_head != 0).count();
        assert_eq!(pending, self.pending_heads.count());
    }
}
