//! Case 38. A stream has nothing to hear from its subscriber.

use crate::scene::Scene;
use crate::table::{bare, post};

#[test]
fn half_a_close_is_a_leave() {
    let scene = Scene::start(&[]);
    let mut stays = scene.subscribe("/a", &[]);
    let mut leaves = scene.subscribe("/a", &[]);
    leaves.client.finish();
    assert_eq!(leaves.next(), None);
    let answer = scene.connect().request("POST", "/events/a", &[], b"x");
    assert_eq!(answer.json("subscribers"), "1");
    assert_eq!(stays.data(), "x");
    assert!(scene.metric("closes_total{reason=\"peer_left\"}") >= 1);
    drop((stays, leaves));
    scene.end();
}

/// A little is ignored, requests included; much ends the stream; and neither is kept.
#[test]
fn what_a_subscriber_says_is_not_kept() {
    let scene = Scene::start(&[]);
    let mut client = scene.connect();
    let publish = post("Content-Length: 8", "smuggled");
    client.send([bare("GET /events/a"), publish.repeat(400)].concat());
    let mut stream = crate::support::Subscriber::asked(client);
    scene.catches_up();
    let before = scene.metric("resident_bytes");
    let sink = scene.subscribe("/a", &[]);
    let talkers: Vec<_> = (0..20)
        .map(|_| {
            let mut talker = scene.subscribe("/a", &[]);
            std::thread::spawn(move || {
                talker.client.try_send(vec![b'x'; 10 << 20]);
                assert_eq!(talker.next(), None);
            })
        })
        .collect();
    talkers.into_iter().for_each(|talker| talker.join().expect("it was closed"));
    assert_eq!(scene.metric("closes_total{reason=\"chatter\"}"), 20);
    let grown = scene.metric("resident_bytes").saturating_sub(before);
    assert!(grown < 2 << 20, "memory has grown by {grown} bytes");
    assert_eq!(scene.connect().request("POST", "/events/a", &[], b"x").status, 200);
    assert_eq!(stream.data(), "x", "what it said before was little, and nothing was run");
    drop((stream, sink));
    scene.end();
}
