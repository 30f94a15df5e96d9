//! How every byte of every subscriber is checked, at the price of a comparison.
//!
//! All subscribers of a topic must receive the same bytes. Whoever is ahead extends the
//! *reference*, which is taken apart and checked event by event; everybody else's bytes are
//! compared with it. What it is checked by is the reader's half of the wire formats, which shares
//! no code with the writer's.

use crate::wire::chunk;
use crate::wire::decode::{self, Item};

/// The length of an event's data, in bytes.
pub const DATA_BYTES: usize = 100;

/// The length of an event's id, which the publisher gives: every frame has the same length, so a
/// count of bytes is a count of events.
const ID_DIGITS: usize = 12;

/// The length of an event as it leaves the server, chunk framing included.
pub const FRAME_BYTES: usize = {
    let payload = "id: \n".len() + ID_DIGITS + "data: \n".len() + DATA_BYTES + 1;
    assert!(payload >= 0x10 && payload < 0x100);
    "7e\r\n".len() + payload + "\r\n".len()
};

/// Appends event number `seq` to the body of a request that publishes.
pub fn append_event(seq: u64, body: &mut Vec<u8>) {
    body.extend_from_slice(format!("id: {seq:0ID_DIGITS$}\ndata: ").as_bytes());
    append_data(seq, body);
    body.extend_from_slice(b"\n\n");
}

fn append_data(seq: u64, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(format!("event {seq} ").as_bytes());
    // Padding that differs from event to event, so that one cannot pass for another.
    let pad = b'a' + (seq % 26) as u8;
    out.resize(begin + DATA_BYTES, pad);
}

/// What every subscriber of a topic receives.
#[derive(Debug)]
pub struct Reference {
    /// What has been received since the last [`clear`](Reference::clear), framing included.
    bytes: Vec<u8>,
    chunks: chunk::Decoder,
    events: decode::Decoder,
    /// The number of the next event.
    next_seq: u64,
    expected: Vec<u8>,
    crc: crc32fast::Hasher,
}

impl Reference {
    /// For a topic whose first event will have number `first_seq`.
    pub fn new(first_seq: u64) -> Reference {
        Reference {
            bytes: Vec::new(),
            chunks: chunk::Decoder::default(),
            events: decode::Decoder::new(1 << 20),
            next_seq: first_seq,
            expected: Vec::new(),
            crc: crc32fast::Hasher::new(),
        }
    }

    /// Forgets what everybody has, which begins a new checksum.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.crc = crc32fast::Hasher::new();
    }

    /// The checksum of what has been received since the last [`clear`](Reference::clear).
    pub fn checksum(&self) -> String {
        format!("{:08x}", self.crc.clone().finalize())
    }

    /// Takes what a subscriber has received at `offset`, counted from the last
    /// [`clear`](Reference::clear).
    ///
    /// # Errors
    /// If it is not what must come.
    pub fn take(&mut self, offset: usize, received: &[u8]) -> Result<(), String> {
        let known = (self.bytes.len() - offset).min(received.len());
        if self.bytes[offset..offset + known] != received[..known] {
            return Err(format!("two streams differ behind event {}", self.next_seq));
        }
        if known < received.len() { self.extend(&received[known..]) } else { Ok(()) }
    }

    fn extend(&mut self, mut new: &[u8]) -> Result<(), String> {
        self.bytes.extend_from_slice(new);
        self.crc.update(new);
        while !new.is_empty() {
            let part = self.chunks.decode(new).map_err(|error| error.to_string())?;
            if part.done {
                return Err("a stream was ended".into());
            }
            let mut data = part.data;
            new = &new[part.consumed..];
            while let Some(item) = self.events.next(&mut data).map_err(|error| error.to_string())? {
                let Item::Message(message) = item else { continue };
                self.expected.clear();
                append_data(self.next_seq, &mut self.expected);
                if message.data != self.expected || !message.name.is_empty() {
                    let data = String::from_utf8_lossy(message.data);
                    return Err(format!("{data:?} came in place of event {}", self.next_seq));
                }
                self.next_seq += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::{Encoder, Event};

    fn frames(seqs: std::ops::Range<u64>) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let mut all = Vec::new();
        for seq in seqs {
            let mut data = Vec::new();
            append_data(seq, &mut data);
            let data = std::str::from_utf8(&data).unwrap();
            let id = format!("{seq:0ID_DIGITS$}");
            let frame = encoder.encode(&id, &Event { data, ..Event::default() });
            assert_eq!(frame.bytes.len(), FRAME_BYTES);
            all.extend_from_slice(frame.bytes);
        }
        all
    }

    /// The question of an experiment says so.
    #[test]
    fn an_event_is_so_long() {
        assert_eq!((DATA_BYTES, FRAME_BYTES), (100, 131));
    }

    #[test]
    fn everybody_gets_the_same() {
        let all = frames(5..9);
        for cut in 0..all.len() {
            let mut reference = Reference::new(5);
            reference.take(0, &all[..cut]).unwrap();
            reference.take(0, &all).unwrap();
            reference.take(cut, &all[cut..]).unwrap();
            assert_eq!(reference.next_seq, 9);
        }
    }

    #[test]
    fn nobody_gets_something_else() {
        let all = frames(0..3);
        for at in 0..all.len() {
            let mut altered = all.clone();
            altered[at] ^= 1;
            let mut reference = Reference::new(0);
            reference.take(0, &all).unwrap();
            assert!(reference.take(0, &altered).is_err(), "byte {at}");
        }
        assert!(Reference::new(0).take(0, &frames(1..2)).is_err(), "one is missing");
        let mut twice = Reference::new(0);
        twice.take(0, &all).unwrap();
        assert!(twice.take(all.len(), &all).is_err(), "once more");
    }
}
