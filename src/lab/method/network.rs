//! The network between the processes of an experiment.
//!
//! Loopback as it comes has segments of 64 KB and send buffers of megabytes, the system's
//! congestion control, which may pace, and other people's traffic. In a network namespace of its
//! own the lab gives it an Ethernet's segments and takes none of that from anybody else.

use super::record::Network;
use crate::sys::network;
use socket2::SockRef;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

/// The maximum transmission unit that loopback gets, in bytes: an Ethernet's.
pub const MTU_BYTES: u32 = 1500;

/// The congestion control that connections get, if it can be had: it sends what the window permits
/// without pacing, so that what is measured is the write path.
pub const CONGESTION: &str = "cubic";

/// The one that everybody may have, and that does not pace either.
const CONGESTION_OF_ALL: &str = "reno";

/// Gives a socket the best congestion control that it may have, and tells its name.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn choose_congestion(socket: &SockRef<'_>) -> io::Result<&'static str> {
    match socket.set_tcp_congestion(CONGESTION.as_bytes()) {
        Ok(()) => Ok(CONGESTION),
        Err(_) => {
            socket.set_tcp_congestion(CONGESTION_OF_ALL.as_bytes()).map(|()| CONGESTION_OF_ALL)
        }
    }
}

/// Enters a private network namespace, if that is wanted and permitted, and tells what the network
/// is like. That there is none is not fatal: it is told.
///
/// The calling thread enters it, and with it whatever it starts later, so that this must be called
/// before there are other threads; see [`network::unshare_network`].
pub fn prepare(wanted: bool) -> Network {
    let entered = if wanted { enter() } else { Err("not wanted".to_string()) };
    Network {
        private: entered.is_ok(),
        mtu_bytes: network::loopback_mtu().unwrap_or(0),
        congestion: congestion().unwrap_or_default(),
        why_not: entered.err(),
    }
}

fn enter() -> Result<(), String> {
    network::unshare_network().map_err(|why| match why.kind() {
        io::ErrorKind::InvalidInput => "no network namespace: this user needs a user namespace \
             for it, which a process that has several threads cannot get"
            .to_string(),
        _ => format!("no network namespace: {why}"),
    })?;
    network::set_loopback(MTU_BYTES).map_err(|why| format!("loopback in the namespace: {why}"))?;
    // Thousands of connections to one listener want more ports than the 28,000 that are usual. If
    // that fails, there are those.
    let _usual = fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535");
    // What became of it is asked of a connection.
    if fs::write("/proc/sys/net/ipv4/tcp_congestion_control", CONGESTION).is_err() {
        choose_congestion_by_route();
    }
    Ok(())
}

/// Only the first namespace may choose a congestion control that the system does not give to
/// everybody; but a route may name it, to one who still has his rights when ip(8) runs.
fn choose_congestion_by_route() {
    for destination in ["127.0.0.0/8", "127.0.0.1"] {
        let route = format!(
            "route replace local {destination} dev lo table local proto kernel scope host \
             src 127.0.0.1 congctl {CONGESTION}"
        );
        let mut ip = Command::new("ip");
        ip.args(route.split(' ')).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _not_installed_or_not_permitted = ip.status();
    }
}

/// What a connection has that was accepted on loopback and did not choose, if that is the one
/// wanted; otherwise the best that the processes may choose. The connection is asked, since not
/// only the system but also a route may say so.
fn congestion() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let _client = TcpStream::connect(listener.local_addr()?)?;
    let (accepted, _) = listener.accept()?;
    let name = SockRef::from(&accepted).tcp_congestion()?;
    let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_string();
    Ok(match () {
        () if name == CONGESTION || may_be_chosen(CONGESTION) => CONGESTION.into(),
        () if may_be_chosen(CONGESTION_OF_ALL) => CONGESTION_OF_ALL.into(),
        () => name,
    })
}

/// Whether a process that is started from here may choose it. This one may have rights in a user
/// namespace that it does not hand on.
fn may_be_chosen(congestion: &str) -> bool {
    let allowed = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = fs::read_to_string(allowed).unwrap_or_default();
    let is_root = || fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    allowed.split_whitespace().any(|name| name == congestion) || is_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_network_that_is_there_is_told() {
        let found = prepare(false);
        assert!(!found.private && found.mtu_bytes >= 1280 && !found.congestion.is_empty());
        assert_eq!(found.why_not.as_deref(), Some("not wanted"));
    }

    /// In a thread of its own, since the thread stays there.
    #[test]
    fn a_private_network_is_like_an_ethernet() {
        let (found, carries) = std::thread::spawn(|| (prepare(true), congestion())).join().unwrap();
        if let Some(why) = &found.why_not {
            return writeln!(io::stderr(), "SKIPPED: {why}").unwrap();
        }
        assert!(found.private && found.mtu_bytes == MTU_BYTES, "{found:?}");
        assert_eq!(carries.unwrap(), found.congestion);
    }
}
