//! The target about everything: a simulated world in which the input makes all decisions.

use crate::testing::Dice;
use crate::testing::scenario::Scenario;
use crate::testing::world::World;

/// A world that the input describes is well.
pub fn simulator(input: &[u8]) {
    let scenario = Scenario::draw(&mut Dice::from_bytes(input), STEPS_MAX);
    if let Err(why) = World::live(&scenario) {
        panic!("{why}\n{scenario}");
    }
}

const STEPS_MAX: usize = 200;
