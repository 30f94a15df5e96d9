//! How other threads reach the reactor: two bounded queues and a waker.
//!
//! Events have a queue of their own, because they may have to wait: while readers lag behind, the
//! reactor takes no more of them, the queue fills up, and the feeds stand still. Commands never
//! wait behind events.

use crate::config::Config;
use crate::server::OwnedEvent;
use mio::{Registry, Token, Waker};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Something that the reactor is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Adopt another configuration as far as that can be done while running. If what would then be
    /// in force is not valid ([`Config::after_reload`]), everything stays as it is.
    Reconfigure(Box<Config>),
    /// Go down in order.
    Drain,
    /// Go down at once.
    Stop,
}

/// The reactor has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// A way to reach a reactor from other threads. Feeds use one; so do signals.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: SyncSender<Command>,
    events: SyncSender<OwnedEvent>,
    waker: Arc<Waker>,
    woken: Arc<AtomicBool>,
    event_bytes_max: Arc<AtomicUsize>,
}

impl Handle {
    /// How many bytes the data of an event may have, as the reactor's configuration says now.
    pub fn event_bytes_max(&self) -> usize {
        self.event_bytes_max.load(Ordering::Relaxed)
    }

    /// Hands over a command.
    ///
    /// # Errors
    /// [`Gone`], if nobody is there to obey.
    pub fn send(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).map_err(|_| Gone)?;
        self.wake()
    }

    /// Hands over an event to publish. Waits while the queue is full, which holds back a feed that
    /// is faster than the hub's readers.
    ///
    /// # Errors
    /// [`Gone`], if nobody is there to publish it.
    pub fn publish(&self, event: OwnedEvent) -> Result<(), Gone> {
        self.events.send(event).map_err(|_| Gone)?;
        self.wake()
    }

    /// One wake-up is enough for everything that is sent within a turn.
    fn wake(&self) -> Result<(), Gone> {
        if self.woken.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        loop {
            match self.waker.wake() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                woken => return woken.map_err(|_| Gone),
            }
        }
    }
}

/// The reactor's end of the queues.
#[derive(Debug)]
pub(super) struct Inbox {
    commands: Receiver<Command>,
    events: Receiver<OwnedEvent>,
    /// Something was sent since the queues were last looked at.
    woken: Arc<AtomicBool>,
    /// Events may be waiting for which no wake-up is to be expected.
    more_events: bool,
    event_bytes_max: Arc<AtomicUsize>,
}

impl Inbox {
    /// Tells the feeds how many bytes the data of an event may have.
    pub(super) fn set_event_bytes_max(&self, bytes: usize) {
        self.event_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// The next command, if any.
    pub(super) fn command(&mut self) -> Option<Command> {
        if self.woken.swap(false, Ordering::AcqRel) {
            self.more_events = true;
        }
        self.commands.try_recv().ok()
    }

    /// The next event, if any.
    pub(super) fn event(&mut self) -> Option<OwnedEvent> {
        let event = if self.more_events { self.events.try_recv().ok() } else { None };
        self.more_events = event.is_some();
        event
    }

    /// Whether events may be waiting for which no wake-up is to be expected.
    pub(super) fn has_more(&self) -> bool {
        self.more_events
    }
}

pub(super) fn channel(
    registry: &Registry,
    token: Token,
    event_bytes_max: usize,
) -> io::Result<(Inbox, Handle)> {
    let (command_sender, commands) = sync_channel(COMMANDS_MAX);
    let (event_sender, events) = sync_channel(EVENTS_MAX);
    let woken = Arc::new(AtomicBool::new(false));
    let waker = Arc::new(Waker::new(registry, token)?);
    let event_bytes_max = Arc::new(AtomicUsize::new(event_bytes_max));
    let inbox = Inbox {
        commands,
        events,
        woken: Arc::clone(&woken),
        more_events: false,
        event_bytes_max: Arc::clone(&event_bytes_max),
    };
    let (commands, events) = (command_sender, event_sender);
    let handle = Handle { commands, events, waker, woken, event_bytes_max };
    Ok((inbox, handle))
}

const COMMANDS_MAX: usize = 16;
const EVENTS_MAX: usize = 1024;
