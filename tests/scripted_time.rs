//! What is about time to the microsecond: the server on a scripted clock, between scripted sockets.
//!
//! A write takes 5 µs because it moves the clock by that; otherwise time passes when a test says so.

#![allow(clippy::unwrap_used)] // a test may panic

use pushv::config::Config;
use pushv::send::socket_knobs::SocketKnobs;
use pushv::send::transport::Transport;
use pushv::server::{Door, OwnedEvent, Platform, Server, Token};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
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
    received: Rc<RefCell<Vec<u8>>>,
    /// How many bytes it still takes.
    room: Rc<Cell<usize>>,
}

/// A socket that sends one request, and takes what its client has room for.
struct Socket {
    clock: Clock,
    request: &'static [u8],
    client: Client,
}

impl Transport for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let request = std::mem::take(&mut self.request);
        buffer[..request.len()].copy_from_slice(request);
        if request.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(request.len()) }
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
        let client = Client { room: Rc::new(Cell::new(room)), ..Client::default() };
        let request = b"GET /events/a HTTP/1.1\r\nHost: h\r\n\r\n";
        let socket = Socket { clock: self.clock.clone(), request, client: client.clone() };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let token = self.server.open(socket, peer, Door::Public).unwrap();
        self.server.readable(token, false);
        (token, client)
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
