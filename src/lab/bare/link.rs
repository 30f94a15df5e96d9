//! A TCP connection over loopback, and a pipe: what calls are made on.

use crate::lab::method::network::choose_congestion;
use crate::sys::tcp::{segments_sent, set_pipe_bytes, unread_bytes, unsent_bytes};
use socket2::{Domain, SockRef, Socket, Type};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

/// A socket that waits for the reader.
pub(super) struct Door(Socket);

impl Door {
    /// On a free port.
    pub fn open() -> io::Result<Door> {
        let door = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        prepare(&door, BUFFER_BYTES)?;
        door.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        door.listen(1)?;
        Ok(Door(door))
    }

    /// Where it is.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Lets the reader in.
    pub fn let_in(&self) -> io::Result<Link> {
        Link::new(self.0.accept()?.0)
    }
}

/// Connects to a sender.
pub(super) fn connect(address: SocketAddr) -> io::Result<Socket> {
    connect_with(address, BUFFER_BYTES)
}

/// Connects, with a buffer of about so many bytes on this side.
pub(super) fn connect_with(address: SocketAddr, buffer_bytes: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    prepare(&socket, buffer_bytes)?;
    socket.connect(&address.into())?;
    Ok(socket)
}

/// A pair with small buffers, for filling them: the sender, which does not wait, and the receiver.
pub(super) fn narrow_pair() -> io::Result<(Socket, Socket)> {
    let door = Door::open()?;
    prepare(&door.0, NARROW_BYTES)?;
    let receiver = connect_with(door.address()?, NARROW_BYTES)?;
    let sender = door.0.accept()?.0;
    sender.set_nonblocking(true)?;
    Ok((sender, receiver))
}

/// A pair for one of many connections; neither end waits.
#[cfg(feature = "uring")]
pub(super) fn quiet_pair() -> io::Result<(Socket, Socket)> {
    let (sender, receiver) = narrow_pair()?;
    receiver.set_nonblocking(true)?;
    Ok((sender, receiver))
}

/// Options that have to be set before the connection is made: the window scale and the size of the
/// segments are agreed on with the first of them.
fn prepare(socket: &Socket, buffer_bytes: usize) -> io::Result<()> {
    // Loopback would have segments of 32 KiB, or whatever its MTU is.
    socket.set_tcp_mss(SEGMENT_BYTES)?;
    socket.set_send_buffer_size(buffer_bytes)?;
    socket.set_recv_buffer_size(buffer_bytes)?;
    // The system's may pace what it sends, by a timer.
    choose_congestion(&SockRef::from(socket))?;
    socket.set_tcp_nodelay(true)
}

/// The sender's end.
#[derive(Debug)]
pub(super) struct Link {
    /// For `send(2)`, `sendmsg(2)` and options.
    pub socket: Socket,
    /// The same socket for `write(2)` and `writev(2)`, which the standard library makes of files
    /// alone.
    pub file: File,
    /// A pipe beside it.
    pub pipe: PipeWriter,
    /// Its other end.
    pub pipe_end: PipeReader,
}

impl Link {
    fn new(socket: Socket) -> io::Result<Link> {
        // As a server's: a call takes what there is room for, and says so.
        socket.set_nonblocking(true)?;
        let file = File::from(OwnedFd::from(socket.try_clone()?));
        let (pipe_end, pipe) = io::pipe()?;
        // A system may permit less; then a call that is longer will say so.
        let _granted = set_pipe_bytes(&pipe, PIPE_BYTES).or_else(|_| set_pipe_bytes(&pipe, 65_536));
        Ok(Link { socket, file, pipe, pipe_end })
    }

    /// The longest call that the send buffer takes at once. What the kernel charges for a byte is
    /// at most two, so half of what it grants is safe.
    pub fn call_bytes_max(&self) -> io::Result<usize> {
        Ok(self.socket.send_buffer_size()? / 2)
    }

    /// The largest segment.
    pub fn segment_bytes(&self) -> io::Result<u32> {
        self.socket.tcp_mss()
    }

    /// Segments sent so far.
    pub fn segments_sent(&self) -> io::Result<u32> {
        segments_sent(&self.socket)
    }

    /// Bytes that are not yet where the reader finds them. Whether they were acknowledged is not
    /// asked: a reader may put that off by 40 ms.
    pub fn under_way(&self, channel: Channel) -> io::Result<usize> {
        match channel {
            Channel::Tcp => unsent_bytes(&self.socket),
            Channel::Pipe => unread_bytes(&self.pipe_end),
        }
    }

    /// Where another process finds the end of the pipe (`proc_pid_fd(5)`).
    pub fn pipe_path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.pipe_end.as_raw_fd()).into()
    }
}

/// What bytes go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Tcp,
    Pipe,
}

/// 1448 bytes of data and the twelve of the timestamps: an Ethernet's.
const SEGMENT_BYTES: u32 = 1460;

/// As much as `net.core.wmem_max` permits on most kernels, which take less silently.
const BUFFER_BYTES: usize = 4 << 20;

const NARROW_BYTES: usize = 64 << 10;

/// As much as anybody may ask for (`/proc/sys/fs/pipe-max-size`).
const PIPE_BYTES: usize = 1 << 20;
