//! What the probe is told, and what it answers.

use crate::load::tally::Distribution;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// To the probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Open subscribers and a publisher, instead of those that are there.
    Open {
        /// The server.
        address: SocketAddr,
        /// The topics. Each has subscribers of its own.
        topics: Vec<String>,
        /// Subscribers of each topic.
        subscribers: usize,
        /// `SO_RCVBUF` of the subscribers; 0 leaves it to the kernel.
        rcvbuf_bytes: usize,
        /// The processor to run on.
        processor: usize,
    },
    /// Publish and receive.
    Run(Run),
    /// Publish so many events to a topic nobody reads meanwhile, and say how many bytes wait in
    /// the receive buffers when nothing moves any more. What is not received then, the next order
    /// `Run` for this topic receives first.
    Pile {
        /// The topic, by its place.
        topic: usize,
        /// How many.
        events: usize,
    },
    /// Wait until nothing moves any more, and say again how many bytes wait.
    Settle {
        /// The topic, by its place.
        topic: usize,
    },
    /// Receive what is there until everybody has everything.
    Receive {
        /// The topic, by its place.
        topic: usize,
    },
}

/// One block's work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The topic, by its place.
    pub topic: usize,
    /// How many bursts are published.
    pub bursts: usize,
    /// How many events each of them has; they are one request.
    pub burst: usize,
    /// When the next burst is due.
    pub pace: Pace,
    /// How subscribers read.
    pub reader: Reader,
}

/// When the next burst is due.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// When everybody has the one before.
    Closed,
    /// So many microseconds after the one before was, whatever has become of it.
    EveryUs(u64),
}

/// How subscribers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reader {
    /// Without ever sleeping, so that nobody has to be woken.
    Spinning,
    /// When they are woken.
    Asleep,
    /// Once in so many milliseconds.
    NapMs(u64),
}

/// From the probe.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Deliveries: events times subscribers that received them.
    pub events: u64,
    /// Bytes received.
    pub bytes: u64,
    /// The checksum of what one subscriber received (CRC-32), in hexadecimal digits; everybody
    /// else's bytes were compared with it.
    pub checksum: String,
    /// Calls of `read` that found something.
    pub reads: u64,
    /// How long it took, from the first publish to the last arrival, in nanoseconds.
    pub wall_ns: u64,
    /// The part of that in which there was nothing to read, for readers that spin.
    pub idle_ns: u64,
    /// From the moment at which an event was meant to be published to its arrival.
    pub latency_ns: Distribution,
    /// Bytes that wait in the receive buffers (FIONREAD).
    pub unread_bytes: u64,
    /// Subscribers.
    pub subscribers: u64,
}
