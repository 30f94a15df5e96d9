//! How events of each topic leave: one setting for all, and those that differ.

use crate::config::{Config, Delivery};
use std::collections::HashMap;

/// The deliveries of all topics.
#[derive(Debug, Clone)]
pub(super) struct Deliveries {
    base: Delivery,
    by_topic: HashMap<Box<str>, Delivery>,
}

impl Deliveries {
    /// Those that `config` sets.
    pub fn new(config: &Config) -> Deliveries {
        // The configuration has been validated, so every override can be set.
        let differing = config.topics.iter().filter_map(|(topic, overrides)| {
            Some((topic.as_str().into(), config.delivery_with(overrides).ok()?))
        });
        Deliveries { base: config.delivery.clone(), by_topic: differing.collect() }
    }

    /// The delivery of a topic.
    pub fn of(&self, topic: &str) -> &Delivery {
        if self.by_topic.is_empty() {
            return &self.base;
        }
        self.by_topic.get(topic).unwrap_or(&self.base)
    }

    /// The delivery of topics that have none of their own.
    pub fn base(&self) -> &Delivery {
        &self.base
    }

    /// All deliveries that are in use.
    pub fn all(&self) -> impl Iterator<Item = &Delivery> {
        std::iter::once(&self.base).chain(self.by_topic.values())
    }
}
