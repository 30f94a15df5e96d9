//! The limits of a single request.

use crate::page::{Check, Row, walk};
use crate::support::{Client, PATIENCE, Server};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};

pub const CHECKS: &[(&str, Check)] = &[
    ("head_bytes_max", |row| {
        let head = |bytes: usize| {
            let rest = with_fields("GET /healthz", "X: \r\n", "").len();
            with_fields("GET /healthz", &format!("X: {}\r\n", "x".repeat(bytes - rest)), "")
        };
        let server = row.server(1024, &[("target_bytes_max", "256")]);
        row.divides(&server, head(1024), head(1025));
    }),
    ("target_bytes_max", |row| {
        let target = |bytes: usize| {
            let rest = "/healthz?".len();
            with_fields(&format!("GET /healthz?{}", "x".repeat(bytes - rest)), "", "")
        };
        row.divides(&row.server(256, &[]), target(256), target(257));
    }),
    ("method_bytes_max", |row| {
        let method = |name: &str| with_fields(&format!("{name} /healthz"), "", "");
        row.divides(&row.server(7, &[]), method("OPTIONS"), method("OPTIONSX"));
    }),
    ("headers_max", |row| {
        let fields = |count: usize| with_fields("GET /healthz", &"X: y\r\n".repeat(count - 1), "");
        row.divides(&row.server(4, &[]), fields(4), fields(5));
    }),
    ("empty_lines_max", |row| {
        let lines =
            |count| ["\r\n".repeat(count).into(), with_fields("GET /healthz", "", "")].concat();
        row.divides(&row.server(5, &[]), lines(5), lines(6));
    }),
    ("event_bytes_max", |row| {
        let server = row.server(100, &[]);
        let body = |bytes: usize| with_length("/events/a", "", "x".repeat(bytes).as_bytes());
        let chunks =
            |bytes: usize| chunked(&format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(bytes)));
        let feed = |bytes: usize| {
            let body = format!("data: {}\n\n", "x".repeat(bytes));
            with_length("/events/a", "Content-Type: text/event-stream\r\n", body.as_bytes())
        };
        row.divides(&server, body(100), body(101));
        row.divides(&server, chunks(100), chunks(101));
        row.divides(&server, feed(100), feed(101));
    }),
    ("chunk_line_bytes_max", |row| {
        let line = |bytes: usize| {
            chunked(&format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(bytes - "1;\r\n".len())))
        };
        row.divides(&row.server(20, &[]), line(20), line(21));
    }),
    ("chunk_extensions_bytes_max", |row| {
        let extensions = |bytes: usize| {
            chunked(&format!("1;eeee\r\nx\r\n1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(bytes - 6)))
        };
        row.divides(&row.server(30, &[]), extensions(30), extensions(31));
    }),
    ("trailer_bytes_max", |row| {
        let trailer = |bytes: usize| {
            chunked(&format!("1\r\nx\r\n0\r\nX: {}\r\n\r\n", "y".repeat(bytes - "X: \r\n".len())))
        };
        row.divides(&row.server(30, &[]), trailer(30), trailer(31));
    }),
    ("digits of a chunk's size", |row| {
        let size = |digits: u64| {
            let zeros = "0".repeat(digits as usize - 1);
            chunked(&format!("{zeros}1\r\nx\r\n0\r\n\r\n"))
        };
        row.divides(&row.server(0, &[]), size(row.default), size(row.default + 1));
    }),
    ("digits of Content-Length", |row| {
        let length = |digits: u64| {
            let zeros = "0".repeat(digits as usize - 1);
            with_fields("POST /events/a", &format!("Content-Length: {zeros}1\r\n"), "x")
        };
        row.divides(&row.server(0, &[]), length(row.default), length(row.default + 1));
    }),
    ("bytes of a topic's name", |row| {
        let server = row.server(0, &[]);
        let path = |bytes: u64| with_length(&format!("/events/{}", letters(bytes)), "", b"");
        row.divides(&server, path(row.default), path(row.default + 1));
        // Bytes, however they are written.
        let encoded =
            |bytes| with_length(&format!("/events/{}", "%C3%BC".repeat(bytes / 2)), "", b"");
        let limit = row.default as usize;
        row.divides(&server, encoded(limit), encoded(limit + 2));
    }),
    ("bytes of an event's id", |row| {
        let id = |bytes| with_length(&format!("/events/a?id={}", letters(bytes)), "", b"");
        row.divides(&row.server(0, &[]), id(row.default), id(row.default + 1));
    }),
    ("bytes of an event's name", |row| {
        let name = |bytes| with_length(&format!("/events/a?event={}", letters(bytes)), "", b"");
        row.divides(&row.server(0, &[]), name(row.default), name(row.default + 1));
    }),
    ("bytes of another field of an event stream", |row| {
        let retry = |bytes: u64| {
            let body = format!("retry: {}7\ndata: x\n\n", "0".repeat(bytes as usize - 1));
            with_length("/events/a", "Content-Type: text/event-stream\r\n", body.as_bytes())
        };
        row.divides(&row.server(0, &[]), retry(row.default), retry(row.default + 1));
    }),
    ("topics_per_connection_max", |row| {
        let topics = |count: usize| {
            let query: Vec<String> = (0..count).map(|nth| format!("topic={nth}")).collect();
            with_fields(&format!("HEAD /events?{}", query.join("&")), "", "")
        };
        row.divides(&row.server(3, &[]), topics(3), topics(4));
    }),
    ("bytes of a PATCH of /knobs", |row| {
        let server = row.server(0, &[]);
        let body = |bytes: u64| {
            let knobs = "{\"retry_ms\":1}";
            format!("{knobs}{}", " ".repeat(bytes as usize - knobs.len()))
        };
        assert_eq!(server.patch_knobs("", &body(row.default)).status, 200);
        let body = body(row.default + 1);
        let head = format!("Content-Length: {}\r\n", body.len());
        row.refuses(&server, with_fields("PATCH /knobs", &head, &body));
    }),
    ("linger_bytes_max", what_is_read_behind_a_refusal),
    ("bytes from a subscriber", what_a_subscriber_sends),
    ("bytes of answers that are not taken", answers_that_are_not_taken),
];

fn with_fields(line: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}").into()
}

fn with_length(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let fields = format!("{fields}Content-Length: {}\r\n", body.len());
    [&with_fields(&format!("POST {path}"), &fields, "")[..], body].concat()
}

fn chunked(body: &str) -> Vec<u8> {
    with_fields("POST /events/a", "Transfer-Encoding: chunked\r\n", body)
}

fn letters(count: u64) -> String {
    "x".repeat(count as usize)
}

fn what_is_read_behind_a_refusal(row: &Row) {
    const LIMIT: usize = 100_000;
    let server = row.server(LIMIT as u64, &[("linger_ms", "60000")]);
    let before = row.count(&server);
    let refused = |behind: usize| {
        let mut client = server.connect();
        client.send("GET\r\n\r\n");
        assert_eq!(client.answer().status, 400);
        client.send(vec![b'x'; behind]);
        client
    };
    let mut at_limit = refused(LIMIT);
    assert!(matches!(at_limit.socket.read(&mut [0; 1]), Ok(0)), "our side is closed");
    assert_eq!(row.count(&server), before, "the connection is not");
    // The bytes are read before the client is told that they were too many.
    let mut above = refused(LIMIT + 1);
    row.counts(&server, before);
    assert_eq!(was_reset(&mut above), "reset");
    row.says("reset", "ends");
}

/// How a connection behaves whose other side is gone.
fn was_reset(client: &mut Client) -> &'static str {
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        match client.socket.write_all(&[b'x'; 100]) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
            {
                return "reset";
            }
            Err(error) => panic!("{error}"),
        }
    }
    "open"
}

fn what_a_subscriber_sends(row: &Row) {
    let server = row.server(0, &[]);
    let mut talker = server.subscribe("/a");
    talker.client.send(vec![b'x'; row.default as usize]);
    server.publish("a", "x");
    assert_eq!(talker.data(), "x", "at the limit");
    let before = row.count(&server);
    talker.client.send("x");
    row.counts(&server, before);
    assert_eq!(talker.next(), None);
    assert_eq!(was_reset(&mut talker.client), "reset");
    row.says("reset", "ends");
}

fn answers_that_are_not_taken(row: &Row) {
    let server: Server = row.server(0, &[("so_sndbuf_bytes", "16384")]);
    let mut client = Client::connect_narrow(server.public);
    let mut sender = Client { socket: client.socket.try_clone().unwrap(), received: vec![] };
    let posts = 2_000;
    let requests = with_length("/events/a", "", b"x").repeat(posts);
    let sending = std::thread::spawn(move || sender.send(requests));
    // It goes on to the limit, and then waits.
    server.wait_for("private_bytes", row.default);
    for _ in 0..20 {
        assert_eq!(server.connect().request("GET", "/healthz", &[], b"").status, 200);
        assert!(row.count(&server) < row.default + 1_000, "further requests are answered");
    }
    let handled = server.metric("events_published_total");
    assert!(handled < posts as u64, "the limit was reached");
    // Nor does it allocate more while the client takes them. Through a narrow window that would be
    // at the pace of the kernel's window probes.
    SockRef::from(&client.socket).set_recv_buffer_size(1 << 20).unwrap();
    for nth in 0..posts {
        assert_eq!(client.answer().status, 200);
        if nth % 200 == 0 {
            assert!(row.count(&server) <= row.default, "memory follows what is not yet taken");
        }
    }
    sending.join().unwrap();
    row.says("further requests wait", "goes on");
}

#[test]
fn requests() {
    walk(CHECKS);
}
