//! The smallest scenario that still fails.
//!
//! Steps are left out, first many at a time and then one by one; then kinds of faults; then knobs go
//! back to their defaults and sizes become small. Whatever is left matters.

use super::access::Access;
use super::knobs::RESETS;
use super::scenario::{Scenario, Step};

/// Makes `scenario` smaller for as long as `fails` says that it still fails, but asks at most
/// `tries_max` times.
pub fn shrink(scenario: Scenario, tries_max: usize, fails: impl Fn(&Scenario) -> bool) -> Scenario {
    let mut shrinking = Shrinking { best: scenario, tries_left: tries_max, fails };
    loop {
        let before = shrinking.best.clone();
        shrinking.leave_steps_out();
        shrinking.leave_faults_out();
        shrinking.reset_knobs();
        shrinking.make_steps_smaller();
        if shrinking.best == before || shrinking.tries_left == 0 {
            return shrinking.best;
        }
    }
}

struct Shrinking<F> {
    best: Scenario,
    tries_left: usize,
    fails: F,
}

impl<F: Fn(&Scenario) -> bool> Shrinking<F> {
    /// Adopts a smaller scenario if it fails as well.
    fn adopt(&mut self, smaller: Scenario) -> bool {
        if self.tries_left == 0 || smaller == self.best {
            return false;
        }
        self.tries_left -= 1;
        let fails = (self.fails)(&smaller);
        if fails {
            self.best = smaller;
        }
        fails
    }

    fn leave_steps_out(&mut self) {
        let mut len = self.best.steps.len().div_ceil(2);
        while len > 0 {
            // From the end: what comes late depends on what comes early.
            let mut end = self.best.steps.len();
            while end > 0 {
                let start = end.saturating_sub(len);
                let mut fewer = self.best.clone();
                fewer.steps.drain(start..end);
                self.adopt(fewer);
                end = start;
            }
            len /= 2;
        }
    }

    fn leave_faults_out(&mut self) {
        for faults in self.best.faults.without_each() {
            let smaller = Scenario { faults, ..self.best.clone() };
            self.adopt(smaller);
        }
    }

    fn reset_knobs(&mut self) {
        for reset in RESETS {
            let mut smaller = self.best.clone();
            reset(&mut smaller.knobs);
            self.adopt(smaller);
        }
        let smaller = Scenario { access: Access::default(), ..self.best.clone() };
        self.adopt(smaller);
        for at in 0..self.best.steps.len() {
            if !matches!(self.best.steps[at], Step::Turn(_) | Step::Reload(_)) {
                continue;
            }
            for reset in RESETS {
                let mut smaller = self.best.clone();
                match &mut smaller.steps[at] {
                    Step::Turn(knobs) => reset(knobs),
                    Step::Reload(reload) => reset(&mut reload.knobs),
                    _ => {}
                }
                self.adopt(smaller);
            }
        }
    }

    fn make_steps_smaller(&mut self) {
        for at in 0..self.best.steps.len() {
            for step in smaller_steps(&self.best.steps[at]) {
                let mut smaller = self.best.clone();
                smaller.steps[at] = step;
                self.adopt(smaller);
            }
        }
    }
}

fn smaller_steps(step: &Step) -> Vec<Step> {
    match *step {
        Step::Feed { topic, events, own_id } => vec![
            Step::Feed { topic, events: 1, own_id },
            Step::Feed { topic, events: events / 2, own_id },
            Step::Feed { topic, events, own_id: false },
            Step::Feed { topic: 0, events, own_id },
        ],
        Step::Publish { who, topic, form, events, own_id, .. } => vec![
            Step::Publish { who, topic, form, events: 1, own_id, cut: 1000 },
            Step::Publish { who, topic, form, events, own_id, cut: 1000 },
            Step::Publish { who, topic, form, events, own_id: false, cut: 1000 },
        ],
        Step::Subscribe { who, topics, window_bytes, http10, prompt } => vec![
            Step::Subscribe { who, topics: 1, window_bytes, http10, prompt },
            Step::Subscribe { who, topics, window_bytes: 100_000, http10, prompt },
            Step::Subscribe { who, topics, window_bytes, http10: false, prompt },
            Step::Subscribe { who, topics, window_bytes, http10, prompt: true },
        ],
        Step::Ask { who, ask, times, sip } => vec![
            Step::Ask { who, ask, times: 1, sip },
            Step::Ask { who, ask, times: times / 2, sip },
            Step::Ask { who, ask, times, sip: usize::MAX },
        ],
        Step::HangUp { who, admin, .. } => {
            vec![Step::HangUp { who, admin, how: super::scenario::Leave::Close }]
        }
        Step::Pass { ms } => vec![Step::Pass { ms: ms / 10 }],
        Step::Suspend { .. } => vec![Step::Suspend { minutes: 1 }],
        _ => Vec::new(),
    }
}
