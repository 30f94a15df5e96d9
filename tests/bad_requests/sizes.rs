//! Heads and bodies that are too long: the answer arrives although the client goes on sending, and
//! memory stays what it was.

use crate::scene::Scene;
use crate::table::{
    Row, answered, bare, check, chunked, ends_in_order, post, refused_bytes, request,
};

pub fn table() -> Vec<Row> {
    let target = |bytes| bare(&format!("GET /{}", "x".repeat(bytes)));
    let fields = |count| post(&vec!["X: y"; count].join("\r\n"), "");
    let mut rows = answered(16, "target-of-8000", 404, 0, "", |_| target(7_999));
    for bytes in [9_000, 100_000] {
        rows.extend(refused_bytes(16, "target-long", 414, target(bytes)));
    }
    let long = "x".repeat(100_000);
    rows.extend(refused_bytes(16, "head-long", 431, post(&format!("X: {long}"), "")));
    rows.extend(refused_bytes(16, "head-long", 431, post(&format!("{long}: x"), "")));
    for count in [101, 200, 10_000] {
        rows.extend(refused_bytes(16, "fields-many", 431, fields(count)));
    }
    for bytes in [33, 1_000, 100_000] {
        rows.extend(refused_bytes(
            16,
            "method-long",
            501,
            bare(&format!("{} /", "X".repeat(bytes))),
        ));
    }
    rows.extend(refused_bytes(16, "empty-lines", 400, "\r\n".repeat(500_000)));
    rows.extend(refused_bytes(16, "empty-lines", 400, [&b"\r\n\r\n\r\n"[..], &target(1)].concat()));
    rows.extend(answered(16, "empty-line", 404, 0, "\r\n|\r\n\r\n", |lines| {
        [lines.as_bytes(), &target(1)].concat()
    }));
    rows.extend(bodies());
    rows
}

fn bodies() -> Vec<Row> {
    let long = vec![b'x'; 4 << 20];
    let length = format!("Content-Length: {}", long.len());
    let expecting = format!("Expect: 100-continue\r\n{length}");
    let chunks = format!("1000\r\n{}\r\n", "x".repeat(4096)).repeat(1000);
    let mut rows = Vec::new();
    for sent in [
        post(&length, &long),
        post("Content-Length: 9999999999999999999", ""),
        post("Content-Length: 9223372036854775808", "x"),
        chunked(chunks),
        chunked([b"FFFFFFFF\r\n", &long[..]].concat()),
        request("POST /events/a", &expecting, ""),
    ] {
        rows.extend(refused_bytes(15, "body-long", 413, sent));
    }
    rows
}

#[test]
fn sizes() {
    // A client that has begun to send megabytes will send them before it reads.
    let scene = Scene::start(&[("linger_ms", "60000")]);
    check(&scene, &table()[..1]);
    let before = scene.metric("resident_bytes");
    check(&scene, &table());
    let grown = scene.metric("resident_bytes").saturating_sub(before);
    assert!(grown < 4 << 20, "memory has grown by {grown} bytes");
    scene.end();
}

/// The refusal does not wait for the body, and does not invite it.
#[test]
fn a_long_body_is_refused_before_it_is_sent() {
    let scene = Scene::start(&[("linger_ms", "60000")]);
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut client = scene.connect();
        client.send(post(&format!("{expect}Content-Length: 8000000"), ""));
        assert_eq!(client.answer().status, 413, "and not 100");
        client.send(vec![b'x'; 8_000_000]); // it cannot know yet
        ends_in_order(&mut client);
    }
    let mut client = scene.connect();
    client.send(post("Expect: 100-continue\r\nContent-Length: 5", ""));
    assert_eq!(client.take_through(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!((client.answer().status, client.received.len()), (200, 0));
    drop(client);
    scene.end();
}

/// A list of topics is refused at the first one too many. To compare all of them with each other,
/// which finds the repeated ones, would take the square of their number.
#[test]
fn a_long_list_of_topics_is_not_gone_through() {
    let scene = Scene::start(&[("target_bytes_max", "1000000"), ("head_bytes_max", "1048576")]);
    let topics: Vec<String> = (0..65_000).map(|nth| format!("topic={nth}")).collect();
    let mut client = scene.connect();
    client.send(bare(&format!("GET /events?{}", topics.join("&"))));
    assert_eq!(client.answer().status, 400);
    drop(client);
    scene.end();
}

/// Heads that are begun cost what was sent of them, whatever they declare.
#[test]
fn begun_heads_cost_what_was_sent() {
    const HEADS: usize = 300;
    let scene = Scene::start(&[]);
    let before = scene.metric("resident_bytes");
    let clients: Vec<_> = (0..HEADS)
        .map(|_| {
            let mut client = scene.connect();
            let head = "POST /events/a HTTP/1.1\r\nContent-Length: 65000\r\nX: ";
            client.send(format!("{head}{}", "x".repeat(12_000)));
            client.send(vec![b'x'; 3_000]);
            client
        })
        .collect();
    scene.catches_up();
    let grown = scene.metric("resident_bytes").saturating_sub(before) as usize;
    // What was sent, twice, since a buffer that grows is doubled; and some for the connections.
    assert!(grown < HEADS * (2 * 16_384 + 4_096) + (2 << 20), "{grown} bytes");
    drop(clients);
    scene.end();
}
