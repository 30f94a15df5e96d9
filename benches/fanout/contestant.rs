//! Who is compared.

use std::net::SocketAddr;
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// One `send` per event and subscriber, and nothing else: the least that a design with one
    /// call per event can cost.
    Floor,
    /// One `send` per wake-up and subscriber of everything that has arrived since: the least that
    /// any design can cost when events come faster than they can be sent one by one.
    FloorBatched,
    Pushv,
    Axum,
    NetHttp,
    Node,
    Nchan,
}

impl Contestant {
    /// What belongs to this project, and is always there.
    pub const OWN: [Contestant; 3] =
        [Contestant::Floor, Contestant::FloorBatched, Contestant::Pushv];
    pub const PEERS: [Contestant; 4] =
        [Contestant::Axum, Contestant::NetHttp, Contestant::Node, Contestant::Nchan];

    pub fn name(self) -> &'static str {
        match self {
            Contestant::Floor => "floor",
            Contestant::FloorBatched => "floor, batched",
            Contestant::Pushv => "pushv",
            Contestant::Axum => "axum",
            Contestant::NetHttp => "Go net/http",
            Contestant::Node => "node:http",
            Contestant::Nchan => "nchan",
        }
    }

    pub fn is_peer(self) -> bool {
        Contestant::PEERS.contains(&self)
    }
}

/// How to start a contestant.
pub struct Launch {
    pub command: Command,
    /// Where it will listen; `None` if it says so itself, on its first line of output.
    pub address: Option<SocketAddr>,
}
