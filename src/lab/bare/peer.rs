//! Who reads.

use super::link::{Channel, Link, connect};
use super::{Answer, Order, Reader};
use crate::lab::rig::child::Child;
use crate::sys;
use serde::{Deserialize, Serialize};
use socket2::Socket;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// What a reader has read of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Bytes.
    pub bytes: u64,
    /// Their checksum.
    pub checksum: u32,
}

/// The reader, as the sender sees it.
pub(super) enum Peer {
    /// The sender itself.
    Here { socket: Socket, buffer: Vec<u8>, bytes: u64, hasher: crc32fast::Hasher },
    /// Another process.
    There { child: Child<Order, Answer>, stat: File, spins: bool },
}

impl Peer {
    /// Nobody sleeps on the connection.
    pub fn here(socket: Socket) -> io::Result<Peer> {
        socket.set_nonblocking(true)?;
        let hasher = crc32fast::Hasher::new();
        Ok(Peer::Here { socket, buffer: vec![0; BUFFER_BYTES], bytes: 0, hasher })
    }

    /// Starts a process that reads.
    pub fn there(reader: Reader, processor: usize, address: SocketAddr) -> Result<Peer, String> {
        let text = |error: io::Error| format!("the reader: {error}");
        let mut command = Command::new(std::env::current_exe().map_err(text)?);
        command.arg(SUBCOMMAND);
        let mut child = Child::spawn(command)?;
        // It connects while nobody accepts yet: the kernel accepts in our stead (listen(2)).
        child.ask(&Order::Connect { address, processor })?;
        let stat = File::open(format!("/proc/{}/stat", child.pid())).map_err(text)?;
        Ok(Peer::There { child, stat, spins: reader == Reader::Spinning })
    }

    /// The reader's process, if it is one of its own.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Peer::Here { .. } => None,
            Peer::There { child, .. } => Some(child.pid()),
        }
    }

    /// Prepares for a block of so many bytes.
    pub fn begin(&mut self, link: &Link, channel: Channel, expected: u64) -> Result<(), String> {
        match self {
            Peer::Here { bytes, hasher, .. } => {
                (*bytes, *hasher) = (0, crc32fast::Hasher::new());
                Ok(())
            }
            Peer::There { child, spins, .. } => {
                let pipe = (channel == Channel::Pipe).then(|| link.pipe_path());
                child.tell(&Order::Read { bytes: expected, spin: *spins, pipe })?;
                self.rest().map_err(|error| error.to_string())
            }
        }
    }

    /// Sees to it that everything has been read, `expected` bytes of the block so far, and that
    /// the reader is again in the state in which the next call is to find it.
    pub fn settle(&mut self, link: &mut Link, channel: Channel, expected: u64) -> io::Result<()> {
        match self {
            Peer::Here { socket, buffer, bytes, hasher } => {
                let patience = Patience::new();
                while *bytes < expected {
                    let result = match channel {
                        Channel::Tcp => socket.read(buffer),
                        Channel::Pipe => link.pipe_end.read(buffer),
                    };
                    match result {
                        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                        Ok(read) => {
                            *bytes += read as u64;
                            hasher.update(&buffer[..read]);
                        }
                        // What does not fit the window leaves by and by.
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            std::thread::yield_now();
                            patience.check("the rest of a call has not arrived")?;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
            Peer::There { .. } => {
                let patience = Patience::new();
                while link.under_way(channel)? > 0 {
                    patience.check("the reader does not read")?;
                }
                self.rest()
            }
        }
    }

    /// Waits until another process has read what it finds, and sleeps if it is to.
    pub fn rest(&mut self) -> io::Result<()> {
        let Peer::There { stat, spins, .. } = self else { return Ok(()) };
        let patience = Patience::new();
        // Our own call has made it ready to run. So if it sleeps, it has read and found no more.
        while !*spins && !sleeps(stat)? {
            patience.check("the reader does not go to sleep")?;
        }
        let until_ns = sys::monotonic_ns() + REST.as_nanos() as u64;
        while sys::monotonic_ns() < until_ns {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// What was read of the block.
    pub fn end(&mut self) -> Result<Reading, String> {
        match self {
            Peer::Here { bytes, hasher, .. } => {
                Ok(Reading { bytes: *bytes, checksum: hasher.clone().finalize() })
            }
            Peer::There { child, .. } => match child.hear()? {
                Answer::Read(reading) => Ok(reading),
                other => Err(format!("the reader answers {other:?}")),
            },
        }
    }
}

/// Whether a process sleeps, by its state in `/proc/PID/stat` (`proc_pid_stat(5)`): the letter
/// behind its name, which is in parentheses.
fn sleeps(stat: &File) -> io::Result<bool> {
    let mut line = [0; 64];
    let read = stat.read_at(&mut line, 0)?;
    let name_end = line[..read].iter().rposition(|&byte| byte == b')');
    let state = name_end.and_then(|at| line.get(at + 2));
    state.map(|state| *state == b'S').ok_or_else(|| ErrorKind::InvalidData.into())
}

/// The reader's side, in a process of its own.
pub(super) struct Receiver {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Receiver {
    pub fn connect(address: SocketAddr) -> io::Result<Receiver> {
        Ok(Receiver { socket: connect(address)?, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Reads so many bytes, from the connection or from the pipe of that path.
    pub fn read(&mut self, bytes: u64, spin: bool, pipe: Option<PathBuf>) -> io::Result<Reading> {
        self.socket.set_nonblocking(spin)?;
        let Some(path) = pipe else {
            return read_all(&mut self.socket, &mut self.buffer, bytes);
        };
        let flags = if spin { libc::O_NONBLOCK } else { 0 };
        let mut end = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        read_all(&mut end, &mut self.buffer, bytes)
    }
}

fn read_all(source: &mut impl Read, buffer: &mut [u8], bytes: u64) -> io::Result<Reading> {
    let (mut reading, mut hasher) = (Reading::default(), crc32fast::Hasher::new());
    while reading.bytes < bytes {
        match source.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                reading.bytes += read as u64;
                hasher.update(&buffer[..read]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    reading.checksum = hasher.finalize();
    Ok(reading)
}

/// How long something may take that is a matter of microseconds.
struct Patience {
    until_ns: u64,
}

impl Patience {
    fn new() -> Patience {
        Patience { until_ns: sys::monotonic_ns() + PATIENCE.as_nanos() as u64 }
    }

    fn check(&self, what: &str) -> io::Result<()> {
        if sys::monotonic_ns() < self.until_ns {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::TimedOut, what))
    }
}

/// The subcommand that calls [`run`](super::run).
pub const SUBCOMMAND: &str = "lab-bare";

const PATIENCE: Duration = Duration::from_secs(60);

/// How long a reader has slept, or has had time to read, when it is sent something.
const REST: Duration = Duration::from_micros(50);

/// What is read at once.
const BUFFER_BYTES: usize = 256 << 10;
