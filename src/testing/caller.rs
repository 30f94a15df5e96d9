//! A client that asks for one thing after another without waiting for answers, and reads those as
//! slowly as it likes.
//!
//! It knows what may be answered to each, and that each is answered in its turn. On the admin listener
//! it may look at the server's state as a stream.

use super::access::TOKEN;
use super::answer::{self, Answer};
use super::scenario::TOPICS;
use crate::server::Door;
use crate::wire::chunk;
use crate::wire::decode::{Decoder, Item};
use std::collections::VecDeque;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // they are named as the resources are
pub enum Ask {
    Health,
    Ready,
    Nowhere,
    Options,
    /// The head of a stream.
    Head,
    /// A publish without a topic.
    PublishNowhere,
    /// From here on, of the admin listener: the live page.
    Page,
    Metrics,
    Topics,
    /// A query of `/connections`.
    Connections(&'static str),
    /// One connection.
    Connection(&'static str),
    Knobs,
    KnobsOf(u8),
    /// A change of knobs.
    Turn(&'static str),
    /// A change of a topic's knobs.
    TurnOf(u8, &'static str),
    /// A change that must be refused.
    TurnWrongly(&'static str),
    /// The server's state, as a stream.
    Live,
}

impl Ask {
    /// Where it is asked.
    pub fn door(self) -> Door {
        use Ask::{Head, Health, Nowhere, Options, PublishNowhere, Ready};
        match self {
            Health | Ready | Nowhere | Options | Head | PublishNowhere => Door::Public,
            _ => Door::Admin,
        }
    }

    fn request(self) -> String {
        let (method, target, body) = match self {
            Ask::Health => ("GET", "/healthz".into(), ""),
            Ask::Ready => ("GET", "/readyz".into(), ""),
            Ask::Nowhere => ("GET", "/nowhere".into(), ""),
            Ask::Options => ("OPTIONS", "/events/t0".into(), ""),
            Ask::Head => ("HEAD", "/events/t0".into(), ""),
            Ask::PublishNowhere => ("POST", "/events".into(), ""),
            Ask::Page => ("GET", "/".into(), ""),
            Ask::Metrics => ("GET", "/metrics".into(), ""),
            Ask::Topics => ("GET", "/topics".into(), ""),
            Ask::Connections(query) => ("GET", format!("/connections?{query}"), ""),
            Ask::Connection(id) => ("GET", format!("/connections/{id}"), ""),
            Ask::Knobs => ("GET", "/knobs".into(), ""),
            Ask::KnobsOf(topic) => ("GET", format!("/knobs?topic=t{topic}"), ""),
            Ask::Turn(json) | Ask::TurnWrongly(json) => ("PATCH", "/knobs".into(), json),
            Ask::TurnOf(topic, json) => ("PATCH", format!("/knobs?topic=t{topic}"), json),
            Ask::Live => ("GET", "/live".into(), ""),
        };
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{length}\r\n{body}"
        )
    }

    /// What is wrong with an answer to it, if anything is; `closely` reads its body.
    fn check(self, answer: &Answer, closely: bool) -> Result<(), String> {
        let fits = match self {
            _ if answer.status == 408 => answer.close,
            Ask::Ready => matches!(answer.status, 200 | 503),
            Ask::Nowhere => answer.status == 404,
            Ask::Options => answer.status == 204,
            Ask::PublishNowhere | Ask::TurnWrongly(_) => answer.status == 400,
            // There may be no such topic, and there may be contradictions elsewhere.
            Ask::Connections(_) | Ask::Turn(_) | Ask::TurnOf(..) => {
                matches!(answer.status, 200 | 400)
            }
            Ask::Connection(_) => matches!(answer.status, 200 | 404),
            Ask::Metrics => answer.status == 200 && answer.body.ends_with(b"# EOF\n"),
            _ => answer.status == 200,
        };
        if !fits {
            return Err(format!("{self:?} is answered with {}", answer.status));
        }
        let json = closely && self != Ask::Head && answer.is_of("application/json");
        if json { check_json(&answer.body) } else { Ok(()) }
    }
}

#[cfg(feature = "admin")]
fn check_json(bytes: &[u8]) -> Result<(), String> {
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(bytes);
    parsed.map(|_| ()).map_err(|error| format!("not JSON: {error}"))
}

#[cfg(not(feature = "admin"))]
fn check_json(_: &[u8]) -> Result<(), String> {
    Ok(())
}

/// A client and its connection, as far as the bytes have been understood.
#[derive(Debug, Default)]
pub struct Caller {
    /// What is not answered yet.
    asked: VecDeque<Ask>,
    received: Vec<u8>,
    /// The stream that the last answer has become.
    live: Option<Live>,
    told_to_close: bool,
    /// How many answers and events it has seen.
    pub seen: (usize, usize),
}

#[derive(Debug)]
struct Live {
    chunks: chunk::Decoder,
    events: Decoder,
    at_ms: Option<u64>,
}

impl Caller {
    /// Begins again on another connection.
    pub fn connect(&mut self) {
        *self = Caller { seen: self.seen, ..Caller::default() };
    }

    /// Asks `times` times, and gives what is to be sent for it. Behind a stream there is nothing to be
    /// asked.
    pub fn ask(&mut self, ask: Ask, times: usize) -> Vec<u8> {
        let times = match ask {
            _ if self.told_to_close || self.live.is_some() => 0,
            _ if self.asked.contains(&Ask::Live) => 0,
            Ask::Live => 1,
            _ => times,
        };
        self.asked.extend(std::iter::repeat_n(ask, times));
        ask.request().repeat(times).into_bytes()
    }

    /// Whether an answer is owed to it.
    pub fn waits(&self) -> bool {
        !self.asked.is_empty() && !self.told_to_close
    }

    /// Whether it receives a stream.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Checks what was received.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.live.is_some() {
            return self.look(bytes);
        }
        self.received.extend_from_slice(bytes);
        let mut read = 0;
        while read < self.received.len() {
            let rest = &self.received[read..];
            if self.begins_to_look(rest) {
                let head_bytes = answer::head_bytes(rest).unwrap_or(0);
                let body = self.received.split_off(read + head_bytes);
                self.received = Vec::new();
                self.asked.clear();
                let (chunks, events) = (chunk::Decoder::default(), Decoder::new(1 << 20));
                self.live = Some(Live { chunks, events, at_ms: None });
                return self.look(&body);
            }
            let bodiless = self.asked.front() == Some(&Ask::Head);
            let Some((answer, len)) = Answer::read(rest, bodiless)? else { break };
            read += len;
            if self.told_to_close {
                return Err("an answer after the last one".into());
            }
            self.told_to_close = answer.close;
            if answer.status == 408 {
                // To a request of which too little had come to tell whether it was HEAD.
                read = self.received.len();
            }
            match self.asked.pop_front() {
                Some(ask) => ask.check(&answer, self.seen.0.is_multiple_of(8))?,
                // A connection may be told that it has taken too long to ask.
                None if answer.status == 408 && answer.close => {}
                None => return Err(format!("an answer that was not asked for: {answer:?}")),
            }
            self.seen.0 += 1;
        }
        self.received.drain(..read);
        Ok(())
    }

    /// Whether `bytes` begin with the whole head of a stream.
    fn begins_to_look(&self, bytes: &[u8]) -> bool {
        let head = || answer::head_bytes(bytes).map(|end| String::from_utf8_lossy(&bytes[..end]));
        self.asked.front() == Some(&Ask::Live)
            && head().is_some_and(|head| head.contains("\r\nTransfer-Encoding: chunked\r\n"))
    }

    /// Checks a part of the stream.
    fn look(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let Some(live) = &mut self.live else { return Ok(()) };
        while !bytes.is_empty() {
            let part = live.chunks.decode(bytes).map_err(|error| error.to_string())?;
            bytes = &bytes[part.consumed..];
            let mut data = part.data;
            while let Some(item) = live.events.next(&mut data).map_err(|error| error.to_string())? {
                let Item::Message(message) = item else { continue };
                match message.name {
                    b"live" => {
                        // Each has the same members: it is enough to read some.
                        if self.seen.1.is_multiple_of(8) {
                            check_json(message.data)?;
                        }
                        let at_ms = number(message.data, "\"at_ms\":");
                        if at_ms.is_none() || at_ms < live.at_ms {
                            return Err(format!("at_ms is {at_ms:?} after {:?}", live.at_ms));
                        }
                        live.at_ms = at_ms;
                        self.seen.1 += 1;
                    }
                    b"gap" | b"heartbeat" => check_json(message.data)?,
                    other => return Err(format!("an event {:?}", String::from_utf8_lossy(other))),
                }
            }
            if part.done {
                self.told_to_close = true;
                return match bytes {
                    [] => Ok(()),
                    rest => Err(format!("{} bytes behind the end of the stream", rest.len())),
                };
            }
        }
        Ok(())
    }
}

/// The number behind `name` in a JSON text.
fn number(json: &[u8], name: &str) -> Option<u64> {
    let json = String::from_utf8_lossy(json);
    let (_, rest) = json.split_once(name)?;
    rest.split([',', '}']).next()?.parse().ok()
}

/// What a random world asks of the public listener.
pub(super) const ASKS: [Ask; 6] =
    [Ask::Health, Ask::Ready, Ask::Nowhere, Ask::Options, Ask::Head, Ask::PublishNowhere];

/// What a random world asks of the admin listener, apart from [`Ask::Live`]. The knobs that it turns
/// are none that the checks go by.
pub(super) const ADMIN_ASKS: [Ask; 24] = [
    Ask::Page,
    Ask::Metrics,
    Ask::Topics,
    Ask::Connections(""),
    Ask::Connections("sort=age&limit=1"),
    Ask::Connections("sort=bytes&topic=t0"),
    Ask::Connections("sort=verdict&limit=200"),
    Ask::Connection("0-1"),
    Ask::Connection("2-7"),
    Ask::Connection("x"),
    Ask::Knobs,
    Ask::KnobsOf(0),
    Ask::KnobsOf(TOPICS as u8),
    Ask::Turn(r#"{"write_path":"copy","retry_ms":500}"#),
    Ask::Turn(r#"{"tcp_nodelay":false,"flush_slice_us":100}"#),
    Ask::Turn(r#"{"accept_batch":1,"read_budget_bytes":1,"observe_ms":20}"#),
    Ask::TurnOf(0, r#"{"write_path":"writev"}"#),
    Ask::TurnOf(0, r#"{"write_path":null}"#),
    Ask::TurnOf(1, r#"{"auto_rule":"2:60","write_path":"auto"}"#),
    Ask::TurnWrongly(r#"{"write_path":"copy""#),
    Ask::TurnWrongly(r#"{"write_path":"copy","listen":"127.0.0.1:1"}"#),
    Ask::TurnWrongly(r#"{"log_bytes_max":5000,"event_bytes_max":67108864}"#),
    Ask::TurnWrongly(r#"{"adapt_floor_bytes":2,"adapt_cap_bytes":1}"#),
    Ask::TurnWrongly(r#"{"adapt_high_utilisation":7}"#),
];
