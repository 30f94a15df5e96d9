//! The publisher: one connection, on which events are published in order.
//!
//! One connection, because events that are published over several have no order that a subscriber
//! could be held to. Requests may be pipelined, if the server takes that.

use super::answers::Answers;
use super::payload::{self, Stamp};
use super::plan::{DATA, Pace, Publish};
use super::tally::Published;
use crate::client::url::Url;
use mio::net::TcpStream;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) struct Publisher {
    plan: Publish,
    run: u32,
    address: SocketAddr,
    /// The request's head up to the value of `Content-Length`.
    head: Vec<u8>,
    pub socket: Option<TcpStream>,
    /// Bytes that are still to be sent.
    unsent: VecDeque<u8>,
    answers: Answers,
    /// Requests whose answer has not come.
    under_way: usize,
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
    /// `patience_ms` is how long a round may take, and how long after the end events that are late
    /// may still go out.
    pub fn new(plan: &Publish, run: u32, patience_ms: u64) -> Result<Publisher, String> {
        let url = Url::parse(&plan.url)?;
        let address =
            url.reachable_address(PATIENCE).map_err(|error| format!("{}: {error}", plan.url))?;
        let mut head = format!("{} {} HTTP/1.1\r\n", plan.method, url.target);
        if !plan.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("Host")) {
            head += &format!("Host: {}\r\n", url.authority());
        }
        for (name, value) in &plan.fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += "Content-Length: ";
        Ok(Publisher {
            run,
            address,
            head: head.into_bytes(),
            plan: plan.clone(),
            socket: None,
            unsent: VecDeque::new(),
            answers: Answers::default(),
            under_way: 0,
            next: 0,
            started_ns: u64::MAX,
            ends_ns: u64::MAX,
            cleared_ns: 0,
            patience_ns: patience_ms * 1_000_000,
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

    /// Everybody has the last event.
    pub fn clear_next_round(&mut self) {
        self.cleared_ns = 0;
    }

    /// Whether nothing more will be published.
    pub fn is_done(&self, now_ns: u64) -> bool {
        let all = self.plan.events_max.is_some_and(|max| self.next >= max);
        let over = match self.plan.pace {
            // What is due before the end is still to go out, if late; but nobody waits for a server
            // that takes nothing.
            Pace::Rate(_) => self.due_ns() >= self.ends_ns || now_ns >= self.given_up_ns(),
            Pace::Round | Pace::Flood => now_ns >= self.ends_ns,
        };
        (all || over) && now_ns >= self.started_ns
    }

    /// When it gives up, whatever is left to publish.
    pub fn given_up_ns(&self) -> u64 {
        self.ends_ns.saturating_add(self.patience_ns)
    }

    /// Requests whose answer has not come.
    pub fn unanswered(&self) -> usize {
        self.under_way
    }

    /// When it has something to do that no readiness will announce; `None` if it waits for an
    /// answer, or has nothing left to do.
    pub fn next_ns(&self, now_ns: u64) -> Option<u64> {
        if self.is_done(now_ns) {
            None
        } else if self.socket.is_none() {
            Some(self.retry_ns)
        } else if self.under_way >= self.plan.pipeline {
            None
        } else {
            Some(self.due_ns().max(self.cleared_ns))
        }
    }

    /// The moment for which the next event is meant.
    fn due_ns(&self) -> u64 {
        match self.plan.pace {
            Pace::Rate(per_s) => {
                self.started_ns.saturating_add((self.next as f64 * 1e9 / per_s) as u64)
            }
            Pace::Round | Pace::Flood => self.started_ns,
        }
    }

    /// Whether it should connect now.
    pub fn wants_to_connect(&self, now_ns: u64) -> bool {
        self.socket.is_none() && self.retry_ns <= now_ns && !self.is_done(now_ns)
    }

    /// Connects. The socket is to be registered then.
    pub fn connect(&mut self, now_ns: u64) -> io::Result<()> {
        self.retry_ns = now_ns + RETRY_NS;
        self.answers = Answers::default();
        self.unsent.clear();
        self.under_way = 0;
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Publishes what is due, as far as requests may be under way. Gives the number of the last
    /// event published, if any was.
    pub fn publish_due(&mut self, now_ns: u64, published: &mut Published) -> Option<u64> {
        let mut last = None;
        while self.socket.is_some()
            && self.cleared_ns <= now_ns
            && self.under_way < self.plan.pipeline
            && !self.is_done(now_ns)
            && self.due_ns() <= now_ns
        {
            let open_loop = matches!(self.plan.pace, Pace::Rate(_));
            // In a closed loop an event is meant for whenever it can go out.
            let intended_ns = if open_loop { self.due_ns() } else { now_ns };
            if open_loop && intended_ns >= self.lateness_from_ns {
                published.lateness_ns.record(now_ns - intended_ns);
            }
            self.append_request(intended_ns);
            published.events += 1;
            last = Some(self.next);
            self.next += 1;
            self.under_way += 1;
            if self.plan.pace == Pace::Round {
                self.cleared_ns = now_ns + self.patience_ns;
            }
        }
        last
    }

    fn append_request(&mut self, intended_ns: u64) {
        let stamp = Stamp { run: self.run, seq: self.next, intended_ns };
        let mut data = Vec::with_capacity(self.plan.data_bytes);
        payload::write(stamp, self.plan.data_bytes, &mut data);
        let body_bytes = self.plan.template.len() - DATA.len() + data.len();
        let (before, after) = self.plan.template.split_once(DATA).unwrap_or_default();
        self.unsent.extend(&self.head);
        self.unsent.extend(format!("{body_bytes}\r\n\r\n").as_bytes());
        self.unsent.extend(before.as_bytes());
        self.unsent.extend(&data);
        self.unsent.extend(after.as_bytes());
    }

    /// Sends as much as its socket takes, and if that is `ready`, reads the answers that have come.
    pub fn exchange(&mut self, ready: bool, buffer: &mut [u8], published: &mut Published) {
        let exchanged = match self.send() {
            Ok(()) if ready => self.receive(buffer, published),
            sent => sent,
        };
        if let Err(error) = exchanged {
            published.first_refusal.get_or_insert_with(|| format!("publishing: {error}"));
            self.socket = None;
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while !self.unsent.is_empty() {
            match socket.write(self.unsent.as_slices().0) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if is_for_later(&error) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], published: &mut Published) -> io::Result<()> {
        loop {
            let Some(socket) = &mut self.socket else { return Ok(()) };
            match socket.read(buffer) {
                Ok(0) => {
                    // A server may close after each answer; that is its right.
                    self.socket = None;
                    if self.under_way > 0 {
                        return Err(io::Error::other("the server has closed the connection"));
                    }
                    self.retry_ns = 0;
                    return Ok(());
                }
                Ok(count) => self.take_answers(&buffer[..count], published)?,
                Err(error) if is_for_later(&error) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take_answers(&mut self, bytes: &[u8], published: &mut Published) -> io::Result<()> {
        self.answers.push(bytes);
        while let Some(answer) = self.answers.next().map_err(io::Error::other)? {
            self.under_way = self.under_way.saturating_sub(1);
            if (200..300).contains(&answer.status) {
                published.accepted += 1;
            } else {
                published.refused += 1;
                let text = || {
                    let body = String::from_utf8_lossy(&answer.body);
                    format!("publishing: HTTP status {}: {}", answer.status, body.trim())
                };
                published.first_refusal.get_or_insert_with(text);
            }
            if answer.close {
                self.socket = None;
                self.retry_ns = 0;
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Nothing to read, no room to write, or not connected yet.
fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

const RETRY_NS: u64 = 200_000_000;
const PATIENCE: Duration = Duration::from_secs(10);
