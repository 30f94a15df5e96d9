//! When things happen: the event loop around a [`Server`].
//!
//! One thread, one `epoll` instance (by way of mio), no locks. Other threads reach it through a
//! [`Handle`] only: a bounded queue and a waker.
//!
//! Registration happens once per connection, for reading and writing both, and is never changed:
//! with edge-triggered readiness an interest that is not acted on costs nothing, so there is no
//! `epoll_ctl` between accept and close.

mod doorbell;
mod handle;
mod kernel;
mod listener;

pub use handle::{Command, Gone, Handle};

use crate::config::{Config, knobs};
use crate::server::{Door, Server, Token};
use crate::sys;
use doorbell::Doorbell;
use handle::Inbox;
use kernel::Kernel;
use listener::Listener;
use mio::event::Event;
use mio::{Events, Interest, Poll};
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A server with its listeners, ready to run.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    listeners: Vec<Listener>,
    doorbells: Vec<Doorbell>,
    inbox: Inbox,
    handle: Handle,
    server: Server<Kernel>,
    /// The segment size that the listeners were given.
    maxseg_bytes: u32,
}

impl Reactor {
    /// Opens the listeners of `config`.
    ///
    /// # Errors
    /// `InvalidInput` if the configuration contradicts itself; otherwise what the kernel says,
    /// with the address that it concerns.
    pub fn bind(config: Config) -> io::Result<Reactor> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        config.validate().map_err(invalid)?;
        let poll = Poll::new()?;
        let doors = config.listen.iter().map(|&address| (address, Door::Public));
        let doors = doors.chain(config.admin.map(|address| (address, Door::Admin)));
        let mut listeners = Vec::new();
        for (nth, (address, door)) in doors.enumerate() {
            listeners.push(Listener::open(
                address,
                door,
                &config,
                poll.registry(),
                listener_token(nth),
            )?);
        }
        let (inbox, handle) = handle::channel(poll.registry(), WAKER)?;
        let (descriptors, _) = sys::descriptor_limits()?;
        let ceiling = usize::try_from(descriptors).unwrap_or(usize::MAX).min(CONNECTIONS_CEILING);
        let ceiling = ceiling.saturating_sub(DESCRIPTORS_RESERVED + listeners.len());
        let maxseg_bytes = config.delivery.socket.maxseg_bytes;
        let server = Server::new(config, Kernel, ceiling, kernel::random());
        Ok(Reactor { poll, listeners, doorbells: Vec::new(), inbox, handle, server, maxseg_bytes })
    }

    /// The addresses that the public listener is bound to.
    pub fn public_addresses(&self) -> Vec<SocketAddr> {
        self.addresses(Door::Public).collect()
    }

    /// The address that the admin listener is bound to.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.addresses(Door::Admin).next()
    }

    fn addresses(&self, door: Door) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter(move |listener| listener.door() == door).map(Listener::address)
    }

    /// The way to reach the reactor while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Has `answer` called, in the reactor's thread, when bytes come through `socket`, with their
    /// number; what it gives is done. For signals, whose handlers may write a byte and little more.
    ///
    /// # Errors
    /// If the socket cannot be registered.
    pub fn ring(
        &mut self,
        socket: UnixStream,
        answer: impl FnMut(usize) -> Option<Command> + Send + 'static,
    ) -> io::Result<()> {
        let token = mio::Token(DOORBELLS_FROM + self.doorbells.len());
        let doorbell = Doorbell::new(socket, self.poll.registry(), token, Box::new(answer))?;
        self.doorbells.push(doorbell);
        Ok(())
    }

    /// Runs until it has been told to drain or stop, and has.
    ///
    /// # Errors
    /// Only what makes going on impossible: the poll itself fails. No connection can cause it.
    pub fn run(mut self) -> io::Result<()> {
        if let Some(cpu) = self.server.config().cpu {
            let bound = sys::bind_to_cpu(cpu);
            bound.map_err(|error| io::Error::new(error.kind(), format!("cpu = {cpu}: {error}")))?;
        }
        self.log_start();
        let mut events = Events::with_capacity(READINESS_PER_TURN);
        while !self.server.is_over() {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let begun = Instant::now();
            self.turn(&events);
            self.server.note_turn(begun.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    fn turn(&mut self, events: &Events) {
        self.server.begin_turn();
        let turns = &mut self.server.counters_mut().turns;
        turns.turns += 1;
        let before = turns.events;
        for event in events {
            self.server.counters_mut().turns.events += 1;
            self.dispatch(event);
        }
        let seen = self.server.counters().turns.events - before;
        self.server.note_readiness(seen < READINESS_PER_TURN as u64);
        self.take_inbox();
        self.accept();
        self.server.end_turn();
    }

    fn dispatch(&mut self, event: &Event) {
        if event.token() == WAKER {
            return;
        }
        let reserved = (event.token().0 as u32 as usize).checked_sub(LISTENERS_FROM);
        if let Some(nth) = reserved {
            return self.dispatch_reserved(nth);
        }
        let token = connection_token(event.token());
        // Writing first: it may make room for answers to what is read next.
        if event.is_writable() {
            self.server.writable(token);
        }
        // A stamp that comes back is reported as an error, on a connection that is well.
        let failed = event.is_error() && !self.server.take_stamps(token);
        let hangup = event.is_read_closed() || failed;
        if event.is_readable() || hangup {
            self.server.readable(token, hangup);
        }
    }

    /// An event of a listener or a doorbell.
    fn dispatch_reserved(&mut self, nth: usize) {
        if let Some(listener) = self.listeners.get_mut(nth) {
            listener.note_ready();
        } else if let Some(nth) = nth.checked_sub(DOORBELLS_FROM - LISTENERS_FROM)
            && let Some(doorbell) = self.doorbells.get_mut(nth)
            && let Some(command) = doorbell.answer()
        {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Reconfigure(config) => {
                let refused = self.server.reconfigure(*config);
                if !refused.is_empty() {
                    log::warn!("knobs unchanged until a restart: {}", refused.join(" "));
                }
            }
            Command::Drain => self.server.drain(),
            Command::Stop => self.server.stop(),
        }
    }

    /// Takes what other threads have handed over.
    fn take_inbox(&mut self) {
        while let Some(command) = self.inbox.command() {
            self.obey(command);
        }
        for _ in 0..EVENTS_PER_TURN {
            if self.server.is_lagging() {
                return;
            }
            let Some(event) = self.inbox.event() else { return };
            if let Err(why) = self.server.publish(&event) {
                log::warn!("a feed's event for topic {:?} is refused: {why}", event.topic);
            }
        }
    }

    /// Accepts what waits, or closes the listeners when the server goes down. The admin listener
    /// stays, so that a drain can be watched.
    fn accept(&mut self) {
        if !self.server.accepts() {
            self.listeners.retain(|listener| listener.door() == Door::Admin);
        }
        let maxseg_bytes = self.server.config().delivery.socket.maxseg_bytes;
        if std::mem::replace(&mut self.maxseg_bytes, maxseg_bytes) != maxseg_bytes {
            let knobs = &self.server.config().delivery.socket;
            self.listeners.iter().for_each(|listener| listener.apply(knobs));
        }
        let batch = self.server.config().turn.accept_batch;
        let mut stalled = false;
        for listener in &mut self.listeners {
            while let Some((socket, peer)) = listener.accept(batch, self.server.counters_mut()) {
                if let Some(token) = self.server.open(socket, peer, listener.door()) {
                    register(&self.poll, &mut self.server, token);
                }
            }
            stalled |= listener.is_stalled();
        }
        self.server.set_accept_stalled(stalled);
    }

    fn timeout(&self) -> Option<Duration> {
        let retry = |listener: &Listener| listener.until_retry();
        let listeners = self.listeners.iter().filter_map(retry).min();
        if self.inbox.has_more() {
            return Some(Duration::ZERO);
        }
        [self.server.until_next_turn(), listeners].into_iter().flatten().min()
    }

    /// The one line that says with which settings this process runs.
    fn log_start(&self) {
        if !log::log_enabled!(log::Level::Info) {
            return;
        }
        let config = self.server.config();
        let all = knobs::KNOBS.iter().map(|knob| format!("{}={}", knob.name, knob.show(config)));
        log::info!(
            "started pushv={} epoch={} bound={:?} admin_bound={:?} {}",
            env!("CARGO_PKG_VERSION"),
            self.server.hub().epoch(),
            self.public_addresses(),
            self.admin_address(),
            all.collect::<Vec<_>>().join(" "),
        );
    }
}

/// Registers a connection, for good: see the module's text.
fn register(poll: &Poll, server: &mut Server<Kernel>, token: Token) {
    server.counters_mut().registrations += 1;
    let interest = Interest::READABLE | Interest::WRITABLE;
    let registered = server
        .socket_mut(token)
        .map(|socket| poll.registry().register(socket, mio_token(token), interest));
    if let Some(Err(error)) = registered {
        log::debug!("conn={}: epoll_ctl: {error}", token.key);
        server.abandon(token);
    }
}

/// A connection's token in mio's terms: the slot below, the generation above.
fn mio_token(token: Token) -> mio::Token {
    mio::Token((token.generation as usize) << 32 | token.key as usize)
}

fn connection_token(token: mio::Token) -> Token {
    Token { key: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

/// Slots at the end of the key space belong to the reactor: no connection can have one.
fn listener_token(nth: usize) -> mio::Token {
    mio::Token(LISTENERS_FROM + nth)
}

const WAKER: mio::Token = mio::Token(u32::MAX as usize);
const LISTENERS_FROM: usize = 1 << 31;
const DOORBELLS_FROM: usize = LISTENERS_FROM + (1 << 30);
/// Connections that one reactor is ready to hold; tokens leave room for more.
const CONNECTIONS_CEILING: usize = 10_000_000;
const _: () = assert!(CONNECTIONS_CEILING < LISTENERS_FROM);
const _: () = assert!(size_of::<usize>() == 8, "a token is a slot and a generation");
/// Descriptors that are not connections: standard streams, epoll, waker, the listeners' reserve,
/// a configuration file that is read again.
const DESCRIPTORS_RESERVED: usize = 32;
const READINESS_PER_TURN: usize = 1024;
/// Feeds' events taken before the connections have their turn again.
const EVENTS_PER_TURN: usize = 256;
