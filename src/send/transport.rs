//! What the server asks of a connected socket.

use crate::observe::tcp_info::TcpInfo;
use crate::send::socket_knobs::SocketKnobs;
use crate::sys::stamps::{self, Stamp};
use crate::sys::tcp::{self, SocketMemory};
use std::io::{self, IoSlice};

/// A connected, non-blocking stream socket.
///
/// The kernel's socket is one ([`mio::net::TcpStream`]); the tests script others. Every method is
/// one system call, and has that call's contract: it may take less than it is offered, and it
/// fails with [`io::ErrorKind::WouldBlock`] where a blocking socket would wait.
pub trait Transport {
    /// `read(2)`. Zero bytes into a buffer that is not empty: the peer has closed its side.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// `send(2)` without flags, which `write(2)` is for a socket.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// `writev(2)`. At most [`IOVECS_MAX`] buffers.
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// `send(2)` with `MSG_MORE`: the kernel holds back a segment that is not full.
    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// `setsockopt(2)` with `TCP_CORK`: while set, the kernel holds back a segment that is not
    /// full, for at most 200 ms (tcp(7)).
    fn set_cork(&mut self, on: bool) -> io::Result<()>;

    /// `shutdown(2)` of the sending side: the peer reads to the end of what was sent.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Sets the options in which `knobs` differs from `before`, or all of them.
    fn apply(&mut self, knobs: &SocketKnobs, before: Option<&SocketKnobs>) -> io::Result<()>;

    /// How many bytes the kernel has taken and the peer's kernel has not acknowledged
    /// (`SIOCOUTQ`, tcp(7)).
    ///
    /// This and what follows is for looking on. A stand-in that has no kernel need not offer it: the
    /// server then knows less and does the same.
    fn outstanding_bytes(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What the kernel knows of the connection (`TCP_INFO`, tcp(7)).
    fn tcp_info(&self) -> io::Result<TcpInfo> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The kernel's memory of the socket (`SO_MEMINFO`).
    fn memory(&self) -> io::Result<SocketMemory> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Prepares the socket for calls that are stamped ([`stamps::enable`]).
    fn enable_stamps(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// `sendmsg(2)` that asks for stamps of its last byte. At most [`IOVECS_MAX`] buffers.
    fn write_stamped(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored(buffers)
    }

    /// The next stamp that has come back; `None` if there is none.
    fn next_stamp(&mut self) -> io::Result<Option<Stamp>> {
        Ok(None)
    }
}

impl Transport for mio::net::TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::Read::read(self, buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self, bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        io::Write::write_vectored(self, buffers)
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
        socket2::SockRef::from(&*self).send_with_flags(bytes, flags)
    }

    fn set_cork(&mut self, on: bool) -> io::Result<()> {
        socket2::SockRef::from(&*self).set_tcp_cork(on)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }

    fn apply(&mut self, knobs: &SocketKnobs, before: Option<&SocketKnobs>) -> io::Result<()> {
        knobs.apply(&socket2::SockRef::from(&*self), before)
    }

    fn outstanding_bytes(&self) -> io::Result<u64> {
        tcp::unacknowledged_bytes(self).map(|bytes| bytes as u64)
    }

    fn tcp_info(&self) -> io::Result<TcpInfo> {
        tcp::tcp_info(self).map(TcpInfo::from)
    }

    fn memory(&self) -> io::Result<SocketMemory> {
        tcp::socket_memory(self)
    }

    fn enable_stamps(&mut self) -> io::Result<()> {
        stamps::enable(self)
    }

    fn write_stamped(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        stamps::send(self, buffers)
    }

    fn next_stamp(&mut self) -> io::Result<Option<Stamp>> {
        stamps::next(self)
    }
}

/// The most buffers that one `writev` takes (`IOV_MAX`, limits.h(0p)); more is EINVAL.
pub const IOVECS_MAX: usize = 1024;
