//! `docs/LIMITS.md` is true: its table is read, and for each row a server is driven to the limit,
//! which must be kept, and above it, where what the row says must happen.
//!
//! A limit that is a knob is set low for that; the default on the page is compared with the code's.
//! A limit that is a constant is taken from the page, so that a wrong number there fails too.

#![allow(clippy::unwrap_used)] // a test may panic

mod numbers;
mod page;
mod requests;
#[path = "../support/mod.rs"]
mod support;
mod times;
