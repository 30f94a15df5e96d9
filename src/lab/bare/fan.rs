//! One event to many connections: a call for each, or one call for all of them.

use super::block::{Block, Stopwatch};
use super::call::taken;
use super::link::quiet_pair;
use super::peer::Reading;
use super::told;
use crate::sys::uring::Ring;
use serde::{Deserialize, Serialize};
use socket2::Socket;
use std::io::{self, ErrorKind, Read as _};
use std::time::{Duration, Instant};

/// How an event is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By one `send(2)` for each connection.
    Send,
    /// By one `io_uring_enter(2)` for as many as the ring holds.
    Uring,
}

/// What was measured; the times are those of one delivery, an event's divided by the connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fanned {
    /// Times, and what every connection has received.
    pub block: Block,
    /// System calls for each delivery.
    pub calls: f64,
}

/// Connections, both ends of each.
pub(super) struct Fan {
    senders: Vec<Socket>,
    receivers: Vec<Socket>,
    ring: Option<Ring>,
}

impl Fan {
    pub fn open(subscribers: usize) -> Result<Fan, String> {
        let pairs = (0..subscribers).map(|_| quiet_pair()).collect::<io::Result<Vec<_>>>();
        let (senders, receivers) = pairs.map_err(told("a connection"))?.into_iter().unzip();
        Ok(Fan { senders, receivers, ring: None })
    }

    pub fn subscribers(&self) -> usize {
        self.senders.len()
    }

    /// Sends so many events of `bytes` bytes to everybody.
    pub fn measure(&mut self, way: Way, bytes: usize, events: usize) -> Result<Fanned, String> {
        if way == Way::Uring && self.ring.is_none() {
            self.ring = Some(Ring::new(RING_ENTRIES).map_err(told("io_uring"))?);
        }
        let subscribers = self.senders.len();
        let mut stopwatch = Stopwatch::per(subscribers, events);
        let (mut event, mut buffer) = (vec![0x2e; bytes], vec![0; bytes]);
        let (mut hasher, mut calls) = (crc32fast::Hasher::new(), 0);
        for number in 0..events as u64 {
            let stamped = bytes.min(8);
            event[..stamped].copy_from_slice(&number.to_le_bytes()[..stamped]);
            calls += stopwatch.time(|| self.send(way, &event)).map_err(told("a send"))?;
            self.receive(&event, &mut buffer)?;
            hasher.update(&event);
        }
        let deliveries = (events * subscribers) as u64;
        let reading = Reading { bytes: deliveries * bytes as u64, checksum: hasher.finalize() };
        let block = Block { events: deliveries, reading, ..stopwatch.block() };
        Ok(Fanned { block, calls: calls as f64 / deliveries as f64 })
    }

    /// Sends an event to everybody; gives the number of system calls.
    fn send(&mut self, way: Way, event: &[u8]) -> io::Result<usize> {
        if let (Way::Uring, Some(ring)) = (way, &mut self.ring) {
            return ring.send_to_all(&self.senders, event);
        }
        for socket in &self.senders {
            taken(socket.send(event)?, event.len())?;
        }
        Ok(self.senders.len())
    }

    /// Everybody has to have received the event, byte by byte.
    fn receive(&mut self, event: &[u8], buffer: &mut [u8]) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        for receiver in &mut self.receivers {
            let mut received = 0;
            while received < event.len() {
                match receiver.read(&mut buffer[received..]) {
                    Ok(0) => return Err("a connection ended".into()),
                    Ok(read) => received += read,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if Instant::now() > deadline {
                            return Err("an event has not arrived".into());
                        }
                    }
                    Err(error) => return Err(told("reading")(error)),
                }
            }
            if buffer != event {
                return Err("what was received is not what was sent".into());
            }
        }
        Ok(())
    }
}

/// As many as the largest fan-out has connections.
const RING_ENTRIES: u32 = 1024;

const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_every_event_either_way() {
        let mut fan = Fan::open(5).unwrap();
        let sent = fan.measure(Way::Send, 64, 16).unwrap();
        assert_eq!((sent.calls, sent.block.events, sent.block.reading.bytes), (1.0, 80, 80 * 64));
        // Where there is no io_uring, there is nothing to compare.
        let Ok(ring) = fan.measure(Way::Uring, 64, 16) else { return };
        assert_eq!((ring.calls, ring.block.reading), (0.2, sent.block.reading));
    }
}
