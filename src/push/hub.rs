//! Publish, and resume.

use crate::push::gap::{Gap, GapReason, Overrun};
use crate::push::id::{Epoch, Seq};
#[cfg(any(test, feature = "testing"))]
use crate::push::journal::Journaled;
use crate::push::log::{Bounds, FrameNo, Full, Memory, Stamp};
use crate::push::topic::Topic;
use crate::push::topics::{TopicKey, Topics};
use crate::wire::event::{EARLIEST, Encoder, Event, GAP, LATEST};
use std::collections::HashMap;
use std::fmt::{self, Write as _};

/// All topics.
#[derive(Debug)]
pub struct Hub {
    epoch: Epoch,
    last_seq: Seq,
    topics: Topics,
    names: HashMap<Box<str>, TopicKey>,
    memory: Memory,
    /// The memory of the server's own topics: their readers are served however full the others' is.
    internal_memory: Memory,
    /// The newest seq that went away with a forgotten topic.
    forgotten: Seq,
    /// Events that were appended to the public's topics,
    appended_events: u64,
    /// and those of them that are no longer retained: evicted, or gone with their topics.
    evicted_events: u64,
    encoder: Encoder,
    assigned_id: String,
    #[cfg(any(test, feature = "testing"))]
    journal: Option<Vec<Journaled>>,
}

/// What became of an event that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It was appended, and takes so many bytes on the wire.
    New {
        /// Its place in the order of the hub.
        seq: Seq,
        /// Its length, chunk framing included.
        frame_bytes: u32,
    },
    /// The topic still has an event with this id: publishing it again changes nothing.
    Known {
        /// The place of the event that is there.
        seq: Seq,
    },
}

/// Why an event is not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// Its frame is longer than a log may be.
    TooLong,
    /// The logs have no memory left.
    NoMemory,
    /// Its id has the form of the hub's own ids, but names no event that the topic retains.
    AssignedId,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PublishError::TooLong => "the event is longer than the topic's log",
            PublishError::NoMemory => "the logs have no memory left",
            PublishError::AssignedId => "the id has the form of the hub's own ids",
        })
    }
}

/// There are as many topics as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTopics;

/// Where a reader asks to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position<'a> {
    /// With the next event.
    Latest,
    /// With the oldest event that is retained.
    Earliest,
    /// Behind the event with this id.
    After(&'a [u8]),
}

impl<'a> Position<'a> {
    /// The position that `Last-Event-ID` or its query parameter names.
    pub fn of(last_event_id: Option<&'a [u8]>) -> Position<'a> {
        match last_event_id {
            None | Some(b"") => Position::Latest,
            Some(id) if id == EARLIEST.as_bytes() => Position::Earliest,
            Some(id) => Position::After(id),
        }
    }
}

/// Where a reader does begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumption {
    /// What was honoured.
    pub from: ResumedFrom,
    /// Everything up to here has been delivered or given up.
    pub delivered: Seq,
    /// For each topic, in the order asked: the first frame to send, and what is lost before it.
    pub starts: Vec<(FrameNo, Option<Gap>)>,
}

/// What a reader's request to resume came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResumedFrom {
    /// It begins with the next event.
    Latest,
    /// It begins with the oldest retained event.
    Earliest,
    /// It begins directly behind the event with this id: nothing is lost.
    Id(String),
    /// Something is lost; notices in the stream say what.
    Gap,
}

impl fmt::Display for ResumedFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResumedFrom::Latest => LATEST,
            ResumedFrom::Earliest => EARLIEST,
            ResumedFrom::Id(id) => id,
            ResumedFrom::Gap => GAP,
        })
    }
}

impl Hub {
    /// An empty hub. `random` distinguishes its ids from those of every other run.
    pub fn new(random: u64, memory_bytes_max: usize) -> Hub {
        Hub {
            epoch: Epoch::new(random),
            last_seq: Seq(0),
            topics: Topics::default(),
            names: HashMap::new(),
            memory: Memory { used_bytes: 0, bytes_max: memory_bytes_max },
            internal_memory: Memory { used_bytes: 0, bytes_max: usize::MAX },
            forgotten: Seq(0),
            appended_events: 0,
            evicted_events: 0,
            encoder: Encoder::default(),
            assigned_id: String::new(),
            #[cfg(any(test, feature = "testing"))]
            journal: None,
        }
    }

    /// The topic of that name, made if there is none.
    ///
    /// # Errors
    /// [`TooManyTopics`], if it would have to be made and there are `topics_max`.
    pub fn topic(
        &mut self,
        name: &str,
        topics_max: usize,
        now_ns: u64,
    ) -> Result<TopicKey, TooManyTopics> {
        if let Some(&key) = self.names.get(name) {
            return Ok(key);
        }
        if self.topics.public_len() >= topics_max {
            return Err(TooManyTopics);
        }
        let key = self.topics.insert(Topic::new(name, self.forgotten, now_ns));
        self.names.insert(name.into(), key);
        Ok(key)
    }

    /// The server's own topic of that name, made if there is none. It counts towards no limit and is
    /// never forgotten, so its key is good for ever.
    pub fn internal_topic(&mut self, name: &str, now_ns: u64) -> TopicKey {
        if let Some(&key) = self.names.get(name) {
            return key;
        }
        let key = self.topics.insert(Topic::internal(name, now_ns));
        self.names.insert(name.into(), key);
        key
    }

    /// Publishes an event.
    ///
    /// # Errors
    /// A [`PublishError`]; no reader will see the event.
    pub fn publish(
        &mut self,
        key: TopicKey,
        event: &Event<'_>,
        now_ns: u64,
        bounds: Bounds,
    ) -> Result<Published, PublishError> {
        let topic = &mut self.topics[key];
        if let Some(id) = event.id {
            if let Some(no) = find(topic, self.epoch, id.as_bytes()) {
                return Ok(Published::Known { seq: topic.log.entry(no).seq });
            }
            if self.epoch.parse(id.as_bytes()).is_some() {
                return Err(PublishError::AssignedId);
            }
        }
        let seq = Seq(self.last_seq.0 + 1);
        let id = match event.id {
            Some(id) => id,
            None => {
                self.assigned_id.clear();
                let written = write!(self.assigned_id, "{}", self.epoch.id(seq));
                debug_assert!(written.is_ok(), "a String takes everything");
                &self.assigned_id
            }
        };
        #[cfg(any(test, feature = "testing"))]
        let journaled = self.journal.is_some().then(|| Journaled {
            seq,
            topic: topic.name.clone(),
            id: id.into(),
            data: event.data.into(),
            evicted: topic.log.evicted(),
        });
        let frame = self.encoder.encode(id, event);
        let frame_bytes = frame.bytes.len() as u32;
        let stamp = Stamp { seq, published_ns: now_ns, own_id: event.id.is_some() };
        let memory = match topic.internal {
            true => &mut self.internal_memory,
            false => &mut self.memory,
        };
        let first = topic.log.first();
        topic.append(frame, event.id, stamp, bounds, memory).map_err(|full| match full {
            Full::Log => PublishError::TooLong,
            Full::Memory => PublishError::NoMemory,
        })?;
        if !topic.internal {
            self.appended_events += 1;
            self.evicted_events += topic.log.first() - first;
        }
        topic.fanout.note_published(u64::from(frame_bytes), now_ns);
        self.last_seq = seq;
        #[cfg(any(test, feature = "testing"))]
        if let Some((journal, journaled)) = self.journal.as_mut().zip(journaled) {
            journal.push(journaled);
        }
        Ok(Published::New { seq, frame_bytes })
    }

    /// Where a reader of `topics` that asks for `position` begins.
    pub fn resume(
        &self,
        topics: &[TopicKey],
        position: Position<'_>,
        overrun: Overrun,
    ) -> Resumption {
        let logs = || topics.iter().map(|&key| &self.topics[key].log);
        match position {
            Position::Latest => Resumption {
                from: ResumedFrom::Latest,
                delivered: self.last_seq,
                starts: logs().map(|log| (log.end(), None)).collect(),
            },
            Position::Earliest => Resumption {
                from: ResumedFrom::Earliest,
                delivered: Seq(0),
                starts: logs().map(|log| (log.first(), None)).collect(),
            },
            Position::After(id) => {
                let known = self.resolve(topics, id);
                let starts: Vec<_> = logs()
                    .map(|log| {
                        let reason = match known {
                            None => GapReason::Unknown,
                            Some(seq) if log.evicted() > seq => GapReason::Evicted,
                            Some(seq) => return (log.after(seq), None),
                        };
                        let next = overrun.go_on_at(log);
                        let to = (next < log.end()).then(|| log.entry(next).seq);
                        (next, Some(Gap { from: known, to, lost: None, reason }))
                    })
                    .collect();
                let lossless = starts.iter().all(|(_, gap)| gap.is_none());
                let from = match std::str::from_utf8(id) {
                    Ok(id) if lossless => ResumedFrom::Id(id.into()),
                    _ => ResumedFrom::Gap,
                };
                Resumption { from, delivered: known.unwrap_or_default(), starts }
            }
        }
    }

    /// The event that `id` names for a reader of `topics`.
    fn resolve(&self, topics: &[TopicKey], id: &[u8]) -> Option<Seq> {
        if let Some(seq) = self.epoch.parse(id) {
            // An id of ours from the future is no id of ours.
            return (seq <= self.last_seq).then_some(seq);
        }
        topics.iter().find_map(|&key| {
            let topic = &self.topics[key];
            find(topic, self.epoch, id).map(|no| topic.log.entry(no).seq)
        })
    }

    /// The id of the event at `seq` in a topic, as its readers see it, if it is retained.
    pub fn id_text(&self, key: TopicKey, seq: Seq) -> String {
        let log = &self.topics[key].log;
        let no = log.after(Seq(seq.0.saturating_sub(1)));
        if no < log.end() && log.entry(no).seq == seq {
            String::from_utf8_lossy(log.id(no)).into_owned()
        } else {
            self.epoch.id(seq).to_string()
        }
    }

    /// Forgets a topic, unless it has subscribers or is the server's own. From then on its events
    /// count as lost: a reader that comes back with an id from before is told so. Gives whether it
    /// was forgotten.
    pub fn forget(&mut self, key: TopicKey) -> bool {
        if self.topics[key].internal || !self.topics[key].fanout.is_empty() {
            return false;
        }
        let mut topic = self.topics.remove(key);
        self.names.remove(&topic.name);
        if !topic.is_blank() {
            self.forgotten = self.forgotten.max(topic.log.last_seq());
        }
        self.evicted_events += topic.log.end() - topic.log.first();
        topic.release(&mut self.memory);
        true
    }

    /// The topic of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<TopicKey> {
        self.names.get(name).copied()
    }

    /// All topics by key.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// One topic.
    pub fn topic_mut(&mut self, key: TopicKey) -> &mut Topic {
        &mut self.topics[key]
    }

    /// Keeps a journal from now on.
    #[cfg(any(test, feature = "testing"))]
    pub fn keep_journal(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// What was published since the journal is kept; nothing if it is not.
    #[cfg(any(test, feature = "testing"))]
    pub fn journal(&self) -> &[Journaled] {
        self.journal.as_deref().unwrap_or_default()
    }

    /// What distinguishes this run.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newest event of the hub.
    pub fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Events of the public's topics that are no longer retained: evicted by newer ones, or gone with
    /// their topics.
    pub fn evicted_events(&self) -> u64 {
        self.evicted_events
    }

    /// Events that the public's topics retain.
    pub fn retained_events(&self) -> u64 {
        self.appended_events - self.evicted_events
    }

    /// The memory of all logs.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Changes how much memory all logs together may take.
    pub fn set_memory_bytes_max(&mut self, bytes_max: usize) {
        self.memory.bytes_max = bytes_max;
    }
}

/// The retained frame of `topic` whose id is `id`, whoever assigned it.
fn find(topic: &Topic, epoch: Epoch, id: &[u8]) -> Option<FrameNo> {
    if let Some(seq) = epoch.parse(id) {
        let no = topic.log.after(Seq(seq.0.checked_sub(1)?));
        let there = no < topic.log.end() && topic.log.entry(no).seq == seq;
        return there.then_some(no).filter(|&no| !topic.log.entry(no).own_id);
    }
    topic.find(std::str::from_utf8(id).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes_max: 1 << 16, frames_max: 5 };

    struct Fixture {
        hub: Hub,
        a: TopicKey,
        b: TopicKey,
    }

    fn fixture() -> Fixture {
        let mut hub = Hub::new(0, 1 << 20);
        let a = hub.topic("a", 10, 0).unwrap();
        let b = hub.topic("b", 10, 0).unwrap();
        Fixture { hub, a, b }
    }

    impl Fixture {
        fn publish(&mut self, key: TopicKey, id: Option<&str>) -> Result<Published, PublishError> {
            self.hub.publish(key, &Event { id, data: "x", ..Event::default() }, 0, BOUNDS)
        }

        fn fill(&mut self, key: TopicKey, count: usize) {
            for _ in 0..count {
                self.publish(key, None).unwrap();
            }
        }

        fn resume(&self, id: &str) -> Resumption {
            let position = Position::of(Some(id.as_bytes()));
            self.hub.resume(&[self.a, self.b], position, Overrun::Skip)
        }
    }

    #[test]
    fn topics_are_made_once_and_bounded() {
        let mut hub = Hub::new(0, 1 << 20);
        let a = hub.topic("a", 2, 0).unwrap();
        assert_eq!(hub.topic("a", 2, 0), Ok(a));
        assert_ne!(hub.topic("b", 2, 0), Ok(a));
        assert_eq!(hub.topic("c", 2, 0), Err(TooManyTopics));
        assert_eq!(hub.topic("a", 2, 0), Ok(a));
    }

    #[test]
    fn publishing_an_id_twice_changes_nothing() {
        let mut f = fixture();
        assert!(matches!(f.publish(f.a, Some("x")), Ok(Published::New { seq: Seq(1), .. })));
        assert_eq!(f.publish(f.a, Some("x")), Ok(Published::Known { seq: Seq(1) }));
        assert!(matches!(f.publish(f.b, Some("x")), Ok(Published::New { seq: Seq(2), .. })));
        f.fill(f.a, 4);
        assert_eq!(f.publish(f.a, Some("x")), Ok(Published::Known { seq: Seq(1) }));
        f.fill(f.a, 1);
        assert!(
            matches!(f.publish(f.a, Some("x")), Ok(Published::New { .. })),
            "no longer retained"
        );
    }

    #[test]
    fn an_assigned_id_can_be_acknowledged_but_not_made_up() {
        let mut f = fixture();
        f.fill(f.a, 1);
        assert_eq!(f.publish(f.a, Some("aaaaaaaa-1")), Ok(Published::Known { seq: Seq(1) }));
        assert_eq!(f.publish(f.b, Some("aaaaaaaa-1")), Err(PublishError::AssignedId));
        assert_eq!(f.publish(f.a, Some("aaaaaaaa-2")), Err(PublishError::AssignedId));
        assert_eq!(f.publish(f.a, Some("aaaaaaaa-0")), Err(PublishError::AssignedId));
        assert!(matches!(f.publish(f.a, Some("baaaaaaa-2")), Ok(Published::New { .. })));
    }

    #[test]
    fn one_id_resumes_several_topics() {
        let mut f = fixture();
        for key in [f.a, f.b, f.a, f.b, f.b] {
            f.publish(key, None).unwrap();
        }
        let resumption = f.resume("aaaaaaaa-3");
        assert_eq!(resumption.from, ResumedFrom::Id("aaaaaaaa-3".into()));
        assert_eq!(
            (resumption.delivered, resumption.starts),
            (Seq(3), vec![(FrameNo(2), None), (FrameNo(1), None)])
        );
        assert_eq!(f.resume("aaaaaaaa-5").starts, [(FrameNo(2), None), (FrameNo(3), None)]);
        assert_eq!(f.resume("aaaaaaaa-0").starts, [(FrameNo(0), None), (FrameNo(0), None)]);
        assert_eq!(f.resume("earliest").starts, [(FrameNo(0), None), (FrameNo(0), None)]);
        assert_eq!(f.resume("").starts, [(FrameNo(2), None), (FrameNo(3), None)]);
    }

    #[test]
    fn a_publishers_id_resumes_every_topic() {
        let mut f = fixture();
        for (key, id) in [(f.a, None), (f.b, Some("mine")), (f.a, None), (f.b, None)] {
            f.publish(key, id).unwrap();
        }
        let resumption = f.resume("mine");
        assert_eq!(resumption.from, ResumedFrom::Id("mine".into()));
        assert_eq!(
            (resumption.delivered, resumption.starts),
            (Seq(2), vec![(FrameNo(1), None), (FrameNo(1), None)])
        );
    }

    #[test]
    fn losses_are_told_for_the_topics_that_have_them() {
        let mut f = fixture();
        f.fill(f.b, 1);
        f.fill(f.a, 7); // 2..=8, of which 4..=8 are retained
        let gap = |from: Option<u64>, to: Option<u64>, reason| {
            Some(Gap { from: from.map(Seq), to: to.map(Seq), lost: None, reason })
        };
        assert_eq!(f.resume("aaaaaaaa-3").starts, [(FrameNo(2), None), (FrameNo(1), None)]);
        let resumption = f.resume("aaaaaaaa-2");
        assert_eq!(resumption.from, ResumedFrom::Gap);
        assert_eq!(
            resumption.starts,
            [(FrameNo(2), gap(Some(2), Some(4), GapReason::Evicted)), (FrameNo(1), None)]
        );
        for unknown in ["aaaaaaaa-9", "baaaaaaa-3", "garbage"] {
            let resumption = f.resume(unknown);
            assert_eq!(resumption.from, ResumedFrom::Gap);
            let (a, b) =
                (gap(None, Some(4), GapReason::Unknown), gap(None, Some(1), GapReason::Unknown));
            assert_eq!(resumption.starts, [(FrameNo(2), a), (FrameNo(0), b)]);
        }
        let latest = f.hub.resume(&[f.a], Position::After(b"?"), Overrun::Latest);
        assert_eq!(latest.starts, [(FrameNo(6), gap(None, Some(8), GapReason::Unknown))]);
    }

    #[test]
    fn what_is_forgotten_counts_as_lost() {
        let mut f = fixture();
        f.fill(f.a, 3);
        assert!(f.hub.memory().used_bytes > 0);
        f.hub.forget(f.a);
        assert_eq!(f.hub.memory().used_bytes, 0);
        assert_eq!(f.hub.find("a"), None);
        let again = f.hub.topic("a", 10, 0).unwrap();
        let resume = |id: &[u8]| f.hub.resume(&[again], Position::After(id), Overrun::Skip).from;
        assert_eq!(resume(b"aaaaaaaa-2"), ResumedFrom::Gap);
        assert_eq!(resume(b"aaaaaaaa-3"), ResumedFrom::Id("aaaaaaaa-3".into()));
    }
}
