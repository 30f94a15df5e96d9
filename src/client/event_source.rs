//! A reader that comes back by itself: the `EventSource` of WHATWG HTML §9.2, blocking.
//!
//! It ties together what the rest of this folder decides: [`stream`] reads an answer, [`policy`]
//! says what follows from its end. Left for this file are the socket, the clock, and the way to
//! stop it from another thread.

use crate::client::policy::{self, Next, Outcome, Policy};
use crate::client::stream::{self, Item, Limits, Stream};
use crate::client::url::Url;
use crate::wire::decode::Message;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// An event, its bytes decoded as UTF-8 with replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name; `message` if the stream gave none.
    pub name: String,
    /// Its data, lines joined by LF.
    pub data: String,
    /// The position of a reader that has seen it; empty if the stream has given no id yet.
    pub last_event_id: String,
}

/// What can be chosen about an [`EventSource`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The position to begin behind; empty for wherever the server begins.
    pub last_event_id: String,
    /// Header fields to send besides those that the standard asks for. Credentials among them
    /// are dropped when a redirect leads to another server, and for all that this redirects to.
    pub fields: Vec<(String, String)>,
    /// The reconnection time in milliseconds, until the server sets another.
    pub retry_ms: u64,
    /// How much memory a stream may take.
    pub limits: Limits,
    /// How long connecting to one address may take.
    pub connect_timeout: Duration,
    /// Reconnect when nothing has come for so long, not even a heartbeat. Without it, a server
    /// that accepts and then says nothing is waited for, as long as its kernel is alive.
    pub silence_timeout: Option<Duration>,
    /// Come back to an overloaded server where browsers would give up; see [`Policy::new`].
    pub patient: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            last_event_id: String::new(),
            fields: Vec::new(),
            retry_ms: policy::RETRY_MS,
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            silence_timeout: None,
            patient: false,
        }
    }
}

/// What an [`EventSource`] is doing: the `readyState` of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has no stream, but will try to get one.
    Connecting,
    /// It reads a stream.
    Open,
    /// It has ended for ever.
    Closed,
}

/// Why an [`EventSource`] has ended for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// A [`Closer`] was used.
    Closed,
    /// Trying again would be futile, for this reason.
    Failed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Closed => f.write_str("closed"),
            Ended::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Ended {}

/// A subscription that survives its connections.
#[derive(Debug)]
pub struct EventSource {
    /// Where attempts begin. Permanent redirects move it.
    start: Place,
    /// Where the next attempt goes, or the present one went: `start`, or where redirects led to.
    here: Place,
    options: Options,
    last_event_id: String,
    policy: Policy,
    connection: Option<Connection>,
    ended: Option<Ended>,
    link: Arc<Link>,
}

/// Where an attempt goes.
#[derive(Debug, Clone)]
struct Place {
    url: Url,
    /// Whether the credentials among the fields go there too. Invariant: no redirect has left the
    /// server that they are meant for. The server that it led to chooses what follows, a way back
    /// included, so credentials that were dropped stay dropped (Fetch §4.4, HTTP-redirect fetch).
    with_credentials: bool,
}

impl Place {
    /// Where a redirect from here leads.
    fn redirected(&self, url: Url) -> Place {
        let with_credentials = self.with_credentials && self.url.authority() == url.authority();
        Place { url, with_credentials }
    }
}

impl EventSource {
    /// A reader of `url`. It connects when the first event is asked for.
    ///
    /// # Panics
    /// If a header field or the id to begin behind holds CR, LF or NUL.
    pub fn new(url: Url, options: Options) -> EventSource {
        // What cannot be sent shall be found here, not in a thread somewhere, later.
        stream::request(&mut Vec::new(), &url, options.last_event_id.as_bytes(), &options.fields);
        let start = Place { url, with_credentials: true };
        EventSource {
            here: start.clone(),
            start,
            last_event_id: options.last_event_id.clone(),
            policy: Policy::new(options.retry_ms, options.patient),
            options,
            connection: None,
            ended: None,
            link: Arc::default(),
        }
    }

    /// Waits for the next event, over as many connections as it takes.
    ///
    /// # Errors
    /// Why there will never be another one; then every later call gives the same.
    pub fn next_event(&mut self) -> Result<Event, Ended> {
        loop {
            if self.link.is_closed() {
                self.end(Ended::Closed);
            }
            if let Some(ended) = &self.ended {
                return Err(ended.clone());
            }
            match self.advance() {
                Ok(Progress::Event(event)) => return Ok(event),
                Ok(Progress::Connected) => {}
                Ok(Progress::Opened) => {
                    log::debug!("subscribed at {}", self.here.url);
                    self.policy.opened();
                }
                Ok(Progress::Retry(retry_ms)) => self.policy.set_retry_ms(retry_ms),
                Err(outcome) => self.react(&outcome),
            }
        }
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        match &self.connection {
            _ if self.ended.is_some() || self.link.is_closed() => State::Closed,
            Some(connection) if connection.stream.is_open() => State::Open,
            _ => State::Connecting,
        }
    }

    /// Its position: what it will send as `Last-Event-ID` when it reconnects.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// A way to end it from another thread.
    pub fn closer(&self) -> Closer {
        Closer { link: Arc::clone(&self.link) }
    }

    /// Goes on to whatever comes next, which is a connection if there is none.
    fn advance(&mut self) -> Result<Progress, Outcome> {
        let Some(connection) = &mut self.connection else {
            self.connection = Some(self.connect().map_err(|error| {
                log::debug!("cannot connect to {}: {error}", self.here.url);
                Outcome::Unreachable
            })?);
            return Ok(Progress::Connected);
        };
        let progress = connection.advance();
        // A block without data moves the position, though it is no event.
        if connection.stream.last_event_id() != self.last_event_id.as_bytes() {
            self.last_event_id = text(connection.stream.last_event_id());
        }
        progress
    }

    /// A connection to the first address that accepts one, on which the request has been sent.
    fn connect(&self) -> io::Result<Connection> {
        let mut last_error = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in self.here.url.addresses()? {
            // Zero would be an error.
            let timeout = self.options.connect_timeout.max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(socket) => return self.subscribe(socket),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    fn subscribe(&self, socket: TcpStream) -> io::Result<Connection> {
        let silence_timeout = self.options.silence_timeout;
        socket.set_read_timeout(silence_timeout.map(|time| time.max(Duration::from_millis(1))))?;
        // The network, or the peer's machine, may be gone without a word, and a reader that only
        // reads would never find out.
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        let socket = Arc::new(socket);
        self.link.lead_to(&socket)?;
        let id = self.last_event_id.as_bytes();
        let mut request = Vec::new();
        stream::request(&mut request, &self.here.url, id, &self.fields());
        (&*socket).write_all(&request)?;
        Ok(Connection {
            socket,
            stream: Stream::new(self.options.limits, id),
            buffer: vec![0; BUFFER_BYTES],
            unread: 0..0,
        })
    }

    /// The header fields to send where the attempt goes.
    fn fields(&self) -> Vec<(String, String)> {
        let secret = |name: &str| CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known));
        let fields = self.options.fields.iter();
        fields.filter(|(name, _)| self.here.with_credentials || !secret(name)).cloned().collect()
    }

    /// Does what follows from the end of an attempt, waiting included.
    fn react(&mut self, outcome: &Outcome) {
        self.connection = None;
        let next = self.policy.after(&self.here.url, outcome, random());
        log::debug!("{}: {outcome:?}, so {next:?}", self.here.url);
        match next {
            Next::Fail(why) => self.end(Ended::Failed(why)),
            Next::Redirect(url, permanent) => {
                self.here = self.here.redirected(url);
                if permanent {
                    self.start = self.here.clone();
                }
            }
            Next::Retry { after_ms } => {
                self.here = self.start.clone();
                self.link.wait(Duration::from_millis(after_ms), &self.here.url);
            }
        }
    }

    fn end(&mut self, ended: Ended) {
        self.connection = None;
        self.ended.get_or_insert(ended);
    }
}

/// The events, until it has ended for ever.
impl Iterator for EventSource {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.next_event().ok()
    }
}

/// Ends an [`EventSource`] from another thread.
#[derive(Debug, Clone)]
pub struct Closer {
    link: Arc<Link>,
}

impl Closer {
    /// Ends it: [`EventSource::next_event`] gives [`Ended::Closed`] now and ever after. Reading
    /// and waiting end at once; resolving a name or connecting to an address is finished first.
    pub fn close(&self) {
        let mut state = self.link.lock();
        state.closed = true;
        if let Some(socket) = state.socket.upgrade() {
            // An error means that the connection has ended already.
            let _ended = socket.shutdown(Shutdown::Both);
        }
        self.link.changed.notify_all();
    }
}

/// What an [`EventSource`] and its [`Closer`]s share.
#[derive(Debug, Default)]
struct Link {
    state: Mutex<LinkState>,
    /// `closed` has become true.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LinkState {
    closed: bool,
    /// The present connection's. A closer that is kept does not keep the connection.
    socket: Weak<TcpStream>,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, LinkState> {
        // Nobody panics halfway through a change of this state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Closers will shut down `socket` from now on; an error if one wanted to before.
    fn lead_to(&self, socket: &Arc<TcpStream>) -> io::Result<()> {
        let mut state = self.lock();
        if state.closed {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        state.socket = Arc::downgrade(socket);
        Ok(())
    }

    /// Waits for so long before asking `url` again, or until it is closed.
    fn wait(&self, time: Duration, url: &Url) {
        let state = self.lock();
        // Said under the lock: whoever reads it and closes finds the wait begun.
        log::debug!("{url}: waiting for {time:?}");
        drop(self.changed.wait_timeout_while(state, time, |state| !state.closed));
    }
}

#[derive(Debug)]
struct Connection {
    socket: Arc<TcpStream>,
    stream: Stream,
    buffer: Vec<u8>,
    /// The part of the buffer that has been received and not yet looked at.
    unread: Range<usize>,
}

enum Progress {
    Connected,
    Opened,
    Event(Event),
    Retry(u64),
}

impl Connection {
    fn advance(&mut self) -> Result<Progress, Outcome> {
        loop {
            let mut input = &self.buffer[self.unread.clone()];
            let item = self.stream.next(&mut input).map_err(Outcome::Failed)?;
            self.unread.start = self.unread.end - input.len();
            match item {
                Some(Item::Opened) => return Ok(Progress::Opened),
                Some(Item::Message(message)) => return Ok(Progress::Event(Event::of(&message))),
                Some(Item::Retry(retry_ms)) => return Ok(Progress::Retry(retry_ms)),
                // Nothing else was asked for on this connection: its end need not be waited for.
                Some(Item::Ended) => return Err(Outcome::Ended(self.stream.end())),
                None => {}
            }
            if !self.receive() {
                return Err(Outcome::Ended(self.stream.end()));
            }
        }
    }

    /// Waits for more bytes; `false` if none will come, or none have come for too long.
    fn receive(&mut self) -> bool {
        loop {
            match (&*self.socket).read(&mut self.buffer) {
                Ok(count) => {
                    self.unread = 0..count;
                    return count > 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    log::debug!("given up: {error}");
                    return false;
                }
            }
        }
    }
}

impl Event {
    fn of(message: &Message<'_>) -> Event {
        let name = if message.name.is_empty() { b"message" } else { message.name };
        Event { name: text(name), data: text(message.data), last_event_id: text(message.last_id) }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A number that differs from call to call and from process to process: all that is needed to
/// spread readers in time, and what the standard library seeds its hash maps with.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

const BUFFER_BYTES: usize = 16 * 1024;
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
