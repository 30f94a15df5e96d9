//! The load generator certifies servers, so it must see what they do wrong, and say nothing against
//! those that do right.
//!
//! A [`hub`] misbehaves in one way at a time ([`fault`]), in front of every mode of the generator
//! ([`cell`]). Each cell has its one right verdict, with its exit status: the [`table`] is the test.
//! No verdict may depend on how fast anything is. Where a run waits for what is to come, it may
//! wait for long; where it waits for what will never come, all that could come has come before.
//!
//! Cuts at every single byte are in the unit tests of `client::stream`, which need no sockets.

#![allow(clippy::unwrap_used)] // a test may panic

mod cell;
mod fault;
mod hub;
mod patience;
#[path = "../support/load.rs"]
mod run;
mod table;

use cell::{Cell, Pace};

#[test]
fn open_loops() {
    cell::check(&Cell::all(Pace::Open));
}

#[test]
fn closed_loops() {
    cell::check(&Cell::all(Pace::Round));
}

#[test]
fn floods() {
    cell::check(&Cell::all(Pace::Flood));
}

#[test]
fn runs_that_only_listen() {
    cell::check(&Cell::all(Pace::Listen));
}
