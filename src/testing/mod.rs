//! Stand-ins for the world outside: built for tests only.
//!
//! * [`script`]: a socket that takes what its script says and records every call.
//! * [`pipe`]: a connection in memory, with a send buffer that fills up.
//! * [`reader`]: a subscriber that checks everything it receives.
//! * [`world`]: many of them, a clock and a dice, around a real [`crate::server::Server`].

pub mod pipe;
pub mod reader;
pub mod script;
pub mod world;

/// A small generator of random numbers (splitmix64): the same seed, the same numbers, everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as `seed` says.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `sides`, which is not 0.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ bits >> 31) % sides as u64) as usize
    }

    /// True once in `times`, on average.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == 0
    }

    /// One of `choices`, which are not none.
    pub fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.roll(choices.len())]
    }
}
