//! The subscribers of one process: opened, read, dropped, opened again.

use super::notice::Topics;
use super::payload::Known;
use super::plan::{Plan, Reader};
use super::subscriber::{Phase, Received, Shared, Subscriber};
use super::tally::Tally;
use crate::client::stream::Limits;
use crate::client::url::Url;
use crate::sys;
use mio::{Interest, Registry, Token};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

pub(super) struct Crowd {
    pub shared: Shared,
    registry: Registry,
    subscribers: Vec<Subscriber>,
    /// What falls due when, of which subscriber, in which of its connections.
    due: BinaryHeap<Reverse<(u64, usize, u32, Due)>>,
    /// Subscribers that were told to connect for the first time.
    begun: usize,
    /// Those of them that have a stream, or will have none.
    settled: usize,
    /// The next one may connect then.
    next_ns: u64,
    /// When the next stream is to be dropped, and whose.
    churn: (u64, usize),
    /// Streams that are open.
    open: usize,
    /// No more events will come: whoever takes its time has had enough of it.
    hurry: bool,
}

/// What a subscriber is to do at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Connect,
    /// Give up connecting.
    GiveUp,
    Read,
}

impl Crowd {
    /// The share of process `worker`.
    pub fn new(plan: Plan, worker: usize, registry: Registry) -> Result<Crowd, String> {
        let url = Url::parse(&plan.url)?;
        let timeout = Duration::from_millis(plan.connect_timeout_ms);
        let address =
            url.reachable_address(timeout).map_err(|error| format!("{}: {error}", plan.url))?;
        let published =
            plan.publish.as_ref().map(|publish| Url::parse(&publish.url)).transpose()?;
        let topics = Topics::of(&url.target, published.as_ref().map(|url| &*url.target));
        let data_bytes = plan.publish.as_ref().map(|publish| publish.data_bytes);
        Ok(Crowd {
            registry,
            subscribers: (0..plan.share(worker)).map(|_| Subscriber::new()).collect(),
            due: BinaryHeap::new(),
            begun: 0,
            settled: 0,
            next_ns: 0,
            churn: (u64::MAX, 0),
            open: 0,
            hurry: false,
            shared: Shared {
                address,
                url,
                worker,
                tally: Tally::default(),
                known: Known::new(data_bytes.unwrap_or(0)),
                limits: limits(&plan),
                topics,
                data_bytes,
                measured_from_ns: u64::MAX,
                running: false,
                round: (0, 0),
                buffer: vec![0; READ_BYTES_MAX],
                begun: 0,
                plan,
            },
        })
    }

    /// Streams that are open.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Subscribers without a stream that have asked for one again, and found no server.
    pub fn unreachable(&self) -> usize {
        let lost = |one: &&Subscriber| one.unreachable && one.phase != Phase::Gone;
        match self.open == self.subscribers.len() {
            true => 0,
            false => self.subscribers.iter().filter(lost).count(),
        }
    }

    /// Whether every subscriber has a stream, or will have none.
    pub fn is_settled(&self) -> bool {
        self.settled == self.subscribers.len()
    }

    /// From now on streams that end are opened again, and from `measured_from_ns` on, by which time
    /// everybody has seen an event and with it an id to come back with, some are dropped.
    pub fn start(&mut self, measured_from_ns: u64) {
        self.shared.measured_from_ns = measured_from_ns;
        self.shared.running = true;
        if self.shared.plan.churn_per_s > 0.0 {
            self.churn.0 = measured_from_ns;
        }
    }

    /// No more events will come: everybody reads what is left, and stays.
    pub fn finish(&mut self) {
        self.churn.0 = u64::MAX;
        self.hurry = true;
        for nth in 0..self.subscribers.len() {
            self.subscribers[nth].resting = false;
            if self.subscribers[nth].unread {
                self.read(nth, true);
            }
        }
    }

    /// How many subscribers, from the first one on, need not be waited for: they have got all of so
    /// many `events`, or never will; of a run that only listens, they have a stream. Of the first
    /// `known` of them this is known.
    pub fn finished(&self, events: u64, known: usize) -> usize {
        let waits = |one: &&Subscriber| one.phase != Phase::Gone && self.lacks(one, events);
        known + self.subscribers[known..].iter().take_while(|one| !waits(one)).count()
    }

    /// Whether a subscriber has not got all that it is to get.
    fn lacks(&self, subscriber: &Subscriber, events: u64) -> bool {
        match self.shared.data_bytes {
            Some(_) => !subscriber.checker.has_all(events),
            None => subscriber.phase != Phase::Open,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Counts as missing what has not come of so many `events` to those who have a stream.
    pub fn count_what_has_not_come(&mut self, events: u64) {
        for nth in 0..self.subscribers.len() {
            let phase = self.subscribers[nth].phase;
            if phase == Phase::Gone {
                continue; // it takes no part
            }
            let has_stream = phase == Phase::Open;
            let is_away = !has_stream && self.lacks(&self.subscribers[nth], events);
            let (tally, subscriber) = (&mut self.shared.tally, &mut self.subscribers[nth]);
            tally.away += u64::from(is_away);
            tally.unreachable += u64::from(is_away && subscriber.unreachable);
            let before = tally.offences.missing;
            subscriber.checker.finish(events, has_stream, &mut tally.offences);
            let missing = tally.offences.missing - before;
            if missing > 0 {
                tally.note_offence(|| {
                    format!("subscriber {nth}: the last {missing} of {events} events never came")
                });
            }
        }
    }

    /// Everything that was counted.
    pub fn take_tally(&mut self) -> Tally {
        let mut tally = std::mem::take(&mut self.shared.tally);
        for Subscriber { checker, .. } in &self.subscribers {
            tally.told_lost += checker.told_lost;
            tally.overtold += checker.overtold;
            tally.unchecked += checker.unchecked;
        }
        tally
    }

    /// When something falls due next.
    pub fn next_ns(&self) -> u64 {
        let opening = self.begun < self.subscribers.len() && self.has_room_to_connect();
        let due_ns = self.due.peek().map_or(u64::MAX, |Reverse((due_ns, ..))| *due_ns);
        let opening_ns = if opening { self.next_ns } else { u64::MAX };
        due_ns.min(opening_ns).min(self.churn.0)
    }

    /// Does what has fallen due.
    pub fn turn(&mut self, now_ns: u64) {
        self.open_connections(now_ns);
        self.do_due(now_ns);
        self.drop_some(now_ns);
    }

    /// This process's part of what all of them do per second.
    fn share_of(&self, per_s: f64) -> f64 {
        per_s * self.subscribers.len() as f64 / self.shared.plan.connections as f64
    }

    fn has_room_to_connect(&self) -> bool {
        self.begun - self.settled < CONNECTING_MAX
    }

    /// Opens connections, as many and as fast as the plan says.
    fn open_connections(&mut self, now_ns: u64) {
        let per_s = self.share_of(self.shared.plan.connect_per_s);
        while self.begun < self.subscribers.len()
            && self.has_room_to_connect()
            && self.next_ns <= now_ns
        {
            if per_s > 0.0 {
                let interval_ns = (1e9 / per_s) as u64;
                self.next_ns = self.next_ns.max(now_ns - interval_ns) + interval_ns;
            }
            self.begun += 1;
            self.connect(self.begun - 1, now_ns);
        }
    }

    fn connect(&mut self, nth: usize, now_ns: u64) {
        let subscriber = &mut self.subscribers[nth];
        let begun = subscriber.connect(&mut self.shared, now_ns);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = begun.and_then(|()| match &mut subscriber.socket {
            Some(socket) => self.registry.register(socket, Token(nth), interest),
            None => Ok(()),
        });
        let give_up_ns = now_ns + self.shared.plan.connect_timeout_ms * 1_000_000;
        self.due.push(Reverse((give_up_ns, nth, subscriber.generation, Due::GiveUp)));
        if let Err(error) = registered {
            self.lose(nth, &error.to_string());
        }
    }

    fn do_due(&mut self, now_ns: u64) {
        while let Some(&Reverse((due_ns, nth, generation, due))) = self.due.peek() {
            if due_ns > now_ns {
                break;
            }
            self.due.pop();
            let subscriber = &mut self.subscribers[nth];
            if subscriber.generation != generation {
                continue;
            }
            match due {
                Due::Connect if subscriber.phase == Phase::Away => self.connect(nth, now_ns),
                Due::GiveUp if matches!(subscriber.phase, Phase::Connecting | Phase::Asking) => {
                    subscriber.unreachable = true;
                    self.lose(nth, "no stream within the time for connecting");
                }
                Due::Read if matches!(subscriber.phase, Phase::Asking | Phase::Open) => {
                    subscriber.resting = false;
                    if subscriber.unread {
                        self.read(nth, true);
                    }
                }
                _ => {}
            }
        }
    }

    /// Its socket has become readable or writable. With `end`, there is an end to be seen.
    pub fn ready(&mut self, nth: usize, writable: bool, readable: bool, end: bool) {
        let subscriber = &mut self.subscribers[nth];
        if writable && let Err(error) = subscriber.writable() {
            return self.lose(nth, &error.to_string());
        }
        if !readable {
            return;
        }
        let subscriber = &mut self.subscribers[nth];
        let open = subscriber.phase == Phase::Open;
        if subscriber.resting || (open && self.shared.plan.reader == Reader::Never) {
            subscriber.unread = true;
            return;
        }
        self.read(nth, end);
    }

    /// How much a subscriber reads at once, and how long it rests after that.
    fn appetite(&self) -> (usize, Option<u64>) {
        match self.shared.plan.reader {
            _ if self.hurry => (usize::MAX, None),
            Reader::Prompt | Reader::Never => (usize::MAX, None),
            Reader::Nap(ms) => (usize::MAX, Some(ms)),
            Reader::Slow(bytes_per_s) => {
                let bytes = (bytes_per_s * SLOW_STEP_MS / 1000).max(1);
                (bytes as usize, Some(bytes * 1000 / bytes_per_s))
            }
        }
    }

    fn read(&mut self, nth: usize, to_the_end: bool) {
        let (bytes_max, rest_ms) = self.appetite();
        let subscriber = &mut self.subscribers[nth];
        let was_open = subscriber.phase == Phase::Open;
        let received = subscriber.receive(&mut self.shared, bytes_max, to_the_end);
        if subscriber.phase == Phase::Open && !was_open {
            self.open += 1;
            self.settled += usize::from(!self.shared.running);
        }
        // After the first read as well, and in the middle of the answer's head: if what it left
        // fills the socket's buffer, or was there already, nothing more will be announced.
        if let (Some(ms), Phase::Asking | Phase::Open) = (rest_ms, subscriber.phase) {
            subscriber.resting = true;
            let due_ns = sys::monotonic_ns() + ms * 1_000_000;
            self.due.push(Reverse((due_ns, nth, subscriber.generation, Due::Read)));
        }
        if let Received::End(why) = received {
            self.lose(nth, &why);
        }
    }

    /// Its connection is over, or could not be made.
    fn lose(&mut self, nth: usize, why: &str) {
        let subscriber = &mut self.subscribers[nth];
        let (tally, phase) = (&mut self.shared.tally, subscriber.phase);
        tally.note_failure(|| format!("subscriber {nth}: {why}"));
        self.open -= usize::from(phase == Phase::Open);
        let wait_ms = subscriber.leave();
        if self.shared.running {
            tally.lost += u64::from(phase == Phase::Open);
            let spread = u64::from(subscriber.generation.wrapping_mul(0x9e37_79b1) >> 16);
            let jitter_ms = spread * wait_ms / 65_536;
            let due_ns = sys::monotonic_ns() + (wait_ms + jitter_ms) * 1_000_000;
            self.due.push(Reverse((due_ns, nth, subscriber.generation, Due::Connect)));
        } else {
            // A stream that ends before the start was one that the server did not mean.
            tally.failed += 1;
            tally.opened -= u64::from(phase == Phase::Open);
            self.settled += usize::from(phase != Phase::Open);
            subscriber.phase = Phase::Gone;
        }
    }

    /// Drops the streams whose time has come, to open them again at once.
    fn drop_some(&mut self, now_ns: u64) {
        let interval_ns = (1e9 / self.share_of(self.shared.plan.churn_per_s)) as u64;
        while self.churn.0 <= now_ns {
            self.churn.0 += interval_ns;
            let count = self.subscribers.len();
            let from = self.churn.1;
            let mut places = (from..from + count).map(|place| place % count);
            let Some(nth) = places.find(|&nth| self.subscribers[nth].phase == Phase::Open) else {
                return;
            };
            self.churn.1 = nth + 1;
            self.open -= 1;
            self.subscribers[nth].leave();
            self.connect(nth, now_ns);
        }
    }
}

/// Room for the run's own events, even if the server wraps them in something and escapes that.
fn limits(plan: &Plan) -> Limits {
    let body_bytes =
        plan.publish.as_ref().map_or(0, |publish| publish.data_bytes + publish.template.len());
    let usual = Limits::default();
    Limits { event_bytes_max: usual.event_bytes_max.max(2 * body_bytes), ..usual }
}

/// Connections being opened at the same time: enough to keep a server busy, and less than the
/// queue of a listener commonly holds.
const CONNECTING_MAX: usize = 128;
const READ_BYTES_MAX: usize = 256 << 10;
const SLOW_STEP_MS: u64 = 50;
