//! What tests look at: invariants between turns, and how much of what is bounded is in use.

use super::connection::{Connection, Door, Phase, Token};
use super::{Platform, Server};
use crate::push::topic::Topic;

/// How much there is of what has a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Open connections.
    pub connections: usize,
    /// Those of the public listener among them.
    pub public: usize,
    /// Streams among them.
    pub streams: usize,
    /// Slots of the table of connections.
    pub slots: usize,
    /// What subscribers' streams hold,
    pub subscribers: Held,
    /// those of `/live`,
    pub viewers: Held,
    /// connections of the public listener that are no streams,
    pub callers: Held,
    /// and those of the admin listener.
    pub onlookers: Held,
    /// Entries in the list of connections that are to be continued.
    pub listed: usize,
    /// Entries in the list of topics that are being flushed.
    pub passes: usize,
    /// Entries in the list of topics that hold events back.
    pub lingers: usize,
}

/// What any one of several connections holds, in bytes as they are allocated: of each kind the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// The buffer of private bytes.
    pub private: usize,
    /// Input that is kept.
    pub input: usize,
    /// The body that is being read, with its decoder.
    pub body: usize,
    /// What is remembered of what is under way.
    pub watch: usize,
}

impl Held {
    fn of<S>(connection: &Connection<S>) -> Held {
        Held {
            private: connection.private.allocated_bytes(),
            input: connection.input.len(), // a boxed slice has no room to spare
            body: match &connection.phase {
                Phase::Body(body) => body.allocated_bytes(),
                _ => 0,
            },
            watch: connection.watch.as_ref().map_or(0, |watch| watch.allocated_bytes()),
        }
    }

    fn add(&mut self, other: Held) {
        self.private = self.private.max(other.private);
        self.input = self.input.max(other.input);
        self.body = self.body.max(other.body);
        self.watch = self.watch.max(other.watch);
    }
}

impl<P: Platform> Server<P> {
    /// Keeps a journal of what is published from now on.
    pub fn keep_journal(&mut self) {
        self.hub.keep_journal();
    }

    /// How much is in use.
    pub fn load(&self) -> Load {
        let mut streams = 0;
        let (mut subscribers, mut viewers) = (Held::default(), Held::default());
        let (mut callers, mut onlookers) = (Held::default(), Held::default());
        for (_, connection) in self.connections.iter() {
            streams += usize::from(connection.is_stream());
            let of_kind = match (connection.is_stream(), connection.door) {
                (true, Door::Public) => &mut subscribers,
                (true, Door::Admin) => &mut viewers,
                (false, Door::Public) => &mut callers,
                (false, Door::Admin) => &mut onlookers,
            };
            of_kind.add(Held::of(connection));
        }
        Load {
            connections: self.connections.len(),
            public: self.admission.public(),
            streams,
            slots: self.connections.slots() as usize,
            subscribers,
            viewers,
            callers,
            onlookers,
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
        let retained: usize = self.hub.topics().public().map(|(_, topic)| topic.log.len()).sum();
        assert_eq!(retained as u64, self.hub.retained_events());
        assert_eq!(self.admission.total(), self.connections.len());
        assert!(self.flushes.lagging || !self.lags(), "publishers are not made to wait");
        let pending = self.connections.iter().filter(|(_, open)| open.pending_head != 0).count();
        assert_eq!(pending, self.pending_heads.count());
    }
}
