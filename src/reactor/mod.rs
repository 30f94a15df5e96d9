//! When things happen: the event loop around a [`Server`].
//!
//! One thread, one `epoll` instance (by way of mio), no locks. Other threads reach it through a
//! [`Handle`] only: a bounded queue and a waker.
//!
//! Registration happens once per connection, for reading and writing both, and is never changed:
//! with edge-triggered readiness an interest that is not acted on costs nothing, so there is no
//! `epoll_ctl` between accept and close.

// Every panic is an outage: a server has one thread. What an invariant makes safe says so where it is.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub(crate) mod acceptor;
mod descriptors;
mod doorbell;
mod handle;
mod kernel;
mod listener;
pub(crate) mod turn;

pub use handle::{Command, Gone, Handle};

use crate::config::{Config, knobs};
use crate::observe::complaints::Complaints;
use crate::server::{Door, Server};
use crate::sys;
use acceptor::Acceptor;
use doorbell::Doorbell;
use handle::Inbox;
use kernel::Kernel;
use listener::Listener;
use mio::event::Event;
use mio::{Events, Interest, Poll};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use turn::{ACCEPTORS_FROM, Readiness, Turns, slot_of};

/// A server with its listeners, ready to run.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    turns: Turns<Kernel, Listener>,
    doorbells: Vec<Doorbell>,
    inbox: Inbox,
    handle: Handle,
    /// About events of feeds that are refused.
    complaints: Complaints,
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
        Reactor::adopt(config, Vec::new())
    }

    /// The same with listening sockets that are open already, such as a service manager hands
    /// over: where the configuration has the address that one of them is bound to, that one is
    /// used. They are non-blocking.
    ///
    /// # Errors
    /// As [`Reactor::bind`]; `InvalidInput` if the configuration lacks the address of one of them.
    pub fn adopt(config: Config, mut sockets: Vec<TcpListener>) -> io::Result<Reactor> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        config.validate().map_err(invalid)?;
        if let Some(cpu) = config.cpu.filter(|&cpu| !sys::is_permitted_cpu(cpu)) {
            return Err(invalid(format!(
                "cpu = {cpu}: there is no such processor, or this process may not run on it"
            )));
        }
        let poll = Poll::new()?;
        let doors = config.listen.iter().map(|&address| (address, Door::Public));
        let doors = doors.chain(config.admin.map(|address| (address, Door::Admin)));
        let mut acceptors = Vec::new();
        for (nth, (address, door)) in doors.enumerate() {
            let bound = |socket: &TcpListener| socket.local_addr().is_ok_and(|at| at == address);
            let inherited = sockets.iter().position(bound).map(|at| sockets.swap_remove(at));
            let (registry, token) = (poll.registry(), mio::Token(ACCEPTORS_FROM + nth));
            let listener = Listener::open(address, door, &config, registry, token, inherited)?;
            acceptors.push(Acceptor::new(listener, door));
        }
        if let Some(socket) = sockets.first() {
            return Err(invalid(format!("{socket:?} is bound where nothing is to listen")));
        }
        let (inbox, handle) =
            handle::channel(poll.registry(), WAKER, config.limits.event_bytes_max)?;
        let ceiling = descriptors::connections_ceiling()?;
        let maxseg_bytes = config.delivery.socket.maxseg_bytes;
        let server = Server::new(config, Kernel, ceiling, kernel::random());
        let turns = Turns::new(server, acceptors);
        let (doorbells, complaints) = (Vec::new(), Complaints::default());
        Ok(Reactor { poll, turns, doorbells, inbox, handle, complaints, maxseg_bytes })
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
        let acceptors = self.turns.acceptors();
        acceptors.filter(move |acceptor| acceptor.door() == door).map(|own| own.queue().address())
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
        if let Some(cpu) = self.turns.server.config().cpu {
            let bound = sys::bind_to_cpu(cpu);
            bound.map_err(|error| io::Error::new(error.kind(), format!("cpu = {cpu}: {error}")))?;
        }
        self.log_start();
        self.warn_of_descriptors();
        let mut events = Events::with_capacity(READINESS_PER_TURN);
        while !self.turns.server.is_over() {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let begun = Instant::now();
            self.turn(&events);
            self.turns.server.note_turn(begun.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    fn turn(&mut self, events: &Events) {
        self.turns.begin();
        let before = self.turns.server.counters().turns.events;
        for event in events {
            self.turns.server.counters_mut().turns.events += 1;
            self.dispatch(event);
        }
        let seen = self.turns.server.counters().turns.events - before;
        self.turns.server.note_readiness(seen < READINESS_PER_TURN as u64);
        self.take_inbox();
        self.accept();
        self.turns.end();
    }

    fn dispatch(&mut self, event: &Event) {
        let token = event.token();
        if token == WAKER {
            return;
        }
        match slot_of(token.0).checked_sub(DOORBELLS_FROM) {
            Some(nth) => {
                if let Some(command) = self.doorbells.get_mut(nth).and_then(Doorbell::answer) {
                    self.obey(command);
                }
            }
            None => self.turns.dispatch(Readiness {
                token: token.0,
                readable: event.is_readable(),
                writable: event.is_writable(),
                hangup: event.is_read_closed(),
                error: event.is_error(),
            }),
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Reconfigure(config) => match self.turns.server.reconfigure(*config) {
                Ok(refused) if refused.is_empty() => {}
                Ok(refused) => log::warn!("knobs unchanged until a restart: {}", refused.join(" ")),
                Err(why) => log::error!("the configuration stays as it is: {why}"),
            },
            Command::Drain => self.turns.server.drain(),
            Command::Stop => self.turns.server.stop(),
        }
    }

    /// Takes what other threads have handed over.
    fn take_inbox(&mut self) {
        while let Some(command) = self.inbox.command() {
            self.obey(command);
        }
        let Reactor { turns, inbox, complaints, .. } = self;
        let now_ns = turns.server.now_ns();
        inbox.set_event_bytes_max(turns.server.config().limits.event_bytes_max);
        turns.publish(
            || inbox.event(),
            |event, published| {
                if let Err(why) = published
                    && let Some(count) = complaints.note(now_ns)
                {
                    let topic = &event.topic;
                    log::warn!(
                        "events of feeds are refused: {count}, the last for topic {topic:?}: {why}"
                    );
                }
            },
        );
    }

    fn accept(&mut self) {
        let knobs = &self.turns.server.config().delivery.socket;
        if std::mem::replace(&mut self.maxseg_bytes, knobs.maxseg_bytes) != knobs.maxseg_bytes {
            self.turns.acceptors().for_each(|acceptor| acceptor.queue().apply(knobs));
        }
        // For reading and writing both, and never changed: see the module's text.
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        self.turns.accept(|socket, number| registry.register(socket, mio::Token(number), interest));
    }

    fn timeout(&self) -> Option<Duration> {
        if self.inbox.has_more() {
            return Some(Duration::ZERO);
        }
        self.turns.timeout()
    }

    /// The one line that says with which settings this process runs.
    fn log_start(&self) {
        if !log::log_enabled!(log::Level::Info) {
            return;
        }
        let config = self.turns.server.config();
        let all = knobs::KNOBS.iter().map(|knob| format!("{}={}", knob.name, knob.show(config)));
        log::info!(
            "started pushv={} epoch={} bound={:?} admin_bound={:?} {}",
            env!("CARGO_PKG_VERSION"),
            self.turns.server.hub().epoch(),
            self.public_addresses(),
            self.admin_address(),
            all.collect::<Vec<_>>().join(" "),
        );
    }

    /// Says it if `connections_max` promises more than the descriptors permit.
    fn warn_of_descriptors(&self) {
        let (wanted, possible) = (
            self.turns.server.config().limits.connections_max,
            self.turns.server.connections_possible(),
        );
        if wanted > possible {
            log::warn!(
                "connections_max = {wanted}, but the limit on open descriptors (RLIMIT_NOFILE) \
                 permits {possible}"
            );
        }
    }
}

const WAKER: mio::Token = mio::Token(u32::MAX as usize);
const DOORBELLS_FROM: usize = ACCEPTORS_FROM + (1 << 30);
const READINESS_PER_TURN: usize = 1024;
