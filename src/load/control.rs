//! A worker's end of the socket on which it hears and says lines of JSON.

use super::message::{Order, Report};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// Speaking waits for the coordinator, which does nothing but listen; hearing does not wait.
#[derive(Debug)]
pub(super) struct Control {
    socket: UnixStream,
    heard: Vec<u8>,
    closed: bool,
}

impl Control {
    /// # Errors
    /// If the socket's mode cannot be set.
    pub fn new(socket: UnixStream) -> io::Result<Control> {
        socket.set_nonblocking(true)?;
        Ok(Control { socket, heard: Vec::new(), closed: false })
    }

    /// Says something. If nobody listens any more, that will be noticed when hearing.
    pub fn say(&mut self, report: &Report) {
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        let said = self
            .socket
            .set_nonblocking(false)
            .and_then(|()| self.socket.write_all(&line))
            .and_then(|()| self.socket.set_nonblocking(true));
        self.closed |= said.is_err();
    }

    /// Waits for the first order.
    ///
    /// # Errors
    /// As [`Control::order`].
    pub fn wait(&mut self) -> io::Result<Order> {
        self.socket.set_nonblocking(false)?;
        let order = self.order()?;
        self.socket.set_nonblocking(true)?;
        order.ok_or(ErrorKind::UnexpectedEof.into())
    }

    /// The next order that has arrived.
    ///
    /// # Errors
    /// `UnexpectedEof` if the coordinator is gone.
    pub fn order(&mut self) -> io::Result<Option<Order>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(io::Error::other);
            }
            if self.closed {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Control {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
