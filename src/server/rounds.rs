//! A change of knobs reaches every socket and every topic, some in each turn.
//!
//! There may be many thousands of either, and each costs a call or a cache miss or two: in one turn
//! they would hold the loop. A change that comes while a round is under way begins it again.

use super::{Platform, Server};
use crate::send::transport::Transport;

/// The rounds that are under way: for each, the next slot of its table.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Connections whose sockets get the options that are in force.
    sockets: Option<u32>,
    /// Topics whose flush policy is asked about what it holds back.
    topics: Option<usize>,
}

impl Rounds {
    /// Socket options have changed.
    pub fn begin_sockets(&mut self) {
        self.sockets = Some(0);
    }

    /// Flush policies may have changed.
    pub fn begin_topics(&mut self) {
        self.topics = Some(0);
    }

    pub fn are_under_way(&self) -> bool {
        self.sockets.is_some() || self.topics.is_some()
    }
}

impl<P: Platform> Server<P> {
    /// Goes on with the rounds for a number of slots.
    pub(super) fn go_rounds(&mut self) {
        if let Some(hand) = self.rounds.sockets {
            let slots = self.connections.slots();
            let end = slots.min(hand + SOCKETS_PER_TURN);
            (hand..end).for_each(|slot| self.retune(slot));
            self.rounds.sockets = (end < slots).then_some(end);
        }
        if let Some(hand) = self.rounds.topics {
            let slots = self.hub.topics().slots();
            let end = slots.min(hand + TOPICS_PER_TURN);
            (hand..end).for_each(|slot| self.ask_policy(slot));
            self.rounds.topics = (end < slots).then_some(end);
        }
    }

    /// Sets the options in force on the socket in slot `slot`, if there is one.
    fn retune(&mut self, slot: u32) {
        let Some((key, connection)) = self.connections.at(slot) else { return };
        let home = connection.cursors.as_slice().first().map(|cursor| cursor.topic);
        let knobs = match home {
            Some(topic) => &self.deliveries.of(&self.hub.topics()[topic].name).socket,
            None => &self.deliveries.base().socket,
        };
        // Changes may have come and gone while the round was under way, so which options it has is
        // not known. A socket refuses options when its peer has gone, which will be noticed anyway.
        let socket = &mut self.connections[key].socket;
        if socket.apply(knobs, Some(&knobs.differing())).is_err() {
            log::debug!("conn={key}: the socket's options could not be set");
        }
    }
}

/// Sockets that get their options in one turn: some calls of about half a microsecond each.
pub(super) const SOCKETS_PER_TURN: u32 = 512;
/// Topics that are looked at in one turn; a cache miss or two each.
pub(super) const TOPICS_PER_TURN: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::send::flush::FlushPolicy;
    use crate::send::socket_knobs::SocketKnobs;
    use crate::server::{Door, OwnedEvent};
    use std::cell::Cell;
    use std::io::{self, ErrorKind, IoSlice};
    use std::net::SocketAddr;
    use std::rc::Rc;
    use std::time::Duration;

    /// A world in which nothing happens but options being set, which are counted.
    #[derive(Debug, Clone, Default)]
    struct World {
        applied: Rc<Cell<u32>>,
    }

    impl Platform for World {
        type Socket = Socket;

        fn now_ns(&self) -> u64 {
            1
        }

        fn unix_s(&self) -> u64 {
            0
        }
    }

    /// Has the options that the kernel would have.
    #[derive(Debug)]
    struct Socket {
        request: Vec<u8>,
        lowat_bytes: u32,
        world: World,
    }

    impl Transport for Socket {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let request = std::mem::take(&mut self.request);
            buffer[..request.len()].copy_from_slice(&request);
            if request.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(request.len()) }
        }

        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
            Ok(buffers.iter().map(|buffer| buffer.len()).sum())
        }

        fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn set_cork(&mut self, _: bool) -> io::Result<()> {
            Ok(())
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn apply(&mut self, knobs: &SocketKnobs, before: Option<&SocketKnobs>) -> io::Result<()> {
            let before_bytes = before.map_or(0, |before| before.notsent_lowat_bytes);
            if knobs.notsent_lowat_bytes != before_bytes {
                self.lowat_bytes = knobs.notsent_lowat_bytes;
            }
            self.world.applied.set(self.world.applied.get() + 1);
            Ok(())
        }
    }

    fn server(config: Config, streams: usize) -> (Server<World>, World) {
        let world = World::default();
        let mut server = Server::new(config, world.clone(), streams + 100, 1);
        server.begin_turn();
        for nth in 0..streams {
            let request = format!("GET /events/t{} HTTP/1.1\r\nHost: h\r\n\r\n", nth % 2);
            let socket = Socket { request: request.into(), lowat_bytes: 0, world: world.clone() };
            let token = server.open(socket, SocketAddr::from(([127, 0, 0, 1], 9)), Door::Public);
            server.readable(token.unwrap(), false);
        }
        server.end_turn();
        world.applied.set(0);
        (server, world)
    }

    /// What every socket of an even slot has, and every socket of an odd one.
    fn lowats(server: &Server<World>) -> [u32; 2] {
        let of = |parity: u32| {
            let mut all = server.connections.iter().filter(|(key, _)| key.slot() % 2 == parity);
            let (_, first) = all.next().unwrap();
            let expected = first.socket.lowat_bytes;
            assert!(all.all(|(_, one)| one.socket.lowat_bytes == expected));
            expected
        };
        [of(0), of(1)]
    }

    /// However many sockets there are, a turn sets the options of so many; and in the end each has what
    /// is in force for its topic, even if changes came while a round was under way.
    #[test]
    fn sockets_get_their_options_some_in_each_turn() {
        let streams = SOCKETS_PER_TURN as usize * 5;
        let (mut server, world) = server(Config::default(), streams);
        let config = |general: u32, of_t1: Option<u32>| {
            let mut config = Config::default();
            config.delivery.socket.notsent_lowat_bytes = general;
            let own = of_t1.map(|bytes| ("tcp_notsent_lowat_bytes", bytes.to_string()));
            config.topics.set("t1", own.into_iter().collect()).unwrap();
            config
        };
        let steps = [
            (config(7, None), 2),
            (config(0, Some(9)), 2),
            (config(7, Some(5)), 20),
            (config(0, None), 20),
        ];
        let mut settled = Vec::new();
        for (config, turns) in steps {
            server.reconfigure(config).unwrap();
            for _ in 0..turns {
                server.begin_turn();
                server.end_turn();
                let applied = world.applied.replace(0);
                assert!(applied <= 2 * SOCKETS_PER_TURN, "{applied} in one turn");
                let zero = server.until_next_turn() == Some(Duration::ZERO);
                assert_eq!(zero, server.rounds.are_under_way());
            }
            if !server.rounds.are_under_way() {
                settled.push(lowats(&server));
            }
        }
        assert_eq!(settled, [[7, 5], [0, 0]]);
    }

    /// Whatever a policy has held back, the next one is asked about, some topics in each turn.
    #[test]
    fn topics_are_asked_some_in_each_turn() {
        let topics = TOPICS_PER_TURN * 3;
        let mut held = Config::default();
        held.delivery.flush_policy = FlushPolicy::Buffered { bytes: Some(1 << 20), linger: None };
        let (mut server, _) = server(held, 0);
        for nth in 0..topics {
            let (topic, data) = (nth.to_string(), "x".into());
            server.publish(&OwnedEvent { topic, data, ..OwnedEvent::default() }).unwrap();
        }
        let held_back = |server: &Server<World>| {
            let topics = server.hub.topics().public();
            topics.filter(|(_, topic)| topic.fanout.pending().amount.events > 0).count()
        };
        assert_eq!(held_back(&server), topics);
        server.reconfigure(Config::default()).unwrap();
        let mut left = held_back(&server);
        while left > 0 {
            server.begin_turn();
            server.end_turn();
            let now = held_back(&server);
            assert!(left - now <= TOPICS_PER_TURN, "{} in one turn", left - now);
            assert!(now < left, "some in each turn");
            left = now;
        }
    }
}
