//! A turn of the loop, without the kernel that it turns on.
//!
//! What was reported goes to whom it concerns, what waits is accepted, the server does what is due,
//! and then it is known how long to wait. Where readiness comes from is the caller's business: the
//! [reactor](super) has `epoll`, the simulated world its own idea of it, and both run this.

use super::acceptor::{Acceptor, Queue};
use crate::server::{Door, OwnedEvent, Platform, Server, Token};
use std::time::Duration;
use std::{fmt, io};

/// A server and the queues that it accepts from.
pub(crate) struct Turns<P: Platform, Q> {
    pub(crate) server: Server<P>,
    /// By the numbers under which they were registered; one that is closed leaves its place empty.
    acceptors: Vec<Option<Acceptor<Q>>>,
}

/// What was reported of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// The number under which it was registered.
    pub(crate) token: usize,
    /// There is something to read.
    pub(crate) readable: bool,
    /// There is room to write.
    pub(crate) writable: bool,
    /// The peer has closed its side.
    pub(crate) hangup: bool,
    /// The connection has failed, or something has come back on its error queue.
    pub(crate) error: bool,
}

impl<P: Platform, Q: Queue<Socket = P::Socket>> Turns<P, Q> {
    pub(crate) fn new(server: Server<P>, acceptors: Vec<Acceptor<Q>>) -> Turns<P, Q> {
        Turns { server, acceptors: acceptors.into_iter().map(Some).collect() }
    }

    /// The acceptors that are open.
    pub(crate) fn acceptors(&self) -> impl Iterator<Item = &Acceptor<Q>> {
        self.acceptors.iter().flatten()
    }

    /// Begins a turn.
    pub(crate) fn begin(&mut self) {
        self.server.begin_turn();
        self.server.counters_mut().turns.turns += 1;
    }

    /// Acts on readiness of a connection or a listener.
    pub(crate) fn dispatch(&mut self, ready: Readiness) {
        if let Some(nth) = slot_of(ready.token).checked_sub(ACCEPTORS_FROM) {
            if let Some(Some(acceptor)) = self.acceptors.get_mut(nth) {
                acceptor.note_ready();
            }
            return;
        }
        let token = connection_token(ready.token);
        // Writing first: it may make room for answers to what is read next.
        if ready.writable {
            self.server.writable(token);
        }
        // A stamp that comes back is reported as an error, on a connection that is well.
        let failed = ready.error && !self.server.take_stamps(token);
        let hangup = ready.hangup || failed;
        if ready.readable || hangup {
            self.server.readable(token, hangup);
        }
    }

    /// Accepts what waits, or closes the listeners when the server goes down. The admin listener
    /// stays, so that a drain can be watched. Each connection is registered, for good, by
    /// `register`.
    pub(crate) fn accept(
        &mut self,
        mut register: impl FnMut(&mut P::Socket, usize) -> io::Result<()>,
    ) {
        let Turns { server, acceptors } = self;
        if !server.accepts() {
            let public = |acceptor: &mut Acceptor<Q>| acceptor.door() == Door::Public;
            acceptors.iter_mut().for_each(|place| drop(place.take_if(public)));
        }
        // Before anything else takes what has become free; the admin listener, the last one, first.
        acceptors.iter_mut().rev().flatten().for_each(Acceptor::renew_reserve);
        let batch = server.config().turn.accept_batch;
        let mut stalled = false;
        for acceptor in acceptors.iter_mut().flatten() {
            let now_ns = server.now_ns();
            while let Some((socket, peer)) = acceptor.next(batch, now_ns, server.counters_mut()) {
                let Some(token) = server.open(socket, peer, acceptor.door()) else { continue };
                server.counters_mut().registrations += 1;
                let socket = server.socket_mut(token);
                let registered = socket.map(|socket| register(socket, number_of(token)));
                if let Some(Err(error)) = registered {
                    log::debug!("conn={token}: epoll_ctl: {error}");
                    server.abandon(token);
                }
            }
            stalled |= acceptor.is_stalled();
        }
        server.set_accept_stalled(stalled);
    }

    /// Publishes events that feeds have handed over, for as long as readers keep up with them. `next`
    /// gives the next event, and `done` is told what became of it.
    pub(crate) fn publish(
        &mut self,
        mut next: impl FnMut() -> Option<OwnedEvent>,
        mut done: impl FnMut(&OwnedEvent, Result<(), String>),
    ) {
        for _ in 0..EVENTS_PER_TURN {
            if self.server.is_lagging() {
                return;
            }
            let Some(event) = next() else { return };
            done(&event, self.server.publish(&event));
        }
    }

    /// Ends a turn.
    pub(crate) fn end(&mut self) {
        self.server.end_turn();
    }

    /// How long to wait for readiness; `None` if for ever.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let now_ns = self.server.now_ns();
        let retries = self.acceptors().filter_map(|acceptor| acceptor.until_retry(now_ns));
        retries.chain(self.server.until_next_turn()).min()
    }
}

impl<P: Platform, Q: fmt::Debug> fmt::Debug for Turns<P, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("acceptors", &self.acceptors).finish_non_exhaustive()
    }
}

/// A connection's number: the slot below, the generation above.
pub(crate) fn number_of(token: Token) -> usize {
    token.number() as usize
}

fn connection_token(number: usize) -> Token {
    Token::of_number(number as u64)
}

/// The slot in a number, whatever its generation.
pub(crate) fn slot_of(number: usize) -> usize {
    number as u32 as usize
}

/// Feeds' events taken before the connections have their turn again.
const EVENTS_PER_TURN: usize = 256;
/// Slots at the end of the key space are not connections': these are the acceptors'.
pub(crate) const ACCEPTORS_FROM: usize = 1 << 31;
const _: () = assert!(size_of::<usize>() == 8, "a number is a slot and a generation");
