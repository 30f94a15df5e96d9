//! A socket that takes what its script says and records every call.

use crate::send::socket_knobs::SocketKnobs;
use crate::send::transport::Transport;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

/// What a scripted socket does with one call that offers data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Takes up to so many bytes.
    Take(usize),
    /// Fails with EAGAIN.
    Block,
    /// Fails with EINTR.
    Interrupt,
    /// Fails with ECONNRESET.
    Reset,
    /// Takes nothing and says so.
    Zero,
}

/// A call that a scripted socket has seen: its kind, and the length of each piece it offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    /// `send`.
    Write(usize),
    /// `send` with `MSG_MORE`.
    More(usize),
    /// `writev`.
    Writev(Vec<usize>),
    /// `TCP_CORK` on or off.
    Cork(bool),
}

/// A socket that follows a script, and takes everything once the script has ended.
#[derive(Debug, Default)]
pub struct Script {
    steps: VecDeque<Step>,
    /// Every call, in order.
    pub calls: Vec<Called>,
    /// Every byte taken, in order.
    pub bytes: Vec<u8>,
}

impl Script {
    /// A socket with this script.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Script {
        Script { steps: steps.into_iter().collect(), ..Script::default() }
    }

    fn take<'p>(&mut self, pieces: impl Iterator<Item = &'p [u8]>) -> io::Result<usize> {
        let limit = match self.steps.pop_front() {
            None => usize::MAX,
            Some(Step::Take(limit)) => limit,
            Some(Step::Zero) => 0,
            Some(Step::Block) => return Err(ErrorKind::WouldBlock.into()),
            Some(Step::Interrupt) => return Err(ErrorKind::Interrupted.into()),
            Some(Step::Reset) => return Err(ErrorKind::ConnectionReset.into()),
        };
        let before = self.bytes.len();
        for piece in pieces {
            let room = limit - (self.bytes.len() - before);
            self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        Ok(self.bytes.len() - before)
    }
}

impl Transport for Script {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls.push(Called::Write(bytes.len()));
        self.take(std::iter::once(bytes))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.calls.push(Called::Writev(buffers.iter().map(|buffer| buffer.len()).collect()));
        self.take(buffers.iter().map(|buffer| &**buffer))
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls.push(Called::More(bytes.len()));
        self.take(std::iter::once(bytes))
    }

    fn set_cork(&mut self, on: bool) -> io::Result<()> {
        self.calls.push(Called::Cork(on));
        Ok(())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn apply(&mut self, _: &SocketKnobs, _: Option<&SocketKnobs>) -> io::Result<()> {
        Ok(())
    }
}
