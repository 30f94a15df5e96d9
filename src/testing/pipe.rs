//! A connection in memory.
//!
//! The server's end behaves as a kernel's socket does: its send buffer has a size, a call takes
//! what fits, and once a call has found too little room, room becomes news again when a third of
//! the buffer is free (`sk_stream_write_space`, net/core/stream.c).

use super::Dice;
use crate::send::socket_knobs::SocketKnobs;
use crate::send::transport::Transport;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

/// What both ends share: the wire.
#[derive(Debug)]
struct Wire {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// The size of the server's send buffer.
    buffer_bytes: usize,
    /// A call found too little room.
    wants_room: bool,
    client_closed: bool,
    reset: bool,
    server_closed: bool,
    dice: Dice,
}

/// The server's end.
#[derive(Debug)]
pub struct ServerEnd(Rc<RefCell<Wire>>);

/// The client's end.
#[derive(Debug, Clone)]
pub struct ClientEnd(Rc<RefCell<Wire>>);

/// A connection whose server has a send buffer of `buffer_bytes`.
pub fn pipe(buffer_bytes: usize, dice: Dice) -> (ServerEnd, ClientEnd) {
    let wire = Rc::new(RefCell::new(Wire {
        to_server: VecDeque::new(),
        to_client: VecDeque::new(),
        buffer_bytes,
        wants_room: false,
        client_closed: false,
        reset: false,
        server_closed: false,
        dice,
    }));
    (ServerEnd(Rc::clone(&wire)), ClientEnd(wire))
}

impl ClientEnd {
    /// Sends bytes to the server.
    pub fn send(&self, bytes: &[u8]) {
        self.0.borrow_mut().to_server.extend(bytes);
    }

    /// Receives up to `count` bytes.
    pub fn receive(&self, count: usize) -> Vec<u8> {
        let mut wire = self.0.borrow_mut();
        let count = count.min(wire.to_client.len());
        wire.to_client.drain(..count).collect()
    }

    /// Closes in order: what was sent is still read by the server.
    pub fn close(&self) {
        self.0.borrow_mut().client_closed = true;
    }

    /// Resets the connection: what is under way is lost.
    pub fn reset(&self) {
        let mut wire = self.0.borrow_mut();
        wire.reset = true;
        wire.to_server.clear();
        wire.to_client.clear();
    }

    /// Whether everything that the server ever sent has been received, and there will be no more.
    pub fn is_over(&self) -> bool {
        let wire = self.0.borrow();
        wire.server_closed && wire.to_client.is_empty()
    }

    /// Whether the server has something to read, or an end to see.
    pub fn is_readable(&self) -> bool {
        let wire = self.0.borrow();
        !wire.to_server.is_empty() || wire.client_closed || wire.reset
    }

    /// Whether room has become news, which it is once.
    pub fn take_writable_edge(&self) -> bool {
        let mut wire = self.0.borrow_mut();
        let room = wire.reset || wire.to_client.len() <= wire.buffer_bytes * 2 / 3;
        let edge = wire.wants_room && room;
        wire.wants_room &= !edge;
        edge
    }
}

impl Wire {
    fn take<'p>(&mut self, pieces: impl Iterator<Item = &'p [u8]>) -> io::Result<usize> {
        if self.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if self.dice.once_in(50) {
            return Err(ErrorKind::Interrupted.into());
        }
        let mut taken = 0;
        for piece in pieces {
            let room = self.buffer_bytes.saturating_sub(self.to_client.len());
            let count = piece.len().min(room);
            self.to_client.extend(&piece[..count]);
            taken += count;
            if count < piece.len() {
                self.wants_room = true;
                return if taken > 0 { Ok(taken) } else { Err(ErrorKind::WouldBlock.into()) };
            }
        }
        Ok(taken)
    }
}

impl Transport for ServerEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.to_server.is_empty() {
            return if wire.client_closed { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let count = buffer.len().min(wire.to_server.len());
        for (slot, byte) in buffer.iter_mut().zip(wire.to_server.drain(..count)) {
            *slot = byte;
        }
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().take(std::iter::once(bytes))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.borrow_mut().take(buffers.iter().map(|buffer| &**buffer))
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().take(std::iter::once(bytes))
    }

    fn set_cork(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().server_closed = true;
        Ok(())
    }

    fn apply(&mut self, _: &SocketKnobs, _: Option<&SocketKnobs>) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.0.borrow_mut().server_closed = true;
    }
}
