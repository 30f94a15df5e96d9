//! The admin listener shows what is exhausted, so it works while that is exhausted: the memory of the
//! logs, the number of topics, the number of connections. A viewer that comes and goes changes nothing.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use support::{Client, Server, Subscriber};

/// Opens `/live`, takes two of its events, and closes it again.
#[track_caller]
fn look(server: &Server) {
    let mut client = Client::connect(server.admin);
    client.send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut viewer = Subscriber::asked(client);
    for _ in 0..2 {
        let event = viewer.next().expect("an event");
        assert_eq!(event.name, "live");
    }
}

/// What every look has to leave as it was.
#[track_caller]
fn works(server: &Server) {
    assert_eq!(server.connect().request("GET", "/healthz", &[], b"").status, 200);
    assert_eq!(server.admin_get("/topics").status, 200);
    assert_eq!(server.admin_get("/connections").status, 200);
}

/// Publishes to new topics until one is refused; gives the status and how many were taken.
fn fill(server: &Server, data: &[u8]) -> (u16, usize) {
    let mut publisher = server.connect();
    for nth in 0.. {
        let status = publisher.request("POST", &format!("/events/t{nth}"), &[], data).status;
        if status != 200 {
            return (status, nth);
        }
    }
    unreachable!("a bound is reached")
}

/// The first event of `/live` found no memory, so its topic was forgotten with its only viewer; its
/// key was kept, and the next turn's use of it ended the process.
#[test]
fn a_look_when_the_logs_memory_is_full() {
    let server = Server::start(&[("logs_bytes_max", "1048576")]);
    assert_eq!(fill(&server, &[b'x'; 60_000]).0, 503);
    for _ in 0..3 {
        look(&server);
        works(&server);
    }
    // The topic's slot was not given to another topic either: what is published there is public.
    let streams = server.metric("subscribed_total");
    let mut reader = server.subscribe("/t0?last_event_id=earliest");
    assert_eq!(reader.data().len(), 60_000);
    assert_eq!(server.metric("subscribed_total"), streams + 1);
}

#[test]
fn a_look_when_there_are_as_many_topics_as_there_may_be() {
    let server = Server::start(&[("topics_max", "3")]);
    assert_eq!(fill(&server, b"x"), (503, 3));
    for _ in 0..3 {
        look(&server);
        works(&server);
    }
    assert_eq!(fill(&server, b"x"), (503, 3), "the server's own topic takes no place");
}

/// A topic without events is forgotten with its last subscriber, in whichever order they and viewers
/// of `/live` come and go.
#[test]
fn a_look_while_topics_come_and_go() {
    let server = Server::start(&[("topic_idle_ms", "1")]);
    for nth in 0..5 {
        let reader = server.subscribe(&format!("/{nth}"));
        look(&server);
        drop(reader);
        look(&server);
        works(&server);
    }
}
