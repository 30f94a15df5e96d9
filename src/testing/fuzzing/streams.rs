//! Targets about event streams.

use super::{cut, in_pieces};
use crate::wire::chunk;
use crate::wire::decode::{Decoder, FIELD_BYTES_MAX, Item};
use crate::wire::event::{self, Encoder, Event};

/// What a reader makes of a stream: events, and reconnection times between them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Event { name: Vec<u8>, data: Vec<u8>, last_id: Vec<u8> },
    Retry(u64),
}

/// However a stream is cut, the same comes out, and it is what the standard says.
pub fn sse_decoder(input: &[u8]) {
    let (bytes, pieces) = cut(input);
    let whole = decode(&[bytes]);
    assert_eq!(decode(&in_pieces(bytes, &pieces)), whole, "cut into {pieces:?}");
    assert_eq!(whole, by_the_letter(bytes));
}

fn decode(pieces: &[&[u8]]) -> Vec<Seen> {
    let mut decoder = Decoder::new(BYTES_MAX);
    let mut seen = Vec::new();
    for mut piece in pieces.iter().copied() {
        loop {
            match decoder.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(Item::Retry(ms))) => seen.push(Seen::Retry(ms)),
                Ok(Some(Item::Message(message))) => seen.push(Seen::Event {
                    name: message.name.to_vec(),
                    data: message.data.to_vec(),
                    last_id: message.last_id.to_vec(),
                }),
                Err(_) => return seen,
            }
        }
    }
    seen
}

/// WHATWG HTML §9.2.6 as it reads, for a whole stream at once.
fn by_the_letter(bytes: &[u8]) -> Vec<Seen> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut seen, mut data, mut name, mut id) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for line in lines(bytes) {
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            None => (line, &line[line.len()..]),
            Some(colon) => (&line[..colon], &line[colon + 1..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let too_long = value.len() > FIELD_BYTES_MAX;
        match field {
            b"" if line.is_empty() => {
                let (name, mut data) = (std::mem::take(&mut name), std::mem::take(&mut data));
                if data.pop().is_some() {
                    seen.push(Seen::Event { name, data, last_id: id.clone() });
                }
            }
            b"data" if data.len() + value.len() > BYTES_MAX => return seen,
            b"data" => data.extend(value.iter().chain(b"\n")),
            b"event" | b"id" | b"retry" if too_long => return seen,
            b"event" => name = value.to_vec(),
            b"id" if !value.contains(&0) => id = value.to_vec(),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                // A number beyond what can be kept is the largest that can.
                let digits = std::str::from_utf8(value).expect("ASCII");
                seen.push(Seen::Retry(digits.parse().unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }
    seen
}

/// The lines that have ended, by CRLF, CR or LF.
fn lines(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        lines.push(&bytes[..end]);
        bytes = bytes[end..].strip_prefix(b"\r\n").unwrap_or(&bytes[end + 1..]);
    }
    lines
}

/// What is published is what a reader gets, whatever the event holds.
pub fn round_trip(input: &[u8]) {
    let (bytes, pieces) = cut(input);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Fields are divided by a character that none of them may hold.
    let mut fields = text.splitn(4, '\u{1}');
    let id = fields.next().unwrap_or_default();
    let name = fields.next().filter(|name| !name.is_empty());
    let retry_ms = fields.next().and_then(|ms| ms.parse().ok());
    let data = fields.next().unwrap_or_default();
    if event::check_id(id).is_err() || name.is_some_and(|name| event::check_name(name).is_err()) {
        return;
    }
    let mut encoder = Encoder::default();
    let frame = encoder.encode(id, &Event { id: None, name, retry_ms, data });
    let payload = unchunk(frame.bytes, &pieces);
    let data = data.replace("\r\n", "\n").replace('\r', "\n").into_bytes();
    let name = name.unwrap_or_default().into();
    let mut expected: Vec<Seen> = retry_ms.map(Seen::Retry).into_iter().collect();
    expected.push(Seen::Event { name, data, last_id: id.into() });
    assert_eq!(decode(&[&payload]), expected);
}

/// The body of one chunk that arrives in pieces, at most of these lengths.
fn unchunk(frame: &[u8], pieces: &[usize]) -> Vec<u8> {
    let (mut decoder, mut payload, mut rest) = (chunk::Decoder::default(), Vec::new(), frame);
    let mut lens = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let len = lens.next().unwrap_or(usize::MAX).min(rest.len());
        let (mut piece, behind) = rest.split_at(len);
        while !piece.is_empty() {
            let part = decoder.decode(piece).expect("our own chunk");
            payload.extend_from_slice(part.data);
            piece = &piece[part.consumed..];
        }
        rest = behind;
    }
    payload
}

/// Longer than what a fuzzer makes, so that the limits are not what is tested here.
const BYTES_MAX: usize = 1 << 20;
