//! What the server knows of itself, in plain integers.
//!
//! The hot path increments fields of a struct; nothing is formatted, hashed or locked until
//! somebody asks. In reading order:
//!
//! * [`counters`]: calls, bytes, frames, wake-ups, closes by reason.
//! * [`histogram`]: distributions at a fixed relative resolution.
//! * `metrics`: all of it as OpenMetrics text (feature `admin`).

pub mod counters;
pub mod histogram;
#[cfg(feature = "admin")]
pub mod metrics;
