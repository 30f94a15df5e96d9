//! Subscribing, publishing and resuming, over real sockets.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use support::{Server, Subscriber};

#[test]
fn what_is_published_is_received() {
    let server = Server::start(&[]);
    let mut first = server.subscribe("/a");
    let mut second = server.subscribe("/a");
    let mut other = server.subscribe("/b");
    for (nth, data) in ["one", "two\nlines", "", " 3 ", "größer\r\nals\rnichts"].iter().enumerate()
    {
        let id = server.publish("a", data);
        for subscriber in [&mut first, &mut second] {
            let event = subscriber.next().unwrap();
            assert_eq!(event.data, data.replace("\r\n", "\n").replace('\r', "\n"));
            assert_eq!(event.id.as_deref(), Some(&*id));
            assert!(id.ends_with(&format!("-{}", nth + 1)), "{id}");
        }
    }
    server.publish("b", "for the other");
    assert_eq!(other.data(), "for the other");
}

#[test]
fn the_head_of_a_stream() {
    let server = Server::start(&[("retry_ms", "1000")]);
    let mut stream = server.subscribe("/a");
    assert_eq!(stream.field("Content-Type"), Some("text/event-stream"));
    assert_eq!(stream.field("Cache-Control"), Some("no-cache"));
    assert_eq!(stream.field("X-Accel-Buffering"), Some("no"));
    assert_eq!(stream.field("Transfer-Encoding"), Some("chunked"));
    assert_eq!(stream.field("Pushv-Resumed-From"), Some("latest"));
    assert_eq!(stream.field("Access-Control-Allow-Origin"), None);
    assert!(stream.field("Date").unwrap().ends_with(" GMT"));
    server.publish("a", "x");
    stream.data();
    assert_eq!(stream.retries.len(), 1);
    assert!((1000..2000).contains(&stream.retries[0]), "{:?}", stream.retries);
}

#[test]
fn http_1_0_ends_with_the_connection() {
    let server = Server::start(&[("connection_age_ms", "300")]);
    server.publish("a", "kept");
    let mut client = server.connect();
    client.send("GET /events/a?last_event_id=earliest HTTP/1.0\r\n\r\n");
    let mut stream = Subscriber::asked(client);
    assert!(stream.head.starts_with("HTTP/1.0 200 OK\r\n"), "{}", stream.head);
    assert_eq!(stream.field("Transfer-Encoding"), None);
    assert_eq!(stream.field("Connection"), Some("close"));
    server.publish("a", "live");
    assert_eq!((stream.data(), stream.data()), ("kept".into(), "live".into()));
    assert_eq!(stream.next(), None);
    assert_eq!(stream.retries.len(), 2, "one at the start, one at the end");
}

#[test]
fn several_topics_come_in_the_order_of_the_hub() {
    let server = Server::start(&[]);
    let mut stream = server.subscribe("?topic=a&topic=b%2Fc&topic=a");
    let mut ids = Vec::new();
    for nth in 0..20 {
        ids.push(server.publish(["a", "b%2fc", "other"][nth % 3], &nth.to_string()));
    }
    let wanted: Vec<usize> = (0..20).filter(|nth| nth % 3 < 2).collect();
    for &nth in &wanted {
        assert_eq!(stream.data(), nth.to_string());
    }
    // One id resumes both.
    for (seen, &nth) in wanted.iter().enumerate() {
        let mut again = server.subscribe_with("/a?topic=b/c", &[("Last-Event-ID", &ids[nth])]);
        assert_eq!(again.field("Pushv-Resumed-From"), Some(&*ids[nth]));
        for &later in &wanted[seen + 1..] {
            assert_eq!(again.data(), later.to_string());
        }
    }
}

#[test]
fn resuming() {
    let server = Server::start(&[("log_events_max", "4")]);
    let ids: Vec<String> = (0..6).map(|nth| server.publish("a", &nth.to_string())).collect();
    let resume = |fields: &[(&str, &str)], path: &str| server.subscribe_with(path, fields);
    let from = |stream: &Subscriber| stream.field("Pushv-Resumed-From").unwrap().to_string();

    let mut stream = resume(&[("Last-Event-ID", &ids[3])], "/a");
    assert_eq!(
        (from(&stream), stream.data(), stream.data()),
        (ids[3].clone(), "4".into(), "5".into())
    );
    let mut stream = resume(&[], &format!("/a?last_event_id={}", ids[4]));
    assert_eq!((from(&stream), stream.data()), (ids[4].clone(), "5".into()));
    let mut stream = resume(&[("Last-Event-ID", &ids[4])], "/a?last_event_id=earliest");
    assert_eq!(
        (from(&stream), stream.data()),
        (ids[4].clone(), "5".into()),
        "the header knows better"
    );
    let mut stream = resume(&[], "/a?last_event_id=earliest");
    assert_eq!((from(&stream), stream.data()), ("earliest".into(), "2".into()));

    // The oldest that is retained is 2: behind 1 nothing is lost, behind 0 something is.
    let mut stream = resume(&[("Last-Event-ID", &ids[1])], "/a");
    assert_eq!((from(&stream), stream.data()), (ids[1].clone(), "2".into()));
    let mut stream = resume(&[("Last-Event-ID", &ids[0])], "/a");
    assert_eq!(from(&stream), "gap");
    let gap = stream.next().unwrap();
    assert_eq!((gap.name.as_str(), gap.id), ("gap", None));
    let expected = format!(
        "{{\"topic\":\"a\",\"from\":\"{}\",\"to\":\"{}\",\"lost\":null,\"reason\":\"evicted\"}}",
        ids[0], ids[2]
    );
    assert_eq!(gap.data, expected);
    assert_eq!(stream.data(), "2");

    for unknown in ["zzzzzzzz-3", "garbage", "größe", "7\u{1}", &"x".repeat(8000)] {
        let mut client = server.connect();
        client
            .send(format!("GET /events/a HTTP/1.1\r\nHost: h\r\nLast-Event-ID: {unknown}\r\n\r\n"));
        if unknown.contains('\u{1}') {
            assert_eq!(client.answer().status, 400);
            continue;
        }
        let mut stream = Subscriber::asked(client);
        assert_eq!(from(&stream), "gap");
        assert!(stream.next().unwrap().data.contains("\"reason\":\"unknown\""));
        assert_eq!(stream.data(), "2");
    }
}

#[test]
fn an_id_from_before_a_restart_is_recognised() {
    let before = Server::start(&[]).publish("a", "x");
    let server = Server::start(&[]);
    server.publish("a", "y");
    let mut stream = server.subscribe_with("/a", &[("Last-Event-ID", &before)]);
    assert_eq!(stream.field("Pushv-Resumed-From"), Some("gap"));
    assert!(stream.next().unwrap().data.contains("\"from\":null"));
    assert_eq!(stream.data(), "y");
}

#[test]
fn a_publishers_id_is_published_once() {
    let server = Server::start(&[]);
    let mut stream = server.subscribe("/a");
    let post = |path: &str, data: &str| {
        let answer = server.connect().request("POST", path, &[], data.as_bytes());
        (
            answer.json("id"),
            answer.json("count"),
            answer.json("duplicates"),
            answer.json("subscribers"),
        )
    };
    let own = |count: &str, duplicates: &str| {
        ("my id".into(), count.into(), duplicates.into(), "1".into())
    };
    assert_eq!(post("/events/a?id=my%20id", "first"), own("1", "0"));
    assert_eq!(post("/events/a?id=my+id", "second"), own("0", "1"));
    let assigned = post("/events/a", "third").0;
    assert_eq!(post(&format!("/events/a?id={assigned}"), "fourth").1, "0");
    let event = stream.next().unwrap();
    assert_eq!((event.id.as_deref(), event.data.as_str()), (Some("my id"), "first"));
    assert_eq!(stream.data(), "third");
    let mut again = server.subscribe_with("/a", &[("Last-Event-ID", "my id")]);
    assert_eq!(again.field("Pushv-Resumed-From"), Some("my id"));
    assert_eq!(again.data(), "third");
}

#[test]
fn names_and_retries_go_out_with_the_event() {
    let server = Server::start(&[]);
    let mut stream = server.subscribe("/a");
    let path = "/events/a?event=price%20now&retry=1234&id=7";
    server.connect().request("POST", path, &[], b"5");
    let event = stream.next().unwrap();
    assert_eq!((event.name.as_str(), event.data.as_str()), ("price now", "5"));
    assert_eq!(stream.retries.last(), Some(&1234));
}

#[test]
fn a_body_of_many_events() {
    let server = Server::start(&[]);
    let mut stream = server.subscribe("/a");
    let body = "\u{feff}: comment\r\ndata: one\r\n\r\nid: 7\rdata: two\revent: x\r\rdata: 3\ndata: 4\n\n\
                id: lonely\n\ndata: unfinished\n";
    let media = [("Content-Type", "text/event-stream; charset=utf-8")];
    let answer = server.connect().request("POST", "/events/a", &media, body.as_bytes());
    assert_eq!((answer.json("count"), answer.json("duplicates")), ("3".into(), "0".into()));
    assert_eq!(stream.data(), "one");
    let event = stream.next().unwrap();
    assert_eq!((event.name.as_str(), event.id.as_deref(), &*event.data), ("x", Some("7"), "two"));
    let event = stream.next().unwrap();
    assert_eq!(event.data, "3\n4");
    assert_eq!(event.id, Some(answer.json("id")), "an id belongs to its own block");
}

#[test]
fn a_long_body_is_published_as_it_arrives() {
    let server = Server::start(&[]);
    let mut stream = server.subscribe("/a");
    let mut feed = server.connect();
    feed.send(
        "POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Type: text/event-stream\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
    );
    for nth in 0..50 {
        let event = format!("data: {nth}\n\n");
        // Each event in two chunks, the second of them behind the first one's arrival.
        let (first, second) = event.split_at(1 + nth % (event.len() - 1));
        feed.send(format!("{:x}\r\n{first}\r\n", first.len()));
        feed.send(format!("{:x};ext=1\r\n{second}\r\n", second.len()));
        assert_eq!(stream.data(), nth.to_string());
    }
    feed.send("0\r\nTrailer: x\r\n\r\n");
    let answer = feed.answer();
    assert_eq!((answer.status, answer.json("count")), (200, "50".into()));
    assert_eq!(feed.request("GET", "/healthz", &[], b"").status, 200, "the connection goes on");
}

#[test]
fn an_event_stream_that_goes_wrong_tells_how_far_it_came() {
    let server = Server::start(&[("event_bytes_max", "100"), ("log_bytes_max", "65536")]);
    let media = [("Content-Type", "text/event-stream")];
    let check = |bad: &[u8], status: u16| {
        let body = [b"data: good\n\n", bad, b"\n\ndata: never\n\n"].concat();
        let answer = server.connect().request("POST", "/events/a", &media, &body);
        assert_eq!((answer.status, answer.json("count")), (status, "1".into()), "{answer:?}");
        assert!(answer.json("error").len() > 10, "{answer:?}");
    };
    check(b"id: a\0b\ndata: x", 400);
    check(b"id: a\tb\ndata: x", 400);
    check(b"id: \ndata: x", 400);
    check(b"event: gap\ndata: x", 400);
    check(b"data: \xff\xfe", 400);
    check(&[b"data: ".as_slice(), &[b'x'; 101]].concat(), 413);
    let mut stream = server.subscribe("/a?last_event_id=earliest");
    for _ in 0..6 {
        assert_eq!(stream.data(), "good");
    }
}

#[test]
fn leaving_and_the_count_of_subscribers() {
    let server = Server::start(&[]);
    let count = || server.connect().request("POST", "/events/a", &[], b"x").json("subscribers");
    let (first, second, third) =
        (server.subscribe("/a"), server.subscribe("/a"), server.subscribe("/a"));
    assert_eq!(count(), "3");
    drop(first.client.socket);
    server.wait_for("closes_total{reason=\"peer_left\"}", 1);
    let mut half_closed = second;
    half_closed.client.finish();
    server.wait_for("closes_total{reason=\"peer_left\"}", 2);
    third.client.reset();
    server.wait_for("closes_total{reason=\"peer_reset\"}", 1);
    assert_eq!(count(), "0");
}

#[test]
fn a_subscriber_has_nothing_to_say() {
    let server = Server::start(&[]);
    let mut stream = server.subscribe("/a");
    stream.client.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    server.publish("a", "x");
    assert_eq!(stream.data(), "x", "a little is forgiven");
    stream.client.try_send(vec![b'x'; 1 << 20]);
    assert_eq!(stream.next(), None);
    server.wait_for("closes_total{reason=\"chatter\"}", 1);
}

#[test]
fn pages_of_configured_origins() {
    let server = Server::start(&[("cors_origins", "https://a.example,https://b.example")]);
    let stream = server.subscribe_with("/a", &[("Origin", "https://b.example")]);
    assert_eq!(stream.field("Access-Control-Allow-Origin"), Some("https://b.example"));
    assert_eq!(stream.field("Access-Control-Allow-Credentials"), Some("true"));
    assert_eq!(stream.field("Access-Control-Expose-Headers"), Some("Pushv-Resumed-From"));
    assert_eq!(stream.field("Vary"), Some("Origin"));
    let stream = server.subscribe_with("/a", &[("Origin", "https://c.example")]);
    assert_eq!(stream.field("Access-Control-Allow-Origin"), None);
    assert_eq!(stream.field("Access-Control-Allow-Credentials"), None);
    assert_eq!(stream.field("Vary"), Some("Origin"));

    let preflight = |origin: &str| {
        server.connect().request(
            "OPTIONS",
            "/events/a",
            &[
                ("Origin", origin),
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Private-Network", "true"),
            ],
            b"",
        )
    };
    let answer = preflight("https://a.example");
    assert_eq!(
        (answer.status, answer.field("Access-Control-Allow-Origin")),
        (204, Some("https://a.example"))
    );
    assert_eq!(answer.field("Access-Control-Allow-Methods"), Some("GET, HEAD, POST, OPTIONS"));
    let headers = answer.field("Access-Control-Allow-Headers").unwrap();
    for sent in ["Authorization", "Cache-Control", "Content-Type", "Last-Event-ID"] {
        assert!(headers.split(", ").any(|header| header == sent), "{sent}");
    }
    assert_eq!(answer.field("Access-Control-Allow-Credentials"), Some("true"));
    assert_eq!(answer.field("Access-Control-Allow-Private-Network"), Some("true"));
    assert_eq!(answer.field("Content-Length"), None);
    let foreign = preflight("https://c.example");
    assert_eq!(foreign.field("Access-Control-Allow-Methods"), None);
    assert_eq!(foreign.field("Access-Control-Allow-Private-Network"), None);

    let post = |origin: &str| {
        server.connect().request("POST", "/events/a", &[("Origin", origin)], b"x").status
    };
    assert_eq!(post("https://a.example"), 200);
    assert_eq!(post("https://c.example"), 403, "a page that is merely visited may not publish");
    assert_eq!(post("http://localhost"), 200, "a page of the server's own may");
    assert_eq!(post("null"), 403);
}

#[test]
fn publishing_with_a_token() {
    let mut config = support::config(&[]);
    config.publish_token = Some(pushv::config::Secret::new("s3cret"));
    let server = Server::with_config(config);
    let post =
        |fields: &[(&str, &str)]| server.connect().request("POST", "/events/a", fields, b"x");
    let answer = post(&[]);
    assert_eq!((answer.status, answer.field("WWW-Authenticate")), (401, Some("Bearer")));
    assert_eq!(post(&[("Authorization", "Bearer wrong")]).status, 401);
    assert_eq!(post(&[("Authorization", "Basic s3cret")]).status, 401);
    assert_eq!(post(&[("Authorization", "bearer s3cret")]).status, 200);
    assert_eq!(server.subscribe("/a?last_event_id=earliest").data(), "x");
}

/// A reader that loses the connection before anything was published has a position all the same.
#[test]
fn a_stream_without_events_can_be_resumed() {
    let server = Server::start(&[]);
    server.publish("a", "before");
    let mut client = server.connect();
    client.send("GET /events/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.take_through(b"\r\n\r\n");
    let begun = String::from_utf8(client.take_through(b"\n\n\r\n")).unwrap();
    let id = begun.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    client.reset();
    server.publish("a", "meanwhile");
    let mut back = server.subscribe_with("/a", &[("Last-Event-ID", id)]);
    assert_eq!(back.field("Pushv-Resumed-From"), Some(id));
    assert_eq!(back.data(), "meanwhile");
}
