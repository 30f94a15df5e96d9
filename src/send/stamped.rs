//! A socket whose next call is stamped by the kernel.

use crate::observe::counters::WriteCounters;
use crate::send::drain::{Drain, Workspace, drain};
use crate::send::path::WritePath;
use crate::send::queue::WriteQueue;
use crate::send::rule::CopyRule;
use crate::send::socket_knobs::SocketKnobs;
use crate::send::transport::Transport;
use std::io::{self, IoSlice};

/// Stands in front of a socket for the time of one drain, and has the first call that does not hold
/// back its segment stamped. One call of the drain is enough: the kernel keeps one request per packet.
#[derive(Debug)]
pub struct Stamped<'s, T> {
    socket: &'s mut T,
    /// Bytes that calls have taken so far.
    bytes: u64,
    /// Bytes up to the end of the stamped call.
    stamped: Option<u64>,
}

/// As [`drain`], with one call stamped: also gives how many bytes had left when that call returned, 0
/// if none was stamped. Kept out of the path of those that are not.
#[cold]
#[inline(never)]
pub fn drain_stamped<T: Transport>(
    socket: &mut T,
    path: WritePath,
    rule: &CopyRule,
    queue: &mut WriteQueue<'_>,
    workspace: &mut Workspace,
    budget_bytes: usize,
    counters: &mut WriteCounters,
) -> (Drain, u64) {
    let mut socket = Stamped::new(socket);
    let done = drain(&mut socket, path, rule, queue, workspace, budget_bytes, counters);
    (done, socket.stamped().unwrap_or(0))
}

impl<'s, T: Transport> Stamped<'s, T> {
    /// In front of `socket`.
    pub fn new(socket: &'s mut T) -> Stamped<'s, T> {
        Stamped { socket, bytes: 0, stamped: None }
    }

    /// How many bytes had left when the stamped call returned; `None` if no such call took anything.
    pub fn stamped(&self) -> Option<u64> {
        self.stamped
    }

    fn count(&mut self, taken: io::Result<usize>) -> io::Result<usize> {
        self.bytes += *taken.as_ref().unwrap_or(&0) as u64;
        taken
    }

    fn stamp(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = self.socket.write_stamped(buffers);
        let taken = self.count(taken);
        if taken.as_ref().is_ok_and(|&bytes| bytes > 0) {
            self.stamped = Some(self.bytes);
        }
        taken
    }
}

impl<T: Transport> Transport for Stamped<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stamped.is_none() {
            return self.stamp(&[IoSlice::new(bytes)]);
        }
        let taken = self.socket.write(bytes);
        self.count(taken)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.stamped.is_none() {
            return self.stamp(buffers);
        }
        let taken = self.socket.write_vectored(buffers);
        self.count(taken)
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.socket.write_more(bytes);
        self.count(taken)
    }

    fn set_cork(&mut self, on: bool) -> io::Result<()> {
        self.socket.set_cork(on)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown_write()
    }

    fn apply(&mut self, knobs: &SocketKnobs, before: Option<&SocketKnobs>) -> io::Result<()> {
        self.socket.apply(knobs, before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::script::{Called, Script, Step};

    #[test]
    fn one_call_is_stamped_and_its_end_is_known() {
        let mut script = Script::new([Step::Block, Step::Take(4)]);
        let mut socket = Stamped::new(&mut script);
        assert!(socket.write(b"blocked").is_err());
        assert_eq!(socket.stamped(), None);
        assert_eq!(socket.write_more(b"1234").unwrap(), 4);
        assert_eq!(socket.stamped(), None, "it is held back");
        assert_eq!(socket.write(b"567").unwrap(), 3);
        assert_eq!(socket.write(b"89").unwrap(), 2);
        assert_eq!(socket.stamped(), Some(7));
        // The script shows a stamped call as a vector.
        let (first, last) = (&script.calls[0], &script.calls[3]);
        assert_eq!((first, last), (&Called::Writev(vec![7]), &Called::Write(2)));
    }
}
