//! Accepting connections, and what to do when that is not possible.
//!
//! Readiness is edge-triggered: for a connection that was announced and not accepted, nothing
//! further is announced. So a listener remembers that it has not yet seen the end of its queue,
//! whatever kept it from that: its batch was used up, or the process has run out of descriptors.
//!
//! Out of descriptors, it gives up a descriptor that it holds in reserve, accepts with that one
//! and closes at once. The peer learns that it is refused instead of waiting in a queue that
//! nobody empties, and no CPU time is burnt on a call that keeps failing.

use crate::config::Config;
use crate::observe::counters::Counters;
use crate::send::socket_knobs::SocketKnobs;
use crate::server::Door;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    door: Door,
    /// Connections may be waiting.
    ready: bool,
    /// Connections accepted in this turn.
    accepted: usize,
    /// A descriptor to be given up when there is no other.
    reserve: Option<File>,
    /// No use to try before then.
    stalled_until: Option<Instant>,
    /// When it was last said in the log that accepting fails.
    complained: Option<Instant>,
}

impl Listener {
    pub(super) fn open(
        address: SocketAddr,
        door: Door,
        config: &Config,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Listener> {
        let named = |error: io::Error| {
            let hint = match error.kind() {
                ErrorKind::AddrInUse => "; is another server running? Port 0 takes a free one",
                ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
        };
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(named)?;
        // A server that is started again must not wait for its old connections to time out.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if door == Door::Public {
            config.delivery.socket.apply_to_listener(&SockRef::from(&socket))?;
        }
        socket.bind(&address.into()).map_err(named)?;
        socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX)).map_err(named)?;
        let mut socket = TcpListener::from_std(socket.into());
        registry.register(&mut socket, token, Interest::READABLE)?;
        let address = socket.local_addr()?;
        let reserve = Some(File::open("/dev/null")?);
        Ok(Listener {
            socket,
            address,
            door,
            ready: false,
            accepted: 0,
            reserve,
            stalled_until: None,
            complained: None,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn door(&self) -> Door {
        self.door
    }

    /// Sets the options that accepted connections inherit.
    pub(super) fn apply(&self, knobs: &SocketKnobs) {
        if self.door == Door::Public
            && let Err(error) = knobs.apply_to_listener(&SockRef::from(&self.socket))
        {
            log::warn!("{}: {error}", self.address);
        }
    }

    pub(super) fn note_ready(&mut self) {
        self.ready = true;
    }

    /// The next connection, if there is one and the turn's batch is not used up. `None` ends the
    /// turn.
    pub(super) fn accept(
        &mut self,
        batch: usize,
        counters: &mut Counters,
    ) -> Option<(TcpStream, SocketAddr)> {
        if self.stalled_until.is_some_and(|until| Instant::now() >= until) {
            self.stalled_until = None;
            self.ready = true;
        }
        while self.ready && self.stalled_until.is_none() && self.accepted < batch {
            match self.socket.accept() {
                Ok(connection) => {
                    self.accepted += 1;
                    return Some(connection);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready = false,
                Err(error) if is_want_of_resources(&error) => {
                    counters.accept_errors += 1;
                    self.accepted += 1;
                    self.refuse_one(&error, counters);
                }
                // The connection that was announced has failed; the next one may not have.
                Err(error) if is_of_the_connection(&error) => self.accepted += 1,
                // Whatever it is, it may last: without a pause it would fill the loop.
                Err(error) => {
                    self.complain(&error);
                    counters.accept_errors += 1;
                    self.stall();
                }
            }
        }
        self.accepted = 0;
        None
    }

    /// Accepts one connection with the reserved descriptor and closes it. If even that fails,
    /// waits.
    fn refuse_one(&mut self, error: &io::Error, counters: &mut Counters) {
        self.complain(error);
        drop(self.reserve.take());
        match self.socket.accept() {
            Ok(refused) => {
                drop(refused);
                counters.dropped_at_accept += 1;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready = false,
            Err(_) => {}
        }
        self.reserve = File::open("/dev/null").ok();
        // Others may take the descriptor first. Then, and after each refusal, a pause keeps this
        // from filling the loop.
        self.stall();
    }

    /// Says why nobody is let in, now and then: it may be tried a hundred times a second.
    fn complain(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.complained.is_none_or(|before| now - before >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            log::warn!("{}: accept: {error}", self.address);
        }
    }

    fn stall(&mut self) {
        self.stalled_until = Some(Instant::now() + RETRY_AFTER);
    }

    /// Whether it is out of descriptors or memory.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_until.is_some()
    }

    /// How long until accepting is to be tried without having been announced.
    pub(super) fn until_retry(&self) -> Option<Duration> {
        match self.stalled_until {
            Some(until) => Some(until.saturating_duration_since(Instant::now())),
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

const COMPLAIN_EVERY: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_millis(10);
