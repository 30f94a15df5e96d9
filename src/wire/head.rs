//! A request head becomes a [`Head`], or a refusal that names its reason.
//!
//! httparse does the tokenizing and rejects most malformed syntax: a space before a colon, folded
//! lines, bare CR and control characters. What it leaves open is closed here, each deviation
//! having one behaviour:
//!
//! | httparse accepts | here |
//! |---|---|
//! | a bare LF as line end | 400 |
//! | any number of empty lines in front of the request | a few; then 400 |
//! | a method of any length | 501 |
//! | non-ASCII bytes and `#` in the target | 400 |
//! | any `Host`, none, or several | 400 unless there is one plausible one (none is fine for HTTP/1.0) |
//! | any `Content-Length` | 400 unless it is one run of digits |
//! | any `Transfer-Encoding` | `chunked` alone; a list around it is 400, anything else 501 |
//! | both of them | 400: two parties could disagree about where the body ends |
//! | a POST or PATCH of HTTP/1.0 without a length | 400: its body could have any |
//! | any field twice | 400 if it is one that is acted on and cannot be a list |
//!
//! `docs/DEVIATIONS.md` has all of them with their sections of the RFCs, and
//! `tests/bad_requests/` sends them.

use crate::wire::chunk::is_token;
use crate::wire::target;
use std::fmt;
use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

/// The parts of a request head that the server acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'b> {
    /// The request method.
    pub method: Method,
    /// The target's path, as it stands in the request.
    pub path: &'b str,
    /// The target's query, as it stands in the request; empty if there is none.
    pub query: &'b str,
    /// The version of the protocol.
    pub version: Version,
    /// How the end of the body is found.
    pub body: BodyLength,
    /// The connection cannot be used for another request: HTTP/1.0, or `Connection: close`.
    pub close: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The host that is asked: that of the target if it names one, else `Host` (RFC 9112 §3.2.2).
    pub host: Option<&'b str>,
    /// `Origin`.
    pub origin: Option<&'b str>,
    /// `Authorization`, as it stands.
    pub authorization: Option<&'b [u8]>,
    /// `Content-Type` without its parameters.
    pub media_type: Option<&'b str>,
    /// `Content-Encoding` names a coding other than `identity`.
    pub content_encoded: bool,
    /// The first `Last-Event-ID` that is not empty.
    pub last_event_id: Option<&'b [u8]>,
    /// `Access-Control-Request-Private-Network: true`: a browser asks whether a page from a public
    /// network may reach this server in a private one.
    pub asks_private_network: bool,
}

/// Request methods: those that some route knows, and the rest by what they are answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Patch,
    Options,
    /// A standard method that no route has: 405.
    Foreign,
    /// Not a method of RFC 9110 or RFC 5789: 501.
    Unknown,
}

/// HTTP versions that can be spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Version {
    Http10,
    Http11,
}

/// How the end of a request's body is found (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes; zero if the head names no body.
    Bytes(u64),
    /// The chunked coding says when it ends.
    Chunked,
}

/// The sizes at which a head is refused.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes of the whole head.
    pub head_bytes_max: usize,
    /// Bytes of the request target.
    pub target_bytes_max: usize,
    /// Bytes of the method.
    pub method_bytes_max: usize,
    /// Header fields, at most [`HEADERS_CEILING`].
    pub headers_max: usize,
    /// Empty lines in front of the request.
    pub empty_lines_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits {
            head_bytes_max: 16 << 10,
            // RFC 9112 §3 recommends at least 8000.
            target_bytes_max: 8 << 10,
            // The longest registered method has 17 (UPDATEREDIRECTREF).
            method_bytes_max: 32,
            // A browser sends some twenty.
            headers_max: 100,
            // RFC 9112 §2.2 asks for tolerance of at least one.
            empty_lines_max: 2,
        }
    }
}

/// The most header fields for which there is room while a head is parsed.
pub const HEADERS_CEILING: usize = 512;

/// An answer that ends the connection: after a malformed request nobody knows where the next
/// one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// The reason, for the body of the answer and the log.
    pub why: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.why)
    }
}

/// Parses the head at the front of `input`. Gives the head and its length in bytes, or `None` if
/// more input is needed.
///
/// Each call starts over, so call it again only when the new bytes hold an LF: fed a byte at a
/// time, a head of 8 KiB would otherwise cost 33 million steps.
///
/// # Errors
/// The [`Refusal`] to answer with.
#[allow(
    clippy::indexing_slicing,
    reason = "start is at most the length, and the other bounds are minima with lengths"
)]
pub fn parse<'b>(
    input: &'b [u8],
    limits: &HeadLimits,
) -> Result<Option<(Head<'b>, usize)>, Refusal> {
    let empty_lines =
        input.chunks(2).take(limits.empty_lines_max + 1).take_while(|pair| pair == b"\r\n").count();
    if empty_lines > limits.empty_lines_max {
        return refuse(400, "too many empty lines before the request");
    }
    let start = 2 * empty_lines;
    let window = &input[start..input.len().min(start + limits.head_bytes_max)];
    check_method_length(window, limits)?;
    let end = window.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    let head = &window[..end.unwrap_or(window.len())];
    check_line_ends(head)?;

    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_CEILING];
    let headers = &mut headers[..limits.headers_max.min(HEADERS_CEILING)];
    let mut request = httparse::Request::new(&mut []);
    let status = request.parse_with_uninit_headers(head, headers).map_err(refusal_of)?;
    if status.is_complete() {
        return interpret(&request, limits).map(|parsed| Some((parsed, start + head.len())));
    }
    if window.len() == limits.head_bytes_max {
        return refuse_too_long(head);
    }
    Ok(None)
}

/// Longer than any method that is implemented: RFC 9112 §3 asks for 501. What is no method at all
/// is left to the parser, which has another answer.
fn check_method_length(request: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
    let longest = request.get(..=limits.method_bytes_max);
    match longest.is_some_and(|bytes| bytes.iter().copied().all(is_token)) {
        true => refuse(501, "the request method is too long"),
        false => Ok(()),
    }
}

/// A line feed without a carriage return. RFC 9112 §2.2 permits accepting it; a parser in front
/// of us may not, and then the two see different requests.
fn check_line_ends(head: &[u8]) -> Result<(), Refusal> {
    if has_bare_line_feed(head) {
        return refuse(400, "a line of the head does not end in CRLF");
    }
    Ok(())
}

/// Whether a line feed stands in `head` without a carriage return before it.
#[allow(clippy::indexing_slicing, reason = "at is a position in the head, and not the first")]
pub(crate) fn has_bare_line_feed(head: &[u8]) -> bool {
    let bare = |at: usize| at == 0 || head[at - 1] != b'\r';
    head.iter().enumerate().any(|(at, &byte)| byte == b'\n' && bare(at))
}

fn refusal_of(error: httparse::Error) -> Refusal {
    let (status, why) = match error {
        httparse::Error::TooManyHeaders => (431, "too many header fields"),
        httparse::Error::Version => (505, "not HTTP/1.0 or HTTP/1.1"),
        httparse::Error::HeaderName => (400, "bad header field name"),
        httparse::Error::HeaderValue => (400, "bad header field value"),
        _ => (400, "not an HTTP request"),
    };
    Refusal { status, why }
}

/// The head does not end within its limit: say which part of it is too long.
fn refuse_too_long<T>(head: &[u8]) -> Result<T, Refusal> {
    let request_line = head.split(|&byte| byte == b'\r').next().unwrap_or(head);
    if request_line.len() < head.len() {
        refuse(431, "the request head is too long")
    } else {
        refuse(414, "the request target is too long")
    }
}

fn interpret<'b>(
    request: &httparse::Request<'_, 'b>,
    limits: &HeadLimits,
) -> Result<Head<'b>, Refusal> {
    let target = request.path.unwrap_or_default();
    if target.len() > limits.target_bytes_max {
        return refuse(414, "the request target is too long");
    }
    let method = Method::of(request.method.unwrap_or_default());
    let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let (path, query) = match target::split(target) {
        _ if !target.is_ascii() || target.contains('#') => {
            return refuse(400, "bad request target");
        }
        Some(parts) => parts,
        None if target == "*" && method == Method::Options => ("*", ""),
        // The target of CONNECT is an authority; there is nothing here to connect to.
        None if method == Method::Foreign && target != "*" => ("*", ""),
        None => return refuse(400, "bad request target"),
    };
    let mut head = Head {
        method,
        path,
        query,
        version,
        body: BodyLength::Bytes(0),
        close: version == Version::Http10,
        expect_continue: false,
        host: None,
        origin: None,
        authorization: None,
        media_type: None,
        content_encoded: false,
        last_event_id: None,
        asks_private_network: false,
    };
    let mut fields = FramingFields::default();
    for header in request.headers.iter() {
        interpret_field(&mut head, &mut fields, header.name, header.value)?;
    }
    if head.host.is_none() && version == Version::Http11 {
        return refuse(400, "no Host");
    }
    if let Some(authority) = target::authority(target) {
        // RFC 9112 §3.2.2: what Host says is then to be ignored; RFC 9110 §4.2.4: a name of a user
        // in it is an error.
        if authority.is_empty() || !plausible_host(authority) {
            return refuse(400, "bad host in the request target");
        }
        head.host = Some(authority);
    }
    head.body = fields.body_length(method, version)?;
    Ok(head)
}

/// The two fields that say where a body ends, kept until both have been looked for.
#[derive(Debug, Default)]
struct FramingFields<'b> {
    content_length: Option<&'b [u8]>,
    transfer_encoding: Option<&'b [u8]>,
}

fn interpret_field<'b>(
    head: &mut Head<'b>,
    fields: &mut FramingFields<'b>,
    name: &str,
    value: &'b [u8],
) -> Result<(), Refusal> {
    let is = |expected: &str| name.eq_ignore_ascii_case(expected);
    // By length first: most fields of a browser's request are none of ours.
    match name.len() {
        4 if is("host") => {
            let text = std::str::from_utf8(value).ok().filter(|host| plausible_host(host));
            if text.is_none() || head.host.is_some() {
                return refuse(400, "bad Host");
            }
            head.host = text;
        }
        6 if is("origin") => {
            // An origin that cannot be read must not pass for none.
            let text = std::str::from_utf8(value).ok();
            if text.is_none() || head.origin.is_some() {
                return refuse(400, "bad Origin");
            }
            head.origin = text;
        }
        6 if is("expect") && head.version == Version::Http11 => {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return refuse(417, "unknown expectation");
            }
            head.expect_continue = true;
        }
        10 if is("connection") => {
            let mut options = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            head.close |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
        }
        12 if is("content-type") => {
            if head.media_type.is_some() {
                return refuse(400, "several Content-Type fields");
            }
            let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
            head.media_type = Some(std::str::from_utf8(essence).unwrap_or("").trim_ascii());
        }
        13 if is("authorization") && head.authorization.replace(value).is_some() => {
            return refuse(400, "several Authorization fields");
        }
        13 if is("last-event-id") && !value.is_empty() => {
            head.last_event_id.get_or_insert(value);
        }
        14 if is("content-length") && fields.content_length.replace(value).is_some() => {
            return refuse(400, "several Content-Length fields");
        }
        16 if is("content-encoding") => {
            let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            head.content_encoded |= codings
                .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
        }
        17 if is("transfer-encoding") && fields.transfer_encoding.replace(value).is_some() => {
            return refuse(400, "several Transfer-Encoding fields");
        }
        38 if is("access-control-request-private-network") => {
            head.asks_private_network = value == b"true";
        }
        _ => {}
    }
    Ok(())
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), or nothing, which a target without an authority has.
fn plausible_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => ("", rest),
            _ => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    is_registered_name(name) && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// `reg-name` (RFC 3986 §3.2.2), without the comma, which only a list of hosts would have.
fn is_registered_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let valid = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte),
        };
        if !valid {
            return false;
        }
    }
    true
}

impl FramingFields<'_> {
    fn body_length(&self, method: Method, version: Version) -> Result<BodyLength, Refusal> {
        match (self.content_length, self.transfer_encoding) {
            // The end of the connection cannot end a request's body, since the answer needs the
            // connection. So HTTP/1.0 demands a length of these methods (RFC 1945 §7.2.2, §8.3).
            (None, None)
                if version == Version::Http10 && matches!(method, Method::Post | Method::Patch) =>
            {
                refuse(400, "HTTP/1.0 needs a Content-Length here")
            }
            (None, None) => Ok(BodyLength::Bytes(0)),
            (Some(_), Some(_)) => refuse(400, "both Content-Length and Transfer-Encoding"),
            (Some(length), None) => match content_length(length) {
                Some(bytes) => Ok(BodyLength::Bytes(bytes)),
                None => refuse(400, "bad Content-Length"),
            },
            (None, Some(_)) if version == Version::Http10 => {
                refuse(400, "Transfer-Encoding in HTTP/1.0")
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(BodyLength::Chunked)
            }
            (None, Some(coding)) if mentions_chunked(coding) => {
                refuse(400, "bad Transfer-Encoding")
            }
            (None, Some(b"")) => refuse(400, "bad Transfer-Encoding"),
            (None, Some(_)) => refuse(501, "unknown Transfer-Encoding"),
        }
    }
}

/// `1*DIGIT`, nothing around it, and no more digits than fit.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit) && (1..=19).contains(&value.len());
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

fn mentions_chunked(coding: &[u8]) -> bool {
    coding.windows(b"chunked".len()).any(|window| window.eq_ignore_ascii_case(b"chunked"))
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 §9.1).
    fn of(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PATCH" => Method::Patch,
            "OPTIONS" => Method::Options,
            "PUT" | "DELETE" | "TRACE" | "CONNECT" => Method::Foreign,
            _ => Method::Unknown,
        }
    }
}

fn refuse<T>(status: u16, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, why })
}

#[cfg(test)]
mod tests;
