//! Knobs that differ for single topics.

use super::{Config, Delivery, Overrides, knobs};
use crate::push::topic::check_name;
use std::collections::BTreeMap;
use std::collections::btree_map::Iter;
use std::iter::Peekable;
use std::sync::Arc;

/// The knobs of each topic that has some of its own.
///
/// A copy shares all of them, so a change of one knob does not copy thousands of topics' in the loop.
///
/// Invariant: every name is a topic's, every value can be set, and there are at most
/// 10,000 of them. Each is checked when it is set; nothing has to be checked again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicKnobs(Arc<BTreeMap<Arc<str>, Arc<Overrides>>>);

/// A topic whose knobs differ between two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicChange {
    /// Its name.
    pub topic: Arc<str>,
    /// Its own knobs before, if it had any.
    pub from: Option<Arc<Overrides>>,
    /// Its own knobs after, if it has any.
    pub to: Option<Arc<Overrides>>,
}

impl TopicKnobs {
    /// Sets the own knobs of a topic, in place of those that it had; without any it has none.
    ///
    /// # Errors
    /// What is wrong with the name or with the first value that cannot be set, or that too many topics
    /// have own knobs. Then nothing has changed.
    pub fn set(&mut self, topic: &str, overrides: Overrides) -> Result<(), String> {
        check_name(topic).map_err(|why| format!("topic {topic:?}: {why}"))?;
        if overrides.is_empty() {
            if self.0.contains_key(topic) {
                Arc::make_mut(&mut self.0).remove(topic);
            }
            return Ok(());
        }
        if self.0.len() >= OVERRIDDEN_TOPICS_MAX && !self.0.contains_key(topic) {
            return Err(format!("{OVERRIDDEN_TOPICS_MAX} topics have knobs of their own already"));
        }
        check(&overrides).map_err(|why| format!("topic {topic:?}: {why}"))?;
        Arc::make_mut(&mut self.0).insert(topic.into(), Arc::new(overrides));
        Ok(())
    }

    /// The own knobs of a topic, if it has any.
    pub fn get(&self, topic: &str) -> Option<&Overrides> {
        self.0.get(topic).map(|overrides| &**overrides)
    }

    /// All topics with knobs of their own, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Overrides>)> {
        self.0.iter()
    }

    /// How many topics have knobs of their own.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no topic has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The topics whose knobs are others in `after`, by name.
    pub fn changes(&self, after: &TopicKnobs) -> Vec<TopicChange> {
        if Arc::ptr_eq(&self.0, &after.0) {
            return Vec::new();
        }
        let (mut from, mut to) = (self.0.iter().peekable(), after.0.iter().peekable());
        let mut changes = Vec::new();
        while let Some(topic) =
            [from.peek(), to.peek()].into_iter().flatten().map(|one| one.0).min()
        {
            let topic = Arc::clone(topic);
            let (from, to) = (take(&mut from, &topic), take(&mut to, &topic));
            if from != to {
                changes.push(TopicChange { topic, from, to });
            }
        }
        changes
    }
}

/// The next topic's knobs, if that topic is `topic`.
fn take(
    all: &mut Peekable<Iter<'_, Arc<str>, Arc<Overrides>>>,
    topic: &Arc<str>,
) -> Option<Arc<Overrides>> {
    all.next_if(|(next, _)| *next == topic).map(|(_, overrides)| Arc::clone(overrides))
}

/// Whether these knobs can be set for a topic. None of them can contradict another one, or a general
/// knob, so they are good whatever the rest of the configuration is.
fn check(overrides: &Overrides) -> Result<(), String> {
    let delivery = Delivery::default().with(overrides)?;
    match delivery.socket == Delivery::default().socket {
        true => Ok(()),
        false => delivery.socket.probe().map_err(|error| error.to_string()),
    }
}

impl Delivery {
    /// How events of a topic with these knobs of its own leave.
    ///
    /// # Errors
    /// The first of them that cannot be set.
    pub fn with(&self, overrides: &Overrides) -> Result<Delivery, String> {
        let mut config = Config { delivery: self.clone(), ..Config::default() };
        for (name, value) in overrides {
            let knob = knobs::find(name)?;
            if knob.scope != knobs::Scope::Topic {
                return Err(format!("{name} cannot be set for a single topic"));
            }
            knob.set(&mut config, value)?;
        }
        Ok(config.delivery)
    }
}

/// More own settings than an operator makes by hand; all of them together are compared in one turn.
const OVERRIDDEN_TOPICS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::path::WritePath;
    use crate::testing::Dice;

    fn own(name: &'static str, value: &str) -> Overrides {
        Overrides::from([(name, value.into())])
    }

    #[test]
    fn what_cannot_be_set_is_refused_and_changes_nothing() {
        let mut knobs = TopicKnobs::default();
        knobs.set("a", own("write_path", "copy")).unwrap();
        let before = knobs.clone();
        let check = |knobs: &mut TopicKnobs, topic: &str, overrides, expected: &str| {
            let why = knobs.set(topic, overrides).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check(&mut knobs, "a\nb", own("write_path", "copy"), "control character");
        check(&mut knobs, "a", own("write_path", "fast"), "topic \"a\": write_path: no such");
        let congestion = "topic \"b\": tcp_congestion = x: TCP_CONGESTION";
        check(&mut knobs, "b", own("tcp_congestion", "x"), congestion);
        // The segment size is taken from the listener, before a topic is known.
        for (name, value) in [("topics_max", "1"), ("tcp_maxseg_bytes", "1000")] {
            check(&mut knobs, "a", own(name, value), "single topic");
        }
        assert_eq!(knobs, before);
        knobs.set("a", Overrides::new()).unwrap();
        assert!(knobs.is_empty() && before.get("a").is_some(), "a copy is a copy");
    }

    #[test]
    fn overrides_change_a_topics_delivery_alone() {
        let base = Delivery::default();
        let overrides =
            Overrides::from([("write_path", "copy".into()), ("tcp_nodelay", "false".into())]);
        let delivery = base.with(&overrides).unwrap();
        assert_eq!((delivery.write_path, delivery.socket.nodelay), (WritePath::Copy, false));
        assert_eq!(delivery.flush_policy, base.flush_policy);
    }

    #[test]
    fn so_many_topics_and_no_more() {
        let mut knobs = TopicKnobs::default();
        for nth in 0..OVERRIDDEN_TOPICS_MAX {
            knobs.set(&nth.to_string(), own("write_path", "copy")).unwrap();
        }
        assert!(knobs.set("more", own("write_path", "copy")).unwrap_err().contains("already"));
        knobs.set("7", own("write_path", "more")).unwrap();
        knobs.set("7", Overrides::new()).unwrap();
        knobs.set("more", own("write_path", "copy")).unwrap();
        assert_eq!(knobs.len(), OVERRIDDEN_TOPICS_MAX);
    }

    /// Applying the changes to what was before gives what is after.
    #[test]
    fn changes_lead_from_one_to_the_other() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let mut all = [(); 2].map(|()| {
                let mut knobs = TopicKnobs::default();
                for _ in 0..dice.roll(12) {
                    let path = *dice.pick(&["copy", "more", "cork"]);
                    knobs.set(&dice.roll(15).to_string(), own("write_path", path)).unwrap();
                }
                knobs
            });
            let [before, after] = &mut all;
            let changes = before.changes(after);
            assert!(changes.is_sorted_by(|one, next| one.topic < next.topic));
            for TopicChange { topic, from, to } in changes {
                assert_ne!(from, to);
                assert_eq!(before.get(&topic), from.as_deref());
                before.set(&topic, to.map(Arc::unwrap_or_clone).unwrap_or_default()).unwrap();
            }
            assert_eq!(before, after, "seed {seed}");
            assert_eq!(after.changes(&after.clone()), []);
        }
    }
}
