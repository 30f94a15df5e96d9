//! Many calls, one after the other, each timed by itself.

use super::call::{Call, taken};
use super::link::{Channel, Door, Link, connect};
use super::payload::Payload;
use super::peer::{Peer, Reading};
use super::tracepoints::Tracepoints;
use super::{Opened, Reader, told};
use crate::load::tally::Distribution;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, Write as _};

/// A block that is to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// What is done.
    pub work: Kind,
    /// Pieces of each call.
    pub pieces: usize,
    /// Bytes of each piece.
    pub piece_bytes: usize,
    /// Pieces, or vectors of pieces, that are sent altogether: an even number.
    pub calls: usize,
}

/// What is done with the pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A single piece is sent by this call.
    Call(Call),
    /// All pieces are copied into one buffer, which is written.
    Copy,
    /// All pieces are handed over as they lie, by `writev(2)`.
    Gather,
}

/// What was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Block {
    /// The times of all calls but those of which the processor time was taken.
    pub ns: Distribution,
    /// Their median, in nanoseconds.
    pub median_ns: f64,
    /// Their mean.
    pub mean_ns: f64,
    /// The mean processor time of a call, of every eighth call. It contains one reading of that
    /// clock.
    pub cpu_ns: f64,
    /// Segments that the connection has sent, per piece or vector of pieces.
    pub segments: f64,
    /// Pieces, or vectors of pieces, that have arrived.
    pub events: u64,
    /// What has arrived.
    pub reading: Reading,
}

/// A process that sends, with its reader.
pub(super) struct Sender {
    link: Link,
    peer: Peer,
    payload: Payload,
    joined: Vec<u8>,
    tracepoints: Option<Tracepoints>,
}

impl Sender {
    pub fn open(reader: Reader, reader_processor: usize) -> Result<Sender, String> {
        let door = Door::open().map_err(told("listen"))?;
        let address = door.address().map_err(told("listen"))?;
        let peer = match reader {
            Reader::Nobody => Peer::here(connect(address).map_err(told("connect"))?)
                .map_err(told("the reader"))?,
            _ => Peer::there(reader, reader_processor, address)?,
        };
        let link = door.let_in().map_err(told("accept"))?;
        let payload = Payload::new(1, 1);
        Ok(Sender { link, peer, payload, joined: Vec::new(), tracepoints: None })
    }

    pub fn opened(&self) -> Result<Opened, String> {
        Ok(Opened {
            clock_ns: cost_ns(sys::monotonic_ns),
            thread_clock_ns: cost_ns(|| {
                sys::thread_cpu_time().map_or(0, |time| time.as_nanos() as u64)
            }),
            segment_bytes: self.link.segment_bytes().map_err(told("TCP_MAXSEG"))?,
            call_bytes_max: self.link.call_bytes_max().map_err(told("SO_SNDBUF"))?,
            reader_pid: self.peer.pid(),
        })
    }

    /// Measures a block, and checks that what was sent has arrived.
    pub fn measure(&mut self, task: &Task) -> Result<Block, String> {
        let &Task { work, pieces, piece_bytes, calls } = task;
        let channel = match work {
            Kind::Call(call) => call.channel(),
            _ => Channel::Tcp,
        };
        let mut stopwatch = Stopwatch::new(calls);
        let segments = || self.link.segments_sent().map_err(told("TCP_INFO"));
        let before = segments()?;
        let reading = self.checked(pieces, piece_bytes, calls, channel, |sender| match work {
            Kind::Call(call) => sender.call(call, calls, &mut stopwatch),
            _ => sender.vectors(work == Kind::Gather, calls, &mut stopwatch),
        })?;
        let after = self.link.segments_sent().map_err(told("TCP_INFO"))?;
        let segments = f64::from(after.wrapping_sub(before)) / calls as f64;
        Ok(Block { events: calls as u64, reading, segments, ..stopwatch.block() })
    }

    /// Counts how often each tracepoint is passed in a call.
    pub fn count(
        &mut self,
        call: Call,
        piece_bytes: usize,
        calls: usize,
        tracepoints: &[u64],
    ) -> Result<Vec<f64>, String> {
        let told = told("a tracepoint");
        let mut counters = match self.tracepoints.take().filter(|known| known.are(tracepoints)) {
            Some(known) => known,
            None => Tracepoints::open(tracepoints).map_err(&told)?,
        };
        counters.begin().map_err(&told)?;
        self.checked(1, piece_bytes, calls, call.channel(), |sender| {
            sender.call(call, calls, &mut counters)
        })?;
        let per_call = counters.per_call().map_err(&told);
        self.tracepoints = Some(counters);
        per_call
    }

    /// Has `send` send so many vectors of pieces, and checks that they have arrived.
    fn checked(
        &mut self,
        pieces: usize,
        piece_bytes: usize,
        calls: usize,
        channel: Channel,
        send: impl FnOnce(&mut Sender) -> io::Result<()>,
    ) -> Result<Reading, String> {
        if !self.payload.is(pieces, piece_bytes) {
            self.payload = Payload::new(pieces, piece_bytes);
        }
        let checksum = self.payload.checksum(calls);
        let bytes = (calls * pieces * piece_bytes) as u64;
        self.peer.begin(&self.link, channel, bytes)?;
        send(self).map_err(|error| error.to_string())?;
        let reading = self.peer.end()?;
        check(reading, bytes, checksum)?;
        Ok(reading)
    }

    /// Sends so many pieces by one call.
    fn call(&mut self, call: Call, calls: usize, around: &mut impl Around) -> io::Result<()> {
        let Sender { link, peer, payload, .. } = self;
        let (channel, mut sent) = (call.channel(), 0);
        for number in (0..calls).step_by(call.pieces()) {
            payload.stamp(number);
            if call.before(link, payload)? {
                payload.stamp(number + 1);
                peer.rest()?;
            }
            let bytes = payload.bytes();
            let piece = payload.first();
            taken(around.make(|| call.make(link, piece))?, bytes)?;
            call.after(link, payload)?;
            sent += (call.pieces() * bytes) as u64;
            peer.settle(link, channel, sent)?;
        }
        Ok(())
    }

    /// Sends so many vectors of pieces. What has to be done for each call to have one, walking
    /// over the pieces and noting or copying them, is within the time that is taken.
    fn vectors(&mut self, gather: bool, calls: usize, stopwatch: &mut Stopwatch) -> io::Result<()> {
        let Sender { link, peer, payload, joined, .. } = self;
        let mut sent = 0;
        for number in 0..calls {
            payload.stamp(number);
            let written = if gather {
                let mut iovecs = Vec::with_capacity(PIECES_MAX);
                stopwatch.make(|| {
                    iovecs.extend(payload.pieces().map(IoSlice::new));
                    link.file.write_vectored(&iovecs)
                })?
            } else {
                stopwatch.make(|| {
                    joined.clear();
                    payload.pieces().for_each(|piece| joined.extend_from_slice(piece));
                    link.file.write(joined)
                })?
            };
            taken(written, payload.bytes())?;
            sent += written as u64;
            peer.settle(link, Channel::Tcp, sent)?;
        }
        Ok(())
    }
}

/// What is done around each call.
pub(super) trait Around {
    /// Has the call made.
    fn make(&mut self, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
}

fn check(reading: Reading, bytes: u64, checksum: u32) -> Result<(), String> {
    if (reading.bytes, reading.checksum) == (bytes, checksum) {
        return Ok(());
    }
    Err(format!(
        "{} bytes were received with the checksum {:08x}, but {bytes} were sent, with {checksum:08x}",
        reading.bytes, reading.checksum
    ))
}

/// Times calls. Reading the processor clock takes a system call, which would be a good part of a
/// short time; so a call has either its time taken, or its processor time.
pub(super) struct Stopwatch {
    ns: Vec<u64>,
    cpu_ns: u64,
    cpu_calls: u64,
    calls: usize,
    /// What a time is divided by.
    divisor: u64,
}

impl Stopwatch {
    fn new(calls: usize) -> Stopwatch {
        Stopwatch::per(1, calls)
    }

    /// One for calls that are each made of `divisor` equal parts, of which the times are told.
    pub fn per(divisor: usize, calls: usize) -> Stopwatch {
        let ns = Vec::with_capacity(calls);
        Stopwatch { ns, cpu_ns: 0, cpu_calls: 0, calls: 0, divisor: divisor.max(1) as u64 }
    }

    /// Takes the time of `call`.
    #[inline]
    pub fn time<R>(&mut self, call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.calls += 1;
        if self.calls.is_multiple_of(CPU_EVERY) {
            let before = sys::thread_cpu_time()?;
            let result = call();
            self.cpu_ns += (sys::thread_cpu_time()? - before).as_nanos() as u64;
            self.cpu_calls += 1;
            return result;
        }
        let before_ns = sys::monotonic_ns();
        let result = call();
        self.ns.push(sys::monotonic_ns() - before_ns);
        result
    }

    /// What it has taken.
    pub fn block(mut self) -> Block {
        let mut ns = Distribution::default();
        self.ns.iter().for_each(|&time| ns.record(time / self.divisor));
        let divisor = self.divisor as f64;
        let mean_ns = self.ns.iter().sum::<u64>() as f64 / self.ns.len().max(1) as f64 / divisor;
        let cpu_ns = self.cpu_ns as f64 / self.cpu_calls.max(1) as f64 / divisor;
        let median_ns = median(&mut self.ns) / divisor;
        Block { ns, median_ns, mean_ns, cpu_ns, ..Block::default() }
    }
}

impl Around for Stopwatch {
    #[inline]
    fn make(&mut self, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.time(call)
    }
}

/// The median; 0 of nothing.
fn median(values: &mut [u64]) -> f64 {
    values.sort_unstable();
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2] as f64,
        even => (values[even / 2 - 1] + values[even / 2]) as f64 / 2.0,
    }
}

/// What a clock shows more at once than just before: the part of each time that is not the call.
fn cost_ns(clock_ns: impl Fn() -> u64) -> f64 {
    median(&mut std::array::from_fn::<_, 1001, _>(|_| {
        let before_ns = clock_ns();
        clock_ns() - before_ns
    }))
}

/// Of one call in eight, the processor time is taken.
const CPU_EVERY: usize = 8;

/// The most pieces that one `writev` takes (`IOV_MAX`).
const PIECES_MAX: usize = crate::send::transport::IOVECS_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [9, 1, 5]), 5.0);
        assert_eq!(median(&mut [4, 1, 9, 2]), 3.0);
    }

    #[test]
    fn what_did_not_arrive_is_told() {
        let reading = Reading { bytes: 10, checksum: 0xabc };
        assert_eq!(check(reading, 10, 0xabc), Ok(()));
        assert!(check(reading, 11, 0xabc).unwrap_err().starts_with("10 bytes were received"));
        assert!(check(reading, 10, 0xabd).unwrap_err().contains("00000abd"));
    }
}
