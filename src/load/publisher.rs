//! The publisher: one connection, on which events are published in order.
//!
//! One connection, because events that are published over several have no order that a subscriber
//! could be held to. Requests may be pipelined, if the server takes that.

use super::answers::{Answer, Answers};
use super::payload::{self, Stamp};
use super::pipeline::Pipeline;
use super::plan::{self, DATA, Pace, Plan, Publish};
use super::tally::Published;
use crate::client::url::Url;
use mio::net::TcpStream;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) struct Publisher {
    plan: Publish,
    run: u32,
    /// Events that are due before the end; only of an open loop.
    planned: Option<u64>,
    address: SocketAddr,
    /// The request's head up to the value of `Content-Length`.
    head: Vec<u8>,
    pub socket: Option<TcpStream>,
    pipeline: Pipeline,
    answers: Answers,
    /// The server closes its connections behind an answer: nothing is sent behind a request.
    one_by_one: bool,
    /// The last connection was closed before anything was asked: the next one is made when there is
    /// something to ask.
    idle: bool,
    /// Connections in a row on which something was asked and nothing answered.
    failures: u32,
    /// The next event's number.
    next: u64,
    started_ns: u64,
    /// Nothing is published from then on.
    ends_ns: u64,
    /// The next event may not go out before: in a closed loop, until everybody has the last one or
    /// has had time enough.
    cleared_ns: u64,
    patience_ns: u64,
    /// When the connection may be made again.
    retry_ns: u64,
    lateness_from_ns: u64,
}

impl Publisher {
    /// The publisher of `plan`, which publishes `publish`. Its grace is how long a round may take,
    /// and how long after the end events that are late may still go out.
    pub fn new(plan: &Plan, publish: &Publish) -> Result<Publisher, String> {
        let url = Url::parse(&publish.url)?;
        let address =
            url.reachable_address(PATIENCE).map_err(|error| format!("{}: {error}", publish.url))?;
        Ok(Publisher {
            run: plan.run,
            planned: plan.planned(),
            address,
            head: head(publish, &url).into_bytes(),
            plan: publish.clone(),
            socket: None,
            pipeline: Pipeline::default(),
            answers: Answers::default(),
            one_by_one: false,
            idle: false,
            failures: 0,
            next: 0,
            started_ns: u64::MAX,
            ends_ns: u64::MAX,
            cleared_ns: 0,
            patience_ns: plan.grace_ms * 1_000_000,
            retry_ns: 0,
            lateness_from_ns: 0,
        })
    }

    /// Events published so far.
    pub fn events(&self) -> u64 {
        self.next
    }

    /// Publishes from `started_ns` to `ends_ns`, and notes how late each event is from
    /// `measured_from_ns` on.
    pub fn start(&mut self, started_ns: u64, measured_from_ns: u64, ends_ns: u64) {
        (self.started_ns, self.ends_ns) = (started_ns, ends_ns);
        self.lateness_from_ns = measured_from_ns;
    }

    /// Everybody has event number `seq`.
    pub fn clear_next_round(&mut self, seq: u64) {
        if seq + 1 == self.next {
            self.cleared_ns = 0;
        }
    }

    /// Whether nothing more will be published.
    pub fn is_done(&self, now_ns: u64) -> bool {
        let all = self.plan.events_max.is_some_and(|max| self.next >= max);
        let over = match self.planned {
            // What is due before the end is still to go out, if late; but nobody waits for a server
            // that takes nothing.
            Some(planned) => self.next >= planned || now_ns >= self.given_up_ns(),
            None => now_ns >= self.ends_ns,
        };
        (all || over || self.has_given_up()) && now_ns >= self.started_ns
    }

    /// When it gives up, whatever is left to publish.
    pub fn given_up_ns(&self) -> u64 {
        self.ends_ns.saturating_add(self.patience_ns)
    }

    /// So many connections in a row were of no use that no more are made.
    fn has_given_up(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    /// Requests whose answer has not come.
    pub fn unanswered(&self) -> usize {
        self.pipeline.unanswered()
    }

    /// Whether answers may still come.
    pub fn awaits_answers(&self) -> bool {
        self.unanswered() > 0 && !self.has_given_up()
    }

    /// Notes how late the events are that were due and will not be published, as far as that is
    /// known: later than now. Without them, an open loop that stood still would look punctual.
    pub fn note_unpublished(&self, now_ns: u64, published: &mut Published) {
        let Some(planned) = self.planned.filter(|&planned| planned > self.next) else { return };
        // Their moments are evenly spread; many of them are noted in steps.
        let step = (planned - self.next).div_ceil(LATENESS_STEPS);
        let mut from = self.next;
        while from < planned {
            let to = (from + step).min(planned);
            let due_ns = self.due_ns(from + (to - from) / 2);
            if due_ns >= self.lateness_from_ns {
                published.lateness_ns.record_many(now_ns.saturating_sub(due_ns), to - from);
            }
            from = to;
        }
    }

    /// When it has something to do that no readiness will announce; `None` if it waits for an
    /// answer, or has nothing left to do.
    pub fn next_ns(&self, now_ns: u64) -> Option<u64> {
        if self.has_given_up() || (self.is_done(now_ns) && !self.pipeline.has_again()) {
            None
        } else if self.socket.is_none() {
            Some(self.connect_ns())
        } else if !self.has_room() {
            None
        } else if self.pipeline.has_again() {
            Some(now_ns)
        } else {
            Some(self.due_ns(self.next).max(self.cleared_ns))
        }
    }

    /// The moment for which an event is meant.
    fn due_ns(&self, nth: u64) -> u64 {
        match self.plan.pace {
            Pace::Rate(per_s) => self.started_ns.saturating_add(plan::due_ns(nth, per_s)),
            Pace::Round | Pace::Flood => self.started_ns,
        }
    }

    fn connect_ns(&self) -> u64 {
        match self.idle && !self.pipeline.has_again() {
            true => self.retry_ns.max(self.due_ns(self.next)).max(self.cleared_ns),
            false => self.retry_ns,
        }
    }

    /// Whether another request may be under way.
    fn has_room(&self) -> bool {
        let most = if self.one_by_one { 1 } else { self.plan.pipeline };
        self.pipeline.under_way() < most && self.pipeline.unsent_bytes() < UNSENT_BYTES_MAX
    }

    /// Whether it should connect now.
    pub fn wants_to_connect(&self, now_ns: u64) -> bool {
        self.socket.is_none() && self.next_ns(now_ns).is_some_and(|connect_ns| connect_ns <= now_ns)
    }

    /// Connects. The socket is to be registered then.
    pub fn connect(&mut self, now_ns: u64, published: &mut Published) {
        let connected = TcpStream::connect(self.address).and_then(|socket| {
            socket.set_nodelay(true)?;
            Ok(socket)
        });
        self.answers = Answers::default();
        match connected {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => self.end(&error.to_string(), false, now_ns, published),
        }
    }

    /// Publishes what is due, as far as requests may be under way. Gives the number of the last
    /// event published, if any was.
    pub fn publish_due(&mut self, now_ns: u64, published: &mut Published) -> Option<u64> {
        let mut last = None;
        while self.socket.is_some() && self.has_room() {
            if let Some(stamp) = self.pipeline.take_again() {
                self.append_request(stamp);
                continue;
            }
            let due_ns = self.due_ns(self.next);
            if self.is_done(now_ns) || due_ns > now_ns || self.cleared_ns > now_ns {
                break;
            }
            let open_loop = self.planned.is_some();
            // In a closed loop an event is meant for whenever it can go out.
            let intended_ns = if open_loop { due_ns } else { now_ns };
            if open_loop && intended_ns >= self.lateness_from_ns {
                published.lateness_ns.record(now_ns - intended_ns);
            }
            self.append_request(Stamp { run: self.run, seq: self.next, intended_ns });
            published.events += 1;
            last = Some(self.next);
            self.next += 1;
            if self.plan.pace == Pace::Round {
                self.cleared_ns = now_ns + self.patience_ns;
            }
        }
        last
    }

    fn append_request(&mut self, stamp: Stamp) {
        let mut data = Vec::with_capacity(self.plan.data_bytes);
        payload::write(stamp, self.plan.data_bytes, &mut data);
        let body_bytes = self.plan.template.len() - DATA.len() + data.len();
        let (before, after) = self.plan.template.split_once(DATA).unwrap_or_default();
        let length = format!("{body_bytes}\r\n\r\n");
        let parts = [&self.head, length.as_bytes(), before.as_bytes(), &data, after.as_bytes()];
        self.pipeline.append(stamp, &parts);
    }

    /// Sends as much as its socket takes, and if that is `ready`, reads the answers that have come.
    pub fn exchange(
        &mut self,
        ready: bool,
        buffer: &mut [u8],
        now_ns: u64,
        published: &mut Published,
    ) {
        let exchanged = match self.send() {
            Ok(()) if !ready => Ok(false),
            // Also when sending fails: an answer that says why may have come before.
            sent => match self.receive(buffer, published) {
                Ok(false) => sent.map(|()| false),
                received => received,
            },
        };
        match exchanged {
            Ok(false) => {}
            Ok(true) => self.end("the server has closed the connection", true, now_ns, published),
            Err(error) => self.end(&error.to_string(), false, now_ns, published),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while !self.pipeline.to_send().is_empty() {
            match socket.write(self.pipeline.to_send()) {
                Ok(count) => self.pipeline.wrote(count),
                Err(error) if is_for_later(&error) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads answers; gives whether one of them has announced the end of the connection.
    fn receive(&mut self, buffer: &mut [u8], published: &mut Published) -> io::Result<bool> {
        loop {
            let Some(socket) = &mut self.socket else { return Ok(false) };
            match socket.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server has closed the connection")),
                Ok(count) => {
                    self.answers.push(&buffer[..count]);
                    while let Some(answer) = self.answers.next().map_err(io::Error::other)? {
                        if self.pipeline.answered() {
                            note_answer(&answer, published);
                        } else if !answer.close {
                            return Err(io::Error::other("an answer that nothing was asked for"));
                        }
                        if answer.close {
                            return Ok(true);
                        }
                    }
                }
                Err(error) if is_for_later(&error) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The connection is over; `announced` if an answer said so.
    fn end(&mut self, why: &str, announced: bool, now_ns: u64, published: &mut Published) {
        self.socket = None;
        let (used, answered) = (self.pipeline.was_used(), self.pipeline.was_answered());
        // A server may close after each answer; that is its right.
        self.one_by_one |= announced && self.pipeline.under_way() > 0;
        let was_busy = self.pipeline.under_way() > 0;
        let given_up = self.pipeline.end(announced);
        published.unanswered += given_up;
        self.idle = !used;
        match (used, answered) {
            (_, true) => self.failures = 0,
            (true, false) => self.failures += 1,
            (false, false) => {}
        }
        self.retry_ns = match answered && given_up == 0 {
            true => now_ns,
            false => {
                let wait_ns = RETRY_NS << self.failures.saturating_sub(1).min(BACKOFF_MAX);
                now_ns + wait_ns
            }
        };
        if was_busy && !announced || self.has_given_up() {
            let text = || match given_up {
                0 => format!("publishing: {why}"),
                _ => format!("publishing: {why}, {given_up} requests were not answered"),
            };
            published.first_refusal.get_or_insert_with(text);
        }
    }
}

/// The head of the requests up to the value of `Content-Length`.
fn head(publish: &Publish, url: &Url) -> String {
    let mut head = format!("{} {} HTTP/1.1\r\n", publish.method, url.target);
    if !publish.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("Host")) {
        head += &format!("Host: {}\r\n", url.authority());
    }
    for (name, value) in &publish.fields {
        head += &format!("{name}: {value}\r\n");
    }
    head + "Content-Length: "
}

fn note_answer(answer: &Answer, published: &mut Published) {
    if (200..300).contains(&answer.status) {
        published.accepted += 1;
        return;
    }
    published.refused += 1;
    published.first_refusal.get_or_insert_with(|| {
        // It goes to a terminal.
        let body = String::from_utf8_lossy(&answer.body).replace(char::is_control, " ");
        format!("publishing: HTTP status {}: {}", answer.status, body.trim())
    });
}

/// Nothing to read, no room to write, or not connected yet.
fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

/// Between two connections, the second of which is not owed to an orderly end of the first.
const RETRY_NS: u64 = 200_000_000;
/// So often is that doubled: up to 3.2 s.
const BACKOFF_MAX: u32 = 4;
/// Some 16 s.
const FAILURES_MAX: u32 = 8;
/// What the socket does not take is not piled up behind it.
const UNSENT_BYTES_MAX: usize = 1 << 20;
const LATENESS_STEPS: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(10);
