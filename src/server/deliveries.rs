//! How events of each topic leave: one setting for all, and those that differ.

use crate::config::{Config, Delivery, Overrides, TopicChange};
use crate::send::flush::FlushPolicy;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

/// The deliveries of all topics.
///
/// A topic's is made of the general one and of the topic's own knobs when it is first asked for.
/// Thousands of topics may have knobs of their own, and a change that made all of their deliveries
/// again would hold the loop.
#[derive(Debug)]
pub(super) struct Deliveries {
    base: Delivery,
    own: HashMap<Arc<str>, Own>,
    /// How many topics have a flush policy of their own that is `adaptive`.
    adaptive: usize,
}

#[derive(Debug)]
struct Own {
    overrides: Arc<Overrides>,
    made: OnceCell<Delivery>,
}

impl Deliveries {
    /// Those that `config` sets.
    pub fn new(config: &Config) -> Deliveries {
        let mut deliveries =
            Deliveries { base: config.delivery.clone(), own: HashMap::new(), adaptive: 0 };
        config.topics.iter().for_each(|(topic, own)| deliveries.set(topic, Some(own)));
        deliveries
    }

    /// Adopts another general delivery, and other knobs of single topics.
    pub fn adopt(&mut self, base: &Delivery, changes: &[TopicChange]) {
        if self.base != *base {
            self.base = base.clone();
            self.own.values_mut().for_each(|own| drop(own.made.take()));
        }
        changes.iter().for_each(|change| self.set(&change.topic, change.to.as_ref()));
    }

    fn set(&mut self, topic: &Arc<str>, own: Option<&Arc<Overrides>>) {
        let before = match own {
            Some(overrides) => {
                self.adaptive += usize::from(is_adaptive(overrides));
                let own = Own { overrides: Arc::clone(overrides), made: OnceCell::new() };
                self.own.insert(Arc::clone(topic), own)
            }
            None => self.own.remove(topic),
        };
        self.adaptive -= usize::from(before.is_some_and(|own| is_adaptive(&own.overrides)));
    }

    /// The delivery of a topic.
    pub fn of(&self, topic: &str) -> &Delivery {
        if self.own.is_empty() {
            return &self.base;
        }
        let own = self.own.get(topic);
        own.map_or(&self.base, |own| {
            own.made.get_or_init(|| {
                let made = self.base.with(&own.overrides);
                debug_assert!(made.is_ok(), "a topic's knobs are checked when they are set");
                made.unwrap_or_else(|_| self.base.clone())
            })
        })
    }

    /// The delivery of topics that have none of their own.
    pub fn base(&self) -> &Delivery {
        &self.base
    }

    /// Whether some topic may have the flush policy `adaptive`.
    pub fn is_adaptive_in_use(&self) -> bool {
        self.adaptive > 0 || self.base.flush_policy == FlushPolicy::Adaptive
    }

    /// How many topics' deliveries are made, of those that have knobs of their own.
    #[cfg(test)]
    fn made(&self) -> usize {
        self.own.values().filter(|own| own.made.get().is_some()).count()
    }
}

fn is_adaptive(overrides: &Overrides) -> bool {
    let policy = overrides.get("flush_policy");
    policy.is_some_and(|value| value.trim().parse() == Ok(FlushPolicy::Adaptive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::path::WritePath;

    fn config(topics: usize, path: &str) -> Config {
        let mut config = Config::default();
        for nth in 0..topics {
            let own = Overrides::from([("write_path", path.into())]);
            config.topics.set(&nth.to_string(), own).unwrap();
        }
        config
    }

    /// A change makes no topic's delivery, however many have knobs of their own; and each topic that
    /// is asked for has what is in force.
    #[test]
    fn a_change_makes_no_delivery() {
        let before = config(1000, "copy");
        let mut deliveries = Deliveries::new(&before);
        let mut after = before.clone();
        after.delivery.flush_policy = FlushPolicy::Adaptive;
        deliveries.adopt(&after.delivery, &before.topics.changes(&after.topics));
        assert_eq!(deliveries.made(), 0);
        let of_one = deliveries.of("7");
        assert_eq!(
            (of_one.write_path, of_one.flush_policy),
            (WritePath::Copy, FlushPolicy::Adaptive)
        );
        assert_eq!(deliveries.made(), 1);

        let other = config(1000, "more");
        deliveries.adopt(&other.delivery, &after.topics.changes(&other.topics));
        assert_eq!(deliveries.made(), 0);
        let of_one = deliveries.of("7");
        assert_eq!((of_one.write_path, of_one.flush_policy), (WritePath::More, FlushPolicy::Turn));
        assert_eq!(deliveries.of("of none"), deliveries.base());
    }

    #[test]
    fn a_topic_can_bring_in_the_adaptive_policy() {
        let mut config = Config::default();
        let mut deliveries = Deliveries::new(&config);
        let mut turn = |topic: &str, policy: Option<&str>| {
            let before = config.topics.clone();
            let own = policy.map(|policy| ("flush_policy", policy.to_owned()));
            config.topics.set(topic, own.into_iter().collect()).unwrap();
            deliveries.adopt(&config.delivery, &before.changes(&config.topics));
            deliveries.is_adaptive_in_use()
        };
        assert!(!turn("a", Some("turn")));
        assert!(turn("a", Some("adaptive")));
        assert!(turn("b", Some(" adaptive")));
        assert!(turn("a", None));
        assert!(!turn("b", Some("event")));
    }
}
