//! The contestants, each a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// One `send` per event and subscriber, and nothing else: the least that a design with one
    /// call per event can cost.
    Floor,
    /// One `send` per wake-up and subscriber of everything that has arrived since: the least that
    /// any design can cost when events come faster than they can be sent one by one.
    FloorBatched,
    Pushv,
}

impl Contestant {
    pub const ALL: [Contestant; 3] =
        [Contestant::Floor, Contestant::FloorBatched, Contestant::Pushv];

    pub fn name(self) -> &'static str {
        match self {
            Contestant::Floor => "floor",
            Contestant::FloorBatched => "floor, batched",
            Contestant::Pushv => "pushv",
        }
    }
}

/// The congestion control of every server. Some systems' default (bbr) paces by timers, which on
/// loopback is nothing but noise.
pub const CONGESTION: &str = "cubic";

/// A server that is running. Dropped, it is ended.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
}

impl Running {
    pub fn start(contestant: Contestant) -> Running {
        let mut command = match contestant {
            Contestant::Pushv => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_pushv"));
                let arguments = [
                    "serve",
                    "--listen",
                    "127.0.0.1:0",
                    "--admin",
                    "off",
                    "--tcp-congestion",
                    CONGESTION,
                    "--heartbeat",
                    "off",
                    "--cpu",
                    "0",
                    "--log",
                    "warn",
                ];
                command.args(arguments);
                command
            }
            Contestant::Floor | Contestant::FloorBatched => {
                let kind = if contestant == Contestant::Floor { "plain" } else { "batched" };
                let mut command = Command::new(std::env::current_exe().expect("this program"));
                command.args(["--serve", kind]);
                command
            }
        };
        let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("an address");
        let address = line.trim().rsplit('/').next().and_then(|address| address.parse().ok());
        Running { child, address: address.expect("listening http://…") }
    }

    /// The time that the server's thread has been on a processor, as the scheduler counts it
    /// (`/proc/PID/schedstat`, first field), once it is done with everything: what it does after
    /// its last `send` is part of the price, and only when it goes to sleep is its account exact.
    pub fn cpu_at_rest(&self) -> Duration {
        let deadline = Instant::now() + Duration::from_millis(100);
        while self.proc("stat").contains(") R ") && Instant::now() < deadline {}
        let ns = self.proc("schedstat").split(' ').next().and_then(|field| field.parse().ok());
        Duration::from_nanos(ns.expect("nanoseconds"))
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it is running")
    }

    /// Its resident memory.
    pub fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()));
        let text = text.expect("statm");
        let pages: Option<u64> = text.split(' ').nth(1).and_then(|field| field.parse().ok());
        pages.expect("pages") * pushv::sys::page_bytes()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
