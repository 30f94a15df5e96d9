//! The limits on how many there may be of something.

use crate::page::{Check, Row, walk};
use crate::support::{Client, PATIENCE, Server, Subscriber, config};
use pushv::config::Overrides;
use pushv::reactor::{Command, Reactor};
use pushv::server::OwnedEvent;
use std::io::{Read, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

pub const CHECKS: &[(&str, Check)] = &[
    ("connections_max", connections),
    ("connections_per_address_max", connections),
    ("connections that are being turned away", |row| {
        // The limit itself is reached by one who stays.
        let server = row.server(0, &[("connections_max", "1")]);
        let stays = server.subscribe("/a");
        let places = row.default;
        closed_at_accept(row, &server, server.public, places);
        drop(stays);
    }),
    ("connections of the admin listener", |row| {
        let server = row.server(0, &[]);
        closed_at_accept(row, &server, server.admin, row.default);
    }),
    ("pending_heads_max", pending_heads),
    ("topics_max", |row| {
        let server = row.server(2, &[("retry_ms", "1000")]);
        let post = |topic: &str| {
            let head = format!("POST /events/{topic} HTTP/1.1\r\nHost: h\r\n");
            format!("{head}Content-Length: 1\r\n\r\nx").into_bytes()
        };
        server.publish("a", "x");
        row.divides(&server, post("b"), post("c"));
        row.divides(&server, post("a"), post("d"));
        let mut stream = server.subscribe("/c");
        assert_eq!((stream.rest(), stream.ended, stream.retries.len()), (vec![], true, 1));
    }),
    ("topics in an answer of /topics", topics_listed),
    ("streams in an answer of /connections", |row| {
        let server = row.server(0, &[]);
        let path = |limit: u64| format!("/connections?limit={limit}");
        assert_eq!(server.admin_get(&path(row.default)).status, 200);
        let line = format!("GET {} HTTP/1.1", path(row.default + 1));
        row.refuses(&server, format!("{line}\r\nHost: localhost\r\n\r\n").into());
    }),
    ("topics with knobs of their own", |row| {
        let mut config = config(&[]);
        let own = Overrides::from([("write_path", "copy".to_string())]);
        for nth in 1..row.default {
            config.topics.set(&nth.to_string(), own.clone()).unwrap();
        }
        let server = Server::with_config(config);
        let json = "{\"write_path\":\"copy\"}";
        assert_eq!(server.patch_knobs("?topic=last", json).status, 200);
        let head = "PATCH /knobs?topic=more HTTP/1.1\r\nHost: localhost\r\n";
        let length = format!("Content-Length: {}\r\n\r\n", json.len());
        row.refuses(&server, format!("{head}{length}{json}").into());
    }),
    ("log_bytes_max", |row| {
        // With its id and its framing an event of 1000 bytes takes less than 1100.
        let server = row.server(8192, &[("event_bytes_max", "1000")]);
        evicts(row, &server, &"x".repeat(1000), 7, 4);
    }),
    ("log_events_max", |row| {
        let server = row.server(10, &[]);
        evicts(row, &server, "x", 10, 1);
    }),
    ("logs_bytes_max", logs_bytes),
    ("events that feeds have handed over", events_of_feeds),
];

/// Two places are taken; whoever comes then is turned away, in the way that suits who it is.
fn connections(row: &Row) {
    let server = row.server(2, &[("retry_ms", "1000")]);
    let mut stays = [server.subscribe("/a"), server.subscribe("/a")];
    let before = row.count(&server);
    let mut stream = server.subscribe("/a");
    assert_eq!((stream.rest(), stream.ended), (vec![], true));
    assert!(matches!(stream.retries[..], [1000..2000]), "{:?}", stream.retries);
    let answer = server.connect().request("POST", "/events/a", &[], b"x");
    assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
    assert_eq!(answer.field("Connection"), Some("close"));
    row.counts(&server, before + 1);
    row.says("turned away", "ends");

    let [first, second] = &mut stays;
    first.client.finish();
    assert_eq!(first.next(), None);
    drop(stream);
    let deadline = std::time::Instant::now() + PATIENCE;
    while server.connect().request("POST", "/events/a", &[], b"x").status != 200 {
        assert!(std::time::Instant::now() < deadline, "{}: its place is free", row.name);
    }
    assert_eq!(second.data(), "x");
}

const WHOLE: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// So many connections are taken on, and the next is closed.
fn closed_at_accept(row: &Row, server: &Server, address: std::net::SocketAddr, places: u64) {
    let mut open: Vec<Client> = Vec::new();
    for _ in 0..places {
        let mut client = Client::connect(address);
        // Begun, so that it stays, and seen, so that it has its place.
        client.send("GET /healthz HTTP/1.1\r\n");
        open.push(client);
    }
    let mut refused = Client::connect(address);
    refused.try_send(WHOLE);
    assert!(!refused.receive(), "it is closed, and told nothing");
    for client in &mut open {
        client.send("Host: localhost\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
    drop(open);
    // The admin listener's own counter is read through it.
    let deadline = std::time::Instant::now() + PATIENCE;
    let served = || {
        let mut client = Client::connect(server.admin);
        client.try_send(WHOLE);
        client.receive()
    };
    while !served() {
        assert!(std::time::Instant::now() < deadline, "the places are free again");
    }
    row.counts(server, 0);
    row.says("closed at accept", "ends");
}

fn pending_heads(row: &Row) {
    let server = row.server(3, &[]);
    let before = row.count(&server);
    // Silent, begun, and begun on a connection that has been used.
    let mut silent = server.connect();
    seen(&server, 1);
    let mut begun = server.connect();
    begun.send("GET /healthz HTTP/1.1\r\nHo");
    seen(&server, 2);
    let mut used = server.connect();
    assert_eq!(used.request("GET", "/healthz", &[], b"").status, 200);
    used.send("GET /hea");
    seen(&server, 3);
    assert_eq!(row.count(&server), before, "at the limit");

    let mut more: Vec<Client> = Vec::new();
    let mut one_more = || {
        let mut client = server.connect();
        client.send("GET /healthz HTTP/1.1\r\n");
        more.push(client);
    };
    one_more();
    assert!(matches!(silent.socket.read(&mut [0; 1]), Ok(0)), "the oldest, which has said nothing");
    for next in [&mut begun, &mut used] {
        one_more();
        let answer = next.answer();
        let connection = crate::page::fate(next, &answer);
        row.says(&format!("{} to the oldest", answer.status), connection);
    }
    drop((silent, begun, used));
    row.counts(&server, before + 2);
    for client in &mut more {
        client.send("Host: h\r\n\r\n");
        assert_eq!(client.answer().status, 200, "the newest are served");
    }
    // Those that are answered are awaited no more.
    for _ in 0..10 {
        more.push(server.connect());
        let newest = more.last_mut().unwrap();
        assert_eq!(newest.request("GET", "/healthz", &[], b"").status, 200);
    }
    assert_eq!(more[0].request("GET", "/healthz", &[], b"").status, 200);
}

/// Waits until the server has taken on so many connections. What was sent on them before is read
/// in the same turn.
fn seen(server: &Server, connections: u64) {
    server.wait_for("accepted_total", connections);
    server.metric("connections");
}

fn topics_listed(row: &Row) {
    let server = row.server(0, &[]);
    let count = row.default as usize;
    let mut publisher = server.connect();
    let mut socket = publisher.socket.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for nth in 0..=count {
            let head = format!("POST /events/{nth} HTTP/1.1\r\nHost: h\r\n");
            write!(socket, "{head}Content-Length: 1\r\n\r\nx").unwrap();
        }
    });
    (0..=count).for_each(|_| assert_eq!(publisher.answer().status, 200));
    sender.join().unwrap();
    let listed = server.admin_get(&format!("/topics?limit={count}"));
    assert_eq!(listed.text().matches("\"name\"").count(), count);
    let above = server.admin_get(&format!("/topics?limit={}", count + 1));
    row.says(&above.status.to_string(), "goes on");
}

/// `fits` events are retained, and of up to `more` further ones the first sends the oldest away.
fn evicts(row: &Row, server: &Server, data: &str, fits: usize, more: usize) {
    for _ in 0..fits {
        server.publish("a", data);
    }
    assert_eq!(row.count(server), 0, "at the limit");
    let mut client = server.connect();
    for _ in 0..more {
        assert_eq!(client.request("POST", "/events/a", &[], data.as_bytes()).status, 200);
    }
    assert!(row.count(server) >= 1);
    assert_eq!(server.metric("log_events") + row.count(server), (fits + more) as u64);
    let mut stream = server.subscribe("/a?last_event_id=earliest");
    let first = stream.next().unwrap().id.unwrap();
    let evicted = row.count(server);
    assert!(first.ends_with(&format!("-{}", evicted + 1)), "{first}: the oldest has gone");
    row.says("the oldest event goes", "goes on");
}

fn logs_bytes(row: &Row) {
    let server = row.server(16_384, &[("event_bytes_max", "1000"), ("log_bytes_max", "8192")]);
    let data = "x".repeat(1000);
    let mut client = server.connect();
    let mut topics = 0;
    let answer = loop {
        let path = format!("/events/{topics}");
        let answer = client.request("POST", &path, &[], data.as_bytes());
        if answer.status != 200 {
            break answer;
        }
        assert!(server.metric("log_bytes") <= 16_384);
        topics += 1;
        assert!(topics <= 16, "more than there is memory for");
    };
    assert!(topics >= 4, "some fit");
    assert_eq!(answer.field("Retry-After"), Some("1"));
    row.says(&answer.status.to_string(), crate::page::fate(&mut client, &answer));
    row.counts(&server, 0);
}

/// A reactor that does not run yet takes nothing off the queue.
fn events_of_feeds(row: &Row) {
    let reactor = Reactor::bind(config(&[])).unwrap();
    let (handle, public) = (reactor.handle(), reactor.public_addresses()[0]);
    let (sender, handed_over) = channel();
    let (feed, count) = (handle.clone(), row.default);
    let feeding = std::thread::spawn(move || {
        for nth in 0..=count {
            let event =
                OwnedEvent { topic: "a".into(), data: nth.to_string(), ..Default::default() };
            feed.publish(event).unwrap();
            sender.send(()).unwrap();
        }
    });
    (0..count).for_each(|_| handed_over.recv_timeout(PATIENCE).unwrap());
    let one_more = handed_over.recv_timeout(Duration::from_millis(100)); // the subject is time
    assert_eq!(one_more, Err(RecvTimeoutError::Timeout), "it waits");
    let running = std::thread::spawn(move || reactor.run());
    handed_over.recv_timeout(PATIENCE).unwrap();
    feeding.join().unwrap();
    let mut stream = Subscriber::new(Client::connect(public), "/a?last_event_id=earliest", &[]);
    (0..=count).for_each(|nth| assert_eq!(stream.data(), nth.to_string()));
    handle.send(Command::Stop).unwrap();
    running.join().unwrap().unwrap();
    row.says("the feed waits", "–");
}

#[test]
fn numbers() {
    walk(CHECKS);
}
