//! A wide flush is cut into slices, so that the loop comes round in time.
//!
//! No kernel and no real time here: a write takes 5 µs because the clock is moved by that. What a
//! reactor would do between two turns (accept, read) can happen whenever a turn ends, so the longest
//! turn is what a newcomer waits.

#![allow(clippy::unwrap_used)] // a test may panic

use pushv::config::Config;
use pushv::send::socket_knobs::SocketKnobs;
use pushv::send::transport::Transport;
use pushv::server::{Door, OwnedEvent, Platform, Server, Token};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

const SUBSCRIBERS: usize = 15_000;
const WRITE_NS: u64 = 5_000;

#[derive(Clone, Default)]
struct Clock(Rc<Cell<u64>>);

impl Platform for Clock {
    type Socket = Socket;

    fn now_ns(&self) -> u64 {
        self.0.get()
    }

    fn unix_s(&self) -> u64 {
        0
    }
}

/// A socket that sends one request, and takes everything.
struct Socket {
    clock: Clock,
    request: &'static [u8],
    received: Rc<RefCell<Vec<u8>>>,
}

impl Transport for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let request = std::mem::take(&mut self.request);
        buffer[..request.len()].copy_from_slice(request);
        if request.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(request.len()) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.clock.0.set(self.clock.0.get() + WRITE_NS);
        self.received.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
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
    /// Somebody connects and subscribes. Gives what it receives from now on.
    fn subscribe(&mut self) -> Rc<RefCell<Vec<u8>>> {
        let received = Rc::new(RefCell::new(Vec::new()));
        let request = b"GET /events/a HTTP/1.1\r\nHost: h\r\n\r\n";
        let socket = Socket { clock: self.clock.clone(), request, received: Rc::clone(&received) };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let token: Token = self.server.open(socket, peer, Door::Public).unwrap();
        self.server.readable(token, false);
        received
    }

    fn publish(&mut self, data: &str) {
        let event = OwnedEvent { topic: "a".into(), data: data.into(), ..OwnedEvent::default() };
        self.server.publish(&event).unwrap();
    }

    /// One turn; gives how long it took.
    fn turn(&mut self, meanwhile: impl FnOnce(&mut Scene)) -> u64 {
        let begun_ns = self.clock.now_ns();
        self.server.begin_turn();
        meanwhile(self);
        self.server.end_turn();
        self.clock.now_ns() - begun_ns
    }
}

fn occurrences(received: &RefCell<Vec<u8>>, data: &str) -> usize {
    let line = format!("data: {data}\n");
    received.borrow().windows(line.len()).filter(|window| *window == line.as_bytes()).count()
}

#[test]
fn a_wide_flush_lets_newcomers_in() {
    let clock = Clock::default();
    let config = Config { admin: None, ..Config::default() };
    let slice_ns = config.turn.flush_slice_us * 1000;
    let server = Server::new(config, clock.clone(), 20_000, 0);
    let mut scene = Scene { clock, server };
    let mut all = Vec::new();
    scene.turn(|scene| all.extend((0..SUBSCRIBERS).map(|_| scene.subscribe())));

    let (mut turns, mut longest_ns) = (1, scene.turn(|scene| scene.publish("first")));
    while scene.server.until_next_turn().is_some_and(|wait| wait.is_zero()) {
        let mut newcomer = None;
        let took_ns = scene.turn(|scene| {
            newcomer = Some(scene.subscribe());
            if turns == 5 {
                scene.publish("second");
            }
        });
        let newcomer = newcomer.unwrap();
        assert!(newcomer.borrow().starts_with(b"HTTP/1.1 200 OK"), "answered within its turn");
        all.push(newcomer);
        longest_ns = longest_ns.max(took_ns);
        turns += 1;
    }
    // A newcomer's own answer, and the call that was under way when the slice was over.
    assert!(longest_ns <= slice_ns + 2 * WRITE_NS, "{longest_ns} ns");
    assert!(longest_ns < 10_000_000);
    let least = SUBSCRIBERS as u64 * WRITE_NS / slice_ns;
    assert!(turns > least, "{turns} turns for at least {least} slices");
    for (nth, received) in all.iter().enumerate() {
        let first = occurrences(received, "first");
        assert_eq!(first, usize::from(nth < SUBSCRIBERS), "subscriber {nth}");
        assert_eq!(occurrences(received, "second"), usize::from(nth < SUBSCRIBERS + 5), "{nth}");
    }
}
