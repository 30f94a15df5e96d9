//! Publishing: a request's body becomes events, events go into logs.

use super::body::{Body, EventSink, Exchange, FeedSink, Sink, Tally};
use super::connection::ConnectionKey;
use super::routes::check_topic;
use super::{Platform, Server};
use crate::observe::counters::CloseReason;
use crate::push::hub::{PublishError, Published, TooManyTopics};
use crate::push::id::Seq;
use crate::wire::decode::{self, Item, Message};
use crate::wire::event::{self, Event};
use crate::wire::head::{BodyLength, Head};
use crate::wire::json::Quoted;
use crate::wire::response::CONTINUE;
use crate::wire::target;

/// An event from a feed inside the process, with the topic it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedEvent {
    /// The topic.
    pub topic: String,
    /// Its own id, if it has one.
    pub id: Option<String>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The reconnection time it sets, in milliseconds.
    pub retry_ms: Option<u64>,
    /// Its payload.
    pub data: String,
}

/// A status and the reason for it.
pub(super) type Refused = (u16, String);

impl<P: Platform> Server<P> {
    /// Publishes an event of a feed.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn publish(&mut self, event: &OwnedEvent) -> Result<(), String> {
        let borrowed = Event {
            id: event.id.as_deref(),
            name: event.name.as_deref(),
            retry_ms: event.retry_ms,
            data: &event.data,
        };
        let too_long = event.data.len() > self.config.limits.event_bytes_max;
        let checked =
            check_topic(&event.topic).map_err(String::from).and_then(|()| check_fields(&borrowed));
        match checked {
            Ok(()) if too_long => Err("the event is too long".into()),
            Ok(()) => {
                let mut tally = Tally::default();
                self.append(&event.topic, &borrowed, &mut tally).map_err(|(_, why)| why)
            }
            Err(why) => Err(why),
        }
    }

    /// Begins to read the body of a publish, if it may be published.
    pub(super) fn begin_publish(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        exchange: Exchange,
        topic: &str,
    ) {
        let sink = match self.publish_sink(key, head, topic) {
            Ok(sink) => sink,
            Err((status, why)) => return self.answer_error(key, &exchange, status, &why),
        };
        if head.expect_continue && head.body != BodyLength::Bytes(0) {
            self.connections[key].private.push(CONTINUE);
        }
        self.connections[key].publishes = true;
        self.begin_body(key, head, exchange, sink);
    }

    /// Where the body of a publish goes. Everything that can be said of the request without its
    /// body is said here, before a byte of it is read.
    fn publish_sink(
        &self,
        key: ConnectionKey,
        head: &Head<'_>,
        topic: &str,
    ) -> Result<Sink, Refused> {
        self.takes_publishes(key, head)?;
        check_coding(head)?;
        check_topic(topic).map_err(|why| (400, why.to_string()))?;
        let is_feed = head
            .media_type
            .is_some_and(|media_type| media_type.eq_ignore_ascii_case("text/event-stream"));
        let bytes_max = self.config.limits.event_bytes_max;
        if is_feed {
            if !head.query.is_empty() {
                return Err((400, "an event stream names its events itself: no parameters".into()));
            }
            let decoder = decode::Decoder::new(bytes_max);
            return Ok(Sink::Feed(FeedSink {
                topic: topic.into(),
                decoder,
                tally: Tally::default(),
            }));
        }
        if matches!(head.body, BodyLength::Bytes(bytes) if bytes > bytes_max as u64) {
            return Err((413, format!("the event is longer than {bytes_max} bytes")));
        }
        event_sink(topic, head.query).map(Sink::Event).map_err(|why| (400, why))
    }

    fn takes_publishes(&self, key: ConnectionKey, head: &Head<'_>) -> Result<(), Refused> {
        if self.shutdown.is_under_way() {
            return Err((503, "the server is going down".into()));
        }
        if self.connections[key].over_limit {
            return Err((503, "too many connections".into()));
        }
        self.may_publish(head).map_err(|(status, why)| (status, why.into()))
    }

    /// Publishes what `data` completes of an event stream.
    pub(super) fn feed(&mut self, feed: &mut FeedSink, mut data: &[u8]) -> Result<(), Refused> {
        loop {
            match feed.decoder.next(&mut data) {
                Ok(Some(Item::Message(message))) => {
                    let event = event_of(&message).map_err(|why| (400, why))?;
                    self.append(&feed.topic, &event, &mut feed.tally)?;
                }
                Ok(Some(Item::Retry(_))) => {} // goes out with the event it stands in
                Ok(None) => return Ok(()),
                Err(decode::DecodeError::DataTooLong) => {
                    let bytes_max = self.config.limits.event_bytes_max;
                    return Err((413, format!("an event is longer than {bytes_max} bytes")));
                }
                Err(error) => return Err((400, error.to_string())),
            }
        }
    }

    /// The body of a single event is complete: publishes it and answers.
    pub(super) fn finish_event(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        sink: EventSink,
    ) {
        let Ok(data) = std::str::from_utf8(&sink.data) else {
            return self.answer_error(key, exchange, 400, "the body is not UTF-8");
        };
        let event = Event {
            id: sink.id.as_deref(),
            name: sink.name.as_deref(),
            retry_ms: sink.retry_ms,
            data,
        };
        let mut tally = Tally::default();
        match self.append(&sink.topic, &event, &mut tally) {
            Ok(()) => {
                let json = self.tally_json(&sink.topic, &tally, None);
                self.answer_json(key, exchange, 200, &json);
            }
            Err((status, why)) => self.answer_error(key, exchange, status, &why),
        }
    }

    /// An event stream has ended: answers with what it came to. A block that it did not finish is
    /// not published.
    pub(super) fn finish_feed(&mut self, key: ConnectionKey, exchange: &Exchange, feed: &FeedSink) {
        let json = self.tally_json(&feed.topic, &feed.tally, None);
        self.answer_json(key, exchange, 200, &json);
    }

    /// Refuses the rest of a body. What an event stream has already published stays published, so
    /// its publisher is told how far it came.
    pub(super) fn refuse_body(
        &mut self,
        key: ConnectionKey,
        body: Body,
        status: u16,
        why: &str,
        reason: CloseReason,
    ) {
        let json = match &body.sink {
            Sink::Feed(feed) => self.tally_json(&feed.topic, &feed.tally, Some(why)),
            _ => format!("{{\"error\":{}}}\n", Quoted(why)),
        };
        self.refuse(key, &body.exchange, status, &json, reason);
    }

    /// Appends an event to its topic's log and makes the topic's flush due.
    fn append(&mut self, topic: &str, event: &Event<'_>, tally: &mut Tally) -> Result<(), Refused> {
        let topics_max = self.config.limits.topics_max;
        let bounds = self.config.log_bounds();
        let key = self.hub.topic(topic, topics_max, self.now_ns).map_err(|TooManyTopics| {
            self.counters.publishes_refused += 1;
            (503, format!("there are {topics_max} topics already"))
        })?;
        let seq = match self.hub.publish(key, event, self.now_ns, bounds) {
            Ok(Published::New { seq, frame_bytes }) => {
                self.counters.published += 1;
                self.counters.published_bytes += u64::from(frame_bytes);
                tally.count += 1;
                self.published(key);
                seq
            }
            Ok(Published::Known { seq }) => {
                self.counters.duplicates += 1;
                tally.duplicates += 1;
                seq
            }
            Err(error) => {
                self.counters.publishes_refused += 1;
                self.forget_if_unused(key);
                let status = match error {
                    PublishError::TooLong => 413,
                    PublishError::NoMemory => 503,
                    PublishError::AssignedId => 400,
                };
                return Err((status, error.to_string()));
            }
        };
        tally.last = Some(seq);
        Ok(())
    }

    fn tally_json(&self, topic: &str, tally: &Tally, error: Option<&str>) -> String {
        let topic = self.hub.find(topic);
        let subscribers = topic.map_or(0, |key| self.hub.topics()[key].fanout.len());
        let id_text = |seq: Seq| match topic {
            Some(key) => self.hub.id_text(key, seq),
            None => self.hub.epoch().id(seq).to_string(),
        };
        let id = tally.last.map_or("null".into(), |seq| Quoted(&id_text(seq)).to_string());
        let error = error.map_or(String::new(), |why| format!("\"error\":{},", Quoted(why)));
        format!(
            "{{{error}\"id\":{id},\"count\":{},\"duplicates\":{},\"subscribers\":{subscribers}}}\n",
            tally.count, tally.duplicates
        )
    }
}

/// Bodies are taken as they stand: what a compressed one holds must not pass for its data.
pub(super) fn check_coding(head: &Head<'_>) -> Result<(), Refused> {
    match head.content_encoded {
        true => Err((415, "a body with a Content-Encoding is not decoded here".into())),
        false => Ok(()),
    }
}

/// The event that the parameters of a plain publish describe.
fn event_sink(topic: &str, query: &str) -> Result<EventSink, String> {
    let mut sink =
        EventSink { topic: topic.into(), id: None, name: None, retry_ms: None, data: Vec::new() };
    for parameter in target::query(query) {
        let (name, value) = parameter.map_err(|bad| format!("bad percent-encoding in {bad:?}"))?;
        match &*name {
            "id" => sink.id = Some(value.into_owned()),
            "event" => sink.name = Some(value.into_owned()).filter(|name| !name.is_empty()),
            "retry" => {
                let ms = decode::digits(value.as_bytes());
                sink.retry_ms = Some(ms.ok_or("retry wants a number of milliseconds")?);
            }
            _ => return Err(format!("unknown parameter {name:?}; there are id, event and retry")),
        }
    }
    let event = Event {
        id: sink.id.as_deref(),
        name: sink.name.as_deref(),
        retry_ms: sink.retry_ms,
        data: "",
    };
    check_fields(&event)?;
    Ok(sink)
}

/// The event that a block of an event stream describes. Its id is the one in the block: that a
/// reader keeps an id for later blocks is about readers, not about what is published.
fn event_of<'m>(message: &Message<'m>) -> Result<Event<'m>, String> {
    let text =
        |bytes| std::str::from_utf8(bytes).map_err(|_| String::from("an event is not UTF-8"));
    let event = Event {
        id: message.id.map(text).transpose()?,
        name: Some(text(message.name)?).filter(|name| !name.is_empty()),
        retry_ms: message.retry_ms,
        data: text(message.data)?,
    };
    check_fields(&event)?;
    Ok(event)
}

fn check_fields(event: &Event<'_>) -> Result<(), String> {
    if let Some(id) = event.id {
        event::check_id(id).map_err(|why| format!("the id {why}"))?;
    }
    if let Some(name) = event.name {
        event::check_name(name).map_err(|why| format!("the event's name {why}"))?;
    }
    if let Some(retry_ms) = event.retry_ms {
        event::check_retry(retry_ms).map_err(|why| format!("the reconnection time {why}"))?;
    }
    Ok(())
}
