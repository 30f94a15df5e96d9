//! The probe: all subscribers, the publisher, and the clock, in one process.
//!
//! It takes from each variant the same work, checks every byte of every subscriber, and measures
//! latency from the moment at which an event was *meant* to be published.

use super::connect;
use super::orders::{Answer, Order, Pace, Reader, Run};
use super::stream::{FRAME_BYTES, Reference, append_event};
use crate::load::tally::Distribution;
use crate::sys::{self, Timer};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Carries out the orders that come through `control`, until nobody gives any more.
///
/// # Errors
/// What makes going on impossible.
pub fn run(control: UnixStream) -> Result<(), String> {
    sys::set_descriptor_limit(u64::MAX).map_err(|error| error.to_string())?;
    // A rest of 50 µs would otherwise be one of 100.
    sys::set_timer_slack(Duration::from_micros(1)).map_err(|error| error.to_string())?;
    let mut probe: Option<Probe> = None;
    super::child::serve(control, |order| match (order, &mut probe) {
        (Order::Open { address, topics, subscribers, rcvbuf_bytes, processor }, probe) => {
            sys::bind_to_cpu(processor)
                .map_err(|error| format!("processor {processor}: {error}"))?;
            *probe = None; // the descriptors of the one before are needed
            let opened = Probe::open(address, &topics, subscribers, rcvbuf_bytes)?;
            let subscribers = (topics.len() * subscribers) as u64;
            *probe = Some(opened);
            Ok(Answer { subscribers, ..Answer::default() })
        }
        (_, None) => Err("no subscribers were opened".into()),
        (Order::Run(run), Some(probe)) => probe.run(&run),
        (Order::Pile { topic, events }, Some(probe)) => probe.pile(topic, events),
        (Order::Settle { topic }, Some(probe)) => probe.settle(topic, 0),
        (Order::Receive { topic }, Some(probe)) => probe.receive_all(topic),
    })
}

struct Probe {
    poll: Poll,
    events: Events,
    subscribers: Vec<Subscriber>,
    publisher: TcpStream,
    /// What is still to be sent of the requests.
    requests: Vec<u8>,
    topics: Vec<Topic>,
    /// Subscribers that have something to read.
    announced: Vec<usize>,
    timer: Timer,
    nap_ends_ns: u64,
    buffer: Vec<u8>,
    /// Calls of `read` that found something.
    reads: u64,
    latency_ns: Distribution,
}

struct Subscriber {
    socket: TcpStream,
    topic: usize,
    /// Bytes received since the reference was cleared.
    offset: usize,
    /// Whether it is among those announced.
    unread: bool,
}

struct Topic {
    path: String,
    reference: Reference,
    subscribers: u64,
    /// The number of the next event.
    next_seq: u64,
    /// When each event since the reference was cleared was meant to be published.
    intended_ns: Vec<u64>,
    /// Deliveries since the reference was cleared.
    delivered: u64,
}

impl Probe {
    fn open(
        address: SocketAddr,
        topics: &[String],
        subscribers: usize,
        rcvbuf_bytes: usize,
    ) -> Result<Probe, String> {
        let text = |error: io::Error| error.to_string();
        let poll = Poll::new().map_err(text)?;
        let mut all = Vec::with_capacity(topics.len() * subscribers);
        // The topics take turns, so that none of them has all the early descriptors.
        for nth in 0..topics.len() * subscribers {
            let topic = nth % topics.len();
            let socket = connect::subscribe(address, &topics[topic], rcvbuf_bytes).map_err(text)?;
            let mut socket = TcpStream::from_std(socket);
            poll.registry().register(&mut socket, Token(nth), Interest::READABLE).map_err(text)?;
            all.push(Subscriber { socket, topic, offset: 0, unread: false });
        }
        let publisher = connect::connect(address, 0).map_err(text)?;
        publisher.set_nonblocking(true).map_err(text)?;
        let mut publisher = TcpStream::from_std(publisher);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut publisher, PUBLISHER, interest).map_err(text)?;
        let timer = Timer::new().map_err(text)?;
        let descriptor = timer.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&descriptor), TIMER, Interest::READABLE)
            .map_err(text)?;
        let topics = topics.iter().map(|name| Topic {
            path: format!("/events/{name}"),
            reference: Reference::new(0),
            subscribers: subscribers as u64,
            next_seq: 0,
            intended_ns: Vec::new(),
            delivered: 0,
        });
        Ok(Probe {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            subscribers: all,
            publisher,
            requests: Vec::new(),
            topics: topics.collect(),
            announced: Vec::new(),
            timer,
            nap_ends_ns: 0,
            buffer: vec![0; 256 << 10],
            reads: 0,
            latency_ns: Distribution::default(),
        })
    }

    /// One block.
    fn run(&mut self, run: &Run) -> Result<Answer, String> {
        if self.topics.len() <= run.topic {
            return Err(format!("there is no topic number {}", run.topic));
        }
        self.begin(run.topic);
        let begun_ns = sys::monotonic_ns();
        let mut idle_ns = 0;
        let mut due_ns = begun_ns;
        for _ in 0..run.bursts {
            if let Pace::EveryUs(us) = run.pace {
                idle_ns += self.receive_until(run, Until::Moment(due_ns))?;
                self.publish(run.topic, run.burst, due_ns)?;
                due_ns += us * 1000;
            } else {
                self.publish(run.topic, run.burst, sys::monotonic_ns())?;
                idle_ns += self.receive_until(run, Until::AllHaveAll)?;
            }
        }
        idle_ns += self.receive_until(run, Until::AllHaveAll)?;
        let wall_ns = sys::monotonic_ns() - begun_ns;
        Ok(Answer { wall_ns, idle_ns, ..self.answer(run.topic) })
    }

    /// Publishes while nobody reads.
    fn pile(&mut self, topic: usize, events: usize) -> Result<Answer, String> {
        self.begin(topic);
        self.settle(topic, events)
    }

    /// Publishes `left` events as the server takes them, and waits until nothing moves any more.
    fn settle(&mut self, topic: usize, mut left: usize) -> Result<Answer, String> {
        let mut unread_bytes = 0;
        let mut deadline_ns = sys::monotonic_ns() + SETTLED_AFTER_NS;
        while sys::monotonic_ns() < deadline_ns {
            if left > 0 && self.requests.is_empty() {
                let burst = left.min(PILE_BURST);
                self.publish(topic, burst, sys::monotonic_ns())?;
                left -= burst;
            }
            self.look(Some(Duration::from_millis(1)))?;
            let waiting = self.unread_bytes(topic)?;
            if waiting > unread_bytes || left > 0 || !self.requests.is_empty() {
                unread_bytes = waiting;
                deadline_ns = sys::monotonic_ns() + SETTLED_AFTER_NS;
            }
        }
        Ok(Answer { unread_bytes, ..self.answer(topic) })
    }

    /// Receives what was piled up.
    fn receive_all(&mut self, topic: usize) -> Result<Answer, String> {
        let run = Run { topic, bursts: 0, burst: 0, pace: Pace::Closed, reader: Reader::Spinning };
        let begun_ns = sys::monotonic_ns();
        self.read_announced()?;
        self.receive_until(&run, Until::AllHaveAll)?;
        Ok(Answer { wall_ns: sys::monotonic_ns() - begun_ns, ..self.answer(topic) })
    }

    /// Everybody has everything that was published before.
    fn begin(&mut self, topic: usize) {
        let of_the_topic = self.subscribers.iter_mut().filter(|one| one.topic == topic);
        of_the_topic.for_each(|subscriber| subscriber.offset = 0);
        let topic = &mut self.topics[topic];
        topic.reference.clear();
        topic.intended_ns.clear();
        topic.delivered = 0;
        self.reads = 0;
        self.latency_ns = Distribution::default();
    }

    fn answer(&mut self, topic: usize) -> Answer {
        let topic = &self.topics[topic];
        Answer {
            events: topic.delivered,
            bytes: topic.delivered * FRAME_BYTES as u64,
            checksum: topic.reference.checksum(),
            reads: self.reads,
            latency_ns: std::mem::take(&mut self.latency_ns),
            subscribers: topic.subscribers,
            ..Answer::default()
        }
    }

    /// Sends one request with so many events, all meant for the same moment.
    fn publish(&mut self, topic: usize, burst: usize, intended_ns: u64) -> Result<(), String> {
        let topic = &mut self.topics[topic];
        let mut body = Vec::with_capacity(burst * FRAME_BYTES);
        for _ in 0..burst {
            append_event(topic.next_seq, &mut body);
            topic.next_seq += 1;
            topic.intended_ns.push(intended_ns);
        }
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/event-stream\r\n\
             Content-Length: {}\r\n\r\n",
            topic.path,
            body.len()
        );
        self.requests.extend_from_slice(head.as_bytes());
        self.requests.extend_from_slice(&body);
        self.send()
    }

    /// Sends as much of the requests as the server's receive buffer takes.
    fn send(&mut self) -> Result<(), String> {
        while !self.requests.is_empty() {
            match self.publisher.write(&self.requests) {
                Ok(count) => drop(self.requests.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("the publisher: {error}")),
            }
        }
        Ok(())
    }

    /// Receives, in the way that `run` says. Gives how long there was nothing to receive.
    fn receive_until(&mut self, run: &Run, until: Until) -> Result<u64, String> {
        let (mut idle_ns, mut now_ns) = (0, sys::monotonic_ns());
        let mut given_up_ns = now_ns + PATIENCE_NS;
        let mut seen = self.topics[run.topic].delivered;
        while !until.is_reached(&self.topics[run.topic], now_ns) {
            let reads = self.reads;
            self.rest(run.reader, until, now_ns)?;
            let naps = matches!(run.reader, Reader::NapMs(_));
            let before_ns = std::mem::replace(&mut now_ns, sys::monotonic_ns());
            if !naps || now_ns >= self.nap_ends_ns {
                self.read_announced()?;
            }
            if self.reads == reads {
                idle_ns += sys::monotonic_ns() - before_ns;
            }
            let topic = &self.topics[run.topic];
            if topic.delivered > seen {
                (seen, given_up_ns) = (topic.delivered, now_ns + PATIENCE_NS);
            } else if now_ns > given_up_ns && matches!(until, Until::AllHaveAll) {
                let (delivered, goal) = (topic.delivered, topic.goal());
                return Err(format!("{delivered} of {goal} deliveries came, and no more"));
            }
        }
        Ok(idle_ns)
    }

    /// Waits in the reader's way until there may be something to do, and looks what it is.
    fn rest(&mut self, reader: Reader, until: Until, now_ns: u64) -> Result<(), String> {
        let moment_ns = until.moment_ns().unwrap_or(now_ns + LOOK_AFTER_NS);
        match reader {
            Reader::Spinning => self.look(Some(Duration::ZERO)),
            Reader::Asleep => {
                self.timer.set(moment_ns).map_err(|error| error.to_string())?;
                self.look(None)
            }
            Reader::NapMs(ms) => {
                if now_ns >= self.nap_ends_ns {
                    self.nap_ends_ns = now_ns + ms * 1_000_000;
                }
                // Not in epoll_wait, where every arrival would wake it.
                let until_ns = self.nap_ends_ns.min(moment_ns);
                std::thread::sleep(Duration::from_nanos(until_ns.saturating_sub(now_ns)));
                self.look(Some(Duration::ZERO))
            }
        }
    }

    /// Asks the kernel what there is to do, and notes which subscribers have something to read.
    fn look(&mut self, timeout: Option<Duration>) -> Result<(), String> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled.map_err(|error| error.to_string())?,
        }
        let mut publisher = false;
        for event in &self.events {
            match event.token() {
                PUBLISHER => publisher = true,
                TIMER => {}
                Token(nth) => {
                    let known = std::mem::replace(&mut self.subscribers[nth].unread, true);
                    if !known {
                        self.announced.push(nth);
                    }
                }
            }
        }
        if publisher { self.publisher_ready() } else { Ok(()) }
    }

    /// Looks at the answers only as far as they are refusals: whether an event was taken is seen
    /// at the subscribers.
    fn publisher_ready(&mut self) -> Result<(), String> {
        loop {
            match self.publisher.read(&mut self.buffer) {
                Ok(0) => return Err("the server has closed the publisher's connection".into()),
                Ok(count) if !self.buffer[..count].starts_with(b"HTTP/1.1 200") => {
                    let text = String::from_utf8_lossy(&self.buffer[..count]);
                    return Err(format!("a publish was answered with {text}"));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.send(),
                Err(error) => return Err(format!("the publisher: {error}")),
            }
        }
    }

    fn read_announced(&mut self) -> Result<(), String> {
        for at in 0..self.announced.len() {
            self.read(self.announced[at])?;
        }
        self.announced.clear();
        Ok(())
    }

    /// Reads a subscriber to the end: the kernel announces what comes after that anew.
    fn read(&mut self, nth: usize) -> Result<(), String> {
        let subscriber = &mut self.subscribers[nth];
        let topic = &mut self.topics[subscriber.topic];
        subscriber.unread = false;
        loop {
            let count = match subscriber.socket.read(&mut self.buffer) {
                Ok(0) => return Err(format!("subscriber {nth} was closed")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("subscriber {nth}: {error}")),
            };
            self.reads += 1;
            let received = &self.buffer[..count];
            let checked = topic.reference.take(subscriber.offset, received);
            checked.map_err(|why| format!("subscriber {nth}: {why}"))?;
            let before = subscriber.offset / FRAME_BYTES;
            subscriber.offset += count;
            let after = subscriber.offset / FRAME_BYTES;
            topic.delivered += (after - before) as u64;
            record(&topic.intended_ns[before..after], &mut self.latency_ns);
            // Less than was asked for is all there was.
            if count < self.buffer.len() {
                return Ok(());
            }
        }
    }

    /// Bytes in the receive buffers of a topic's subscribers.
    fn unread_bytes(&self, topic: usize) -> Result<u64, String> {
        let of_the_topic = self.subscribers.iter().filter(|one| one.topic == topic);
        let unread = of_the_topic.map(|one| sys::tcp::unread_bytes(&one.socket));
        let sum: io::Result<usize> = unread.sum();
        sum.map(|bytes| bytes as u64).map_err(|error| error.to_string())
    }
}

impl Topic {
    /// Deliveries since the reference was cleared, once everybody has everything.
    fn goal(&self) -> u64 {
        self.intended_ns.len() as u64 * self.subscribers
    }
}

impl Until {
    fn is_reached(self, topic: &Topic, now_ns: u64) -> bool {
        match self {
            Until::Moment(at_ns) => now_ns >= at_ns,
            Until::AllHaveAll => topic.delivered == topic.goal(),
        }
    }

    fn moment_ns(self) -> Option<u64> {
        match self {
            Until::Moment(at_ns) => Some(at_ns),
            Until::AllHaveAll => None,
        }
    }
}

/// Records the latency of events that have just arrived. Those of a burst were meant for the same
/// moment.
fn record(intended_ns: &[u64], latency_ns: &mut Distribution) {
    let now_ns = sys::monotonic_ns();
    for burst in intended_ns.chunk_by(|a, b| a == b) {
        latency_ns.record_many(now_ns.saturating_sub(burst[0]), burst.len() as u64);
    }
}

#[derive(Debug, Clone, Copy)]
enum Until {
    /// Until then, in nanoseconds of the monotonic clock.
    Moment(u64),
    /// Until every subscriber has everything that was published.
    AllHaveAll,
}

const PUBLISHER: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);
const EVENTS_MAX: usize = 1024;
/// How long nothing may arrive while something is awaited. On a busy machine a server may get no
/// processor for seconds.
const PATIENCE_NS: u64 = 60_000_000_000;
/// How long a reader that sleeps does so at most before it looks at the clock.
const LOOK_AFTER_NS: u64 = 100_000_000;
/// When nothing has moved for so long, nothing moves any more.
const SETTLED_AFTER_NS: u64 = 30_000_000;
/// Events of one request while nobody reads.
const PILE_BURST: usize = 64;
