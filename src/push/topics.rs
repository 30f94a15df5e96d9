//! The table of topics, and the two kinds of names that it gives them.

use crate::push::topic::Topic;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Index, IndexMut};

/// A topic's slot in the table.
///
/// Slots are used again, so a key is only good while its topic cannot be forgotten: for the time of
/// one operation, or for as long as a subscriber's cursor holds it, because a topic with subscribers
/// is never forgotten. Whatever keeps a topic's name for longer keeps a [`TopicToken`].
///
/// Invariant: only [`Topics`] makes keys, so each key was a topic's once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicKey(u32);

/// A topic's name in lists that may outlive it: its key, and which owner of the slot is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicToken {
    key: TopicKey,
    generation: u32,
}

/// All topics.
#[derive(Debug, Default)]
pub struct Topics {
    slab: Slab<Entry>,
    generation: u32,
    /// How many of them are the server's own.
    internal: usize,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    topic: Topic,
}

impl Topics {
    /// Adds a topic.
    pub fn insert(&mut self, topic: Topic) -> TopicKey {
        self.generation = self.generation.wrapping_add(1);
        self.internal += usize::from(topic.internal);
        TopicKey(self.slab.insert(Entry { generation: self.generation, topic }) as u32)
    }

    /// Takes a topic out.
    ///
    /// # Panics
    /// If `key` is not a topic's: see [`TopicKey`].
    pub fn remove(&mut self, key: TopicKey) -> Topic {
        let topic = self.slab.remove(key.slot()).topic;
        self.internal -= usize::from(topic.internal);
        topic
    }

    /// The token of a topic.
    #[allow(clippy::indexing_slicing, reason = "a key is its topic's: see TopicKey")]
    pub fn token(&self, key: TopicKey) -> TopicToken {
        TopicToken { key, generation: self.slab[key.slot()].generation }
    }

    /// The topic that `token` names, if it has not been forgotten.
    pub fn find(&self, token: TopicToken) -> Option<TopicKey> {
        let found = self.slab.get(token.key.slot());
        found.filter(|entry| entry.generation == token.generation).map(|_| token.key)
    }

    /// The topic in slot `slot`, if there is one: for a hand that goes round.
    pub fn at(&self, slot: usize) -> Option<TopicKey> {
        self.slab.get(slot).map(|_| TopicKey(slot as u32))
    }

    /// How many slots there are, free ones included.
    pub fn slots(&self) -> usize {
        self.slab.capacity()
    }

    /// All topics, the server's own among them.
    pub fn iter(&self) -> impl Iterator<Item = (TopicKey, &Topic)> {
        self.slab.iter().map(|(slot, entry)| (TopicKey(slot as u32), &entry.topic))
    }

    /// The topics of subscribers and publishers.
    pub fn public(&self) -> impl Iterator<Item = (TopicKey, &Topic)> {
        self.iter().filter(|(_, topic)| !topic.internal)
    }

    /// Up to `limit` topics of subscribers and publishers, the ones with the most subscribers first,
    /// among equals the one with the lower key. Goes through the table once.
    pub fn most_subscribed(&self, limit: usize) -> Vec<TopicKey> {
        // The least of those that are kept is on top.
        let mut kept = BinaryHeap::with_capacity(limit + 1);
        for (key, topic) in self.public() {
            kept.push((Reverse(topic.fanout.len()), key));
            if kept.len() > limit {
                kept.pop();
            }
        }
        kept.into_sorted_vec().into_iter().map(|(_, key)| key).collect()
    }

    /// Up to `limit` topics of subscribers and publishers from slot `from` on, and the slot at which
    /// the next page begins; `None` after the last one. A topic keeps its slot, so one that is there all
    /// the time is on exactly one page.
    pub fn page(&self, from: usize, limit: usize) -> (Vec<TopicKey>, Option<usize>) {
        let mut found = Vec::with_capacity(limit);
        for slot in from..self.slots() {
            if found.len() == limit {
                return (found, Some(slot));
            }
            found.extend(self.at(slot).filter(|&key| !self[key].internal));
        }
        (found, None)
    }

    /// How many topics subscribers and publishers have.
    pub fn public_len(&self) -> usize {
        self.slab.len() - self.internal
    }

    /// Whether there is no topic.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}

impl TopicKey {
    fn slot(self) -> usize {
        self.0 as usize
    }
}

impl Index<TopicKey> for Topics {
    type Output = Topic;

    /// # Panics
    /// If `key` is not a topic's: see [`TopicKey`].
    #[allow(clippy::indexing_slicing, reason = "a key is its topic's: see TopicKey")]
    fn index(&self, key: TopicKey) -> &Topic {
        &self.slab[key.slot()].topic
    }
}

impl IndexMut<TopicKey> for Topics {
    #[allow(clippy::indexing_slicing, reason = "a key is its topic's: see TopicKey")]
    fn index_mut(&mut self, key: TopicKey) -> &mut Topic {
        &mut self.slab[key.slot()].topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::id::Seq;

    #[test]
    fn a_token_does_not_name_the_slots_next_topic() {
        let mut topics = Topics::default();
        let first = topics.insert(Topic::new("a", Seq(0), 0));
        let token = topics.token(first);
        assert_eq!(topics.find(token), Some(first));
        topics.remove(first);
        assert_eq!(topics.find(token), None);
        let second = topics.insert(Topic::new("b", Seq(0), 0));
        assert_eq!(first, second, "the slot is used again");
        assert_eq!(topics.find(token), None);
    }

    #[test]
    fn the_servers_own_topics_are_not_counted_with_the_publics() {
        let mut topics = Topics::default();
        let own = topics.insert(Topic::internal("live", 0));
        topics.insert(Topic::new("a", Seq(0), 0));
        assert_eq!(
            (topics.public_len(), topics.public().count(), topics.iter().count()),
            (1, 1, 2)
        );
        topics.remove(own);
        assert_eq!((topics.public_len(), topics.iter().count()), (1, 1));
    }

    #[test]
    fn all_pages_together_show_each_topic_once() {
        let mut topics = Topics::default();
        topics.insert(Topic::internal("live", 0));
        let keys: Vec<TopicKey> =
            (0..25).map(|nth| topics.insert(Topic::new(&nth.to_string(), Seq(0), 0))).collect();
        for limit in 1..30 {
            let (mut seen, mut from) = (Vec::new(), Some(0));
            while let Some(slot) = from {
                let (page, next) = topics.page(slot, limit);
                assert!(page.len() <= limit && next.is_none_or(|next| next > slot));
                seen.extend(page);
                from = next;
            }
            assert_eq!(seen, keys, "{limit} on a page");
        }
        assert_eq!(topics.page(usize::MAX, 3), (vec![], None));
    }

    /// Topics that come and go between two pages neither hide another one nor show it twice.
    #[test]
    fn a_topic_that_stays_is_on_one_page() {
        let mut topics = Topics::default();
        let add = |topics: &mut Topics, nth: usize| {
            topics.insert(Topic::new(&nth.to_string(), Seq(0), 0))
        };
        let keys: Vec<TopicKey> = (0..20).map(|nth| add(&mut topics, nth)).collect();
        let (first, next) = topics.page(0, 8);
        topics.remove(keys[2]);
        topics.remove(keys[12]);
        add(&mut topics, 100);
        let (second, _) = topics.page(next.unwrap(), 100);
        for (nth, key) in keys.iter().enumerate().filter(|(nth, _)| ![2, 12].contains(nth)) {
            let shown = first.iter().chain(&second).filter(|found| *found == key).count();
            assert_eq!(shown, 1, "topic {nth}");
        }
    }

    #[test]
    fn the_most_subscribed_come_first() {
        let mut topics = Topics::default();
        let keys: Vec<TopicKey> =
            (0..9).map(|nth| topics.insert(Topic::new(&nth.to_string(), Seq(0), 0))).collect();
        assert_eq!(topics.most_subscribed(4), keys[..4]);
        assert_eq!(topics.most_subscribed(100), keys);
        assert_eq!(topics.most_subscribed(0), []);
    }
}
