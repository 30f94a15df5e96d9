//! What happens when the reader does not read: the send buffer fills up.

use super::link::narrow_pair;
use super::payload::Payload;
use super::told;
use crate::sys::tcp::{unacknowledged_bytes, unread_bytes};
use serde::{Deserialize, Serialize};
use socket2::Socket;
use std::io::{self, ErrorKind, Read as _};
use std::time::{Duration, Instant};

/// What was seen. Everything up to `refused_calls` is from the time when nobody had read a byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// Bytes that calls had taken when the first was refused with EAGAIN.
    pub accepted_bytes: u64,
    /// Of these, bytes in the kernel of the receiver.
    pub arrived_bytes: u64,
    /// Of these, bytes that it had not acknowledged.
    pub unacknowledged_bytes: u64,
    /// Calls that took everything.
    pub full_calls: u64,
    /// Calls that took less than they were asked to.
    pub short_calls: u64,
    /// What the last call took before the refusal.
    pub last_bytes: u64,
    /// Calls that were refused with EAGAIN.
    pub refused_calls: u64,
    /// Bytes that the reader got in the end.
    pub received_bytes: u64,
    /// Their checksum.
    pub checksum: u32,
    /// Whether that is the checksum of what calls have taken.
    pub is_intact: bool,
}

/// Sends pieces to a reader that does not read until a call is refused, and then, to one that
/// reads, the rest of `total_bytes`.
pub(super) fn fill(piece_bytes: usize, total_bytes: usize) -> Result<Filled, String> {
    let (sender, mut receiver) = narrow_pair().map_err(told("a connection"))?;
    receiver.set_nonblocking(true).map_err(told("a connection"))?;
    let payload = Payload::new(1, total_bytes);
    let bytes = payload.first();
    let mut filled = Filled::default();
    let sent = send_until_refused(&sender, bytes, piece_bytes, &mut filled)
        .map_err(told("filling the buffer"))?;
    if filled.refused_calls == 0 {
        return Err(format!("{total_bytes} bytes did not fill the buffer"));
    }
    // What the receiver's buffer has room for arrives by and by, as it acknowledges, which it may
    // put off by 40 ms.
    std::thread::sleep(MOMENT);
    filled.accepted_bytes = sent as u64;
    filled.arrived_bytes = unread_bytes(&receiver).map_err(told("FIONREAD"))? as u64;
    filled.unacknowledged_bytes = unacknowledged_bytes(&sender).map_err(told("SIOCOUTQ"))? as u64;
    let checksum = send_rest(&sender, &mut receiver, bytes, sent, piece_bytes, &mut filled)?;
    filled.checksum = checksum;
    filled.is_intact = checksum == crc32fast::hash(bytes);
    Ok(filled)
}

/// Gives the number of bytes that were taken.
fn send_until_refused(
    sender: &Socket,
    bytes: &[u8],
    piece_bytes: usize,
    filled: &mut Filled,
) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        let piece = &bytes[sent..bytes.len().min(sent + piece_bytes)];
        let taken = match sender.send(piece) {
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                filled.refused_calls += 1;
                break;
            }
            Err(error) => return Err(error),
        };
        if taken < piece.len() {
            filled.short_calls += 1;
        } else {
            filled.full_calls += 1;
        }
        filled.last_bytes = taken as u64;
        sent += taken;
    }
    Ok(sent)
}

/// Reads everything, and sends on whenever there is room. Gives the checksum of what was read.
fn send_rest(
    sender: &Socket,
    receiver: &mut Socket,
    bytes: &[u8],
    mut sent: usize,
    piece_bytes: usize,
    filled: &mut Filled,
) -> Result<u32, String> {
    let mut hasher = crc32fast::Hasher::new();
    let (mut buffer, deadline) = (vec![0; 64 << 10], Instant::now() + PATIENCE);
    while filled.received_bytes < bytes.len() as u64 {
        match receiver.read(&mut buffer) {
            Ok(0) => return Err("the connection ended".into()),
            Ok(read) => {
                filled.received_bytes += read as u64;
                hasher.update(&buffer[..read]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(told("reading")(error)),
        }
        // Not asked: what a refusal looks like has been seen.
        sent += sender.send(&bytes[sent..bytes.len().min(sent + piece_bytes)]).unwrap_or(0);
        if Instant::now() > deadline {
            return Err(format!("the rest has not arrived: {filled:?}"));
        }
    }
    Ok(hasher.finalize())
}

const MOMENT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);
