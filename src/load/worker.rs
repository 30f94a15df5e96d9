//! The loop of one process: its share of the subscribers, and in the first process the publisher.

use super::control::Control;
use super::crowd::Crowd;
use super::message::{Order, Progress, Report};
use super::plan::{Pace, Plan, Reader};
use super::publisher::Publisher;
use super::tally::Distribution;
use crate::sys::{self, Timer};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
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
    crowd: Crowd,
    publisher: Option<Publisher>,
    /// The publisher's socket has become readable or writable.
    publisher_ready: bool,
    stage: Stage,
    clock: Clock,
    /// Latencies of the intervals that were reported already.
    reported: Distribution,
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
        /// So many subscribers, from the first one on, are known to have all of them.
        finished: usize,
    },
    Over,
}

impl<'c> Worker<'c> {
    fn new(plan: Plan, worker: usize, control: &'c mut Control) -> Result<Worker<'c>, String> {
        let text = |error: io::Error| error.to_string();
        let publisher = plan.publish.as_ref().filter(|_| worker == 0);
        let publisher = publisher.map(|publish| Publisher::new(&plan, publish)).transpose()?;
        // A rest of 50 µs would otherwise be one of 100.
        sys::set_timer_slack(Duration::from_micros(1)).map_err(text)?;
        let (poll, timer) = (Poll::new().map_err(text)?, Timer::new().map_err(text)?);
        for (token, descriptor) in [(CONTROL, control.as_raw_fd()), (TIMER, timer.as_raw_fd())] {
            let mut source = SourceFd(&descriptor);
            poll.registry().register(&mut source, token, Interest::READABLE).map_err(text)?;
        }
        let registry = poll.registry().try_clone().map_err(text)?;
        Ok(Worker {
            control,
            poll,
            timer,
            crowd: Crowd::new(plan, worker, registry)?,
            publisher,
            publisher_ready: false,
            stage: Stage::Opening,
            clock: Clock::default(),
            reported: Distribution::default(),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        while self.stage != Stage::Over {
            let spins = self.crowd.shared.plan.spin && self.crowd.shared.running;
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
                        self.crowd.ready(nth, event.is_writable(), event.is_readable() || end, end);
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
        let interval_ns = self.crowd.shared.plan.coalesce_us * 1000;
        let polled_ns = std::mem::replace(&mut self.clock.polled_ns, self.clock.turned_ns);
        let now_ns = self.clock.turned_ns;
        let bursting = self.crowd.shared.running && now_ns < polled_ns + 2 * interval_ns;
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
        let ends_ns = match self.stage {
            Stage::Answering(deadline_ns) | Stage::Finishing { deadline_ns, .. } => deadline_ns,
            Stage::Running => self.publisher.as_ref().map_or(u64::MAX, Publisher::given_up_ns),
            _ => u64::MAX,
        };
        let times = [
            self.clock.progress_ns,
            self.crowd.next_ns(),
            self.publisher.as_ref().and_then(|p| p.next_ns(now_ns)).unwrap_or(u64::MAX),
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
                Order::NextRound { seq } => self.next_round(seq),
                Order::Finish { events } => self.finish(events),
                Order::Stop => self.stage = Stage::Over,
            }
        }
        Ok(())
    }

    fn start(&mut self, at_ns: u64) {
        let plan = &self.crowd.shared.plan;
        let measured_from_ns = at_ns + plan.warmup_ms * 1_000_000;
        let ends_ns = measured_from_ns + plan.duration_ms * 1_000_000;
        if let Some(publisher) = &mut self.publisher {
            publisher.start(at_ns, measured_from_ns, ends_ns);
        }
        self.crowd.start(measured_from_ns);
        self.stage = Stage::Running;
        self.clock.interval_ns = at_ns;
        self.clock.started_ns = at_ns;
        self.clock.started_cpu_ns = cpu_ns();
        self.clock.busy_ns = 0;
    }

    /// No more events will come: whoever has not got all of them yet is waited for.
    fn finish(&mut self, events: u64) {
        let deadline_ns = sys::monotonic_ns() + self.crowd.shared.plan.grace_ms * 1_000_000;
        let plan = &self.crowd.shared.plan;
        self.stage = match plan.reader == Reader::Never {
            true => Stage::Over, // there is nothing that anybody must have got
            false => Stage::Finishing { events, deadline_ns, finished: 0 },
        };
        self.crowd.finish();
    }

    fn turn(&mut self, now_ns: u64) -> io::Result<()> {
        self.crowd.turn(now_ns);
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
            Stage::Opening if self.crowd.is_settled() => {
                self.stage = Stage::Waiting;
                let first_failure = self.crowd.shared.tally.first_failure.clone();
                self.control.say(&Report::Ready { open: self.crowd.open(), first_failure });
            }
            Stage::Running => {
                let done = self.publisher.as_ref().is_some_and(|p| p.is_done(now_ns));
                if let (true, Some(publisher)) = (done, &self.publisher) {
                    let published = &mut self.crowd.shared.tally.published;
                    publisher.note_unpublished(now_ns, published);
                    let grace_ns = self.crowd.shared.plan.grace_ms * 1_000_000;
                    self.stage = Stage::Answering(now_ns + grace_ns);
                    self.advance(now_ns);
                }
            }
            Stage::Answering(deadline_ns) => {
                let Some(publisher) = &self.publisher else { return };
                if !publisher.awaits_answers() || now_ns >= deadline_ns {
                    let unanswered = publisher.unanswered();
                    let published = &mut self.crowd.shared.tally.published;
                    published.unanswered += unanswered as u64;
                    if unanswered > 0 {
                        let text =
                            || format!("publishing: {unanswered} requests were not answered");
                        published.first_refusal.get_or_insert_with(text);
                    }
                    self.control.say(&Report::Published { events: publisher.events() });
                    self.stage = Stage::Published;
                }
            }
            Stage::Finishing { events, deadline_ns, finished } => {
                let finished = self.crowd.finished(events, finished);
                self.stage = Stage::Finishing { events, deadline_ns, finished };
                if finished == self.crowd.len() || now_ns >= deadline_ns {
                    self.crowd.count_what_has_not_come(events);
                    self.stage = Stage::Over;
                }
            }
            _ => {}
        }
    }

    fn report_progress(&mut self, now_ns: u64) {
        self.clock.progress_ns = now_ns + PROGRESS_NS;
        let tally = &self.crowd.shared.tally;
        self.control.say(&Report::Progress(Progress {
            open: self.crowd.open(),
            unreachable: self.crowd.unreachable(),
            published: self.publisher.as_ref().map_or(0, Publisher::events),
            deliveries: tally.deliveries,
            offences: tally.offences.count(),
        }));
        let measured = now_ns >= self.crowd.shared.measured_from_ns;
        if measured && now_ns >= self.clock.interval_ns + INTERVAL_NS {
            self.report_interval(now_ns);
        }
    }

    fn report_interval(&mut self, now_ns: u64) {
        let latency_ns = self.crowd.shared.tally.latency_ns.take();
        self.reported.add(&latency_ns);
        let start_ns = self.clock.interval_ns.max(self.crowd.shared.measured_from_ns).min(now_ns);
        self.clock.interval_ns = now_ns;
        let duration_ns = now_ns - start_ns;
        self.control.say(&Report::Interval { start_ns, duration_ns, latency_ns });
    }

    fn report_end(&mut self) {
        let now_ns = sys::monotonic_ns();
        if self.crowd.shared.running {
            self.report_interval(now_ns);
        }
        let mut tally = self.crowd.take_tally();
        tally.latency_ns = self.reported.take();
        if self.crowd.shared.running {
            let cpu_ns = cpu_ns() - self.clock.started_cpu_ns;
            // What was spun away was not needed.
            let spun = self.crowd.shared.plan.spin;
            tally.cpu_ns = if spun { cpu_ns.min(self.clock.busy_ns) } else { cpu_ns };
            tally.wall_ns = now_ns.saturating_sub(self.clock.started_ns);
        }
        self.control.say(&Report::Final(Box::new(tally)));
    }
}

/// The publisher.
impl Worker<'_> {
    fn publish(&mut self, now_ns: u64) -> io::Result<()> {
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        let tally = &mut self.crowd.shared.tally;
        if publisher.wants_to_connect(now_ns) {
            publisher.connect(now_ns, &mut tally.published);
            if let Some(socket) = &mut publisher.socket {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(socket, PUBLISHER, interest)?;
            }
        }
        if let Some(seq) = publisher.publish_due(now_ns, &mut tally.published)
            && seq != self.crowd.shared.round.0
        {
            self.crowd.shared.round = (seq, 0);
        }
        let ready = std::mem::take(&mut self.publisher_ready);
        let buffer = &mut self.crowd.shared.buffer;
        publisher.exchange(ready, buffer, now_ns, &mut tally.published);
        Ok(())
    }

    /// In a closed loop: tells that everybody here has the event of the round.
    fn complete_round(&mut self) {
        let round = self.crowd.shared.plan.publish.as_ref().map(|publish| publish.pace);
        if round != Some(Pace::Round)
            || self.crowd.shared.round.1 < self.crowd.open()
            || self.crowd.open() == 0
        {
            return;
        }
        let seq = self.crowd.shared.round.0;
        self.crowd.shared.round = (seq + 1, 0);
        match self.crowd.shared.plan.processes {
            1 => self.next_round(seq),
            _ => self.control.say(&Report::RoundDone { seq }),
        }
    }

    fn next_round(&mut self, seq: u64) {
        if let Some(publisher) = &mut self.publisher {
            publisher.clear_next_round(seq);
        }
    }
}

fn cpu_ns() -> u64 {
    sys::thread_cpu_time().map_or(0, |time| time.as_nanos() as u64)
}

const CONTROL: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);
const PUBLISHER: Token = Token(usize::MAX - 3);
const PROGRESS_NS: u64 = 200_000_000;
const INTERVAL_NS: u64 = 1_000_000_000;
