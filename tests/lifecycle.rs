//! What happens as time passes: heartbeats, ages, stalls, idle topics, and the way down.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use pushv::reactor::Command;
use std::time::{Duration, Instant};
use support::{Client, Server, Subscriber};

#[test]
fn a_silent_stream_gets_comments() {
    let server = Server::start(&[("heartbeat_ms", "50")]);
    let mut reader = server.subscribe("/a");
    let heartbeats = |reader: &mut Subscriber, count: usize| {
        for _ in 0..count {
            assert_eq!(reader.client.take_through(b"3\r\n:\n\n\r\n").len(), 8);
        }
    };
    reader.client.take_through(b"\n\n\r\n"); // the first chunk: retry and comment
    heartbeats(&mut reader, 3);
    server.publish("a", "x");
    reader.client.take_through(b"data: x\n");
    reader.client.take_through(b"\n\n\r\n");
    heartbeats(&mut reader, 3);
    assert!(server.metric("heartbeats_total") >= 6);
}

#[test]
fn heartbeats_can_be_events_or_off() {
    let server = Server::start(&[("heartbeat_ms", "50"), ("heartbeat", "event")]);
    let mut reader = server.subscribe("/a");
    assert_eq!(reader.next().unwrap().name, "heartbeat");
    server.patch_knobs("", r#"{"heartbeat":"off"}"#);
    server.publish("a", "x");
    while reader.next().unwrap().name == "heartbeat" {}
    let before = server.metric("heartbeats_total");
    server.wait_for("turns_total", server.metric("turns_total") + 30);
    assert_eq!(server.metric("heartbeats_total"), before);
}

#[test]
fn streams_end_in_order_at_their_age() {
    let server = Server::start(&[("connection_age_ms", "200"), ("retry_ms", "100")]);
    let begun = Instant::now();
    let mut readers: Vec<Subscriber> = (0..10).map(|_| server.subscribe("/a")).collect();
    server.publish("a", "x");
    for reader in &mut readers {
        assert_eq!(reader.data(), "x");
        assert_eq!(reader.next(), None);
        assert!(reader.ended, "with the last chunk");
        assert_eq!(reader.retries.len(), 2);
    }
    assert!(begun.elapsed().as_millis() >= 160, "not before four fifths of the age");
    server.wait_for("closes_total{reason=\"aged\"}", 10);
}

/// The timeout is about progress: a reader that takes a little now and then is slow, not stalled.
///
/// On a busy machine this reader may itself stand still for too long. Then it is tried again with
/// more time.
#[test]
fn a_stalled_reader_is_cut_and_a_slow_one_is_not() {
    let was_slow_enough = [400, 4000, 40_000].into_iter().any(only_the_stalled_one_is_cut);
    assert!(was_slow_enough, "the slow reader was not served for a tenth of the time");
}

/// `false` if the slow reader has itself waited for long.
fn only_the_stalled_one_is_cut(timeout_ms: u64) -> bool {
    let server = Server::start(&[
        ("stall_timeout_ms", &timeout_ms.to_string()),
        ("so_sndbuf_bytes", "2048"),
        ("tcp_user_timeout_ms", "0"),
    ]);
    let _stalled = Subscriber::new(Client::connect_narrow(server.public), "/a", &[]);
    let mut slow = Subscriber::new(Client::connect_narrow(server.public), "/a", &[]);
    let body = "data: some longish text that fills the buffers soon\n\n".repeat(4000);
    let media = [("Content-Type", "text/event-stream")];
    server.connect().request("POST", "/events/a", &media, body.as_bytes());
    let stalled = || server.metric("closes_total{reason=\"stalled\"}");
    let (mut seen, mut last, mut longest_ms) = (0, Instant::now(), 0);
    while stalled() == 0 && seen < 4000 && slow.next().is_some() {
        seen += 1;
        std::thread::sleep(Duration::from_millis(timeout_ms / 400)); // the pace
        longest_ms = longest_ms.max(last.elapsed().as_millis() as u64);
        last = Instant::now();
    }
    if longest_ms > timeout_ms / 10 {
        return false;
    }
    assert!((1..4000).contains(&seen), "the stalled reader is not cut, behind event {seen}");
    while seen < 4000 {
        slow.data();
        seen += 1;
    }
    assert_eq!(stalled(), 1);
    true
}

#[test]
fn topics_that_nobody_uses_are_forgotten() {
    let server = Server::start(&[("topic_idle_ms", "100"), ("heartbeat_ms", "50")]);
    let id = server.publish("a", "x");
    let _kept = server.subscribe("/kept");
    server.wait_for("topics_forgotten_total", 1);
    assert_eq!((server.metric("topics"), server.metric("log_bytes")), (1, 0));
    let again = server.subscribe_with("/a", &[("Last-Event-ID", &id)]);
    assert_eq!(again.field("Pushv-Resumed-From"), Some(&*id), "nothing came after it");
    let again = server.subscribe_with("/a", &[("Last-Event-ID", id.replace("-1", "-0").as_str())]);
    assert_eq!(again.field("Pushv-Resumed-From"), Some("gap"), "something did");
}

/// Streams end behind their last event, with a `retry:` of their own and the last chunk; a publish
/// under way is answered and delivered; nothing new is begun.
#[test]
fn a_drain_loses_nothing() {
    let server = Server::start(&[("drain_ms", "3600000")]);
    let mut readers: Vec<Subscriber> = (0..30).map(|_| server.subscribe("/a")).collect();
    let mut idle = server.connect();
    assert_eq!(idle.request("GET", "/readyz", &[], b"").status, 200);
    let mut under_way = server.connect();
    under_way.send("POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nla");
    let mut feed = server.connect();
    feed.send(
        "POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
         d\r\ndata: fed\n\n: \r\n",
    );
    readers.iter_mut().for_each(|reader| assert_eq!(reader.data(), "fed"));

    let mut admin = Client::connect(server.admin);
    admin.send("GET /ready"); // a request under way keeps its connection
    server.metric("connections"); // what was sent before has been read by now
    server.handle.send(Command::Drain).unwrap();
    idle.expect_end();
    admin.send("z HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(admin.answer().status, 503);
    assert!(std::net::TcpStream::connect(server.public).is_err(), "nobody accepts any more");

    under_way.send("st");
    let answer = under_way.answer();
    assert_eq!((answer.status, answer.json("subscribers")), (200, "30".into()));
    assert_eq!(answer.field("Connection"), Some("close"));
    under_way.expect_end();
    feed.send("1\r\n\n\r\n"); // its block is finished: now it can be answered
    let answer = feed.answer();
    assert_eq!((answer.status, answer.json("count")), (503, "1".into()));

    for reader in &mut readers {
        assert_eq!(reader.data(), "last");
        assert_eq!(reader.next(), None);
        assert!(reader.ended);
    }
    let retries: std::collections::BTreeSet<u64> =
        readers.iter().map(|reader| reader.retries[1]).collect();
    assert!(retries.len() > 20, "each comes back at a time of its own");
    server.join();
}

#[test]
fn what_cannot_be_drained_is_cut_at_the_deadline() {
    let server = Server::start(&[("drain_ms", "300"), ("so_sndbuf_bytes", "2048")]);
    let mut stuck = Subscriber::new(Client::connect_narrow(server.public), "/a", &[]);
    let mut prompt = server.subscribe("/a");
    let mut half = server.connect();
    half.send("POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nla");
    let body = "data: some longish text that fills the buffers soon\n\n".repeat(4000);
    let media = [("Content-Type", "text/event-stream")];
    server.connect().request("POST", "/events/a", &media, body.as_bytes());
    (0..4000).for_each(|_| drop(prompt.data()));
    server.publish("a", "last");
    let begun = Instant::now();
    server.handle.send(Command::Drain).unwrap();
    assert_eq!((prompt.data(), prompt.next()), ("last".into(), None));
    assert!(prompt.ended, "the prompt reader's stream has ended in order");
    half.expect_end();
    server.join();
    assert!(begun.elapsed().as_millis() >= 300);
    let rest = stuck.client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the stuck reader's stream was cut");
}

#[test]
fn a_stop_does_not_wait() {
    let server = Server::start(&[("drain_ms", "3600000")]);
    let mut half = server.connect();
    half.send("POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nla");
    server.handle.send(Command::Drain).unwrap();
    server.handle.send(Command::Stop).unwrap();
    half.expect_end();
    server.join();
}

#[test]
fn a_drain_can_be_watched_from_its_beginning_to_its_end() {
    let server = Server::start(&[("drain_ms", "3600000")]);
    let mut half = publish_half(&server);
    server.handle.send(Command::Drain).unwrap();
    let ask = |path: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut client = Client::connect(server.admin);
        client.send(request);
        String::from_utf8(client.rest()).unwrap()
    };
    while !ask("/readyz").starts_with("HTTP/1.1 503 ") {}
    assert!(ask("/metrics").ends_with("# EOF\n"));
    half.send("last");
    assert_eq!(half.answer().status, 200);
    drop(half);
    server.join();
}

/// A live page reconnects whenever its stream ends. It must not hold up a drain, and neither must half
/// a request to the admin listener: both may last for ever.
#[test]
fn looking_on_does_not_hold_up_a_drain() {
    let server = Server::start(&[("drain_ms", "3600000")]);
    let mut under_way = publish_half(&server);
    let mut half = Client::connect(server.admin);
    half.send("GET /metr");
    let view = |admin| {
        let mut client = Client::connect(admin);
        client.send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Subscriber::asked(client)
    };
    let mut viewer = view(server.admin);
    assert_eq!(viewer.next().unwrap().name, "live");
    server.handle.send(Command::Drain).unwrap();
    while std::net::TcpStream::connect(server.public).is_ok() {}
    // As long as it lasts it can be looked at, also by a viewer that comes now.
    (0..2).for_each(|_| assert_eq!(viewer.next().unwrap().name, "live"));
    let mut late = view(server.admin);
    (0..2).for_each(|_| assert_eq!(late.next().unwrap().name, "live"));
    under_way.send("last");
    assert_eq!(under_way.answer().status, 200);
    server.join();
    for viewer in [&mut viewer, &mut late] {
        while viewer.next().is_some() {}
        assert!(viewer.ended, "the stream ends in order");
    }
    half.expect_end();
}

/// A publish that holds up a drain until `last` is sent.
fn publish_half(server: &Server) -> Client {
    let mut half = server.connect();
    half.send("POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n");
    half.send("Expect: 100-continue\r\n\r\n");
    half.take_through(b"100 Continue\r\n\r\n");
    half
}
