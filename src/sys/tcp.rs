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
/// As `getsockopt(2)`.
pub fn segments_sent(socket: &impl AsRawFd) -> io::Result<u32> {
    // Words, so that the fields are aligned; more of them than any kernel fills.
    let mut words = [0u32; 128];
    let mut size = size_of_val(&words) as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    let descriptor = socket.as_raw_fd();
    // SAFETY: the call fills in at most `size` bytes of `words`, and sets `size` to their number.
    check(unsafe {
        libc::getsockopt(descriptor, level, option, words.as_mut_ptr().cast(), &raw mut size)
    })?;
    let at = std::mem::offset_of!(libc::tcp_info, tcpi_data_segs_out);
    // A kernel that is older than the field tells less.
    let known = (at + size_of::<u32>() <= size as usize).then(|| words[at / size_of::<u32>()]);
    known.ok_or_else(|| io::ErrorKind::Unsupported.into())
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
    fn a_pipe_is_enlarged() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert!(set_pipe_bytes(&writer, 256 << 10).unwrap() >= 256 << 10);
        writer.write_all(&[7; 200_000]).unwrap();
        assert_eq!(unread_bytes(&reader).unwrap(), 200_000);
        assert!(set_pipe_bytes(&std::fs::File::open("/dev/null").unwrap(), 4096).is_err());
    }
}
