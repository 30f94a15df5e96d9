//! One subscriber: a connection that is opened, read as its plan says, and opened again.

use super::checker::{Checker, Verdict};
use super::notice::{Notice, Topics, Whose};
use super::payload::{self, Found, Known, Stamp};
use super::plan::Plan;
use super::tally::{SPREADS_MAX, Spread, Tally};
use crate::client::stream::{self, Failure, Item, Limits, Stream, StreamEnd};
use crate::client::url::Url;
use crate::sys;
use crate::wire::decode::Message;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::cmp::Ordering;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

/// What all subscribers of a process share.
pub(super) struct Shared {
    pub plan: Plan,
    pub url: Url,
    pub address: SocketAddr,
    /// Which process this is.
    pub worker: usize,
    pub tally: Tally,
    /// The length of this run's events; `None` if it only listens.
    pub data_bytes: Option<usize>,
    /// What a stream may take.
    pub limits: Limits,
    /// What notices of a loss may be about.
    pub topics: Topics,
    /// Events of this run that some subscriber has received.
    pub known: Known,
    /// Events that were meant for this moment or later are measured.
    pub measured_from_ns: u64,
    /// Publishing has begun: a stream that ends now is opened again.
    pub running: bool,
    /// The event that everybody is to have before the next is published, and how many have it.
    pub round: (u64, usize),
    pub buffer: Vec<u8>,
    /// Connections begun so far.
    pub begun: u32,
}

/// What a subscriber is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not been opened yet.
    New,
    /// The connection is being made.
    Connecting,
    /// The request is out.
    Asking,
    /// Its stream has begun.
    Open,
    /// It has lost its stream, and comes back later.
    Away,
    /// It has never had one, or is not to come back.
    Gone,
}

pub(super) struct Subscriber {
    pub socket: Option<TcpStream>,
    pub phase: Phase,
    /// What the kernel has announced was not read to the end.
    pub unread: bool,
    /// It is not to read before its time has come.
    pub resting: bool,
    /// Counts connections, so that a deadline of an earlier one is recognised.
    pub generation: u32,
    pub checker: Checker,
    stream: Stream,
    /// The request, as far as it is not sent.
    unsent: Vec<u8>,
    retry_ms: u64,
    /// Attempts that failed since the last stream.
    failures: u32,
    was_open: bool,
    /// Its last attempt has found no server that answers.
    pub unreachable: bool,
    /// Calls of read.
    reads: u32,
    begun_ns: u64,
    last_arrival_ns: u64,
}

/// How reading ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The socket is empty.
    All,
    /// There is more.
    Some,
    /// The stream is over, for this reason.
    End(String),
}

impl Subscriber {
    pub fn new() -> Subscriber {
        Subscriber {
            socket: None,
            phase: Phase::New,
            unread: false,
            resting: false,
            generation: 0,
            checker: Checker::default(),
            stream: Stream::new(Limits::default(), b""),
            unsent: Vec::new(),
            retry_ms: RETRY_MS,
            failures: 0,
            was_open: false,
            unreachable: false,
            reads: 0,
            begun_ns: 0,
            last_arrival_ns: 0,
        }
    }

    /// Begins to connect. The socket is to be registered then.
    pub fn connect(&mut self, shared: &mut Shared, now_ns: u64) -> io::Result<()> {
        self.generation = self.generation.wrapping_add(1);
        (self.begun_ns, self.unread, self.resting) = (now_ns, false, false);
        let last_event_id = self.stream.last_event_id().to_vec();
        match self.was_open && last_event_id.is_empty() {
            true => self.checker.forget_place(),
            false => self.checker.come_back(),
        }
        self.unsent.clear();
        stream::request(&mut self.unsent, &shared.url, &last_event_id, &shared.plan.fields);
        self.stream = Stream::new(shared.limits, &last_event_id);
        self.phase = Phase::Connecting;
        self.socket = Some(connect(shared)?);
        Ok(())
    }

    /// Its socket has become writable: sends the request.
    pub fn writable(&mut self) -> io::Result<()> {
        let sent = self.send();
        self.unreachable |= sent.is_err();
        sent
    }

    fn send(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        if self.phase == Phase::Connecting {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            if let Err(error) = socket.peer_addr() {
                // Not connected yet; another event will come.
                return if error.kind() == ErrorKind::NotConnected { Ok(()) } else { Err(error) };
            }
            self.phase = Phase::Asking;
        }
        while !self.unsent.is_empty() {
            match socket.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads up to `bytes_max` bytes. With `to_the_end` it goes on until the kernel has no more:
    /// an end that came together with the last bytes is announced once only.
    pub fn receive(&mut self, shared: &mut Shared, bytes_max: usize, to_the_end: bool) -> Received {
        let mut buffer = std::mem::take(&mut shared.buffer);
        let received = self.receive_into(&mut buffer, shared, bytes_max, to_the_end);
        shared.buffer = buffer;
        self.unread = received == Received::Some;
        received
    }

    fn receive_into(
        &mut self,
        buffer: &mut [u8],
        shared: &mut Shared,
        bytes_max: usize,
        to_the_end: bool,
    ) -> Received {
        let mut left = bytes_max;
        while left > 0 {
            let Some(socket) = &mut self.socket else { return Received::All };
            let part = left.min(buffer.len());
            if !shared.plan.prompt_acks && self.reads.is_multiple_of(READS_PER_HINT) {
                // The kernel takes this as a hint, which it forgets when an acknowledgement that it
                // has delayed was not overtaken by another one.
                let _hinted = SockRef::from(&*socket).set_tcp_quickack(false);
            }
            self.reads = self.reads.wrapping_add(1);
            match socket.read(&mut buffer[..part]) {
                Ok(0) => {
                    let why = "the server has closed the connection";
                    let end = self.stream.end();
                    return Received::End(self.over(end, why, &mut shared.tally));
                }
                Ok(count) => {
                    left -= count;
                    self.unreachable = false;
                    shared.tally.reads += 1;
                    shared.tally.bytes += count as u64;
                    if let Some(why) = self.feed(&buffer[..count], shared) {
                        return Received::End(why);
                    }
                    if count < part && !to_the_end {
                        return Received::All;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Received::All,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let (end, why) = (self.stream.broken(), error.to_string());
                    return Received::End(self.over(end, &why, &mut shared.tally));
                }
            }
        }
        Received::Some
    }

    /// Acts on bytes that were received; gives why the stream is over, if it is.
    fn feed(&mut self, mut input: &[u8], shared: &mut Shared) -> Option<String> {
        let now_ns = sys::monotonic_ns();
        loop {
            match self.stream.next(&mut input) {
                Ok(None) => return None,
                Ok(Some(Item::Opened)) => {
                    self.phase = Phase::Open;
                    let first = !std::mem::replace(&mut self.was_open, true);
                    shared.note_open(first, now_ns - self.begun_ns);
                    self.failures = 0;
                    if first && shared.data_bytes.is_some() {
                        self.checker = Checker::new((!shared.running).then_some(0));
                    }
                }
                Ok(Some(Item::Retry(ms))) => self.retry_ms = ms.min(RETRY_MS_MAX),
                Ok(Some(Item::Message(message))) => {
                    shared.note(&message, &mut self.checker, &mut self.last_arrival_ns, now_ns);
                }
                Ok(Some(Item::Ended)) => return Some("the server has ended the stream".into()),
                Err(Failure::NotAStream { status: 200, media_type, .. }) => {
                    let media_type = media_type.unwrap_or_default();
                    return Some(format!(
                        "an answer of type {media_type:?}, not text/event-stream"
                    ));
                }
                Err(Failure::NotAStream { status, .. }) => {
                    return Some(format!("HTTP status {status}"));
                }
                Err(failure @ Failure::Encoded(_)) => return Some(failure.to_string()),
                Err(failure) => {
                    shared.tally.offences.malformed += 1;
                    shared.tally.note_offence(|| format!("malformed: {failure}"));
                    return Some(failure.to_string());
                }
            }
        }
    }

    /// What an end of the connection, for the reason `why`, says of its stream.
    fn over(&mut self, end: StreamEnd, why: &str, tally: &mut Tally) -> String {
        match end {
            StreamEnd::NoAnswer => {
                self.unreachable = true;
                format!("{why} without an answer")
            }
            StreamEnd::Clean => "the server has ended the stream".into(),
            StreamEnd::Cut => {
                tally.offences.malformed += 1;
                let what = "in the middle of a chunk or of an event, or before the last chunk";
                tally.note_offence(|| format!("malformed: {why}, {what}"));
                "the server has cut the stream".into()
            }
        }
    }

    /// Its connection is over. Gives how long to wait before the next one, in milliseconds.
    pub fn leave(&mut self) -> u64 {
        self.socket = None;
        self.phase = Phase::Away;
        let backoff = 1 << self.failures.min(5);
        self.failures += 1;
        (self.retry_ms * backoff).min(RETRY_MS_MAX)
    }
}

impl Shared {
    fn note_open(&mut self, first: bool, took_ns: u64) {
        match first {
            true => self.tally.opened += 1,
            false => self.tally.reconnected += 1,
        }
        self.tally.connect_ns.record(took_ns);
    }

    /// Notes an event that a subscriber has received.
    fn note(
        &mut self,
        message: &Message<'_>,
        checker: &mut Checker,
        last_arrival_ns: &mut u64,
        now_ns: u64,
    ) {
        let tally = &mut self.tally;
        if let Some(id) = message.id {
            checker.note_id(id);
        }
        let Some(data_bytes) = self.data_bytes else {
            if message.name == GAP {
                return self.note_notice(message, checker);
            }
            tally.deliveries += 1;
            let before_ns = std::mem::replace(last_arrival_ns, now_ns);
            if before_ns >= self.measured_from_ns {
                tally.interarrival_ns.record(now_ns - before_ns);
            }
            return;
        };
        let known = checker.next().and_then(|seq| self.known.recall(seq, message.data));
        let found = match known {
            Some(stamp) => Found::Whole(stamp),
            None => payload::find(message.data, self.plan.run, data_bytes),
        };
        match found {
            Found::Whole(stamp) => {
                if known.is_none() {
                    self.known.keep(stamp, message.data);
                }
                self.note_event(stamp, message.id.is_some(), checker, now_ns);
            }
            Found::Altered => {
                tally.offences.altered += 1;
                let data = message.data[..message.data.len().min(200)].escape_ascii();
                tally.note_offence(|| format!("altered: {data}"));
            }
            Found::Foreign if message.name == GAP => self.note_notice(message, checker),
            Found::Foreign => tally.foreign += u64::from(message.name != HEARTBEAT),
        }
    }

    /// Notes an event of this run.
    fn note_event(&mut self, stamp: Stamp, has_id: bool, checker: &mut Checker, now_ns: u64) {
        let tally = &mut self.tally;
        tally.deliveries += 1;
        let before = tally.offences.count();
        let verdict = checker.note(stamp, has_id, &mut tally.offences);
        if tally.offences.count() > before {
            tally.note_offence(|| format!("event {}: {verdict:?}", stamp.seq));
        }
        match stamp.seq.cmp(&self.round.0) {
            _ if verdict == Verdict::Repeated => {}
            Ordering::Less => {}
            Ordering::Equal => self.round.1 += 1,
            // The one before was lost to a subscriber here, and the publisher has waited for it in
            // vain.
            Ordering::Greater => self.round = (stamp.seq, 1),
        }
        if stamp.intended_ns >= self.measured_from_ns {
            tally.latency_ns.record(now_ns.saturating_sub(stamp.intended_ns));
            note_spread(&mut tally.spreads, stamp.seq, now_ns);
        }
    }

    /// Notes that the server has said that events are lost.
    fn note_notice(&mut self, message: &Message<'_>, checker: &mut Checker) {
        let tally = &mut self.tally;
        tally.gaps += 1;
        let listens = self.data_bytes.is_none();
        let noted = Notice::read(message.data).and_then(|notice| {
            match self.topics.whose(notice.topic.as_deref()) {
                Whose::Ours if listens => {
                    // What was published is not known, so the server is believed.
                    tally.told_lost += notice.lost.unwrap_or(0);
                    Ok(())
                }
                Whose::Ours => checker.note_notice(notice, message.last_id),
                Whose::Others => Ok(()),
                Whose::Nobodys => Err("a topic that was not subscribed to".into()),
            }
        });
        if let Err(why) = noted {
            tally.offences.misreported += 1;
            let data = message.data[..message.data.len().min(200)].escape_ascii();
            tally.note_offence(|| format!("misreported: {why}: {data}"));
        }
    }
}

fn note_spread(spreads: &mut Vec<Spread>, seq: u64, now_ns: u64) {
    let Some(at) = usize::try_from(seq).ok().filter(|&at| at < SPREADS_MAX) else { return };
    if spreads.len() <= at {
        spreads.resize(at + 1, Spread::default());
    }
    spreads[at].note(now_ns);
}

/// Begins a connection.
///
/// Towards a loopback address it begins at another source address every thousand times: one
/// source address has some 28,000 ports, and those of closed connections are not free again for a
/// minute.
fn connect(shared: &mut Shared) -> io::Result<TcpStream> {
    let address = shared.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if shared.plan.rcvbuf_bytes > 0 {
        socket.set_recv_buffer_size(shared.plan.rcvbuf_bytes)?;
    }
    if matches!(address, SocketAddr::V4(v4) if v4.ip().is_loopback()) {
        sys::set_bind_address_no_port(&socket)?;
        let source = source_address(shared.worker, shared.begun);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    shared.begun = shared.begun.wrapping_add(1);
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    socket.set_tcp_nodelay(true)?;
    Ok(TcpStream::from_std(socket.into()))
}

/// 127.W.H.L: the worker, and which thousand of its connections.
fn source_address(worker: usize, begun: u32) -> Ipv4Addr {
    let [.., high, low] = (begun / 1000 + 1).to_be_bytes();
    Ipv4Addr::new(127, 1 + (worker % 250) as u8, high, low.clamp(1, 254))
}

/// What to wait before a reconnection unless the server says otherwise. Browsers wait 3 s or 5 s; a
/// load generator that did would measure nothing but that.
const RETRY_MS: u64 = 100;
const RETRY_MS_MAX: u64 = 10_000;
const READS_PER_HINT: u32 = 16;
/// The names of events in which a server, pushv for one, speaks of the stream itself.
const GAP: &[u8] = b"gap";
const HEARTBEAT: &[u8] = b"heartbeat";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_differ() {
        assert_eq!(source_address(0, 0), Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(source_address(0, 999), source_address(0, 0));
        assert_ne!(source_address(0, 1000), source_address(0, 0));
        assert_ne!(source_address(1, 0), source_address(0, 0));
        assert!((0..2_000_000).step_by(1000).all(|begun| source_address(0, begun).is_loopback()));
    }
}
