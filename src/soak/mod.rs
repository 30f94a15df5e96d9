//! Hours under a mixed load, sampled and judged: `scripts/soak.sh`.
//!
//! What is wrong by a little each time (a descriptor that is not closed, a block of memory per
//! connection, a subscriber that is forgotten once in a million events) no short test sees. The
//! script runs a server under everything that its peers and its operator may do; this module asks
//! it how it is, every few seconds, and says at the end whether that has stayed the same.
//!
//! * [`sample`]: what is asked, and how it is written down: a line of JSON.
//! * [`sampler`]: asks, until the server is gone. `probe`: the time that an event takes, measured
//!   by publishing some.
//! * [`trend`]: whether a series of values rises, with what confidence.
//! * [`record`]: what is known of a run at its end. [`judge`]: the criteria. `tables`: its page.

pub mod judge;
mod probe;
pub mod record;
pub mod sample;
pub mod sampler;
mod tables;
pub mod trend;
