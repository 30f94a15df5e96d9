//! A listening socket, with its options and the descriptor that is held in reserve for it.

use super::acceptor::Queue;
use crate::config::Config;
use crate::send::socket_knobs::SocketKnobs;
use crate::server::Door;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    door: Door,
    /// Descriptors to be given up when there is no other.
    reserve: Vec<File>,
}

impl Listener {
    /// Listens on `address`: by means of `inherited`, which is bound to it and listens already, or
    /// else of a socket of its own.
    pub(super) fn open(
        address: SocketAddr,
        door: Door,
        config: &Config,
        registry: &Registry,
        token: Token,
        inherited: Option<std::net::TcpListener>,
    ) -> io::Result<Listener> {
        let socket = match inherited {
            Some(socket) => adopt(socket, door, config)?,
            None => listen(address, door, config)?,
        };
        let mut socket = TcpListener::from_std(socket.into());
        registry.register(&mut socket, token, Interest::READABLE)?;
        let address = socket.local_addr()?;
        let reserve = (0..reserve_size(door)).map(|_| File::open("/dev/null"));
        let reserve = reserve.collect::<io::Result<_>>()?;
        Ok(Listener { socket, address, door, reserve })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the options that accepted connections inherit.
    pub(super) fn apply(&self, knobs: &SocketKnobs) {
        if self.door == Door::Public
            && let Err(error) = knobs.apply_to_listener(&SockRef::from(&self.socket))
        {
            log::warn!("{}: {error}", self.address);
        }
    }
}

impl Queue for Listener {
    type Socket = TcpStream;

    fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept()
    }

    fn release_reserve(&mut self) {
        self.reserve.pop();
    }

    fn renew_reserve(&mut self) {
        while self.reserve.len() < reserve_size(self.door)
            && let Ok(descriptor) = File::open("/dev/null")
        {
            self.reserve.push(descriptor);
        }
    }
}

/// How many descriptors are held in reserve. On the public listener one is enough to refuse
/// connections, one after the other. On the admin listener each serves a connection: a scraper, a
/// terminal, and two requests.
fn reserve_size(door: Door) -> usize {
    match door {
        Door::Public => 1,
        Door::Admin => 4,
    }
}

/// A socket that listens already. Who has come to it before it is registered is announced then
/// (`epoll_ctl(2)` looks at the state that it finds).
fn adopt(socket: std::net::TcpListener, door: Door, config: &Config) -> io::Result<Socket> {
    let socket = Socket::from(socket);
    if door == Door::Public {
        config.delivery.socket.apply_to_listener(&SockRef::from(&socket))?;
    }
    Ok(socket)
}

/// A new socket that listens.
fn listen(address: SocketAddr, door: Door, config: &Config) -> io::Result<Socket> {
    let named = |error: io::Error| refusal(address, &error, config);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(named)?;
    // A server that is started again must not wait for its old connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // `[::]` takes connections over IPv4 as well (ipv6(7)), and so the port of an IPv4 address. If that
    // has a socket of its own, this one leaves IPv4 to it.
    let same_port = |other: &&SocketAddr| other.is_ipv4() && other.port() == address.port();
    if address.is_ipv6() && addresses(config).any(|other| same_port(&other)) {
        socket.set_only_v6(true).map_err(named)?;
    }
    if door == Door::Public {
        config.delivery.socket.apply_to_listener(&SockRef::from(&socket))?;
    }
    socket.bind(&address.into()).map_err(named)?;
    socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX)).map_err(named)?;
    Ok(socket)
}

/// All addresses that are listened on.
fn addresses(config: &Config) -> impl Iterator<Item = &SocketAddr> {
    config.listen.iter().chain(&config.admin)
}

/// An error with the address, and with what may be done about it.
fn refusal(address: SocketAddr, error: &io::Error, config: &Config) -> io::Error {
    let failed = |kind, hint: &str| {
        io::Error::new(kind, format!("cannot listen on {address}: {error}{hint}"))
    };
    match error.kind() {
        ErrorKind::AddrInUse => match rival(address, config) {
            Some(rival) if rival == address => {
                failed(ErrorKind::InvalidInput, "; listen and admin name it twice")
            }
            Some(rival) => {
                let hint = format!("; listen or admin also name {rival}, which overlaps with it");
                failed(ErrorKind::InvalidInput, &hint)
            }
            None => failed(error.kind(), "; is another server running? Port 0 takes a free one"),
        },
        ErrorKind::PermissionDenied => failed(error.kind(), "; ports below 1024 need a privilege"),
        ErrorKind::AddrNotAvailable => failed(error.kind(), "; no interface has this address"),
        _ => failed(error.kind(), ""),
    }
}

/// Another address of the configuration that takes the same connections as `address`.
fn rival(address: SocketAddr, config: &Config) -> Option<SocketAddr> {
    let mut own = false;
    let takes_the_same = |other: &&SocketAddr| {
        if **other == address && !std::mem::replace(&mut own, true) {
            return false; // that is the address itself
        }
        let wildcard = other.ip().is_unspecified() || address.ip().is_unspecified();
        other.port() == address.port()
            && other.is_ipv4() == address.is_ipv4()
            && (wildcard || other.ip() == address.ip())
    };
    addresses(config).find(takes_the_same).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_overlap_are_named() {
        let check = |listen: &str, admin: Option<&str>, expected: Option<&str>| {
            let config = Config {
                listen: listen.split(',').map(|at| at.parse().unwrap()).collect(),
                admin: admin.map(|at| at.parse().unwrap()),
                ..Config::default()
            };
            let expected = expected.map(|at| at.parse().unwrap());
            assert_eq!(rival(config.listen[0], &config), expected, "{listen} {admin:?}");
        };
        check("127.0.0.1:1", None, None);
        check("127.0.0.1:1,127.0.0.1:2", Some("127.0.0.2:1"), None);
        check("127.0.0.1:1,127.0.0.1:1", None, Some("127.0.0.1:1"));
        check("127.0.0.1:1", Some("127.0.0.1:1"), Some("127.0.0.1:1"));
        check("0.0.0.0:1,127.0.0.1:1", None, Some("127.0.0.1:1"));
        check("[::1]:1", Some("[::]:1"), Some("[::]:1"));
        check("[::]:1,0.0.0.0:1", None, None);
    }
}
