//! Many sends in one system call (`io_uring_enter(2)`).

use io_uring::{IoUring, opcode, types};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

/// A ring, of which only sends are asked that never wait.
pub struct Ring {
    /// None after an error: what may still stand in the ring is never handed to the kernel.
    ring: Option<IoUring>,
    entries: usize,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring of so many entries, of which the kernel makes a power of two. Everything is done by
    /// the thread that asks for it (`IORING_SETUP_DEFER_TASKRUN`, since Linux 6.1).
    ///
    /// # Errors
    /// As `io_uring_setup(2)`: `ENOSYS` if the kernel has none, `EPERM` if
    /// `kernel.io_uring_disabled` or a filter forbids it.
    pub fn new(entries: u32) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        let mut ring = builder.setup_single_issuer().setup_defer_taskrun().build(entries)?;
        let entries = ring.submission().capacity();
        Ok(Ring { ring: Some(ring), entries })
    }

    /// Sends `bytes` on each of these sockets, and gives the number of system calls that took.
    ///
    /// # Errors
    /// The first send that failed, or took less than everything. The ring is of no use then.
    pub fn send_to_all<S: AsRawFd>(&mut self, sockets: &[S], bytes: &[u8]) -> io::Result<usize> {
        let mut ring = self.ring.take().ok_or(ErrorKind::BrokenPipe)?;
        let batches = sockets.chunks(self.entries);
        let calls = batches.len();
        for batch in batches {
            send_batch(&mut ring, batch, bytes)?;
        }
        self.ring = Some(ring);
        Ok(calls)
    }
}

fn send_batch<S: AsRawFd>(ring: &mut IoUring, sockets: &[S], bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(|_| ErrorKind::InvalidInput)?;
    for socket in sockets {
        let socket = types::Fd(socket.as_raw_fd());
        // Without waiting: whatever is handed over is done when the call returns.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let send = opcode::Send::new(socket, bytes.as_ptr(), len).flags(flags).build();
        // SAFETY: `bytes` outlives the entry: below, every entry is awaited, and after an error the
        // ring is dropped with those that the kernel has not taken; none that it has taken waits.
        unsafe { ring.submission().push(&send) }.map_err(|_| ErrorKind::OutOfMemory)?;
    }
    let (mut done, mut result) = (0, Ok(()));
    while done < sockets.len() {
        match ring.submit_and_wait(sockets.len() - done) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        for completion in ring.completion() {
            done += 1;
            let taken = completion.result();
            if taken < 0 {
                result = Err(io::Error::from_raw_os_error(-taken));
            } else if taken as usize != bytes.len() {
                result = Err(io::Error::other(format!("{taken} bytes taken of {len}")));
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_ring_sends_to_many_in_batches() {
        // Where there is no io_uring, there is nothing to test.
        let Ok(mut ring) = Ring::new(4) else { return };
        let pairs: Vec<_> = (0..10).map(|_| UnixStream::pair().unwrap()).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        assert_eq!(ring.send_to_all(&ours, b"event").unwrap(), 3);
        for mut socket in theirs {
            let mut received = [0; 5];
            socket.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"event");
        }
        assert!(ring.send_to_all(&ours, b"event").is_err(), "nobody is there any more");
        assert!(ring.send_to_all(&ours[..1], b"event").is_err());
    }
}
