//! pushv is a Server-Sent Events hub on a single-threaded mio reactor, in which every decision of
//! the write path is a value that can be exchanged while connections are live, and is counted.
//!
//! # The one idea
//!
//! An event is encoded once, at publish, into its final form on the wire, and appended to its
//! topic's [log](push::log). A subscriber is a [cursor](push::cursor) into that log. Its write
//! queue is therefore a few private bytes (the head of its stream, a heartbeat, a notice, the rest
//! of a frame that was cut) followed by the log from the cursor to the head, and a flush of any
//! backlog is one call. Publishing costs the same for one subscriber and for a hundred thousand;
//! a replay after `Last-Event-ID` is the live path with the cursor further back; a reader that
//! never reads costs its cursor; and overrun is one comparison.
//!
//! # Reading order
//!
//! Bottom up, each part standing on those before it:
//!
//! 1. [`wire`]: the formats, without I/O. Begin with [`wire::event`], which shows a frame.
//! 2. [`push`]: logs, cursors, fan-out, the hub. Begin with [`push::log`].
//! 3. [`send`]: the write path. [`send::queue`] is the queue, [`send::path`] the ways to
//!    turn it into system calls, [`send::drain`] the loop that makes them.
//! 4. [`config`]: every limit and knob, in one table.
//! 5. [`server`]: connections, requests, flushes, time, shutdown; everything but the loop.
//! 6. [`reactor`]: the loop.
//! 7. [`feed`]: sources of events inside the process. [`observe`]: counters, and where events are;
//!    begin with [`observe::ladder`]. [`sys`]: all unsafe code.
//! 8. [`client`]: the other side, which stands on [`wire`] alone. Begin with [`client::stream`].
//!    `load`, a feature: the load generator, which stands on that.
//!    `soak`, a feature: hours under load, sampled and judged.
//! 9. `lab`, a feature: the laboratory, which turns the knobs of a running server and says what that
//!    costs. Begin with its `method`. Nothing above mentions it.
//!
//! # A turn of the loop
//!
//! ```text
//! poll ──► accept, read, parse ──► publish: append to logs, make passes due
//!   ▲                                        │
//!   │      unblock what became writable      ▼
//!   │                              pass over subscribers, one slice of time:
//!   │                              drain each that is not blocked
//!   │                                        │
//!   └── close what was asked to be closed ◄──┴── sweep a part of the connections for deadlines
//! ```
//!
//! # Invariants
//!
//! * A cursor stands on a frame border. The rest of a frame that a short write has cut becomes
//!   private bytes.
//! * Private bytes leave before the log's. Bytes that the kernel took are never read again.
//! * A subscriber of several topics gets them in the order of the hub, or one id could not resume
//!   all of them.
//! * Nothing is lost silently: what a reader does not get, a `gap` event or the end of its stream
//!   tells it.
//! * One owner, the server, mutates; nothing is global, shared or locked. Other threads hand
//!   things over through bounded queues.
//! * A connection ends in one place. No connection can end the server.
//! * Between accept and close there is no `epoll_ctl`, and an event that goes out to a subscriber
//!   allocates nothing.
//!
//! # Running one
//!
//! ```
//! use pushv::config::Config;
//! use pushv::reactor::{Command, Reactor};
//!
//! let config = Config {
//!     listen: vec!["127.0.0.1:0".parse().unwrap()],
//!     admin: None,
//!     ..Config::default()
//! };
//! let reactor = Reactor::bind(config)?;
//! println!("listening on {:?}", reactor.public_addresses());
//! let handle = reactor.handle();
//! let thread = std::thread::spawn(move || reactor.run());
//! handle.send(Command::Drain).unwrap();
//! thread.join().unwrap()?;
//! # Ok::<(), std::io::Error>(())
//! ```

/// The commit that this was built from, with `-dirty` behind it if a file that goes into the program
/// differed from that commit. Nothing if it was built outside of a repository, or without git.
pub const COMMIT: Option<&str> = {
    let commit = env!("BUILT_FROM_COMMIT");
    if commit.is_empty() { None } else { Some(commit) }
};

pub mod client;
pub mod config;
pub mod feed;
#[cfg(feature = "lab")]
pub mod lab;
#[cfg(feature = "load")]
pub mod load;
pub mod observe;
pub mod push;
pub mod reactor;
pub mod send;
pub mod server;
#[cfg(feature = "soak")]
pub mod soak;
pub mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wire;
