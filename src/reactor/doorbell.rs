//! A socket whose bytes mean that something is to be done.
//!
//! This is how signals reach the reactor: a handler may do next to nothing, but it may write a
//! byte. A thread that waits for signals would do as well, at a price: in a process of several
//! threads the kernel counts references to a descriptor atomically at each system call on it, and
//! the write path consists of such calls (`fdget`, include/linux/file.h).

use super::Command;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, Read};

/// What to do when so many bytes have come.
type Answer = Box<dyn FnMut(usize) -> Option<Command> + Send>;

pub(super) struct Doorbell {
    socket: UnixStream,
    answer: Answer,
}

impl Doorbell {
    pub(super) fn new(
        socket: std::os::unix::net::UnixStream,
        registry: &Registry,
        token: Token,
        answer: Answer,
    ) -> io::Result<Doorbell> {
        socket.set_nonblocking(true)?;
        let mut socket = UnixStream::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Doorbell { socket, answer })
    }

    /// It has rung: takes all bytes, and gives what is to be done.
    pub(super) fn answer(&mut self) -> Option<Command> {
        let (mut rings, mut buffer) = (0, [0; 64]);
        loop {
            match self.socket.read(&mut buffer) {
                Ok(count @ 1..) => rings += count,
                // What is left behind would not be announced again.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        if rings > 0 { (self.answer)(rings) } else { None }
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell").field("socket", &self.socket).finish_non_exhaustive()
    }
}
