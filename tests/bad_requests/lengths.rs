//! Where a body ends. Whoever could make two parties disagree about that could smuggle a request
//! past the first of them (RFC 9112 §11.2).

use crate::scene::Scene;
use crate::table::{EMBEDDED, Row, answered, bare, check, chunked, post, refused, refused_bytes};

pub fn table() -> Vec<Row> {
    let mut rows = content_lengths();
    rows.extend(codings());
    rows.extend(content_codings());
    rows.extend(both());
    rows
}

fn content_lengths() -> Vec<Row> {
    let length = |length: &str| post(&format!("Content-Length: {length}"), "hello");
    let mut rows = Vec::new();
    let malformed = "+5|-1|-0|abc|0x5|0o5|1_0|1 0|1Z||5.|5;|\u{665}|18446744073709551616|\
                     99999999999999999999|00000000000000000005";
    rows.extend(refused(7, "length-malformed", 400, malformed, length));
    rows.extend(refused(7, "length-list", 400, "5, 10|5,|,5", length));
    let several = "5\r\nContent-Length: 6|6\r\nContent-Length: 5|5\r\nContent-Length: 5";
    rows.extend(refused(7, "length-twice", 400, several, length));
    rows.extend(refused(8, "length-list", 400, "5, 5", length));
    rows.extend(answered(8, "length-zeros", 200, 1, "005|0000000000000000005", length));
    rows.extend(answered(8, "length-blanks", 200, 1, "\t5|5 | \t 5\t ", length));
    rows.extend(answered(8, "length-missing", 200, 1, "POST /events/a", bare));
    let old = |line: &str| format!("{line} HTTP/1.0\r\n\r\nhello").into();
    let lines = "POST /events/a|POST /events/a?event=e|POST /healthz|PATCH /events/a";
    rows.extend(refused(8, "length-missing-in-1.0", 400, lines, old));
    rows
}

/// The body itself, not its framing, is coded.
fn encoded(coding: &str) -> Vec<u8> {
    post(&format!("Content-Encoding: {coding}\r\nContent-Length: 5"), "hello")
}

fn content_codings() -> Vec<Row> {
    let mut rows = Vec::new();
    let codings = "gzip|GZIP|deflate|br|zstd|x-gzip|identity, gzip|gzip\r\nContent-Encoding: identity|\
                   gzip\r\nContent-Type: text/event-stream|gzip\r\nExpect: 100-continue";
    rows.extend(refused(10, "content-coding", 415, codings, encoded));
    let nothing = "identity|Identity||identity, identity";
    rows.extend(answered(10, "content-coding-none", 200, 1, nothing, encoded));
    rows
}

fn codings() -> Vec<Row> {
    let coded = |coding: &str| post(&format!("Transfer-Encoding: {coding}"), "0\r\n\r\n");
    let mut rows = Vec::new();
    rows.extend(refused(10, "coding-unknown", 501, "gzip|identity|deflate|gzip;q=1", coded));
    let malformed = "xchunked|chunkedchunked||chunked;q=1|\"chunked\"|chunked,|,chunked";
    rows.extend(refused(10, "coding-malformed", 400, malformed, coded));
    let lists = "chunked, gzip|gzip, chunked|chunked, identity|chunked, chunked";
    rows.extend(refused(10, "coding-list", 400, lists, coded));
    let twice = "chunked\r\nTransfer-Encoding: chunked|gzip\r\nTransfer-Encoding: chunked|\
                 chunked\r\nTransfer-Encoding: identity";
    rows.extend(refused(10, "coding-twice", 400, twice, coded));
    let around = "\u{b}chunked|chunked\u{c}|chunked\0|\u{a0}chunked|chun\u{b}ked";
    rows.extend(refused(10, "coding-malformed", 400, around, coded));
    let latin = b"POST /events/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \xa0chunked\r\n\r\n";
    let latin = [&latin[..], b"0\r\n\r\n"].concat();
    rows.extend(refused_bytes(10, "coding-malformed", 400, latin));
    let old =
        "POST /events/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    rows.extend(refused_bytes(10, "coding-in-1.0", 400, old));
    rows.extend(answered(10, "coding-case", 200, 1, "Chunked|CHUNKED|\tchunked \t", |coding| {
        post(&format!("Transfer-Encoding: {coding}"), "5\r\nhello\r\n0\r\n\r\n")
    }));
    rows
}

/// A request in the body, and one behind it for whoever goes by the other field.
fn both() -> Vec<Row> {
    let get = b"GET /events/a HTTP/1.1\r\nHost: h\r\n\r\n";
    let body = [b"0\r\n\r\n", &get[..]].concat();
    let fields = [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked", body.len()),
        format!("transfer-encoding: CHUNKED\r\ncontent-length: {}", body.len()),
        "Content-Length: 4\r\nTransfer-Encoding: chunked".into(),
        "Transfer-Encoding: chunked\r\nContent-Length: 0".into(),
        "TRANSFER-ENCODING: gzip\r\nCONTENT-LENGTH: 5".into(),
    ];
    let row = |fields: &String| refused_bytes(9, "length-and-coding", 400, post(fields, &body));
    let mut rows: Vec<Row> = fields.iter().flat_map(row).collect();
    // A body where none is expected: read by nobody, and so the end.
    for line in ["GET /events/a", "GET /healthz", "HEAD /healthz"] {
        let fields = format!("Content-Length: {}", EMBEDDED.len());
        let sent = crate::table::request(line, &fields, EMBEDDED);
        rows.extend(refused_bytes(9, "body-of-get", 400, sent));
    }
    rows.extend(answered(9, "length-of-nothing", 200, 0, "GET|HEAD", |method| {
        crate::table::request(&format!("{method} /healthz"), "Content-Length: 0", "")
    }));
    rows
}

#[test]
fn lengths() {
    let scene = Scene::start(&[]);
    check(&scene, &table());
    scene.end();
}

/// The forms of a body that are unusual and valid all come to the same event.
#[test]
fn what_is_valid_is_delivered() {
    let scene = Scene::start(&[]);
    let mut stream = scene.subscribe("/a", &[]);
    let valid = [
        post("Content-Length: 005", "hello"),
        post("content-length:5 ", "hello"),
        chunked("2\r\nhe\r\n003\r\nllo\r\n000\r\n\r\n"),
        chunked("5;a;b=c;d=\"e f\"\r\nhello\r\n0;last\r\n\r\n"),
    ];
    for sent in valid {
        let mut client = scene.connect();
        client.send(&sent);
        assert_eq!(client.answer().json("count"), "1");
        assert_eq!(stream.data(), "hello");
    }
    drop(stream);
    scene.end();
}
