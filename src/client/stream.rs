//! One answer to a subscription: bytes in, items out, without any I/O.
//!
//! An answer has three layers: its head, the framing of its body, and the event stream inside.
//! They are taken off in one pass over the bytes where these stand. A stream keeps what the input
//! has not finished (a part of a head, of a line, of an event) and nothing else, so that many
//! thousands of them are cheap, and in steady state an event costs no allocation.
//!
//! The same items come out for every way of cutting the bytes.

use crate::client::response::{self, BadResponse, BodyEnd, ResponseHead};
use crate::client::url::Url;
use crate::wire::chunk::{self, ChunkError};
use crate::wire::decode::{self, DecodeError, Message, Step};
use std::fmt;

/// How much memory a stream may take. What exceeds it ends the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the answer's head, those of interim answers (1xx) before it included.
    pub head_bytes_max: usize,
    /// Bytes of one event's data.
    pub event_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { head_bytes_max: 16 * 1024, event_bytes_max: 1024 * 1024 }
    }
}

/// Reads one answer. Feed it with [`Stream::next`].
#[derive(Debug)]
pub struct Stream {
    phase: Phase,
    /// What has arrived of a head that is not complete. Invariant: empty unless the phase is
    /// `Head`, and shorter than `head_bytes_left`.
    head: Vec<u8>,
    head_bytes_left: usize,
    /// So many bytes at the front of the input are the body's, without framing among them.
    run_bytes: usize,
    events: decode::Decoder,
}

#[derive(Debug)]
enum Phase {
    Head,
    Body(Framing),
    Ended,
}

/// What [`Stream::next`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'s> {
    /// The head has been read: status 200 and the right media type.
    Opened,
    /// An event is dispatched.
    Message(Message<'s>),
    /// The reader shall wait this many milliseconds before it reconnects.
    Retry(u64),
    /// The body has ended as its framing says: the last chunk, or all of its length.
    Ended,
}

/// Why a stream cannot be continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The head is malformed.
    Head(BadResponse),
    /// The chunked coding is malformed.
    Chunk(ChunkError),
    /// An event exceeds its limit.
    Event(DecodeError),
    /// The answer is complete and is not an event stream.
    NotAStream {
        /// The status code.
        status: u16,
        /// `Content-Type` without its parameters.
        media_type: Option<String>,
        /// `Location`, as it stands.
        location: Option<String>,
        /// `Retry-After`, if it is a number of seconds.
        retry_after_s: Option<u64>,
    },
    /// The body is compressed in this way, although that was not asked for.
    Encoded(String),
    /// There are bytes behind the end of the body, where nothing was asked for.
    Surplus,
}

/// What an end of the connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The body has ended as its framing says; or it ends with the connection, and no event was
    /// begun.
    Clean,
    /// In the middle of a chunk or of an event, or before the last chunk: the server or the
    /// network has failed.
    Cut,
    /// Before the head was complete.
    NoAnswer,
}

impl Stream {
    /// A stream at the start of an answer, whose reader stands at `last_event_id`; empty if it
    /// stands nowhere.
    pub fn new(limits: Limits, last_event_id: &[u8]) -> Stream {
        Stream {
            phase: Phase::Head,
            head: Vec::new(),
            head_bytes_left: limits.head_bytes_max,
            run_bytes: 0,
            events: decode::Decoder::resuming(limits.event_bytes_max, last_event_id),
        }
    }

    /// Takes bytes from the front of `input` up to the next item, and gives that item; `None`
    /// when the input is used up. The next call's input begins where this one's is left.
    ///
    /// # Errors
    /// A [`Failure`]; the stream cannot be continued.
    pub fn next<'s>(&'s mut self, input: &mut &[u8]) -> Result<Option<Item<'s>>, Failure> {
        loop {
            if self.run_bytes > 0 {
                match self.read_run(input)? {
                    Some(Step::Message) => return Ok(Some(Item::Message(self.events.message()))),
                    Some(Step::Retry(retry_ms)) => return Ok(Some(Item::Retry(retry_ms))),
                    None if self.run_bytes > 0 => return Ok(None),
                    None => {}
                }
            }
            match &mut self.phase {
                Phase::Head => return Ok(self.read_head(input)?.then_some(Item::Opened)),
                Phase::Body(framing) if framing.is_done() => {
                    self.phase = Phase::Ended;
                    return Ok(Some(Item::Ended));
                }
                _ if input.is_empty() => return Ok(None),
                Phase::Body(framing) => {
                    self.run_bytes = framing.unframe(input).map_err(Failure::Chunk)?;
                }
                Phase::Ended => return Err(Failure::Surplus),
            }
        }
    }

    /// The reader's position: the last id that a finished block has set. To be sent when it
    /// reconnects.
    pub fn last_event_id(&self) -> &[u8] {
        self.events.last_id()
    }

    /// Whether the head has been read.
    pub fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Head)
    }

    /// What an end of the connection means now, all input being used up. After a [`Failure`] it
    /// means nothing.
    pub fn end(&self) -> StreamEnd {
        match &self.phase {
            Phase::Head => StreamEnd::NoAnswer,
            Phase::Ended => StreamEnd::Clean,
            Phase::Body(framing) if framing.is_done() => StreamEnd::Clean,
            Phase::Body(Framing::Close) if self.events.at_boundary() => StreamEnd::Clean,
            Phase::Body(_) => StreamEnd::Cut,
        }
    }

    /// What an error of the connection means now, such as a reset. Only an orderly end of the
    /// connection ends a body that has no other end (RFC 9112 §8).
    pub fn broken(&self) -> StreamEnd {
        match self.phase {
            Phase::Body(Framing::Close) => StreamEnd::Cut,
            _ => self.end(),
        }
    }

    /// Decodes the run of body bytes at the front of `input`, up to the next item.
    fn read_run(&mut self, input: &mut &[u8]) -> Result<Option<Step>, Failure> {
        let (run, _) = input.split_at(self.run_bytes.min(input.len()));
        let mut rest = run;
        let step = self.events.step(&mut rest).map_err(Failure::Event)?;
        let consumed = run.len() - rest.len();
        *input = &input[consumed..];
        self.run_bytes -= consumed;
        Ok(step)
    }

    /// Takes the head off the front of `input`, and interim heads before it; whether it is
    /// complete.
    fn read_head(&mut self, input: &mut &[u8]) -> Result<bool, Failure> {
        while !input.is_empty() {
            // Most heads arrive in one piece, and are read where they stand.
            let kept_bytes = self.head.len();
            let part = &input[..input.len().min(self.head_bytes_left - kept_bytes)];
            if kept_bytes > 0 {
                self.head.extend_from_slice(part);
            }
            let whole = if kept_bytes > 0 { &self.head[..] } else { part };
            // Each attempt starts over: only a line end, or too many bytes, are worth one.
            let parsed = if part.contains(&b'\n') || whole.len() == self.head_bytes_left {
                response::parse(whole, self.head_bytes_left, false).map_err(Failure::Head)?
            } else {
                None
            };
            let Some((head, head_bytes)) = parsed else {
                if kept_bytes == 0 {
                    self.head.extend_from_slice(part);
                }
                *input = &[];
                return Ok(false);
            };
            *input = &input[head_bytes - kept_bytes..];
            let framing = if is_interim(head.status) { None } else { Some(open(&head)?) };
            self.head_bytes_left -= head_bytes;
            self.head = Vec::new();
            if let Some(framing) = framing {
                self.phase = Phase::Body(framing);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// An answer that another one follows (RFC 9110 §15.2). 101 would turn the connection into
/// something that nobody here has asked for.
fn is_interim(status: u16) -> bool {
    matches!(status, 100 | 102..=199)
}

/// The framing of the body behind `head`, if that is the head of an event stream.
fn open(head: &ResponseHead<'_>) -> Result<Framing, Failure> {
    let is_stream =
        |media_type: &str| head.status == 200 && media_type.eq_ignore_ascii_case(MEDIA_TYPE);
    if !head.media_type.is_some_and(is_stream) {
        return Err(Failure::NotAStream {
            status: head.status,
            media_type: head.media_type.map(str::to_owned),
            location: head.location.map(str::to_owned),
            retry_after_s: head.retry_after_s,
        });
    }
    if let Some(coding) = head.coding {
        return Err(Failure::Encoded(coding.to_owned()));
    }
    Ok(match head.body {
        BodyEnd::None => Framing::Bytes(0),
        BodyEnd::Bytes(bytes) => Framing::Bytes(bytes),
        BodyEnd::Chunked => Framing::Chunked(chunk::Decoder::default()),
        BodyEnd::Close => Framing::Close,
    })
}

/// Finds the end of a body.
#[derive(Debug)]
enum Framing {
    /// So many bytes are still to come.
    Bytes(u64),
    /// The chunked coding tells.
    Chunked(chunk::Decoder),
    /// Nothing tells but the end of the connection.
    Close,
}

impl Framing {
    fn is_done(&self) -> bool {
        matches!(self, Framing::Bytes(0))
    }

    /// Takes framing off the front of `input`; gives how many of the bytes that follow are the
    /// body's.
    fn unframe(&mut self, input: &mut &[u8]) -> Result<usize, ChunkError> {
        match self {
            Framing::Close => Ok(input.len()),
            Framing::Bytes(left) => {
                let run_bytes = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= run_bytes as u64;
                Ok(run_bytes)
            }
            Framing::Chunked(decoder) => {
                let decoded = decoder.decode(input)?;
                // Data is the last of what was consumed: it stays in the input for now.
                *input = &input[decoded.consumed - decoded.data.len()..];
                let run_bytes = decoded.data.len();
                if decoded.done {
                    *self = Framing::Bytes(0);
                }
                Ok(run_bytes)
            }
        }
    }
}

/// Appends the request of a subscription to `out`: a GET with the fields that the standard asks for
/// (WHATWG HTML §9.2.3), then `fields`. One of `fields` takes the place of a field of the same name
/// that would be sent anyway; only the reader's own position goes before a `Last-Event-ID` of theirs.
///
/// # Panics
/// If `last_event_id` or a part of `fields` holds CR, LF or NUL, with which it could be a request
/// of its own. An id that came out of a stream does not.
pub fn request(out: &mut Vec<u8>, url: &Url, last_event_id: &[u8], fields: &[(String, String)]) {
    put(out, &[b"GET ", url.target.as_bytes(), b" HTTP/1.1\r\n"]);
    let authority = url.authority();
    let standard: [(&str, &[u8]); 4] = [
        ("Host", authority.as_bytes()),
        ("Accept", MEDIA_TYPE.as_bytes()),
        // Without this field any coding would be welcome (RFC 9110 §12.5.3).
        ("Accept-Encoding", b"identity"),
        ("Cache-Control", b"no-store"),
    ];
    for (name, value) in standard {
        let mut own = fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).peekable();
        if own.peek().is_none() {
            put_field(out, name.as_bytes(), value);
        }
        own.for_each(|(name, value)| put_field(out, name.as_bytes(), value.as_bytes()));
    }
    let resumes = !last_event_id.is_empty();
    if resumes {
        put_field(out, LAST_EVENT_ID.as_bytes(), last_event_id);
    }
    for (name, value) in fields {
        let is_sent = standard.iter().any(|(sent, _)| name.eq_ignore_ascii_case(sent))
            || (resumes && name.eq_ignore_ascii_case(LAST_EVENT_ID));
        if !is_sent {
            put_field(out, name.as_bytes(), value.as_bytes());
        }
    }
    put(out, &[b"\r\n"]);
}

fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let ends_line = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    assert!(!name.iter().chain(value).any(ends_line), "a header field with a line end");
    put(out, &[name, b": ", value, b"\r\n"]);
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Head(why) => why.fmt(f),
            Failure::Chunk(why) => why.fmt(f),
            Failure::Event(why) => why.fmt(f),
            Failure::NotAStream { status: 200, media_type, .. } => {
                let found = media_type.as_deref().unwrap_or("nothing");
                write!(f, "the answer's media type is {found}, not {MEDIA_TYPE}")
            }
            Failure::NotAStream { status, .. } => write!(f, "the answer's status is {status}"),
            Failure::Encoded(coding) => {
                write!(
                    f,
                    "the answer's Content-Encoding is {coding}, though identity was asked for"
                )
            }
            Failure::Surplus => f.write_str("bytes behind the end of the answer"),
        }
    }
}

impl std::error::Error for Failure {}

const MEDIA_TYPE: &str = "text/event-stream";
const LAST_EVENT_ID: &str = "Last-Event-ID";

#[cfg(test)]
mod tests {
    use super::*;

    /// What came out of an answer: the items in words, and what an end of the connection would
    /// mean.
    type Outcome = (Vec<String>, Result<StreamEnd, Failure>);

    const LIMITS: Limits = Limits { head_bytes_max: 200, event_bytes_max: 40 };

    fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Outcome {
        let mut stream = Stream::new(LIMITS, b"41");
        let mut seen = Vec::new();
        let text = String::from_utf8_lossy;
        for mut input in pieces {
            loop {
                match stream.next(&mut input) {
                    Ok(None) => break,
                    Err(failure) => return (seen, Err(failure)),
                    Ok(Some(Item::Message(found))) => {
                        let (name, data) = (text(found.name), text(found.data));
                        seen.push(format!("{name}:{data}@{}", text(found.last_id)));
                    }
                    Ok(Some(item)) => seen.push(format!("{item:?}")),
                }
            }
            assert!(input.is_empty(), "left: {:?}", input.escape_ascii().to_string());
        }
        (seen, Ok(stream.end()))
    }

    /// The same outcome for the whole answer, every two-way and three-way cut, and byte by byte.
    #[track_caller]
    fn check(answer: impl AsRef<[u8]>, items: &[&str], end: Result<StreamEnd, Failure>) {
        let answer = answer.as_ref();
        let expected = (items.iter().map(ToString::to_string).collect(), end);
        assert_eq!(read([answer]), expected, "{:?}", answer.escape_ascii().to_string());
        assert_eq!(read(answer.chunks(1)), expected, "byte by byte");
        for first in 0..=answer.len() {
            for second in first..=answer.len() {
                let pieces = [&answer[..first], &answer[first..second], &answer[second..]];
                assert_eq!(read(pieces), expected, "cut at {first} and {second}");
            }
        }
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                           Transfer-Encoding: chunked\r\n\r\n";
    const UNTIL_CLOSE: &str = "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

    fn of_length(bytes: usize) -> String {
        format!(
            "HTTP/1.1 200\r\nContent-Type: Text/Event-Stream;x=y\r\nContent-Length: {bytes}\r\n\r\n"
        )
    }

    #[test]
    fn chunked_streams() {
        let begun = format!("{CHUNKED}b\r\nretry: 250\n\r\n11\r\nid: 42\ndata: a\r\n\r\r\n");
        let items = ["Opened", "Retry(250)", ":a@42"];
        check(&begun, &items, Ok(StreamEnd::Cut));
        // An event spread over chunks, and chunks of several events.
        let more = format!(
            "{begun}8;x=y\r\nevent: x\r\n9\r\n\ndata: b\n\r\n17\r\n\ndata\n\ndata: d\n\ndata: e\r\n"
        );
        let items = ["Opened", "Retry(250)", ":a@42", "x:b@42", ":@42", ":d@42"];
        check(&more, &items, Ok(StreamEnd::Cut));
        let items = ["Opened", "Retry(250)", ":a@42", "x:b@42", ":@42", ":d@42", "Ended"];
        check(format!("{more}0\r\nX: y\r\n\r\n"), &items, Ok(StreamEnd::Clean));
        check(format!("{CHUNKED}0\r\n\r\n"), &["Opened", "Ended"], Ok(StreamEnd::Clean));
        check(format!("{CHUNKED}0\r\n\r"), &["Opened"], Ok(StreamEnd::Cut));
        check(CHUNKED, &["Opened"], Ok(StreamEnd::Cut));
    }

    #[test]
    fn streams_that_end_with_the_connection() {
        check(UNTIL_CLOSE, &["Opened"], Ok(StreamEnd::Clean));
        let one = format!("{UNTIL_CLOSE}\u{feff}id: 42\ndata: a\n\n");
        check(&one, &["Opened", ":a@42"], Ok(StreamEnd::Clean));
        let cut = format!("{one}data: b\n");
        check(&cut, &["Opened", ":a@42"], Ok(StreamEnd::Cut));
        check(format!("{one}id: 43"), &["Opened", ":a@42"], Ok(StreamEnd::Cut));
        check(format!("{one}: comment\n"), &["Opened", ":a@42"], Ok(StreamEnd::Clean));
    }

    #[test]
    fn streams_of_known_length() {
        check(of_length(0), &["Opened", "Ended"], Ok(StreamEnd::Clean));
        let body = "data: a\n\ndata: b\r\n\r\n";
        let whole = of_length(body.len()) + body;
        check(&whole, &["Opened", ":a@41", ":b@41", "Ended"], Ok(StreamEnd::Clean));
        let cut = of_length(body.len() + 1) + body;
        check(&cut, &["Opened", ":a@41", ":b@41"], Ok(StreamEnd::Cut));
        // The framing is kept; that the last event was left unfinished is the publisher's doing.
        let unfinished = of_length(8) + "data: a\n";
        check(&unfinished, &["Opened", "Ended"], Ok(StreamEnd::Clean));
    }

    #[test]
    fn interim_answers_are_skipped() {
        let early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let answer = format!("HTTP/1.1 100 Continue\r\n\r\n{early}{}data: a\n\n", of_length(9));
        check(&answer, &["Opened", ":a@41", "Ended"], Ok(StreamEnd::Clean));
        check(early, &[], Ok(StreamEnd::NoAnswer));
        let endless = early.repeat(6);
        let too_long = Err(Failure::Head(BadResponse::TooLong));
        check(&endless, &[], too_long);
    }

    #[test]
    fn bytes_behind_the_end() {
        let surplus = Err(Failure::Surplus);
        let answer = of_length(9) + "data: a\n\ndata: b\n\n";
        check(answer, &["Opened", ":a@41", "Ended"], surplus.clone());
        let answer = format!("{CHUNKED}0\r\n\r\n\r\n");
        check(answer, &["Opened", "Ended"], surplus);
    }

    #[test]
    fn answers_that_are_no_stream() {
        let not_a_stream = |answer: &str, status, media_type: Option<&str>| {
            let failure = Failure::NotAStream {
                status,
                media_type: media_type.map(str::to_owned),
                location: answer.contains("Location").then(|| "/x".into()),
                retry_after_s: answer.contains("Retry-After").then_some(7),
            };
            check(answer, &[], Err(failure));
        };
        not_a_stream("HTTP/1.1 200 OK\r\n\r\n", 200, None);
        let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html; x\r\n\r\ndata: a\n\n";
        not_a_stream(html, 200, Some("text/html"));
        let stream = "Content-Type: text/event-stream\r\n\r\n";
        for status in [101, 201, 204, 206, 299, 404, 500] {
            let answer = format!("HTTP/1.1 {status} No\r\n{stream}");
            not_a_stream(&answer, status, Some("text/event-stream"));
        }
        not_a_stream("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", 302, None);
        not_a_stream("HTTP/1.1 503 No\r\nRetry-After: 7\r\n\r\n", 503, None);
    }

    #[test]
    fn answers_that_are_compressed() {
        let answer = CHUNKED.replacen("\r\n", "\r\nContent-Encoding: GZIP\r\n", 1);
        check(answer, &[], Err(Failure::Encoded("GZIP".into())));
        let answer = CHUNKED.replacen("\r\n", "\r\nContent-Encoding: identity\r\n", 1);
        check(answer, &["Opened"], Ok(StreamEnd::Cut));
    }

    /// A reset at any byte is no better than an end of the connection there; where the connection's
    /// end is the body's end, it is worse.
    #[test]
    fn resets() {
        for (head, framed) in [(CHUNKED, true), (UNTIL_CLOSE, false), (&of_length(9), true)] {
            let body =
                if head == CHUNKED { "9\r\ndata: a\n\n\r\n0\r\n\r\n" } else { "data: a\n\n" };
            let answer = [head, body].concat();
            for cut in 0..=answer.len() {
                let mut stream = Stream::new(LIMITS, b"");
                let mut input = &answer.as_bytes()[..cut];
                while stream.next(&mut input).unwrap().is_some() {}
                let expected = match cut {
                    _ if cut < head.len() => StreamEnd::NoAnswer,
                    _ if cut == answer.len() && framed => StreamEnd::Clean,
                    _ => StreamEnd::Cut,
                };
                assert_eq!(stream.broken(), expected, "{cut} of {answer:?}");
                if framed {
                    assert_eq!(stream.end(), expected, "{cut} of {answer:?}");
                }
            }
        }
    }

    #[test]
    fn malformed_answers() {
        let head = |why| Err(Failure::Head(why));
        let two = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        check(two, &[], head(BadResponse::ContentLength));
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(200));
        check(long, &[], head(BadResponse::TooLong));
        let chunk = format!("{CHUNKED}9\r\ndata: a\n\n\r\nx");
        let failure = Err(Failure::Chunk(ChunkError::Size));
        check(chunk, &["Opened", ":a@41"], failure);
        let event = format!("{UNTIL_CLOSE}data: a\n\ndata: {}\n\n", "x".repeat(41));
        let failure = Err(Failure::Event(DecodeError::DataTooLong));
        check(event, &["Opened", ":a@41"], failure);
    }

    #[test]
    fn positions() {
        let mut stream = Stream::new(Limits::default(), b"41");
        assert!(!stream.is_open());
        let answer = format!("{UNTIL_CLOSE}id: 42\n\nid: 43\n");
        let mut input = answer.as_bytes();
        assert_eq!(stream.next(&mut input), Ok(Some(Item::Opened)));
        assert!(stream.is_open());
        assert_eq!(stream.last_event_id(), b"41");
        assert_eq!(stream.next(&mut input), Ok(None), "a block without data is no event");
        assert_eq!(stream.last_event_id(), b"42", "but it moves the reader");
    }

    #[test]
    fn requests() {
        let url = Url::parse("http://h:81/a?b").unwrap();
        let written = |id: &[u8], fields: &[(String, String)]| {
            let mut out = Vec::new();
            request(&mut out, &url, id, fields);
            String::from_utf8(out).unwrap()
        };
        let start = "GET /a?b HTTP/1.1\r\nHost: h:81\r\nAccept: text/event-stream\r\n\
                     Accept-Encoding: identity\r\nCache-Control: no-store\r\n";
        assert_eq!(written(b"", &[]), format!("{start}\r\n"));
        assert_eq!(
            written("ü 7".as_bytes(), &[("X".into(), "y".into())]),
            format!("{start}Last-Event-ID: ü 7\r\nX: y\r\n\r\n")
        );
        let field = |name: &str, value: &str| (name.to_string(), value.to_string());
        let own = [
            field("X", "y"),
            field("cache-control", "max-age=0"),
            field("last-event-id", "6"),
            field("HOST", "hub.example"),
            field("accept", "a/b"),
            field("Accept", "c/d"),
        ];
        let start = "GET /a?b HTTP/1.1\r\nHOST: hub.example\r\naccept: a/b\r\nAccept: c/d\r\n\
                     Accept-Encoding: identity\r\ncache-control: max-age=0\r\n";
        assert_eq!(written(b"", &own), format!("{start}X: y\r\nlast-event-id: 6\r\n\r\n"));
        assert_eq!(written(b"7", &own), format!("{start}Last-Event-ID: 7\r\nX: y\r\n\r\n"));
    }

    #[test]
    #[should_panic(expected = "line end")]
    fn a_field_with_a_line_end_is_a_programming_error() {
        let url = Url::parse("http://h/").unwrap();
        request(&mut Vec::new(), &url, b"", &[("X".into(), "y\r\nZ: z".into())]);
    }
}
