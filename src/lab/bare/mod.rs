//! The bare system call, without a server around it.
//!
//! A process of its own makes one call after the other on a TCP connection over loopback, times
//! each by itself, and proves that what it sent has arrived. It has one thread: to a process with
//! several the kernel charges a locked operation for looking up each descriptor (`fdget`,
//! fs/file.c). So a reader that is to run at the same time is yet another process.
//!
//! * [`call`]: the calls, and what belongs to each outside the time that is taken.
//! * `payload`: what is sent.
//! * `link`: the connection, and the pipe beside it.
//! * `peer`: who reads: nobody, somebody asleep, somebody who never sleeps.
//! * [`block`]: many calls, one after the other.
//! * [`tracepoints`]: what the kernel does in a call, counted.
//! * `fan`: one event to many connections, with `io_uring` and without (feature `uring`).
//! * [`fill`]: what happens when the reader does not read.
//! * [`bench`](mod@bench): the side that gives the orders; [`group`]: cells of an experiment.

pub mod bench;
pub mod block;
pub mod call;
#[cfg(feature = "uring")]
pub mod fan;
pub mod fill;
pub mod group;
mod link;
mod payload;
mod peer;
#[cfg(test)]
mod tests;
pub mod tracepoints;

use super::rig::child::serve;
use crate::sys;
use block::{Block, Sender, Task};
use call::Call;
use fill::Filled;
use peer::{Reading, Receiver};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// What the peer does while a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reader {
    /// Nobody sleeps on the connection and nobody reads: what was sent is fetched by the sender's
    /// own thread when the time has been taken.
    Nobody,
    /// A process on the other processor sleeps in `read(2)`: the call has to wake it.
    Asleep,
    /// A process on the other processor reads all the time and never sleeps.
    Spinning,
}

/// What the process is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// To become a sender, bound to `processor`, whose reader is in that state.
    Open {
        /// What its peer does.
        reader: Reader,
        /// The sender's processor.
        processor: usize,
        /// The reader's.
        reader_processor: usize,
    },
    /// To become a reader: connect to a sender.
    Connect {
        /// The sender's address.
        address: SocketAddr,
        /// The processor to be bound to.
        processor: usize,
    },
    /// As a reader: to read so many bytes.
    Read {
        /// How many.
        bytes: u64,
        /// Without ever sleeping.
        spin: bool,
        /// From the pipe of that path instead of the connection.
        pipe: Option<PathBuf>,
    },
    /// As a sender: to measure a block.
    Measure(Task),
    /// As a sender: to count what the kernel does in a call.
    Count {
        /// The call.
        call: Call,
        /// Bytes of a piece.
        piece_bytes: usize,
        /// Pieces that are sent altogether: an even number.
        calls: usize,
        /// The numbers of tracepoints, as the kernel gives them.
        tracepoints: Vec<u64>,
    },
    /// To send events to many connections.
    #[cfg(feature = "uring")]
    Fan {
        /// How.
        way: fan::Way,
        /// Connections.
        subscribers: usize,
        /// Bytes of an event.
        bytes: usize,
        /// Events.
        events: usize,
    },
    /// To fill a connection whose reader does not read.
    Fill {
        /// Bytes of each write.
        piece_bytes: usize,
        /// Bytes that are sent altogether, when the reader reads again.
        total_bytes: usize,
    },
}

/// What it answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// It is a sender.
    Opened(Opened),
    /// It is a reader.
    Connected,
    /// What it has read.
    Read(Reading),
    /// What it has measured.
    Block(Box<Block>),
    /// What it has measured on many connections.
    #[cfg(feature = "uring")]
    Fanned(Box<fan::Fanned>),
    /// How often each tracepoint was passed, per call.
    Counted(Vec<f64>),
    /// What it has seen.
    Filled(Filled),
}

/// What a sender knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// What two readings of the clock are apart with nothing between them, in nanoseconds: that
    /// much of each time is not the call's.
    pub clock_ns: f64,
    /// The same of the thread's processor clock, which takes a system call.
    pub thread_clock_ns: f64,
    /// The largest segment of the connection, in bytes.
    pub segment_bytes: u32,
    /// The longest call that its send buffer takes at once, in bytes.
    pub call_bytes_max: usize,
    /// The reader's process, if it is one of its own.
    pub reader_pid: Option<u32>,
}

/// The process: carries out [orders](Order) from `control` until nobody gives any.
///
/// # Errors
/// If the socket fails.
pub fn run(control: UnixStream) -> Result<(), String> {
    sys::set_descriptor_limit(u64::MAX).map_err(|error| error.to_string())?;
    let mut process = Process::Idle;
    serve(control, |order| process.carry_out(order))
}

/// What the process has become.
enum Process {
    Idle,
    Sender(Box<Sender>),
    Receiver(Receiver),
    #[cfg(feature = "uring")]
    Fan(Box<fan::Fan>),
}

impl Process {
    fn carry_out(&mut self, order: Order) -> Result<Answer, String> {
        match (order, self) {
            (Order::Open { reader, processor, reader_processor }, process) => {
                sys::bind_to_cpu(processor).map_err(told("a processor"))?;
                let sender = Sender::open(reader, reader_processor)?;
                let opened = sender.opened()?;
                *process = Process::Sender(Box::new(sender));
                Ok(Answer::Opened(opened))
            }
            (Order::Connect { address, processor }, process) => {
                sys::bind_to_cpu(processor).map_err(told("the reader's processor"))?;
                let receiver = Receiver::connect(address).map_err(told("connect"))?;
                *process = Process::Receiver(receiver);
                Ok(Answer::Connected)
            }
            (Order::Read { bytes, spin, pipe }, Process::Receiver(receiver)) => {
                receiver.read(bytes, spin, pipe).map(Answer::Read).map_err(told("the reader"))
            }
            (Order::Measure(task), Process::Sender(sender)) => {
                sender.measure(&task).map(|block| Answer::Block(Box::new(block)))
            }
            (Order::Count { call, piece_bytes, calls, tracepoints }, Process::Sender(sender)) => {
                sender.count(call, piece_bytes, calls, &tracepoints).map(Answer::Counted)
            }
            #[cfg(feature = "uring")]
            (Order::Fan { way, subscribers, bytes, events }, process) => {
                if !matches!(process, Process::Fan(fan) if fan.subscribers() == subscribers) {
                    *process = Process::Fan(Box::new(fan::Fan::open(subscribers)?));
                }
                let Process::Fan(fan) = process else { return Err("no connections".into()) };
                fan.measure(way, bytes, events).map(|fanned| Answer::Fanned(Box::new(fanned)))
            }
            (Order::Fill { piece_bytes, total_bytes }, _) => {
                fill::fill(piece_bytes, total_bytes).map(Answer::Filled)
            }
            (order, _) => Err(format!("{order:?} is not for this process")),
        }
    }
}

/// Says what failed.
fn told(what: &str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}

impl Reader {
    /// All states.
    pub const ALL: [Reader; 3] = [Reader::Nobody, Reader::Asleep, Reader::Spinning];

    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Reader::Nobody => "nobody",
            Reader::Asleep => "asleep",
            Reader::Spinning => "spinning",
        }
    }
}
