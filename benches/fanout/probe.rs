//! The probe: all subscribers, the publisher, and the clock.
//!
//! It checks every event of every subscriber (`stream.rs`), and takes from each contestant the
//! same work: whatever differs between two figures is the server's.

use crate::failure::Failure;
use crate::plan::DATA_BYTES;
use crate::servers::Running;
use crate::stream::{Reference, Stream};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use pushv::observe::histogram::Histogram;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The length of the request that publishes an event.
pub const REQUEST_BYTES: usize = REQUEST_HEAD.len() + DATA_BYTES;
const REQUEST_HEAD: &str =
    "POST /events/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
const SUBSCRIBE: &str =
    "GET /events/t HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
const PUBLISHER: Token = Token(usize::MAX);
/// How long nothing at all may arrive while something is awaited.
const PATIENCE: Duration = Duration::from_secs(10);
/// A contestant keeps up with an offered rate if at the end at least this part has arrived.
const KEEPING_UP: f64 = 0.9;

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
    stream: Stream,
}

#[derive(Debug)]
pub struct Flood {
    pub deliveries_per_s: f64,
    pub events_per_read: f64,
}

/// How long events took from the moment at which they were meant to be published.
#[derive(Debug)]
pub struct Latency {
    pub p50_ns: u64,
    pub p99_ns: u64,
}

impl<'s> Probe<'s> {
    /// Opens `count` subscribers, and waits until each has the head of its stream.
    ///
    /// # Errors
    /// If one of them is refused; as do all that follow, if the server does not do its part.
    pub fn new(server: &'s Running, count: usize) -> Result<Probe<'s>, Failure> {
        let poll = Poll::new().expect("epoll");
        let mut subscribers = Vec::with_capacity(count);
        for nth in 0..count {
            let (socket, stream) = subscribe(server.address)?;
            let mut socket = TcpStream::from_std(socket);
            poll.registry()
                .register(&mut socket, Token(nth), Interest::READABLE)
                .expect("registered");
            subscribers.push(Subscriber { socket, stream });
        }
        let publisher = publisher(server.address, &poll)?;
        Ok(Probe {
            server,
            poll,
            events: Events::with_capacity(1024),
            subscribers,
            publisher,
            requests: Vec::new(),
            reference: Reference::default(),
            buffer: vec![0; 256 << 10],
            published: 0,
            delivered: 0,
            reads: 0,
            intended: Vec::new(),
            latency_ns: Histogram::default(),
        })
    }

    /// Publishes `rounds` events, each when everybody has the one before. Gives the server's
    /// processor time per delivery, in nanoseconds, with what it does when all have been sent.
    pub fn rounds(&mut self, rounds: usize) -> Result<f64, Failure> {
        let before = (self.server.cpu_at_rest(), self.delivered);
        for _ in 0..rounds {
            self.publish(Instant::now())?;
            self.wait_for_all()?;
        }
        let cpu = self.server.cpu_at_rest() - before.0;
        Ok(cpu.as_nanos() as f64 / (self.delivered - before.1) as f64)
    }

    /// Publishes `count` events as fast as the server takes them, on a connection of its own: the
    /// one before may have been idle for longer than the server allows.
    pub fn flood(&mut self, count: usize) -> Result<Flood, Failure> {
        self.publisher = publisher(self.server.address, &self.poll)?;
        let (begun, delivered, reads) = (Instant::now(), self.delivered, self.reads);
        for _ in 0..count {
            self.publish(begun)?;
        }
        self.wait_for_all()?;
        let delivered = (self.delivered - delivered) as f64;
        Ok(Flood {
            deliveries_per_s: delivered / begun.elapsed().as_secs_f64(),
            events_per_read: delivered / (self.reads - reads) as f64,
        })
    }

    /// Publishes at a fixed rate, whatever becomes of it.
    pub fn open_rate(&mut self, per_s: f64, duration: Duration) -> Result<Latency, Failure> {
        self.latency_ns.clear();
        let (begun, delivered) = (Instant::now(), self.delivered);
        let interval = Duration::from_secs_f64(1.0 / per_s);
        let count = (duration.as_secs_f64() * per_s) as u32;
        for nth in 0..count {
            let due = begun + interval * nth;
            while Instant::now() < due {
                self.turn()?;
            }
            self.publish(due)?;
        }
        let (delivered, offered) =
            ((self.delivered - delivered) as f64, f64::from(count) * self.subscribers.len() as f64);
        if delivered < KEEPING_UP * offered {
            // How late it is would only be a matter of how long one looks.
            let deliveries_per_s = delivered / begun.elapsed().as_secs_f64();
            return Err(Failure::Behind { deliveries_per_s });
        }
        self.wait_for_all()?;
        Ok(Latency {
            p50_ns: self.latency_ns.quantile(0.5),
            p99_ns: self.latency_ns.quantile(0.99),
        })
    }

    /// The longest time that a new subscriber waits for the first byte of its stream when it comes
    /// while one event is on its way to all others.
    pub fn accept_delay(&mut self, rounds: usize) -> Result<Duration, Failure> {
        let mut longest = Duration::ZERO;
        for _ in 0..rounds {
            self.publish(Instant::now())?;
            // In the middle of the fan-out.
            let goal = self.delivered + self.subscribers.len() / 10;
            while self.delivered < goal {
                self.turn()?;
            }
            let begun = Instant::now();
            let mut late = connect(self.server.address)?;
            late.write_all(SUBSCRIBE.as_bytes()).map_err(closed)?;
            late.set_nonblocking(true).expect("set");
            while matches!(late.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock)
            {
                self.turn()?;
            }
            longest = longest.max(begun.elapsed());
            self.wait_for_all()?;
        }
        Ok(longest)
    }

    fn publish(&mut self, intended: Instant) -> Result<(), Failure> {
        let head = format!("event {} ", self.published);
        self.requests.extend_from_slice(REQUEST_HEAD.as_bytes());
        self.requests.extend_from_slice(head.as_bytes());
        self.requests.resize(self.requests.len() + DATA_BYTES - head.len(), b'x');
        self.published += 1;
        self.intended.push(intended);
        self.send()
    }

    /// Sends as many requests as the server's receive buffer takes.
    fn send(&mut self) -> Result<(), Failure> {
        while !self.requests.is_empty() {
            match self.publisher.write(&self.requests) {
                Ok(count) => drop(self.requests.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Failure::Closed(format!("the publisher: {error}"))),
            }
        }
        Ok(())
    }

    fn wait_for_all(&mut self) -> Result<(), Failure> {
        let goal = self.published * self.subscribers.len();
        let (mut seen, mut deadline) = (self.delivered, Instant::now() + PATIENCE);
        while self.delivered < goal {
            self.turn()?;
            if self.delivered > seen {
                (seen, deadline) = (self.delivered, Instant::now() + PATIENCE);
            } else if Instant::now() > deadline {
                return Err(self.what_is_missing(goal));
            }
        }
        Ok(())
    }

    fn what_is_missing(&self, goal: usize) -> Failure {
        let came = self.reference.events();
        if came < self.published {
            Failure::Lost(format!("{came} of {} came", self.published))
        } else {
            Failure::Stalled(format!("{} of {goal} deliveries came", self.delivered))
        }
    }

    /// Takes what has arrived. Never sleeps: waking a sleeper is the noisiest part of a delivery
    /// on a virtual machine, and a reader that is awake costs every server the same.
    fn turn(&mut self) -> Result<(), Failure> {
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).expect("polled");
        let mut tokens = [PUBLISHER; 1024];
        let mut count = 0;
        for event in &self.events {
            tokens[count] = event.token();
            count += 1;
        }
        for &token in &tokens[..count] {
            match token {
                PUBLISHER => self.publisher_ready()?,
                Token(nth) => self.receive(nth)?,
            }
        }
        Ok(())
    }

    /// Throws the answers away: whether a publish was taken is seen at the subscribers.
    fn publisher_ready(&mut self) -> Result<(), Failure> {
        while matches!(self.publisher.read(&mut self.buffer), Ok(count) if count > 0) {}
        self.send()
    }

    fn receive(&mut self, nth: usize) -> Result<(), Failure> {
        let subscriber = &mut self.subscribers[nth];
        loop {
            let count = match subscriber.socket.read(&mut self.buffer) {
                Ok(0) => return Err(Failure::Closed("a subscriber was closed".into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Failure::Closed(format!("a subscriber: {error}"))),
            };
            self.reads += 1;
            let events = subscriber.stream.take(&self.buffer[..count], &mut self.reference)?;
            self.delivered += events.len();
            let now = Instant::now();
            for intended in &self.intended[events] {
                self.latency_ns.record(now.duration_since(*intended).as_nanos() as u64);
            }
            if count < self.buffer.len() {
                return Ok(());
            }
        }
    }
}

/// Connects, from another source address every thousand times: the ports of connections that were
/// closed are not free again for a minute.
fn connect(address: SocketAddr) -> Result<std::net::TcpStream, Failure> {
    static CONNECTED: AtomicU32 = AtomicU32::new(0);
    let [_, high, middle, low] =
        (CONNECTED.fetch_add(1, Ordering::Relaxed) / 1000 + 2).to_be_bytes();
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    pushv::sys::set_bind_address_no_port(&socket).expect("set");
    socket.bind(&SocketAddr::from(([127, high, middle, low], 0)).into()).expect("bound");
    socket.connect(&address.into()).map_err(closed)?;
    socket.set_tcp_nodelay(true).expect("set");
    Ok(socket.into())
}

fn closed(error: std::io::Error) -> Failure {
    Failure::Closed(error.to_string())
}

fn publisher(address: SocketAddr, poll: &Poll) -> Result<TcpStream, Failure> {
    let socket = connect(address)?;
    socket.set_nonblocking(true).expect("set");
    let mut socket = TcpStream::from_std(socket);
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut socket, PUBLISHER, interest).expect("registered");
    Ok(socket)
}

/// Asks for the stream, and reads the head of the response and the start of the stream.
fn subscribe(address: SocketAddr) -> Result<(std::net::TcpStream, Stream), Failure> {
    let mut socket = connect(address)?;
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket.write_all(SUBSCRIBE.as_bytes()).map_err(closed)?;
    let (mut head, mut prelude) = (Vec::new(), Vec::new());
    let mut stream: Option<Stream> = None;
    loop {
        let mut buffer = [0; 1024];
        let count = socket.read(&mut buffer).map_err(closed)?;
        if count == 0 {
            return Err(Failure::Closed("a subscriber was refused".into()));
        }
        let begun = match &mut stream {
            Some(stream) => stream.begin(&mut prelude, &buffer[..count])?,
            None => {
                head.extend_from_slice(&buffer[..count]);
                let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    continue;
                };
                let (head, rest) = head.split_at(end + 4);
                stream.insert(Stream::new(head)?).begin(&mut prelude, rest)?
            }
        };
        if begun {
            break;
        }
    }
    socket.set_nonblocking(true).expect("set");
    Ok((socket, stream.expect("it has begun")))
}
