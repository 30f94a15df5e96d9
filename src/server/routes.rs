//! Requests become answers.

use super::body::Exchange;
use super::connection::{ConnectionKey, Door, Phase};
use super::{Platform, Server, cors};
use crate::config::Cors;
use crate::observe::counters::CloseReason;
pub(super) use crate::push::topic::check_name as check_topic;
use crate::send::private::HEAD_BYTES;
use crate::wire::head::{BodyLength, Head, Method};
use crate::wire::json::Quoted;
use crate::wire::response::Response;
use crate::wire::target::{self, Plus};

/// An answer that is sent whole.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub status: u16,
    pub media_type: &'static str,
    pub body: &'a [u8],
    /// One further header field.
    pub field: Option<(&'static str, &'static str)>,
}

impl<P: Platform> Server<P> {
    /// Answers a request, or begins to read its body.
    pub(super) fn route(&mut self, key: ConnectionKey, head: &Head<'_>) {
        let connection = &self.connections[key];
        let exchange = Exchange {
            version: head.version,
            // A body that is not read would be taken for the next request. Whoever reads it
            // corrects this.
            close: self.closes_after(key, head) || head.body != BodyLength::Bytes(0),
            head_only: head.method == Method::Head,
            allow_origin: match connection.door {
                Door::Public => self.config.cors_origins.allows(head.origin).map(Into::into),
                Door::Admin => None,
            },
        };
        // Whether it lives may be asked by anybody who reaches the listener: a supervisor has no token.
        if connection.door == Door::Admin
            && head.path != "/healthz"
            && let Err((status, why)) = self.may_administer(head)
        {
            return self.answer_error(key, &exchange, status, why);
        }
        match head.path {
            "/healthz" => {
                if self.is_read(key, head, &exchange) {
                    self.answer_text(key, &exchange, 200, "ok\n");
                }
            }
            "/readyz" => {
                if self.is_read(key, head, &exchange) {
                    let (status, text) = self.readiness();
                    self.answer_text(key, &exchange, status, text);
                }
            }
            #[cfg(feature = "admin")]
            _ if self.connections[key].door == Door::Admin => self.route_admin(key, head, exchange),
            "/" if self.config.demo => {
                if self.is_read(key, head, &exchange) {
                    let (media_type, body) =
                        ("text/html; charset=utf-8", include_bytes!("demo.html"));
                    self.answer(
                        key,
                        &exchange,
                        &Answer { status: 200, media_type, body, field: None },
                    );
                }
            }
            "*" if head.method == Method::Options => {
                self.options(key, head, &exchange, EVENT_METHODS)
            }
            "*" => self.method_not_allowed(key, head, &exchange, EVENT_METHODS),
            path => match path.strip_prefix("/events") {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    self.route_events(key, head, exchange, rest.strip_prefix('/'));
                }
                _ => self.answer_error(key, &exchange, 404, NOT_FOUND),
            },
        }
    }

    fn route_events(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        exchange: Exchange,
        topic: Option<&str>,
    ) {
        let decoded = topic.map(|topic| target::decode(topic, Plus::IsPlus));
        let topic = match decoded {
            Some(None) => {
                return self.answer_error(key, &exchange, 400, "bad percent-encoding in the path");
            }
            Some(topic) => topic,
            None => None,
        };
        match head.method {
            Method::Get | Method::Head => self.subscribe(key, head, &exchange, topic),
            Method::Post => match topic {
                Some(topic) => self.begin_publish(key, head, exchange, &topic),
                None => self.answer_error(key, &exchange, 400, "publish to /events/TOPIC"),
            },
            Method::Options => self.options(key, head, &exchange, EVENT_METHODS),
            _ => self.method_not_allowed(key, head, &exchange, EVENT_METHODS),
        }
    }

    /// Whether the connection cannot be used after this request, whatever becomes of it.
    pub(super) fn closes_after(&self, key: ConnectionKey, head: &Head<'_>) -> bool {
        head.close || self.connections[key].over_limit
    }

    /// Whether a resource that can only be read is. If not, the request has been answered.
    pub(super) fn is_read(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        exchange: &Exchange,
    ) -> bool {
        match head.method {
            Method::Get | Method::Head if head.body != BodyLength::Bytes(0) => {
                self.answer_error(key, exchange, 400, "a body is not expected here");
            }
            Method::Get | Method::Head => return true,
            Method::Options => self.options(key, head, exchange, READ_METHODS),
            _ => self.method_not_allowed(key, head, exchange, READ_METHODS),
        }
        false
    }

    pub(super) fn method_not_allowed(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        exchange: &Exchange,
        allow: &'static str,
    ) {
        if head.method == Method::Unknown {
            return self.answer_error(key, exchange, 501, "unknown method");
        }
        let body = b"{\"error\":\"method not allowed\"}\n";
        let field = Some(("Allow", allow));
        self.answer(key, exchange, &Answer { status: 405, media_type: JSON, body, field });
    }

    /// Answers OPTIONS, which is also what a browser asks before a request that a plain form could
    /// not make (CORS preflight, WHATWG Fetch §3.2.2).
    fn options(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        exchange: &Exchange,
        allow: &'static str,
    ) {
        let out = self.connections[key].private.buffer(HEAD_BYTES);
        let response = head_of(out, exchange, 204, &self.date.text, &self.config.cors_origins)
            .field("Allow", allow);
        let (origin, asks) = (exchange.allow_origin.as_deref(), head.asks_private_network);
        cors::preflight_fields(response, origin, allow, asks).end();
        self.answered(key, exchange);
    }

    /// Sends a whole answer.
    pub(super) fn answer(&mut self, key: ConnectionKey, exchange: &Exchange, answer: &Answer<'_>) {
        if answer.status >= 400 && self.connections[key].door == Door::Public {
            self.counters.note_answer(answer.status);
        }
        // The request may be from before the server began to go down.
        let close = exchange.close || self.shutdown.is_under_way();
        let exchange = &Exchange { close, ..exchange.clone() };
        let out = self.connections[key].private.buffer(HEAD_BYTES + answer.body.len());
        let origins = &self.config.cors_origins;
        let mut response = head_of(out, exchange, answer.status, &self.date.text, origins);
        if let Some((name, value)) = answer.field {
            response = response.field(name, value);
        }
        response.body(answer.media_type, answer.body, !exchange.head_only);
        self.answered(key, exchange);
    }

    pub(super) fn answer_text(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        status: u16,
        text: &str,
    ) {
        let (media_type, body) = ("text/plain; charset=utf-8", text.as_bytes());
        self.answer(key, exchange, &Answer { status, media_type, body, field: None });
    }

    pub(super) fn answer_json(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        status: u16,
        json: &str,
    ) {
        let field = match status {
            401 => Some(("WWW-Authenticate", "Bearer")),
            // Says that the coding is the reason, and which one is accepted (RFC 9110 §12.5.3).
            415 => Some(("Accept-Encoding", "identity")),
            // Who is turned away for now is told when to come again.
            503 => Some(("Retry-After", "1")),
            _ => None,
        };
        let body = json.as_bytes();
        self.answer(key, exchange, &Answer { status, media_type: JSON, body, field });
    }

    /// Answers with an error, and goes on with the connection if the exchange permits it.
    pub(super) fn answer_error(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        status: u16,
        why: &str,
    ) {
        self.answer_json(key, exchange, status, &format!("{{\"error\":{}}}\n", Quoted(why)));
    }

    /// Answers with an error and ends the connection for `reason`.
    pub(super) fn refuse(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        status: u16,
        json: &str,
        reason: CloseReason,
    ) {
        let exchange = Exchange { close: true, ..exchange.clone() };
        self.answer_json(key, &exchange, status, json);
        self.connections[key].enter(Phase::Finishing(reason), self.now_ns);
    }

    /// After an answer: the next request, or the end.
    pub(super) fn answered(&mut self, key: ConnectionKey, exchange: &Exchange) {
        let connection = &mut self.connections[key];
        let reason = if connection.over_limit { CloseReason::OverLimit } else { CloseReason::Done };
        let phase = if exchange.close { Phase::Finishing(reason) } else { Phase::Head };
        connection.answered = true;
        connection.enter(phase, self.now_ns);
    }

    fn readiness(&self) -> (u16, &'static str) {
        if self.shutdown.is_under_way() {
            (503, "draining\n")
        } else if self.accept_stalled {
            (503, "out of descriptors\n")
        } else if self.is_full() {
            (503, "full: connections_max is reached\n")
        } else {
            (200, "ready\n")
        }
    }
}

/// The head of every answer: status line, date, and what browsers and proxies go by.
pub(super) fn head_of<'o>(
    out: &'o mut Vec<u8>,
    exchange: &Exchange,
    status: u16,
    date: &str,
    origins: &Cors,
) -> Response<'o> {
    let response = Response::new(out, exchange.version, status, date)
        .field_if("Connection", exchange.close.then_some("close"));
    cors::answer_fields(response, origins, exchange.allow_origin.as_deref())
}

pub(super) const JSON: &str = "application/json";
const EVENT_METHODS: &str = "GET, HEAD, POST, OPTIONS";
const NOT_FOUND: &str = "there is /events/TOPIC, /events?topic=A&topic=B, /healthz and /readyz";
const READ_METHODS: &str = "GET, HEAD, OPTIONS";
