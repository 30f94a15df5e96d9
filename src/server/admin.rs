//! The admin listener: the live page at `/`, and `/metrics`, `/knobs`, `/topics`, `/connections`,
//! `/live`.
//!
//! Who gets here has been let in by [`access`](super::access).

use super::body::{Exchange, Sink};
use super::connection::{ConnectionKey, Door};
use super::inspect::Question;
use super::publish::check_coding;
use super::routes::{Answer, JSON};
use super::{Platform, Server};
use crate::config::knobs::{self, KNOBS, Scope, Shown};
use crate::config::{Config, Overrides};
use crate::observe::metrics::{self, Snapshot};
use crate::push::topic::Topic;
use crate::push::topics::TopicKey;
use crate::wire::head::{Head, Method};
use crate::wire::target;
use serde_json::{Map, Number, Value, json};

impl<P: Platform> Server<P> {
    /// Answers a request on the admin listener.
    pub(super) fn route_admin(&mut self, key: ConnectionKey, head: &Head<'_>, exchange: Exchange) {
        match head.path {
            "/" => self.show_page(key, head, &exchange),
            "/metrics" => {
                if self.is_read(key, head, &exchange) {
                    let text = metrics::render(self.snapshot());
                    let (media_type, body) = (metrics::MEDIA_TYPE, text.as_bytes());
                    self.answer(
                        key,
                        &exchange,
                        &Answer { status: 200, media_type, body, field: None },
                    );
                }
            }
            "/topics" => {
                if self.is_read(key, head, &exchange) {
                    self.answer_result(key, &exchange, self.list_topics(head.query));
                }
            }
            "/connections" => {
                if self.is_read(key, head, &exchange) {
                    let question = Question::read(head.query);
                    let found = question.and_then(|question| self.list_connections(&question));
                    self.answer_result(key, &exchange, found);
                }
            }
            "/live" => {
                if self.is_read(key, head, &exchange) {
                    self.subscribe_live(key, &exchange);
                }
            }
            "/knobs" => match head.method {
                Method::Patch => {
                    if let Err((status, why)) = check_coding(head) {
                        return self.answer_error(key, &exchange, status, &why);
                    }
                    let sink = Sink::Knobs { query: head.query.to_string(), json: Vec::new() };
                    self.begin_body(key, head, exchange, sink);
                }
                Method::Get | Method::Head => {
                    self.answer_result(key, &exchange, self.show_knobs(head.query));
                }
                _ => self.method_not_allowed(key, head, &exchange, "GET, HEAD, PATCH"),
            },
            path => match path.strip_prefix("/connections/") {
                Some(id) => {
                    if self.is_read(key, head, &exchange) {
                        self.answer_connection(key, &exchange, id);
                    }
                }
                None => self.answer_error(key, &exchange, 404, NOT_FOUND),
            },
        }
    }

    /// The body of a PATCH of knobs is complete: adopts all of it or nothing.
    pub(super) fn finish_knobs(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        query: &str,
        json: &[u8],
    ) {
        let patched = topic_of(query).and_then(|topic| {
            let config = patch(self.config(), topic.as_deref(), json)?;
            self.reconfigure(config)?;
            self.show_knobs(query)
        });
        self.answer_result(key, exchange, patched);
    }

    fn answer_connection(&mut self, key: ConnectionKey, exchange: &Exchange, id: &str) {
        match self.show_connection(id) {
            Some(shown) => self.answer_result(key, exchange, Ok(shown)),
            None => self.answer_error(key, exchange, 404, "there is no such stream"),
        }
    }

    fn answer_result(
        &mut self,
        key: ConnectionKey,
        exchange: &Exchange,
        result: Result<Value, String>,
    ) {
        let (status, value) = match result {
            Ok(value) => (200, value),
            Err(why) => (400, json!({ "error": why })),
        };
        let text = format!("{value:#}\n");
        self.answer(
            key,
            exchange,
            &Answer { status, media_type: JSON, body: text.as_bytes(), field: None },
        );
    }

    /// All knobs; or, for one topic, those that can be set for a topic.
    fn show_knobs(&self, query: &str) -> Result<Value, String> {
        let Some(topic) = topic_of(query)? else {
            let config = self.config();
            return Ok(Value::Object(KNOBS.iter().map(|knob| shown(knob, config)).collect()));
        };
        let overrides = self.config.topics.get(&topic);
        let mut config = self.config.clone();
        config.delivery = self.deliveries.of(&topic).clone();
        let for_topics = KNOBS.iter().filter(|knob| knob.scope == Scope::Topic);
        let overridden: Vec<_> = overrides.into_iter().flat_map(Overrides::keys).collect();
        Ok(json!({
            "topic": topic,
            "overridden": overridden,
            "knobs": for_topics.map(|knob| shown(knob, &config)).collect::<Map<_, _>>(),
        }))
    }

    /// Topics with what is in them: those with the most subscribers first or, with `from`, a page of the
    /// table. One answer takes one pass over the table at most, and describes [`TOPICS_LISTED_MAX`].
    fn list_topics(&self, query: &str) -> Result<Value, String> {
        let wanted = TopicsWanted::read(query)?;
        let topics = self.hub.topics();
        let (keys, next) = match wanted.from {
            Some(from) => topics.page(from, wanted.limit),
            None => (topics.most_subscribed(wanted.limit), None),
        };
        let listed: Vec<Value> =
            keys.into_iter().map(|key| self.describe(key, &topics[key])).collect();
        let count = topics.public_len();
        Ok(match wanted.from {
            Some(_) => json!({ "count": count, "topics": listed, "next": next }),
            None => json!({ "count": count, "topics": listed }),
        })
    }

    fn describe(&self, key: TopicKey, topic: &Topic) -> Value {
        let (log, delivery) = (&topic.log, self.deliveries.of(&topic.name));
        let id = |no| (no < log.end()).then(|| self.hub.id_text(key, log.entry(no).seq));
        json!({
            "name": topic.name,
            "subscribers": topic.fanout.len(),
            "events": log.len(),
            "events_ever": log.end().0,
            "bytes": log.live_bytes(),
            "ring_bytes": log.ring_bytes(),
            "oldest_id": if log.is_empty() { None } else { id(log.first()) },
            "newest_id": if log.is_empty() { None } else { id(log.end().before()) },
            "pending_bytes": topic.fanout.pending().amount.bytes,
            "idle_ms": self.now_ns.saturating_sub(topic.used_ns) / 1_000_000,
            "write_path": delivery.write_path.name(),
            "flush_policy": delivery.flush_policy.to_string(),
        })
    }

    /// The state for the metrics.
    fn snapshot(&self) -> Snapshot {
        let usage = self.platform.usage();
        let mut snapshot = Snapshot {
            counters: self.counters.clone(),
            connections: self.admission.public(),
            topics: self.hub.topics().public_len(),
            log_bytes: self.hub.memory().used_bytes,
            log_bytes_max: self.config.limits.logs_bytes_max,
            log_events: self.hub.retained_events(),
            events_evicted: self.hub.evicted_events(),
            now_ns: self.now_ns,
            survey: self.survey(),
            cpu_s: usage.cpu_s,
            allocations: usage.allocations,
            resident_bytes: usage.resident_bytes,
            log_lines_dropped: crate::observe::outlet::lines_dropped(),
            ..Snapshot::default()
        };
        let public = self.connections.iter().filter(|(_, one)| one.door == Door::Public);
        for (_, connection) in public {
            snapshot.streams += usize::from(connection.is_stream());
            snapshot.blocked += usize::from(connection.blocked);
            snapshot.private_bytes += connection.private.allocated_bytes();
        }
        snapshot
    }
}

/// The topic that a query of `/knobs` names.
fn topic_of(query: &str) -> Result<Option<String>, String> {
    let mut topic = None;
    for parameter in target::query(query) {
        match parameter.map_err(|bad| format!("bad percent-encoding in {bad:?}"))? {
            (name, value) if name == "topic" => {
                super::routes::check_topic(&value)?;
                topic = Some(value.into_owned());
            }
            (name, _) => return Err(format!("unknown parameter {name:?}; there is topic")),
        }
    }
    Ok(topic)
}

/// `config` with the changes of a JSON object, for all topics or for one.
fn patch(config: &Config, topic: Option<&str>, json: &[u8]) -> Result<Config, String> {
    let value = serde_json::from_slice(json).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(changes) = value else {
        return Err("wants a JSON object of knobs".into());
    };
    let mut config = config.clone();
    let mut overrides =
        topic.and_then(|topic| config.topics.get(topic).cloned()).unwrap_or_default();
    for (name, value) in &changes {
        let knob = knobs::find(name)?;
        match (topic, knob.scope) {
            (_, Scope::Start) => return Err(format!("{name} can only be set at start")),
            (_, Scope::Reload) => {
                return Err(format!("{name} can only be set at start and by SIGHUP"));
            }
            (Some(_), Scope::Live) => {
                return Err(format!("{name} cannot be set for a single topic"));
            }
            (Some(_), Scope::Topic) if value.is_null() => {
                overrides.remove(knob.name);
            }
            (Some(_), Scope::Topic) => {
                overrides.insert(knob.name, plain(name, value)?);
            }
            (None, _) => knob.set(&mut config, &plain(name, value)?)?,
        }
    }
    if let Some(topic) = topic {
        config.topics.set(topic, overrides)?;
    }
    Ok(config)
}

/// What is asked of `/topics`.
#[derive(Debug, PartialEq, Eq)]
struct TopicsWanted {
    limit: usize,
    /// The slot of the table at which a page begins.
    from: Option<usize>,
}

impl TopicsWanted {
    /// Reads a query.
    fn read(query: &str) -> Result<TopicsWanted, String> {
        let mut wanted = TopicsWanted { limit: 100, from: None };
        for parameter in target::query(query) {
            let (name, value) =
                parameter.map_err(|bad| format!("bad percent-encoding in {bad:?}"))?;
            match &*name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit <= TOPICS_LISTED_MAX);
                    wanted.limit = limit
                        .ok_or_else(|| format!("limit wants a number up to {TOPICS_LISTED_MAX}"))?;
                }
                "from" => {
                    let from = value.parse().map_err(|_| "from wants 0 or the number in `next`")?;
                    wanted.from = Some(from);
                }
                _ => return Err(format!("unknown parameter {name:?}; there are limit and from")),
            }
        }
        Ok(wanted)
    }
}

/// A JSON value as the text that a flag would have.
fn plain(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(format!("{name}: wants a string, a number, true or false")),
    }
}

pub(super) fn shown(knob: &knobs::Knob, config: &Config) -> (String, Value) {
    let value = match knob.show(config) {
        Shown::Int(number) => number.into(),
        Shown::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Shown::Bool(truth) => truth.into(),
        Shown::Text(text) => text.into(),
    };
    (knob.name.into(), value)
}

const NOT_FOUND: &str = "there is /, /metrics, /knobs, /topics, /connections, /connections/ID, /live, /healthz and /readyz";
/// A topic takes some microseconds to describe, and an answer must not hold the loop.
const TOPICS_LISTED_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_all_or_nothing() {
        let config = Config::default();
        let patched = patch(
            &config,
            None,
            br#"{"write_path":"copy","heartbeat_ms":500,"tcp_nodelay":false}"#,
        )
        .unwrap();
        let names: Vec<_> =
            knobs::differences(&config, &patched).map(|(knob, _)| knob.name).collect();
        assert_eq!(names, ["write_path", "tcp_nodelay", "heartbeat_ms"]);

        let check = |topic, json: &str, expected: &str| {
            let why = patch(&config, topic, json.as_bytes()).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check(None, "", "not JSON: EOF");
        check(None, "[]", "JSON object");
        check(None, r#"{"write_path":"copy","nope":1}"#, "no knob");
        check(None, r#"{"write_path":"fast"}"#, "no such write path");
        check(None, r#"{"write_path":null}"#, "wants a string");
        check(None, r#"{"listen":"127.0.0.1:1"}"#, "only be set at start");
        check(None, r#"{"publish_token_file":"/etc/shadow"}"#, "SIGHUP");
        check(Some("a"), r#"{"heartbeat_ms":500}"#, "single topic");
        check(Some("a"), r#"{"write_path":"fast"}"#, "no such write path");
    }

    #[test]
    fn overrides_are_set_and_taken_back() {
        let config = Config::default();
        let set =
            patch(&config, Some("a"), br#"{"write_path":"copy","overrun":"latest"}"#).unwrap();
        assert_eq!(set.topics.get("a").unwrap().len(), 2);
        let less = patch(&set, Some("a"), br#"{"overrun":null}"#).unwrap();
        let own = Overrides::from([("write_path", "copy".into())]);
        assert_eq!(less.topics.get("a"), Some(&own));
        let none = patch(&less, Some("a"), br#"{"write_path":null}"#).unwrap();
        assert!(none.topics.is_empty());
    }
}
