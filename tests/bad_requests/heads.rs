//! Heads that are no heads, or not what they seem.

use crate::scene::Scene;
use crate::table::{Row, answered, bare, check, post, refused, refused_bytes, request};

pub fn table() -> Vec<Row> {
    let hosted = |fields: &str| format!("GET /healthz HTTP/1.1\r\n{fields}\r\n").into_bytes();
    let host = |host: &str| hosted(&format!("Host: {host}\r\n"));
    let get = |line: &str| format!("{line}\r\nHost: h\r\n\r\n").into_bytes();
    let whole = |head: &str| head.as_bytes().to_vec();
    let field = |field: &str| post(field, "");
    let mut rows = Vec::new();

    rows.extend(refused_bytes(3, "host-missing", 400, hosted("")));
    rows.extend(refused(3, "host-twice", 400, "h|other", |second| {
        hosted(&format!("Host: h\r\nHost: {second}\r\n"))
    }));
    rows.extend(refused(3, "host-malformed", 400, "u@h|h/x|a, b|h:x|[::1|%zz|h?x|a b", host));
    rows.extend(answered(3, "host-empty", 200, 0, "", host));
    rows.extend(refused(3, "absolute-form-host", 400, "u@h|h:x|a,b", |authority| {
        bare(&format!("GET http://{authority}/healthz"))
    }));
    rows.extend(answered(3, "absolute-form", 200, 0, "http|HTTP|https", |scheme| {
        bare(&format!("GET {scheme}://other:80/healthz"))
    }));

    let spaced = "Content-Length : 1|Transfer-Encoding : chunked|X\t: a|Host : h";
    rows.extend(refused(4, "space-before-colon", 400, spaced, field));
    let folded = "X: a\r\n b|X: a\r\n\tb|Transfer-Encoding:\r\n chunked|X:\r\n \r\nY: b";
    rows.extend(refused(4, "obs-fold", 400, folded, field));
    let leading = "GET / HTTP/1.1\r\n Host: h\r\n\r\n|GET / HTTP/1.1\r\n\tX: a\r\nHost: h\r\n\r\n|\
                   GET / HTTP/1.1\r\n \r\nHost: h\r\n\r\n";
    rows.extend(refused(4, "space-before-first-field", 400, leading, whole));
    let names = ": a|Bad[Name: a|X\tY: a|X\u{85}: a|X\u{e9}: a|X(: a|X\x7f: a|X";
    rows.extend(refused(4, "field-name", 400, names, field));

    let values = "X: a\0b|X: \x07|X: a\x0bb|X: \x0c|X: a\x7f|X: \x1b[0m";
    rows.extend(refused(5, "control-in-value", 400, values, field));
    rows.extend(refused(5, "bare-cr", 400, "X: a\rb|X: a\r\rY: b|X\r: a|\r|X: a\r", field));
    rows.extend(refused_bytes(5, "bare-cr", 400, "GET / HTTP/1.1\rHost: h\r\r"));
    rows.extend(answered(5, "opaque-value", 200, 0, "X: \u{e9}|X: \u{feff}a\tb|X:", |field| {
        request("GET /healthz", field, "")
    }));

    let line_feeds = "GET / HTTP/1.1\nHost: h\n\n|GET / HTTP/1.1\nHost: h\r\n\r\n|\
                      GET / HTTP/1.1\r\nHost: h\n\r\n|GET / HTTP/1.1\r\nHost: h\r\n\n|\
                      \nGET / HTTP/1.1\r\nHost: h\r\n\r\n|GET / HTTP/1.1\r\nHost: h\r\nX: a\nY: b\r\n\r\n";
    rows.extend(refused(6, "bare-lf", 400, line_feeds, whole));

    let versions = "GET / HTTP/9.9|GET / HTTP/2.0|GET / HTTP/1|GET / http/1.1|GET / HTTP/01.01|\
                    GET / HTTP/1.2";
    rows.extend(refused(17, "version", 505, versions, get));
    rows.extend(refused(17, "space-in-target", 505, "GET /a b HTTP/1.1|GET / x HTTP/1.1", get));
    let lines = "GET  / HTTP/1.1|GET\t/ HTTP/1.1|GET / HTTP/1.1\t| GET / HTTP/1.1|GET|GET |GET /|/|GET / HTTP/1.1 |GET / HTTP/1.1 x";
    rows.extend(refused(17, "request-line", 400, lines, get));
    let targets = "/\0|/\u{e9}|/\u{1}|*|healthz|/#a|ftp://h/|http://|http:///a|h:80|/\x7f";
    rows.extend(refused(17, "target", 400, targets, |target| bare(&format!("GET {target}"))));

    rows.extend(refused_bytes(18, "http-2", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x9a\x1f\r\n\r\n";
    rows.extend(refused_bytes(18, "not-http", 400, *tls));
    let noise: Vec<u8> = (0..=255).map(|nth: u8| nth.wrapping_mul(167).wrapping_add(243)).collect();
    rows.extend(refused_bytes(18, "not-http", 400, noise));
    rows.extend(refused(18, "http-0-9", 400, "GET /\r\n|GET /\r\nHost: h\r\n\r\n", whole));
    rows.extend(duplicates());
    rows
}

/// Fields that are acted on and cannot be lists.
fn duplicates() -> Vec<Row> {
    let twice = |name: &str| post(&format!("{name}: 1\r\nX: y\r\n{name}: 1"), "x");
    let names = "Authorization|Origin|Content-Type|content-length|Transfer-Encoding";
    let mut rows = refused(4, "field-twice", 400, names, twice);
    rows.extend(refused_bytes(4, "origin-malformed", 400, {
        let head = b"POST /events/a HTTP/1.1\r\nHost: h\r\nOrigin: http://\xff\r\n";
        [&head[..], b"Content-Length: 1\r\n\r\nx"].concat()
    }));
    rows
}

#[test]
fn heads() {
    let scene = Scene::start(&[]);
    check(&scene, &table());
    scene.end();
}
