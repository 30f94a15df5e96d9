//! The target about configuration files.

use crate::config::knobs::KNOBS;
use crate::config::{Config, file};

/// A file is refused with a reason, or each knob can be shown and set to what it shows.
pub fn config_file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // An address may be a name, and to look one up is not a fuzzer's business.
    if text.contains("listen") || text.contains("admin") || text.contains('\\') {
        return;
    }
    let mut config = Config::default();
    if let Err(why) = file::read(&mut config, text) {
        assert!(!why.is_empty());
        return;
    }
    let mut again = Config { topics: config.topics.clone(), ..Config::default() };
    for knob in KNOBS {
        let shown = knob.show(&config);
        // An address is shown as it is, and there is only one way to write it.
        if matches!(knob.name, "listen" | "admin") {
            continue;
        }
        knob.set(&mut again, &shown.to_string())
            .unwrap_or_else(|why| panic!("{} shows {shown}: {why}", knob.name));
        assert_eq!(knob.show(&again), shown, "{}", knob.name);
    }
    for (topic, overrides) in config.topics.iter() {
        let delivery = config.delivery.with(overrides);
        assert!(delivery.is_ok(), "{topic}: what was set can be set");
    }
}
