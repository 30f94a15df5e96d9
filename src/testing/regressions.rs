//! Scenarios in which something was once wrong, made small, with what it was.

use super::access::{Access, Reload};
use super::caller::Ask;
use super::faults::Faults;
use super::knobs::Knobs;
use super::publisher::Form;
use super::scenario::{Leave, Scenario, Step};
use super::simulate::live;

fn check(knobs: Knobs, steps: Vec<Step>) {
    check_with(knobs, Access::default(), steps);
}

fn check_with(knobs: Knobs, access: Access, steps: Vec<Step>) {
    let scenario = Scenario { seed: 1, faults: Faults::default(), knobs, access, steps };
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

fn feed(topic: u8, events: usize, own_id: bool) -> Step {
    Step::Feed { topic, events, own_id }
}

fn look_on(ask: Ask) -> Step {
    Step::Ask { who: 0, ask, times: 1, sip: usize::MAX }
}

/// The first state that `/live` should have sent found no memory. So its topic was forgotten with its
/// viewer, and its key, which was kept, ended the process. Found as seed 93.
#[test]
fn a_viewer_comes_and_goes_without_memory() {
    let knobs = Knobs { logs_bytes_max: 0, ..Knobs::default() };
    let hang_up = Step::HangUp { who: 0, admin: true, how: Leave::Close };
    let visit = [look_on(Ask::Live), Step::Pass { ms: 500 }, hang_up, Step::Pass { ms: 500 }];
    check(knobs, [visit.clone(), visit].concat());
}

/// The address stayed, since only a start can change it, and the token went: everybody could publish.
/// Found as seed 2.
#[test]
fn a_reload_does_not_take_the_token_of_an_address_that_stays() {
    let exposed = Access { exposed: true, publish_token: true, ..Access::default() };
    let reload = Reload { knobs: Knobs::default(), access: Access::default() };
    check_with(Knobs::default(), exposed, vec![Step::Reload(Box::new(reload))]);
}

/// The buffer of answers was freed only when it became empty, which it never does for a client that
/// reads more slowly than it asks. Found as seed 6.
#[test]
fn whoever_asks_more_than_it_reads_is_made_to_wait() {
    let ask = Step::Ask { who: 0, ask: Ask::Nowhere, times: 900, sip: 3000 };
    check(Knobs::default(), vec![ask.clone(), ask]);
}

/// A publish was refused for want of memory after it had evicted what its topic retained. Found as
/// seed 12.
#[test]
fn a_refused_publish_evicts_nothing() {
    let mut steps = vec![feed(0, 30, false)];
    for log_bytes_max in [300, 1000] {
        let narrow = Knobs { log_bytes_max, logs_bytes_max: 700, ..Knobs::default() };
        steps.extend([Step::Turn(Box::new(narrow)), feed(1, 20, false), feed(0, 20, true)]);
    }
    check(Knobs::default(), steps);
}

/// The places of removed ids in a table were taken for memory that was freed, and when the table had
/// tidied itself up, for memory that was taken anew. Found as seed 64.
#[test]
fn ids_that_come_and_go_take_no_memory() {
    let knobs = Knobs { log_events_max: 14, ..Knobs::default() };
    check(knobs, vec![feed(1, 40, true), feed(1, 40, true), feed(1, 40, true)]);
}

/// Logs became shorter while their subscribers were being flushed, and publishers were not made to
/// wait for them. Found as seed 37.
#[test]
fn shorter_logs_make_publishers_wait() {
    let knobs = Knobs { flush_slice_us: 10, ..Knobs::default() };
    let shorter = Knobs { log_events_max: 1, ..knobs.clone() };
    let subscribe = |who| Step::Subscribe {
        who,
        topics: 1,
        http10: false,
        window_bytes: 100_000,
        prompt: true,
    };
    let mut steps: Vec<Step> = (0..8).map(subscribe).collect();
    steps.extend([feed(0, 35, false), feed(0, 3, false), Step::Turn(Box::new(shorter))]);
    check(knobs, steps);
}

/// Once the public listener was closed, what was reported of the admin listener reached nobody. Found
/// as seed 2.
#[test]
fn a_drain_can_be_watched() {
    let publish =
        Step::Publish { who: 0, topic: 2, form: Form::Feed, events: 1, own_id: false, cut: 1 };
    check(Knobs::default(), vec![publish, Step::Drain, look_on(Ask::Metrics)]);
}

/// A viewer of `/live` that came back whenever its stream ended held a drain up to its deadline.
#[test]
fn a_viewer_that_comes_back_does_not_hold_up_a_drain() {
    let subscribe =
        Step::Subscribe { who: 0, topics: 1, http10: false, window_bytes: 5000, prompt: true };
    let pass = Step::Pass { ms: 5000 };
    check(Knobs::default(), vec![subscribe, look_on(Ask::Live), Step::Drain, pass]);
}
