//! A subscriber that checks everything it receives.
//!
//! It knows what has been published to each topic, in order, and where in that it stands. Each event
//! must be the next one of its topic and come later in the hub's order than everything before it;
//! what it is not given it must be told of by a gap notice, exactly. It remembers its last id across
//! connections, as a browser does.
//!
//! A subscriber without an id gets what follows its subscription. When that was, only the server
//! knows: the client knows that it was not before it asked and not after the head had come. What it
//! receives narrows this down, and must leave something of it.

use super::ledger::Ledger;
use crate::wire::chunk;
use crate::wire::decode::{Decoder, Item};
use std::collections::BTreeMap;

/// A subscriber's memory, which outlives its connections, and its current connection.
#[derive(Debug)]
pub struct Subscriber {
    /// The topics that it subscribes to.
    topics: Vec<String>,
    /// The id of the last event that it saw,
    last_id: Option<String>,
    /// and its place in the order of the hub.
    last_seq: u64,
    stream: Stream,
    /// How many events and gap notices it has seen.
    pub seen: (usize, usize),
    /// How many of the notices said that it was too slow.
    pub overruns: usize,
}

/// One connection, as far as its bytes have been understood.
#[derive(Debug)]
struct Stream {
    head: Vec<u8>,
    in_body: bool,
    /// `None`: the body ends with the connection.
    chunks: Option<chunk::Decoder>,
    body_done: bool,
    events: Decoder,
    /// It became a stream, and was not turned away.
    subscribed: bool,
    /// The answer says that something is lost, or that nothing is.
    resumed_from: Option<String>,
    /// A notice said so.
    told_of_loss: bool,
    /// For each topic, how many of its events it has seen or been told that it will not; `None`
    /// while it is not known where it began.
    places: BTreeMap<String, Option<usize>>,
    /// It began after an event that is not before the first and not after the second of these.
    begun: (u64, u64),
    /// The place of the last event that came on this connection.
    delivered: Option<u64>,
    /// It cannot be known where it stands: an id names two events, because the first was forgotten
    /// before its publisher repeated it.
    blurred: bool,
}

impl Stream {
    fn new(topics: &[String], after: u64) -> Stream {
        Stream {
            head: Vec::new(),
            in_body: false,
            chunks: None,
            body_done: false,
            events: Decoder::new(1 << 20),
            subscribed: false,
            resumed_from: None,
            told_of_loss: false,
            places: topics.iter().map(|topic| (topic.clone(), None)).collect(),
            begun: (after, u64::MAX),
            delivered: None,
            blurred: false,
        }
    }
}

impl Subscriber {
    /// A subscriber of `topics` that has seen nothing yet.
    pub fn new(topics: Vec<String>) -> Subscriber {
        let stream = Stream::new(&topics, 0);
        Subscriber { topics, last_id: None, last_seq: 0, stream, seen: (0, 0), overruns: 0 }
    }

    /// Whether it has an id to resume from.
    pub fn can_resume(&self) -> bool {
        self.last_id.is_some()
    }

    /// The request for its next connection.
    pub fn connect(&mut self, version: &str, ledger: &Ledger) -> String {
        self.stream = Stream::new(&self.topics, ledger.last_seq);
        let topics: Vec<String> =
            self.topics.iter().map(|topic| format!("topic={topic}")).collect();
        let mut request =
            format!("GET /events?{} HTTP/{version}\r\nHost: sim\r\n", topics.join("&"));
        if let Some(id) = &self.last_id {
            // It gets what follows that, even if it was told before that it would not.
            for (topic, place) in &mut self.stream.places {
                *place = Some(ledger.before(topic, self.last_seq + 1));
            }
            request += &format!("Last-Event-ID: {id}\r\n");
        }
        request + "\r\n"
    }

    /// Whether its current connection is a stream that has not ended.
    pub fn is_subscribed(&self) -> bool {
        self.stream.subscribed && !self.stream.body_done
    }

    /// Whether its current connection was a stream that has ended in order.
    pub fn has_ended(&self) -> bool {
        self.stream.subscribed && self.stream.body_done
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
            self.begin_body(end + 4, ledger)?;
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
            _ if self.stream.chunks.is_none() => Ok(()),
            [] => Ok(()),
            rest => Err(format!("{} bytes behind the end of the body", rest.len())),
        }
    }

    /// Whether it has seen, or been told that it will not see, everything that was published to its
    /// topics up to the event at `seq`.
    ///
    /// # Errors
    /// What it does not know of.
    pub fn check_complete(&mut self, seq: u64, ledger: &Ledger) -> Result<(), String> {
        if self.stream.blurred {
            return Ok(());
        }
        for (topic, place) in &self.stream.places {
            let published = ledger.before(topic, seq + 1);
            match *place {
                Some(place) if place >= published => {}
                Some(place) => return Err(format!("{topic}: stands at {place} of {published}")),
                None => {
                    // Nothing came, so nothing was published after it began.
                    let last = ledger.seq_of(topic, published.checked_sub(1));
                    self.stream.begun.0 = self.stream.begun.0.max(last);
                }
            }
        }
        let loss = self.stream.resumed_from.as_deref() == Some("gap");
        if loss && !self.stream.told_of_loss {
            return Err("a loss was announced, but no notice has come".into());
        }
        self.check_begun()
    }

    fn check_begun(&self) -> Result<(), String> {
        let (first, last) = self.stream.begun;
        match first <= last {
            true => Ok(()),
            false => Err(format!("it began after event {first}, and before event {}", last + 1)),
        }
    }

    fn begin_body(&mut self, head_bytes: usize, ledger: &Ledger) -> Result<(), String> {
        let stream = &mut self.stream;
        stream.head.truncate(head_bytes);
        let head = String::from_utf8_lossy(&stream.head).into_owned();
        if head.contains(" 408 Request Timeout\r\n") {
            // The process was stopped while half of the request had come.
            (stream.in_body, stream.body_done) = (true, true);
            return Ok(());
        }
        if !head.contains(" 200 OK\r\n") || !head.contains("Content-Type: text/event-stream\r\n") {
            return Err(format!("unexpected head {head:?}"));
        }
        stream.in_body = true;
        let chunked = head.contains("Transfer-Encoding: chunked\r\n");
        stream.chunks = chunked.then(chunk::Decoder::default);
        let field = |name: &str| {
            let (_, rest) = head.split_once(name)?;
            Some(rest.split("\r\n").next().unwrap_or_default().to_string())
        };
        let resumed_from = field("\r\nPushv-Resumed-From: ");
        stream.subscribed = resumed_from.is_some();
        stream.begun.1 = stream.begun.1.min(ledger.last_seq);
        let came_again = |id: &String| ledger.came_again(id, self.last_seq);
        stream.blurred = self.last_id.as_ref().is_some_and(came_again);
        match (&self.last_id, resumed_from.as_deref()) {
            (_, None) => {} // turned away
            (None, Some("latest")) | (Some(_), Some("gap")) => {}
            (Some(id), Some(from)) if id == from => {}
            (id, from) => return Err(format!("{id:?} is resumed from {from:?}")),
        }
        stream.resumed_from = resumed_from;
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
                        "gap" => self.gap(&data, ledger).map_err(|why| format!("{why}: {data}"))?,
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
        let stream = &self.stream;
        let next_seq = |topic: &str| match stream.places.get(topic) {
            Some(&Some(place)) => ledger.seq_of(topic, Some(place)),
            _ => stream.begun.0 + 1,
        };
        let found = ledger.find(data, |topic| next_seq(topic).max(stream.delivered.unwrap_or(0)));
        let (draft, at) = found.ok_or_else(|| format!("made-up data {data:?}"))?;
        let topic = &draft.topic;
        let entry = &ledger.of(topic)[at];
        let fresh = stream.places.get(topic) == Some(&None);
        if stream.blurred || (fresh && ledger.came_again(&entry.id, 0)) {
            (self.last_id, self.last_seq) = (id, entry.seq);
            self.stream.blurred = true;
            return Ok(());
        }
        if self.stream.delivered.is_some_and(|before| entry.seq <= before) {
            let before = self.stream.delivered;
            return Err(format!("seq {} after {before:?}", entry.seq));
        }
        let place =
            self.stream.places.get_mut(topic).ok_or(format!("not subscribed to {topic}"))?;
        let begun = &mut self.stream.begun;
        match *place {
            Some(place) if at == place => {}
            Some(place) => {
                return Err(format!("{topic}: event {at} where {place} is next, no notice"));
            }
            None => {
                // It began after the one before this, and before this one.
                begun.0 = begun.0.max(ledger.seq_of(topic, at.checked_sub(1)));
                begun.1 = begun.1.min(entry.seq - 1);
            }
        }
        *place = Some(at + 1);
        if id.as_deref() != Some(&*entry.id) {
            return Err(format!("{topic}: event {at} has the id {id:?}"));
        }
        self.stream.delivered = Some(entry.seq);
        self.last_seq = entry.seq;
        self.last_id = id;
        self.seen.0 += 1;
        self.check_begun()
    }

    fn gap(&mut self, json: &str, ledger: &Ledger) -> Result<(), String> {
        let notice = Notice::read(json).ok_or("not a notice")?;
        self.stream.told_of_loss = true;
        self.seen.1 += 1;
        self.overruns += usize::from(notice.reason == "overrun");
        if self.stream.blurred {
            return Ok(());
        }
        if !self.topics.contains(&notice.topic) {
            return Err(format!("not subscribed to {}", notice.topic));
        }
        match notice.reason.as_str() {
            "overrun" => self.overrun(&notice, ledger),
            "evicted" | "unknown" if self.stream.delivered.is_none() => {
                self.resumed(&notice, ledger)
            }
            _ => Err("a notice that does not belong here".into()),
        }
    }

    /// It was too slow.
    fn overrun(&mut self, notice: &Notice, ledger: &Ledger) -> Result<(), String> {
        let topic = &notice.topic;
        let (Some(lost @ 1..), Some(from)) = (notice.lost, notice.from) else {
            return Err("how many were lost after which is known".into());
        };
        let stream = &mut self.stream;
        let Some(place) = stream.places.get_mut(topic) else { return Err("no such topic".into()) };
        let after = match (*place, notice.to) {
            (Some(place), _) => place + lost,
            (None, Some(to)) => ledger.before(topic, to),
            (None, None) => return Err("nothing was retained, but it was overrun".into()),
        };
        let first_lost = after.checked_sub(lost).ok_or("more are lost than there were")?;
        match stream.delivered {
            Some(delivered) if from != delivered => {
                return Err(format!("from is not {delivered}"));
            }
            Some(_) => {}
            // It has got nothing yet: it stands where it began.
            None if notice.begins_at_start(
                self.last_id.as_deref(),
                self.last_seq,
                stream.begun,
            ) => {}
            None => return Err(format!("it began within {:?}", stream.begun)),
        }
        if place.is_none() {
            let before = ledger.seq_of(topic, first_lost.checked_sub(1));
            let at = ledger.seq_of(topic, Some(first_lost));
            stream.begun = (stream.begun.0.max(before), stream.begun.1.min(at.saturating_sub(1)));
        }
        match notice.to {
            Some(to) if ledger.seq_of(topic, Some(after)) != to => {
                return Err(format!("the event after it is {}", ledger.seq_of(topic, Some(after))));
            }
            None if after > ledger.of(topic).len() => return Err("so many there never were".into()),
            _ => {}
        }
        if ledger.evicted(topic) < ledger.seq_of(topic, Some(first_lost)) {
            return Err("the first of those lost is still retained".into());
        }
        *place = Some(after);
        self.check_begun()
    }

    /// It came too late, or from elsewhere.
    fn resumed(&mut self, notice: &Notice, ledger: &Ledger) -> Result<(), String> {
        let topic = &notice.topic;
        if self.last_id.is_none() || self.stream.resumed_from.as_deref() != Some("gap") {
            return Err("nobody has announced a loss".into());
        }
        if notice.lost.is_some() {
            return Err("how many were lost cannot be known".into());
        }
        let evicted = notice.reason == "evicted";
        if evicted != (notice.from == Some(self.last_seq)) || (!evicted && notice.from.is_some()) {
            return Err(format!("from is not {}", self.last_seq));
        }
        if evicted && ledger.evicted(topic) <= self.last_seq {
            return Err(format!("nothing after {} has been evicted", self.last_seq));
        }
        let after = notice.to.map(|to| ledger.before(topic, to));
        if let (Some(after), Some(to)) = (after, notice.to)
            && ledger.seq_of(topic, Some(after)) != to
        {
            return Err(format!("there is no event {to}"));
        }
        let place = self.stream.places.get_mut(topic).ok_or("no such topic")?;
        if evicted && after.zip(*place).is_some_and(|(after, place)| after < place) {
            return Err("what it has seen already comes again".into());
        }
        // To a reader whose position means nothing here, what it has seen may come again. Without
        // a first event it gets what follows, as a new one does.
        *place = after;
        Ok(())
    }
}

/// A gap notice.
#[derive(Debug)]
struct Notice {
    topic: String,
    from: Option<u64>,
    to: Option<u64>,
    lost: Option<usize>,
    reason: String,
}

impl Notice {
    fn read(json: &str) -> Option<Notice> {
        let field = |name: &str| {
            let from = json.find(&format!("\"{name}\":"))? + name.len() + 3;
            json[from..].split([',', '}']).next().map(|value| value.trim_matches('"').to_string())
        };
        let seq = |name: &str| match field(name)?.as_str() {
            "null" => Some(None),
            id => id.rsplit('-').next()?.parse().ok().map(Some),
        };
        let lost = match field("lost")?.as_str() {
            "null" => None,
            lost => Some(lost.parse().ok()?),
        };
        let (topic, reason) = (field("topic")?, field("reason")?);
        Some(Notice { topic, from: seq("from")?, to: seq("to")?, lost, reason })
    }

    /// Whether `from` is where a stream began on which nothing has come yet.
    fn begins_at_start(&self, last_id: Option<&str>, last_seq: u64, begun: (u64, u64)) -> bool {
        let Some(from) = self.from else { return false };
        // Of an id that means nothing here, or that names two places, the server makes its own.
        let resumed = last_id.is_some() && (from == last_seq || from == 0);
        resumed || (begun.0..=begun.1).contains(&from)
    }
}
