//! Consumers that do not read, in the shape of Redis's test of its output buffer limits: closed
//! when the limit is passed, neither before nor long after, and only they.
//!
//! The hard limit is a topic's log: what a reader has still to get cannot be more than that. What
//! happens there is the knob `overrun`. The soft limit is the time without progress,
//! `stall_timeout_ms`. What they cost the process and the kernel is measured by
//! `scripts/faults.sh --only slow-readers`.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::time::{Duration, Instant};
use support::{Client, Server, Subscriber};

/// Narrow buffers, and no other reason to close than the one that is tested.
const NARROW: [(&str, &str); 3] =
    [("so_sndbuf_bytes", "2048"), ("stall_timeout_ms", "0"), ("tcp_user_timeout_ms", "0")];
const LIMIT_BYTES: u64 = 100_000;

fn start(settings: &[(&str, &str)]) -> Server {
    Server::start(&[&NARROW, settings].concat())
}

fn narrow_subscriber(server: &Server) -> Subscriber {
    Subscriber::new(Client::connect_narrow(server.public), "/a", &[])
}

/// Publishes numbered events of about a kilobyte each until the topic has been given `bytes`, and
/// has `awake` read them.
fn publish_up_to(server: &Server, next: &mut usize, bytes: u64, awake: &mut Subscriber) {
    let mut publisher = server.connect();
    while server.metric("events_published_bytes_total") + 1100 < bytes {
        let answer = publisher.request("POST", "/events/a", &[], numbered(*next).as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(awake.data(), numbered(*next));
        *next += 1;
    }
}

fn numbered(nth: usize) -> String {
    format!("{nth} {}", "x".repeat(1000))
}

/// Waits until the hand that looks for what is due has come by everybody.
fn wait_for_a_sweep(server: &Server) {
    server.wait_for("turns_total", server.metric("turns_total") + 60);
}

#[test]
fn the_hard_limit_closes_in_time_and_not_before() {
    let server = start(&[
        ("log_bytes_max", &LIMIT_BYTES.to_string()),
        ("event_bytes_max", "2000"),
        ("overrun", "close"),
    ]);
    let mut asleep = narrow_subscriber(&server);
    let mut awake = server.subscribe("/a");
    let mut published = 0;
    publish_up_to(&server, &mut published, LIMIT_BYTES, &mut awake);
    wait_for_a_sweep(&server);
    assert_eq!(server.metric("connections_blocked"), 1, "it is blocked, and not yet overrun");
    assert_eq!(server.metric("closes_total{reason=\"overrun\"}"), 0);

    publish_up_to(&server, &mut published, 2 * LIMIT_BYTES, &mut awake);
    server.wait_for("closes_total{reason=\"overrun\"}", 1);
    assert_eq!(server.metric("connections_blocked"), 0);

    // It has got the first events, in order, and resumes behind the last of them.
    let mut last_id = String::new();
    let mut seen = 0;
    while let Some(event) = asleep.next() {
        assert_eq!(event.data, numbered(seen));
        (last_id, seen) = (event.id.unwrap(), seen + 1);
    }
    assert!(!asleep.ended, "a stream that is cut must not look complete");
    let mut again = server.subscribe_with("/a", &[("Last-Event-ID", &last_id)]);
    let gap = again.next().unwrap();
    assert_eq!(gap.name, "gap");
    let first = again.data();
    let first: usize = first.split(' ').next().unwrap().parse().unwrap();
    assert!(first > seen, "events {seen} to {first} are lost, and it was told");
    for nth in first + 1..published {
        assert_eq!(again.data(), numbered(nth));
    }
}

#[test]
fn the_other_policies_let_it_stay() {
    for policy in ["skip", "latest"] {
        let limit = LIMIT_BYTES.to_string();
        let server =
            start(&[("log_bytes_max", &limit), ("event_bytes_max", "2000"), ("overrun", policy)]);
        let _asleep = narrow_subscriber(&server);
        publish_up_to(&server, &mut 0, 5 * LIMIT_BYTES, &mut server.subscribe("/a"));
        wait_for_a_sweep(&server);
        assert_eq!(server.metric("connections_blocked"), 1);
        let held_bytes = server.metric("private_bytes");
        assert!(held_bytes < 1200, "{held_bytes} bytes are held for it: more than one cut frame");
    }
}

#[test]
fn the_soft_limit_closes_in_time_and_not_before() {
    let (short, long) = (start(&[]), start(&[]));
    let _asleep = [narrow_subscriber(&short), narrow_subscriber(&long)];
    let begun = Instant::now();
    for server in [&short, &long] {
        publish_up_to(server, &mut 0, 50_000, &mut server.subscribe("/a"));
        server.wait_for("connections_blocked", 1);
    }
    // Only now, so that it cannot be closed before it was seen to be blocked.
    for (server, ms) in [(&short, 1000), (&long, 3_600_000)] {
        let answer = server.patch_knobs("", &format!("{{\"stall_timeout_ms\":{ms}}}"));
        assert_eq!(answer.status, 200);
    }
    short.wait_for("closes_total{reason=\"stalled\"}", 1);
    assert!(begun.elapsed() >= Duration::from_secs(1), "before the limit: {:?}", begun.elapsed());
    assert_eq!(long.metric("connections_blocked"), 1, "the other one has time left");
    assert_eq!(long.metric("closes_total{reason=\"stalled\"}"), 0);
}

/// A thousand that never read cost the others no event.
#[test]
fn good_readers_beside_a_thousand_that_do_not_read() {
    const ASLEEP: usize = 1000;
    pushv::sys::set_descriptor_limit(u64::MAX).unwrap();
    let server = start(&[]);
    let _asleep: Vec<Subscriber> = (0..ASLEEP).map(|_| narrow_subscriber(&server)).collect();
    let mut awake: Vec<Subscriber> = (0..50).map(|_| server.subscribe("/a")).collect();
    let mut publisher = server.connect();
    for nth in 0..100 {
        let answer = publisher.request("POST", "/events/a", &[], numbered(nth).as_bytes());
        assert_eq!(answer.json("subscribers"), (ASLEEP + 50).to_string());
        for reader in &mut awake {
            assert_eq!(reader.data(), numbered(nth));
        }
    }
    assert_eq!(server.metric("connections_blocked"), ASLEEP as u64);
    let held_bytes = server.metric("private_bytes") / ASLEEP as u64;
    assert!(held_bytes < 1200, "{held_bytes} bytes are held for each: more than one cut frame");
}
