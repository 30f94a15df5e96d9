//! Requests that come in pieces, or not to their end. TCP keeps no borders: a request is the same
//! however the network has cut it.

use crate::scene::Scene;
use crate::support::Client;
use crate::table::{chunked, ends_in_order, post};
use std::io::ErrorKind;

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
    // Twice, so that what it has to say of them has been said.
    scene.catches_up();
    scene.catches_up();
    for (prefix, client) in &clients {
        client.socket.set_nonblocking(true).expect("set");
        let error = client.socket.peek(&mut [0; 1]).expect_err("nothing comes");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{:?}", prefix.escape_ascii().to_string());
        client.socket.set_nonblocking(false).expect("set");
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
