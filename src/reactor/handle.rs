//! How other threads reach the reactor: a bounded queue and a waker.

use crate::config::Config;
use crate::server::OwnedEvent;
use mio::{Registry, Token, Waker};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Something that the reactor is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Publish an event.
    Publish(OwnedEvent),
    /// Adopt another configuration, which has been validated.
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
    queue: SyncSender<Command>,
    waker: Arc<Waker>,
    more: Arc<AtomicBool>,
}

impl Handle {
    /// Hands over a command. Waits while the queue is full, which holds back a feed that is
    /// faster than the reactor.
    ///
    /// # Errors
    /// [`Gone`], if nobody is there to obey.
    pub fn send(&self, command: Command) -> Result<(), Gone> {
        self.queue.send(command).map_err(|_| Gone)?;
        // One wake-up is enough for all commands of a turn.
        if !self.more.swap(true, Ordering::AcqRel) {
            self.waker.wake().map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Hands over an event to publish, likewise.
    ///
    /// # Errors
    /// [`Gone`], if nobody is there to publish it.
    pub fn publish(&self, event: OwnedEvent) -> Result<(), Gone> {
        self.send(Command::Publish(event))
    }
}

/// The reactor's end of the queue.
#[derive(Debug)]
pub(super) struct Commands {
    queue: Receiver<Command>,
    /// Something was sent since the queue was last seen to be empty.
    more: Arc<AtomicBool>,
}

impl Commands {
    /// The commands that are waiting, up to a bound.
    pub(super) fn take(&self) -> Vec<Command> {
        if !self.more.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let commands: Vec<Command> = self.queue.try_iter().take(COMMANDS_PER_TURN).collect();
        if commands.len() == COMMANDS_PER_TURN {
            self.more.store(true, Ordering::Release);
        }
        commands
    }

    /// Whether commands may be waiting for which no wake-up is to be expected.
    pub(super) fn has_more(&self) -> bool {
        self.more.load(Ordering::Acquire)
    }
}

pub(super) fn channel(registry: &Registry, token: Token) -> io::Result<(Commands, Handle)> {
    let (sender, receiver) = sync_channel(QUEUE_LEN);
    let more = Arc::new(AtomicBool::new(false));
    let waker = Arc::new(Waker::new(registry, token)?);
    let commands = Commands { queue: receiver, more: Arc::clone(&more) };
    Ok((commands, Handle { queue: sender, waker, more }))
}

const QUEUE_LEN: usize = 1024;
const COMMANDS_PER_TURN: usize = 256;
