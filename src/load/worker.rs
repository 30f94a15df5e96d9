//! The loop of one process: its share of the subscribers, and in the first process the publisher.

use super::control::Control;
use super::message::{Order, Progress, Report};
use super::payload::Known;
use super::plan::{Pace, Plan, Reader};
use super::publisher::Publisher;
use super::subscriber::{Phase, Received, Shared, Subscriber};
use super::tally::{Distribution, Tally};
use crate::client::url::Url;
use crate::sys::{self, Timer};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Does what is asked through `control`, until the run is over or nobody asks any more.
///
/// # Errors
/// What makes going on impossible, for its user to read. The coordinator has been told.
pub fn run(control: UnixStream) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut control = Control::new(control).map_err(text)?;
    let Order::Begin { plan, worker } = control.wait().map_err(text)? else {
        return Err("expected to be told what to do".into());
    };
    let outcome =
        Worker::new(*plan, worker, &mut control).and_then(|mut worker| worker.run().map_err(text));
    if let Err(why) = &outcome {
        control.say(&Report::Failed(why.clone()));
    }
    outcome
}

struct Worker<'c> {
    control: &'c mut Control,
    poll: Poll,
    timer: Timer,
    subscribers: Vec<Subscriber>,
    shared: Shared,
    publisher: Option<Publisher>,
    /// The publisher's socket has become readable or writable.
    publisher_ready: bool,
    stage: Stage,
    /// What falls due when, of which subscriber, in which of its connections.
    due: BinaryHeap<Reverse<(u64, usize, u32, Due)>>,
    opening: Opening,
    /// Streams that are open.
    open: usize,
    /// When the next subscriber is to be dropped, and which one.
    churn: (u64, usize),
    clock: Clock,
    /// Latencies of the intervals that were reported already.
    reported: Distribution,
}

/// How far the opening of the connections is.
#[derive(Default)]
struct Opening {
    /// Subscribers that were told to connect.
    begun: usize,
    /// Those of them that have a stream, or will have none.
    settled: usize,
    next_ns: u64,
}

/// The moments that matter to the whole process.
#[derive(Default)]
struct Clock {
    timer_ns: u64,
    progress_ns: u64,
    interval_ns: u64,
    started_ns: u64,
    started_cpu_ns: u64,
    /// Time since the start in which there was something to do.
    busy_ns: u64,
    /// When the last turn ended, and when the one before was begun.
    turned_ns: u64,
    polled_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The connections are being opened.
    Opening,
    /// They are open; the start is awaited.
    Waiting,
    /// Events are published, or listened for.
    Running,
    /// No more events will be published; the publisher waits for its last answers, until then.
    Answering(u64),
    /// The publisher has finished; the others are awaited.
    Published,
    /// There were so many events; the last ones are awaited, until then.
    Finishing {
        events: u64,
        deadline_ns: u64,
        checked: usize,
    },
    Over,
}

/// What a subscriber is to do at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Connect,
    /// Give up connecting.
    GiveUp,
    Read,
}

impl<'c> Worker<'c> {
    fn new(plan: Plan, worker: usize, control: &'c mut Control) -> Result<Worker<'c>, String> {
        let text = |error: io::Error| error.to_string();
        let url = Url::parse(&plan.url)?;
        let data_bytes = plan.publish.as_ref().map(|publish| publish.data_bytes);
        let addresses = url.addresses().map_err(|error| format!("{}: {error}", plan.url))?;
        let address = *addresses.first().ok_or_else(|| format!("{} has no address", plan.url))?;
        let publisher = plan.publish.as_ref().filter(|_| worker == 0);
        let publisher = publisher
            .map(|publish| Publisher::new(publish, plan.run, plan.grace_ms))
            .transpose()?;
        // A rest of 50 µs would otherwise be one of 100.
        sys::set_timer_slack(Duration::from_micros(1)).map_err(text)?;
        let (poll, timer) = (Poll::new().map_err(text)?, Timer::new().map_err(text)?);
        for (token, descriptor) in [(CONTROL, control.as_raw_fd()), (TIMER, timer.as_raw_fd())] {
            let mut source = SourceFd(&descriptor);
            poll.registry().register(&mut source, token, Interest::READABLE).map_err(text)?;
        }
        Ok(Worker {
            control,
            poll,
            timer,
            subscribers: (0..plan.share(worker)).map(|_| Subscriber::new()).collect(),
            publisher,
            publisher_ready: false,
            stage: Stage::Opening,
            due: BinaryHeap::new(),
            opening: Opening::default(),
            open: 0,
            churn: (u64::MAX, 0),
            clock: Clock::default(),
            reported: Distribution::default(),
            shared: Shared {
                address,
                url,
                worker,
                tally: Tally::default(),
                data_bytes,
                known: Known::new(data_bytes.unwrap_or(0)),
                measured_from_ns: u64::MAX,
                running: false,
                round: (0, 0),
                buffer: vec![0; 256 << 10],
                begun: 0,
                plan,
            },
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        while self.stage != Stage::Over {
            let spins = self.shared.plan.spin && self.shared.running;
            self.rest(spins);
            if !spins {
                self.set_timer(self.clock.turned_ns)?;
            }
            match self.poll.poll(&mut events, spins.then_some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let idle = spins && events.is_empty();
            for event in &events {
                match event.token() {
                    CONTROL => self.obey()?,
                    TIMER => {} // what is due is looked for in each turn
                    PUBLISHER => self.publisher_ready = true,
                    Token(nth) => {
                        let end = event.is_read_closed() || event.is_error();
                        self.ready(nth, event.is_writable(), event.is_readable() || end, end);
                    }
                }
            }
            let now_ns = sys::monotonic_ns();
            self.turn(now_ns)?;
            self.clock.busy_ns += if idle { 0 } else { now_ns - self.clock.turned_ns };
            self.clock.turned_ns = now_ns;
        }
        self.report_end();
        Ok(())
    }

    /// In a burst, lets some events gather: a turn that finds a single one costs nearly as much as
    /// a turn that finds ten.
    fn rest(&mut self, spins: bool) {
        let interval_ns = self.shared.plan.coalesce_us * 1000;
        let polled_ns = std::mem::replace(&mut self.clock.polled_ns, self.clock.turned_ns);
        let now_ns = self.clock.turned_ns;
        let bursting = self.shared.running && now_ns < polled_ns + 2 * interval_ns;
        if !bursting {
            return;
        }
        let until_ns = now_ns + interval_ns;
        if !spins {
            std::thread::sleep(Duration::from_nanos(interval_ns));
        }
        while spins && sys::monotonic_ns() < until_ns {
            std::hint::spin_loop();
        }
        let rested_ns = sys::monotonic_ns();
        (self.clock.polled_ns, self.clock.turned_ns) = (rested_ns, rested_ns);
    }

    /// Has the timer go off when the next thing falls due.
    fn set_timer(&mut self, now_ns: u64) -> io::Result<()> {
        let opening = self.opening.begun < self.subscribers.len() && self.has_room_to_connect();
        let ends_ns = match self.stage {
            Stage::Answering(deadline_ns) | Stage::Finishing { deadline_ns, .. } => deadline_ns,
            _ => u64::MAX,
        };
        let times = [
            self.clock.progress_ns,
            self.due.peek().map_or(u64::MAX, |Reverse((due_ns, ..))| *due_ns),
            if opening { self.opening.next_ns } else { u64::MAX },
            self.publisher.as_ref().and_then(|p| p.next_ns(now_ns)).unwrap_or(u64::MAX),
            self.churn.0,
            ends_ns,
        ];
        let next_ns = times.into_iter().min().unwrap_or(u64::MAX).max(1);
        if next_ns != self.clock.timer_ns || next_ns <= now_ns {
            self.clock.timer_ns = next_ns;
            self.timer.set(next_ns)?;
        }
        Ok(())
    }

    fn obey(&mut self) -> io::Result<()> {
        while let Some(order) = self.control.order()? {
            match order {
                Order::Begin { .. } => return Err(io::Error::other("told to begin twice")),
                Order::Start { at_ns } => self.start(at_ns),
                Order::NextRound => self.next_round(),
                Order::Finish { events } => self.finish(events),
                Order::Stop => self.stage = Stage::Over,
            }
        }
        Ok(())
    }

    fn start(&mut self, at_ns: u64) {
        let plan = &self.shared.plan;
        let measured_from_ns = at_ns + plan.warmup_ms * 1_000_000;
        let ends_ns = measured_from_ns + plan.duration_ms * 1_000_000;
        if let Some(publisher) = &mut self.publisher {
            publisher.start(at_ns, measured_from_ns, ends_ns);
        }
        if plan.churn_per_s > 0.0 {
            // By then everybody has seen an event, and with it an id to come back with.
            self.churn.0 = measured_from_ns;
        }
        self.shared.measured_from_ns = measured_from_ns;
        self.shared.running = true;
        self.stage = Stage::Running;
        self.clock.interval_ns = at_ns;
        self.clock.started_ns = at_ns;
        self.clock.started_cpu_ns = cpu_ns();
        self.clock.busy_ns = 0;
    }

    /// No more events will come: whoever has not got all of them yet is waited for.
    fn finish(&mut self, events: u64) {
        let deadline_ns = sys::monotonic_ns() + self.shared.plan.grace_ms * 1_000_000;
        let passive = self.shared.data_bytes.is_none();
        self.stage = match passive {
            true => Stage::Over,
            false => Stage::Finishing { events, deadline_ns, checked: 0 },
        };
        self.churn.0 = u64::MAX;
        // Whoever takes its time has had enough of it by now.
        for nth in 0..self.subscribers.len() {
            self.subscribers[nth].resting = false;
            if self.subscribers[nth].unread {
                self.read(nth, true);
            }
        }
    }

    fn turn(&mut self, now_ns: u64) -> io::Result<()> {
        self.open_connections(now_ns);
        self.do_due(now_ns);
        self.drop_some(now_ns);
        self.publish(now_ns)?;
        self.complete_round();
        self.advance(now_ns);
        if now_ns >= self.clock.progress_ns {
            self.report_progress(now_ns);
        }
        Ok(())
    }

    /// Moves on to the next stage when this one is done.
    fn advance(&mut self, now_ns: u64) {
        match self.stage {
            Stage::Opening if self.opening.settled == self.subscribers.len() => {
                self.stage = Stage::Waiting;
                let first_failure = self.shared.tally.first_failure.clone();
                self.control.say(&Report::Ready { open: self.open, first_failure });
            }
            Stage::Running => {
                let done = self.publisher.as_ref().is_some_and(|p| p.is_done(now_ns));
                if done {
                    let grace_ns = self.shared.plan.grace_ms * 1_000_000;
                    self.stage = Stage::Answering(now_ns + grace_ns);
                    self.advance(now_ns);
                }
            }
            Stage::Answering(deadline_ns) => {
                let Some(publisher) = &self.publisher else { return };
                if publisher.is_answered() || now_ns >= deadline_ns {
                    self.control.say(&Report::Published { events: publisher.events() });
                    self.stage = Stage::Published;
                }
            }
            Stage::Finishing { events, deadline_ns, mut checked } => {
                let never = self.shared.plan.reader == Reader::Never;
                let waits = |subscriber: &Subscriber| {
                    !never && subscriber.phase != Phase::Gone && !subscriber.checker.has_all(events)
                };
                let rest = self.subscribers[checked..].iter();
                checked += rest.take_while(|subscriber| !waits(subscriber)).count();
                let all = checked == self.subscribers.len();
                self.stage = match all || now_ns >= deadline_ns {
                    true => Stage::Over,
                    false => Stage::Finishing { events, deadline_ns, checked },
                };
                if self.stage == Stage::Over && !never {
                    self.count_what_has_not_come(events);
                }
            }
            _ => {}
        }
    }

    fn count_what_has_not_come(&mut self, events: u64) {
        let tally = &mut self.shared.tally;
        for (nth, subscriber) in self.subscribers.iter_mut().enumerate() {
            let before = tally.offences.missing;
            subscriber.checker.finish(events, &mut tally.offences);
            let missing = tally.offences.missing - before;
            if missing > 0 {
                tally.note_offence(|| {
                    format!("subscriber {nth}: the last {missing} of {events} events never came")
                });
            }
        }
    }

    fn report_progress(&mut self, now_ns: u64) {
        self.clock.progress_ns = now_ns + PROGRESS_NS;
        let tally = &mut self.shared.tally;
        self.control.say(&Report::Progress(Progress {
            open: self.open,
            published: self.publisher.as_ref().map_or(0, Publisher::events),
            deliveries: tally.deliveries,
            offences: tally.offences.count(),
        }));
        let measured = now_ns >= self.shared.measured_from_ns;
        if measured && now_ns >= self.clock.interval_ns + INTERVAL_NS {
            self.report_interval(now_ns);
        }
    }

    fn report_interval(&mut self, now_ns: u64) {
        let latency_ns = self.shared.tally.latency_ns.take();
        self.reported.add(&latency_ns);
        let start_ns = self.clock.interval_ns.max(self.shared.measured_from_ns).min(now_ns);
        self.clock.interval_ns = now_ns;
        let duration_ns = now_ns - start_ns;
        self.control.say(&Report::Interval { start_ns, duration_ns, latency_ns });
    }

    fn report_end(&mut self) {
        let now_ns = sys::monotonic_ns();
        if self.shared.running {
            self.report_interval(now_ns);
        }
        let (tally, plan) = (&mut self.shared.tally, &self.shared.plan);
        tally.latency_ns = self.reported.take();
        tally.told_lost = self.subscribers.iter().map(|s| s.checker.told_lost).sum();
        if self.shared.running {
            let cpu_ns = cpu_ns() - self.clock.started_cpu_ns;
            // What was spun away was not needed.
            tally.cpu_ns = if plan.spin { cpu_ns.min(self.clock.busy_ns) } else { cpu_ns };
            tally.wall_ns = now_ns.saturating_sub(self.clock.started_ns);
        }
        let tally = std::mem::take(tally);
        self.control.say(&Report::Final(Box::new(tally)));
    }
}

/// The subscribers.
impl Worker<'_> {
    fn has_room_to_connect(&self) -> bool {
        self.opening.begun - self.opening.settled < CONNECTING_MAX
    }

    /// Opens connections, as many and as fast as the plan says.
    fn open_connections(&mut self, now_ns: u64) {
        let plan = &self.shared.plan;
        let per_s = plan.connect_per_s * self.subscribers.len() as f64 / plan.connections as f64;
        while self.stage == Stage::Opening
            && self.opening.begun < self.subscribers.len()
            && self.has_room_to_connect()
            && self.opening.next_ns <= now_ns
        {
            if per_s > 0.0 {
                let interval_ns = (1e9 / per_s) as u64;
                self.opening.next_ns = self.opening.next_ns.max(now_ns - interval_ns) + interval_ns;
            }
            self.opening.begun += 1;
            self.connect(self.opening.begun - 1, now_ns);
        }
    }

    fn connect(&mut self, nth: usize, now_ns: u64) {
        let subscriber = &mut self.subscribers[nth];
        let begun = subscriber.connect(&mut self.shared, now_ns);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = begun.and_then(|()| match &mut subscriber.socket {
            Some(socket) => self.poll.registry().register(socket, Token(nth), interest),
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
                    self.lose(nth, "no stream within the time for connecting");
                }
                Due::Read if subscriber.phase == Phase::Open => {
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
    fn ready(&mut self, nth: usize, writable: bool, readable: bool, end: bool) {
        let subscriber = &mut self.subscribers[nth];
        if writable && let Err(error) = subscriber.writable() {
            return self.lose(nth, &error.to_string());
        }
        if !readable {
            return;
        }
        let subscriber = &mut self.subscribers[nth];
        let open = subscriber.phase == Phase::Open;
        if open && (subscriber.resting || self.shared.plan.reader == Reader::Never) {
            subscriber.unread = true;
            return;
        }
        self.read(nth, end);
    }

    fn read(&mut self, nth: usize, to_the_end: bool) {
        let hurry = matches!(self.stage, Stage::Finishing { .. });
        let (bytes_max, rest_ms) = match self.shared.plan.reader {
            _ if hurry => (usize::MAX, None),
            Reader::Prompt | Reader::Never => (usize::MAX, None),
            Reader::Nap(ms) => (usize::MAX, Some(ms)),
            Reader::Slow(bytes_per_s) => {
                (((bytes_per_s * SLOW_STEP_MS / 1000) as usize).max(1), Some(SLOW_STEP_MS))
            }
        };
        let subscriber = &mut self.subscribers[nth];
        let was_open = subscriber.phase == Phase::Open;
        let received = subscriber.receive(&mut self.shared, bytes_max, to_the_end);
        if subscriber.phase == Phase::Open {
            if !was_open {
                self.open += 1;
                self.opening.settled += usize::from(self.stage == Stage::Opening);
            } else if let Some(ms) = rest_ms {
                subscriber.resting = true;
                let due_ns = sys::monotonic_ns() + ms * 1_000_000;
                self.due.push(Reverse((due_ns, nth, subscriber.generation, Due::Read)));
            }
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
            let jitter_ms =
                u64::from(subscriber.generation.wrapping_mul(0x9e37_79b1) >> 16) * wait_ms / 65_536;
            let due_ns = sys::monotonic_ns() + (wait_ms + jitter_ms) * 1_000_000;
            self.due.push(Reverse((due_ns, nth, subscriber.generation, Due::Connect)));
        } else {
            // A stream that ends before the start was one that the server did not mean.
            tally.failed += 1;
            tally.opened -= u64::from(phase == Phase::Open);
            self.opening.settled += usize::from(phase != Phase::Open);
            subscriber.phase = Phase::Gone;
        }
    }

    /// Drops the streams whose time has come, to open them again at once.
    fn drop_some(&mut self, now_ns: u64) {
        let interval_ns = (1e9 / self.shared.plan.churn_per_s) as u64;
        while self.churn.0 <= now_ns && self.stage == Stage::Running {
            self.churn.0 += interval_ns;
            let count = self.subscribers.len();
            let from = self.churn.1;
            let places = (from..from + count).map(|place| place % count);
            let open = |nth: &usize| self.subscribers[*nth].phase == Phase::Open;
            let Some(nth) = { places }.find(open) else { return };
            self.churn.1 = nth + 1;
            self.open -= 1;
            self.subscribers[nth].leave();
            self.connect(nth, now_ns);
        }
    }
}

/// The publisher.
impl Worker<'_> {
    fn publish(&mut self, now_ns: u64) -> io::Result<()> {
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        let tally = &mut self.shared.tally;
        if publisher.wants_to_connect(now_ns) {
            // What fails here fails again at the next attempt, or is told when sending.
            let connected = publisher.connect(now_ns).is_ok();
            if let Some(socket) = publisher.socket.as_mut().filter(|_| connected) {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(socket, PUBLISHER, interest)?;
            }
        }
        if let Some(seq) = publisher.publish_due(now_ns, &mut tally.published)
            && seq != self.shared.round.0
        {
            self.shared.round = (seq, 0);
        }
        let ready = std::mem::take(&mut self.publisher_ready);
        publisher.exchange(ready, &mut self.shared.buffer, &mut tally.published);
        Ok(())
    }

    /// In a closed loop: tells that everybody here has the event of the round.
    fn complete_round(&mut self) {
        let round = self.shared.plan.publish.as_ref().map(|publish| publish.pace);
        if round != Some(Pace::Round) || self.shared.round.1 < self.open || self.open == 0 {
            return;
        }
        let seq = self.shared.round.0;
        self.shared.round = (seq + 1, 0);
        match self.shared.plan.processes {
            1 => self.next_round(),
            _ => self.control.say(&Report::RoundDone { seq }),
        }
    }

    fn next_round(&mut self) {
        if let Some(publisher) = &mut self.publisher {
            publisher.clear_next_round();
        }
    }
}

fn cpu_ns() -> u64 {
    sys::thread_cpu_time().map_or(0, |time| time.as_nanos() as u64)
}

const CONTROL: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);
const PUBLISHER: Token = Token(usize::MAX - 3);
/// Connections being opened at the same time: enough to keep a server busy, and less than the
/// queue of a listener commonly holds.
const CONNECTING_MAX: usize = 128;
const PROGRESS_NS: u64 = 200_000_000;
const INTERVAL_NS: u64 = 1_000_000_000;
const SLOW_STEP_MS: u64 = 50;
