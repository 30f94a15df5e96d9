//! Settings change while a simulated world lives.

use super::{Checked, World, ends_streams};
use crate::config::Config;
use crate::config::knobs::differences;
use crate::testing::access::Reload;
use crate::testing::knobs::Knobs;

impl World {
    /// Other settings are adopted, whether they contradict each other or not.
    pub(super) fn adopt(&mut self, knobs: &Knobs) {
        let mut config = knobs.config();
        self.scenario.access.set(&mut config);
        self.turns.server.adopt(config);
        self.note(knobs);
    }

    /// The configuration is read again, as a signal has it. What contradicts itself is refused, and
    /// then nothing changes; what is in force afterwards does not contradict itself either.
    pub(super) fn reload(&mut self, reload: &Reload) -> Checked {
        let config = reload.config();
        if config.validate().is_err() {
            return Ok(());
        }
        let before = self.turns.server.config().clone();
        let adopted = self.turns.server.reconfigure(config);
        let config = self.turns.server.config();
        if adopted.is_err() {
            return match differences(&before, config).next() {
                None => Ok(()),
                Some((knob, _)) => Err(format!("{} is changed by a refused reload", knob.name)),
            };
        }
        config.validate().map_err(|why| format!("after a reload: {why}"))?;
        // The addresses that are listened on are those of the start.
        let mut started = Config::default();
        self.scenario.access.set(&mut started);
        if (&config.listen, config.admin) != (&started.listen, started.admin) {
            return Err("after a reload: other addresses than those that are listened on".into());
        }
        self.lived.reloads += 1;
        self.note(&reload.knobs);
        Ok(())
    }

    /// Notes what the checks go by.
    fn note(&mut self, knobs: &Knobs) {
        self.holds_back &= knobs.holds_publishers_back()
            && knobs.log_bytes_max >= self.knobs.log_bytes_max
            && knobs.log_events_max >= self.knobs.log_events_max;
        self.knobs = knobs.clone();
        self.ends_streams |= ends_streams(knobs);
        self.ledger.narrow |= knobs.is_narrow();
        self.disturbed_ns = self.clock.get();
    }
}
