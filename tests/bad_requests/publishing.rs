//! What publishers say becomes lines of every subscriber's stream. What could end a line, or could
//! not come back as it went, is refused; and what is data arrives as data.

use crate::scene::Scene;
use crate::support::Subscriber;
use crate::table::{Row, check, post, request};
use pushv::wire::chunk;

pub fn table() -> Vec<Row> {
    let plain = |query: String| {
        request(&format!("POST /events/a?{query}"), "Content-Length: 8", "injected")
    };
    let feed = |body: &[u8]| {
        let fields = format!("Content-Type: text/event-stream\r\nContent-Length: {}", body.len());
        post(&fields, body)
    };
    let mut rows = Vec::new();
    let mut refuse = |case, deviation, sent, closes| {
        rows.push(Row { case, deviation, sent, status: 400, closes, published: 0 });
    };
    for field in ["id", "event"] {
        for control in ["%0A", "%0D", "%0d%0a", "%00", "%7F", "%C2%85", "%09", "%1b", "%C2%80"] {
            for value in [format!("x{control}data:%20injected"), control.into()] {
                refuse(22, "publish-control", plain(format!("{field}={value}")), true);
            }
        }
        for invalid in ["%FF", "%C0%8A", "%ED%A0%80", "x%80", "%", "%4", "%zz"] {
            refuse(22, "publish-not-utf-8", plain(format!("{field}=x{invalid}")), true);
        }
        for control in [&b"\0"[..], b"\x7f", b"\t", b"\x1b", b"\xc2\x85"] {
            let body = [field.as_bytes(), b": x", control, b"y\ndata: injected\n\n"].concat();
            refuse(22, "publish-control", feed(&body), true);
        }
        for invalid in [&b"\xff"[..], b"\xc0\x8a", b"\xed\xa0\x80"] {
            let body = [field.as_bytes(), b": x", invalid, b"\ndata: injected\n\n"].concat();
            refuse(22, "publish-not-utf-8", feed(&body), true);
        }
    }
    refuse(22, "publish-not-utf-8", feed(b"data: \xff\n\n"), true);
    refuse(22, "publish-not-utf-8", post("Content-Length: 3", b"a\xffb"), false);
    refuse(22, "publish-reserved", plain("event=gap".into()), true);
    refuse(22, "publish-reserved", plain("event=heartbeat".into()), true);
    for word in ["earliest", "latest", "gap"] {
        refuse(22, "publish-reserved", plain(format!("id={word}")), true);
    }
    for query in ["retry=abc", "retry=", "retry=-1", "retry=1.5", "colour=red", "retry=1%0A"] {
        refuse(22, "publish-parameter", plain(query.into()), true);
    }
    let beyond_ascii = ["%C3%BC", "gr%C3%B6%C3%9Fe", "%C2%A0", "x%E2%80%A8", "%F0%9F%A6%80"];
    for id in ["", "%20x", "x%20", "+x", "%09x", "x%09"].iter().chain(&beyond_ascii) {
        refuse(24, "id-that-would-not-return", plain(format!("id={id}")), true);
    }
    for retry in ["0", "00", "86400001", "2147483648", "4294967296", "99999999999999999999"] {
        refuse(24, "retry-out-of-range", plain(format!("retry={retry}")), true);
        let body = format!("retry: {retry}\ndata: injected\n\n");
        refuse(24, "retry-out-of-range", feed(body.as_bytes()), true);
    }
    for line in ["id", "id:", "id:  x", "id: x ", "id: \u{fc}", "id: x\u{a0}", "id: \u{1f980}"] {
        let body = format!("{line}\ndata: injected\n\n");
        refuse(24, "id-that-would-not-return", feed(body.as_bytes()), true);
    }
    refuse(24, "id-long", plain(format!("id={}", "x".repeat(257))), true);
    refuse(24, "id-long", plain(format!("event={}", "x".repeat(257))), true);
    let long = format!("id: {}\ndata: injected\n\n", "x".repeat(5000));
    refuse(24, "id-long", feed(long.as_bytes()), true);
    rows
}

/// Every row, and then the bytes of a subscriber who was there all the time: it got one event, and
/// not a line beside.
#[test]
fn nothing_is_injected() {
    let scene = Scene::start(&[("heartbeat", "off")]);
    let stream = scene.subscribe("/a", &[]);
    check(&scene, &table());
    let mut client = scene.connect();
    let id = client.request("POST", "/events/a?event=e", &[], b"only").json("id");
    let bytes = bytes_through(stream, format!("data: only\nid: {id}\n\n").as_bytes());
    let retry = bytes.strip_prefix("retry: ").expect("it begins so");
    let epoch = id.split('-').next().expect("an epoch");
    let (_, rest) = retry.split_once('\n').expect("a line");
    let begin = format!(": {epoch}\nevent: heartbeat\nid: {epoch}-");
    let begun = rest.strip_prefix(&begin).expect("a position");
    let (position, rest) = begun.split_once("\n\n").expect("the end of the first block");
    assert!(position.bytes().all(|byte| byte.is_ascii_digit()), "{position:?}");
    assert_eq!(rest, format!("event: e\ndata: only\nid: {id}\n\n"));
    drop(client);
    scene.end();
}

/// The body of a stream, up to `end`.
fn bytes_through(mut stream: Subscriber, end: &[u8]) -> String {
    let mut chunks = chunk::Decoder::default();
    let mut body = Vec::new();
    loop {
        let received = std::mem::take(&mut stream.client.received);
        let mut bytes = &received[..];
        while !bytes.is_empty() {
            let part = chunks.decode(bytes).expect("well-formed chunks");
            bytes = &bytes[part.consumed..];
            body.extend_from_slice(part.data);
        }
        if body.ends_with(end) {
            return String::from_utf8(body).expect("UTF-8");
        }
        assert!(stream.client.receive(), "ended after {:?}", String::from_utf8_lossy(&body));
    }
}

/// Case 23. Data arrives as it was sent, but for CR, which the format cannot carry: CR and CRLF
/// arrive as LF. Whatever it looks like, it is exactly one event.
#[test]
fn data_is_data() {
    let scene = Scene::start(&[]);
    let mut stream = scene.subscribe("/a", &[]);
    let mut client = scene.connect();
    let mut data: Vec<String> = [
        "",
        " ",
        "a\nb",
        "a\r\nb",
        "a\rb",
        "a\n\nb",
        "a\n",
        "\n",
        "\r",
        "\r\n",
        "\r\r",
        "\n\r",
        "a\n\n",
        "\n\n\n",
        " leading",
        "  two",
        "\ttab",
        "trailing ",
        ":x",
        ": comment",
        "data: x",
        "id: 1",
        "event: x\ndata: y\n\n",
        "retry: 1",
        "\u{feff}",
        "\u{feff}bom",
        "a\u{feff}",
        "\0",
        "a\0b",
        "\u{2028}",
        "a\u{2029}b",
        "\u{b}\u{c}",
        "\u{85}",
        "\u{1b}[0m",
        "\u{7f}",
        "{\"a\":\"\\r\\n\"}",
        "5\r\nhello\r\n0\r\n\r\n",
        "\u{10ffff}",
        "Größe",
        "%0A",
        "+",
    ]
    .map(String::from)
    .into();
    data.push("\n".repeat(5_000));
    data.push("\r\n\r".repeat(5_000));
    data.push("x".repeat(65_536));
    for sent in &data {
        let answer = client.request("POST", "/events/a", &[], sent.as_bytes());
        assert_eq!((answer.status, answer.json("count")), (200, "1".into()), "{sent:?}");
        let event = stream.next().expect("an event");
        let expected = sent.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!((&event.name[..], &event.data), ("", &expected), "{sent:?}");
        assert_eq!(event.id, Some(answer.json("id")), "{sent:?}");
    }
    assert_eq!(scene.published("a"), data.len() as u64, "one event each");
    drop((stream, client));
    scene.end();
}

/// Case 24. Whatever id is accepted comes back in `Last-Event-ID` and is known there.
#[test]
fn an_accepted_id_resumes() {
    let scene = Scene::start(&[]);
    let mut client = scene.connect();
    let long = "x".repeat(256);
    let printable: String = ('!'..='~')
        .flat_map(|byte| format!("%{:02x}", byte as u8).chars().collect::<Vec<_>>())
        .collect();
    let ids = ["1", "a%20b", "a%20%20b", "%25", "a%3Bb%2Cc", &printable, &long];
    for (nth, id) in ids.iter().enumerate() {
        let path = format!("/events/a?id={id}");
        let answer = client.request("POST", &path, &[], format!("with {nth}").as_bytes());
        assert_eq!(answer.status, 200, "{id}: {}", answer.text());
        let next = client.request("POST", "/events/a", &[], format!("after {nth}").as_bytes());
        let sent = answer.json("id");
        let mut stream = scene.subscribe("/a", &[("Last-Event-ID", &sent)]);
        assert_eq!(stream.field("Pushv-Resumed-From"), Some(&*sent), "{id}");
        let event = stream.next().expect("an event");
        assert_eq!((event.data, event.id), (format!("after {nth}"), Some(next.json("id"))));
    }
    drop(client);
    scene.end();
}
