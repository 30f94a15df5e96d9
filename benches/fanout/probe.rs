//! The probe: all subscribers, the publisher, and the clock.
//!
//! Every subscriber must receive the same bytes. Whoever is ahead extends the reference, which is
//! decoded and checked event by event; everybody else's bytes are compared with it. So every
//! event of every subscriber is checked, at the cost of a comparison.

use crate::servers::Running;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use pushv::observe::histogram::Histogram;
use pushv::wire::chunk;
use pushv::wire::decode::{Decoder, Item};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The length of an event's data.
pub const DATA_BYTES: usize = 100;
/// The length of the request that publishes an event.
pub const REQUEST_BYTES: usize = REQUEST_HEAD.len() + DATA_BYTES;
const REQUEST_HEAD: &str =
    "POST /events/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
const SUBSCRIBE: &str = "GET /events/t HTTP/1.1\r\nHost: localhost\r\n\r\n";
const PUBLISHER: Token = Token(usize::MAX);
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Probe<'s> {
    server: &'s Running,
    poll: Poll,
    events: Events,
    subscribers: Vec<Subscriber>,
    publisher: TcpStream,
    /// Requests that are still to be sent.
    requests: Vec<u8>,
    reference: Reference,
    buffer: Vec<u8>,
    published: usize,
    /// Deliveries that have arrived, of all subscribers together.
    delivered: usize,
    reads: usize,
    /// When each event was meant to be published, and how long it took to each subscriber.
    intended: Vec<Instant>,
    latency_ns: Histogram,
}

struct Subscriber {
    socket: TcpStream,
    /// How far it is in the reference, in bytes and in events.
    offset: usize,
    events: usize,
}

/// What every subscriber receives after the head of its stream.
struct Reference {
    bytes: Vec<u8>,
    /// The offset behind each event.
    ends: Vec<usize>,
    chunks: chunk::Decoder,
    decoder: Decoder,
}

#[derive(Debug)]
pub struct Flood {
    pub deliveries_per_s: f64,
    pub events_per_read: f64,
}

impl<'s> Probe<'s> {
    /// Opens `count` subscribers, and waits until each has the head of its stream.
    pub fn new(server: &'s Running, count: usize) -> Probe<'s> {
        let poll = Poll::new().expect("epoll");
        let mut subscribers = Vec::with_capacity(count);
        for nth in 0..count {
            let mut socket = connect(server.address);
            begin_stream(&mut socket);
            let mut socket = TcpStream::from_std(socket);
            poll.registry()
                .register(&mut socket, Token(nth), Interest::READABLE)
                .expect("registered");
            subscribers.push(Subscriber { socket, offset: 0, events: 0 });
        }
        let publisher = connect(server.address);
        publisher.set_nonblocking(true).expect("set");
        let mut publisher = TcpStream::from_std(publisher);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut publisher, PUBLISHER, interest).expect("registered");
        let decoder = Decoder::new(1 << 20);
        let reference = Reference {
            bytes: Vec::new(),
            ends: Vec::new(),
            chunks: chunk::Decoder::default(),
            decoder,
        };
        Probe {
            server,
            poll,
            events: Events::with_capacity(1024),
            subscribers,
            publisher,
            requests: Vec::new(),
            reference,
            buffer: vec![0; 256 << 10],
            published: 0,
            delivered: 0,
            reads: 0,
            intended: Vec::new(),
            latency_ns: Histogram::default(),
        }
    }

    /// Publishes `rounds` events, each when everybody has the one before. Gives the server's
    /// processor time per delivery, in nanoseconds.
    pub fn rounds(&mut self, rounds: usize) -> f64 {
        let before = (self.server.cpu(), self.delivered);
        for _ in 0..rounds {
            self.round();
        }
        let cpu = self.server.cpu() - before.0;
        cpu.as_nanos() as f64 / (self.delivered - before.1) as f64
    }

    fn round(&mut self) {
        self.publish(Instant::now());
        self.wait_for_all();
    }

    /// Publishes `count` events as fast as the server takes them.
    pub fn flood(&mut self, count: usize) -> Flood {
        let (begun, delivered, reads) = (Instant::now(), self.delivered, self.reads);
        for _ in 0..count {
            self.publish(begun);
        }
        self.wait_for_all();
        let delivered = (self.delivered - delivered) as f64;
        Flood {
            deliveries_per_s: delivered / begun.elapsed().as_secs_f64(),
            events_per_read: delivered / (self.reads - reads) as f64,
        }
    }

    /// Publishes at a fixed rate, whatever becomes of it. Gives the time from the intended moment
    /// of each event to its arrival at each subscriber, in nanoseconds.
    pub fn open_rate(&mut self, per_s: f64, duration: Duration) -> Histogram {
        self.round();
        self.latency_ns.clear();
        let begun = Instant::now();
        let interval = Duration::from_secs_f64(1.0 / per_s);
        let count = (duration.as_secs_f64() * per_s) as u32;
        for nth in 0..count {
            let due = begun + interval * nth;
            while Instant::now() < due {
                self.turn();
            }
            self.publish(due);
        }
        self.wait_for_all();
        self.latency_ns.clone()
    }

    /// The longest time that a new subscriber waits for the first byte of its stream when it comes
    /// while one event is on its way to all others.
    pub fn accept_delay(&mut self, rounds: usize) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..rounds {
            self.publish(Instant::now());
            // In the middle of the fan-out.
            let goal = self.delivered + self.subscribers.len() / 10;
            while self.delivered < goal {
                self.turn();
            }
            let begun = Instant::now();
            let mut late = connect(self.server.address);
            late.write_all(SUBSCRIBE.as_bytes()).expect("sent");
            late.set_nonblocking(true).expect("set");
            while matches!(late.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock)
            {
                self.turn();
            }
            longest = longest.max(begun.elapsed());
            self.wait_for_all();
        }
        longest
    }

    fn publish(&mut self, intended: Instant) {
        let head = format!("event {} ", self.published);
        self.requests.extend_from_slice(REQUEST_HEAD.as_bytes());
        self.requests.extend_from_slice(head.as_bytes());
        self.requests.resize(self.requests.len() + DATA_BYTES - head.len(), b'x');
        self.published += 1;
        self.intended.push(intended);
        self.send();
    }

    /// Sends as many requests as the server's receive buffer takes.
    fn send(&mut self) {
        while !self.requests.is_empty() {
            match self.publisher.write(&self.requests) {
                Ok(count) => drop(self.requests.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the publisher: {error}"),
            }
        }
    }

    fn wait_for_all(&mut self) {
        let goal = self.published * self.subscribers.len();
        let deadline = Instant::now() + PATIENCE;
        while self.delivered < goal {
            self.turn();
            assert!(Instant::now() < deadline, "{} of {goal} deliveries", self.delivered);
        }
    }

    /// Takes what has arrived. Never sleeps: waking a sleeper is the noisiest part of a delivery
    /// on a virtual machine, and a reader that is awake costs every server the same.
    fn turn(&mut self) {
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).expect("polled");
        let mut tokens = [PUBLISHER; 1024];
        let mut count = 0;
        for event in &self.events {
            tokens[count] = event.token();
            count += 1;
        }
        for &token in &tokens[..count] {
            match token {
                PUBLISHER => self.publisher_ready(),
                Token(nth) => self.receive(nth),
            }
        }
    }

    /// Throws the answers away.
    fn publisher_ready(&mut self) {
        while matches!(self.publisher.read(&mut self.buffer), Ok(count) if count > 0) {}
        self.send();
    }

    fn receive(&mut self, nth: usize) {
        let subscriber = &mut self.subscribers[nth];
        loop {
            let count = match subscriber.socket.read(&mut self.buffer) {
                Ok(0) => panic!("subscriber {nth} was closed"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("subscriber {nth}: {error}"),
            };
            self.reads += 1;
            self.reference.check(subscriber.offset, &self.buffer[..count]);
            subscriber.offset += count;
            let before = subscriber.events;
            while self
                .reference
                .ends
                .get(subscriber.events)
                .is_some_and(|&end| end <= subscriber.offset)
            {
                subscriber.events += 1;
            }
            self.delivered += subscriber.events - before;
            let now = Instant::now();
            for intended in &self.intended[before..subscriber.events] {
                self.latency_ns.record(now.duration_since(*intended).as_nanos() as u64);
            }
            if count < self.buffer.len() {
                return;
            }
        }
    }
}

impl Reference {
    /// Compares what a subscriber received at `offset` with what others did, or decodes it if
    /// nobody did yet.
    fn check(&mut self, offset: usize, received: &[u8]) {
        let known = (self.bytes.len() - offset).min(received.len());
        assert!(
            self.bytes[offset..offset + known] == received[..known],
            "bytes differ at {offset}"
        );
        self.extend(&received[known..]);
    }

    fn extend(&mut self, mut new: &[u8]) {
        while !new.is_empty() {
            let part = self.chunks.decode(new).expect("well-formed chunks");
            self.bytes.extend_from_slice(&new[..part.consumed]);
            new = &new[part.consumed..];
            let mut data = part.data;
            while let Some(item) = self.decoder.next(&mut data).expect("well-formed events") {
                let Item::Message(message) = item else { continue };
                let expected = format!("event {} ", self.ends.len());
                assert!(
                    message.data.starts_with(expected.as_bytes()),
                    "{message:?} for {expected}"
                );
                // The frame ends with the chunk, two bytes on.
                self.ends.push(self.bytes.len() + 2);
            }
        }
    }
}

/// Connects, from another source address every thousand times: the ports of connections that were
/// closed are not free again for a minute.
fn connect(address: SocketAddr) -> std::net::TcpStream {
    static CONNECTED: AtomicU32 = AtomicU32::new(0);
    let [_, high, middle, low] =
        (CONNECTED.fetch_add(1, Ordering::Relaxed) / 1000 + 2).to_be_bytes();
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    pushv::sys::set_bind_address_no_port(&socket).expect("set");
    socket.bind(&SocketAddr::from(([127, high, middle, low], 0)).into()).expect("bound");
    socket.connect(&address.into()).expect("connected");
    socket.set_tcp_nodelay(true).expect("set");
    socket.into()
}

/// Asks for the stream and reads to the end of its first chunk.
fn begin_stream(socket: &mut std::net::TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket.write_all(SUBSCRIBE.as_bytes()).expect("sent");
    let mut received = Vec::new();
    while !received.ends_with(b"\n\n\r\n") {
        let mut buffer = [0; 1024];
        let count = socket.read(&mut buffer).expect("a head");
        assert!(count > 0, "refused");
        received.extend_from_slice(&buffer[..count]);
    }
    socket.set_nonblocking(true).expect("set");
}
