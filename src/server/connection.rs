//! One connection: what is kept of it, and what it is doing.

use crate::observe::counters::CloseReason;
use crate::push::cursor::Cursor;
use crate::push::fanout::SubscriberKey;
use crate::push::id::Seq;
use crate::send::private::Private;
use crate::send::queue::Framing;
use crate::server::body::Body;
use crate::server::watch::Watch;
use slab::Slab;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::ParseIntError;
use std::str::FromStr;

/// A connection's slot in the table.
///
/// Slots are used again, so a key is only good until the end of the turn, when connections are
/// closed, or for as long as its connection is listed in a topic's fan-out, which closing ends.
/// Whatever keeps a connection's name for longer keeps a [`Token`].
///
/// Invariant: only [`Connections`] makes keys, so each key was a connection's once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(u32);

impl fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A fan-out lists connections as its subscribers.
impl From<ConnectionKey> for SubscriberKey {
    fn from(key: ConnectionKey) -> SubscriberKey {
        SubscriberKey(key.0)
    }
}

/// Only connections are subscribers.
impl From<SubscriberKey> for ConnectionKey {
    fn from(key: SubscriberKey) -> ConnectionKey {
        ConnectionKey(key.0)
    }
}

/// A name for a connection that is never given to another one.
///
/// Connections live in a slab, whose slots are used again. Readiness that the kernel reported for
/// a connection which was closed later in the same turn must not reach its successor, so a token
/// carries the generation of the slot's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The slot.
    pub(super) key: ConnectionKey,
    /// Its owner.
    pub(super) generation: u32,
}

impl Token {
    /// The token as one number, for the kernel to hand back.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.key.0)
    }

    /// The token that has this number. It names a connection only if [`Token::number`] gave it.
    pub fn of_number(number: u64) -> Token {
        Token { key: ConnectionKey(number as u32), generation: (number >> 32) as u32 }
    }
}

/// A token as people see it: the slot, and its owner.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.key, self.generation)
    }
}

impl FromStr for Token {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Token, ParseIntError> {
        let (key, generation) = text.split_once('-').unwrap_or((text, ""));
        Ok(Token { key: ConnectionKey(key.parse()?), generation: generation.parse()? })
    }
}

/// Which listener a connection came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Subscribers and publishers.
    Public,
    /// Knobs and metrics.
    Admin,
}

/// One connection.
///
/// An idle subscriber is nothing but this, its socket in the kernel, and four bytes in its topic's
/// list: requests, bodies and private bytes hold memory only while they are under way.
///
/// The fields stand in this order because a fan-out visits thousands of these one after the other
/// and finds none of them in the processor's cache: what a visit reads and writes comes first and
/// takes two cache lines, the rest is not touched.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Connection<S> {
    pub socket: S,
    /// The send buffer is full. No call is made until the kernel says that it has room again.
    pub blocked: bool,
    /// It stands in the list of connections that are to be closed. Invariant: then it is neither
    /// read from nor written to any more.
    pub closing: bool,
    pub framing: Framing,
    /// It stands in the list of connections that are to be continued.
    pub listed: bool,
    pub cursors: Cursors,
    pub private: Private,
    pub phase: Phase,
    /// Everything up to here has been taken off the logs for it.
    pub delivered: Seq,
    /// When the kernel last took bytes, or when it became blocked.
    pub moved_ns: u64,
    pub sent_bytes: u64,
    pub sent_events: u64,

    pub generation: u32,
    /// Bytes that were read although there was nothing to say any more: from a subscriber, or
    /// behind the last request.
    pub unwanted_bytes: u32,
    /// Its number among the heads that are awaited; 0 if none is.
    pub pending_head: u32,
    pub peer: Peer,
    pub door: Door,
    /// It was accepted above a limit, to be told so.
    pub over_limit: bool,
    /// Reading stopped before the socket was empty: no edge will come for what is left in it.
    pub unread: bool,
    /// Its input holds requests that are not to be answered before earlier answers have left.
    pub held: bool,
    /// It has published something. Others are never made to wait for readers.
    pub publishes: bool,
    /// A request of its has been answered already.
    pub answered: bool,
    /// The peer has closed its side.
    pub peer_closed: bool,
    /// How often the end of its stream was found held back by Nagle's algorithm; 255 is "or more".
    pub nagle_stalls: u8,
    /// Bytes read that make no whole request head yet, or that are not wanted yet.
    pub input: Box<[u8]>,
    /// What is remembered while something of a stream is under way.
    pub watch: Option<Box<Watch>>,
    pub opened_ns: u64,
    /// When the current phase began, or when a feed was last heard of.
    pub since_ns: u64,
}

/// A peer's address, in less room than a [`SocketAddr`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub ip: IpAddr,
    pub port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.ip, self.port).fmt(f)
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub(super) enum Phase {
    /// It waits for a request, or has read part of a head.
    Head,
    /// It reads a request's body.
    Body(Box<Body>),
    /// It is a subscriber's stream.
    Stream,
    /// It is a stream that gets what is in the logs, and then an end.
    Ending(CloseReason),
    /// Its private bytes go out, and then our side is closed.
    Finishing(CloseReason),
    /// The end of its stream goes out, and then it is closed. A subscriber has nothing to say that
    /// could be in the way, and a browser does not close such a connection for a long time.
    Parting(CloseReason),
    /// Our side is closed. What still comes is thrown away until the peer closes its side, or for a
    /// while: closing a socket with unread input sends a reset, and that can destroy an answer on
    /// its way (RFC 9112 §9.6).
    Lingering(CloseReason),
}

/// A connection's places in logs.
#[derive(Debug, Default)]
pub(super) enum Cursors {
    #[default]
    None,
    One(Cursor),
    Many(Box<[Cursor]>),
}

impl Cursors {
    pub fn new(cursors: Vec<Cursor>) -> Cursors {
        match cursors[..] {
            [] => Cursors::None,
            [one] => Cursors::One(one),
            _ => Cursors::Many(cursors.into()),
        }
    }

    pub fn as_slice(&self) -> &[Cursor] {
        match self {
            Cursors::None => &[],
            Cursors::One(one) => std::slice::from_ref(one),
            Cursors::Many(many) => many,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [Cursor] {
        match self {
            Cursors::None => &mut [],
            Cursors::One(one) => std::slice::from_mut(one),
            Cursors::Many(many) => many,
        }
    }
}

impl<S> Connection<S> {
    pub fn new(socket: S, peer: SocketAddr, door: Door, now_ns: u64) -> Connection<S> {
        Connection {
            socket,
            blocked: false,
            closing: false,
            framing: Framing::Chunked,
            listed: false,
            cursors: Cursors::None,
            private: Private::default(),
            phase: Phase::Head,
            delivered: Seq(0),
            moved_ns: now_ns,
            sent_bytes: 0,
            sent_events: 0,
            generation: 0,
            unwanted_bytes: 0,
            pending_head: 0,
            peer: Peer { ip: peer.ip(), port: peer.port() },
            door,
            over_limit: false,
            unread: false,
            held: false,
            publishes: false,
            answered: false,
            peer_closed: false,
            nagle_stalls: 0,
            input: Box::default(),
            watch: None,
            opened_ns: now_ns,
            since_ns: now_ns,
        }
    }

    /// Whether part of a request has come. An empty line is none yet: some clients send one behind
    /// a body (RFC 9112 §2.2).
    pub fn has_begun_request(&self) -> bool {
        self.input.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Whether it is a subscriber's.
    pub fn is_stream(&self) -> bool {
        matches!(self.phase, Phase::Stream | Phase::Ending(_))
    }

    /// 1 if what it does is counted, and 0 for the admin listener's: looking is to change no metric.
    pub fn counted(&self) -> u64 {
        u64::from(self.door == Door::Public)
    }

    pub fn enter(&mut self, phase: Phase, now_ns: u64) {
        self.phase = phase;
        self.since_ns = now_ns;
    }
}

/// All connections.
#[derive(Debug)]
pub(super) struct Connections<S> {
    slab: Slab<Connection<S>>,
    generation: u32,
    /// One more than the highest slot ever used.
    slots: u32,
}

impl<S> Connections<S> {
    /// An empty table for up to `capacity` connections. Its memory is reserved but not touched,
    /// so that it costs nothing until used and never has to move.
    pub fn with_capacity(capacity: usize) -> Connections<S> {
        Connections { slab: Slab::with_capacity(capacity), generation: 0, slots: 0 }
    }

    pub fn insert(&mut self, mut connection: Connection<S>) -> Token {
        self.generation = self.generation.wrapping_add(1);
        connection.generation = self.generation;
        let slot = self.slab.insert(connection) as u32;
        self.slots = self.slots.max(slot + 1);
        Token { key: ConnectionKey(slot), generation: self.generation }
    }

    pub fn remove(&mut self, key: ConnectionKey) -> Connection<S> {
        self.slab.remove(key.index())
    }

    /// The connection that `token` names, if it is still there.
    pub fn find(&mut self, token: Token) -> Option<&mut Connection<S>> {
        self.slab.get_mut(token.key.index()).filter(|found| found.generation == token.generation)
    }

    /// The connection in the slot `key`, if there is one: not necessarily the one that was there
    /// when the key was taken.
    pub fn get(&self, key: ConnectionKey) -> Option<&Connection<S>> {
        self.slab.get(key.index())
    }

    /// The connection in slot `slot`, if there is one: for a hand that goes round.
    pub fn at(&self, slot: u32) -> Option<(ConnectionKey, &Connection<S>)> {
        self.slab.get(slot as usize).map(|connection| (ConnectionKey(slot), connection))
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn slots(&self) -> u32 {
        self.slots
    }

    pub fn iter(&self) -> impl Iterator<Item = (ConnectionKey, &Connection<S>)> {
        self.slab.iter().map(|(slot, connection)| (ConnectionKey(slot as u32), connection))
    }
}

impl ConnectionKey {
    /// The slot's number.
    pub fn slot(self) -> u32 {
        self.0
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

impl<S> std::ops::Index<ConnectionKey> for Connections<S> {
    type Output = Connection<S>;

    /// # Panics
    /// If `key` is not a connection's: see [`ConnectionKey`].
    #[allow(clippy::indexing_slicing, reason = "a key is its connection's: see ConnectionKey")]
    fn index(&self, key: ConnectionKey) -> &Connection<S> {
        &self.slab[key.index()]
    }
}

impl<S> std::ops::IndexMut<ConnectionKey> for Connections<S> {
    #[allow(clippy::indexing_slicing, reason = "a key is its connection's: see ConnectionKey")]
    fn index_mut(&mut self, key: ConnectionKey) -> &mut Connection<S> {
        &mut self.slab[key.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_subscriber_is_three_cache_lines_and_a_visit_touches_two() {
        // In a release build mio's stream is its descriptor and nothing else.
        type Real = Connection<std::net::TcpStream>;
        assert!(size_of::<Real>() <= 192, "{} bytes", size_of::<Real>());
        assert!(std::mem::offset_of!(Real, generation) <= 128);
        assert_eq!(size_of::<Option<Real>>(), size_of::<Real>(), "a slab's entry is no larger");
    }

    #[test]
    fn a_token_does_not_name_the_slots_next_owner() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut connections = Connections::with_capacity(4);
        let first = connections.insert(Connection::new('a', peer, Door::Public, 0));
        assert_eq!(connections.find(first).map(|found| found.socket), Some('a'));
        connections.remove(first.key);
        let second = connections.insert(Connection::new('b', peer, Door::Public, 0));
        assert_eq!(first.key, second.key);
        assert!(connections.find(first).is_none());
        assert_eq!(connections.find(second).map(|found| found.socket), Some('b'));
    }
}
