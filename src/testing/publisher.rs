//! A publisher that pipelines its requests, reads the answers, and tries again.

use super::access::TOKEN;
use super::answer::Answer;
use super::ledger::{Draft, Ledger};
use std::collections::VecDeque;

/// How a request carries its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The body is the data of one event.
    Plain,
    /// The body is an event stream whose length is told.
    Feed,
    /// The body is an event stream in chunks of so many bytes.
    Chunked(u8),
}

/// A publisher's memory, which outlives its connections, and its current connection.
#[derive(Debug)]
pub struct Publisher {
    name: u8,
    /// Events that it has drafted.
    count: u64,
    /// Bytes that are still to be sent.
    unsent: VecDeque<u8>,
    /// Requests that are not answered yet.
    unanswered: VecDeque<Vec<Draft>>,
    answers: Vec<u8>,
    /// An answer said that the connection ends with it.
    told_to_close: bool,
    /// How many events have been acknowledged.
    pub acknowledged: usize,
}

impl Publisher {
    /// The publisher of that name, who has published nothing.
    pub fn new(name: u8) -> Publisher {
        Publisher {
            name,
            count: 0,
            unsent: VecDeque::new(),
            unanswered: VecDeque::new(),
            answers: Vec::new(),
            told_to_close: false,
            acknowledged: 0,
        }
    }

    /// Another event of its own.
    pub fn draft(&mut self, topic: &str, own_id: bool) -> Draft {
        self.count += 1;
        Draft::new(self.name, self.count, own_id, topic.into())
    }

    /// Queues a request that publishes `events` new events.
    pub fn publish(&mut self, topic: &str, form: Form, events: usize, own_id: bool) {
        let events = if form == Form::Plain { 1 } else { events };
        let drafts = (0..events).map(|_| self.draft(topic, own_id)).collect();
        self.request(drafts, form);
    }

    fn request(&mut self, drafts: Vec<Draft>, form: Form) {
        self.unsent.extend(encode(&drafts, form));
        self.unanswered.push_back(drafts);
    }

    /// Begins again on another connection: with whatever was not answered and can be repeated.
    pub fn connect(&mut self, ledger: &mut Ledger) {
        ledger.note_reconnection(self.name, Draft::number(self.name, self.count, true));
        self.unsent.clear();
        self.answers.clear();
        self.told_to_close = false;
        for mut drafts in std::mem::take(&mut self.unanswered) {
            drafts.retain(|draft| draft.own_id().is_some());
            if !drafts.is_empty() {
                self.request(drafts, Form::Feed);
            }
        }
    }

    /// The next bytes to send, at most so many.
    pub fn next_bytes(&mut self, count: usize) -> Vec<u8> {
        let count = if self.told_to_close { 0 } else { count.min(self.unsent.len()) };
        self.unsent.drain(..count).collect()
    }

    /// Whether it has more to send.
    pub fn has_more(&self) -> bool {
        !self.unsent.is_empty() && !self.told_to_close
    }

    /// Whether everything it has sent is answered, or will never be.
    pub fn is_answered(&self) -> bool {
        self.unanswered.is_empty() || self.told_to_close
    }

    /// Checks what was received.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn receive(&mut self, bytes: &[u8], ledger: &Ledger) -> Result<(), String> {
        self.answers.extend_from_slice(bytes);
        while let Some((answer, len)) = Answer::read(&self.answers, false)? {
            self.answers.drain(..len);
            if self.told_to_close {
                return Err("an answer after the last one".into());
            }
            self.told_to_close = answer.close;
            self.answered(&answer, ledger)?;
        }
        Ok(())
    }

    fn answered(&mut self, answer: &Answer, ledger: &Ledger) -> Result<(), String> {
        let drafts = match self.unanswered.front() {
            Some(drafts) => drafts,
            // A connection that is too many, or too late, may be refused before it asks.
            None if answer.status != 200 && answer.close => return Ok(()),
            None => return Err(format!("an answer that was not asked for: {answer:?}")),
        };
        let number = |name| answer.number(name).unwrap_or(0);
        let events = number("count") + number("duplicates");
        match answer.status {
            200 if events != drafts.len() => {
                return Err(format!("{} events, and the answer is {answer:?}", drafts.len()));
            }
            // What cannot be served now: at a limit, going down, or too slow in coming.
            200 | 503 | 408 => {}
            // Longer than is allowed, in a world of narrow limits.
            413 if ledger.narrow => {}
            _ => return Err(format!("unexpected {answer:?}")),
        }
        // An answer that is no success may tell how far a feed came.
        let lost = drafts.iter().take(events).find(|draft| !ledger.has(draft));
        if let Some(draft) = lost {
            return Err(format!("{draft:?} was acknowledged, and is not published"));
        }
        self.acknowledged += events;
        // What was refused is not tried again on this connection.
        self.unanswered.pop_front();
        Ok(())
    }
}

fn encode(drafts: &[Draft], form: Form) -> Vec<u8> {
    let topic = &drafts[0].topic;
    if form == Form::Plain {
        let data = drafts[0].data();
        let query =
            drafts[0].own_id().map_or(String::new(), |id| format!("?id={}", id.replace(' ', "+")));
        let length = data.len();
        return format!(
            "POST /events/{topic}{query} HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n{data}"
        )
        .into();
    }
    let mut body = String::from(": feed\r\n");
    for draft in drafts {
        if let Some(id) = draft.own_id() {
            body += &format!("id: {id}\r\n");
        }
        draft.data().split('\n').for_each(|line| body += &format!("data: {line}\r\n"));
        body += "\r\n";
    }
    let head = format!(
        "POST /events/{topic} HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: text/event-stream\r\n"
    );
    let Form::Chunked(bytes) = form else {
        return format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into();
    };
    let mut request = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.as_bytes().chunks(usize::from(bytes).max(1)) {
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}
