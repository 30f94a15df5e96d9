//! What a server tells of its streams, held against what others know of them.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "support/rows.rs"]
mod rows;
mod support;

use pushv::sys::network;
use rows::{number, silent};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Server, Subscriber, installed, skip};

/// Bytes that have arrived at a client, read or not.
fn arrived(client: &Client, read: usize) -> u64 {
    (read + pushv::sys::tcp::unread_bytes(&client.socket).unwrap()) as u64
}

/// A reader that stops at known points: what the server says is acknowledged is what has arrived
/// in the reader's kernel, to the byte, and the last event named is the last one among those bytes.
#[test]
fn the_ladder_is_exact() {
    let server = Server::start(&[("so_sndbuf_bytes", "20000"), ("heartbeat_ms", "20")]);
    for path in ["/a", "?topic=a&topic=b"] {
        let mut client = silent(&server, path);
        server.wait_for_stream(&client, |stream| number(&stream["sent"]["bytes"]) > 0);
        let data = "x".repeat(300);
        for nth in 0..200 {
            server.publish("a", &data);
            server.publish("b", &data);
            if nth == 10 {
                // Heartbeats come to lie among the events that wait in the kernel.
                server.wait_for("heartbeats_total", server.metric("heartbeats_total") + 2);
            }
        }
        let mut read = Vec::new();
        for count in [0, 1, 700, 3000, 5000] {
            read.extend(client.take(count));
            // Reading opens the window, and more arrives; it has come to rest when both agree.
            let whole = |stream: &Value| number(&stream["ladder"]["acked"]["bytes"]);
            let stream = server.wait_for_stream(&client, |stream| {
                whole(stream) == arrived(&client, read.len() + client.received.len())
            });
            check_rungs(&stream);
            let acked = whole(&stream) as usize;
            // The rest of what arrived can be peeked at without being read.
            let mut seen = read.clone();
            seen.extend(&client.received);
            let mut unread = vec![0; acked - seen.len()];
            peek(&client, &mut unread);
            seen.extend(unread);
            let (events, last_id) = events_in(&seen);
            let rung = &stream["ladder"]["acked"];
            assert_eq!(number(&rung["events"]), events, "{stream:#}");
            assert_eq!(rung["last_event_id"].as_str(), last_id.as_deref(), "{stream:#}");
        }
    }
}

fn peek(client: &Client, buffer: &mut [u8]) {
    // A receive queue may hold its bytes in several pieces, all of which one peek copies.
    if !buffer.is_empty() {
        assert_eq!(client.socket.peek(buffer).unwrap(), buffer.len());
    }
}

/// Events that `bytes`, the beginning of a chunked stream, hold to the last byte of their chunks, and
/// the id of the last of them.
fn events_in(bytes: &[u8]) -> (u64, Option<String>) {
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let Some(mut at) = head_end else { return (0, None) };
    let (mut events, mut last) = (0, None);
    loop {
        let rest = &bytes[at..];
        let Some(line_end) = rest.windows(2).position(|window| window == b"\r\n") else { break };
        let size = std::str::from_utf8(&rest[..line_end]).unwrap();
        let end = line_end + 2 + usize::from_str_radix(size, 16).unwrap() + 2;
        let Some(chunk) = rest.get(..end) else { break };
        // The stream's first chunk has an id, but is no event.
        let text = String::from_utf8_lossy(&chunk[line_end + 2..]).into_owned();
        let is_event = !text.starts_with("retry: ");
        let mut ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
        if let Some(id) = ids.next().filter(|_| is_event) {
            events += 1;
            last = Some(id.to_owned());
        }
        at += end;
    }
    (events, last)
}

/// What holds of every ladder.
#[track_caller]
fn check_rungs(stream: &Value) {
    let ladder = &stream["ladder"];
    let sum = |unit: &str| -> u64 {
        ["unsent", "in_flight", "acked"].iter().map(|rung| number(&ladder[rung][unit])).sum()
    };
    assert_eq!(sum("bytes"), number(&stream["sent"]["bytes"]), "{stream:#}");
    assert_eq!(sum("events"), number(&stream["sent"]["events"]), "{stream:#}");
}

/// The kernel's own tool as auditor, which asks by another way (`sock_diag(7)`).
#[test]
fn the_ladder_agrees_with_ss() {
    if installed(&["ss"]).is_none() {
        return;
    }
    let server = Server::start(&[]);
    let client = silent(&server, "/a");
    for _ in 0..100 {
        server.publish("a", &"y".repeat(1000));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Both look at the same moment if nothing has changed between two looks around the third.
        let before = server.stream_of(&client);
        let theirs = ss(server.public, client.socket.local_addr().unwrap());
        let ladder = &server.stream_of(&client)["ladder"];
        if *ladder == before["ladder"] && number(&before["sent"]["events"]) == 100 {
            let bytes = |rung: &str| number(&ladder[rung]["bytes"]);
            assert_eq!(bytes("acked"), theirs.acked, "{ladder:#}\n{}", theirs.text);
            assert_eq!(bytes("unsent"), theirs.unsent, "{ladder:#}");
            assert_eq!(bytes("unsent") + bytes("in_flight"), theirs.send_queue, "{ladder:#}");
            assert!(theirs.send_queue > 0, "something waits");
            break;
        }
        assert!(Instant::now() < deadline, "it does not come to rest: {ladder:#}");
    }
}

struct Ss {
    text: String,
    send_queue: u64,
    acked: u64,
    unsent: u64,
}

/// What `ss` says of the server's end of a connection.
fn ss(local: SocketAddr, peer: SocketAddr) -> Ss {
    let filter = format!("( sport = :{} and dport = :{} )", local.port(), peer.port());
    let output = Command::new("ss").args(["-tinmoH", &filter]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let fields: Vec<&str> = text.split_whitespace().collect();
    let field = |name: &str| {
        let found = fields.iter().find_map(|field| field.strip_prefix(name));
        found.map_or(0, |value| value.parse().unwrap())
    };
    Ss {
        text: text.clone(),
        send_queue: fields[2].parse().unwrap(),
        acked: field("bytes_acked:"),
        unsent: field("notsent:"),
    }
}

#[test]
fn verdicts() {
    let server = Server::start(&[("so_sndbuf_bytes", "20000"), ("observe_ms", "20")]);
    let mut reader = server.subscribe("/a");
    let stopped = silent(&server, "/a");
    for _ in 0..300 {
        server.publish("a", &"z".repeat(1000));
        reader.next().unwrap();
    }
    let stream = server.wait_for_stream(&stopped, |stream| stream["verdict"] == "not_reading");
    assert!(stream["why"].as_str().unwrap().contains("does not read"), "{stream:#}");
    assert!(
        number(&stream["blocked_ms"]) < 60_000 && number(&stream["ladder"]["behind"]["events"]) > 0
    );
    let healthy = server.stream_of(&reader.client);
    assert!(["flowing", "idle"].contains(&healthy["verdict"].as_str().unwrap()), "{healthy:#}");
    assert!(number(&healthy["kernel_memory"]["send_buffer_bytes"]) >= 20_000);
    server.wait_for(r#"streams_by_verdict{verdict="not_reading"}"#, 1);
    let worst = server.json("/connections?sort=verdict&limit=1");
    assert_eq!(worst["count"], 2);
    assert_eq!(worst["connections"][0]["verdict"], "not_reading");
    let by_id = server.json(&format!("/connections/{}", stream["id"].as_str().unwrap()));
    assert_eq!(by_id["peer"], stream["peer"]);
    assert!(server.metric("kernel_memory_bytes") > 10_000);
    assert!(server.metric(r#"lag_events{stream="worst"}"#) > 100);
}

/// What a flush policy holds back is in our log, and nobody else's fault.
#[test]
fn what_a_policy_holds_back_is_not_flushed() {
    let server = Server::start(&[("flush_policy", "size:1000000")]);
    let subscriber = server.subscribe("/a");
    server.publish("a", "held back");
    let stream =
        server.wait_for_stream(&subscriber.client, |stream| stream["verdict"] == "not_flushed");
    assert_eq!(stream["ladder"]["behind"]["events"], 1);
    assert!(stream["ladder"]["behind"]["oldest_ms"].is_u64());
}

#[test]
fn questions_and_their_answers() {
    let server = Server::start(&[]);
    let _streams =
        [server.subscribe("/a"), server.subscribe("?topic=a&topic=b"), server.subscribe("/c")];
    let count = |query: &str| server.json(&format!("/connections{query}"))["count"].clone();
    assert_eq!(
        (count(""), count("?topic=a"), count("?topic=c&limit=0")),
        (3.into(), 2.into(), 1.into())
    );
    let oldest = server.json("/connections?sort=age&limit=1");
    assert_eq!(oldest["connections"].as_array().unwrap().len(), 1);
    assert_eq!(oldest["connections"][0]["topics"], serde_json::json!(["a"]));
    for (path, status, expected) in [
        ("/connections?sort=best", 400, "lag, age, bytes or verdict"),
        ("/connections?limit=201", 400, "up to 200"),
        ("/connections?topic=nobody", 400, "no topic"),
        ("/connections?other=1", 400, "there are sort, limit and topic"),
        ("/connections/0-0", 404, "no such stream"),
        ("/connections/x", 404, "no such stream"),
    ] {
        let answer = server.admin_get(path);
        assert!(answer.status == status && answer.text().contains(expected), "{path}: {answer:?}");
    }
    let answer = Client::connect(server.admin).request("POST", "/connections", &[], b"");
    assert_eq!(answer.status, 405);
}

/// The feed of the live page: five times a second, and what it sends changes none of the figures.
#[test]
fn the_live_feed() {
    let server = Server::start(&[]);
    let _subscriber = server.subscribe("/a");
    let mut client = Client::connect(server.admin);
    client.send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut live = Subscriber::asked(client);
    let mut next = || -> Value {
        let event = live.next().unwrap();
        assert_eq!(event.name, "live");
        serde_json::from_str(&event.data).unwrap()
    };
    let first = next();
    assert_eq!(
        (&first["streams"], &first["topics"], &first["published"]),
        (&1.into(), &1.into(), &Value::Null)
    );
    let bytes = first["counters"]["bytes"].clone();
    assert_eq!(server.patch_knobs("", r#"{"write_path":"copy"}"#).status, 200);
    assert_eq!(server.patch_knobs("?topic=a", r#"{"overrun":"close"}"#).status, 200);
    let flipped = (0..50).map(|_| next()).find(|live| live["flips"].as_array().unwrap().len() == 2);
    let flips = flipped.unwrap()["flips"].clone();
    let flip = |nth: usize| {
        ["knob", "from", "to"].map(|part| flips[nth][part].as_str().unwrap().to_owned())
    };
    assert_eq!(flip(0), ["write_path", "span", "copy"]);
    assert_eq!(flip(1), ["topic a", "", "overrun=close"]);
    let later = next();
    assert_eq!(later["counters"]["bytes"], bytes, "looking changes nothing");
    assert_eq!(later["counters"]["published"], 0);
    assert_eq!(later["knobs"]["write_path"], "copy");
    let elapsed_ms = number(&later["at_ms"]) - number(&first["at_ms"]);
    assert!(elapsed_ms >= 100, "{elapsed_ms}");
    server.publish("a", "1");
    let seen =
        (0..50).map(|_| next()).find(|live| live["latency_us"]["publish_to_kernel"].is_object());
    assert_eq!(seen.unwrap()["counters"]["deliveries"], 1);
    // It is nobody else's to read.
    assert_eq!(server.connect().request("GET", "/events/%01live", &[], b"").status, 400);
    assert_eq!(server.json("/topics")["count"], 1);
    assert_eq!(server.json("/connections")["count"], 1);
}

/// Every flush is stamped, on every write path, and the streams are whole.
#[test]
fn stamps_come_back() {
    let server = Server::start(&[("timestamp_one_in", "1")]);
    let mut subscribers = [server.subscribe("/a"), server.subscribe("/a")];
    let mut published = 0;
    for path in ["split", "write", "writev", "copy", "more", "cork", "span", "auto"] {
        assert_eq!(server.patch_knobs("", &format!(r#"{{"write_path":"{path}"}}"#)).status, 200);
        for _ in 0..5 {
            let data = published.to_string();
            server.publish("a", &data);
            published += 1;
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.data(), data, "{path}");
            }
        }
    }
    // What was read has been acknowledged, but for an acknowledgement that is delayed; a later one
    // brings it.
    server.wait_for("publish_to_ack_seconds_count", published);
    assert!(server.metric("write_to_sent_seconds_count") >= published);
    assert!(server.metric("write_to_scheduled_seconds_count") >= published);
    assert!(server.metric(r#"closes_total{reason="socket_error"}"#) == 0);
    assert_eq!(server.metric("streams"), 2);
}

/// A reader that naps, Nagle's algorithm, and three writes for each event: the tail of an event waits
/// for the acknowledgement of its beginning. It is found, and named, with the remedy.
#[test]
fn a_stall_by_nagle_is_found() {
    let server = Server::start(&[
        ("tcp_nodelay", "false"),
        ("write_path", "split"),
        ("timestamp_one_in", "1"),
        ("observe_ms", "20"),
    ]);
    let mut napping = server.subscribe("/a");
    let deadline = Instant::now() + PATIENCE;
    while server.metric("nagle_stalls_total") == 0 {
        assert!(Instant::now() < deadline, "no stall is found");
        // Acknowledgements are delayed while nobody reads.
        for _ in 0..4 {
            server.publish("a", "hello");
            std::thread::sleep(Duration::from_millis(5)); // the subject is time
        }
        for _ in 0..4 {
            napping.next().unwrap();
        }
    }
    let stream = server.stream_of(&napping.client);
    let hint = stream["hint"].as_str().unwrap();
    assert!(hint.contains("tcp_nodelay = true") && hint.contains("span"), "{hint}");
}

/// A peer that vanishes without a word, while its heartbeats fit into the kernel's buffer: no write
/// fails, and still it is found, by what is not acknowledged. In a network of its own, whose packets to
/// one address are dropped from some moment on.
#[test]
fn a_peer_that_has_vanished_is_reaped() {
    if installed(&["iptables"]).is_none() {
        return;
    }
    let vanished = std::thread::spawn(|| {
        let own = network::unshare_network().and_then(|()| network::set_loopback(1500));
        if let Err(error) = own {
            return skip(&format!("needs a network of its own: {error}"));
        }
        // It is not reaped before it was looked at.
        let server = Server::start(&[
            ("heartbeat_ms", "100"),
            ("stall_timeout_ms", "0"),
            ("observe_ms", "50"),
        ]);
        let mut staying = server.subscribe("/a");
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 9], 0)).into()).unwrap();
        socket.connect(&server.public.into()).unwrap();
        let mut client = Client { socket: socket.into(), received: Vec::new() };
        client.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send("GET /events/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.take_through(b"\r\n\r\n");
        let drop = ["-A", "INPUT", "-d", "127.0.0.9", "-j", "DROP"];
        let dropped = Command::new("iptables").args(drop).stderr(Stdio::null()).status().unwrap();
        if !dropped.success() {
            return skip("not permitted: iptables");
        }
        let gone = server.wait_for_stream(&client, |stream| stream["verdict"] == "peer_gone");
        assert!(gone["blocked_ms"].is_null(), "no write has failed: {gone:#}");
        assert_eq!(server.patch_knobs("", r#"{"stall_timeout_ms":1500}"#).status, 200);
        server.wait_for(r#"closes_total{reason="unacknowledged"}"#, 1);
        assert_eq!(server.metric("streams"), 1, "the other one stays");
        server.publish("a", "still here");
        assert_eq!(staying.data(), "still here");
    });
    vanished.join().unwrap();
}

/// A peer that lives but does not read is not taken for one that has vanished, as long as its kernel
/// takes what is sent.
#[test]
fn a_reader_that_sleeps_stays() {
    let server =
        Server::start(&[("heartbeat_ms", "20"), ("stall_timeout_ms", "300"), ("observe_ms", "20")]);
    let sleeping = server.subscribe("/a");
    server.wait_for("heartbeats_total", 30);
    // An acknowledgement may be delayed, but not for as long as that.
    assert!(number(&server.stream_of(&sleeping.client)["unacknowledged_ms"]) < 300);
    assert_eq!(server.metric(r#"closes_total{reason="unacknowledged"}"#), 0);
}
