//! Subscribing: a request becomes a stream.

use super::body::Exchange;
use super::connection::{ConnectionKey, Cursors, Door, Phase};
use super::routes::{check_topic, head_of};
use super::{Platform, Server};
use crate::observe::counters::CloseReason;
use crate::push::cursor::Cursor;
use crate::push::gap::Gap;
use crate::push::hub::{Position, ResumedFrom, Resumption};
use crate::push::id::Seq;
use crate::push::log::FrameNo;
use crate::push::topics::TopicKey;
use crate::send::private::{HEAD_BYTES, Private};
use crate::send::queue::Framing;
use crate::send::transport::Transport;
use crate::wire::chunk;
use crate::wire::event::HEARTBEAT;
use crate::wire::head::{BodyLength, Head, Version};
use crate::wire::target;
use std::borrow::Cow;
use std::fmt::Write as _;

/// What a subscriber asks for.
#[derive(Debug)]
struct Wish<'h> {
    topics: Vec<Cow<'h, str>>,
    last_event_id: Option<Cow<'h, [u8]>>,
}

impl<P: Platform> Server<P> {
    /// Makes a connection a stream.
    ///
    /// Any other status than 200 ends a browser's `EventSource` for ever, so a subscriber that
    /// asked for something reasonable gets 200 even if it cannot be served now: it is told when to
    /// come again, and its stream ends.
    pub(super) fn subscribe(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        exchange: &Exchange,
        topic: Option<Cow<'_, str>>,
    ) {
        if head.body != BodyLength::Bytes(0) {
            return self.answer_error(key, exchange, 400, "a body is not expected here");
        }
        let wish = match self.wish(head, topic) {
            Ok(wish) => wish,
            Err(why) => return self.answer_error(key, exchange, 400, &why),
        };
        if exchange.head_only {
            // What would be resumed is not known without subscribing; nothing is registered.
            self.write_stream_head(key, exchange, None);
            return self.answered(key, exchange);
        }
        if self.shutdown.is_under_way() {
            return self.turn_away(key, exchange, "the server is going down", CloseReason::Drained);
        }
        if self.connections[key].over_limit {
            return self.turn_away(key, exchange, "too many connections", CloseReason::OverLimit);
        }
        let Some(topics) = self.topics_of(&wish) else {
            return self.turn_away(key, exchange, "too many topics", CloseReason::OverLimit);
        };
        let position = Position::of(wish.last_event_id.as_deref());
        let home =
            wish.topics.first().map_or(self.deliveries.base(), |topic| self.deliveries.of(topic));
        let overrun = home.overrun;
        let resumption = self.hub.resume(&topics, position, overrun);
        self.begin_stream(key, exchange, &topics, &resumption);
    }

    /// Reads a subscriber's request.
    fn wish<'h>(&self, head: &Head<'h>, topic: Option<Cow<'h, str>>) -> Result<Wish<'h>, String> {
        let mut wish = Wish { topics: Vec::from_iter(topic), last_event_id: None };
        let topics_max = self.config.limits.topics_per_connection_max;
        for parameter in target::parameters(head.query) {
            // A position may be of any bytes: one that means nothing is a gap, not an error.
            let (name, position) = parameter.decode_bytes();
            if is_position(&name) {
                // A client that appends where it stands leaves what the page wrote in front.
                wish.last_event_id =
                    Some(position).filter(|id| !id.is_empty()).or(wish.last_event_id);
            }
            // Pages add parameters of their own, against caches for example.
            if &*name != b"topic" {
                continue;
            }
            let (_, topic) =
                parameter.decode().map_err(|bad| format!("bad percent-encoding in {bad:?}"))?;
            if wish.topics.contains(&topic) {
                continue;
            }
            // Said at once: looking through ever more of them would take ever longer.
            if wish.topics.len() == topics_max {
                return Err(format!("more than {topics_max} topics"));
            }
            wish.topics.push(topic);
        }
        // A browser that reconnects sends the header and keeps the URL, so the header is newer.
        if let Some(id) = head.last_event_id {
            wish.last_event_id = Some(Cow::Borrowed(id));
        }
        if wish.topics.is_empty() {
            return Err("which topic? /events/TOPIC or /events?topic=A&topic=B".into());
        }
        wish.topics.iter().try_for_each(|topic| check_topic(topic))?;
        Ok(wish)
    }

    /// The keys of the topics, which are made if need be; `None` if one too many would be.
    fn topics_of(&mut self, wish: &Wish<'_>) -> Option<Vec<TopicKey>> {
        let topics_max = self.config.limits.topics_max;
        let mut keys = Vec::with_capacity(wish.topics.len());
        for topic in &wish.topics {
            match self.hub.topic(topic, topics_max, self.now_ns) {
                Ok(key) => keys.push(key),
                Err(_) => {
                    keys.into_iter().for_each(|key| self.forget_if_unused(key));
                    return None;
                }
            }
        }
        Some(keys)
    }

    pub(super) fn begin_stream(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        topics: &[TopicKey],
        resumption: &Resumption,
    ) {
        let from = resumption.from.to_string();
        self.write_stream_head(key, exchange, Some(&from));
        let door = self.connections[key].door;
        let retry_ms = match door {
            Door::Public => self.jitter.stretch(self.config.times.retry_ms),
            Door::Admin => ADMIN_RETRY_MS,
        };
        self.text.clear();
        // The comment makes sure that something follows the head at once, for clients and proxies
        // that wait for the first byte of a body. The name is for clients that take an empty line
        // for an event even if it has no data, or whose data is left from a connection that was cut
        // (`eventsource` 2): what they make of it is a heartbeat.
        let epoch = self.hub.epoch();
        let begin = format_args!("retry: {retry_ms}\n: {epoch}\nevent: {HEARTBEAT}\n");
        let written = match resumption.from {
            // A position from the start: who loses the connection before the first event comes back
            // with this id, and has lost nothing. A block of an id alone is no event, but the reader
            // keeps the id (WHATWG HTML §9.2.6).
            ResumedFrom::Latest => {
                let begins_behind = epoch.id(resumption.delivered);
                write!(self.text, "{begin}id: {begins_behind}\n\n")
            }
            _ => writeln!(self.text, "{begin}"),
        };
        debug_assert!(written.is_ok(), "a String takes everything");
        self.write_private(key);
        self.connections[key].delivered = resumption.delivered;

        let mut cursors = Vec::with_capacity(topics.len());
        for (&topic, &(next, gap)) in topics.iter().zip(&resumption.starts) {
            if let Some(gap) = gap {
                self.write_gap(key, topic, next, gap);
            }
            let slot = self.hub.topic_mut(topic).fanout.add(key.into());
            cursors.push(Cursor { topic, slot, next });
        }
        self.counters.subscribed += u64::from(door == Door::Public);
        let base = self.deliveries.base();
        let home = topics.first().map(|&home| &*self.hub.topics()[home].name);
        let own = home.map_or(base, |home| self.deliveries.of(home));
        let connection = &mut self.connections[key];
        if own.socket != base.socket
            && connection.socket.apply(&own.socket, Some(&base.socket)).is_err()
        {
            log::debug!("conn={key}: the topic's socket options could not be set");
        }
        connection.cursors = Cursors::new(cursors);
        connection.enter(Phase::Stream, self.now_ns);
    }

    /// Answers a subscriber that cannot be served now.
    fn turn_away(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        why: &str,
        reason: CloseReason,
    ) {
        let exchange = Exchange { close: true, ..exchange.clone() };
        self.write_stream_head(key, &exchange, None);
        let retry_ms = self.jitter.stretch(self.config.times.retry_ms);
        self.text.clear();
        let written = write!(self.text, "retry: {retry_ms}\n: {why}\nevent: {HEARTBEAT}\n\n");
        debug_assert!(written.is_ok(), "a String takes everything");
        self.write_private(key);
        self.write_last_chunk(key);
        self.connections[key].enter(Phase::Finishing(reason), self.now_ns);
    }

    pub(super) fn write_stream_head(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        resumed_from: Option<&str>,
    ) {
        let connection = &mut self.connections[key];
        connection.framing = match exchange.version {
            Version::Http11 => Framing::Chunked,
            Version::Http10 => Framing::Plain,
        };
        let chunked = (connection.framing == Framing::Chunked).then_some("chunked");
        let out = connection.private.buffer(HEAD_BYTES);
        head_of(out, exchange, 200, &self.date.text, &self.config.cors_origins)
            .field("Content-Type", "text/event-stream")
            .field("Cache-Control", "no-cache")
            // Asks nginx not to collect the stream in its buffers.
            .field("X-Accel-Buffering", "no")
            .field_if("Pushv-Resumed-From", resumed_from)
            .field_if("Transfer-Encoding", chunked)
            .end();
    }

    /// Queues a gap notice: a topic goes on with frame `next`.
    pub(super) fn write_gap(
        &mut self,
        key: ConnectionKey,
        topic: TopicKey,
        next: FrameNo,
        gap: Gap,
    ) {
        let counted = self.connections[key].counted();
        self.counters.gaps += counted;
        self.counters.events_lost += gap.lost.unwrap_or(0) * counted;
        self.text.clear();
        let known = &self.hub.topics()[topic];
        gap.encode(&known.name, self.hub.epoch(), &mut self.text);
        let goes_on_at = match next < known.log.end() {
            true => known.log.entry(next).seq,
            false => Seq(known.log.last_seq().0 + 1),
        };
        let from = self.connections[key].own_end();
        self.write_private(key);
        self.connections[key].interrupt(from, Some((topic, goes_on_at)), self.now_ns);
    }

    /// Queues the text in working memory as private bytes, framed as the stream's body is.
    pub(super) fn write_private(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key];
        frame_private(connection.framing, self.text.as_bytes(), &mut connection.private);
    }

    /// Queues the end of a stream's body.
    pub(super) fn write_last_chunk(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key];
        if connection.framing == Framing::Chunked {
            connection.private.push(chunk::LAST_CHUNK);
        }
    }

    /// Takes a connection out of its topics.
    pub(super) fn unsubscribe(&mut self, key: ConnectionKey) {
        let cursors = std::mem::take(&mut self.connections[key].cursors);
        for cursor in cursors.as_slice() {
            let topic = self.hub.topic_mut(cursor.topic);
            let moved = topic.fanout.remove(cursor.slot);
            topic.used_ns = self.now_ns;
            if let Some(moved) = moved {
                let places = self.connections[moved.into()].cursors.as_mut_slice();
                if let Some(place) = places.iter_mut().find(|place| place.topic == cursor.topic) {
                    place.slot = cursor.slot;
                }
            }
            self.forget_if_unused(cursor.topic);
        }
    }

    /// Forgets a topic that has neither events nor subscribers.
    pub(super) fn forget_if_unused(&mut self, topic: TopicKey) {
        if self.hub.topics()[topic].is_blank() {
            self.hub.forget(topic);
        }
    }
}

/// Whether a parameter of this name is the reader's position. Clients that cannot send
/// `Last-Event-ID`, because a page may not or because of CORS, send it in the query, under names
/// such as `lastEventId` (event-source-polyfill), `lastEventID` and `Last-Event-Id`.
fn is_position(name: &[u8]) -> bool {
    let letters = name.iter().filter(|byte| !matches!(byte, b'-' | b'_'));
    letters.map(u8::to_ascii_lowercase).eq(*b"lasteventid")
}

/// Queues `payload` as a stream's own bytes.
pub(super) fn frame_private(framing: Framing, payload: &[u8], private: &mut Private) {
    match framing {
        Framing::Chunked => {
            chunk::append(payload, private.buffer(payload.len() + chunk::AROUND_BYTES_MAX))
        }
        Framing::Plain => private.push(payload),
    }
}

/// The live page is to be back as soon as the server is.
const ADMIN_RETRY_MS: u64 = 1_000;
