//! What the kernel knows of a connection, or of a pipe: what waits where, and what has left.

use super::check;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes that have arrived in the kernel and were not read (`FIONREAD`, tcp(7) and pipe(7)).
///
/// # Errors
/// As `ioctl(2)`.
pub fn unread_bytes(descriptor: &impl AsRawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: for this request the kernel writes one `int`, which `bytes` is.
    check(unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(bytes as usize)
}

/// Bytes that were written to a TCP socket and not yet acknowledged by the peer's kernel
/// (`SIOCOUTQ`, tcp(7), which libc knows by the name of its twin, `TIOCOUTQ`).
///
/// # Errors
/// As `ioctl(2)`.
pub fn unacknowledged_bytes(socket: &impl AsRawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: for this request the kernel writes one `int`, which `bytes` is.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(bytes as usize)
}

/// Bytes that were written to a TCP socket and have not left it (`SIOCOUTQNSD`,
/// include/uapi/linux/sockios.h). Over loopback, what has left has arrived.
///
/// # Errors
/// As `ioctl(2)`.
pub fn unsent_bytes(socket: &impl AsRawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: for this request the kernel writes one `int`, which `bytes` is.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCOUTQNSD, &raw mut bytes) })?;
    Ok(bytes as usize)
}

/// Sets how many bytes a pipe holds, and tells how many it then does (`F_SETPIPE_SZ`, fcntl(2)).
///
/// # Errors
/// As the call: above `/proc/sys/fs/pipe-max-size` it wants a privilege.
pub fn set_pipe_bytes(pipe: &impl AsRawFd, bytes: usize) -> io::Result<usize> {
    let wanted = libc::c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes a number; that the descriptor is a pipe is checked by the kernel.
    let granted = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) };
    usize::try_from(granted).map_err(|_| io::Error::last_os_error())
}

/// Segments with data that a TCP socket has sent (`tcpi_data_segs_out` of `TCP_INFO`, tcp(7)).
/// What leaves as one large packet and would be cut by the network card counts as what it is cut
/// into.
///
/// # Errors
/// As `getsockopt(2)`; `Unsupported` if the kernel is older than the field.
pub fn segments_sent(socket: &impl AsRawFd) -> io::Result<u32> {
    let at = std::mem::offset_of!(libc::tcp_info, tcpi_data_segs_out);
    tcp_info(socket)?.u32_at(at).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// What the kernel tells of a TCP connection (`TCP_INFO`, tcp(7)): the bytes of a `tcp_info`, of
/// which an older kernel fills in fewer.
#[derive(Debug, Clone, Copy)]
pub struct RawTcpInfo {
    /// Words, so that the kernel's fields are aligned; more of them than any kernel fills.
    words: [u64; 64],
    known_bytes: usize,
}

impl RawTcpInfo {
    /// The byte at an offset of the structure, if the kernel filled it in.
    pub fn u8_at(&self, at: usize) -> Option<u8> {
        self.bytes_at::<1>(at).map(|[byte]| byte)
    }

    /// The 32-bit field at an offset of the structure, if the kernel filled it in.
    pub fn u32_at(&self, at: usize) -> Option<u32> {
        self.bytes_at(at).map(u32::from_ne_bytes)
    }

    /// The 64-bit field at an offset of the structure, if the kernel filled it in.
    pub fn u64_at(&self, at: usize) -> Option<u64> {
        self.bytes_at(at).map(u64::from_ne_bytes)
    }

    fn bytes_at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at + N > self.known_bytes {
            return None;
        }
        // A field does not straddle two words: it is aligned to its own size.
        let word = self.words[at / 8].to_ne_bytes();
        word.get(at % 8..at % 8 + N)?.try_into().ok()
    }
}

/// Asks the kernel what it knows of a TCP connection. The call takes the socket's lock, so it is
/// for looking at a connection now and then, not for each event.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn tcp_info(socket: &impl AsRawFd) -> io::Result<RawTcpInfo> {
    let mut info = RawTcpInfo { words: [0; 64], known_bytes: 0 };
    let mut size = size_of_val(&info.words) as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    let descriptor = socket.as_raw_fd();
    let words = info.words.as_mut_ptr();
    // SAFETY: the call fills in at most `size` bytes of `words`, and sets `size` to their number.
    check(unsafe { libc::getsockopt(descriptor, level, option, words.cast(), &raw mut size) })?;
    info.known_bytes = size as usize;
    Ok(info)
}

/// The kernel's memory of one socket, in bytes (`SO_MEMINFO`, `include/uapi/linux/sock_diag.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketMemory {
    /// Received and not yet read, with the kernel's overhead.
    pub receive_bytes: u32,
    /// In the send queue, with the kernel's overhead: sent and unacknowledged, or unsent.
    pub send_bytes: u32,
    /// What the send queue may grow to before the socket counts as full.
    pub send_buffer_bytes: u32,
    /// Charged to the socket in advance.
    pub forward_bytes: u32,
}

/// Asks how much of the kernel's memory a socket takes.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn socket_memory(socket: &impl AsRawFd) -> io::Result<SocketMemory> {
    // More places than any kernel fills.
    let mut values = [0u32; 16];
    let mut size = size_of_val(&values) as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_MEMINFO);
    let (descriptor, place) = (socket.as_raw_fd(), values.as_mut_ptr());
    // SAFETY: the call fills in at most `size` bytes of `values`.
    check(unsafe { libc::getsockopt(descriptor, level, option, place.cast(), &raw mut size) })?;
    let of = |which: libc::c_int| values[which as usize];
    Ok(SocketMemory {
        receive_bytes: of(libc::SK_MEMINFO_RMEM_ALLOC),
        send_bytes: of(libc::SK_MEMINFO_WMEM_QUEUED),
        send_buffer_bytes: of(libc::SK_MEMINFO_SNDBUF),
        forward_bytes: of(libc::SK_MEMINFO_FWD_ALLOC),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_on_their_way_are_counted() {
        let (mut ours, mut theirs) = pair();
        assert_eq!(unread_bytes(&theirs).unwrap(), 0);
        ours.write_all(b"12345").unwrap();
        // Only a byte that has arrived can be peeked at.
        theirs.peek(&mut [0]).unwrap();
        assert_eq!(unread_bytes(&theirs).unwrap(), 5);
        theirs.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(unread_bytes(&theirs).unwrap(), 0);
        assert_eq!(unsent_bytes(&ours).unwrap(), 0);
        while unacknowledged_bytes(&ours).unwrap() > 0 {}
        socket2::SockRef::from(&ours).set_tcp_cork(true).unwrap();
        ours.write_all(b"held back").unwrap();
        assert_eq!(unsent_bytes(&ours).unwrap(), 9);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(unacknowledged_bytes(&file).is_err() && unsent_bytes(&file).is_err());
    }

    #[test]
    fn segments_are_counted() {
        let (mut ours, _theirs) = pair();
        let before = segments_sent(&ours).unwrap();
        ours.write_all(b"one").unwrap();
        assert_eq!(segments_sent(&ours).unwrap(), before + 1);
        assert!(segments_sent(&std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn what_is_outstanding_is_told_alike() {
        let (mut ours, theirs) = pair();
        let acknowledged_at = std::mem::offset_of!(libc::tcp_info, tcpi_bytes_acked);
        let acknowledged = || tcp_info(&ours).unwrap().u64_at(acknowledged_at).unwrap();
        let before = acknowledged();
        (&ours).write_all(&[7; 1000]).unwrap();
        while acknowledged() < before + 1000 {}
        assert_eq!(acknowledged(), before + 1000);
        assert_eq!(unacknowledged_bytes(&ours).unwrap(), 0);
        assert!(socket_memory(&theirs).unwrap().receive_bytes >= 1000);
        socket2::SockRef::from(&ours).set_tcp_cork(true).unwrap();
        ours.write_all(b"held back").unwrap();
        assert!(socket_memory(&ours).unwrap().send_bytes >= 9);
        assert!(socket_memory(&ours).unwrap().send_buffer_bytes >= 4096);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(tcp_info(&file).is_err() && socket_memory(&file).is_err());
    }

    /// A kernel that is older than a field tells less.
    #[test]
    fn a_field_that_was_not_filled_in_is_not_read() {
        let info = RawTcpInfo {
            words: [u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]); 64],
            known_bytes: 12,
        };
        assert_eq!((info.u8_at(11), info.u8_at(12)), (Some(4), None));
        assert_eq!(info.u32_at(4), Some(u32::from_ne_bytes([5, 6, 7, 8])));
        assert_eq!((info.u32_at(8).is_some(), info.u32_at(12)), (true, None));
        assert_eq!((info.u64_at(0).is_some(), info.u64_at(8)), (true, None));
    }

    #[test]
    fn a_pipe_is_enlarged() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert!(set_pipe_bytes(&writer, 256 << 10).unwrap() >= 256 << 10);
        writer.write_all(&[7; 200_000]).unwrap();
        assert_eq!(unread_bytes(&reader).unwrap(), 200_000);
        assert!(set_pipe_bytes(&std::fs::File::open("/dev/null").unwrap(), 4096).is_err());
    }
}
