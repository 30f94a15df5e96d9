//! What `/connections` says is of now, and asking changes nothing.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "support/open_metrics.rs"]
mod open_metrics;
#[path = "support/rows.rs"]
mod rows;
mod support;

use open_metrics::parse;
use rows::{number, silent};
use serde_json::Value;
use socket2::{SockFilter, SockRef};
use std::collections::BTreeMap;
use std::time::Instant;
use support::{Client, PATIENCE, Server, Subscriber};

/// Once `sort=lag` put streams that had just had a heartbeat first: everything they were ever sent
/// counted as not acknowledged until the next look at them.
#[test]
fn a_stuck_stream_comes_before_those_that_were_sent_more() {
    for observe_ms in ["0", "20"] {
        let server = Server::start(&[
            ("heartbeat_ms", "20"),
            ("so_sndbuf_bytes", "20000"),
            ("observe_ms", observe_ms),
        ]);
        let mut healthy = [server.subscribe("/busy"), server.subscribe("/busy")];
        let stuck = silent(&server, "/stuck");
        server.wait_for("streams", 3);
        for _ in 0..20 {
            server.publish("busy", &"x".repeat(20_000));
            healthy.iter_mut().for_each(|one| assert_eq!(one.data().len(), 20_000));
        }
        for _ in 0..10 {
            server.publish("stuck", &"y".repeat(10_000));
        }
        let peer = stuck.socket.local_addr().unwrap().to_string();
        let begun = server.metric("heartbeats_total");
        // Both of them have had several heartbeats: the stuck one is not sent any.
        while server.metric("heartbeats_total") < begun + 10 {
            for sort in ["lag", "verdict"] {
                let first =
                    &server.json(&format!("/connections?limit=1&sort={sort}"))["connections"][0];
                assert_eq!(first["peer"], peer.as_str(), "observe_ms={observe_ms}: {first:#}");
            }
        }
    }
}

/// Lets no packet through to a client's socket, until [`SockRef::detach_filter`].
fn lose_everything(client: &Client) {
    let drop_all = SockFilter::new(0x06, 0, 0, 0); // BPF_RET | BPF_K: keep 0 bytes
    SockRef::from(&client.socket).attach_filter(&[drop_all]).unwrap();
}

/// Publishes single events until one is in flight as the stream is looked at, and gives that look.
#[track_caller]
fn in_flight(server: &Server, subscriber: &mut Subscriber) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        SockRef::from(&subscriber.client.socket).set_tcp_quickack(false).unwrap();
        server.publish("a", "on its way");
        let stream = server.stream_of(&subscriber.client);
        subscriber.next().unwrap();
        if number(&stream["ladder"]["in_flight"]["bytes"]) > 0 {
            return stream;
        }
        assert!(Instant::now() < deadline, "everything is acknowledged at once");
    }
}

/// Once a stream that had lost a single segment in its life was the network's for ever.
#[test]
fn a_loss_is_forgotten_once_it_is_repaired() {
    let server = Server::start(&[("observe_ms", "20"), ("heartbeat", "off")]);
    let mut subscriber = server.subscribe("/a");
    lose_everything(&subscriber.client);
    server.publish("a", "lost once");
    server.wait_for_stream(&subscriber.client, |stream| stream["verdict"] == "network");
    SockRef::from(&subscriber.client.socket).detach_filter().unwrap();
    assert_eq!(subscriber.data(), "lost once");
    let settled = |stream: &Value| stream["ladder"]["in_flight"]["bytes"] == 0;
    server.wait_for_stream(&subscriber.client, settled);
    // The sweep has come by, and has forgotten.
    server.wait_for("observations_total", server.metric("observations_total") + 3);
    let stream = in_flight(&server, &mut subscriber);
    assert!(number(&stream["tcp"]["retransmitted_segments"]) > 0, "{stream:#}");
    assert_eq!(stream["verdict"], "flowing", "{stream:#}");
    let lately = &stream["tcp"]["lately"];
    assert_eq!((number(&lately["over_ms"]), number(&lately["retransmitted_segments"])), (0, 0));
}

/// Once each look at a stall counted as one.
#[test]
fn looking_at_a_stall_does_not_multiply_it() {
    for observe_ms in ["0", "20"] {
        let server = Server::start(&[
            ("tcp_nodelay", "false"),
            ("write_path", "split"),
            ("observe_ms", observe_ms),
        ]);
        let mut napping = server.subscribe("/a");
        let held = |stream: &Value| {
            let bytes = |rung: &str| number(&stream["ladder"][rung]["bytes"]);
            bytes("unsent") > 0
                && bytes("in_flight") > 0
                && number(&stream["tcp"]["last_sent_ms"]) >= 10
        };
        let (deadline, mut published, mut seen) = (Instant::now() + PATIENCE, 0, 0);
        while seen < 10 {
            SockRef::from(&napping.client.socket).set_tcp_quickack(false).unwrap();
            server.publish("a", "hello");
            published += 1;
            loop {
                let stream = server.stream_of(&napping.client);
                seen += u64::from(held(&stream));
                if number(&stream["ladder"]["unsent"]["bytes"]) == 0 {
                    break;
                }
            }
            napping.next().unwrap();
            assert!(Instant::now() < deadline, "no event stalls");
        }
        let counted = server.metric("nagle_stalls_total");
        let at_most = if observe_ms == "0" { 0 } else { published };
        assert!(counted <= at_most, "{counted} of {published}, seen {seen} times");
    }
}

/// All metrics but those of `exceptions`, by name and labels.
fn metrics(server: &Server, exceptions: &[String]) -> BTreeMap<String, f64> {
    let families = parse(&server.admin_get("/metrics").text()).unwrap();
    let of_public = families.into_iter().filter(|family| !exceptions.contains(&family.name));
    let samples = of_public.flat_map(|family| family.samples);
    samples.map(|one| (format!("{} {:?}", one.name, one.labels), one.value)).collect()
}

/// The metrics that `docs/OBSERVING.md` says cover the admin listener as well.
fn exceptions() -> Vec<String> {
    let page = include_str!("../docs/OBSERVING.md");
    let begin = page.find("Looking changes no metric").expect("the paragraph");
    let paragraph = page[begin..].split("\n\n").next().unwrap();
    let names = paragraph.split('`').skip(1).step_by(2).filter(|name| name.starts_with("pushv_"));
    names.map(|name| name.trim_end_matches("_total").to_string()).collect()
}

/// Everything that the admin listener is asked without being told to change anything.
fn look_at_everything(server: &Server) {
    let first = server.json("/connections?limit=1");
    let one = format!("/connections/{}", first["connections"][0]["id"].as_str().unwrap());
    for path in
        ["/", "/metrics", "/topics", "/knobs", "/knobs?topic=a", "/healthz", "/readyz", &one]
    {
        let mut client = Client::connect(server.admin);
        for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
            client.request(method, path, &[], b"");
        }
    }
    for sort in ["lag", "age", "bytes", "verdict", "nonsense"] {
        server.admin_get(&format!("/connections?sort={sort}"));
    }
    for request in
        ["GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "?\r\n\r\n"]
    {
        let mut client = Client::connect(server.admin);
        client.send(request);
        client.answer();
    }
    // More than there is room for.
    let crowd: Vec<Client> = (0..40).map(|_| Client::connect(server.admin)).collect();
    drop(crowd);
    // The crowd is gone once there is room again.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = Client::connect(server.admin);
        client.try_send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        if client.receive() {
            break;
        }
        assert!(Instant::now() < deadline, "no room");
    }
}

/// Viewers of the live feed come and go, and each is sent an event at once; one does not read, and
/// misses more than is kept for it.
fn look_at_the_feed(server: &Server) {
    let request = "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut sleeping = Client::connect_narrow(server.admin);
    sleeping.send(request);
    let mut sleeping = Subscriber::asked(sleeping);
    for _ in 0..40 {
        let mut client = Client::connect(server.admin);
        client.send(request);
        Subscriber::asked(client).next().unwrap();
    }
    while sleeping.next().expect("a gap notice").name != "gap" {}
}

/// A server at rest is looked at in every way there is, and nothing that it counts moves.
#[test]
fn looking_changes_no_metric() {
    let server = Server::start(&[
        ("heartbeat", "off"),
        ("observe_ms", "0"),
        ("so_sndbuf_bytes", "8192"),
        ("flush_policy", "adaptive"),
    ]);
    let mut idle = server.subscribe("/a");
    let _stuck = silent(&server, "/b");
    server.wait_for("streams", 2);
    server.publish("a", "read");
    idle.data();
    for _ in 0..20 {
        server.publish("b", &"x".repeat(10_000));
    }
    let exceptions = exceptions();
    assert!(exceptions.len() > 5, "{exceptions:?}");
    // At rest once both are idle, by what is known without asking the kernel.
    server.wait_for(r#"streams_by_verdict{verdict="idle"}"#, 2);
    server.wait_for("connections_blocked", 1);
    let before = metrics(&server, &exceptions);
    for _ in 0..3 {
        look_at_everything(&server);
    }
    look_at_the_feed(&server);
    let after = metrics(&server, &exceptions);
    let moved: Vec<_> =
        after.iter().filter(|(name, value)| before.get(*name) != Some(value)).collect();
    assert!(moved.is_empty(), "{moved:#?}");
}

/// Once the first event of a viewer had the latencies since the viewer before it had left.
#[test]
fn a_viewer_is_shown_no_latencies_of_before() {
    let server = Server::start(&[]);
    let mut subscriber = server.subscribe("/a");
    let view = || {
        let mut client = Client::connect(server.admin);
        client.send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let first = Subscriber::asked(client).next().unwrap();
        serde_json::from_str::<Value>(&first.data).unwrap()
    };
    view();
    // The first one has left: the server sees that before what comes after it.
    server.publish("a", "unseen");
    assert_eq!(subscriber.data(), "unseen");
    let live = view();
    assert_eq!(live["counters"]["deliveries"], 1, "{live:#}");
    assert!(live["latency_us"]["publish_to_kernel"].is_null(), "{:#}", live["latency_us"]);
    assert_eq!(live["interval_ms"], 0);
}
