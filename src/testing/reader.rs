//! A subscriber that checks everything it receives.
//!
//! It knows what has been published to each topic, in order, and where in that it stands. Each
//! event must be the next one of its topic, and later in the hub's order than everything before
//! it; what it is not given it must be told of by a gap notice, exactly. It remembers its last id
//! across connections, as a browser does.

use crate::wire::chunk;
use crate::wire::decode::{Decoder, Item};
use std::collections::BTreeMap;

/// Everything that was published, by topic, in order.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The events of each topic.
    pub topics: BTreeMap<String, Vec<Entry>>,
}

/// An event that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the order of the hub.
    pub seq: u64,
    /// A number of its own, which its data tells.
    pub number: u64,
    /// Its id.
    pub id: String,
}

impl Ledger {
    /// Notes an event. Its data must be [`Ledger::data`].
    pub fn publish(&mut self, topic: &str, entry: Entry) {
        self.topics.entry(topic.into()).or_default().push(entry);
    }

    /// The data of an event, of a length that depends on its number.
    pub fn data(topic: &str, number: u64) -> String {
        format!("{topic} {number} {}", "x".repeat((number * number % 97) as usize))
    }

    fn of(&self, topic: &str) -> &[Entry] {
        self.topics.get(topic).map_or(&[], Vec::as_slice)
    }

    /// How many events of `topic` precede seq `seq`.
    fn before(&self, topic: &str, seq: u64) -> usize {
        self.of(topic).partition_point(|entry| entry.seq < seq)
    }
}

/// A subscriber's memory, which outlives its connections, and its current connection.
#[derive(Debug)]
pub struct Reader {
    /// The topics that it subscribes to.
    pub topics: Vec<String>,
    /// The id of the last event that it saw.
    pub last_id: Option<String>,
    /// For each topic, how many of its events it has seen or been told that it will not.
    places: BTreeMap<String, usize>,
    /// A notice could not say how far the loss goes: the next event of the topic will.
    unsure: Vec<String>,
    /// The seq of the last event that it saw.
    last_seq: u64,
    stream: Stream,
    /// How many events and gap notices it has seen.
    pub seen: (usize, usize),
}

/// The bytes of one connection, as far as they have been understood.
#[derive(Debug)]
struct Stream {
    head: Vec<u8>,
    in_body: bool,
    /// `None`: the body ends with the connection.
    chunks: Option<chunk::Decoder>,
    body_done: bool,
    events: Decoder,
}

impl Stream {
    fn new() -> Stream {
        Stream {
            head: Vec::new(),
            in_body: false,
            chunks: None,
            body_done: false,
            events: Decoder::new(1 << 20),
        }
    }
}

impl Reader {
    /// A subscriber of `topics` that stands at the end of what has been published.
    pub fn new(topics: Vec<String>, ledger: &Ledger) -> Reader {
        let places = topics.iter().map(|topic| (topic.clone(), ledger.of(topic).len())).collect();
        Reader {
            last_seq: 0,
            topics,
            last_id: None,
            places,
            unsure: Vec::new(),
            stream: Stream::new(),
            seen: (0, 0),
        }
    }

    /// The request for its next connection.
    pub fn connect(&mut self, version: &str, ledger: &Ledger) -> String {
        self.stream = Stream::new();
        let topics: Vec<String> =
            self.topics.iter().map(|topic| format!("topic={topic}")).collect();
        let mut request =
            format!("GET /events?{} HTTP/{version}\r\nHost: sim\r\n", topics.join("&"));
        self.unsure.clear();
        let newest = u64::MAX;
        // With an id it gets what follows that, even if it was told before that it would not;
        // without one, what is published from now on.
        let after = if self.last_id.is_some() { self.last_seq + 1 } else { newest };
        for (topic, place) in &mut self.places {
            *place = ledger.before(topic, after);
        }
        if let Some(id) = &self.last_id {
            request += &format!("Last-Event-ID: {id}\r\n");
        }
        request + "\r\n"
    }

    /// Checks what was received.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn receive(&mut self, mut bytes: &[u8], ledger: &Ledger) -> Result<(), String> {
        if !self.stream.in_body {
            let before = self.stream.head.len();
            self.stream.head.extend_from_slice(bytes);
            let Some(end) = self.stream.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(());
            };
            bytes = &bytes[end + 4 - before..];
            self.begin_body(end + 4)?;
        }
        while !bytes.is_empty() && !self.stream.body_done {
            let data = match &mut self.stream.chunks {
                None => std::mem::take(&mut bytes),
                Some(chunks) => {
                    let part = chunks.decode(bytes).map_err(|error| error.to_string())?;
                    bytes = &bytes[part.consumed..];
                    self.stream.body_done = part.done;
                    part.data
                }
            };
            self.body(data, ledger)?;
        }
        match bytes {
            [] => Ok(()),
            rest => Err(format!("{} bytes behind the end of the body", rest.len())),
        }
    }

    /// Whether the stream has ended in order.
    pub fn has_ended(&self) -> bool {
        self.stream.body_done
    }

    /// Whether it has seen, or been told that it will not see, everything that was published to
    /// its topics.
    ///
    /// # Errors
    /// What it does not know of.
    pub fn check_complete(&self, ledger: &Ledger) -> Result<(), String> {
        for (topic, &place) in &self.places {
            let published = ledger.of(topic).len();
            if place != published && !self.unsure.contains(topic) {
                return Err(format!("{topic}: stands at {place} of {published}"));
            }
        }
        Ok(())
    }

    fn begin_body(&mut self, head_bytes: usize) -> Result<(), String> {
        self.stream.head.truncate(head_bytes);
        let head = String::from_utf8_lossy(&self.stream.head).into_owned();
        if !head.contains(" 200 OK\r\n") || !head.contains("Content-Type: text/event-stream\r\n") {
            return Err(format!("unexpected head {head:?}"));
        }
        self.stream.in_body = true;
        let chunked = head.contains("Transfer-Encoding: chunked\r\n");
        self.stream.chunks = chunked.then(chunk::Decoder::default);
        Ok(())
    }

    fn body(&mut self, mut data: &[u8], ledger: &Ledger) -> Result<(), String> {
        let mut decoder = std::mem::replace(&mut self.stream.events, Decoder::new(0));
        loop {
            match decoder.next(&mut data).map_err(|error| error.to_string())? {
                None => break,
                Some(Item::Retry(_)) => {}
                Some(Item::Message(message)) => {
                    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                    let (name, data, id) =
                        (text(message.name), text(message.data), message.id.map(text));
                    match name.as_str() {
                        "gap" => self.gap(&data, ledger)?,
                        "heartbeat" => {}
                        _ => self.event(&data, id, ledger)?,
                    }
                }
            }
        }
        self.stream.events = decoder;
        Ok(())
    }

    fn event(&mut self, data: &str, id: Option<String>, ledger: &Ledger) -> Result<(), String> {
        let mut words = data.split(' ');
        let topic = words.next().unwrap_or_default().to_string();
        let number = words.next().and_then(|word| word.parse().ok());
        let at = ledger.of(&topic).iter().position(|entry| Some(entry.number) == number);
        let at = at.ok_or_else(|| format!("made-up data {data:?}"))?;
        let entry = &ledger.of(&topic)[at];
        if data != Ledger::data(&topic, entry.number) {
            return Err(format!("altered data {data:?}"));
        }
        if entry.seq <= self.last_seq {
            return Err(format!("seq {} after {}", entry.seq, self.last_seq));
        }
        let place = self.places.get_mut(&topic).ok_or(format!("not subscribed to {topic}"))?;
        let unsure = self.unsure.iter().position(|other| *other == topic);
        match unsure {
            Some(nth) if at >= *place => {
                self.unsure.swap_remove(nth);
            }
            None if at == *place => {}
            _ => return Err(format!("{topic}: event {at} where {place} is next, no notice")),
        }
        *place = at + 1;
        if id.as_deref() != Some(&*entry.id) {
            return Err(format!("{topic}: event {at} has the id {id:?}"));
        }
        self.last_seq = entry.seq;
        self.last_id = id;
        self.seen.0 += 1;
        Ok(())
    }

    fn gap(&mut self, json: &str, ledger: &Ledger) -> Result<(), String> {
        let field = |name: &str| {
            let from = json.find(&format!("\"{name}\":"))? + name.len() + 3;
            json[from..].split([',', '}']).next().map(|value| value.trim_matches('"').to_string())
        };
        let topic = field("topic").ok_or("a gap without a topic")?;
        let place = self.places.get_mut(&topic).ok_or(format!("a gap in {topic}"))?;
        let (lost, to) = (field("lost"), field("to"));
        let lost: Option<usize> = lost.and_then(|lost| lost.parse().ok());
        let to = to.filter(|to| to != "null").and_then(|to| to.rsplit('-').next()?.parse().ok());
        match (lost, to) {
            (Some(lost), _) => {
                let after = to.map_or(ledger.of(&topic).len(), |to| ledger.before(&topic, to));
                if *place + lost != after {
                    return Err(format!(
                        "{topic}: at {place}, lost {lost}, but the next is {after}"
                    ));
                }
                *place = after;
            }
            (None, Some(to)) => {
                let after = ledger.before(&topic, to);
                // A reader whose position is unknown here may be sent what it has seen before.
                *place = after;
                self.last_seq = self.last_seq.min(to - 1);
            }
            (None, None) => self.unsure.push(topic),
        }
        self.seen.1 += 1;
        Ok(())
    }
}
