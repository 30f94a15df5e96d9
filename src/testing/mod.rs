//! Stand-ins for the world outside: built for tests only.
//!
//! * [`script`]: a socket that takes what its script says and records every call.
//! * The simulator, a real [`crate::server::Server`] in a world of which everything is drawn from one
//!   seed:
//!   * [`scenario`]: what happens, as a list of steps; [`knobs`], [`access`]: under which settings.
//!   * [`faults`]: what goes wrong besides.
//!   * [`pipe`]: a connection in memory, and what a kernel tells of it. [`kernel`]: the queue of those that are to be accepted, and
//!     the readiness of all.
//!   * [`ledger`]: what was published. [`subscriber`], [`publisher`]: clients that check what they
//!     receive against it. [`caller`]: a client that asks about everything else.
//!   * [`world`]: lives through a scenario. [`simulate`]: through thousands of them. [`shrink`]: finds
//!     the smallest that fails.
//! * [`fuzzing`]: what the fuzzers run.

pub mod access;
mod answer;
pub mod caller;
pub mod faults;
mod flow;
pub mod fuzzing;
pub mod kernel;
pub mod knobs;
pub mod ledger;
pub mod pipe;
pub mod publisher;
#[cfg(test)]
mod regressions;
pub mod scenario;
pub mod script;
pub mod shrink;
pub mod simulate;
pub mod subscriber;
pub mod world;

use std::collections::VecDeque;

/// A small generator of random numbers (splitmix64): the same seed, the same numbers, everywhere.
/// It can also read its numbers from bytes that a fuzzer has chosen.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
    tape: Option<VecDeque<u8>>,
}

impl Dice {
    /// Dice that fall as `seed` says.
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed, tape: None }
    }

    /// Dice that fall as `bytes` say, and always on the first side once those are used up.
    pub fn from_bytes(bytes: &[u8]) -> Dice {
        Dice { state: 0, tape: Some(bytes.iter().copied().collect()) }
    }

    /// Whether all bytes are used up.
    pub fn is_spent(&self) -> bool {
        self.tape.as_ref().is_some_and(VecDeque::is_empty)
    }

    /// A number below `sides`, which is not 0.
    pub fn roll(&mut self, sides: usize) -> usize {
        if let Some(tape) = &mut self.tape {
            let bytes = if sides > 256 { 2 } else { 1 };
            let number = (0..bytes)
                .fold(0, |number, _| number << 8 | usize::from(tape.pop_front().unwrap_or(0)));
            return number % sides;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ bits >> 31) % sides as u64) as usize
    }

    /// True once in `times`, on average; never if that is 0.
    pub fn once_in(&mut self, times: usize) -> bool {
        times > 0 && self.roll(times) == times - 1
    }

    /// One of `choices`, which are not none.
    pub fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.roll(choices.len())]
    }
}
