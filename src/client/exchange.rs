//! One request and its answer, on a connection of its own: how the admin listener is asked.

use super::response::{self, BodyEnd};
use super::url::Url;
use std::io::{self, Read as _, Write as _};
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
/// Why there is no answer, or none in a form that an answer of pushv has.
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
    let (target, host, length) = (&url.target, url.authority(), body.len());
    let fields: String =
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(text)?;
    let head = response::parse(&answer, 16 << 10, false).map_err(|error| error.to_string())?;
    let Some((head, head_bytes)) = head else { return Err("the answer is cut short".into()) };
    match head.body {
        BodyEnd::Bytes(_) | BodyEnd::Close => {
            let body = String::from_utf8_lossy(&answer[head_bytes..]).into_owned();
            Ok(Answer { status: head.status, body })
        }
        _ => Err("the answer is in a form that is not expected of pushv".into()),
    }
}

fn expect_ok(answer: Answer) -> Result<String, String> {
    match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("HTTP status {status}: {}", answer.body.trim())),
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 16 << 20;
