//! Heads of answers.

use crate::wire::head::Version;
use std::fmt::{Display, Write as _};

/// Builds the head of an answer into a buffer, and its body behind it.
///
/// Every head carries `Date` (RFC 9110 §6.6.1).
#[derive(Debug)]
pub struct Response<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Response<'o> {
    /// Begins an answer with its status line.
    pub fn new(out: &'o mut Vec<u8>, version: Version, status: u16, date: &str) -> Response<'o> {
        // A server answers in its own version of the protocol (RFC 9110 §2.5), except that a
        // client of 1.0 is told 1.0, since it must not see anything of 1.1.
        let version = match version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        };
        let mut response = Response { out };
        response.put(format_args!("{version} {status} {}\r\nDate: {date}\r\n", reason(status)));
        response
    }

    /// Adds a header field. Neither part may come from a peer.
    pub fn field(mut self, name: &str, value: impl Display) -> Self {
        self.put(format_args!("{name}: {value}\r\n"));
        self
    }

    /// Adds a header field if there is a value.
    pub fn field_if(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    /// Ends the head of an answer whose body, if any, has no length of its own.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    /// Ends the head and adds the body; `body_sent` is false for an answer to HEAD, which has the
    /// same head as the one to GET and no body (RFC 9110 §9.3.2).
    pub fn body(self, media_type: &str, body: &[u8], body_sent: bool) {
        let response = self.field("Content-Type", media_type).field("Content-Length", body.len());
        response.out.extend_from_slice(b"\r\n");
        if body_sent {
            response.out.extend_from_slice(body);
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        struct Bytes<'a>(&'a mut Vec<u8>);
        impl std::fmt::Write for Bytes<'_> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
        let written = Bytes(self.out).write_fmt(text);
        debug_assert!(written.is_ok(), "a Vec takes everything");
    }
}

/// What a client that waits for it is told before it sends its body (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The reason phrase of each status that is used here.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn answers() {
        let mut out = Vec::new();
        Response::new(&mut out, Version::Http11, 405, DATE)
            .field("Allow", "GET, HEAD")
            .field_if("Absent", None::<&str>)
            .body("text/plain", b"no", true);
        let expected = format!(
            "HTTP/1.1 405 Method Not Allowed\r\nDate: {DATE}\r\nAllow: GET, HEAD\r\n\
             Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_answer_to_head_has_the_head_alone() {
        let mut out = Vec::new();
        Response::new(&mut out, Version::Http10, 200, DATE).body("text/plain", b"body", false);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("HTTP/1.0 200 OK\r\n") && text.ends_with("Content-Length: 4\r\n\r\n"),
            "{text}"
        );
    }
}
