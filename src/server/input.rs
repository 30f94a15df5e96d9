//! Bytes become requests.

use super::body::{Body, BodyReader, Exchange, Sink};
use super::connection::{Connection, ConnectionKey, Phase};
use super::{Platform, Server};
use crate::observe::counters::CloseReason;
use crate::send::private;
use crate::send::transport::Transport;
use crate::wire::head::{self, Head, Refusal, Version};
use crate::wire::json::Quoted;
use std::io::ErrorKind;

impl<P: Platform> Server<P> {
    /// Reads from a connection and acts on what was read.
    ///
    /// Readiness is edge-triggered: what is left in the socket is not announced again. A read that
    /// does not fill its buffer has emptied the socket, which saves the call that would say so
    /// (epoll(7)). It says nothing of an end that came together with the last bytes, so with
    /// `to_the_end` reading goes on until the kernel has no more.
    pub(super) fn read(&mut self, key: ConnectionKey, to_the_end: bool) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let mut budget_bytes = self.config.turn.read_budget_bytes;
        self.connections[key].unread = false;
        self.take_held_input(key);
        loop {
            let connection = &mut self.connections[key];
            if connection.closing || connection.peer_closed {
                break;
            }
            if budget_bytes == 0 || !wants_input(connection, self.flushes.lagging) {
                connection.unread = true;
                break;
            }
            let counted = connection.counted();
            self.counters.reads += counted;
            match connection.socket.read(&mut buffer) {
                Ok(0) => connection.peer_closed = true,
                Ok(count) => {
                    self.counters.read_bytes += count as u64 * counted;
                    budget_bytes = budget_bytes.saturating_sub(count);
                    self.input(key, buffer.get(..count).unwrap_or_default());
                    if count < buffer.len() && !to_the_end {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.close(key, CloseReason::of(&error)),
            }
        }
        self.read_buffer = buffer;
        self.answer_or_continue(key);
    }

    /// After reading: sends the answers, all of them together, and acts on the end of input.
    fn answer_or_continue(&mut self, key: ConnectionKey) {
        self.flush_connection(key);
        let connection = &mut self.connections[key];
        if connection.closing {
            return;
        }
        if connection.peer_closed {
            match connection.phase {
                // Whoever half-closes its side of a stream has left it.
                Phase::Stream | Phase::Ending(_) => self.close(key, CloseReason::PeerLeft),
                Phase::Lingering(reason) => self.close(key, reason),
                Phase::Finishing(_) | Phase::Parting(_) => {}
                // What was asked before the end is still answered.
                Phase::Head | Phase::Body(_) if connection.private.is_empty() => {
                    self.close(key, CloseReason::PeerLeft);
                }
                Phase::Head | Phase::Body(_) => {
                    connection.enter(Phase::Finishing(CloseReason::PeerLeft), self.now_ns);
                }
            }
        } else if connection.unread && wants_input(connection, false) {
            self.list(key);
        }
    }

    /// Acts on requests that were read before they were wanted.
    fn take_held_input(&mut self, key: ConnectionKey) {
        let now_ns = self.now_ns;
        let connection = &mut self.connections[key];
        if connection.held && wants_input(connection, self.flushes.lagging) {
            connection.held = false;
            if matches!(connection.phase, Phase::Head) {
                connection.since_ns = now_ns; // the time before was not the peer's
            }
            let input = std::mem::take(&mut connection.input);
            self.requests(key, &input);
        }
    }

    /// Acts on bytes that were read.
    fn input(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let now_ns = self.now_ns;
        let connection = &mut self.connections[key];
        let in_head = matches!(connection.phase, Phase::Head);
        if in_head && connection.answered && !connection.has_begun_request() && begins(bytes) {
            connection.since_ns = now_ns; // the deadline of a head runs from its first byte
        }
        if connection.input.is_empty() {
            return self.requests(key, bytes);
        }
        let mut input = std::mem::take(&mut connection.input).into_vec();
        input.extend_from_slice(bytes);
        let head_continues =
            in_head && !bytes.contains(&b'\n') && input.len() < self.config.limits.head_bytes_max;
        if head_continues {
            connection.input = input.into(); // parsing again could not tell anything new
            self.note_pending_head(key);
        } else {
            self.requests(key, &input);
        }
    }

    /// Acts on as many requests as `bytes` hold, and keeps the rest.
    fn requests(&mut self, key: ConnectionKey, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let connection = &mut self.connections[key];
            if !wants_input(connection, self.flushes.lagging) {
                (connection.held, connection.unread) = (true, true);
                break;
            }
            match connection.phase {
                Phase::Head => match head::parse(bytes, &self.config.head_limits()) {
                    Ok(Some((head, head_bytes))) => {
                        bytes = bytes.get(head_bytes..).unwrap_or_default();
                        self.counters.requests += connection.counted();
                        self.forget_pending_head(key);
                        self.route(key, &head);
                    }
                    Ok(None) => break,
                    Err(refusal) => {
                        return self.refuse_request(key, bytes, refusal, CloseReason::BadRequest);
                    }
                },
                Phase::Body(_) => bytes = self.body(key, bytes),
                Phase::Stream | Phase::Ending(_) => {
                    connection.unwanted_bytes =
                        connection.unwanted_bytes.saturating_add(bytes.len() as u32);
                    if connection.unwanted_bytes > CHATTER_BYTES_MAX {
                        self.close(key, CloseReason::Chatter);
                    }
                    return;
                }
                Phase::Finishing(_) | Phase::Parting(_) | Phase::Lingering(_) => {
                    return self.discard(key, bytes.len());
                }
            }
        }
        let connection = &mut self.connections[key];
        connection.input = bytes.into();
        self.note_pending_head(key);
    }

    /// Throws away what comes behind the last request. There is an end to that once the answer has
    /// been handed to the kernel: whoever still sends then does not read it.
    fn discard(&mut self, key: ConnectionKey, count: usize) {
        let connection = &mut self.connections[key];
        connection.unwanted_bytes = connection.unwanted_bytes.saturating_add(count as u32);
        if let Phase::Lingering(reason) = connection.phase
            && connection.unwanted_bytes > self.config.limits.linger_bytes_max
        {
            self.close(key, reason);
        }
    }

    /// Takes the body's next part off the front of `bytes`, and gives what is behind it. Parts are
    /// short, so that a publisher can be made to wait between them.
    fn body<'i>(&mut self, key: ConnectionKey, mut bytes: &'i [u8]) -> &'i [u8] {
        let connection = &mut self.connections[key];
        let Phase::Body(mut body) = std::mem::replace(&mut connection.phase, Phase::Head) else {
            return bytes;
        };
        let part = match body.reader.read(bytes.get(..BODY_PART_BYTES).unwrap_or(bytes)) {
            Ok(part) => part,
            Err(error) => {
                self.refuse_body(key, *body, 400, &error.to_string(), CloseReason::BadRequest);
                return &[];
            }
        };
        bytes = bytes.get(part.consumed..).unwrap_or_default();
        if let Err((status, why)) = self.sink(&mut body.sink, part.data) {
            self.refuse_body(key, *body, status, &why, CloseReason::BadRequest);
            return &[];
        }
        if part.done {
            self.finish_body(key, *body);
            return bytes;
        }
        let now_ns = self.now_ns;
        let connection = &mut self.connections[key];
        if matches!(body.sink, Sink::Feed(_)) {
            connection.since_ns = now_ns;
        }
        connection.phase = Phase::Body(body);
        bytes
    }

    /// Begins to read a body, or ends at once if there is none.
    pub(super) fn begin_body(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        exchange: Exchange,
        sink: Sink,
    ) {
        let close = self.closes_after(key, head);
        let exchange = Exchange { close, ..exchange };
        let body =
            Body { exchange, reader: BodyReader::new(head.body, self.config.chunk_limits()), sink };
        if body.reader.is_done() {
            self.finish_body(key, body);
        } else {
            self.connections[key].enter(Phase::Body(Box::new(body)), self.now_ns);
        }
    }

    /// Hands body bytes to where they go.
    fn sink(&mut self, sink: &mut Sink, data: &[u8]) -> Result<(), (u16, String)> {
        match sink {
            Sink::Event(event) => {
                let bytes_max = self.config.limits.event_bytes_max;
                if event.data.len() + data.len() > bytes_max {
                    return Err((413, format!("the event is longer than {bytes_max} bytes")));
                }
                extend_within(&mut event.data, data, bytes_max);
                Ok(())
            }
            Sink::Feed(feed) => self.feed(feed, data),
            #[cfg(feature = "admin")]
            Sink::Knobs { json, .. } => {
                if json.len() + data.len() > KNOBS_BYTES_MAX {
                    return Err((413, format!("the body is longer than {KNOBS_BYTES_MAX} bytes")));
                }
                extend_within(json, data, KNOBS_BYTES_MAX);
                Ok(())
            }
        }
    }

    fn finish_body(&mut self, key: ConnectionKey, body: Body) {
        match body.sink {
            Sink::Event(event) => self.finish_event(key, &body.exchange, event),
            Sink::Feed(feed) => self.finish_feed(key, &body.exchange, &feed),
            #[cfg(feature = "admin")]
            Sink::Knobs { query, json } => self.finish_knobs(key, &body.exchange, &query, &json),
        }
    }

    /// The request cannot be understood: answers, and never reads from here again.
    pub(super) fn refuse_request(
        &mut self,
        key: ConnectionKey,
        request: &[u8],
        refusal: Refusal,
        reason: CloseReason,
    ) {
        self.forget_pending_head(key);
        // As far as can be told: an answer to HEAD has no body, whatever it says.
        let head_only = request.trim_ascii_start().starts_with(b"HEAD ");
        let version = Version::Http11;
        let exchange = Exchange { version, close: true, head_only, allow_origin: None };
        let json = format!("{{\"error\":{}}}\n", Quoted(refusal.why));
        self.refuse(key, &exchange, refusal.status, &json, reason);
    }
}

/// Whether more may be read from a connection now: not while so many answers are waiting to be
/// taken that the peer evidently does not read them, and not from a publisher while readers are
/// `lagging` behind what has been published already.
fn wants_input<S>(connection: &Connection<S>, lagging: bool) -> bool {
    match connection.phase {
        Phase::Head if connection.private.allocated_bytes() >= private::ALLOCATED_BYTES_MAX => {
            false
        }
        Phase::Head | Phase::Body(_) => !(lagging && connection.publishes),
        _ => true,
    }
}

/// Appends to a buffer that may hold `bytes_max` bytes, and allocates no more than that: growing by
/// itself, a vector allocates up to twice what it holds.
fn extend_within(buffer: &mut Vec<u8>, data: &[u8], bytes_max: usize) {
    let len = buffer.len() + data.len();
    if len > buffer.capacity() {
        let doubled = (2 * buffer.capacity()).min(bytes_max);
        buffer.reserve_exact(doubled.max(len) - buffer.len());
    }
    buffer.extend_from_slice(data);
}

/// Whether there is more in `bytes` than the ends of empty lines.
fn begins(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
}

const BODY_PART_BYTES: usize = 1 << 10;
/// A subscriber has nothing to say. A little is forgiven: the end of a pipelined junk, a newline.
const CHATTER_BYTES_MAX: u32 = 64 << 10;
#[cfg(feature = "admin")]
const KNOBS_BYTES_MAX: usize = 64 << 10;
