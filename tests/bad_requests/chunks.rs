//! Chunked bodies whose framing is wrong, or costs more than it carries.

use crate::scene::Scene;
use crate::table::{Row, answered, check, chunked, ends_in_order, refused, refused_bytes};

pub fn table() -> Vec<Row> {
    let sized = |size: &str| chunked(format!("{size}\r\nhello\r\n0\r\n\r\n"));
    let ended = |body: &str| chunked(format!("{body}0\r\n\r\n"));
    let mut rows = Vec::new();
    let sizes = "0x5|+5|-1|1_0| 5|5 |5\t||;x|g|5g|FFFFFFFFFFFFFFFF|FFFFFFFFFFFFFFFF0|\
                 000000005|100000000|5 5|5 5;x|5 x;y| ;x|5 \u{b};x";
    rows.extend(refused(11, "chunk-size", 400, sizes, sized));
    rows.extend(answered(11, "chunk-size-zeros", 200, 1, "005|00000005", sized));

    let longer = "5\r\nhellooo\r\n|5\r\nhello0\r\n|5\r\nhello0|4\r\nhello\r\n";
    rows.extend(refused(12, "chunk-end", 400, longer, ended));
    rows.extend(refused(12, "chunk-end", 400, "5\r\nhel\r\n0\r\n|6\r\nhello\r\n", ended));
    let line_feeds = "5\nhello\r\n|5\r\nhello\n|5\r\nhello\r\n0\n|5\r\nhello\r\n0\r\n\n";
    rows.extend(refused(6, "chunk-bare-lf", 400, line_feeds, ended));
    rows.extend(refused(
        5,
        "chunk-bare-cr",
        400,
        "5\rhello\r\n|5\r\nhello\r|5\r\r\nhello\r\n",
        ended,
    ));

    let controls = "5;\nhello\r\n|5;a\0b\r\nhello\r\n|5;a\rb\r\nhello\r\n|5;\x07\r\nhello\r\n|\
                    5;a=\u{e9}\r\nhello\r\n|5;\x7f\r\nhello\r\n";
    rows.extend(refused(13, "chunk-extension-control", 400, controls, ended));
    let long = "x".repeat(64 << 10);
    rows.extend(refused_bytes(13, "chunk-extension-long", 400, sized(&format!("5;{long}"))));
    // One on each chunk, and many that are short enough one by one.
    for (length, count) in [(1 << 10, 5), (200, 100)] {
        let chunk = format!("1;{}\r\nx\r\n", "x".repeat(length));
        rows.extend(refused_bytes(13, "chunk-extension-long", 400, ended(&chunk.repeat(count))));
    }
    let extended = "5;|5;a|5;a=b;c=\"d e\"|5; a=;;|5 ;x=y|5\t ;x|5 ;";
    rows.extend(answered(13, "chunk-extension", 200, 1, extended, sized));
    let blanks = " ".repeat(64 << 10);
    rows.extend(refused_bytes(13, "chunk-extension-long", 400, sized(&format!("5{blanks};x"))));

    let trailed = |trailer: &str| chunked(format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"));
    let named = "Content-Length: 9|Transfer-Encoding: gzip|Host: x|Authorization: Bearer x|\
                 Content-Length: 9\r\nTransfer-Encoding: chunked|Connection: close|X:";
    rows.extend(answered(14, "trailer", 200, 1, named, trailed));
    let malformed = "X: a\0|: a|X : a| X: a|X|X: a\r\n b|X: a\nY: b|X: a\rb|GET / HTTP/1.1";
    rows.extend(refused(14, "trailer-malformed", 400, malformed, trailed));
    let long = format!("X: {}", "x".repeat(9000));
    rows.extend(refused_bytes(14, "trailer-long", 400, trailed(&long)));
    rows
}

#[test]
fn chunks() {
    let scene = Scene::start(&[]);
    check(&scene, &table());
    scene.end();
}

/// What is cut anywhere is not published, and answered at the deadline of the body.
#[test]
fn a_body_that_does_not_end() {
    let scene = Scene::start(&[]);
    let whole = chunked("5;x\r\nhello\r\n0\r\nT: u\r\n\r\n");
    let head_bytes = whole.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let mut clients: Vec<_> = (head_bytes..whole.len())
        .map(|cut| {
            let mut client = scene.connect();
            client.send(&whole[..cut]);
            client
        })
        .collect();
    scene.catches_up();
    scene.patch("{\"body_timeout_ms\":100}");
    for client in &mut clients {
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("Connection")), (408, Some("close")));
        ends_in_order(client);
    }
    assert_eq!(scene.published("a"), 0);
    drop(clients);
    scene.end();
}
