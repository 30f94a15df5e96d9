//! How long an event takes, measured by publishing some: one subscriber that stays, and a
//! connection per event.
//!
//! A probe's time begins at the moment at which it was to be published, so a server that is slow to
//! accept, to answer or to deliver is seen in it, and so is a machine that is too busy to run us.

use crate::client::event_source::{EventSource, Options};
use crate::client::exchange::exchange;
use crate::client::url::Url;
use crate::observe::histogram::Histogram;
use crate::sys;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What the probes have come to, since the start and since they were last asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Published and accepted.
    pub sent: u64,
    /// Received.
    pub received: u64,
    /// Not accepted.
    pub refused: u64,
    /// The times of those received since the last question, in microseconds.
    pub time_us: Histogram,
}

/// Two threads that publish and read. Dropped, the one that publishes ends.
pub(super) struct Probe {
    tally: Arc<Mutex<Tally>>,
    ended: Arc<AtomicBool>,
}

impl Probe {
    /// Begins to publish to `topic`, a URL, and to read it.
    pub fn start(topic: Url) -> Probe {
        let probe = Probe { tally: Arc::default(), ended: Arc::default() };
        let (tally, url) = (probe.tally.clone(), topic.clone());
        // Ends with the process: it waits for events, and there may be none any more.
        thread::spawn(move || read(url, &tally));
        let (tally, ended) = (probe.tally.clone(), probe.ended.clone());
        thread::spawn(move || publish(&topic, &tally, &ended));
        probe
    }

    /// What they have come to; begins a new interval.
    pub fn take(&self) -> Tally {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = tally.clone();
        tally.time_us.clear();
        taken
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn read(topic: Url, tally: &Mutex<Tally>) {
    // From the first event on, whether or not it is published before this stream is open.
    let options = Options {
        last_event_id: "earliest".into(),
        retry_ms: 100,
        silence_timeout: Some(SILENCE),
        ..Options::default()
    };
    let mut stream = EventSource::new(topic, options);
    while let Ok(event) = stream.next_event() {
        let now_ns = sys::monotonic_ns();
        // Anything else, such as a heartbeat or a gap notice, is no probe.
        let Some(due_ns) = event.data.strip_prefix(MARK).and_then(|text| text.parse::<u64>().ok())
        else {
            continue;
        };
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.received += 1;
        tally.time_us.record(now_ns.saturating_sub(due_ns) / 1000);
    }
}

fn publish(topic: &Url, tally: &Mutex<Tally>, ended: &AtomicBool) {
    let mut due_ns = sys::monotonic_ns();
    while !ended.load(Ordering::Relaxed) {
        let wait_ns = due_ns.saturating_sub(sys::monotonic_ns());
        thread::sleep(Duration::from_nanos(wait_ns));
        let answer = exchange(topic, "POST", &format!("{MARK}{due_ns}"));
        let accepted = answer.is_ok_and(|answer| answer.status == 200);
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        match accepted {
            true => tally.sent += 1,
            false => tally.refused += 1,
        }
        drop(tally);
        due_ns += PERIOD_NS;
    }
}

const MARK: &str = "probe ";
const PERIOD_NS: u64 = 100_000_000;
const SILENCE: Duration = Duration::from_secs(30);
