//! A publisher that publishes each event until it is acknowledged. It gives each an id of its
//! own, so that the server publishes it once, however often it has to be sent.

use super::server::PATIENCE;
use pushv::client::response::{self, BodyEnd};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// A publisher with one connection at a time.
pub struct Publisher {
    address: SocketAddr,
    socket: Option<TcpStream>,
    /// Connections that ended before they had given an answer.
    pub broken: usize,
    /// What must be presented where it is not on the same host.
    pub token: Option<&'static str>,
}

impl Publisher {
    pub fn new(address: SocketAddr) -> Publisher {
        Publisher { address, socket: None, broken: 0, token: None }
    }

    /// Publishes an event.
    ///
    /// # Errors
    /// That it was refused, or not answered.
    pub fn publish(&mut self, topic: &str, id: &str, data: &[u8]) -> Result<(), String> {
        match self.post(&format!("/events/{topic}?id={id}"), "text/plain", data)? {
            200 => Ok(()),
            status => Err(format!("a publish is answered with {status}")),
        }
    }

    /// Posts a body, as often as it takes; gives the status of the answer.
    ///
    /// # Errors
    /// That there is no answer.
    pub fn post(&mut self, target: &str, media_type: &str, body: &[u8]) -> Result<u16, String> {
        self.request("POST", target, media_type, body)
    }

    /// A request that asks for the connection to be closed behind the answer.
    ///
    /// # Errors
    /// That there is no answer.
    pub fn last_request(&mut self, target: &str) -> Result<u16, String> {
        let status = self.request("GET", target, "text/plain\r\nConnection: close", b"");
        self.socket = None;
        status
    }

    fn request(
        &mut self,
        method: &str,
        target: &str,
        media_type: &str,
        body: &[u8],
    ) -> Result<u16, String> {
        let token = self.token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Type: {media_type}\r\n{}\
             Content-Length: {}\r\n\r\n",
            token.unwrap_or_default(),
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match self.exchange(&request) {
                Ok(status) => return Ok(status),
                Err(error) => {
                    (self.socket, why) = (None, error.to_string());
                    self.broken += 1;
                }
            }
        }
        Err(format!("no answer in {ATTEMPTS} attempts: {why}"))
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => TcpStream::connect_timeout(&self.address, PATIENCE)?,
        };
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(request)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let parsed = response::parse(&answer, 16 << 10, false).map_err(io::Error::other)?;
            if let Some((head, head_bytes)) = parsed {
                let BodyEnd::Bytes(body_bytes) = head.body else {
                    return Err(io::Error::other("an answer without a length"));
                };
                if answer.len() >= head_bytes + body_bytes as usize {
                    let (status, close) = (head.status, head.close);
                    self.socket = (!close).then_some(socket);
                    return Ok(status);
                }
            }
            match socket.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

const ATTEMPTS: usize = 5;
