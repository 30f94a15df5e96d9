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
            return Err(io::Error::other(format!("a subscriber was refused: {}", why(&received))));
        }
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What a server that has no stream for a subscriber means. One without room answers 200 and ends the
/// stream at once, because any other answer would end a browser's subscription for ever.
fn why(received: &[u8]) -> String {
    let text = String::from_utf8_lossy(received);
    match text.lines().next() {
        None => "the connection was closed".into(),
        Some(line) if line.starts_with("HTTP/1.1 200") => {
            "the server ended the stream at once, so it has no room for another connection: its \
             limit on open descriptors (RLIMIT_NOFILE), connections_max or \
             connections_per_address_max is reached"
                .into()
        }
        Some(line) => line.into(),
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered(answer: &'static str) -> io::Result<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut byte = [0];
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() > 0 {
                request.push(byte[0]);
            }
            socket.write_all(answer.as_bytes()).unwrap();
        });
        let stream = subscribe(address, "t", 0);
        server.join().unwrap();
        stream
    }

    #[test]
    fn a_refusal_says_why() {
        let check = |answer, expected: &str| {
            let why = answered(answer).unwrap_err().to_string();
            assert!(why.contains(expected), "{why}");
        };
        check("", "the connection was closed");
        check("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 404 Not Found");
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(head.len() < 100);
        check("HTTP/1.1 200 OK\r\n\r\nretry: 1000\n", "limit on open descriptors (RLIMIT_NOFILE)");
        let open =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\nretry: 1000\n:\n\n\r\n";
        assert!(answered(open).is_ok());
    }
}
