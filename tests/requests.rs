//! How the public listener treats requests: methods, paths, parameters, the life of a connection,
//! deadlines, and the limits on connections and topics. Malformed requests are in
//! `tests/bad_requests/`, the limits one by one in `tests/limits/`.
//!
//! Bytes are written by hand, because a client that could not send an unusual request could not
//! tell either what the server makes of one.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::io::Read;
use std::time::{Duration, Instant};
use support::{Answer, Client, PATIENCE, Server, Subscriber};

/// Follows whatever is refused. It must neither be run nor answered: nobody knows whether it is a
/// request, or a part of the one before.
const EMBEDDED: &[u8] = b"POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nsmuggled";

const PUBLISHED: &str = "events_published_total";

/// Takes an answer that says that it is the connection's last, and is.
#[track_caller]
fn last_answer(client: &mut Client, status: u16) -> Answer {
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("Connection")), (status, Some("close")), "{answer:?}");
    ends_in_order(client);
    answer
}

/// Nothing more comes, and the connection is closed and not reset: a reset could have destroyed
/// the answer on its way (RFC 9112 §9.6).
#[track_caller]
fn ends_in_order(client: &mut Client) {
    let more = String::from_utf8_lossy(&client.received);
    assert!(more.is_empty(), "unexpected {more:?}");
    let end = client.socket.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0)), "{end:?} instead of the end");
}

/// The loop serves connections in the order in which they become ready. So when this one is
/// answered, the server has seen what was sent on others before.
#[track_caller]
fn server_has_caught_up(other: &mut Client) {
    assert_eq!(other.request("GET", "/healthz", &[], b"").status, 200);
}

fn bare(line: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n").into()
}

fn request(line: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

fn post(fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST /events/a", fields, body)
}

fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

/// RFC 9110 §12.5.3: the answer says that the coding is the reason. It comes before the body does.
#[test]
fn a_coded_body_is_refused_unread() {
    let server = Server::start(&[]);
    let coded = "Content-Encoding: gzip\r\nExpect: 100-continue\r\nContent-Length: 100";
    let knobs = format!("PATCH /knobs HTTP/1.1\r\nHost: localhost\r\n{coded}\r\n\r\n").into_bytes();
    for (address, sent) in [(server.public, post(coded, "")), (server.admin, knobs)] {
        let mut client = Client::connect(address);
        client.send(sent);
        let answer = last_answer(&mut client, 415);
        assert_eq!(answer.field("Accept-Encoding"), Some("identity"));
    }
    assert_eq!(server.metric(PUBLISHED), 0);
}

/// RFC 9110 §10.1.1: one that waits to be told to go on is told, and one that could not know what
/// it is told is not (§15.2).
#[test]
fn a_body_may_wait_to_be_asked_for() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let plain = ("Content-Length: 5", "hello");
    for (framing, body) in [plain, ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        client.send(post(&format!("Expect: 100-continue\r\n{framing}"), ""));
        assert_eq!(client.take_through(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
        client.send(body);
        assert_eq!((client.answer().status, client.received.len()), (200, 0));
    }
    client.send("POST /events/a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    server_has_caught_up(&mut server.connect());
    client.send("hello");
    assert_eq!(client.answer().status, 200);
}

/// Answers that nobody takes must not fill memory: the server stops reading requests, and goes on
/// where it stopped, whether the rest has already reached it or is still to be sent.
#[test]
fn a_client_that_sends_on_without_reading_gets_every_answer() {
    for (posts, fits_in_buffers) in [(1500, true), (5000, false)] {
        let server = Server::start(&[("so_sndbuf_bytes", "16384")]);
        let mut client = server.connect();
        let mut sender = Client { socket: client.socket.try_clone().unwrap(), received: vec![] };
        sender.socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let requests = post("Content-Length: 5", "hello").repeat(posts);
        let sending = std::thread::spawn(move || sender.send(requests));
        server.wait_for("private_bytes", 64 << 10);
        if fits_in_buffers {
            sending.join().unwrap();
        }
        server_has_caught_up(&mut server.connect());
        assert!(server.metric("private_bytes") < 70_000, "the server goes on answering");
        for nth in 1..=posts {
            let answer = client.answer();
            assert_eq!((answer.status, answer.json("count")), (200, "1".into()));
            assert!(answer.json("id").ends_with(&format!("-{nth}")), "{answer:?} to {nth}");
        }
        assert_eq!(server.metric(PUBLISHED), posts as u64);
        server_has_caught_up(&mut client);
    }
}

#[test]
fn a_connection_serves_requests_until_it_is_told_to_end() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for nth in 0..3 {
        assert_eq!(client.request("POST", "/events/a", &[], b"x").status, 200);
        assert_eq!(client.request("GET", "/readyz", &[], b"").text(), "ready\n");
        let answer = client.request("GET", "/nothing", &[], b"");
        assert_eq!((answer.status, answer.field("Connection")), (404, None), "round {nth}");
    }
    client.send(post("Connection: x, CLOSE\r\nContent-Length: 1", "x"));
    last_answer(&mut client, 200);

    for kept in ["", "Connection: keep-alive\r\n"] {
        let mut client = server.connect();
        client.send(format!("POST /events/a HTTP/1.0\r\n{kept}Content-Length: 1\r\n\r\nx"));
        let answer = last_answer(&mut client, 200);
        assert!(answer.head.starts_with("HTTP/1.0 200 OK\r\n"), "{answer:?}");
    }
}

/// All on one connection: whatever carries no body leaves it usable, and a body where none may be
/// would be taken for the next answer.
#[test]
fn methods_and_paths() {
    // A heartbeat would prolong the wait of a client that was made a subscriber by mistake.
    let server = Server::start(&[("heartbeat", "off")]);
    let mut client = server.connect();
    let head = client.request("HEAD", "/events/a", &[], b"");
    assert_eq!((head.status, head.field("Content-Type")), (200, Some("text/event-stream")));
    assert_eq!(head.field("Transfer-Encoding"), Some("chunked"));
    let answer = client.request("POST", "/events/a", &[], b"x");
    assert_eq!(answer.json("subscribers"), "0", "HEAD subscribes nobody");
    let head = client.request("HEAD", "/healthz", &[], b"");
    assert_eq!((head.status, head.field("Content-Length")), (200, Some("3")));
    for target in ["*", "/events/a", "/events?topic=a"] {
        let answer = client.request("OPTIONS", target, &[], b"");
        assert_eq!((answer.status, answer.field("Content-Length")), (204, None), "{target}");
        assert_eq!(answer.field("Allow"), Some("GET, HEAD, POST, OPTIONS"), "{target}");
    }
    let others = "DELETE /events/a|PUT /events/a|TRACE /events/a|CONNECT /events/a|PUT /events";
    for (requests, status, allow) in [
        ("GET http://h/healthz|GET /healthz?x|HEAD /readyz", 200, None),
        (others, 405, Some("GET, HEAD, POST, OPTIONS")),
        ("PUT /healthz|DELETE /readyz", 405, Some("GET, HEAD, OPTIONS")),
        ("get /events/a|FOOBAR /healthz", 501, None),
        ("GET /|GET /eventsx|GET /metrics|GET /knobs", 404, None),
    ] {
        for request in requests.split('|') {
            let (method, path) = request.split_once(' ').unwrap();
            let answer = client.request(method, path, &[], b"");
            assert_eq!((answer.status, answer.field("Allow")), (status, allow), "{request}");
        }
    }
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    assert_eq!(client.request("GET", "/healthz", &upgrade, b"").text(), "ok\n");
    let mut stream = Subscriber::new(client, "/a", &upgrade);
    server.publish("a", "y");
    assert_eq!(stream.data(), "y");
    for refused in ["PUT /events/a", "GET /events/a", "GET /healthz", "POST /nothing"] {
        let mut client = server.connect();
        client.send(request(refused, &format!("Content-Length: {}", EMBEDDED.len()), EMBEDDED));
        assert!((400..=405).contains(&client.answer().status), "{refused}");
        ends_in_order(&mut client);
    }
    assert_eq!(server.metric(PUBLISHED), 2);
}

/// A publisher's fields become lines of every subscriber's stream: what could end a line, or
/// could not come back as it went, is refused.
#[test]
fn parameters_that_could_do_harm_are_refused() {
    let server = Server::start(&[("topics_per_connection_max", "2")]);
    let mut stream = server.subscribe("/a");
    let first = server.publish("a", "first");
    let mut bad: Vec<String> = "id=|id=%20x|id=x%20|id=+x|id=earliest|id=%|id=%4|event=%zz|\
        event=gap|event=heartbeat|retry=abc|retry=|retry=-1|retry=1.5|\
        retry=99999999999999999999|colour=red"
        .split('|')
        .map(String::from)
        .collect();
    for field in ["id", "event"] {
        bad.push(format!("{field}={}", "x".repeat(257)));
        for control in ["%0D", "%0A", "%0d%0a", "%00", "%7F", "%C2%85", "%09", "%FF"] {
            bad.push(format!("{field}=x{control}data:%20injected{control}"));
        }
    }
    bad.push(format!("id={first}999"));
    for query in &bad {
        let answer =
            server.connect().request("POST", &format!("/events/a?{query}"), &[], b"injected");
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json("error").len() > 5, "{query}: {answer:?}");
    }
    let mut client = server.connect();
    let answer = client.request("POST", "/events/a", &[], b"not \xff UTF-8");
    assert_eq!((answer.status, answer.field("Connection")), (400, None));
    let long = "x".repeat(257);
    for topic in [&*long, "", "a%0Ab", "%00", "%7f", "%C2%85", "%zz", "%ff"] {
        let path = format!("/events/{topic}");
        assert_eq!(client.request("GET", &path, &[], b"").status, 400, "{path}");
        assert_eq!(client.request("POST", &path, &[], b"").status, 400, "{path}");
    }
    for query in ["", "x=y", "topic=", "topic=%0A", "topic=%zz", "topic=a&topic=b&topic=c"] {
        let answer = client.request("GET", &format!("/events?{query}"), &[], b"");
        assert_eq!((answer.status, answer.field("Connection")), (400, None), "{query}");
    }
    assert_eq!(client.request("POST", &format!("/events/{}", &long[1..]), &[], b"").status, 200);
    assert_eq!(client.request("POST", "/events/a", &[], b"second").status, 200);
    assert_eq!((stream.data(), stream.data()), ("first".into(), "second".into()));
    assert_eq!(server.metric(PUBLISHED), 3);
}

/// A subscriber that cannot be served. Any status but 200 would end a browser's `EventSource` for
/// ever (WHATWG HTML §9.2.3), so it is told when to come again, and its stream ends in order.
#[track_caller]
fn is_turned_away(mut stream: Subscriber) {
    assert_eq!(stream.field("Pushv-Resumed-From"), None);
    assert_eq!(stream.field("Connection"), Some("close"));
    assert_eq!(stream.rest(), []);
    assert!(stream.ended, "the last chunk came");
    assert!(matches!(stream.retries[..], [1000..2000]), "{:?}", stream.retries);
    ends_in_order(&mut stream.client);
}

#[test]
fn connections_above_a_limit_are_told_so() {
    for limit in ["connections_max", "connections_per_address_max"] {
        let server = Server::start(&[(limit, "2"), ("retry_ms", "1000")]);
        let (first, mut second) = (server.subscribe("/a"), server.subscribe("/a"));
        is_turned_away(server.subscribe("/a"));
        for body in ["", "x"] {
            let mut third = server.connect();
            third.send(post(&format!("Content-Length: {}", body.len()), body));
            assert_eq!(last_answer(&mut third, 503).field("Retry-After"), Some("1"), "{limit}");
        }
        let mut third = server.connect();
        third.send(bare("GET /healthz"));
        assert_eq!(last_answer(&mut third, 200).text(), "ok\n", "{limit}");

        first.client.reset();
        server.wait_for("closes_total{reason=\"peer_reset\"}", 1);
        // Whoever asked for that number may itself not be gone yet, and counts.
        let deadline = Instant::now() + PATIENCE;
        while server.connect().request("POST", "/events/a", &[], b"x").status != 200 {
            assert!(Instant::now() < deadline, "{limit}: nobody new is served");
        }
        assert_eq!(second.data(), "x");
        assert!(server.metric("closes_total{reason=\"over_limit\"}") >= 2, "{limit}");
    }
}

#[test]
fn topics_above_their_limit() {
    let server = Server::start(&[("topics_max", "1"), ("retry_ms", "1000")]);
    let mut stream = server.subscribe("/a");
    let mut publisher = server.connect();
    let answer = publisher.request("POST", "/events/b", &[], b"x");
    assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
    is_turned_away(server.subscribe("/b"));
    is_turned_away(server.subscribe("?topic=a&topic=b"));
    let answer = publisher.request("POST", "/events/a", &[], b"x");
    assert_eq!((answer.status, answer.json("subscribers")), (200, "1".into()));
    assert_eq!(stream.data(), "x");
}

/// The deadline is set only when everybody waits for it: a test that is slow must not be late.
#[test]
fn a_head_has_a_deadline() {
    let server = Server::start(&[]);
    let (mut silent, mut begun, mut again) = (server.connect(), server.connect(), server.connect());
    begun.send("GET /healthz HTTP/1.1\r\nHo");
    server_has_caught_up(&mut again);
    again.send("POST /ev");
    server_has_caught_up(&mut server.connect());
    assert_eq!(server.patch_knobs("", "{\"head_timeout_ms\":100}").status, 200);
    ends_in_order(&mut silent);
    last_answer(&mut begun, 408);
    last_answer(&mut again, 408);
}

#[test]
fn bodies_and_idle_connections_have_deadlines() {
    let server = Server::start(&[
        ("body_timeout_ms", "100"),
        ("idle_timeout_ms", "100"),
        ("feed_timeout_ms", "100"),
    ]);
    for cut in [post("Content-Length: 5", "hel"), chunked("5\r\nhello\r\n0\r\n")] {
        let mut client = server.connect();
        client.send(cut);
        last_answer(&mut client, 408);
    }
    let mut idle = server.connect();
    server_has_caught_up(&mut idle);
    ends_in_order(&mut idle);
    assert!(server.metric("closes_total{reason=\"idle_timeout\"}") >= 1);
    assert_eq!(server.metric(PUBLISHED), 0);

    // What an event stream has published stays published, so its publisher is told how much.
    let mut feed = server.connect();
    let fields = "Content-Type: text/event-stream\r\nContent-Length: 1000";
    feed.send(post(fields, "data: one\n\ndata: two\n\ndata: thr"));
    let answer = last_answer(&mut feed, 408);
    assert_eq!(answer.json("count"), "2", "{answer:?}");
    assert!(answer.json("error").contains("silent"), "{answer:?}");
}

/// A body ends where its length says, also where nobody wants it (RFC 9112 §6.3).
#[test]
fn the_body_of_options_is_not_a_request() {
    let server = Server::start(&[]);
    for target in ["OPTIONS *", "OPTIONS /events/a", "OPTIONS /healthz"] {
        let mut client = server.connect();
        client.send(request(target, &format!("Content-Length: {}", EMBEDDED.len()), EMBEDDED));
        client.finish();
        let answers = String::from_utf8(client.rest()).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{target}: {answers}");
        assert_eq!(server.metric(PUBLISHED), 0, "{target}");
    }
}

/// A deadline that every line could put off would be none (slowloris).
#[test]
fn a_head_that_trickles_in_has_the_same_deadline() {
    let server = Server::start(&[("head_timeout_ms", "300")]);
    let mut client = server.connect();
    client.send("GET /healthz HTTP/1.1\r\nHost: h\r\n");
    // the pace
    client.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    while client.socket.peek(&mut [0; 1]).is_err() {
        client.try_send("X: y\r\n"); // a hundred of them are refused in another way: 431
    }
    client.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    last_answer(&mut client, 408);
}

/// What comes behind the last request is not wanted, but must not destroy the answer on its way
/// (RFC 9112 §9.6).
#[test]
fn the_last_answer_outlives_what_is_sent_behind_it() {
    let server = Server::start(&[("linger_ms", "60000")]);
    let old = b"POST /events/a HTTP/1.0\r\nContent-Length: 1\r\n\r\nx".to_vec();
    for sent in [post("Connection: close\r\nContent-Length: 1", "x"), old] {
        let mut client = server.connect();
        client.try_send([sent, vec![b'x'; 1 << 20]].concat());
        last_answer(&mut client, 200);
    }
}
