//! Case 40. More than fits: publishers are told, subscribers are not refused, and what was
//! acknowledged is there.

use crate::scene::Scene;
use crate::support::{Client, Subscriber, installed};
use crate::table::ends_in_order;
use std::io::Write;
use std::process::Command;

const MIB: usize = 1 << 20;

/// Everything that a topic retains, up to the newest.
#[track_caller]
fn retained(scene: &Scene, topic: &str, newest: &str) -> Vec<String> {
    let mut stream = scene.subscribe(&format!("/{topic}?last_event_id=earliest"), &[]);
    let mut data = Vec::new();
    loop {
        let event = stream.next().expect("an event");
        data.push(event.data);
        if event.id.as_deref() == Some(newest) {
            return data;
        }
    }
}

/// A flood of events of a mebibyte, to a few topics and then to more than there is memory for.
#[test]
fn a_flood_of_large_events() {
    const TOPICS: usize = 40;
    const EVENTS: usize = 3 * TOPICS;
    let scene = Scene::start(&[
        ("event_bytes_max", "1048576"),
        ("log_bytes_max", "8388608"),
        ("logs_bytes_max", "33554432"),
    ]);
    let before = scene.metric("resident_bytes");
    let mut client = scene.connect();
    let data = |nth: usize| format!("{nth:08}").repeat(MIB / 8);
    let mut newest: Vec<Option<(usize, String)>> = vec![None; TOPICS];
    let mut refused = 0;
    for nth in 0..EVENTS {
        let topic = nth % TOPICS;
        let path = format!("/events/{topic}");
        let answer = client.request("POST", &path, &[], data(nth).as_bytes());
        match answer.status {
            200 => newest[topic] = Some((nth, answer.json("id"))),
            status => {
                assert_eq!((status, answer.field("Retry-After")), (503, Some("1")));
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && newest.iter().flatten().count() >= 3, "{refused} were refused");
    assert!(scene.metric("log_bytes") <= 32 * MIB as u64);
    let acknowledged = EVENTS as u64 - refused;
    let retains = scene.metric("log_events");
    assert!(scene.metric("events_evicted_total") + retains >= acknowledged);
    let grown = scene.metric("resident_bytes").saturating_sub(before);
    assert!(grown < 64 * MIB as u64, "memory has grown by {grown} bytes");
    for (topic, newest) in newest.iter().enumerate() {
        let Some((nth, id)) = newest else { continue };
        let found = retained(&scene, &topic.to_string(), id);
        let expected: Vec<String> =
            (0..found.len()).rev().map(|back| data(nth - TOPICS * back)).collect();
        assert!(found == expected, "what was acknowledged last is not what is retained");
    }
    drop(client);
    scene.end();
}

/// Under a ceiling that the kernel enforces, by refusing memory, which would end the process: a flood
/// of events, and beside it heads and bodies that are begun and not ended.
#[test]
fn a_ceiling_that_the_kernel_enforces() {
    if installed(&["prlimit"]).is_none() {
        return;
    }
    let scene = Scene::start(&[("logs_bytes_max", "16777216")]);
    let pid = scene.pid().to_string();
    let ceiling = format!("--data={}", 96 * MIB);
    assert!(Command::new("prlimit").args(["--pid", &pid, &ceiling]).status().unwrap().success());
    let held: Vec<Client> = (0..400)
        .map(|nth| {
            let mut client = scene.connect();
            let head = "POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 65536\r\n";
            let end = if nth % 2 == 0 { "X: " } else { "\r\n" };
            client.send(format!("{head}{end}{}", "x".repeat(15_000)));
            client
        })
        .collect();
    let mut client = scene.connect();
    let data = "x".repeat(60_000);
    let (mut taken, mut refused) = (0, 0);
    for nth in 0..3_000 {
        let path = format!("/events/{}", nth % 600);
        match client.request("POST", &path, &[], data.as_bytes()).status {
            200 => taken += 1,
            503 => refused += 1,
            status => panic!("{status}"),
        }
        if nth % 500 == 0 {
            assert_eq!(scene.subscribe("/a", &[]).field("Pushv-Resumed-From"), Some("latest"));
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} were taken, {refused} refused");
    drop((client, held));
    scene.end();
}

/// Twenty thousand topics, and one more.
#[test]
fn more_topics_than_are_permitted() {
    const TOPICS: usize = 20_000;
    let scene = Scene::start(&[("topics_max", "20001"), ("retry_ms", "1000")]);
    let before = scene.metric("resident_bytes");
    let mut publisher = scene.connect();
    let mut socket = publisher.socket.try_clone().expect("cloned");
    let sender = std::thread::spawn(move || {
        for nth in 0..TOPICS {
            let head = format!("POST /events/topic-{nth} HTTP/1.1\r\nHost: h\r\n");
            write!(socket, "{head}Content-Length: 1\r\n\r\nx").expect("sent");
        }
    });
    (0..TOPICS).for_each(|_| assert_eq!(publisher.answer().status, 200));
    sender.join().expect("sent");
    let grown = scene.metric("resident_bytes").saturating_sub(before);
    assert!(grown < 4096 * TOPICS as u64, "memory has grown by {grown} bytes");

    let answer = publisher.request("POST", "/events/one-more", &[], b"x");
    assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
    turned_away(scene.subscribe("/one-more", &[]));
    assert_eq!(publisher.request("POST", "/events/topic-7", &[], b"y").status, 200);
    let mut stream = scene.subscribe("/topic-7?last_event_id=earliest", &[]);
    assert_eq!((stream.data(), stream.data()), ("x".into(), "y".into()));
    drop((publisher, stream));
    scene.end();
}

/// Any status but 200 would end a browser's `EventSource` for ever, so it is told when to come
/// again, and its stream ends in order.
#[track_caller]
fn turned_away(mut stream: Subscriber) {
    assert_eq!(stream.field("Pushv-Resumed-From"), None);
    assert_eq!(stream.rest(), []);
    assert!(stream.ended, "the last chunk came");
    assert!(matches!(stream.retries[..], [1000..2000]), "{:?}", stream.retries);
    ends_in_order(&mut stream.client);
}

/// A history that is full: the oldest go, are counted, and who asks for them is told.
#[test]
fn a_full_history() {
    let scene = Scene::start(&[("log_events_max", "100")]);
    let mut client: Client = scene.connect();
    let ids: Vec<String> = (0..1000)
        .map(|nth: u32| {
            let answer = client.request("POST", "/events/a", &[], nth.to_string().as_bytes());
            assert_eq!(answer.status, 200);
            answer.json("id")
        })
        .collect();
    let expected: Vec<String> = (900..1000).map(|nth| nth.to_string()).collect();
    assert_eq!(retained(&scene, "a", &ids[999]), expected);
    assert!(scene.metric("events_evicted_total") >= 900);
    let mut late = scene.subscribe("/a", &[("Last-Event-ID", &ids[0])]);
    assert_eq!(late.field("Pushv-Resumed-From"), Some("gap"));
    assert_eq!(late.next().expect("a notice").name, "gap");
    assert_eq!(late.data(), "900");
    let mut timely = scene.subscribe("/a", &[("Last-Event-ID", &ids[899])]);
    assert_eq!(timely.field("Pushv-Resumed-From"), Some(&*ids[899]), "all after it is there");
    assert_eq!(timely.data(), "900");
    drop((late, timely, client));
    scene.end();
}
