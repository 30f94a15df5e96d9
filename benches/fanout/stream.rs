//! One subscriber's stream, and what all of them must agree on.
//!
//! Every subscriber of a server must receive the same body. Whoever is ahead extends the
//! reference, which is decoded and checked event by event; everybody else's bytes are compared
//! with it. So every event of every subscriber is checked, at the cost of a comparison. It is
//! the body that is compared, behind the transfer coding: where its chunks begin is the server's
//! affair, and may differ from one subscriber to the next.

use crate::failure::Failure;
use crate::plan::DATA_BYTES;
use pushv::wire::chunk;
use pushv::wire::decode::{Decoder, Item};

/// Where a subscriber is in its stream.
pub struct Stream {
    framing: Framing,
    /// How far it is in the reference, in bytes and in events.
    offset: usize,
    events: usize,
}

/// What separates the body from what carries it (RFC 9112 §6).
enum Framing {
    Chunked(chunk::Decoder),
    UntilClose,
}

impl Stream {
    /// A stream behind its response head.
    ///
    /// # Errors
    /// If the head is not that of an event stream.
    pub fn new(head: &[u8]) -> Result<Stream, Failure> {
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") || !head.contains("text/event-stream") {
            return Err(Failure::Wrong(format!("no event stream: {head:?}")));
        }
        let chunked = head.contains("\r\ntransfer-encoding: chunked\r\n");
        let framing =
            if chunked { Framing::Chunked(Default::default()) } else { Framing::UntilClose };
        Ok(Stream { framing, offset: 0, events: 0 })
    }

    /// Hands each run of body bytes among those received to `body`.
    fn unframe<'r>(
        &mut self,
        mut received: &'r [u8],
        mut body: impl FnMut(&mut usize, &'r [u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Framing::Chunked(decoder) = &mut self.framing else {
            return body(&mut self.offset, received);
        };
        while !received.is_empty() {
            let part =
                decoder.decode(received).map_err(|error| Failure::Wrong(error.to_string()))?;
            if part.done {
                return Err(Failure::Closed("a stream was ended".into()));
            }
            body(&mut self.offset, part.data)?;
            received = &received[part.consumed..];
        }
        Ok(())
    }

    /// Takes what stands at the start of a stream before any event: a comment, a `retry` field that
    /// is different for each subscriber. Gives whether its end, an empty line, has come.
    ///
    /// # Errors
    /// If the framing is broken, or something follows.
    pub fn begin(&mut self, prelude: &mut Vec<u8>, received: &[u8]) -> Result<bool, Failure> {
        self.unframe(received, |_, body| {
            prelude.extend_from_slice(body);
            Ok(())
        })?;
        match prelude.windows(2).position(|pair| pair == b"\n\n") {
            Some(at) if at + 2 < prelude.len() => {
                Err(Failure::Wrong("an event before the first was published".into()))
            }
            found => Ok(found.is_some()),
        }
    }

    /// Checks what has been received. Gives the events that it completes, by number.
    ///
    /// # Errors
    /// If it is not what it must be.
    pub fn take(
        &mut self,
        received: &[u8],
        reference: &mut Reference,
    ) -> Result<std::ops::Range<usize>, Failure> {
        self.unframe(received, |offset, body| {
            reference.check(*offset, body)?;
            *offset += body.len();
            Ok(())
        })?;
        let before = self.events;
        while reference.ends.get(self.events).is_some_and(|&end| end <= self.offset) {
            self.events += 1;
        }
        Ok(before..self.events)
    }
}

/// What every subscriber receives after the start of its stream.
pub struct Reference {
    bytes: Vec<u8>,
    /// The offset behind each event.
    ends: Vec<usize>,
    decoder: Decoder,
}

impl Default for Reference {
    fn default() -> Reference {
        Reference { bytes: Vec::new(), ends: Vec::new(), decoder: Decoder::new(1 << 20) }
    }
}

impl Reference {
    /// How many events have reached at least one subscriber.
    pub fn events(&self) -> usize {
        self.ends.len()
    }

    /// Compares what a subscriber received at `offset` with what others did, or decodes it if
    /// nobody did yet.
    fn check(&mut self, offset: usize, received: &[u8]) -> Result<(), Failure> {
        let known = (self.bytes.len() - offset).min(received.len());
        if self.bytes[offset..offset + known] != received[..known] {
            return Err(Failure::Wrong(format!("two streams differ at byte {offset}")));
        }
        if known < received.len() {
            self.extend(&received[known..])?;
        }
        Ok(())
    }

    fn extend(&mut self, mut new: &[u8]) -> Result<(), Failure> {
        self.bytes.extend_from_slice(new);
        loop {
            let item =
                self.decoder.next(&mut new).map_err(|error| Failure::Wrong(error.to_string()))?;
            let message = match item {
                Some(Item::Message(message)) => message,
                Some(Item::Retry(_)) => continue,
                None => return Ok(()),
            };
            let expected = format!("event {} ", self.ends.len());
            if !message.data.starts_with(expected.as_bytes()) {
                let data = String::from_utf8_lossy(message.data);
                let came = data.trim_end_matches('x').trim_end();
                return Err(Failure::Lost(format!("{came} came in place of {expected}")));
            }
            if message.data.len() != DATA_BYTES || message.id.is_none() {
                return Err(Failure::Wrong(format!("{message:?}")));
            }
            self.ends.push(self.bytes.len() - new.len());
        }
    }
}
