//! The calls, and what belongs to each outside the time that is taken.

use super::link::{Channel, Link};
use super::payload::Payload;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, Write as _};

/// A call that is timed. Each moves the same bytes, one way or the other: what a call does not
/// send itself is sent when the time has been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// `write(2)`.
    Write,
    /// `send(2)`.
    Send,
    /// `writev(2)` of two pieces, half and half.
    Writev,
    /// `sendmsg(2)` with `MSG_MORE`: a push that is not the last. What it holds back is flushed
    /// afterwards.
    More,
    /// `send(2)` of a piece behind one of the same size that was held back by `MSG_MORE`.
    Flush,
    /// `setsockopt(TCP_CORK)`, `write(2)`, `setsockopt(TCP_CORK)`.
    Cork,
    /// `write(2)` to a pipe.
    Pipe,
    /// `getppid(2)`, which does nothing: what entering the kernel costs.
    Getppid,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 8] = [
        Call::Write,
        Call::Send,
        Call::Writev,
        Call::More,
        Call::Flush,
        Call::Cork,
        Call::Pipe,
        Call::Getppid,
    ];

    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Call::Write => "write",
            Call::Send => "send",
            Call::Writev => "writev",
            Call::More => "more",
            Call::Flush => "flush",
            Call::Cork => "cork",
            Call::Pipe => "pipe",
            Call::Getppid => "getppid",
        }
    }

    /// What is done within the time that is taken.
    pub fn what(self) -> &'static str {
        match self {
            Call::Write => "write(2)",
            Call::Send => "send(2)",
            Call::Writev => "writev(2) of two pieces, half and half",
            Call::More => "sendmsg(2) with MSG_MORE; flushed when the time has been taken",
            Call::Flush => "send(2) behind a piece of the same size held back by MSG_MORE",
            Call::Cork => "setsockopt(TCP_CORK) on, write(2), setsockopt(TCP_CORK) off",
            Call::Pipe => "write(2) to a pipe",
            Call::Getppid => "getppid(2); the piece is written when the time has been taken",
        }
    }

    pub(super) fn channel(self) -> Channel {
        if self == Call::Pipe { Channel::Pipe } else { Channel::Tcp }
    }

    /// How many pieces one call brings on their way, with what is done around it.
    pub(super) fn pieces(self) -> usize {
        if self == Call::Flush { 2 } else { 1 }
    }

    /// What comes before the time is taken. Tells whether anything was sent.
    pub(super) fn before(self, link: &mut Link, payload: &Payload) -> io::Result<bool> {
        if self != Call::Flush {
            return Ok(false);
        }
        taken(link.socket.send_with_flags(payload.first(), MORE)?, payload.bytes())?;
        Ok(true)
    }

    /// The call.
    #[inline]
    pub(super) fn make(self, link: &mut Link, piece: &[u8]) -> io::Result<usize> {
        match self {
            Call::Write => link.file.write(piece),
            Call::Send | Call::Flush => link.socket.send(piece),
            Call::Writev => {
                let (first, second) = piece.split_at(piece.len() / 2);
                link.file.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            }
            Call::More => link.socket.send_vectored_with_flags(&[IoSlice::new(piece)], MORE),
            Call::Cork => {
                link.socket.set_tcp_cork(true)?;
                let written = link.file.write(piece);
                link.socket.set_tcp_cork(false)?;
                written
            }
            Call::Pipe => link.pipe.write(piece),
            Call::Getppid => {
                std::hint::black_box(std::os::unix::process::parent_id());
                Ok(piece.len())
            }
        }
    }

    /// What comes after the time has been taken.
    pub(super) fn after(self, link: &mut Link, payload: &Payload) -> io::Result<()> {
        match self {
            // Setting it, even if it is set, sends what is held back (tcp(7)).
            Call::More => link.socket.set_tcp_nodelay(true),
            Call::Getppid => taken(link.file.write(payload.first())?, payload.bytes()),
            _ => Ok(()),
        }
    }
}

/// Whether a call took everything.
pub(super) fn taken(bytes: usize, asked: usize) -> io::Result<()> {
    if bytes == asked {
        return Ok(());
    }
    Err(io::Error::other(format!("a call took {bytes} bytes of {asked}")))
}

/// The standard library adds the second to each `send`; without it a peer that has gone would end
/// the process by a signal.
const MORE: libc::c_int = libc::MSG_MORE | libc::MSG_NOSIGNAL;
