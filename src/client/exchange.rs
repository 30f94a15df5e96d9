//! One request and its answer, on a connection of its own: how the admin listener is asked.
//!
//! Invariant: an answer is given whole or not at all. Half of `/metrics` is well formed, line by
//! line, and would be read as counters that stand at nothing.

use super::response::{self, BodyEnd};
use super::url::Url;
use crate::wire::chunk;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// The body of a GET that was answered with 200.
///
/// # Errors
/// As [`exchange`]; and any other status, with the body's first line.
pub fn get(url: &Url) -> Result<String, String> {
    expect_ok(exchange(url, "GET", "")?)
}

/// The body of a PATCH that was answered with 200.
///
/// # Errors
/// As [`get`].
pub fn patch(url: &Url, body: &str) -> Result<String, String> {
    expect_ok(exchange(url, "PATCH", body)?)
}

/// Sends a request and reads the answer, whatever its status. Waits five seconds for each step,
/// and reads 16 MiB at most.
///
/// # Errors
/// Why there is no answer, or not all of it. An answer that only the end of the connection ends is
/// refused, because its end cannot be told from a cut (RFC 9112 §6.3 and §8).
pub fn exchange(url: &Url, method: &str, body: &str) -> Result<Answer, String> {
    exchange_with(url, method, &[], body)
}

/// The same with further header fields, whose values hold no line ends.
///
/// # Errors
/// As [`exchange`].
pub fn exchange_with(
    url: &Url,
    method: &str,
    fields: &[(String, String)],
    body: &str,
) -> Result<Answer, String> {
    let text = |error: io::Error| error.to_string();
    let address = url.reachable_address(PATIENCE).map_err(text)?;
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(text)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(text)?;
    socket.write_all(request(url, method, fields, body).as_bytes()).map_err(text)?;
    receive(&mut socket)
}

fn request(url: &Url, method: &str, fields: &[(String, String)], body: &str) -> String {
    let fields: String =
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    // A GET has no body, and so no length of one (RFC 9110 §8.6).
    let length = match (method, body.len()) {
        ("GET" | "HEAD", 0) => String::new(),
        (_, length) => format!("Content-Length: {length}\r\n"),
    };
    format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Accept-Encoding: identity\r\n{fields}{length}\r\n{body}",
        url.target,
        url.authority()
    )
}

/// Reads an answer up to the end that its framing names.
fn receive(source: &mut impl Read) -> Result<Answer, String> {
    let mut received = Vec::new();
    let (status, end) = receive_head(source, &mut received)?;
    let body = match end {
        BodyEnd::None => Vec::new(),
        BodyEnd::Bytes(length) => receive_bytes(source, received, length)?,
        BodyEnd::Chunked => receive_chunks(source, received)?,
        BodyEnd::Close => {
            return Err("the answer does not say where it ends, so it may be cut short".into());
        }
    };
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Takes the head of the final answer off the front of what is received.
fn receive_head(source: &mut impl Read, received: &mut Vec<u8>) -> Result<(u16, BodyEnd), String> {
    loop {
        let parsed = response::parse(received, HEAD_BYTES_MAX, false);
        if let Some((head, head_bytes)) = parsed.map_err(|error| error.to_string())? {
            let (status, end) = (head.status, head.body);
            if let Some(coding) = head.coding {
                return Err(format!("the answer's Content-Encoding is {coding}, not identity"));
            }
            received.drain(..head_bytes);
            // Others follow the interim ones (RFC 9110 §15.2); 101 was not asked for.
            if !matches!(status, 100 | 102..=199) {
                return Ok((status, end));
            }
        } else if receive_more(source, received)? == 0 {
            return Err(match received.is_empty() {
                true => "the connection was closed without an answer".into(),
                false => "the head of the answer is cut short".into(),
            });
        }
    }
}

fn receive_bytes(
    source: &mut impl Read,
    mut received: Vec<u8>,
    length: u64,
) -> Result<Vec<u8>, String> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    while received.len() < length {
        if receive_more(source, &mut received)? == 0 {
            let bytes = received.len();
            return Err(format!("the answer is cut short: {bytes} of {length} bytes came"));
        }
    }
    received.truncate(length);
    Ok(received)
}

fn receive_chunks(source: &mut impl Read, mut received: Vec<u8>) -> Result<Vec<u8>, String> {
    let (mut decoder, mut body, mut at) = (chunk::Decoder::default(), Vec::new(), 0);
    loop {
        let decoded = decoder.decode(&received[at..]).map_err(|error| error.to_string())?;
        at += decoded.consumed;
        body.extend_from_slice(decoded.data);
        if decoded.done {
            return Ok(body);
        }
        if at == received.len() && receive_more(source, &mut received)? == 0 {
            return Err("the answer is cut short: its last chunk did not come".into());
        }
    }
}

/// Waits for more of the answer; gives how many bytes have come.
fn receive_more(source: &mut impl Read, received: &mut Vec<u8>) -> Result<usize, String> {
    let mut buffer = [0; 16 << 10];
    if received.len() >= ANSWER_BYTES_MAX {
        return Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"));
    }
    loop {
        match source.read(&mut buffer) {
            Ok(count) => {
                received.extend_from_slice(&buffer[..count]);
                return Ok(count);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(format!("nothing came for {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn expect_ok(answer: Answer) -> Result<String, String> {
    match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("HTTP status {status}: {}", answer.body.trim())),
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 << 10;
const ANSWER_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection on which these bytes come, a few at a time, and then its end.
    struct Source<'b> {
        bytes: &'b [u8],
        step: usize,
    }

    impl Read for Source<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(self.bytes.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes = &self.bytes[count..];
            Ok(count)
        }
    }

    fn received(bytes: &[u8], step: usize) -> Result<Answer, String> {
        receive(&mut Source { bytes, step })
    }

    /// The answer is read however it comes, and no beginning of it is an answer.
    #[track_caller]
    fn check(answer: &str, status: u16, body: &str) {
        let expected = Answer { status, body: body.into() };
        for step in [1, 7, usize::MAX] {
            assert_eq!(received(answer.as_bytes(), step).as_ref(), Ok(&expected), "{step}");
        }
        let behind = format!("{answer}HTTP/1.1 200 OK\r\n");
        assert_eq!(received(behind.as_bytes(), usize::MAX), Ok(expected));
        for end in 0..answer.len() {
            let cut = received(&answer.as_bytes()[..end], usize::MAX);
            assert!(cut.is_err(), "cut at {end} of {answer:?}: {cut:?}");
        }
    }

    #[test]
    fn an_answer_is_whole_or_there_is_none() {
        let metrics = "a_total 1\nb_total 2\n# EOF\n";
        let length = metrics.len();
        check(
            &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{metrics}"),
            200,
            metrics,
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             a\r\na_total 1\n\r\n10\r\nb_total 2\n# EOF\n\r\n0\r\nX: y\r\n\r\n",
            200,
            metrics,
        );
        check("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
        check(
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
            404,
            "no",
        );
    }

    #[test]
    fn what_cannot_be_whole_is_refused() {
        let refused = |answer: &[u8], expected: &str| {
            let why = received(answer, usize::MAX).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        refused(b"", "without an answer");
        refused(b"HTTP/1.1 200 OK\r\n\r\na_total 1\n", "does not say where it ends");
        refused(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na_total", "7 of 9 bytes came");
        refused(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "chunk size");
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
        let long = [long.into_bytes(), vec![b'x'; ANSWER_BYTES_MAX]].concat();
        refused(&long, "longer than");
    }

    #[test]
    fn only_a_body_has_a_length() {
        let url = Url::parse("http://h:1/a").unwrap();
        let head = "Host: h:1\r\nConnection: close\r\nAccept-Encoding: identity\r\n";
        assert_eq!(request(&url, "GET", &[], ""), format!("GET /a HTTP/1.1\r\n{head}\r\n"));
        let patch = format!("PATCH /a HTTP/1.1\r\n{head}X: y\r\nContent-Length: 2\r\n\r\n{{}}");
        assert_eq!(request(&url, "PATCH", &[("X".into(), "y".into())], "{}"), patch);
        let post = format!("POST /a HTTP/1.1\r\n{head}Content-Length: 0\r\n\r\n");
        assert_eq!(request(&url, "POST", &[], ""), post);
    }
}
