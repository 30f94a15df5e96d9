//! What the server does, without knowing when.
//!
//! A [`Server`] owns the hub, the connections and every decision about them. It is driven from
//! outside, by the [reactor](crate::reactor) or by a test: somebody hands it sockets, tells it
//! which of them are readable or writable, and asks it, turn after turn, to do what is due. It
//! never waits, and everything it wants of the world is in [`Platform`]; with a scripted one it
//! is deterministic.
//!
//! One turn:
//! 1. [`Server::begin_turn`] reads the clock.
//! 2. [`Server::open`], [`Server::readable`], [`Server::writable`], [`Server::publish`]: what has
//!    come in. Publishes are appended to logs and make passes over subscribers due.
//! 3. [`Server::end_turn`]: unfinished reads and writes, passes for one slice of time, a part of
//!    the sweep, the shutdown if there is one; and last, in one place, what was asked to be closed
//!    is closed.
//!
//! In reading order: `connection` (what is kept of one), `admission` (who is let in), `input` (bytes
//! become requests), `pending` (heads that do not end), `routes` (requests become answers),
//! `publish`, `subscribe`, `flush` (events become writes), `rounds` (a change of knobs reaches everything),
//! `sweep` (time passes), `watch` (what is under way), `shutdown`.

// Every panic is an outage: a server has one thread. What an invariant makes safe says so where it is.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod access;
#[cfg(feature = "admin")]
mod admin;
mod admission;
mod body;
mod connection;
mod cors;
mod deliveries;
mod flush;
mod input;
#[cfg(feature = "admin")]
mod inspect;
#[cfg(any(test, feature = "testing"))]
mod invariants;
mod jitter;
#[cfg(feature = "admin")]
mod live;
#[cfg(feature = "admin")]
mod page;
mod pending;
mod publish;
mod rounds;
mod routes;
mod shutdown;
mod subscribe;
mod sweep;
mod watch;

pub(crate) use admission::PLACES_APART;
pub use connection::{Door, Token};
#[cfg(any(test, feature = "testing"))]
pub use invariants::{Held, Load};
pub use publish::OwnedEvent;

use crate::config::{Config, TopicChange, knobs};
use crate::observe::counters::{CloseReason, Counters, STALL_NS};
use crate::observe::usage::Usage;
use crate::push::hub::Hub;
use crate::send::adapt::{Controller, Signals};
use crate::send::drain::Workspace;
use crate::send::transport::Transport;
use crate::wire::date::HttpDate;
use admission::{Admission, Verdict};
use connection::{Connection, ConnectionKey, Connections};
use deliveries::Deliveries;
use flush::Flushes;
use jitter::Jitter;
use pending::PendingHeads;
use rounds::Rounds;
use shutdown::Shutdown;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use sweep::Sweep;

/// The world as a server sees it, apart from what its sockets are told.
pub trait Platform {
    /// A connected socket.
    type Socket: Transport;
    /// Nanoseconds since some fixed moment; never goes back.
    fn now_ns(&self) -> u64;
    /// Seconds since 1970, for dates.
    fn unix_s(&self) -> u64;
    /// Nanoseconds since 1970, by the clock of the kernel's stamps.
    fn unix_ns(&self) -> u64 {
        self.unix_s() * 1_000_000_000
    }
    /// What the process has used so far.
    fn usage(&self) -> Usage {
        Usage::default()
    }
}

/// A Server-Sent Events hub without an event loop. See the [module's text](self).
#[derive(Debug)]
pub struct Server<P: Platform> {
    platform: P,
    /// The clock as it was last read. It is read again after each write, so that a slice ends in
    /// time.
    now_ns: u64,
    date: Date,
    config: Config,
    deliveries: Deliveries,
    hub: Hub,
    connections: Connections<P::Socket>,
    admission: Admission,
    pending_heads: PendingHeads,
    /// How many connections the process can hold.
    connections_ceiling: usize,
    /// Connections with something unfinished, to be continued at the end of the turn.
    listed: VecDeque<Token>,
    /// Connections to be closed at the end of the turn.
    closing: Vec<(ConnectionKey, CloseReason)>,
    flushes: Flushes,
    sweep: Sweep,
    rounds: Rounds,
    /// Turns in a row that may not have seen all readiness there was.
    incomplete_turns: u32,
    /// The process was not running before this turn.
    absent: bool,
    shutdown: Shutdown,
    adaptation: Adaptation,
    #[cfg(feature = "admin")]
    live: live::Live,
    #[cfg(feature = "admin")]
    started_ns: u64,
    /// How many flushes of streams from now the next one is to be stamped.
    stamp_countdown: u32,
    counters: Counters,
    jitter: Jitter,
    workspace: Workspace,
    read_buffer: Vec<u8>,
    /// Working memory for notices.
    text: String,
    /// The listener cannot accept: it has no descriptor left.
    accept_stalled: bool,
}

/// The text of the current date.
#[derive(Debug, Default)]
struct Date {
    unix_s: u64,
    text: String,
}

/// The controller of the flush policy `adaptive`, and what it goes by.
#[derive(Debug)]
struct Adaptation {
    controller: Controller,
    signals: Signals,
    latency_ns: crate::observe::histogram::Histogram,
    next_ns: u64,
}

impl<P: Platform> Server<P> {
    /// A server with this configuration, which has been [validated](Config::validate), that can
    /// hold up to `connections_ceiling` connections. `random` distinguishes this run from others.
    pub fn new(config: Config, platform: P, connections_ceiling: usize, random: u64) -> Server<P> {
        let now_ns = platform.now_ns();
        let mut sweep = Sweep::new(now_ns);
        sweep.retime(&config, now_ns);
        Server {
            now_ns,
            date: Date::default(),
            deliveries: Deliveries::new(&config),
            hub: Hub::new(random, config.limits.logs_bytes_max),
            connections: Connections::with_capacity(connections_ceiling),
            admission: Admission::default(),
            pending_heads: PendingHeads::default(),
            connections_ceiling,
            listed: VecDeque::new(),
            closing: Vec::new(),
            flushes: Flushes::default(),
            sweep,
            rounds: Rounds::default(),
            incomplete_turns: 0,
            absent: false,
            shutdown: Shutdown::Running,
            adaptation: Adaptation {
                controller: Controller::new(&config.adapt),
                signals: Signals::default(),
                latency_ns: crate::observe::histogram::Histogram::default(),
                next_ns: 0,
            },
            #[cfg(feature = "admin")]
            live: live::Live::default(),
            #[cfg(feature = "admin")]
            started_ns: now_ns,
            stamp_countdown: 1,
            counters: Counters::default(),
            jitter: Jitter::new(random),
            workspace: Workspace::default(),
            read_buffer: vec![0; READ_BUFFER_BYTES],
            text: String::new(),
            accept_stalled: false,
            config,
            platform,
        }
    }

    /// Begins a turn: reads the clock.
    pub fn begin_turn(&mut self) {
        let now_ns = self.platform.now_ns();
        // With connections there is a turn every 50 ms. If there was none for so long, the process
        // was not running, and the report of this turn may be from before.
        self.absent = now_ns.saturating_sub(self.now_ns) > ABSENCE_NS && self.connections.len() > 0;
        self.now_ns = now_ns;
        self.flushes.begin_turn();
        let unix_s = self.platform.unix_s();
        if self.date.unix_s != unix_s || self.date.text.is_empty() {
            self.date = Date { unix_s, text: HttpDate { unix_s }.to_string() };
        }
    }

    /// Ends a turn: does what is due, and closes what is to be closed.
    pub fn end_turn(&mut self) {
        self.continue_listed();
        self.go_rounds();
        #[cfg(feature = "admin")]
        self.feed_live();
        self.flush_due();
        self.sweep();
        self.advance_shutdown();
        self.adapt();
        self.reap();
    }

    /// How long the next turn may be put off; `None` if it can wait for readiness.
    pub fn until_next_turn(&self) -> Option<Duration> {
        let waiting = !self.listed.is_empty()
            || self.flushes.has_passes()
            || self.sweep.is_behind()
            || self.rounds.are_under_way();
        if waiting {
            return Some(Duration::ZERO);
        }
        #[cfg(feature = "admin")]
        let live_ns = self.next_live_ns();
        #[cfg(not(feature = "admin"))]
        let live_ns = None;
        let times = [
            live_ns,
            self.flushes.next_ns(),
            self.sweep.next_ns(self.connections.len() > 0, !self.hub.topics().is_empty()),
            self.shutdown.next_ns(),
            self.adapts().then_some(self.adaptation.next_ns),
        ];
        let next_ns = times.into_iter().flatten().min()?;
        Some(Duration::from_nanos(next_ns.saturating_sub(self.now_ns)))
    }

    /// Takes on a connection that was accepted through `door`. `None` if there is no room for it,
    /// and the socket is closed.
    ///
    /// A connection above a limit is taken on for as long as it takes to say so.
    pub fn open(&mut self, mut socket: P::Socket, peer: SocketAddr, door: Door) -> Option<Token> {
        let verdict =
            self.admission.judge(peer, door, &self.config.limits, self.connections_ceiling);
        // If the options cannot be set the peer has gone already; there is nobody to tell.
        if verdict == Verdict::NoRoom || socket.apply(&self.deliveries.base().socket, None).is_err()
        {
            self.counters.dropped_at_accept += 1;
            return None;
        }
        let mut connection = Connection::new(socket, peer, door, self.now_ns);
        connection.over_limit = verdict == Verdict::OverLimit;
        self.admission.add(&connection);
        if door == Door::Public {
            self.counters.accepted += 1;
            self.counters.over_limit += u64::from(connection.over_limit);
        }
        let token = self.connections.insert(connection);
        self.await_head(token.key);
        Some(token)
    }

    /// The socket of a connection.
    pub fn socket_mut(&mut self, token: Token) -> Option<&mut P::Socket> {
        self.connections.find(token).map(|connection| &mut connection.socket)
    }

    /// A connection's socket cannot be used.
    pub fn abandon(&mut self, token: Token) {
        if self.connections.find(token).is_some() {
            self.close(token.key, CloseReason::SocketError);
        }
    }

    /// The socket of a connection has something to read, or, if `hangup`, an end to be seen.
    pub fn readable(&mut self, token: Token, hangup: bool) {
        match self.connections.find(token) {
            Some(_) => self.read(token.key, hangup),
            None => self.counters.turns.stale_events += 1,
        }
    }

    /// The socket of a connection has room in its send buffer.
    pub fn writable(&mut self, token: Token) {
        let Some(connection) = self.connections.find(token) else {
            self.counters.turns.stale_events += 1;
            return;
        };
        // The kernel reports that there is room whenever it reports anything.
        if std::mem::take(&mut connection.blocked) {
            self.counters.turns.unblocked += connection.counted();
            self.flush_unblocked(token.key);
        }
    }

    /// Notes whether this turn has seen all readiness that the kernel had to report. While it has
    /// not, nobody is accused of having done nothing.
    pub fn note_readiness(&mut self, complete: bool) {
        self.incomplete_turns = if complete { 0 } else { self.incomplete_turns.saturating_add(1) };
    }

    /// Whether somebody's progress may still be unseen. After a while that is no excuse any more:
    /// under a load that never ends, deadlines have to be kept all the same.
    fn is_readiness_unseen(&self) -> bool {
        self.absent || (1..INCOMPLETE_TURNS_MAX).contains(&self.incomplete_turns)
    }

    /// Adopts another configuration as far as that can be done while running, and gives the names
    /// of the settings that cannot.
    ///
    /// # Errors
    /// What is wrong with the configuration that would be in force
    /// ([`Config::after_reload`]). Then everything stays as it is.
    pub fn reconfigure(&mut self, wanted: Config) -> Result<Vec<&'static str>, String> {
        let (config, refused) = self.config.after_reload(wanted)?;
        self.adopt(config);
        Ok(refused)
    }

    /// Brings a configuration into force that [`Config::after_reload`] has given. Only the
    /// simulator calls this itself: its logs are smaller than any that are valid.
    pub(crate) fn adopt(&mut self, config: Config) {
        let changes = self.config.topics.changes(&config.topics);
        self.log_changes(&config, &changes);
        #[cfg(feature = "admin")]
        self.note_flips(&config, &changes);
        let sockets = config.delivery.socket != self.config.delivery.socket || !changes.is_empty();
        self.deliveries.adopt(&config.delivery, &changes);
        self.hub.set_memory_bytes_max(config.limits.logs_bytes_max);
        self.config = config;
        self.sweep.retime(&self.config, self.now_ns);
        if sockets {
            self.rounds.begin_sockets();
        }
        self.begin_asking_policies();
        self.go_rounds();
    }

    fn log_changes(&self, config: &Config, changes: &[TopicChange]) {
        let of_knobs = knobs::differences(&self.config, config)
            .map(|(knob, value)| format!("{}={value}", knob.name));
        let of_topics = changes.iter().take(TOPICS_LOGGED_MAX).map(|change| {
            let own = change.to.as_deref().cloned().unwrap_or_default();
            format!("topic={:?} {own:?}", change.topic)
        });
        let more = changes.len().saturating_sub(TOPICS_LOGGED_MAX);
        let more = (more > 0).then(|| format!("and {more} more topics"));
        let adopted: Vec<String> = of_knobs.chain(of_topics).chain(more).collect();
        if !adopted.is_empty() {
            log::info!("knobs changed {}", adopted.join(" "));
        }
    }

    /// Asks for a connection to be closed. It is done at the end of the turn.
    fn close(&mut self, key: ConnectionKey, reason: CloseReason) {
        let connection = &mut self.connections[key];
        if !std::mem::replace(&mut connection.closing, true) {
            self.closing.push((key, reason));
        }
    }

    /// Closes what was asked to be closed: the one place where a connection ends.
    fn reap(&mut self) {
        while let Some((key, reason)) = self.closing.pop() {
            self.unsubscribe(key);
            self.forget_pending_head(key);
            let connection = self.connections.remove(key);
            self.admission.remove(&connection);
            if connection.door == Door::Public {
                self.counters.note_close(reason);
            }
            log::debug!(
                "closed conn={key} peer={} reason={reason} age_ms={} events={} bytes={} unsent_bytes={}",
                connection.peer,
                (self.now_ns - connection.opened_ns) / 1_000_000,
                connection.sent_events,
                connection.sent_bytes,
                connection.private.len(),
            );
        }
    }

    /// Puts a connection on the list of those to be continued.
    fn list(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key];
        if !std::mem::replace(&mut connection.listed, true) {
            self.listed.push_back(Token { key, generation: connection.generation });
        }
    }

    /// Continues, once each, the connections that stood on the list when the turn ended.
    fn continue_listed(&mut self) {
        for _ in 0..self.listed.len() {
            let Some(token) = self.listed.pop_front() else { break };
            let Some(connection) = self.connections.find(token) else { continue };
            connection.listed = false;
            let unread = connection.unread;
            self.flush_connection(token.key);
            if unread {
                self.read(token.key, true);
            }
        }
    }

    fn adapts(&self) -> bool {
        self.flushes.adaptive_in_use
    }

    /// Applies the rule of the policy `adaptive`, if it is in use and due.
    fn adapt(&mut self) {
        let knobs = &self.config.adapt;
        let adaptation = &mut self.adaptation;
        if !self.flushes.adaptive_in_use || self.now_ns < adaptation.next_ns {
            return;
        }
        adaptation.next_ns = self.now_ns + knobs.period_ms * 1_000_000;
        adaptation.signals.p99_ns = adaptation.latency_ns.quantile(0.99);
        adaptation.controller.step(adaptation.signals, knobs);
        adaptation.signals = Signals::default();
        adaptation.latency_ns.clear();
    }
}

/// What the reactor asks and tells about itself.
impl<P: Platform> Server<P> {
    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The counters, for what only the reactor can count.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// The clock as it was last read, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The number of open connections.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Whether readers lag behind what is published, so that more had better wait.
    pub fn is_lagging(&self) -> bool {
        self.flushes.lagging
    }

    /// Notes how long the turn took that ended with the poll that begins now.
    pub fn note_turn(&mut self, turn_ns: u64) {
        self.counters.turns.turn_ns.record(turn_ns);
        self.counters.turns.stalls += u64::from(turn_ns > STALL_NS);
        let signals = &mut self.adaptation.signals;
        signals.stall_ns = signals.stall_ns.max(turn_ns);
    }

    /// How many connections of subscribers and publishers the process has descriptors for, whatever
    /// `connections_max` says.
    pub fn connections_possible(&self) -> usize {
        admission::possible(self.connections_ceiling)
    }

    /// Whether a new connection would be turned away.
    fn is_full(&self) -> bool {
        self.admission.is_full(&self.config.limits, self.connections_ceiling)
    }

    /// Notes whether the listener can accept.
    pub fn set_accept_stalled(&mut self, stalled: bool) {
        self.accept_stalled = stalled;
    }
}

/// What one call of `read` takes at most.
const ABSENCE_NS: u64 = 1_000_000_000;
const INCOMPLETE_TURNS_MAX: u32 = 64;
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Topics whose changed knobs one line of the log names.
const TOPICS_LOGGED_MAX: usize = 32;
