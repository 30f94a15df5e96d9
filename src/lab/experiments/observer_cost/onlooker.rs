//! Somebody who looks at the server while it is measured: a thread of the process that gives the
//! orders, and so on the subscribers' processor.

use crate::client::event_source::{Closer, EventSource, Options};
use crate::client::exchange;
use crate::client::url::Url;
use crate::lab::rig::server::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looks {
    /// The stream of the live page, as it comes.
    Live,
    /// This, five times a second.
    Polls(&'static str),
}

impl Looks {
    pub fn target(self) -> &'static str {
        match self {
            Looks::Live => "/live",
            Looks::Polls(target) => target,
        }
    }
}

/// Somebody who looks on. Dropped, they are told to go, and have gone.
#[derive(Debug)]
pub(super) struct Onlooker {
    answers: Arc<AtomicU64>,
    end: End,
    thread: Option<JoinHandle<Result<(), String>>>,
}

/// How they are told to go.
#[derive(Debug)]
enum End {
    Close(Closer),
    /// Dropped, it ends the thread.
    Drop(Option<Sender<()>>),
}

impl Onlooker {
    /// Begins to look, and has seen something when this returns.
    ///
    /// # Errors
    /// That nothing was to be seen.
    pub fn start(looks: Looks, server: &Server) -> Result<Onlooker, String> {
        let (url, answers) = (server.admin(looks.target()), Arc::new(AtomicU64::new(0)));
        let seen = Arc::clone(&answers);
        let (end, thread) = match looks {
            Looks::Live => {
                let source = EventSource::new(url, Options::default());
                (End::Close(source.closer()), thread::spawn(move || watch(source, &seen)))
            }
            Looks::Polls(_) => {
                let (end, ended) = mpsc::channel();
                (End::Drop(Some(end)), thread::spawn(move || poll(&url, &seen, &ended)))
            }
        };
        let onlooker = Onlooker { answers, end, thread: Some(thread) };
        onlooker.wait_for_first(looks)
    }

    /// Answers and events so far.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Goes.
    ///
    /// # Errors
    /// What went wrong in the meantime.
    pub fn stop(mut self) -> Result<(), String> {
        self.end_and_join()
    }

    fn wait_for_first(mut self, looks: Looks) -> Result<Onlooker, String> {
        let deadline = Instant::now() + PATIENCE;
        while self.answers() == 0 {
            let over = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            if over || Instant::now() > deadline {
                let why = self.end_and_join().err();
                let why = why.unwrap_or_else(|| "nothing came".into());
                return Err(format!("{}: {why}", looks.target()));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(self)
    }

    fn end_and_join(&mut self) -> Result<(), String> {
        match &mut self.end {
            End::Close(closer) => closer.close(),
            End::Drop(sender) => *sender = None,
        }
        let joined = self.thread.take().map_or(Ok(Ok(())), JoinHandle::join);
        joined.unwrap_or_else(|_| Err("the onlooker has panicked".into()))
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        let _ended = self.end_and_join();
    }
}

/// Reads a stream until it is closed from our side.
fn watch(mut source: EventSource, seen: &AtomicU64) -> Result<(), String> {
    use crate::client::event_source::Ended;
    loop {
        match source.next_event() {
            Ok(event) if event.data.is_empty() => return Err("an event without a state".into()),
            Ok(_) => drop(seen.fetch_add(1, Ordering::Relaxed)),
            Err(Ended::Closed) => return Ok(()),
            Err(Ended::Failed(why)) => return Err(why),
        }
    }
}

/// Asks at a fixed rate, until the other end of `ended` is dropped.
fn poll(url: &Url, seen: &AtomicU64, ended: &Receiver<()>) -> Result<(), String> {
    let mut due = Instant::now();
    loop {
        exchange::get(url)?;
        seen.fetch_add(1, Ordering::Relaxed);
        due += INTERVAL;
        let wait = due.saturating_duration_since(Instant::now());
        match ended.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// As often as the live page is fed.
const INTERVAL: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);
