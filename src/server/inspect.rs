//! `/connections`: where the events of single streams are, and why.
//!
//! All streams are gone through once to find those that are wanted, by what the server knows of them;
//! the kernel is asked about those alone that are shown. Counting back to an event's id is bounded
//! for the whole answer, so that no question can hold up the loop.

use super::connection::{Connection, ConnectionKey, Door};
use super::watch::NAGLE_REMEDY;
use super::{Platform, Server, Token};
use crate::observe::ladder::{InKernel, Ladder, Rung, Tape, behind};
use crate::observe::survey::Survey;
use crate::observe::tcp_info::{Since, TcpInfo};
use crate::observe::verdict::{Evidence, Verdict};
use crate::push::id::Seq;
use crate::push::topics::TopicKey;
use crate::send::transport::Transport;
use crate::wire::target;
use serde_json::{Value, json};
use std::cmp::Reverse;

/// What is asked of `/connections`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub sort: Sort,
    pub limit: usize,
    pub topic: Option<String>,
}

/// What makes a stream come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// The most bytes waiting here, or in the kernel when it was last looked at.
    Lag,
    /// The oldest connection.
    Age,
    /// The most bytes sent.
    Bytes,
    /// The worst verdict, and among equals the most lag.
    Verdict,
}

impl Question {
    /// Reads a query.
    pub fn read(query: &str) -> Result<Question, String> {
        let mut question = Question { sort: Sort::Lag, limit: 20, topic: None };
        for parameter in target::query(query) {
            let (name, value) =
                parameter.map_err(|bad| format!("bad percent-encoding in {bad:?}"))?;
            match &*name {
                "sort" => question.sort = Sort::read(&value)?,
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit <= LIMIT_MAX);
                    question.limit =
                        limit.ok_or_else(|| format!("limit wants a number up to {LIMIT_MAX}"))?;
                }
                "topic" => question.topic = Some(value.into_owned()),
                other => {
                    return Err(format!(
                        "unknown parameter {other:?}; there are sort, limit and topic"
                    ));
                }
            }
        }
        Ok(question)
    }
}

impl Sort {
    fn read(text: &str) -> Result<Sort, String> {
        match text {
            "lag" => Ok(Sort::Lag),
            "age" => Ok(Sort::Age),
            "bytes" => Ok(Sort::Bytes),
            "verdict" => Ok(Sort::Verdict),
            _ => Err("sort wants lag, age, bytes or verdict".into()),
        }
    }
}

impl<P: Platform> Server<P> {
    /// Streams, those that come first by the question's order first.
    pub(super) fn list_connections(&mut self, question: &Question) -> Result<Value, String> {
        let topic = match &question.topic {
            None => None,
            Some(name) => {
                let unknown = || format!("there is no topic {name:?}");
                Some(self.hub.find(name).ok_or_else(unknown)?)
            }
        };
        let (count, shown) = self.show_streams(question.sort, question.limit, topic);
        Ok(json!({ "count": count, "connections": shown }))
    }

    /// One stream, by the id that [`Server::list_connections`] gives; `None` if there is none.
    pub(super) fn show_connection(&mut self, id: &str) -> Option<Value> {
        let token: Token = id.parse().ok()?;
        let found = self.connections.find(token)?;
        if !is_shown(found) {
            return None;
        }
        let seen = self.look(token.key);
        self.describe_stream(token.key, seen, &mut { STEPS_MAX })
    }

    /// How many streams there are, and the first of them by this order, as they are now.
    pub(super) fn show_streams(
        &mut self,
        sort: Sort,
        limit: usize,
        topic: Option<TopicKey>,
    ) -> (usize, Vec<Value>) {
        // The order of the candidates is that of the latest looks, which are up to `observe_ms` old.
        let (count, keys) = self.first_streams(sort, limit + CANDIDATES, topic);
        let mut ranked: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let seen = self.look(key);
                (Reverse(self.rank(&self.connections[key], sort, seen.as_ref())), key, seen)
            })
            .collect();
        ranked.sort_by_key(|(rank, key, _)| (*rank, *key));
        ranked.truncate(limit);
        let mut steps = STEPS_MAX;
        let shown = ranked.into_iter();
        (
            count,
            shown
                .filter_map(|(_, key, seen)| self.describe_stream(key, seen, &mut steps))
                .collect(),
        )
    }

    /// How many streams there are, and those that were first as they were last looked at.
    fn first_streams(
        &self,
        sort: Sort,
        limit: usize,
        topic: Option<TopicKey>,
    ) -> (usize, Vec<ConnectionKey>) {
        let wanted = |connection: &Connection<P::Socket>| {
            let has = |topic| connection.cursors.as_slice().iter().any(|one| one.topic == topic);
            is_shown(connection) && topic.is_none_or(has)
        };
        let streams = self.connections.iter().filter(|(_, connection)| wanted(connection));
        let mut ranked: Vec<(Reverse<(u64, u64)>, ConnectionKey)> = streams
            .map(|(key, connection)| (Reverse(self.rank(connection, sort, None)), key))
            .collect();
        let count = ranked.len();
        if limit < count {
            ranked.select_nth_unstable(limit);
            ranked.truncate(limit);
        }
        ranked.sort_unstable();
        (count, ranked.into_iter().map(|(_, key)| key).collect())
    }

    /// What a stream is sorted by: as it is `seen` now, or as it was last looked at.
    fn rank(
        &self,
        connection: &Connection<P::Socket>,
        sort: Sort,
        seen: Option<&Evidence>,
    ) -> (u64, u64) {
        let lag_bytes = || {
            let (behind, _) = behind(connection.cursors.as_slice(), self.hub.topics());
            let outstanding_bytes = seen.map(|seen| seen.outstanding_bytes);
            behind.bytes
                + connection.private.len() as u64
                + outstanding_bytes.unwrap_or_else(|| connection.outstanding_when_seen_bytes())
        };
        match sort {
            Sort::Lag => (lag_bytes(), self.now_ns - connection.opened_ns),
            Sort::Age => (self.now_ns - connection.opened_ns, 0),
            Sort::Bytes => (connection.sent_bytes, 0),
            Sort::Verdict => {
                let verdict = seen.map_or_else(|| connection.verdict(self.now_ns), Verdict::of);
                (verdict as u64, lag_bytes())
            }
        }
    }

    /// The row of a stream. Without a kernel to ask, which `seen` is from, there is still what the
    /// server knows.
    fn describe_stream(
        &self,
        key: ConnectionKey,
        seen: Option<Evidence>,
        steps: &mut usize,
    ) -> Option<Value> {
        let evidence = seen.unwrap_or_default();
        let ladder = self.ladder(key, &evidence, steps);
        let connection = self.connections.get(key)?;
        let verdict = Verdict::of(&evidence);
        let since_ms = |then_ns: u64| self.now_ns.saturating_sub(then_ns) / 1_000_000;
        let topics = connection.cursors.as_slice().iter();
        let topics: Vec<&str> =
            topics.map(|cursor| &*self.hub.topics()[cursor.topic].name).collect();
        let unacknowledged_ns = match evidence.outstanding_bytes {
            0 => 0,
            _ => connection.unacknowledged_ns(self.now_ns),
        };
        Some(json!({
            "id": Token { key, generation: connection.generation }.to_string(),
            "peer": connection.peer.to_string(),
            "topics": topics,
            "age_ms": since_ms(connection.opened_ns),
            "verdict": verdict.name(),
            "why": verdict.explain(&evidence),
            "hint": hint(connection, &evidence),
            "blocked_ms": connection.blocked.then(|| since_ms(connection.moved_ns)),
            "unacknowledged_ms": unacknowledged_ns / 1_000_000,
            "sent": { "events": connection.sent_events, "bytes": connection.sent_bytes },
            "ladder": self.show_ladder(key, &ladder),
            "tcp": seen.map(|evidence| show_tcp(&evidence.tcp, evidence.since)),
            "kernel_memory": connection.socket.memory().ok().map(|memory| json!({
                "send_bytes": memory.send_bytes,
                "send_buffer_bytes": memory.send_buffer_bytes,
                "receive_bytes": memory.receive_bytes,
                "forward_bytes": memory.forward_bytes,
            })),
        }))
    }

    /// The ladder of a stream, from what was just seen of it.
    fn ladder(&self, key: ConnectionKey, evidence: &Evidence, steps: &mut usize) -> Ladder {
        let connection = &self.connections[key];
        let tape = Tape {
            breaks: connection.watch.as_ref().map(|watch| &watch.breaks),
            cursors: connection.cursors.as_slice(),
            topics: self.hub.topics(),
            framing: connection.framing,
            delivered: connection.delivered,
            sent_bytes: connection.sent_bytes,
            sent_events: connection.sent_events,
            private_bytes: connection.private.len() as u64,
        };
        let unsent_bytes = u64::from(evidence.tcp.unsent_bytes).min(evidence.outstanding_bytes);
        let in_flight_bytes = evidence.outstanding_bytes - unsent_bytes;
        Ladder::of(&tape, InKernel { unsent_bytes, in_flight_bytes }, steps)
    }

    fn show_ladder(&self, key: ConnectionKey, ladder: &Ladder) -> Value {
        let rung = |rung: &Rung| json!({ "events": rung.events, "bytes": rung.bytes });
        let oldest_ms = ladder
            .oldest_published_ns
            .map(|published_ns| self.now_ns.saturating_sub(published_ns) / 1_000_000);
        json!({
            "behind": {
                "events": ladder.behind.events,
                "bytes": ladder.behind.bytes,
                "oldest_ms": oldest_ms,
            },
            "private": { "bytes": ladder.private_bytes },
            "unsent": rung(&ladder.unsent),
            "in_flight": rung(&ladder.in_flight),
            "acked": {
                "events": ladder.acked.events,
                "bytes": ladder.acked.bytes,
                "last_event_id": ladder.last_acked.and_then(|seq| self.id_in_stream(key, seq)),
            },
        })
    }

    /// The id of an event of a stream, if one of its logs retains it.
    fn id_in_stream(&self, key: ConnectionKey, seq: Seq) -> Option<String> {
        self.connections[key].cursors.as_slice().iter().find_map(|cursor| {
            let log = &self.hub.topics()[cursor.topic].log;
            let no = log.after(Seq(seq.0.checked_sub(1)?));
            let found = no < log.end() && log.entry(no).seq == seq;
            found.then(|| String::from_utf8_lossy(log.id(no)).into_owned())
        })
    }

    /// All streams at this moment. Of very many, every so manieth is gone through.
    pub(super) fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        let every = self.connections.len().div_ceil(SURVEYED_MAX).max(1);
        let streams = self.connections.iter().filter(|(_, connection)| is_shown(connection));
        let ask_every = self.connections.len().div_ceil(every * MEMORY_ASKED_MAX).max(1);
        for (nth, (_, connection)) in streams.step_by(every).enumerate() {
            let (behind, oldest_ns) = behind(connection.cursors.as_slice(), self.hub.topics());
            survey.add(behind, oldest_ns, connection.verdict(self.now_ns));
            if nth % ask_every == 0
                && let Ok(memory) = connection.socket.memory()
            {
                survey.memory_asked += 1;
                let parts = [memory.send_bytes, memory.receive_bytes, memory.forward_bytes];
                survey.memory_bytes += parts.into_iter().map(u64::from).sum::<u64>();
            }
        }
        survey
    }
}

/// Whether a connection is a subscriber's stream. The live page's own is none.
fn is_shown<S>(connection: &Connection<S>) -> bool {
    connection.is_stream() && connection.door == Door::Public
}

/// What an operator can do about a stream, if there is anything.
fn hint<S>(connection: &Connection<S>, evidence: &Evidence) -> Option<String> {
    match connection.nagle_stalls {
        0 if evidence.is_held_by_nagle() => {
            Some(format!("Nagle's algorithm holds back its last part: {NAGLE_REMEDY}"))
        }
        0 => None,
        stalls => {
            let or_more = if stalls == u8::MAX { " or more" } else { "" };
            Some(format!(
                "{stalls}{or_more} stalls by Nagle's algorithm and delayed acknowledgements were \
                 seen: {NAGLE_REMEDY}"
            ))
        }
    }
}

fn show_tcp(tcp: &TcpInfo, since: Option<Since>) -> Value {
    // Without an earlier look to compare with: over no time, nothing.
    let lately = since.unwrap_or_default();
    json!({
        "mss_bytes": tcp.mss_bytes,
        "rtt_us": tcp.rtt_us,
        "min_rtt_us": tcp.min_rtt_us,
        "cwnd_segments": tcp.cwnd_segments,
        "snd_wnd_bytes": tcp.snd_wnd_bytes,
        "in_flight_segments": tcp.in_flight_segments,
        "retransmits": tcp.retransmits,
        "retransmitted_segments": tcp.retransmitted_segments,
        "rto_ms": tcp.rto_us / 1000,
        "last_ack_ms": tcp.last_ack_ms,
        "last_sent_ms": tcp.last_sent_ms,
        "busy_ms": tcp.busy_us / 1000,
        "rwnd_limited_ms": tcp.rwnd_limited_us / 1000,
        "sndbuf_limited_ms": tcp.sndbuf_limited_us / 1000,
        "lately": {
            "over_ms": lately.over_us / 1000,
            "busy_ms": lately.busy_us / 1000,
            "rwnd_limited_ms": lately.rwnd_limited_us / 1000,
            "sndbuf_limited_ms": lately.sndbuf_limited_us / 1000,
            "retransmitted_segments": lately.retransmitted_segments,
        },
    })
}

/// Streams that one answer shows.
const LIMIT_MAX: usize = 200;
/// Streams beyond those that are looked at as well, since the order may have changed; a short call
/// each.
const CANDIDATES: usize = 32;
/// Events that are counted back for one answer: some ten nanoseconds each.
const STEPS_MAX: usize = 200_000;
/// Streams that a survey goes through; a cache miss or two each.
const SURVEYED_MAX: usize = 16_384;
/// Streams that the kernel is asked about for a survey; a short call each.
const MEMORY_ASKED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let default = Question { sort: Sort::Lag, limit: 20, topic: None };
        assert_eq!(Question::read(""), Ok(default));
        let asked = Question { sort: Sort::Verdict, limit: 3, topic: Some("a b".into()) };
        assert_eq!(Question::read("sort=verdict&limit=3&topic=a+b"), Ok(asked));
        for bad in ["sort=best", "limit=many", "limit=201", "limit=-1", "nope=1", "topic=%"] {
            assert!(Question::read(bad).is_err(), "{bad}");
        }
    }
}
