//! The write path: how queued bytes become system calls, and when.
//!
//! The parts only ever see a [`transport::Transport`], so a scripted socket can assert every byte
//! and every call. In reading order:
//!
//! * [`transport`]: what the write path asks of a socket.
//! * [`private`]: bytes that belong to one connection alone.
//! * [`queue`]: a connection's private bytes and its part of the logs, as one queue.
//! * [`path`]: the ways to turn that queue into calls.
//! * [`rule`]: when copying is cheaper than gathering, for the way that chooses.
//! * [`drain`]: the one loop that makes the calls and reads their outcome.
//! * [`flush`]: when a topic's subscribers are flushed.
//! * [`adapt`]: the controller behind the flush policy `adaptive`.
//! * [`socket_knobs`]: the options of the sockets.
//! * [`stamped`]: a socket whose next call the kernel stamps.

// Every panic is an outage: a server has one thread. What an invariant makes safe says so where it is.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub mod adapt;
pub mod drain;
pub mod flush;
pub mod path;
pub mod private;
pub mod queue;
pub mod rule;
pub mod socket_knobs;
pub mod stamped;
pub mod transport;

#[cfg(test)]
mod tests;
