//! Heads, whole and cut anywhere.

use super::*;

/// The verdict on a whole head, which must be the same with anything behind it, and before
/// the head is whole the verdict may only be "more" or the same refusal.
fn verdict(request: &[u8]) -> Result<Option<(Head<'_>, usize)>, Refusal> {
    let limits = HeadLimits::default();
    let verdict = parse(request, &limits);
    for end in 0..request.len().min(400) {
        match (parse(&request[..end], &limits), &verdict) {
            (Ok(None), _) => {}
            (Err(early), Err(late)) => assert_eq!(early.status, late.status),
            (early, late) => panic!("{early:?} at {end}, then {late:?}"),
        }
    }
    verdict
}

#[track_caller]
fn accepted(request: &str) -> Head<'_> {
    let (head, bytes) = verdict(request.as_bytes()).expect("accepted").expect("complete");
    assert_eq!(bytes, request.len());
    head
}

#[track_caller]
fn refused(request: impl AsRef<[u8]>, status: u16) {
    let request = request.as_ref();
    match verdict(request) {
        Err(refusal) => assert_eq!(
            refusal.status,
            status,
            "{refusal} for {:?}",
            request.escape_ascii().to_string()
        ),
        Ok(parsed) => {
            panic!("accepted as {parsed:?}: {:?}", request.escape_ascii().to_string())
        }
    }
}

#[track_caller]
fn refused_with(field: &str, status: u16) {
    refused(format!("POST / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n"), status);
}

#[test]
fn what_the_server_acts_on() {
    let head = accepted(
        "GET /events/a?x=y HTTP/1.1\r\nhost: h:80\r\nLAST-EVENT-ID: 7\r\nOrigin: http://o\r\n\
         Content-Type: Text/Plain; charset=utf-8\r\nConnection: keep-alive, Close\r\nAuthorization: Bearer t\r\n\r\n",
    );
    assert_eq!(head.method, Method::Get);
    assert_eq!((head.path, head.query), ("/events/a", "x=y"));
    assert_eq!((head.host, head.origin), (Some("h:80"), Some("http://o")));
    assert_eq!(head.last_event_id, Some(&b"7"[..]));
    assert_eq!(head.media_type, Some("Text/Plain"));
    assert_eq!(head.authorization, Some(&b"Bearer t"[..]));
    assert!(head.close);
    assert!(!head.content_encoded && !head.asks_private_network);
    assert_eq!(head.body, BodyLength::Bytes(0));
}

#[test]
fn content_codings() {
    let encoded = |fields: &str| {
        accepted(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")).content_encoded
    };
    for none in ["", "identity", "IDENTITY", "identity, identity", " , identity,"] {
        assert!(!encoded(&format!("Content-Encoding: {none}")), "{none:?}");
    }
    for coding in ["gzip", "x-gzip", "br", "identity, gzip", "gzip,identity", "identityx", "\u{e9}"]
    {
        assert!(encoded(&format!("content-encoding: {coding}")), "{coding:?}");
    }
    assert!(encoded("Content-Encoding: gzip\r\nContent-Encoding: identity"));
    assert!(encoded("Content-Encoding: identity\r\nContent-Encoding: gzip"));
}

#[test]
fn private_networks() {
    let asks = |value: &str| {
        let name = "Access-Control-Request-Private-Network";
        accepted(&format!("OPTIONS / HTTP/1.1\r\nHost: h\r\n{name}: {value}\r\n\r\n"))
            .asks_private_network
    };
    assert!(asks("true"));
    for other in ["", "false", "TRUE", "true, true", "1"] {
        assert!(!asks(other), "{other:?}");
    }
}

/// The end of the connection cannot end a request's body.
#[test]
fn lengths_in_http_1_0() {
    for method in ["POST", "PATCH"] {
        refused(format!("{method} / HTTP/1.0\r\n\r\n"), 400);
        let given = format!("{method} / HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(accepted(&given).body, BodyLength::Bytes(0));
        let later = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(accepted(&later).body, BodyLength::Bytes(0));
    }
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        accepted(&format!("{method} / HTTP/1.0\r\n\r\n"));
    }
}

#[test]
fn versions_and_persistence() {
    assert!(accepted("GET / HTTP/1.0\r\n\r\n").close);
    assert!(!accepted("GET / HTTP/1.1\r\nHost: h\r\n\r\n").close);
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    for version in ["HTTP/9.9", "HTTP/2.0", "http/1.1", "HTTP/01.01"] {
        refused(format!("GET / {version}\r\nHost: h\r\n\r\n"), 505);
    }
    refused("GET /\r\n\r\n", 400);
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400);
}

#[test]
fn request_lines() {
    for line in [
        "GET  / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /\0 HTTP/1.1",
    ] {
        let result =
            verdict(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()).map(|parsed| parsed.is_some());
        assert!(matches!(result, Err(Refusal { status: 400 | 505, .. })), "{line}: {result:?}");
    }
    for target in ["/é", "/#a", "a", "ftp://h/", "http://u@x/", "http://x:y/", "http://?a"] {
        refused(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    }
    let absolute = accepted("GET http://x:80/y?z HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((absolute.path, absolute.query, absolute.host), ("/y", "z", Some("x:80")));
    assert_eq!(accepted("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").path, "*");
    assert_eq!(accepted("get / HTTP/1.1\r\nHost: h\r\n\r\n").method, Method::Unknown);
    assert_eq!(accepted("CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n").method, Method::Foreign);
    assert_eq!(accepted("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n").method, Method::Foreign);
}

#[test]
fn line_ends_and_empty_lines() {
    refused("GET / HTTP/1.1\nHost: h\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: h\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: h\r\n\n", 400);
    refused("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400);
    accepted("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    refused("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400);
}

#[test]
fn fields() {
    for field in [
        "X : a",
        "X: a\r\n b",
        ": a",
        "B[d: a",
        "X: a\rb",
        "X: a\0",
        "X: \x07",
        "Transfer-Encoding:\r\n chunked",
    ] {
        refused_with(field, 400);
    }
    refused("GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400);
    for host in [
        "u@h",
        "h/x",
        "a, b",
        "a,b",
        "h\r\nHost: h",
        "h?x",
        "a:b:c",
        "h:x",
        "[::1",
        "[::1]x",
        "[h]",
        "%zz",
        "h%",
        "h%2",
    ] {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
    }
    for twice in ["Authorization", "Origin", "Content-Type"] {
        refused_with(&format!("{twice}: a\r\n{twice}: a"), 400);
    }
    refused(b"GET / HTTP/1.1\r\nHost: h\r\nOrigin: http://\xff\r\n\r\n", 400);
    refused_with("Expect: 200-maybe", 417);
}

#[test]
fn hosts() {
    for host in ["", "h", "h:", "h:80", "127.0.0.1:8080", "[::1]", "[::1]:80", "a-b_c.d~", "%41"] {
        assert_eq!(accepted(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).host, Some(host));
    }
}

#[test]
fn content_lengths() {
    let length = |value: &str| {
        parse(
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {value}\r\n\r\n").as_bytes(),
            &HeadLimits::default(),
        )
        .map(|parsed| parsed.unwrap().0.body)
    };
    for value in ["5", "005", "\t5", "5 "] {
        assert_eq!(length(value), Ok(BodyLength::Bytes(5)), "{value:?}");
    }
    for value in [
        "+5",
        "-1",
        "-0",
        "abc",
        "0x5",
        "0o5",
        "1_0",
        "1 0",
        "1Z",
        "",
        "99999999999999999999",
        "5, 10",
        "5, 5",
    ] {
        refused_with(&format!("Content-Length: {value}"), 400);
    }
    refused_with("Content-Length: 5\r\nContent-Length: 5", 400);
}

#[test]
fn transfer_encodings() {
    for value in ["chunked", "Chunked", "chunked "] {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {value}\r\n\r\n");
        assert_eq!(accepted(&request).body, BodyLength::Chunked);
    }
    for value in ["gzip", "identity"] {
        refused_with(&format!("Transfer-Encoding: {value}"), 501);
    }
    for value in [
        "",
        "xchunked",
        "chunkedchunked",
        "chunked, gzip",
        "gzip, chunked",
        "chunked, chunked",
        "\u{a0}chunked",
    ] {
        refused_with(&format!("Transfer-Encoding: {value}"), 400);
    }
    refused_with("Transfer-Encoding: \u{b}chunked", 400);
    refused_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400);
    refused_with("Transfer-Encoding: chunked\r\nContent-Length: 5", 400);
    refused_with("Content-Length: 5\r\nTransfer-Encoding: CHUNKED", 400);
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

#[test]
fn sizes() {
    accepted(&format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(8000)));
    refused(format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(9000)), 414);
    refused(format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(100_000)), 414);
    accepted(&format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "X".repeat(32)));
    for bytes in [33, 100_000] {
        refused(format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "X".repeat(bytes)), 501);
    }
    refused_with(&format!("X: {}", "x".repeat(100_000)), 431);
    refused_with(&"X: y\r\n".repeat(200), 431);
    refused("\r\n".repeat(500_000), 400);
}
