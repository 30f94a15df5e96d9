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
    let named = |error: io::Error| {
        let hint = match error.kind() {
            ErrorKind::AddrInUse => "; is another server running? Port 0 takes a free one",
            ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
    };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(named)?;
    // A server that is started again must not wait for its old connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if door == Door::Public {
        config.delivery.socket.apply_to_listener(&SockRef::from(&socket))?;
    }
    socket.bind(&address.into()).map_err(named)?;
    socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX)).map_err(named)?;
    Ok(socket)
}
