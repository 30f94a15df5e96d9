//! An event becomes a frame: the bytes that every subscriber receives, encoded once.
//!
//! A frame is one chunk that holds one event block of the event stream format (WHATWG HTML
//! §9.2.5), its fields in this order:
//!
//! ```text
//! 3a CRLF                     chunk size line
//! event: NAME LF              if it has a name
//! retry: 2000 LF              if it sets a reconnection time
//! data: first line LF         one per line of data
//! id: k3v9x2ab-17 LF
//! LF                          dispatches the event
//! CRLF                        ends the chunk
//! ```
//!
//! The id comes last because some clients, `eventsource` 2 and `@microsoft/fetch-event-source` among
//! them, keep it as soon as its line ends. If their connection is cut between the id and the end of
//! its event, they come back with the id of an event that they have not got. Now only one byte lies
//! between the two.
//!
//! Injection is impossible by construction: a field value that could end its line is refused
//! ([`check_id`], [`check_name`]), and data is split at everything that ends a line for a
//! reader: CRLF, CR and LF. A carriage return cannot be carried by the format at all, so `"a\rb"`
//! arrives as `"a\nb"`.

use crate::wire::chunk;
use std::fmt;

/// An event as a publisher gives it, before it has a place in a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// The publisher's own id. Without one, the hub assigns its own.
    pub id: Option<&'a str>,
    /// The event's name (`event:`). Without one, readers see `message`.
    pub name: Option<&'a str>,
    /// The reconnection time it sets for its readers, in milliseconds.
    pub retry_ms: Option<u64>,
    /// The payload. May hold line ends; may be empty.
    pub data: &'a str,
}

/// A reusable buffer in which one frame at a time is encoded: no allocation once it is warm.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

/// One encoded event. Invariant: `bytes` is `line_bytes` of size line, then the payload, whose last
/// line is `id: ` and `id_bytes` of id, then an empty line and CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The whole chunk.
    pub bytes: &'a [u8],
    /// Length of the chunk's size line, CRLF included.
    pub line_bytes: u8,
    /// Length of the id.
    pub id_bytes: u16,
}

/// The id of a frame of which `id_bytes` are the id.
#[allow(clippy::indexing_slicing, reason = "the encoder ends a frame with its id and four bytes")]
pub fn id_of_frame(frame: &[u8], id_bytes: u16) -> &[u8] {
    let end = frame.len() - b"\n\n".len() - chunk::CRLF.len();
    &frame[end - usize::from(id_bytes)..end]
}

impl Encoder {
    /// Encodes `event` under `id` (which replaces the event's own, if it has one).
    ///
    /// The caller has checked `id` and the event; see [`check_id`], [`check_name`] and [`check_retry`].
    #[allow(
        clippy::indexing_slicing,
        reason = "room for a size line stands in front of the payload"
    )]
    pub fn encode(&mut self, id: &str, event: &Event<'_>) -> Frame<'_> {
        debug_assert!(id.len() <= ID_BYTES_MAX && !id.contains(['\r', '\n', '\0']));
        debug_assert!(event.name.is_none_or(|name| !name.contains(['\r', '\n', '\0'])));
        let bytes = &mut self.bytes;
        bytes.clear();
        // The payload's length, and with it the length of the size line, is known only when the
        // payload stands: leave room for the longest and write the line right-aligned into it.
        bytes.extend_from_slice(&[0; chunk::SIZE_LINE_MAX]);
        if let Some(name) = event.name {
            field(b"event: ", name.as_bytes(), bytes);
        }
        if let Some(retry_ms) = event.retry_ms {
            field(b"retry: ", retry_ms.to_string().as_bytes(), bytes);
        }
        for line in lines(event.data.as_bytes()) {
            field(b"data: ", line, bytes);
        }
        field(b"id: ", id.as_bytes(), bytes);
        bytes.push(b'\n');

        let mut line = [0; chunk::SIZE_LINE_MAX];
        let payload_bytes = bytes.len() - chunk::SIZE_LINE_MAX;
        let line_bytes = chunk::size_line(payload_bytes as u32, &mut line);
        bytes[..chunk::SIZE_LINE_MAX].copy_from_slice(&line);
        bytes.extend_from_slice(chunk::CRLF);
        Frame {
            bytes: &bytes[chunk::SIZE_LINE_MAX - line_bytes..],
            line_bytes: line_bytes as u8,
            id_bytes: id.len() as u16,
        }
    }
}

/// The most bytes that the frame of an event with `data_bytes` of data can take: the bound that a
/// log must be able to hold. Each byte of data can at worst be a line end of its own.
pub const fn frame_bytes_max(data_bytes: usize) -> usize {
    const FIXED: usize = chunk::SIZE_LINE_MAX
        + 2
        + (4 + ID_BYTES_MAX + 1)
        + (7 + NAME_BYTES_MAX + 1)
        + (7 + 20 + 1)
        + 1;
    FIXED + (data_bytes + 1) * b"data: \n".len()
}

/// Why an event's field is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldError {
    /// An empty id would clear the reader's position.
    Empty,
    /// Longer than [`ID_BYTES_MAX`] or [`NAME_BYTES_MAX`].
    TooLong,
    /// CR, LF, NUL or another control character.
    Control,
    /// Space at an end is stripped from `Last-Event-ID` on its way back (RFC 9110 §5.5), so the
    /// id that returns would not be the id that was sent.
    OuterSpace,
    /// Beyond ASCII. A browser sends such an id back as UTF-8, but clients that are built on
    /// `fetch` or on Python's `str` send Latin-1 or fail (WHATWG Fetch: a header value is a byte
    /// string).
    NotAscii,
    /// pushv uses the word itself.
    Reserved,
    /// Not within [`RETRY_MS`].
    OutOfRange,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldError::Empty => "is empty",
            FieldError::TooLong => "is longer than 256 bytes",
            FieldError::Control => "holds a control character",
            FieldError::OuterSpace => "begins or ends with a space",
            FieldError::NotAscii => "holds a character beyond ASCII",
            FieldError::Reserved => "is a word that pushv uses itself",
            FieldError::OutOfRange => "is not between 1 and 86400000 milliseconds",
        })
    }
}

/// Whether `id` can be an event's id and come back unharmed in `Last-Event-ID`.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_id(id: &str) -> Result<(), FieldError> {
    if id.is_empty() {
        return Err(FieldError::Empty);
    }
    if id.starts_with(' ') || id.ends_with(' ') {
        return Err(FieldError::OuterSpace);
    }
    check(id, ID_BYTES_MAX, &[EARLIEST, LATEST, GAP])?;
    if id.is_ascii() { Ok(()) } else { Err(FieldError::NotAscii) }
}

/// Whether `name` can be an event's name.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_name(name: &str) -> Result<(), FieldError> {
    check(name, NAME_BYTES_MAX, &[GAP, HEARTBEAT])
}

fn check(value: &str, bytes_max: usize, reserved: &[&str]) -> Result<(), FieldError> {
    if value.len() > bytes_max {
        Err(FieldError::TooLong)
    } else if value.chars().any(char::is_control) {
        Err(FieldError::Control)
    } else if reserved.contains(&value) {
        Err(FieldError::Reserved)
    } else {
        Ok(())
    }
}

/// Whether readers can be told to wait `retry_ms` before they reconnect.
///
/// # Errors
/// [`FieldError::OutOfRange`].
pub fn check_retry(retry_ms: u64) -> Result<(), FieldError> {
    if RETRY_MS.contains(&retry_ms) { Ok(()) } else { Err(FieldError::OutOfRange) }
}

/// The position that means "everything that is retained", in place of an id.
pub const EARLIEST: &str = "earliest";
/// What `Pushv-Resumed-From` says of a stream that begins with the next event.
pub const LATEST: &str = "latest";
/// The reconnection times, in milliseconds, that an event may set; the knob `retry_ms` has the same
/// bounds. With 0 a reader comes back without a pause. Above 2,147,483,647 a timer of node fires at
/// once, which is the same, and a browser waits for weeks.
pub const RETRY_MS: std::ops::RangeInclusive<u64> = 1..=86_400_000;
/// The name of the event that tells a reader of a loss.
pub const GAP: &str = "gap";
/// The name of the event that heartbeats can be made of.
pub const HEARTBEAT: &str = "heartbeat";
/// The longest id. It must fit the request head in which it comes back.
pub const ID_BYTES_MAX: usize = 256;
/// The longest event name.
pub const NAME_BYTES_MAX: usize = 256;

/// The lines of `data`, each as a reader will see it: split at CRLF, LF and CR. There is always
/// one more line than there are line ends.
#[allow(clippy::indexing_slicing, reason = "a line end stands where it was found")]
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let data = rest?;
        let Some(end) = data.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some(data);
        };
        let end_bytes = if data[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&data[end + end_bytes..]);
        Some(&data[..end])
    })
}

/// The space behind the colon is always written: a reader removes exactly one, so without it a
/// value that begins with a space would lose it.
fn field(name_colon_space: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name_colon_space);
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(id: &str, event: &Event<'_>) -> String {
        let mut encoder = Encoder::default();
        let frame = encoder.encode(id, event);
        let line = usize::from(frame.line_bytes);
        let payload = &frame.bytes[line..frame.bytes.len() - 2];
        let size = std::str::from_utf8(&frame.bytes[..line - 2]).unwrap();
        assert_eq!(usize::from_str_radix(size, 16).unwrap(), payload.len());
        assert_eq!(&frame.bytes[line - 2..line], b"\r\n");
        assert!(frame.bytes.ends_with(b"\n\n\r\n"));
        assert_eq!(id_of_frame(frame.bytes, frame.id_bytes), id.as_bytes());
        assert!(frame.bytes.len() <= frame_bytes_max(event.data.len()));
        String::from_utf8(payload.to_vec()).unwrap()
    }

    #[test]
    fn every_field() {
        let event = Event { id: None, name: Some("tick"), retry_ms: Some(1500), data: "one\ntwo" };
        assert_eq!(
            encode("e-1", &event),
            "event: tick\nretry: 1500\ndata: one\ndata: two\nid: e-1\n\n"
        );
    }

    #[test]
    fn data_is_split_where_a_reader_would_split_it() {
        let check = |data: &str, expected: &str| {
            assert_eq!(
                encode("7", &Event { data, ..Event::default() }),
                format!("{expected}id: 7\n\n"),
                "{data:?}"
            );
        };
        check("", "data: \n");
        check("a", "data: a\n");
        check(" a", "data:  a\n");
        check("a\nb", "data: a\ndata: b\n");
        check("a\r\nb", "data: a\ndata: b\n");
        check("a\rb", "data: a\ndata: b\n");
        check("a\n\rb", "data: a\ndata: \ndata: b\n");
        check("a\n", "data: a\ndata: \n");
        check("\r\n\r\n", "data: \ndata: \ndata: \n");
        check("id: x\n\nevent: y", "data: id: x\ndata: \ndata: event: y\n");
        check("\u{feff}x\u{2028}y\0\u{b}", "data: \u{feff}x\u{2028}y\0\u{b}\n");
    }

    #[test]
    fn the_bound_holds_for_the_worst_data() {
        for len in [0, 1, 15, 100, 5000] {
            let data = "\n".repeat(len);
            let (id, name) = ("i".repeat(ID_BYTES_MAX), "n".repeat(NAME_BYTES_MAX));
            let event =
                Event { id: None, name: Some(&name), retry_ms: Some(u64::MAX), data: &data };
            encode(&id, &event);
        }
    }

    #[test]
    fn fields_that_could_inject_are_refused() {
        for end in ["\r", "\n", "\r\n", "\0", "\x01", "\x7f", "\u{85}", "\t"] {
            assert_eq!(check_id(&format!("a{end}b")), Err(FieldError::Control), "{end:?}");
            assert_eq!(check_name(&format!("a{end}b")), Err(FieldError::Control), "{end:?}");
        }
        assert_eq!(check_id(""), Err(FieldError::Empty));
        assert_eq!(check_id(" a"), Err(FieldError::OuterSpace));
        assert_eq!(check_id("a "), Err(FieldError::OuterSpace));
        assert_eq!(check_name("gap"), Err(FieldError::Reserved));
        assert_eq!(check_id(&"x".repeat(257)), Err(FieldError::TooLong));
        assert_eq!(check_name("price"), Ok(()));
        assert_eq!(check_name("größe"), Ok(()));
    }

    /// What a header field can carry, in every client, is what an id can consist of.
    #[test]
    fn every_character_of_an_id() {
        for inner in (0..=0x17f).chain([0x2028, 0xfeff, 0xfffd, 0x1f600]).filter_map(char::from_u32)
        {
            let expected = match inner {
                ' '..='~' => Ok(()),
                _ if inner.is_control() => Err(FieldError::Control),
                _ => Err(FieldError::NotAscii),
            };
            assert_eq!(check_id(&format!("a{inner}b")), expected, "{inner:?}");
        }
        for word in ["earliest", "latest", "gap"] {
            assert_eq!(check_id(word), Err(FieldError::Reserved));
        }
    }

    #[test]
    fn reconnection_times() {
        for retry_ms in [1, 2_000, 86_400_000] {
            assert_eq!(check_retry(retry_ms), Ok(()));
        }
        for retry_ms in [0, 86_400_001, 1 << 31, 1 << 32, u64::MAX] {
            assert_eq!(check_retry(retry_ms), Err(FieldError::OutOfRange));
        }
    }
}
