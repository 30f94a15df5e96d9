//! One log per topic, one cursor per subscriber: what has been published, and who has seen what.
//!
//! No I/O and no clock: times come in as numbers. In reading order:
//!
//! * [`id`]: the hub-wide count behind every event id.
//! * [`log`]: a bounded run of frames in contiguous memory.
//! * [`cursor`]: a subscriber's place in a log.
//! * [`fanout`]: a topic's subscribers, and how far the current pass over them has come.
//! * [`own_ids`]: which frames carry ids that their publishers gave.
//! * [`topic`]: a log, its publishers' ids, its fan-out. [`topics`]: the table of them.
//! * [`gap`]: the notice that tells a reader what it has lost.
//! * [`hub`]: publish and resume.

// Every panic is an outage: a server has one thread. What an invariant makes safe says so where it is.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub mod cursor;
pub mod fanout;
pub mod gap;
pub mod hub;
pub mod id;
#[cfg(any(test, feature = "testing"))]
pub mod journal;
pub mod log;
pub mod own_ids;
pub mod topic;
pub mod topics;
