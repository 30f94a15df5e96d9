//! Bad input, and that nobody else notices: requests that are malformed, ambiguous, cut, too long
//! or too many.
//!
//! Every row of a table is sent over a connection of its own to a server in a process of its own,
//! which has a witness: a subscriber whose stream must be complete and in order at the end, while
//! the process lives, and with as many descriptors as in the beginning ([`scene`]). Each row has
//! the number of the case that it belongs to:
//!
//! | cases | about | where |
//! |---|---|---|
//! | 1, 2, 21 | requests cut anywhere, in pieces, with their end | [`pieces`] |
//! | 3–6, 17, 18 | heads | [`heads`] |
//! | 7–10 | where a body ends | [`lengths`] |
//! | 5, 6, 11–14 | chunks | [`chunks`] |
//! | 15, 16 | sizes | [`sizes`] |
//! | 19, 20 | methods, other protocols, pipelining | [`methods`] |
//! | 22–24 | what is published | [`publishing`] |
//! | 25, 26 | resuming | [`resuming`] |
//! | 38 | subscribers that talk | [`chatter`] |
//! | 40 | memory | [`memory`] |
//!
//! What a row expects is what `docs/DEVIATIONS.md` promises ([`page`]).

#![allow(clippy::unwrap_used)] // a test may panic

mod chatter;
mod chunks;
mod heads;
mod lengths;
mod memory;
mod methods;
mod page;
mod pieces;
mod publishing;
mod resuming;
mod scene;
mod sizes;
#[path = "../support/mod.rs"]
mod support;
mod table;
