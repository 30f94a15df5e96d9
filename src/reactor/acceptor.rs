//! Accepting connections, and what to do when that is not possible.
//!
//! Readiness is edge-triggered: for a connection that was announced and not accepted, nothing
//! further is announced. So an acceptor remembers that it has not yet seen the end of its queue,
//! whatever kept it from that: its batch was used up, or the process has run out of descriptors.
//!
//! Out of descriptors, it gives up a descriptor that is held in reserve and accepts with that one.
//! On the public listener the connection is closed at once: the peer learns that it is refused
//! instead of waiting in a queue that is not emptied, and no processor time is spent on a call that
//! keeps failing. On the admin listener the connection is served, so that an operator can look at a
//! process that has no descriptors left. There are few in reserve; they are taken back first of all
//! when descriptors become free.
//!
//! The socket is behind [`Queue`], so that the simulated world goes through this too.

use crate::observe::complaints::Complaints;
use crate::observe::counters::Counters;
use crate::server::Door;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// A listening socket's queue of connections.
pub(crate) trait Queue {
    /// A connected socket.
    type Socket;
    /// `accept4(2)`, without waiting.
    fn accept(&mut self) -> io::Result<(Self::Socket, SocketAddr)>;
    /// Gives up a descriptor that is held in reserve, if there is one.
    fn release_reserve(&mut self);
    /// Takes descriptors in reserve again until there are as many as there should be, as far as they
    /// are to be had.
    fn renew_reserve(&mut self);
}

/// Accepts from one queue.
#[derive(Debug)]
pub(crate) struct Acceptor<Q> {
    queue: Q,
    door: Door,
    /// Connections may be waiting.
    ready: bool,
    /// Connections accepted in this turn.
    accepted: usize,
    /// No use to try before then.
    stalled_until_ns: Option<u64>,
    complaints: Complaints,
}

impl<Q: Queue> Acceptor<Q> {
    pub(crate) fn new(queue: Q, door: Door) -> Acceptor<Q> {
        Acceptor {
            queue,
            door,
            ready: false,
            accepted: 0,
            stalled_until_ns: None,
            complaints: Complaints::default(),
        }
    }

    pub(crate) fn queue(&self) -> &Q {
        &self.queue
    }

    pub(crate) fn door(&self) -> Door {
        self.door
    }

    pub(crate) fn note_ready(&mut self) {
        self.ready = true;
    }

    /// Takes back what was given up of the reserve.
    pub(crate) fn renew_reserve(&mut self) {
        self.queue.renew_reserve();
    }

    /// The next connection, if there is one and the turn's batch is not used up. `None` ends the
    /// turn.
    pub(crate) fn next(
        &mut self,
        batch: usize,
        now_ns: u64,
        counters: &mut Counters,
    ) -> Option<(Q::Socket, SocketAddr)> {
        if self.stalled_until_ns.is_some_and(|until_ns| now_ns >= until_ns) {
            self.stalled_until_ns = None;
            self.ready = true;
        }
        while self.ready && self.stalled_until_ns.is_none() && self.accepted < batch {
            match self.queue.accept() {
                Ok(connection) => {
                    self.accepted += 1;
                    return Some(connection);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready = false,
                Err(error) if is_want_of_resources(&error) => {
                    counters.accept_errors += 1;
                    self.accepted += 1;
                    let by_reserve = self.accept_by_reserve(now_ns, &error, counters);
                    if by_reserve.is_some() {
                        return by_reserve;
                    }
                }
                // The connection that was announced has failed; the next one may not have.
                Err(error) if is_of_the_connection(&error) => self.accepted += 1,
                // Whatever it is, it may last: without a pause it would fill the loop.
                Err(error) => {
                    self.complain(now_ns, &error);
                    counters.accept_errors += 1;
                    self.stall(now_ns);
                }
            }
        }
        self.accepted = 0;
        None
    }

    /// Accepts one connection with a descriptor of the reserve: to close it, or on the admin listener
    /// to serve it. If even that fails, waits.
    fn accept_by_reserve(
        &mut self,
        now_ns: u64,
        error: &io::Error,
        counters: &mut Counters,
    ) -> Option<(Q::Socket, SocketAddr)> {
        self.complain(now_ns, error);
        self.queue.release_reserve();
        match self.queue.accept() {
            Ok(connection) if self.door == Door::Admin => return Some(connection),
            Ok(refused) => {
                drop(refused);
                counters.dropped_at_accept += 1;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready = false,
            Err(_) => {}
        }
        self.queue.renew_reserve();
        // Others may take the descriptor first. Then, and after each refusal, a pause keeps this
        // from filling the loop.
        self.stall(now_ns);
        None
    }

    /// Says why no connection is accepted, now and then: it may be tried a hundred times a second.
    fn complain(&mut self, now_ns: u64, error: &io::Error) {
        if let Some(times) = self.complaints.note(now_ns) {
            log::warn!("accept ({:?}): {error} ({times} times)", self.door);
        }
    }

    fn stall(&mut self, now_ns: u64) {
        self.stalled_until_ns = Some(now_ns + RETRY_AFTER_NS);
    }

    /// Whether it is out of descriptors or memory.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled_until_ns.is_some()
    }

    /// How long until accepting is to be tried without having been announced.
    pub(crate) fn until_retry(&self, now_ns: u64) -> Option<Duration> {
        match self.stalled_until_ns {
            Some(until_ns) => Some(Duration::from_nanos(until_ns.saturating_sub(now_ns))),
            None => self.ready.then_some(Duration::ZERO),
        }
    }
}

/// Errors of `accept4` that say something about this process or host, not about the peer.
fn is_want_of_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Errors of `accept4` that the kernel takes from the connection it would have given; that one is
/// gone with it (accept(2), "Error handling").
fn is_of_the_connection(error: &io::Error) -> bool {
    let interrupted = error.kind() == ErrorKind::Interrupted;
    interrupted || matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EPROTO))
}

const RETRY_AFTER_NS: u64 = 10_000_000;
