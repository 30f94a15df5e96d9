//! The controller behind the flush policy `adaptive`.
//!
//! It adjusts the size of a buffer by rule: above a high utilisation and a high latency it
//! shrinks, below a low utilisation and a low stall it grows. The rule and its defaults are those
//! of a widely copied recipe; they are here to be judged by measurement, and every number is a
//! knob. Two things can be said beforehand. A buffer of k bytes that is shrunk at high utilisation
//! is flushed more often, each flush has a fixed cost, so under overload the rule feeds itself.
//! And 0.7 × 1.3 is less than 1, so a buffer that is shrunk and grown in turn drifts down.
//!
//! The recipe has no linger time. Without one, a slow topic would never be flushed at all.

use crate::send::flush::AdaptiveBuffer;
use std::time::Duration;

/// The controller's parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptKnobs {
    /// How often the rule is applied, in milliseconds.
    pub period_ms: u64,
    /// The smallest buffer, in bytes.
    pub floor_bytes: u64,
    /// The largest buffer, in bytes.
    pub cap_bytes: u64,
    /// The factor of shrinking.
    pub shrink: f64,
    /// The factor of growing.
    pub grow: f64,
    /// Utilisation above which the buffer may shrink, 0 to 1.
    pub high_utilisation: f64,
    /// Utilisation below which the buffer may grow, 0 to 1.
    pub low_utilisation: f64,
    /// p99 of publish-to-kernel time above which the buffer may shrink, in milliseconds.
    pub slow_p99_ms: u64,
    /// Longest turn of the loop below which the buffer may grow, in milliseconds.
    pub calm_stall_ms: u64,
    /// The longest time that an event is held back, in milliseconds.
    pub linger_ms: u64,
}

impl Default for AdaptKnobs {
    fn default() -> Self {
        AdaptKnobs {
            period_ms: 200,
            floor_bytes: 1024,
            cap_bytes: 16 * 1024,
            shrink: 0.7,
            grow: 1.3,
            high_utilisation: 0.85,
            low_utilisation: 0.40,
            slow_p99_ms: 200,
            calm_stall_ms: 50,
            linger_ms: 50,
        }
    }
}

/// What was observed since the rule was last applied.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Signals {
    /// The fullest that the buffer was when it was flushed, as a part of its size.
    pub utilisation: f64,
    /// p99 of publish-to-kernel time, in nanoseconds.
    pub p99_ns: u64,
    /// The longest turn of the loop, in nanoseconds.
    pub stall_ns: u64,
}

/// The controller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Controller {
    bytes: f64,
}

impl Controller {
    /// A controller that begins with the largest buffer.
    pub fn new(knobs: &AdaptKnobs) -> Controller {
        Controller { bytes: knobs.cap_bytes as f64 }
    }

    /// Applies the rule once.
    pub fn step(&mut self, signals: Signals, knobs: &AdaptKnobs) {
        let slow = signals.p99_ns > knobs.slow_p99_ms * 1_000_000;
        let calm = signals.stall_ns < knobs.calm_stall_ms * 1_000_000;
        if signals.utilisation > knobs.high_utilisation && slow {
            self.bytes *= knobs.shrink;
        } else if signals.utilisation < knobs.low_utilisation && calm {
            self.bytes *= knobs.grow;
        }
        self.bytes = self.bytes.min(knobs.cap_bytes as f64).max(knobs.floor_bytes as f64);
    }

    /// The buffer as it is set now.
    pub fn buffer(&self, knobs: &AdaptKnobs) -> AdaptiveBuffer {
        AdaptiveBuffer { bytes: self.bytes as u64, linger: Duration::from_millis(knobs.linger_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_rule() {
        let knobs = AdaptKnobs::default();
        let step = |from: f64, utilisation, p99_ms, stall_ms| {
            let mut controller = Controller { bytes: from };
            controller.step(
                Signals { utilisation, p99_ns: p99_ms * MS, stall_ns: stall_ms * MS },
                &knobs,
            );
            controller.buffer(&knobs).bytes
        };
        assert_eq!(step(10_000.0, 0.86, 201, 0), 7_000);
        assert_eq!(step(10_000.0, 0.85, 201, 0), 10_000);
        assert_eq!(step(10_000.0, 0.86, 200, 0), 10_000);
        assert_eq!(step(10_000.0, 0.39, 500, 49), 13_000);
        assert_eq!(step(10_000.0, 0.39, 0, 50), 10_000);
        assert_eq!(step(10_000.0, 0.40, 0, 0), 10_000);
        assert_eq!(step(1_100.0, 0.9, 500, 0), 1_024);
        assert_eq!(step(16_000.0, 0.1, 0, 0), 16_384);
    }

    #[test]
    fn shrinking_and_growing_in_turn_drifts_down() {
        let knobs = AdaptKnobs::default();
        let mut controller = Controller::new(&knobs);
        for _ in 0..40 {
            controller.step(Signals { utilisation: 1.0, p99_ns: 300 * MS, stall_ns: 0 }, &knobs);
            controller.step(Signals { utilisation: 0.1, p99_ns: 0, stall_ns: 0 }, &knobs);
        }
        assert!(controller.buffer(&knobs).bytes < 2 * knobs.floor_bytes);
    }
}
