//! Lines to standard error, or to another descriptor, that never wait for its reader.
//!
//! The server is one thread. If it waits in write(2) because nothing reads its log (a full pipe, a
//! terminal that Ctrl-S has stopped, a journal that hangs), it accepts nothing, sends nothing, and
//! does not even learn of SIGTERM. So a line that cannot be written at once is dropped and counted,
//! and the next line that can be written has the count before it.
//!
//! A thread that writes would keep a few more lines, but a process of several threads pays for that
//! at every system call on a descriptor (`fdget`; see [`reactor`](crate::reactor)). And `O_NONBLOCK`
//! must not be set on the descriptor itself: it belongs to the open file description (open(2)),
//! which the shell and other processes share. What is done instead depends on what the descriptor is:
//!
//! | descriptor | how a write is kept from waiting |
//! |---|---|
//! | pipe, terminal | it is opened again by way of `/proc/self/fd`, which makes a description of our own with `O_NONBLOCK` |
//! | socket | `MSG_DONTWAIT` (send(2)) |
//! | regular file, block device | not at all: only the disk can delay it |
//! | the rest; a pipe or terminal that may not be opened | poll(2), then a write of at most 512 bytes, which a pipe that is writable takes whole |
//!
//! The last way is not exact. If two processes write to the same pipe, the other may take the room
//! between poll and write; and a terminal may have less room than that.

use crate::sys;
use socket2::SockRef;
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines that all outlets of this process have dropped.
///
/// Like the allocator's count it is the process's, because standard error is.
pub fn lines_dropped() -> u64 {
    LINES_DROPPED.load(Ordering::Relaxed)
}

static LINES_DROPPED: AtomicU64 = AtomicU64::new(0);

/// A descriptor to which lines are written, or dropped.
#[derive(Debug)]
pub struct Outlet {
    file: File,
    way: Way,
    /// What is left of a line that the kernel took in part. It goes before anything else.
    ///
    /// Invariant: at most [`LINE_BYTES_MAX`] bytes and a notice.
    rest: Vec<u8>,
    /// Lines dropped since the last notice of that.
    dropped: u64,
}

/// How a write is kept from waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is not: only a disk can delay it, or the description is our own and does not block.
    Plain,
    DontWait,
    PollFirst,
}

impl Outlet {
    /// An outlet to what `descriptor` stands for, whose description stays as it is.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub fn new(descriptor: impl AsFd) -> io::Result<Outlet> {
        let file = File::from(descriptor.as_fd().try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        let own = if kind.is_fifo() || file.is_terminal() { reopen(&file).ok() } else { None };
        let way = match own {
            Some(_) => Way::Plain,
            None if kind.is_socket() => Way::DontWait,
            None if kind.is_file() || kind.is_block_device() => Way::Plain,
            None => Way::PollFirst,
        };
        Ok(Outlet { file: own.unwrap_or(file), way, rest: Vec::new(), dropped: 0 })
    }

    /// Writes a line, which ends with a line end, or drops it. Gives whether it was taken.
    pub fn line(&mut self, line: &[u8]) -> bool {
        let line = bounded(line);
        let taken = self.finish_line()
            && match self.dropped {
                0 => self.put(&line),
                // In one write with the line, or notices would fill the room that lines do not fit.
                dropped => self.put(&[notice(dropped).as_bytes(), &line].concat()),
            };
        if taken {
            self.dropped = 0;
        } else {
            self.dropped += 1;
            LINES_DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Writes what is left of the last line. Gives whether nothing is.
    fn finish_line(&mut self) -> bool {
        if !self.rest.is_empty() {
            let written = self.write_some(&self.rest);
            self.rest.drain(..written);
        }
        self.rest.is_empty()
    }

    /// Writes all of `bytes`, if need be their end later; or nothing.
    fn put(&mut self, bytes: &[u8]) -> bool {
        debug_assert!(self.rest.is_empty(), "lines go out one after the other");
        let written = self.write_some(bytes);
        if written > 0 {
            self.rest.extend_from_slice(&bytes[written..]);
        }
        written > 0
    }

    /// Writes as much of `bytes` as is taken without waiting. An error counts as nothing: whatever
    /// it is, there is nowhere to say so.
    fn write_some(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_once(&bytes[written..]) {
                Ok(count @ 1..) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        written
    }

    fn write_once(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.way {
            Way::Plain => (&self.file).write(bytes),
            Way::DontWait => {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                SockRef::from(&self.file).send_with_flags(bytes, flags)
            }
            Way::PollFirst if !sys::is_writable(&self.file)? => Err(ErrorKind::WouldBlock.into()),
            Way::PollFirst => (&self.file).write(&bytes[..bytes.len().min(PIECE_BYTES)]),
        }
    }
}

/// What a logger writes at once is a line.
impl Write for Outlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A description of our own of the same pipe or terminal, which does not block.
fn reopen(file: &File) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

fn notice(dropped: u64) -> String {
    format!("[WARN pushv] {dropped} lines of the log are missing here: they could not be written\n")
}

/// A line without what it has too much.
fn bounded(line: &[u8]) -> Cow<'_, [u8]> {
    match line.len() > LINE_BYTES_MAX {
        true => Cow::Owned([&line[..LINE_BYTES_MAX - CUT.len()], CUT].concat()),
        false => Cow::Borrowed(line),
    }
}

/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 64 << 10;
const CUT: &[u8] = b" [...]\n";
/// What POSIX lets a pipe take at once (`_POSIX_PIPE_BUF`, pipe(7)).
const PIECE_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, Read as _, Seek as _};
    use std::os::unix::net::UnixStream;

    /// Writes numbered lines until `reader` has to be read, and three more; then reads, and checks
    /// that a line which was taken is there, whole, that the others are counted, and that it goes on.
    fn check(mut outlet: Outlet, mut read: impl FnMut() -> String) {
        let before = lines_dropped();
        let line = |nth: u32| format!("{nth} {}\n", "x".repeat(300));
        let mut expected = String::new();
        let mut nth = 0;
        let mut dropped = 0;
        while dropped < 3 {
            match outlet.line(line(nth).as_bytes()) {
                true => {
                    assert_eq!(dropped, 0, "line {nth} was taken after one was dropped");
                    expected += &line(nth);
                }
                false => dropped += 1,
            }
            nth += 1;
        }
        assert!(nth > 10 && lines_dropped() - before >= 3);
        let mut seen = read();
        // The rest of a line that was cut, the notice, and the next line.
        assert!(outlet.line(b"next\n"));
        seen += &read();
        expected +=
            "[WARN pushv] 3 lines of the log are missing here: they could not be written\nnext\n";
        assert!(seen == expected, "{}", seen.chars().rev().take(900).collect::<String>());
    }

    /// Reads what is in a pipe, by way of a description that does not wait for more.
    fn drained(pipe: &PipeReader) -> String {
        let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
        let own = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let mut bytes = Vec::new();
        let _until_it_is_empty = own.unwrap().read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_pipe_that_is_not_read() {
        let (reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::new(&writer).unwrap();
        assert_eq!(outlet.way, Way::Plain);
        check(outlet, || drained(&reader));
        // The description that others share is as it was.
        let info = format!("/proc/self/fdinfo/{}", writer.as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_eq!(i32::from_str_radix(flags, 8).unwrap() & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_again() {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(writer.as_fd().try_clone_to_owned().unwrap());
        let outlet = Outlet { file, way: Way::PollFirst, rest: Vec::new(), dropped: 0 };
        check(outlet, || drained(&reader));
    }

    #[test]
    fn a_socket_that_is_not_read() {
        let (reader, writer) = UnixStream::pair().unwrap();
        let outlet = Outlet::new(&writer).unwrap();
        assert_eq!(outlet.way, Way::DontWait);
        reader.set_nonblocking(true).unwrap();
        check(outlet, || {
            let mut bytes = Vec::new();
            let _until_it_is_empty = (&reader).read_to_end(&mut bytes);
            String::from_utf8(bytes).unwrap()
        });
    }

    /// A file has one position for all who share its description: what others write is not overwritten.
    #[test]
    fn a_file_is_shared() {
        let path = std::env::temp_dir().join(format!("pushv-outlet-{}", std::process::id()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut outlet = Outlet::new(&file).unwrap();
        file.write_all(b"one\n").unwrap();
        assert!(outlet.line(b"two\n"));
        file.write_all(b"three\n").unwrap();
        file.rewind().unwrap();
        assert_eq!(io::read_to_string(&file).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn what_is_gone_or_full_drops_lines() {
        let (reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(&writer).unwrap();
        drop(reader);
        assert!(!outlet.line(b"x\n"));
        let mut outlet =
            Outlet::new(File::options().write(true).open("/dev/full").unwrap()).unwrap();
        assert!(!outlet.line(b"x\n") && !outlet.line(b"y\n"));
        let mut outlet =
            Outlet::new(File::options().write(true).open("/dev/null").unwrap()).unwrap();
        assert!(outlet.line(b"x\n"));
    }

    #[test]
    fn a_long_line_is_cut() {
        let (reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(&writer).unwrap();
        assert!(outlet.line(&[b'x'; 1 << 20]));
        let seen = drained(&reader);
        assert!(seen.len() == LINE_BYTES_MAX && seen.ends_with("xx [...]\n"), "{}", seen.len());
    }
}
