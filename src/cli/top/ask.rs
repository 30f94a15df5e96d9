//! Asking for `/connections`, without waiting for the answer.

use super::answers::Streams;
use super::text::clean;
use super::view::Question;
use crate::cli::settings::admin_fields;
use pushv::client::exchange::{self, Answer};
use pushv::client::url::Url;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, sync_channel};

/// What was answered.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// As it came.
    pub json: Value,
    pub streams: Streams,
}

/// Why there is no answer that could be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The server does not understand the question.
    Question(String),
    /// There is no server, or something else is there.
    Server(String),
}

/// Asks in a thread: a server whose loop stalls is what somebody watches out for, and the keys
/// have to work meanwhile.
pub fn begin(admin: &Url, question: &Question) -> Receiver<Result<Reply, Refusal>> {
    let url = Url { target: target(question), ..admin.clone() };
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        // Nobody may be waiting any more.
        let _gone = sender.send(ask(&url));
    });
    receiver
}

/// Asks and waits, for a few seconds at most.
pub fn ask_now(admin: &Url, question: &Question) -> Result<Reply, Refusal> {
    ask(&Url { target: target(question), ..admin.clone() })
}

fn ask(url: &Url) -> Result<Reply, Refusal> {
    let fields = admin_fields();
    let Answer { status, body } =
        exchange::exchange_with(url, "GET", &fields, "").map_err(Refusal::Server)?;
    match status {
        200 => {}
        400 => return Err(Refusal::Question(error(&body))),
        401 => {
            let hint = "it wants a token, which is taken from PUSHV_ADMIN_TOKEN";
            return Err(Refusal::Server(format!("{url}: {hint}")));
        }
        _ => return Err(Refusal::Server(format!("HTTP status {status} for {url}"))),
    }
    let read = || -> serde_json::Result<Reply> {
        let json: Value = serde_json::from_str(&body)?;
        Ok(Reply { streams: serde_json::from_value(json.clone())?, json })
    };
    read().map_err(|error| Refusal::Server(format!("{url}: {error}")))
}

/// What a refusal of the server says. It goes to a terminal, and `--admin` may name anybody.
fn error(body: &str) -> String {
    let json = serde_json::from_str::<Value>(body).unwrap_or_default();
    clean(json["error"].as_str().unwrap_or(body.trim()))
}

fn target(question: &Question) -> String {
    let mut target = format!("/connections?sort={}&limit={}", question.sort, question.limit);
    if let Some(topic) = &question.topic {
        target.push_str("&topic=");
        for byte in topic.bytes() {
            // The unreserved characters of RFC 3986 §2.3.
            match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                    target.push(char::from(byte));
                }
                _ => drop(write!(target, "%{byte:02X}")), // a String takes everything
            }
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn questions() {
        let mut question = Question {
            admin: String::new(),
            sort: "age",
            topic: None,
            limit: 7,
            interval_ms: 1000,
            is_paused: false,
        };
        assert_eq!(target(&question), "/connections?sort=age&limit=7");
        question.topic = Some("a b&limit=9/ü".into());
        assert_eq!(
            target(&question),
            "/connections?sort=age&limit=7&topic=a%20b%26limit%3D9%2F%C3%BC"
        );
    }

    fn answered(answer: &str) -> Result<Reply, Refusal> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = answer.to_string();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut bytes = [0; 512];
                let count = socket.read(&mut bytes).unwrap();
                request.extend_from_slice(&bytes[..count]);
            }
            socket.write_all(answer.as_bytes()).unwrap();
        });
        let reply = ask(&Url::parse(&url).unwrap());
        server.join().unwrap();
        reply
    }

    #[test]
    fn answers() {
        let http = |status: u16, body: &str| {
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let reply = answered(&http(200, r#"{"count":2,"connections":[{"id":"1-2"}]}"#)).unwrap();
        assert_eq!((reply.streams.count, &reply.json["count"]), (2, &Value::from(2)));
        let refused = answered(&http(400, r#"{"error":"no such sort\u001b[2J"}"#)).unwrap_err();
        assert_eq!(refused, Refusal::Question("no such sort?[2J".into()));
        for answer in [&http(404, "{}"), &http(200, "hello"), "SSH-2.0-x\r\n"] {
            assert!(matches!(answered(answer), Err(Refusal::Server(_))), "{answer}");
        }
    }
}
