//! What was published, as far as a simulated world knows it, and whether that is what was sent.
//!
//! The hub's journal says in which order events came in. Everything else about them is known
//! without it: each event's data tells its topic and a number of its own, and from the number
//! follows what it must be. So an event that was altered, made up, taken twice, or put in the wrong
//! order is seen here, before any reader is asked.

use crate::push::hub::Hub;
use crate::push::journal::Journaled;
use std::collections::{BTreeMap, HashMap};

/// Everything that was published, by topic, in order.
#[derive(Debug, Default)]
pub struct Ledger {
    topics: BTreeMap<String, Vec<Entry>>,
    /// For each number, the places at which it came in. More than one if its id was forgotten.
    places: HashMap<u64, Vec<u64>>,
    /// For each publisher, the newest number that came in for the first time.
    newest: HashMap<u8, u64>,
    /// For each publisher, the newest number of its earlier connections. What the server had read
    /// of those may come in later than what was sent on the current one.
    earlier: HashMap<u8, u64>,
    /// For each topic, up to which seq events have been evicted.
    evicted: BTreeMap<String, u64>,
    /// Up to which seq topics have been forgotten with all their events. A topic that is made anew
    /// counts everything up to there as lost, since it may have been one of them.
    forgotten: u64,
    /// For each topic that there is, how many of its events have been evicted since it was made, and
    /// up to which seq.
    firsts: HashMap<Box<str>, (u64, u64)>,
    /// Limits are, or were, so narrow that events may be refused.
    pub narrow: bool,
    /// How much of the journal has been read.
    read: usize,
    /// The place of the newest event.
    pub last_seq: u64,
}

/// An event that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the order of the hub.
    pub seq: u64,
    /// A number of its own, which its data tells.
    pub number: u64,
    /// Its id.
    pub id: String,
}

/// An event that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Its topic.
    pub topic: String,
    /// Its number, from which follows all the rest.
    pub number: u64,
}

impl Draft {
    /// The event of publisher `by` that follows `count` others of its own.
    pub fn new(by: u8, count: u64, own_id: bool, topic: String) -> Draft {
        Draft { topic, number: Draft::number(by, count, own_id) }
    }

    /// Its number.
    pub fn number(by: u8, count: u64, own_id: bool) -> u64 {
        count << 9 | u64::from(by) << 1 | u64::from(own_id)
    }

    /// Who publishes it.
    fn publisher(&self) -> u8 {
        (self.number >> 1) as u8
    }

    /// Its own id, if it has one.
    pub fn own_id(&self) -> Option<String> {
        (self.number & 1 == 1).then(|| format!("own {}", self.number))
    }

    /// Its data, of a length and a look that depend on its number.
    pub fn data(&self) -> String {
        let count = self.number >> 9;
        let tail = match count % 7 {
            3 => "a\nb\n\n c".into(),
            5 => "\u{e9}\u{1f600}:\u{2028}".repeat((count % 11) as usize),
            // Longer than the smallest ring of a log.
            6 => "x".repeat((count * 37 % LONG_BYTES_MAX) as usize),
            _ => "x".repeat((count * count % 97) as usize),
        };
        format!("{} {} {tail}", self.topic, self.number)
    }

    /// The draft whose data that would be.
    fn of_data(data: &str) -> Option<Draft> {
        let mut words = data.split(' ');
        let topic = words.next()?.into();
        let draft = Draft { topic, number: words.next()?.parse().ok()? };
        (draft.data() == data).then_some(draft)
    }
}

impl Ledger {
    /// Reads what is new in the hub's journal.
    ///
    /// # Errors
    /// What cannot be.
    pub fn read(&mut self, hub: &Hub) -> Result<(), String> {
        let unread = self.read;
        while let Some(journaled) = hub.journal().get(self.read) {
            self.read += 1;
            self.add(journaled)?;
        }
        for topic in self.topics.keys().filter(|topic| hub.find(topic).is_none()) {
            let last = self.of(topic).last().map_or(0, |entry| entry.seq);
            self.forgotten = self.forgotten.max(last);
            self.firsts.remove(&**topic);
        }
        for (_, topic) in hub.topics().iter() {
            let (first, evicted) = (topic.log.first().0, topic.log.evicted().0);
            let Some(known) = self.firsts.get_mut(&topic.name) else {
                self.firsts.insert(topic.name.clone(), (first, evicted));
                self.evicted.insert(topic.name.to_string(), evicted);
                continue;
            };
            if *known == (first, evicted) {
                continue;
            }
            let fresh = &hub.journal()[unread..];
            if first > known.0 && !fresh.iter().any(|journaled| journaled.topic == topic.name) {
                let count = first - known.0;
                return Err(format!(
                    "{count} events of {} are evicted, and nothing was published to it",
                    topic.name
                ));
            }
            *known = (first, evicted);
            self.evicted.insert(topic.name.to_string(), evicted);
        }
        Ok(())
    }

    fn add(&mut self, journaled: &Journaled) -> Result<(), String> {
        let seq = journaled.seq.0;
        if journaled.topic.starts_with(char::is_control) {
            // Not of a client: the server's state, which takes a place in the order as well.
            self.last_seq = seq;
            return Ok(());
        }
        let draft =
            Draft::of_data(&journaled.data).filter(|draft| *draft.topic == *journaled.topic);
        let Some(draft) = draft else {
            return Err(format!("nobody has published {:?}", journaled.data));
        };
        if seq != self.last_seq + 1 {
            return Err(format!("seq {seq} comes after {}", self.last_seq));
        }
        self.last_seq = seq;
        if let Some(own) = draft.own_id()
            && own != *journaled.id
        {
            return Err(format!("{draft:?} has the id {:?}", journaled.id));
        }
        let places = self.places.entry(draft.number).or_default();
        match places.last() {
            Some(&before) if draft.own_id().is_none() || before > journaled.evicted.0 => {
                return Err(format!("{draft:?} is at {before} already, and came again"));
            }
            Some(_) => {}
            None => {
                let by = draft.publisher();
                let earlier = self.earlier.get(&by).copied().unwrap_or(0);
                let newest = self.newest.entry(by).or_default();
                if *newest >= draft.number && draft.number > earlier {
                    return Err(format!("{draft:?} comes after {newest} of the same publisher"));
                }
                *newest = draft.number.max(*newest);
            }
        }
        places.push(seq);
        let entry = Entry { seq, number: draft.number, id: journaled.id.to_string() };
        self.topics.entry(draft.topic).or_default().push(entry);
        Ok(())
    }

    /// Publisher `by`, whose newest event has that number, goes to another connection.
    pub fn note_reconnection(&mut self, by: u8, number: u64) {
        self.earlier.insert(by, number);
    }

    /// Whether an event came in.
    pub fn has(&self, draft: &Draft) -> bool {
        self.places.contains_key(&draft.number)
    }

    /// The events of a topic.
    pub fn of(&self, topic: &str) -> &[Entry] {
        self.topics.get(topic).map_or(&[], Vec::as_slice)
    }

    /// How many events of `topic` precede seq `seq`.
    pub fn before(&self, topic: &str, seq: u64) -> usize {
        self.of(topic).partition_point(|entry| entry.seq < seq)
    }

    /// The place of the `nth` event of `topic` in the order of the hub; 0 before the first.
    pub fn seq_of(&self, topic: &str, nth: Option<usize>) -> u64 {
        nth.and_then(|nth| self.of(topic).get(nth)).map_or(0, |entry| entry.seq)
    }

    /// The event with this data, and how many events of its topic precede it. If it came in several
    /// times, the first that is not before `seq` is meant.
    pub fn find(&self, data: &str, seq: impl Fn(&str) -> u64) -> Option<(Draft, usize)> {
        let draft = Draft::of_data(data)?;
        let places = self.places.get(&draft.number)?;
        let from = seq(&draft.topic);
        let seq = places.iter().find(|&&seq| seq >= from).or(places.last())?;
        let nth = self.before(&draft.topic, *seq);
        Some((draft, nth))
    }

    /// Up to which seq the events of a topic have been evicted.
    pub fn evicted(&self, topic: &str) -> u64 {
        self.evicted.get(topic).copied().unwrap_or(0).max(self.forgotten)
    }

    /// Whether an event with this id came in again, after `seq` and after another one.
    pub fn came_again(&self, id: &str, seq: u64) -> bool {
        let number = id.strip_prefix("own ").and_then(|number| number.parse().ok());
        let places = number.and_then(|number: u64| self.places.get(&number));
        places.is_some_and(|places| places.iter().skip(1).any(|&place| place > seq))
    }
}

const LONG_BYTES_MAX: u64 = 230;
