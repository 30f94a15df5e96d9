//! What is about time to the microsecond: the server on a scripted clock, between scripted sockets.
//!
//! A write takes 5 µs because it moves the clock by that; otherwise time passes when a test says so.

#![allow(clippy::unwrap_used)] // a test may panic

use pushv::config::Config;
use pushv::send::socket_knobs::SocketKnobs;
use pushv::send::transport::Transport;
use pushv::server::{Door, OwnedEvent, Platform, Server, Token};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const SUBSCRIBERS: usize = 15_000;
const WRITE_NS: u64 = 5_000;

#[derive(Clone, Default)]
struct Clock(Rc<Cell<u64>>, Rc<Cell<u64>>);

impl Platform for Clock {
    type Socket = Socket;

    fn now_ns(&self) -> u64 {
        self.0.get()
    }

    fn unix_s(&self) -> u64 {
        self.1.get()
    }
}

/// The client's end of a socket.
#[derive(Clone, Default)]
struct Client {
    /// What it has sent and the server has not read.
    sent: Rc<RefCell<VecDeque<u8>>>,
    received: Rc<RefCell<Vec<u8>>>,
    /// How many bytes it still takes.
    room: Rc<Cell<usize>>,
}

/// A socket that brings what its client sends, and takes what its client has room for.
struct Socket {
    clock: Clock,
    client: Client,
}

impl Transport for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut sent = self.client.sent.borrow_mut();
        if sent.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { sent.read(buffer) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.clock.0.set(self.clock.0.get() + WRITE_NS);
        let count = bytes.len().min(self.client.room.get());
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.client.room.set(self.client.room.get() - count);
        self.client.received.borrow_mut().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        self.write(&bytes)
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn set_cork(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn apply(&mut self, _: &SocketKnobs, _: Option<&SocketKnobs>) -> io::Result<()> {
        Ok(())
    }
}

struct Scene {
    clock: Clock,
    server: Server<Clock>,
}

impl Scene {
    fn new(config: Config) -> Scene {
        let clock = Clock::default();
        Scene { server: Server::new(config, clock.clone(), 20_000, 0), clock }
    }

    /// Somebody connects, subscribes, and has room for so many bytes.
    fn subscribe(&mut self, room: usize) -> (Token, Client) {
        self.connect(room, b"GET /events/a HTTP/1.1\r\nHost: h\r\n\r\n")
    }

    /// Somebody connects, sends something, and has room for so many bytes.
    fn connect(&mut self, room: usize, bytes: &[u8]) -> (Token, Client) {
        let client = Client { room: Rc::new(Cell::new(room)), ..Client::default() };
        let socket = Socket { clock: self.clock.clone(), client: client.clone() };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let token = self.server.open(socket, peer, Door::Public).unwrap();
        self.send(token, &client, bytes);
        (token, client)
    }

    fn send(&mut self, token: Token, client: &Client, bytes: &[u8]) {
        client.sent.borrow_mut().extend(bytes);
        self.server.readable(token, false);
    }

    fn publish(&mut self, data: &str) {
        let event = OwnedEvent { topic: "a".into(), data: data.into(), ..OwnedEvent::default() };
        self.server.publish(&event).unwrap();
    }

    /// One turn, in which `meanwhile` happens; gives how long it took.
    fn turn(&mut self, meanwhile: impl FnOnce(&mut Scene)) -> u64 {
        let begun_ns = self.clock.now_ns();
        self.server.begin_turn();
        meanwhile(self);
        self.server.end_turn();
        self.clock.now_ns() - begun_ns
    }

    /// Lets time pass, with a turn whenever the server wants one.
    fn pass(&mut self, time: Duration) {
        let end_ns = self.clock.now_ns() + time.as_nanos() as u64;
        while self.clock.now_ns() < end_ns {
            self.turn(|_| {});
            let wait = self.server.until_next_turn().unwrap_or(time).as_nanos() as u64;
            let next_ns = self.clock.now_ns() + wait.max(1);
            self.clock.0.set(next_ns.min(end_ns));
        }
    }
}

fn occurrences(client: &Client, data: &str) -> usize {
    let line = format!("data: {data}\n");
    let received = client.received.borrow();
    received.windows(line.len()).filter(|window| *window == line.as_bytes()).count()
}

/// What a reactor would do between two turns, accept and read, can happen whenever a turn ends: the
/// longest turn is what a newcomer waits.
#[test]
fn a_wide_flush_lets_newcomers_in() {
    let config = Config { admin: None, ..Config::default() };
    let slice_ns = config.turn.flush_slice_us * 1000;
    let mut scene = Scene::new(config);
    let mut all = Vec::new();
    scene.turn(|scene| all.extend((0..SUBSCRIBERS).map(|_| scene.subscribe(usize::MAX).1)));

    let (mut turns, mut longest_ns) = (1, scene.turn(|scene| scene.publish("first")));
    while scene.server.until_next_turn().is_some_and(|wait| wait.is_zero()) {
        let mut newcomer = Client::default();
        let took_ns = scene.turn(|scene| {
            newcomer = scene.subscribe(usize::MAX).1;
            if turns == 5 {
                scene.publish("second");
            }
        });
        let answer = b"HTTP/1.1 200 OK";
        assert!(newcomer.received.borrow().starts_with(answer), "answered within its turn");
        all.push(newcomer);
        longest_ns = longest_ns.max(took_ns);
        turns += 1;
    }
    // A newcomer's own answer, and the call that was under way when the slice was over.
    assert!(longest_ns <= slice_ns + 2 * WRITE_NS, "{longest_ns} ns");
    assert!(longest_ns < 10_000_000);
    let least = SUBSCRIBERS as u64 * WRITE_NS / slice_ns;
    assert!(turns > least, "{turns} turns for at least {least} slices");
    for (nth, client) in all.iter().enumerate() {
        assert_eq!(occurrences(client, "first"), usize::from(nth < SUBSCRIBERS), "{nth}");
        assert_eq!(occurrences(client, "second"), usize::from(nth < SUBSCRIBERS + 5), "{nth}");
    }
}

/// The kernel says now and then that there is room where there is none. That is no progress: a
/// stall goes on from where it began. A single byte is.
#[test]
fn a_stall_is_the_absence_of_progress() {
    let mut config = Config { admin: None, ..Config::default() };
    config.times.stall_timeout_ms = 60_000;
    let mut scene = Scene::new(config);
    let (mut stuck, mut slow) = (None, None);
    scene.turn(|scene| {
        stuck = Some(scene.subscribe(100));
        slow = Some(scene.subscribe(100));
    });
    let ((stuck, _), (slow, client)) = (stuck.unwrap(), slow.unwrap());
    let mut lasted_s = 0;
    for elapsed_s in (5..=600).step_by(5) {
        scene.pass(Duration::from_secs(5));
        client.room.set(usize::from(elapsed_s % 50 == 0));
        scene.turn(|scene| {
            scene.server.writable(stuck);
            scene.server.writable(slow);
        });
        if scene.server.socket_mut(stuck).is_some() {
            lasted_s = elapsed_s;
        }
    }
    assert!((55..=65).contains(&lasted_s), "{lasted_s} s");
    assert!(scene.server.socket_mut(slow).is_some(), "it took a byte every 50 s");
}

/// How often a client was answered with this status.
fn answers(client: &Client, status: u16) -> usize {
    let text = String::from_utf8_lossy(&client.received.borrow()).into_owned();
    text.matches(&format!("HTTP/1.1 {status} ")).count()
}

/// An old client sends an empty line behind a body (RFC 9112 §2.2), and its next request later. The
/// deadline of that head runs from the head's first byte, not from the empty line.
#[test]
fn an_empty_line_begins_no_head() {
    let mut config = Config { admin: None, ..Config::default() };
    (config.times.head_timeout_ms, config.times.idle_timeout_ms) = (2_000, 60_000);
    let mut scene = Scene::new(config);
    let post = b"POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx\r\n";
    let (token, client) = scene.connect(usize::MAX, post);
    scene.pass(Duration::from_secs(10));
    assert_eq!((answers(&client, 200), answers(&client, 408)), (1, 0), "it is not told off");
    let half = b"GET /healthz HTTP/1.1\r\n";
    scene.send(token, &client, half);
    scene.pass(Duration::from_millis(1_700));
    assert_eq!(answers(&client, 408), 0, "its time has only begun");
    scene.send(token, &client, b"Host: h\r\n\r\n");
    scene.pass(Duration::from_secs(10));
    assert_eq!((answers(&client, 200), answers(&client, 408)), (2, 0));
    // And it does have a deadline.
    scene.send(token, &client, half);
    scene.pass(Duration::from_secs(3));
    assert_eq!((answers(&client, 200), answers(&client, 408)), (2, 1));
}

/// Requests that were read and wait for earlier answers to be taken are not late: it is the server
/// that lets them wait.
#[test]
fn a_request_that_must_wait_is_not_late() {
    const POSTS: usize = 1500;
    let mut config = Config { admin: None, ..Config::default() };
    (config.times.head_timeout_ms, config.times.stall_timeout_ms) = (1_000, 60_000);
    let mut scene = Scene::new(config);
    let post = b"POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    let (token, client) = scene.connect(0, &post.repeat(POSTS));
    // Many times the deadline, in which the client takes nothing.
    scene.pass(Duration::from_secs(30));
    assert!(!client.sent.borrow().is_empty(), "the server waits, too");
    client.room.set(usize::MAX);
    scene.server.writable(token);
    scene.pass(Duration::from_millis(500));
    assert_eq!((answers(&client, 200), answers(&client, 408)), (POSTS, 0));
    assert!(scene.server.socket_mut(token).is_some(), "it goes on");
}

/// A browser does not close a connection whose stream has ended, and a subscriber has nothing to say
/// that could be in the way of its last bytes: nobody waits for it.
#[test]
fn a_drain_does_not_wait_for_subscribers_to_close() {
    let mut config = Config { admin: None, ..Config::default() };
    (config.times.linger_ms, config.times.drain_ms) = (60_000, 60_000);
    let mut scene = Scene::new(config);
    let mut client = Client::default();
    scene.turn(|scene| client = scene.subscribe(usize::MAX).1);
    scene.turn(|scene| scene.server.drain());
    scene.pass(Duration::from_secs(1));
    assert!(scene.server.is_over());
    assert!(client.received.borrow().ends_with(b"\r\n0\r\n\r\n"));
}

/// The date is set, far ahead and far back: that changes what the server writes as the date, and
/// nothing else. All times are taken from a clock that nobody sets (`CLOCK_MONOTONIC`).
#[test]
fn setting_the_date_moves_no_deadline() {
    let mut scene = Scene::new(Config::default());
    let (token, client) = scene.subscribe(10_000);
    for unix_s in [2_000_000_000, 5, 1_000_000_000] {
        scene.clock.1.set(unix_s);
        let before = client.received.borrow().len();
        scene.pass(Duration::from_secs(10));
        assert_eq!(client.received.borrow().len(), before, "no heartbeat in 10 s");
        scene.publish("x");
        scene.turn(|_| {});
        assert!(client.received.borrow().ends_with(b"\n\n\r\n"));
    }
    scene.pass(Duration::from_secs(17));
    assert_eq!(scene.server.counters().heartbeats, 1);
    assert!(scene.server.socket_mut(token).is_some(), "it is still connected");
    let (_, late) = scene.subscribe(10_000);
    scene.turn(|_| {});
    let head = String::from_utf8(late.received.borrow().clone()).unwrap();
    assert!(head.contains("Date: Sun, 09 Sep 2001 01:46:40 GMT\r\n"), "{head}");
}
