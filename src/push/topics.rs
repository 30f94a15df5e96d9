//! The table of topics, and the two kinds of names that it gives them.

use crate::push::topic::Topic;
use slab::Slab;
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
}
