//! The head of an answer.
//!
//! httparse does the tokenizing. What matters here is the same as for requests: where the body
//! ends (RFC 9112 §6.3) must be beyond doubt, because two parties that disagree about it see
//! different answers.

use crate::wire::head::{Version, content_length, has_bare_line_feed};
use std::fmt;

/// The parts of an answer's head that a subscriber acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead<'b> {
    /// The version of the protocol.
    pub version: Version,
    /// The status code.
    pub status: u16,
    /// `Content-Type` without its parameters, as it stands.
    pub media_type: Option<&'b str>,
    /// `Content-Encoding` as it stands, if it names any other coding than `identity`: the body is
    /// compressed, and nothing here reads that.
    pub coding: Option<&'b str>,
    /// How the end of the body is found.
    pub body: BodyEnd,
    /// The connection cannot be used again after the body: HTTP/1.0, `Connection: close`, or a
    /// body that only the end of the connection ends.
    pub close: bool,
    /// The first `Location`, as it stands.
    pub location: Option<&'b str>,
    /// `Retry-After`, if it is a number of seconds. A date, the other form of RFC 9110 §10.2.3,
    /// would need a clock that agrees with the server's.
    pub retry_after_s: Option<u64>,
}

/// How the end of an answer's body is found (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// There is no body, whatever the fields say: 1xx, 204, 304, or an answer to HEAD.
    None,
    /// So many bytes.
    Bytes(u64),
    /// The chunked coding says when it ends.
    Chunked,
    /// It ends with the connection, so that nobody can tell an end from a cut.
    Close,
}

/// Why an answer's head is refused. Nothing behind it can be trusted either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadResponse {
    /// The first line is not the status line of an answer.
    StatusLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A field's name or value is malformed.
    Field,
    /// A line does not end in CRLF.
    LineEnd,
    /// The head exceeds its limit, or has more than [`FIELDS_MAX`] fields.
    TooLong,
    /// `Content-Length` is not a number, or several differ.
    ContentLength,
    /// A transfer coding other than chunked alone, or any at all in HTTP/1.0.
    TransferCoding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    TwoLengths,
}

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadResponse::StatusLine => "the answer has no HTTP status line",
            BadResponse::Version => "the answer is neither HTTP/1.0 nor HTTP/1.1",
            BadResponse::Field => "a header field of the answer is malformed",
            BadResponse::LineEnd => "a line of the answer's head does not end in CRLF",
            BadResponse::TooLong => "the head of the answer is too long",
            BadResponse::ContentLength => "the answer's Content-Length is bad or ambiguous",
            BadResponse::TransferCoding => "the answer has an unknown transfer coding",
            BadResponse::TwoLengths => {
                "the answer has both a Content-Length and a Transfer-Encoding"
            }
        })
    }
}

impl std::error::Error for BadResponse {}

/// Parses the head at the front of `input`, which is the answer to a HEAD request if
/// `to_head_request`. Gives the head and its length in bytes, or `None` if more input is needed.
///
/// Heads with a status of 1xx are given like any other; another head follows them.
///
/// Each call starts over, so call it again only when the new bytes hold an LF, or when as many
/// bytes are there as the limit allows.
///
/// # Errors
/// A [`BadResponse`] at the latest when `head_bytes_max` bytes hold no whole head.
pub fn parse(
    input: &[u8],
    head_bytes_max: usize,
    to_head_request: bool,
) -> Result<Option<(ResponseHead<'_>, usize)>, BadResponse> {
    // httparse would skip empty lines here; they are forgiven to a client only (RFC 9112 §2.2).
    if input.first().is_some_and(|&byte| byte != b'H') {
        return Err(BadResponse::StatusLine);
    }
    let window = &input[..input.len().min(head_bytes_max)];
    let end = window.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    let head = &window[..end.unwrap_or(window.len())];
    if has_bare_line_feed(head) {
        return Err(BadResponse::LineEnd);
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    if response.parse(head).map_err(bad_response_of)?.is_complete() {
        return interpret(&response, to_head_request).map(|parsed| Some((parsed, head.len())));
    }
    if window.len() == head_bytes_max {
        return Err(BadResponse::TooLong);
    }
    Ok(None)
}

fn bad_response_of(error: httparse::Error) -> BadResponse {
    match error {
        httparse::Error::TooManyHeaders => BadResponse::TooLong,
        httparse::Error::Version => BadResponse::Version,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => BadResponse::Field,
        _ => BadResponse::StatusLine,
    }
}

fn interpret<'b>(
    response: &httparse::Response<'_, 'b>,
    to_head_request: bool,
) -> Result<ResponseHead<'b>, BadResponse> {
    let version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let mut head = ResponseHead {
        version,
        status: response.code.unwrap_or_default(),
        media_type: None,
        coding: None,
        body: BodyEnd::None,
        close: version == Version::Http10,
        location: None,
        retry_after_s: None,
    };
    let mut lengths = LengthFields::default();
    for field in response.headers.iter() {
        interpret_field(&mut head, &mut lengths, field.name, field.value)?;
    }
    if !(to_head_request || matches!(head.status, 100..=199 | 204 | 304)) {
        head.body = lengths.body_end(version)?;
    }
    head.close |= head.body == BodyEnd::Close;
    Ok(head)
}

/// What the two fields say that tell where a body ends, kept until all have been looked for.
#[derive(Debug, Default)]
struct LengthFields<'b> {
    content_length: Option<Result<u64, BadResponse>>,
    transfer_encoding: Option<&'b [u8]>,
}

fn interpret_field<'b>(
    head: &mut ResponseHead<'b>,
    lengths: &mut LengthFields<'b>,
    name: &str,
    value: &'b [u8],
) -> Result<(), BadResponse> {
    let is = |expected: &str| name.eq_ignore_ascii_case(expected);
    match name.len() {
        8 if is("location") && head.location.is_none() => {
            head.location = std::str::from_utf8(value).ok();
        }
        10 if is("connection") => {
            let mut options = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            head.close |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
        }
        11 if is("retry-after") => head.retry_after_s = content_length(value),
        12 if is("content-type") => {
            let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
            head.media_type = std::str::from_utf8(essence).ok().map(str::trim_ascii);
        }
        14 if is("content-length") => lengths.add_content_length(value),
        16 if is("content-encoding") => {
            let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            if codings.any(|one| !one.is_empty() && !one.eq_ignore_ascii_case(b"identity")) {
                head.coding = Some(std::str::from_utf8(value).unwrap_or("unreadable"));
            }
        }
        17 if is("transfer-encoding") && lengths.transfer_encoding.replace(value).is_some() => {
            // A list of codings, spread over several lines: not chunked alone.
            return Err(BadResponse::TransferCoding);
        }
        _ => {}
    }
    Ok(())
}

impl LengthFields<'_> {
    /// Adds what one field says. A list, or several fields, of one and the same number is what
    /// some proxies make of it, and does no harm (RFC 9110 §8.6).
    fn add_content_length(&mut self, value: &[u8]) {
        for member in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let length = content_length(member).ok_or(BadResponse::ContentLength);
            self.content_length = match self.content_length {
                Some(before) if before != length => Some(Err(BadResponse::ContentLength)),
                _ => Some(length),
            };
        }
    }

    fn body_end(&self, version: Version) -> Result<BodyEnd, BadResponse> {
        match (self.content_length, self.transfer_encoding) {
            (None, None) => Ok(BodyEnd::Close),
            (Some(_), Some(_)) => Err(BadResponse::TwoLengths),
            (Some(length), None) => length.map(BodyEnd::Bytes),
            (None, Some(coding))
                if version == Version::Http11 && coding.eq_ignore_ascii_case(b"chunked") =>
            {
                Ok(BodyEnd::Chunked)
            }
            (None, Some(_)) => Err(BadResponse::TransferCoding),
        }
    }
}

/// The most header fields that an answer may have.
pub const FIELDS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_BYTES_MAX: usize = 16 * 1024;

    /// The verdict on a whole head, which must be the same with anything behind it; before the
    /// head is whole the verdict may only be "more", or an error if it will be one in the end.
    #[track_caller]
    fn verdict(answer: &[u8]) -> Result<Option<(ResponseHead<'_>, usize)>, BadResponse> {
        let verdict = parse(answer, HEAD_BYTES_MAX, false);
        for end in 0..answer.len().min(400) {
            match parse(&answer[..end], HEAD_BYTES_MAX, false) {
                Ok(None) => {}
                Err(_) => assert!(verdict.is_err(), "refused at {end} only"),
                Ok(parsed) => panic!("{parsed:?} at {end}"),
            }
        }
        verdict
    }

    #[track_caller]
    fn accepted(answer: &str) -> ResponseHead<'_> {
        let (head, bytes) = verdict(answer.as_bytes()).expect("accepted").expect("complete");
        assert_eq!(bytes, answer.len());
        let longer = [answer.as_bytes(), b"\nHTTP"].concat();
        assert_eq!(parse(&longer, HEAD_BYTES_MAX, false), Ok(Some((head.clone(), bytes))));
        head
    }

    #[track_caller]
    fn refused(answer: impl AsRef<[u8]>, expected: BadResponse) {
        let answer = answer.as_ref();
        assert_eq!(verdict(answer), Err(expected), "{:?}", answer.escape_ascii().to_string());
    }

    fn with_fields(fields: &str) -> String {
        format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")
    }

    #[track_caller]
    fn check_body(fields: &str, expected: BodyEnd) {
        assert_eq!(accepted(&with_fields(fields)).body, expected, "{fields}");
    }

    #[test]
    fn what_a_subscriber_needs() {
        let head = accepted(
            "HTTP/1.1 302 Found\r\nCONTENT-TYPE:  Text/Event-Stream ;charset=utf-8\r\n\
             location: /a?b\r\nLocation: /second\r\nConnection: x, Close\r\nRetry-After: 120\r\n\
             Content-Length: 5\r\n\r\n",
        );
        let expected = ResponseHead {
            version: Version::Http11,
            status: 302,
            media_type: Some("Text/Event-Stream"),
            coding: None,
            body: BodyEnd::Bytes(5),
            close: true,
            location: Some("/a?b"),
            retry_after_s: Some(120),
        };
        assert_eq!(head, expected);
        for value in ["Fri, 31 Dec 1999 23:59:59 GMT", "-1", "1.5", ""] {
            assert_eq!(
                accepted(&with_fields(&format!("Retry-After: {value}"))).retry_after_s,
                None
            );
        }
    }

    #[test]
    fn connections_that_can_be_used_again() {
        assert!(!accepted(&with_fields("Content-Length: 5")).close);
        assert!(!accepted(&with_fields("Transfer-Encoding: chunked")).close);
        assert!(!accepted("HTTP/1.1 204 No Content\r\n\r\n").close);
        assert!(accepted(&with_fields("X: y")).close);
        assert!(accepted("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n").close);
        assert!(accepted(&with_fields("Content-Length: 5\r\nConnection: close")).close);
    }

    #[test]
    fn bodies_that_are_compressed() {
        for value in ["", "identity", "Identity, identity"] {
            let head = with_fields(&format!("Content-Encoding: {value}"));
            assert_eq!(accepted(&head).coding, None, "{value}");
        }
        for value in ["gzip", "br, identity", "identity, X-Gzip"] {
            let head = with_fields(&format!("content-encoding: {value}"));
            assert_eq!(accepted(&head).coding, Some(value));
        }
        let spread = with_fields("Content-Encoding: gzip\r\nContent-Encoding: identity");
        assert_eq!(accepted(&spread).coding, Some("gzip"));
    }

    #[test]
    fn where_a_body_ends() {
        check_body("X: y", BodyEnd::Close);
        check_body("Content-Length: 0", BodyEnd::Bytes(0));
        check_body("Content-Length: 5\r\nContent-Length: 5, 5", BodyEnd::Bytes(5));
        check_body("transfer-encoding: Chunked", BodyEnd::Chunked);
        for status in ["100 Continue", "103 Early Hints", "204 No Content", "304 Not Modified"] {
            for fields in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
                let answer = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
                assert_eq!(accepted(&answer).body, BodyEnd::None, "{answer}");
            }
        }
        let answer = with_fields("Content-Length: 5");
        let (head, _) = parse(answer.as_bytes(), HEAD_BYTES_MAX, true).unwrap().unwrap();
        assert_eq!(head.body, BodyEnd::None);
    }

    #[test]
    fn bodies_whose_end_is_in_doubt() {
        for value in ["", "+5", "-1", "5x", "0x5", "5,", "5, 6", "99999999999999999999"] {
            refused(with_fields(&format!("Content-Length: {value}")), BadResponse::ContentLength);
        }
        refused(
            with_fields("Content-Length: 5\r\nContent-Length: 6\r\nContent-Length: 6"),
            BadResponse::ContentLength,
        );
        for value in ["gzip", "gzip, chunked", "chunked, gzip", "identity", "", "xchunked"] {
            refused(
                with_fields(&format!("Transfer-Encoding: {value}")),
                BadResponse::TransferCoding,
            );
        }
        refused(
            with_fields("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
            BadResponse::TransferCoding,
        );
        refused(
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            BadResponse::TransferCoding,
        );
        refused(
            with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            BadResponse::TwoLengths,
        );
    }

    #[test]
    fn what_is_no_answer() {
        for line in ["GET / HTTP/1.1", "HTTP", "HTTP/1.1", "HTTP/1.1 20", "HTTP/1.1 2000 OK"] {
            refused(
                format!("{line}\r\nX: y\r\n\r\n"),
                match line {
                    "HTTP" | "HTTP/1.1" => BadResponse::Version,
                    _ => BadResponse::StatusLine,
                },
            );
        }
        refused("\r\nHTTP/1.1 200 OK\r\n\r\n", BadResponse::StatusLine);
        refused(b"\x16\x03\x01\x02\x00", BadResponse::StatusLine);
        refused("HTTP/2.0 200 OK\r\n\r\n", BadResponse::Version);
        for field in ["X : a", "X: a\r\n b", ": a", "X: a\0"] {
            refused(with_fields(field), BadResponse::Field);
        }
        refused("HTTP/1.1 200 OK\nX: y\r\n\r\n", BadResponse::LineEnd);
        refused("HTTP/1.1 200 OK\r\nX: y\n\n", BadResponse::LineEnd);
    }

    #[test]
    fn sizes() {
        refused(with_fields(&format!("X: {}", "x".repeat(HEAD_BYTES_MAX))), BadResponse::TooLong);
        refused(with_fields(&["X: y"; FIELDS_MAX + 1].join("\r\n")), BadResponse::TooLong);
        accepted(&with_fields(&["X: y"; FIELDS_MAX].join("\r\n")));
        let exact = with_fields("X: y");
        assert!(parse(exact.as_bytes(), exact.len(), false).unwrap().is_some());
        assert_eq!(parse(exact.as_bytes(), exact.len() - 1, false), Err(BadResponse::TooLong));
    }
}
