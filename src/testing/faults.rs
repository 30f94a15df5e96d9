//! What goes wrong in a simulated world besides what its clients do.
//!
//! Each fault is one that a kernel or a network has: data that arrives in pieces, a buffer that
//! takes less than it has room for, a call that a signal interrupts, readiness that is reported
//! late, together, without reason, or for a connection that is gone. How often is part of the
//! scenario, so that a failure can be tried without each of them.

use super::Dice;

/// How often: once in so many times, never if 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A part of what a client has sent arrives later than the rest.
    pub pieces: u8,
    /// The send buffer takes less than it has room for, or nothing, and has room again later.
    pub pinches: u8,
    /// A call fails with EINTR.
    pub interrupts: u8,
    /// Readiness is reported that is none.
    pub spurious: u8,
    /// Readiness is reported some turns late.
    pub delays: u8,
    /// Readiness is reported for a connection that was closed before.
    pub stale: u8,
    /// A segment that is sent is lost, and sent again.
    pub losses: u8,
    /// The kernel does not tell what it knows of connections, unless 0.
    pub mute: u8,
}

impl Faults {
    /// Faults of a random world.
    pub fn draw(dice: &mut Dice) -> Faults {
        Faults {
            pieces: *dice.pick(&[0, 2, 4]),
            pinches: *dice.pick(&[0, 5, 30]),
            interrupts: *dice.pick(&[0, 10, 50]),
            spurious: *dice.pick(&[0, 20, 60]),
            delays: *dice.pick(&[0, 3, 20]),
            stale: *dice.pick(&[0, 3, 20]),
            losses: *dice.pick(&[0, 20]),
            mute: *dice.pick(&[0, 0, 1]),
        }
    }

    /// These faults with one kind left out, for each kind that there is.
    pub fn without_each(self) -> Vec<Faults> {
        let all = [
            Faults { pieces: 0, ..self },
            Faults { pinches: 0, ..self },
            Faults { interrupts: 0, ..self },
            Faults { spurious: 0, ..self },
            Faults { delays: 0, ..self },
            Faults { stale: 0, ..self },
            Faults { losses: 0, ..self },
            Faults { mute: 0, ..self },
        ];
        all.into_iter().filter(|fewer| *fewer != self).collect()
    }
}
