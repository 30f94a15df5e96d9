//! What the server knows of itself, in plain integers.
//!
//! The hot path increments fields of a struct; nothing is formatted, hashed or locked until
//! somebody asks. In reading order:
//!
//! * [`counters`]: calls, bytes, frames, wake-ups, closes by reason.
//! * [`histogram`]: distributions at a fixed relative resolution.
//! * [`ladder`]: where a stream's events are, in bytes and by id.
//! * [`tcp_info`] and [`verdict`]: what the kernel knows of it, and so why they are there.
//! * [`looks`]: what one look tells by comparison with an earlier one.
//! * [`survey`]: all streams at one moment.
//! * [`stamps`]: how long single writes take to be sent and acknowledged.
//! * [`usage`]: what the whole process has used.
//! * [`complaints`]: one line of the log for what happens again and again.
//! * [`outlet`]: log lines that never wait for their reader.
//! * `metrics`: all of it as OpenMetrics text (feature `admin`).

pub mod complaints;
pub mod counters;
pub mod histogram;
pub mod ladder;
pub mod looks;
#[cfg(feature = "admin")]
pub mod metrics;
pub mod outlet;
pub mod stamps;
pub mod survey;
pub mod tcp_info;
pub mod usage;
pub mod verdict;
