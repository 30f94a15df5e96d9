//! The contestants while they run, each a process of its own.

use crate::contestant::{Contestant, Launch};
use crate::{peers, process};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The congestion control of every server that can choose. Some systems' default (bbr) paces by
/// timers, which on loopback is nothing but noise.
pub const CONGESTION: &str = "cubic";

fn launch(contestant: Contestant) -> Launch {
    let this_program = |kind| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--serve", kind]);
        Launch { command, address: None }
    };
    match contestant {
        Contestant::Floor => this_program("plain"),
        Contestant::FloorBatched => this_program("batched"),
        Contestant::Axum => this_program("axum"),
        Contestant::Pushv => Launch { command: pushv(), address: None },
        Contestant::NetHttp => peers::net_http(),
        Contestant::Node => peers::node(),
        Contestant::Nchan => peers::nchan(),
    }
}

fn pushv() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushv"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--heartbeat", "off"]);
    command.args(["--tcp-congestion", CONGESTION, "--cpu", "0", "--log", "warn"]);
    command
}

/// A server that is running. Dropped, it is ended.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
}

impl Running {
    pub fn start(contestant: Contestant) -> Running {
        let Launch { mut command, address } = launch(contestant);
        pushv::sys::process::end_with_parent(&mut command);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
        let address = match address {
            Some(address) => {
                wait_until_reachable(address);
                address
            }
            None => {
                let mut line = String::new();
                let stdout = child.stdout.take().expect("piped");
                BufReader::new(stdout).read_line(&mut line).expect("an address");
                let address = line.trim().rsplit('/').next();
                address.and_then(|text| text.parse().ok()).expect("listening http://…")
            }
        };
        Running { child, address }
    }

    /// The time that its threads have been on a processor, once they are done with everything.
    pub fn cpu_at_rest(&self) -> Duration {
        process::cpu_at_rest(&process::tree(self.child.id()))
    }

    /// Its resident memory.
    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(&process::tree(self.child.id()))
    }
}

fn wait_until_reachable(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nobody listens at {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pids: Vec<String> =
            process::tree(self.child.id()).iter().map(ToString::to_string).collect();
        if pids.len() > 1 {
            // A master is ended first, so that it does not replace its worker.
            let kill = format!("kill -KILL {}", pids.join(" "));
            let _status = Command::new("sh").args(["-c", &kill]).status();
        }
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
