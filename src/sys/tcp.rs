//! What the kernel knows about a TCP connection.

#![allow(unsafe_code)]

use super::check;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes that have arrived and were not read yet (`FIONREAD`, which tcp(7) calls `SIOCINQ`).
///
/// # Errors
/// As `ioctl(2)`.
pub fn unread_bytes(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, to `bytes`, which lives across the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_has_arrived_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        assert_eq!(unread_bytes(&ours).unwrap(), 0);
        theirs.write_all(b"hello").unwrap();
        ours.peek(&mut [0; 8]).unwrap();
        assert_eq!(unread_bytes(&ours).unwrap(), 5);
        ours.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(unread_bytes(&ours).unwrap(), 3);
    }
}
