//! Requests that come in pieces, or not to their end. TCP keeps no borders: a request is the same
//! however the network has cut it.

use crate::scene::Scene;
use crate::support::Client;
use crate::table::{chunked, ends_in_order, post};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

fn requests() -> [Vec<u8>; 2] {
    [post("Content-Length: 5", "hello"), chunked("5;x\r\nhello\r\n0\r\nT: u\r\n\r\n")]
}

/// Case 1. Every prefix, and then silence: nothing is answered before the deadline, and at the
/// deadline 408, or nothing if nothing was begun.
#[test]
fn every_prefix() {
    let scene = Scene::start(&[("head_timeout_ms", "60000"), ("body_timeout_ms", "60000")]);
    let [plain, coded] = requests();
    let prefixes = [b"\r\n".repeat(2), plain, coded]
        .map(|whole| (0..whole.len()).map(|end| whole[..end].to_vec()).collect::<Vec<_>>());
    let mut clients: Vec<(Vec<u8>, Client)> = prefixes
        .concat()
        .into_iter()
        .map(|prefix| {
            let mut client = scene.connect();
            client.send(&prefix);
            (prefix, client)
        })
        .collect();
    scene.catches_up();
    let until = Instant::now() + Duration::from_millis(500);
    for (prefix, client) in &clients {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        client.socket.set_read_timeout(Some(left)).expect("set");
        let error = client.socket.peek(&mut [0; 1]).expect_err("nothing comes");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{:?}", prefix.escape_ascii().to_string());
        client.socket.set_read_timeout(Some(crate::support::PATIENCE)).expect("set");
    }
    scene.patch("{\"head_timeout_ms\":100,\"body_timeout_ms\":100}");
    for (prefix, client) in &mut clients {
        if prefix.iter().any(|byte| !byte.is_ascii_whitespace()) {
            let answer = client.answer();
            assert_eq!((answer.status, answer.field("Connection")), (408, Some("close")));
        }
        ends_in_order(client);
    }
    assert_eq!(scene.published("a"), 0);
    drop(clients);
    scene.end();
}

/// Case 2. Every cut into two, and one byte at a time.
#[test]
fn every_cut() {
    let scene = Scene::start(&[]);
    let mut stream = scene.subscribe("/a", &[]);
    let (mut client, mut other) = (scene.connect(), scene.connect());
    let mut posts = 0;
    for request in requests() {
        let cuts = (1..request.len()).map(|cut| vec![cut]);
        for cuts in cuts.chain([(1..request.len()).collect()]) {
            let mut sent = 0;
            for cut in cuts {
                client.send(&request[sent..cut]);
                // Answered only when the server has seen the piece: they do not come together.
                assert_eq!(other.request("GET", "/healthz", &[], b"").status, 200);
                sent = cut;
            }
            client.send(&request[sent..]);
            let answer = client.answer();
            assert_eq!((answer.status, answer.json("count")), (200, "1".into()), "{answer:?}");
            assert_eq!(stream.data(), "hello");
            posts += 1;
        }
    }
    assert_eq!(scene.published("a"), posts);
    drop((stream, client, other));
    scene.end();
}

/// Case 21. A peer that closes its side has asked for what it sent before, and for nothing that is
/// cut.
#[test]
fn the_end_behind_a_request() {
    let scene = Scene::start(&[]);
    let [plain, coded] = requests();
    let mut inputs = vec![(plain.repeat(2), 2), ([&plain[..], &plain[..20]].concat(), 1)];
    for whole in [&plain, &coded] {
        inputs.extend((1..whole.len()).map(|end| (whole[..end].to_vec(), 0)));
        inputs.push((whole.clone(), 1));
    }
    let mut published = 0;
    for (sent, answers) in &inputs {
        let mut client = scene.connect();
        // Corked, so that the end leaves in the segment that carries the request.
        socket2::SockRef::from(&client.socket).set_tcp_cork(true).expect("set");
        client.send(sent);
        client.finish();
        (0..*answers).for_each(|_| assert_eq!(client.answer().status, 200));
        ends_in_order(&mut client);
        published += answers;
    }
    assert_eq!(scene.published("a"), published);

    let resets = scene.metric("closes_total{reason=\"peer_reset\"}");
    for end in 1..plain.len() {
        let mut client = scene.connect();
        client.send(&plain[..end]);
        scene.catches_up();
        client.reset();
    }
    scene.wait_until("all of them are seen to be reset", || {
        scene.metric("closes_total{reason=\"peer_reset\"}") == resets + plain.len() as u64 - 1
    });
    assert_eq!(scene.published("a"), published);
    scene.end();
}

/// An old client sends an empty line behind a body (RFC 9112 §2.2), and its next request later. The
/// deadline of that head runs from the head's first byte, not from the empty line.
#[test]
fn an_empty_line_begins_no_head() {
    let scene = Scene::start(&[("head_timeout_ms", "2000"), ("idle_timeout_ms", "60000")]);
    let mut client = scene.connect();
    client.send([&post("Content-Length: 1", "x")[..], b"\r\n"].concat());
    assert_eq!(client.answer().status, 200);
    // Time must pass, which is the point: more than the deadline.
    client.socket.set_read_timeout(Some(Duration::from_millis(2_500))).expect("set");
    assert!(client.socket.peek(&mut [0; 1]).is_err(), "it is not told off");
    client.socket.set_read_timeout(Some(crate::support::PATIENCE)).expect("set");
    client.send("GET /healthz HTTP/1.1\r\n");
    // A round of the sweep, which looks eight times within the shortest deadline.
    client.socket.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
    assert!(client.socket.peek(&mut [0; 1]).is_err(), "its time has only begun");
    client.socket.set_read_timeout(Some(crate::support::PATIENCE)).expect("set");
    client.send("Host: h\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    drop(client);
    scene.end();
}

/// Requests that were read and wait for earlier answers to be taken are not late: it is the server
/// that lets them wait.
#[test]
fn a_request_that_must_wait_is_not_late() {
    let scene = Scene::start(&[("so_sndbuf_bytes", "16384"), ("head_timeout_ms", "1000")]);
    let mut client = Client::connect_narrow(scene.public);
    let posts = 1500;
    let mut sender =
        Client { socket: client.socket.try_clone().expect("cloned"), received: vec![] };
    let requests = post("Content-Length: 5", "hello").repeat(posts);
    let sending = std::thread::spawn(move || sender.send(requests));
    scene.wait_until("answers pile up", || scene.metric("private_bytes") >= 64 << 10);
    // More than twice the deadline, in which the client takes nothing.
    std::thread::sleep(Duration::from_millis(2_500));
    for nth in 0..posts {
        let answer = client.answer();
        assert_eq!((answer.status, answer.json("count")), (200, "1".into()), "answer {nth}");
    }
    sending.join().expect("sent");
    drop(client);
    scene.end();
}
