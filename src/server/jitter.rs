//! Random numbers that spread things in time. Nothing secret depends on them.

/// A small generator (xorshift64*), seeded once.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed | 1)
    }

    /// A time between `ms` and twice `ms`. Jitter only ever lengthens a reconnection time: if it
    /// also shortened it, the server would be asked earlier than it said.
    pub fn stretch(&mut self, ms: u64) -> u64 {
        ms + self.next() % ms.max(1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

/// The part of `age` after which the connection of this generation has reached its age: between
/// four fifths and all of it. The same each time it is asked for, so that it need not be kept.
pub(super) fn shorten(age: u64, generation: u32) -> u64 {
    let spread = u64::from(generation.wrapping_mul(0x9e37_79b1) >> 16); // 0 to 65,535
    age - (age / 5).saturating_mul(spread) / 65_536
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spread_within_their_bounds() {
        let mut jitter = Jitter::new(7);
        let stretched: Vec<u64> = (0..1000).map(|_| jitter.stretch(2000)).collect();
        assert!(stretched.iter().all(|ms| (2000..4000).contains(ms)));
        let early = stretched.iter().filter(|&&ms| ms < 3000).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");

        let shortened: Vec<u64> = (0..1000).map(|generation| shorten(1000, generation)).collect();
        assert!(shortened.iter().all(|ms| (800..=1000).contains(ms)));
        let early = shortened.iter().filter(|&&ms| ms < 900).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
    }
}
