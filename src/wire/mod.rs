//! Bytes in, bytes out: the formats pushv speaks, without any I/O.
//!
//! Everything here is a function of its input, so everything here can be tested over every way
//! of cutting that input. In reading order:
//!
//! * [`chunk`]: the chunked transfer coding (RFC 9112 §7.1), written and read strictly.
//! * [`event`]: an event becomes a frame, once, at publish.
//! * [`decode`]: a byte stream becomes events again (the WHATWG algorithm).
//! * [`head`]: a request head becomes a [`head::Head`], or a refusal that names its reason.
//! * [`target`]: paths, queries and percent-encoding.
//! * [`response`]: heads of answers, and the few answers that are always the same.
//! * [`date`], [`json`]: the two small notations those need.

// Every panic is an outage: a server has one thread. What an invariant makes safe says so where it is.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub mod chunk;
pub mod date;
pub mod decode;
pub mod event;
pub mod head;
pub mod json;
pub mod response;
pub mod target;
