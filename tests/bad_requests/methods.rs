//! Methods that are not for the resource, or for nobody, and requests for other protocols.

use crate::scene::Scene;
use crate::support::Subscriber;
use crate::table::{Row, answered, bare, check, ends_in_order, refused_bytes, request};

pub fn table() -> Vec<Row> {
    let mut rows = Vec::new();
    let foreign = "DELETE /events/a|PUT /events/a|TRACE /events/a|PATCH /events/a|DELETE /healthz|\
                   POST /healthz|CONNECT h:80|PUT /events";
    rows.extend(answered(19, "method-not-allowed", 405, 0, foreign, bare));
    let unknown = "get /events/a|FOOBAR /events/a|Post /events/a|X /healthz|GET: /healthz";
    let (tokens, no_token) = unknown.rsplit_once('|').expect("several");
    rows.extend(answered(19, "method-unknown", 501, 0, tokens, bare));
    rows.extend(refused_bytes(19, "request-line", 400, bare(no_token)));
    rows.extend(answered(19, "head-of-stream", 200, 0, "/events/a|/events?topic=a", |target| {
        bare(&format!("HEAD {target}"))
    }));
    rows.extend(answered(19, "upgrade", 200, 0, "websocket|h2c|TLS/1.3", |protocol| {
        request("GET /healthz", &format!("Connection: Upgrade\r\nUpgrade: {protocol}"), "")
    }));
    let expecting = |version: &str| {
        format!(
            "POST /events/a HTTP/{version}\r\nHost: h\r\nExpect: 200-maybe\r\n\
             Content-Length: 5\r\n\r\nhello"
        )
    };
    rows.extend(refused_bytes(19, "expectation", 417, expecting("1.1")));
    rows.push(Row {
        status: 200,
        published: 1,
        ..refused_bytes(19, "expectation-in-1.0", 200, expecting("1.0")).remove(0)
    });
    rows
}

#[test]
fn methods() {
    let scene = Scene::start(&[]);
    check(&scene, &table());
    let mut client = scene.connect();
    for target in ["/events/a", "/events"] {
        let answer = client.request("DELETE", target, &[], b"");
        assert_eq!(answer.field("Allow"), Some("GET, HEAD, POST, OPTIONS"), "{target}");
    }
    assert_eq!(
        client.request("DELETE", "/healthz", &[], b"").field("Allow"),
        Some("GET, HEAD, OPTIONS")
    );
    drop(client);
    scene.end();
}

/// A stream is a stream, whatever else the client would rather speak.
#[test]
fn an_upgrade_is_not_made() {
    let scene = Scene::start(&[]);
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let mut stream = scene.subscribe("/a", &upgrade);
    assert_eq!(stream.field("Upgrade"), None);
    assert_eq!(scene.connect().request("POST", "/events/a", &[], b"x").status, 200);
    assert_eq!(stream.data(), "x");
    drop(stream);
    scene.end();
}

/// Requests that come before earlier ones are answered: in order, and then the stream.
#[test]
fn pipelined_requests() {
    let scene = Scene::start(&[]);
    let post =
        |data: &str| request("POST /events/a", &format!("Content-Length: {}", data.len()), data);
    let mut client = scene.connect();
    client.send([post("one"), post("two"), bare("GET /events/a?last_event_id=earliest")].concat());
    let (first, second) = (client.answer(), client.answer());
    assert_eq!((first.status, second.status), (200, 200));
    let number =
        |id: String| id.rsplit('-').next().map(|seq| seq.parse::<u64>().expect("a number"));
    assert!(number(first.json("id")) < number(second.json("id")));
    let mut stream = Subscriber::asked(client);
    assert_eq!((stream.data(), stream.data()), ("one".into(), "two".into()));

    for garbage in ["\0garbage\r\n\r\n", "GET /\r\n\r\n", "\r\n\r\n\r\nGET /healthz"] {
        let mut client = scene.connect();
        client.send([&post("three")[..], garbage.as_bytes(), &post("four")].concat());
        assert_eq!(client.answer().status, 200);
        assert_eq!(client.answer().status, 400, "{garbage:?}");
        ends_in_order(&mut client);
        assert_eq!(stream.data(), "three");
    }
    assert_eq!(scene.published("a"), 5);
    drop(stream);
    scene.end();
}
