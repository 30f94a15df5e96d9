//! Connections of the probe.

use crate::sys;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Connects, from another source address every thousand times: the ports of connections that were
/// closed are not free again for a minute.
pub(super) fn connect(address: SocketAddr, rcvbuf_bytes: usize) -> io::Result<TcpStream> {
    static CONNECTED: AtomicU32 = AtomicU32::new(0);
    let nth = CONNECTED.fetch_add(1, Ordering::Relaxed);
    let [_, high, middle, low] = (nth / 1000 + 2).to_be_bytes();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    sys::set_bind_address_no_port(&socket)?;
    socket.bind(&SocketAddr::from(([127, high, middle, low], 0)).into())?;
    if rcvbuf_bytes > 0 {
        socket.set_recv_buffer_size(rcvbuf_bytes)?;
    }
    socket.connect(&address.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// Subscribes, and reads up to the end of the stream's prelude: its head, and its first chunk with
/// a comment and a `retry` field, which are different for each subscriber.
pub(super) fn subscribe(
    address: SocketAddr,
    topic: &str,
    rcvbuf_bytes: usize,
) -> io::Result<TcpStream> {
    let mut socket = connect(address, rcvbuf_bytes)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(
        socket,
        "GET /events/{topic} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n"
    )?;
    let mut received = Vec::new();
    let mut buffer = [0; 1024];
    // Nothing is published yet, so nothing follows: the head, the chunk, and its CRLF.
    while !received.ends_with(b"\n\n\r\n") {
        let count = socket.read(&mut buffer)?;
        received.extend_from_slice(&buffer[..count]);
        let refused = received.len() > 12 && !received.starts_with(b"HTTP/1.1 200");
        if count == 0 || refused {
            let text = String::from_utf8_lossy(&received);
            let line = text.lines().next().unwrap_or("the connection was closed");
            return Err(io::Error::other(format!("a subscriber was refused: {line}")));
        }
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

const PATIENCE: Duration = Duration::from_secs(20);
