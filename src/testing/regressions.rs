//! Scenarios in which something was once wrong, made small, with what it was.

use super::faults::Faults;
use super::knobs::Knobs;
use super::scenario::{Scenario, Step};
use super::simulate::live;

fn check(knobs: Knobs, steps: Vec<Step>) {
    let scenario = Scenario { seed: 1, faults: Faults::default(), knobs, steps };
    if let Err(why) = live(&scenario) {
        panic!("{why}");
    }
}

/// A reader that takes a few bytes at a time from a socket whose topic is always ahead of it: each
/// time there was some room, it was found to be overrun once more, and another notice was queued
/// behind those that it had not taken yet. Its queue grew by a notice for every few bytes.
/// Found as seed 1896 by the bound on a stream's private bytes.
#[test]
fn notices_do_not_pile_up() {
    let knobs = Knobs { log_events_max: 3, ..Knobs::default() };
    let mut steps =
        vec![Step::Subscribe { who: 0, topics: 1, http10: false, window_bytes: 64, prompt: false }];
    for _ in 0..100 {
        steps.push(Step::Feed { topic: 0, events: 8, own_id: false });
        steps.push(Step::Read { who: 0, bytes: 30 });
    }
    check(knobs, steps);
}
