//! Tables of requests, and what is made of them.

use crate::scene::Scene;
use crate::support::Client;
use std::io::Read;

/// Follows whatever ends a connection. It must neither be run nor answered: nobody knows whether
/// it is a request, or a part of the one before.
pub const EMBEDDED: &[u8] =
    b"POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nsmuggled";

/// One input.
pub struct Row {
    /// The case of the list in the head of `main.rs`.
    pub case: u8,
    /// What is unusual about it: a name on the page `docs/DEVIATIONS.md`.
    pub deviation: &'static str,
    /// The bytes.
    pub sent: Vec<u8>,
    /// The status of its only answer.
    pub status: u16,
    /// Whether the connection ends with that.
    pub closes: bool,
    /// How many events it publishes to the topic `a`.
    pub published: u64,
}

/// Inputs that are refused in one way, and end their connection. Several are separated by `|`.
pub fn refused(
    case: u8,
    deviation: &'static str,
    status: u16,
    inputs: &str,
    request: impl Fn(&str) -> Vec<u8>,
) -> Vec<Row> {
    let row = |input| {
        let sent = request(input);
        Row { case, deviation, sent, status, closes: true, published: 0 }
    };
    inputs.split('|').map(row).collect()
}

/// The same for a single input of any bytes.
pub fn refused_bytes(
    case: u8,
    deviation: &'static str,
    status: u16,
    sent: impl Into<Vec<u8>>,
) -> Vec<Row> {
    vec![Row { case, deviation, sent: sent.into(), status, closes: true, published: 0 }]
}

/// Inputs that are answered so, and after which the connection goes on.
pub fn answered(
    case: u8,
    deviation: &'static str,
    status: u16,
    published: u64,
    inputs: &str,
    request: impl Fn(&str) -> Vec<u8>,
) -> Vec<Row> {
    let row = |input| {
        let sent = request(input);
        Row { case, deviation, sent, status, closes: false, published }
    };
    inputs.split('|').map(row).collect()
}

pub fn request(line: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

pub fn bare(line: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n").into()
}

pub fn post(fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST /events/a", fields, body)
}

pub fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

/// Sends every row on a connection of its own, and checks what is made of it.
#[track_caller]
pub fn check(scene: &Scene, rows: &[Row]) {
    let streams = scene.metric("subscribed_total");
    let mut published = scene.published("a");
    for row in rows {
        // Seen on failure.
        let shown = row.sent[..row.sent.len().min(200)].escape_ascii();
        println!("case {}, {}: {} to {shown}", row.case, row.deviation, row.status);
        check_row(scene, row);
        published += row.published;
        assert_eq!(scene.published("a"), published, "events of this row or of one before");
    }
    assert_eq!(scene.metric("subscribed_total"), streams, "nobody has subscribed");
}

#[track_caller]
fn check_row(scene: &Scene, row: &Row) {
    let mut client = scene.connect();
    if row.closes {
        client.send([&row.sent[..], EMBEDDED].concat());
        let answer = client.answer_to(method(&row.sent));
        assert_eq!((answer.status, answer.field("Connection")), (row.status, Some("close")));
        let says_why = answer.body.is_empty() || answer.json("error").len() > 5;
        assert!(says_why || row.status == 200, "{answer:?}");
        ends_in_order(&mut client);
        return;
    }
    client.send([&row.sent[..], &bare("GET /healthz")].concat());
    let answer = client.answer_to(method(&row.sent));
    assert_eq!((answer.status, answer.field("Connection")), (row.status, None), "{answer:?}");
    // What follows is framed right, and is the only further answer.
    assert_eq!(client.answer().text(), "ok\n");
    assert!(client.received.is_empty(), "{:?}", String::from_utf8_lossy(&client.received));
}

fn method(sent: &[u8]) -> &str {
    match sent.trim_ascii_start().starts_with(b"HEAD ") {
        true => "HEAD",
        false => "any other",
    }
}

/// Nothing more comes, and the connection is closed and not reset: a reset could have destroyed
/// the answer on its way (RFC 9112 §9.6).
#[track_caller]
pub fn ends_in_order(client: &mut Client) {
    let more = String::from_utf8_lossy(&client.received);
    assert!(more.is_empty(), "unexpected {more:?}");
    let end = client.socket.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0)), "{end:?} instead of the end");
}
