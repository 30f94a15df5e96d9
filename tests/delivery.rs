//! How events leave: write paths, flush policies, slow readers, and what they lose.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use support::{Client, Server, Subscriber};

const WRITE_PATHS: [&str; 8] = ["split", "write", "writev", "copy", "more", "cork", "span", "auto"];

/// A knob set that fills a connection's buffers after a few kilobytes.
const NARROW: (&str, &str) = ("so_sndbuf_bytes", "2048");

fn narrow_subscriber(server: &Server, path: &str) -> Subscriber {
    Subscriber::new(Client::connect_narrow(server.public), path, &[])
}

/// Publishes `count` numbered events of differing lengths in one body.
fn publish_many(server: &Server, topic: &str, count: usize) {
    let mut body = String::new();
    for nth in 0..count {
        body += &format!("data: {}\n\n", numbered(nth));
    }
    let media = [("Content-Type", "text/event-stream")];
    let answer =
        server.connect().request("POST", &format!("/events/{topic}"), &media, body.as_bytes());
    assert_eq!(answer.json("count"), count.to_string());
}

fn numbered(nth: usize) -> String {
    format!("{nth} {}", "x".repeat(nth * 7 % 61))
}

/// For every write path: a reader that takes nothing until everything is published, and then a
/// few bytes at a time, gets every byte, while a prompt reader is done long before.
#[test]
fn streams_are_exact_under_short_writes() {
    const EVENTS: usize = 3000; // far above the 1024 buffers of one writev
    for path in WRITE_PATHS {
        let server = Server::start(&[NARROW, ("write_path", path)]);
        let mut slow = narrow_subscriber(&server, "/a");
        let mut prompt = server.subscribe("/a");
        publish_many(&server, "a", EVENTS);
        for nth in 0..EVENTS {
            assert_eq!(prompt.data(), numbered(nth), "{path}, prompt");
        }
        assert!(server.metric("connections_blocked") >= 1, "{path}: the slow one must be blocked");
        for nth in 0..EVENTS {
            assert_eq!(slow.data(), numbered(nth), "{path}, slow");
        }
        let short = server.metric("write_incomplete_total{outcome=\"short\"}");
        let blocked = server.metric("write_incomplete_total{outcome=\"would_block\"}");
        assert!(short + blocked > 0, "{path}: nothing was written short, so nothing was tested");
    }
}

/// A subscriber that never reads costs its cursor, the rest of one frame, and what the kernel
/// holds; and it learns exactly what it has lost when it reads again.
#[test]
fn a_reader_that_never_reads() {
    let server = Server::start(&[NARROW, ("log_events_max", "100"), ("stall_timeout_ms", "0")]);
    let mut asleep = narrow_subscriber(&server, "/a");
    let mut awake = server.subscribe("/a");
    for _ in 0..50 {
        publish_many(&server, "a", 100);
        for nth in 0..100 {
            assert_eq!(awake.data(), numbered(nth));
        }
    }
    assert!(server.metric("private_bytes") < 200, "{}", server.metric("private_bytes"));

    let (mut seen, mut lost) = (0, 0);
    while seen + lost < 5000 {
        let event = asleep.next().expect("the stream goes on");
        if event.name == "gap" {
            let gap: serde_json::Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!((&gap["reason"], &gap["topic"]), (&"overrun".into(), &"a".into()));
            let number = |id: &str| {
                gap[id].as_str().unwrap().rsplit('-').next().unwrap().parse::<u64>().unwrap()
            };
            assert_eq!(number("to") - number("from") - 1, gap["lost"].as_u64().unwrap());
            assert_eq!(number("from"), seen + lost);
            lost += gap["lost"].as_u64().unwrap();
        } else {
            assert_eq!(event.data, numbered((seen + lost) as usize % 100));
            seen += 1;
        }
    }
    assert!(lost > 4000 && server.metric("events_lost_total") == lost, "{lost} lost");
    publish_many(&server, "a", 1);
    assert_eq!(asleep.data(), numbered(0), "and it goes on as if nothing had been");
}

#[test]
fn an_overrun_can_close_or_conflate() {
    let overrun = |policy: &str| {
        let server = Server::start(&[NARROW, ("log_events_max", "100"), ("overrun", policy)]);
        let mut asleep = narrow_subscriber(&server, "/a");
        publish_many(&server, "a", 2000);
        let events = asleep.rest_of_published(&server);
        (events, asleep, server)
    };
    let (events, _, server) = overrun("close");
    assert!(events.iter().all(|event| event.name.is_empty()), "no notice: it learns by resuming");
    assert!(events.len() < 1000);
    server.wait_for("closes_total{reason=\"overrun\"}", 1);
    let last_id = events.last().unwrap().id.clone().unwrap();
    let again = server.subscribe_with("/a", &[("Last-Event-ID", &last_id)]);
    assert_eq!(again.field("Pushv-Resumed-From"), Some("gap"));

    let (events, _, _) = overrun("latest");
    let gap = events.iter().position(|event| event.name == "gap").expect("a notice");
    assert_eq!(events[gap + 1].data, numbered(1999), "the newest event only");
    assert_eq!(events.len(), gap + 2);
}

trait Rest {
    fn rest_of_published(&mut self, server: &Server) -> Vec<support::Event>;
}

impl Rest for Subscriber {
    /// Reads until the stream ends or an event that is published last is seen.
    fn rest_of_published(&mut self, server: &Server) -> Vec<support::Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next() {
            if event.data == "last" {
                break;
            }
            let newest = event.data == numbered(1999);
            events.push(event);
            if newest {
                server.publish("a", "last");
            }
        }
        events
    }
}

/// The calls of every write path, counted: two subscribers, four events in one flush.
#[test]
fn every_write_path_makes_the_calls_it_promises() {
    let expected = [
        ("split", "send", 24),
        ("write", "send", 8),
        ("writev", "writev", 2),
        ("copy", "send", 2),
        ("more", "send_more", 6),
        ("cork", "cork", 4),
        ("span", "send", 2),
        ("auto", "send", 2),
    ];
    let server = Server::start(&[]);
    let mut readers = [server.subscribe("/a"), server.subscribe("/a")];
    for (path, kind, calls) in expected {
        assert_eq!(server.patch_knobs("", &format!("{{\"write_path\":\"{path}\"}}")).status, 200);
        let metric = format!("write_calls_total{{call=\"{kind}\"}}");
        let before = server.metric(&metric);
        publish_many(&server, "a", 4);
        for reader in &mut readers {
            (0..4).for_each(|nth| assert_eq!(reader.data(), numbered(nth)));
        }
        assert_eq!(server.metric(&metric) - before, calls, "{path}");
    }
}

/// The path that chooses does so by its rule, which is changed while it runs.
#[test]
fn a_rule_decides_between_copying_and_gathering() {
    let server = Server::start(&[("write_path", "auto"), ("auto_rule", "4:1000")]);
    let mut reader = server.subscribe("/a");
    let gathered = "write_calls_total{call=\"writev\"}";
    for (rule, calls) in [("4:1000", 0), ("5:1000", 1), ("never", 1), ("2:8", 1), ("2:1000", 0)] {
        let answer = server.patch_knobs("?topic=a", &format!("{{\"auto_rule\":\"{rule}\"}}"));
        assert_eq!(answer.status, 200);
        let before = server.metric(gathered);
        publish_many(&server, "a", 4);
        (0..4).for_each(|nth| assert_eq!(reader.data(), numbered(nth)));
        assert_eq!(server.metric(gathered) - before, calls, "{rule}");
    }
}

/// In steady state one event and one subscriber are one call, and no `epoll_ctl`.
#[test]
fn one_call_per_flush_and_subscriber() {
    let server = Server::start(&[]);
    let mut readers: Vec<Subscriber> = (0..20).map(|_| server.subscribe("/a")).collect();
    let mut publisher = server.connect();
    let mut admin = Client::connect(server.admin);
    let mut counts = || {
        let text = admin.request("GET", "/metrics", &[], b"").text();
        [
            "write_calls_total{call=\"send\"}",
            "write_calls_total{call=\"writev\"}",
            "write_frames_total",
            "answer_calls_total",
            "registrations_total",
            "accepted_total",
        ]
        .map(|name| {
            let line =
                text.lines().find(|line| line.starts_with(&format!("pushv_{name} "))).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        })
    };
    let before = counts();
    for nth in 0..100 {
        publisher.request("POST", "/events/a", &[], nth.to_string().as_bytes());
        readers.iter_mut().for_each(|reader| assert_eq!(reader.data(), nth.to_string()));
    }
    let after = counts();
    let delta: Vec<u64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    assert_eq!(delta, [2000, 0, 2000, 100, 0, 0]);
    let [.., registrations, accepted] = after;
    assert_eq!(
        registrations,
        accepted + 1,
        "one for each connection, the admin listener's as well"
    );
}

#[test]
fn a_topic_can_differ() {
    let server = Server::start(&[]);
    let answer = server.patch_knobs(
        "?topic=a",
        r#"{"write_path":"writev","overrun":"latest","tcp_nodelay":false}"#,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("\"writev\""));
    let (mut in_a, mut in_b) = (server.subscribe("/a"), server.subscribe("/b"));
    let before = server.metric("write_calls_total{call=\"writev\"}");
    server.publish("a", "x");
    server.publish("b", "y");
    assert_eq!((in_a.data(), in_b.data()), ("x".into(), "y".into()));
    assert_eq!(server.metric("write_calls_total{call=\"writev\"}") - before, 1);

    assert_eq!(server.patch_knobs("?topic=a", r#"{"heartbeat_ms":100}"#).status, 400);
    let back =
        server.patch_knobs("?topic=a", r#"{"write_path":null,"overrun":null,"tcp_nodelay":null}"#);
    assert_eq!(back.json("overridden"), "[]");
    server.publish("a", "z");
    assert_eq!(in_a.data(), "z");
    assert_eq!(server.metric("write_calls_total{call=\"writev\"}") - before, 1);
}

#[test]
fn a_bad_knob_changes_nothing() {
    let server = Server::start(&[]);
    let before = server.admin_get("/knobs").text();
    for (json, expected) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[1]", "object"),
        (r#"{"write_path":"copy","flush_policy":"sometimes"}"#, "no such flush policy"),
        (r#"{"write_path":"copy","no_such":1}"#, "no knob"),
        (r#"{"listen":"127.0.0.1:1"}"#, "at start"),
        (r#"{"tcp_congestion":"no-such"}"#, "TCP_CONGESTION"),
        (r#"{"log_bytes_max":4096}"#, "cannot hold"),
    ] {
        let answer = server.patch_knobs("", json);
        assert_eq!(answer.status, 400, "{json}");
        assert!(answer.json("error").contains(expected), "{json}: {}", answer.text());
    }
    assert_eq!(server.admin_get("/knobs").text(), before);
}

#[test]
fn a_size_holds_back_until_it_is_reached() {
    let server = Server::start(&[("flush_policy", "size:200")]);
    let mut reader = server.subscribe("/a");
    server.publish("a", "held back");
    let flushes = server.metric("write_frames_total");
    server.publish("a", &"x".repeat(100));
    assert_eq!(server.metric("write_frames_total"), flushes, "below the size");
    server.publish("a", "enough");
    assert_eq!(reader.data(), "held back");
    assert_eq!((reader.data().len(), reader.data()), (100, "enough".into()));
    assert_eq!(server.metric("frames_per_call_sum"), 3, "all with one call");

    server.publish("a", "held back again");
    server.patch_knobs("", r#"{"flush_policy":"turn"}"#);
    assert_eq!(reader.data(), "held back again", "another policy lets it go");
}

#[test]
fn a_linger_time_joins_events() {
    for policy in ["linger:50", "size:100000,linger:50", "adaptive"] {
        let server = Server::start(&[("flush_policy", policy)]);
        let mut reader = server.subscribe("/a");
        for nth in 0..5 {
            server.publish("a", &nth.to_string());
        }
        for nth in 0..5 {
            assert_eq!(reader.data(), nth.to_string(), "{policy}");
        }
    }
}

#[test]
fn flushing_at_once_does_not_join_events() {
    let server = Server::start(&[("flush_policy", "event")]);
    let mut reader = server.subscribe("/a");
    publish_many(&server, "a", 50);
    (0..50).for_each(|nth| assert_eq!(reader.data(), numbered(nth)));
    assert_eq!(server.metric("frames_per_call_count"), 50, "each with a call of its own");
    assert_eq!(server.metric("write_frames_total"), 50);
}

/// A write path and a policy can be exchanged at any moment, in mid-stream, with a backlog.
#[test]
fn knobs_are_turned_while_streams_run() {
    let server = Server::start(&[NARROW]);
    let mut slow = narrow_subscriber(&server, "/a");
    let mut prompt = server.subscribe("/a");
    for (nth, path) in WRITE_PATHS.iter().cycle().take(21).enumerate() {
        let policy = ["turn", "event", "linger:1", "size:500,linger:2", "adaptive"][nth % 5];
        let lowat = nth % 3 * 4096;
        let json = format!(
            "{{\"write_path\":\"{path}\",\"flush_policy\":\"{policy}\",\"tcp_nodelay\":{},\"tcp_notsent_lowat_bytes\":{lowat}}}",
            nth % 2 == 0
        );
        assert_eq!(server.patch_knobs("", &json).status, 200);
        publish_many(&server, "a", 100);
        (0..100).for_each(|nth| assert_eq!(prompt.data(), numbered(nth), "{path} {policy}"));
    }
    for nth in 0..2100 {
        assert_eq!(slow.data(), numbered(nth % 100));
    }
}

#[test]
fn twenty_thousand_topics_cost_little() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    // All requests first, in a thread of their own; the answers are read here.
    let mut socket = publisher.socket.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        use std::io::Write;
        for nth in 0..20_000 {
            write!(
                socket,
                "POST /events/topic-{nth} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
            )
            .unwrap();
        }
    });
    (0..20_000).for_each(|_| assert_eq!(publisher.answer().status, 200));
    sender.join().unwrap();
    assert_eq!((server.metric("topics"), server.metric("log_events")), (20_000, 20_000));
    // A ring of 256 bytes and an index of four events each.
    assert!(server.metric("log_bytes") <= 20_000 * 512, "{}", server.metric("log_bytes"));
    let listed = server.admin_get("/topics?limit=3");
    assert_eq!(listed.json("count"), "20000");
    assert_eq!(listed.text().matches("\"name\"").count(), 3);
}

#[test]
fn when_memory_is_used_up_publishers_are_told() {
    // A topic's first event takes a ring of 1024 bytes and an index of at most 256.
    let server = Server::start(&[
        ("event_bytes_max", "1000"),
        ("log_bytes_max", "8192"),
        ("logs_bytes_max", "16384"),
    ]);
    let mut answers = Vec::new();
    for nth in 0..40 {
        let answer = server.connect().request("POST", &format!("/events/{nth}"), &[], &[b'x'; 900]);
        answers.push(answer.status);
        assert!(answer.status == 200 || answer.field("Retry-After").is_some());
    }
    let accepted = answers.iter().filter(|&&status| status == 200).count();
    assert!((12..=16).contains(&accepted), "{answers:?}");
    assert_eq!(answers.last(), Some(&503));
    assert!(server.metric("log_bytes") <= 16_384);
    assert_eq!(
        server.connect().request("POST", "/events/3", &[], b"x").status,
        200,
        "its ring is there"
    );
}
