//! The limits on how long something may take.

use crate::page::{Check, Row, fate, walk};
use crate::support::{Client, Server, Subscriber};
use pushv::reactor::Command;
use std::io::Read;
use std::time::{Duration, Instant};

const LIMIT_MS: u64 = 300;

/// All times that could end the same, but so long that the test would have failed before: what
/// happens is then the limit's doing, however late.
const OTHERS: [(&str, &str); 6] = [
    ("head_timeout_ms", "3600000"),
    ("body_timeout_ms", "3600000"),
    ("feed_timeout_ms", "3600000"),
    ("idle_timeout_ms", "3600000"),
    ("stall_timeout_ms", "3600000"),
    ("tcp_user_timeout_ms", "0"),
];

pub const CHECKS: &[(&str, Check)] = &[
    ("head_timeout_ms", |row| tells(row, LIMIT_MS, &[], "GET /healthz HTTP/1.1\r\nHo")),
    ("milliseconds for the head of one that is being turned away", |row| {
        // Nobody else has a place, so this one is above the limit.
        tells(row, row.default, &[("connections_max", "1")], "GET /healthz HTTP/1.1\r\nHo");
    }),
    ("body_timeout_ms", |row| {
        tells(
            row,
            LIMIT_MS,
            &[],
            "POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel",
        );
    }),
    ("feed_timeout_ms", |row| {
        let fields = "Host: h\r\nContent-Type: text/event-stream\r\nContent-Length: 1000";
        tells(
            row,
            LIMIT_MS,
            &[],
            &format!("POST /events/a HTTP/1.1\r\n{fields}\r\n\r\ndata: x\n\n"),
        );
    }),
    ("idle_timeout_ms", |row| {
        closes(row, |server, begun| {
            let mut client = server.connect();
            *begun = Instant::now();
            assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
            assert!(matches!(client.socket.read(&mut [0; 1]), Ok(0)));
        });
    }),
    ("stall_timeout_ms", |row| {
        closes(row, |server, begun| {
            let mut asleep = Subscriber::new(Client::connect_narrow(server.public), "/a", &[]);
            *begun = Instant::now();
            let body = "data: some longish text that fills the buffers soon\n\n".repeat(4000);
            let media = [("Content-Type", "text/event-stream")];
            server.connect().request("POST", "/events/a", &media, body.as_bytes());
            row.counts(server, 0);
            let rest = asleep.client.rest();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "it was cut, not ended");
        });
    }),
    ("linger_ms", |row| {
        closes(row, |server, begun| {
            let mut client = server.connect();
            *begun = Instant::now();
            client.send("GET\r\n\r\n");
            assert_eq!(client.answer().status, 400);
            // The client has not closed its side.
            row.counts(server, 0);
        });
    }),
    ("connection_age_ms", |row| {
        let server = row.server(LIMIT_MS, &[]);
        let begun = Instant::now();
        let mut stream = server.subscribe("/a");
        assert_eq!((stream.next(), stream.ended), (None, true));
        assert!(begun.elapsed() >= Duration::from_millis(LIMIT_MS * 4 / 5), "shortened by a fifth");
        row.counts(&server, 0);
        row.says("the stream ends", "ends");
    }),
    ("topic_idle_ms", |row| {
        let server = row.server(LIMIT_MS, &[("heartbeat_ms", "100")]);
        let stays = server.subscribe("/b");
        let begun = Instant::now();
        server.publish("a", "x");
        row.counts(&server, 0);
        assert!(begun.elapsed() >= Duration::from_millis(LIMIT_MS));
        assert_eq!(server.metric("topics"), 1, "that of the subscriber");
        drop(stays);
        row.says("the topic is forgotten", "–");
    }),
    ("drain_ms", |row| {
        let server = row.server(LIMIT_MS, &[]);
        let mut half = server.connect();
        half.send("POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nla");
        server.metric("connections");
        let begun = Instant::now();
        server.handle.send(Command::Drain).unwrap();
        half.expect_end();
        assert!(begun.elapsed() >= Duration::from_millis(LIMIT_MS));
        server.join();
        row.says("cut", "ends");
    }),
];

/// What is sent is answered when its time is up, and as the row says.
#[track_caller]
fn tells(row: &Row, limit_ms: u64, settings: &[(&str, &str)], sent: &str) {
    let server = row.server(limit_ms, &[&OTHERS, settings].concat());
    let _stays = server.subscribe("/stays");
    let begun = Instant::now();
    let mut client = server.connect();
    client.send(sent);
    let answer = client.answer();
    not_before(row, begun, limit_ms);
    row.says(&answer.status.to_string(), fate(&mut client, &answer));
    drop(client);
    row.counts(&server, 0);
}

/// The connection that `body` is about is closed in time, which begins when `body` says so.
#[track_caller]
fn closes(row: &Row, body: impl FnOnce(&Server, &mut Instant)) {
    let settings = [&OTHERS, &[("so_sndbuf_bytes", "2048")][..]].concat();
    let server = row.server(LIMIT_MS, &settings);
    let mut begun = Instant::now();
    body(&server, &mut begun);
    not_before(row, begun, LIMIT_MS);
    row.counts(&server, 0);
    row.says("closed", "ends");
}

#[track_caller]
fn not_before(row: &Row, begun: Instant, limit_ms: u64) {
    let took_ms = begun.elapsed().as_millis() as u64;
    assert!(took_ms >= limit_ms, "{}: {took_ms} ms", row.name);
}

#[test]
fn times() {
    walk(CHECKS);
}
