//! A server on a scripted clock, with one stream whose kernel says what a test says.

use super::*;
use crate::config::Config;
use crate::observe::tcp_info::TcpInfo;
use crate::send::socket_knobs::SocketKnobs;
use crate::server::OwnedEvent;
use crate::server::connection::ConnectionKey;
use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

/// What the kernel knows, and the time.
#[derive(Debug, Clone, Default)]
struct World(Rc<Cell<Kernel>>);

#[derive(Debug, Clone, Copy, Default)]
struct Kernel {
    now_ns: u64,
    written_bytes: u64,
    tcp: TcpInfo,
}

impl World {
    fn change(&self, change: impl FnOnce(&mut Kernel)) {
        let mut kernel = self.0.get();
        change(&mut kernel);
        self.0.set(kernel);
    }
}

impl Platform for World {
    type Socket = Socket;

    fn now_ns(&self) -> u64 {
        self.0.get().now_ns
    }

    fn unix_s(&self) -> u64 {
        0
    }
}

/// Sends one request, and takes everything.
#[derive(Debug)]
struct Socket {
    request: &'static [u8],
    world: World,
}

impl Transport for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let request = std::mem::take(&mut self.request);
        buffer[..request.len()].copy_from_slice(request);
        if request.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(request.len()) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.world.change(|kernel| kernel.written_bytes += bytes.len() as u64);
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = buffers.iter().map(|buffer| buffer.len()).sum::<usize>();
        self.world.change(|kernel| kernel.written_bytes += bytes as u64);
        Ok(bytes)
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

    fn outstanding_bytes(&self) -> io::Result<u64> {
        let kernel = self.world.0.get();
        Ok(kernel.written_bytes - kernel.tcp.acked_bytes)
    }

    fn tcp_info(&self) -> io::Result<TcpInfo> {
        Ok(self.world.0.get().tcp)
    }
}

/// A server with one stream.
struct Watched {
    world: World,
    server: Server<World>,
    key: ConnectionKey,
}

impl Watched {
    fn new(change: impl FnOnce(&mut Config)) -> Watched {
        let world = World::default();
        let tcp = TcpInfo {
            cwnd_segments: 10,
            mss_bytes: 1448,
            snd_wnd_bytes: Some(65_536),
            rto_us: 204_000,
            ..TcpInfo::default()
        };
        world.change(|kernel| (kernel.now_ns, kernel.tcp) = (SECOND_NS, tcp));
        let mut config = Config::default();
        change(&mut config);
        let mut server = Server::new(config, world.clone(), 1_000, 1);
        let socket =
            Socket { request: b"GET /events/a HTTP/1.1\r\nHost: h\r\n\r\n", world: world.clone() };
        server.begin_turn();
        let token = server.open(socket, SocketAddr::from(([127, 0, 0, 1], 9)), Door::Public);
        let token = token.expect("there is room");
        server.readable(token, false);
        server.end_turn();
        let mut watched = Watched { world, server, key: token.key };
        watched.acknowledge();
        watched
    }

    fn publish(&mut self, bytes: usize) {
        let data = "x".repeat(bytes);
        let event = OwnedEvent { topic: "a".into(), data, ..OwnedEvent::default() };
        self.server.begin_turn();
        self.server.publish(&event).expect("published");
        self.server.end_turn();
    }

    /// Everything that was written is acknowledged.
    fn acknowledge(&mut self) {
        self.world.change(|kernel| {
            kernel.tcp.acked_bytes = kernel.written_bytes;
            (kernel.tcp.unsent_bytes, kernel.tcp.in_flight_segments) = (0, 0);
        });
    }

    /// The last `bytes` that were written are held back while a segment is in flight.
    fn hold_back(&mut self, bytes: u32) {
        self.world.change(|kernel| {
            (kernel.tcp.unsent_bytes, kernel.tcp.in_flight_segments) = (bytes, 1);
            kernel.tcp.last_sent_ms = 15;
        });
    }

    /// Time passes, and the sweep comes by everything.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.world.change(|kernel| kernel.now_ns += 10_000_000);
            self.server.begin_turn();
            self.server.end_turn();
        }
    }

    fn stream(&self) -> &Connection<Socket> {
        &self.server.connections[self.key]
    }
}

/// What `/connections` sorts by: a heartbeat does not make a megabyte of what was acknowledged
/// outstanding again.
#[cfg(feature = "admin")]
#[test]
fn a_heartbeat_outweighs_nothing() {
    let mut watched = Watched::new(|config| config.times.heartbeat_ms = 5_000);
    watched.publish(50_000);
    watched.acknowledge();
    watched.pass(4_000);
    assert!(watched.stream().watch.is_none());
    watched.pass(1_100);
    assert_eq!(watched.server.counters.heartbeats, 1);
    assert!(watched.stream().watch.is_some());
    assert_eq!(watched.stream().outstanding_when_seen_bytes(), 0, "it was not looked at");
    assert_eq!(watched.stream().verdict(watched.server.now_ns), Verdict::Flowing);
}

#[test]
fn an_idle_stream_is_not_remembered() {
    let mut watched = Watched::new(|config| config.times.heartbeat_ms = 60_000);
    watched.publish(100);
    watched.hold_back(50);
    watched.pass(1_100);
    assert_eq!(watched.server.counters.nagle_stalls, 1);
    assert!(watched.stream().watch.is_some());
    watched.acknowledge();
    watched.pass(1_100);
    assert!(watched.stream().watch.is_none());
    assert_eq!(watched.stream().nagle_stalls, 1);
}

#[test]
fn a_stall_counts_once_whoever_looks_and_how_often() {
    let mut watched = Watched::new(|config| config.observe.observe_ms = 1_000);
    for stalls in 1..=3 {
        watched.publish(100);
        watched.hold_back(50);
        watched.pass(2_100);
        for _ in 0..10 {
            assert!(watched.server.look(watched.key).unwrap().is_held_by_nagle());
        }
        watched.pass(1_000);
        assert_eq!(watched.server.counters.nagle_stalls, stalls);
        watched.acknowledge();
        watched.server.look(watched.key);
    }
    assert_eq!(watched.stream().nagle_stalls, 3);
}

#[test]
fn a_look_of_an_operator_counts_no_stall() {
    let mut watched = Watched::new(|config| config.observe.observe_ms = 0);
    watched.publish(100);
    watched.hold_back(50);
    for _ in 0..10 {
        assert!(watched.server.look(watched.key).unwrap().is_held_by_nagle());
        watched.pass(100);
    }
    assert_eq!(watched.server.counters.nagle_stalls, 0);
}

/// What nothing renews is not kept as what is.
#[test]
fn without_a_sweep_that_looks_nothing_seen_is_kept() {
    let mut watched = Watched::new(|config| config.observe.observe_ms = 1_000);
    watched.publish(100);
    watched.world.change(|kernel| {
        (kernel.tcp.retransmits, kernel.tcp.retransmitted_segments) = (1, 1);
    });
    watched.pass(1_100);
    assert_eq!(watched.stream().verdict(watched.server.now_ns), Verdict::Network);
    let mut config = watched.server.config.clone();
    config.observe.observe_ms = 0;
    watched.server.reconfigure(config).expect("valid");
    watched.pass(1_100);
    watched.server.look(watched.key);
    assert_eq!(watched.stream().verdict(watched.server.now_ns), Verdict::Idle);
}

/// With `observe_ms = 0` interruptions are forgotten as the next one comes.
#[test]
fn heartbeats_do_not_pile_up() {
    let mut watched = Watched::new(|config| {
        (config.observe.observe_ms, config.times.heartbeat_ms) = (0, 100);
    });
    for _ in 0..20 {
        watched.pass(200);
        watched.acknowledge();
    }
    assert!(watched.server.counters.heartbeats >= 10);
    let watch = watched.stream().watch.as_ref().unwrap();
    assert!(
        watch.breaks.len() <= 2,
        "{}: those since the last acknowledgement",
        watch.breaks.len()
    );
}

const SECOND_NS: u64 = 1_000_000_000;
