//! Where events come from besides HTTP.
//!
//! A feed runs in a thread of its own and reaches the hub through a bounded queue. The hub does
//! not know what is behind it, so a consumer of some log or broker can be one more feed.

mod clock;
mod lines;

pub use clock::Clock;
pub use lines::Lines;

use crate::reactor::{Gone, Handle};
use std::io;
use std::thread::{self, JoinHandle};

/// A source of events.
pub trait Feed: Send + 'static {
    /// Its name, for its thread and the log.
    fn name(&self) -> &'static str;

    /// Publishes until there is nothing more to publish or nobody left to publish to. May wait
    /// for as long as it likes.
    ///
    /// # Errors
    /// [`Gone`], if the hub has ended.
    fn run(self, hub: &Handle) -> Result<(), Gone>;
}

/// Runs a feed in a thread. The thread ends with the feed, or with the process.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(feed: impl Feed, hub: Handle) -> io::Result<JoinHandle<()>> {
    let name = feed.name();
    thread::Builder::new().name(name.into()).spawn(move || match feed.run(&hub) {
        Ok(()) => log::info!("the feed {name} has ended"),
        Err(Gone) => log::debug!("the feed {name} has nobody left to publish to"),
    })
}
