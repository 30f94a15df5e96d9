//! A topic: its log, the ids that its publishers gave, its fan-out.

use crate::push::fanout::Fanout;
use crate::push::id::Seq;
use crate::push::log::{Bounds, FrameNo, Full, Log, Memory, Stamp};
use crate::push::own_ids::OwnIds;
use crate::wire::event::Frame;

/// One topic.
#[derive(Debug)]
pub struct Topic {
    /// Its name, as subscribers and publishers give it.
    pub name: Box<str>,
    /// What is retained of what was published.
    pub log: Log,
    /// Who is subscribed.
    pub fanout: Fanout,
    /// When it was last published to or left by its last subscriber, in nanoseconds of the
    /// server's clock.
    pub used_ns: u64,
    /// It is the server's own: no public name reaches it, it is never forgotten, and its log's memory
    /// is counted apart from the public's.
    pub internal: bool,
    ids: OwnIds,
}

impl Topic {
    /// A topic without events, of which everything up to `forgotten` counts as lost.
    pub fn new(name: &str, forgotten: Seq, now_ns: u64) -> Topic {
        Topic {
            name: name.into(),
            log: Log::new(forgotten),
            fanout: Fanout::default(),
            used_ns: now_ns,
            internal: false,
            ids: OwnIds::default(),
        }
    }

    /// A topic of the server's own.
    pub fn internal(name: &str, now_ns: u64) -> Topic {
        Topic { internal: true, ..Topic::new(name, Seq(0), now_ns) }
    }

    /// Appends a frame to the log. `id` is its id, if that is the publisher's own.
    ///
    /// # Errors
    /// [`Full`], if the topic cannot take it. Then nothing has changed.
    pub fn append(
        &mut self,
        frame: Frame<'_>,
        own_id: Option<&str>,
        stamp: Stamp,
        bounds: Bounds,
        memory: &mut Memory,
    ) -> Result<(), Full> {
        let ids_bytes = own_id.map_or(0, |_| self.ids.growth_bytes());
        let given_up = self.log.check_room(frame.bytes.len(), ids_bytes, bounds, memory)?;
        if own_id.is_some() {
            // Where memory is short, the log makes room for the ids of its own frames: that costs it
            // about as many bytes of its oldest frames as the table takes.
            if given_up > 0 {
                let forget_id = |id: &[u8], no| self.ids.remove(id, no);
                self.log.give_up(given_up, bounds, memory, forget_id);
            }
            let before = self.ids.allocated_bytes();
            self.ids.reserve_one();
            memory.used_bytes += self.ids.allocated_bytes() - before;
        }
        self.log.append(frame, stamp, bounds, memory, |id, no| self.ids.remove(id, no))?;
        self.used_ns = stamp.published_ns;
        if let Some(id) = own_id {
            self.ids.insert(id.as_bytes(), self.log.end().before());
        }
        Ok(())
    }

    /// Gives the topic's memory back; the topic must not be used again.
    pub fn release(&mut self, memory: &mut Memory) {
        memory.used_bytes -= self.allocated_bytes();
        self.log.release();
        self.ids = OwnIds::default();
    }

    /// How many bytes are allocated for what is retained.
    pub fn allocated_bytes(&self) -> usize {
        self.log.allocated_bytes() + self.ids.allocated_bytes()
    }

    /// The retained frame that carries `id` as its publisher's own.
    pub fn find(&self, id: &str) -> Option<FrameNo> {
        self.ids.find(id, &self.log)
    }

    /// Whether nothing was ever published here, so that nothing is lost by forgetting it.
    pub fn is_blank(&self) -> bool {
        self.log.end() == FrameNo(0)
    }
}

/// Whether `name` can be a topic's, wherever it stands: in a request, on a command line, in a file.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("the topic has no name")
    } else if name.len() > NAME_BYTES_MAX {
        Err("the topic's name is longer than 256 bytes")
    } else if name.chars().any(char::is_control) {
        Err("the topic's name holds a control character")
    } else {
        Ok(())
    }
}

const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;
    use crate::wire::event::{Encoder, Event};

    /// A topic that shares its memory with others.
    struct Rig {
        topic: Topic,
        memory: Memory,
        bounds: Bounds,
        seq: u64,
        encoder: Encoder,
    }

    impl Rig {
        fn new(memory_bytes_max: usize, log_bytes_max: usize) -> Rig {
            Rig {
                topic: Topic::new("t", Seq(0), 0),
                memory: Memory { used_bytes: 0, bytes_max: memory_bytes_max },
                bounds: Bounds { bytes_max: log_bytes_max, frames_max: 10_000 },
                seq: 0,
                encoder: Encoder::default(),
            }
        }

        fn publish(&mut self, own_id: Option<&str>, data_bytes: usize) -> Result<(), Full> {
            self.seq += 1;
            let data = "x".repeat(data_bytes);
            let event = Event { id: own_id, data: &data, ..Event::default() };
            let frame = self.encoder.encode(own_id.unwrap_or("aaaaaaaa-1"), &event);
            let stamp = Stamp { seq: Seq(self.seq), published_ns: 0, own_id: own_id.is_some() };
            self.topic.append(frame, own_id, stamp, self.bounds, &mut self.memory)
        }

        fn state(&self) -> (FrameNo, FrameNo, usize, usize) {
            let log = &self.topic.log;
            (log.first(), log.end(), self.topic.allocated_bytes(), self.memory.used_bytes)
        }

        /// All that is retained can be found by its id, and nothing else.
        fn check_ids(&self, published: &[(String, FrameNo)]) {
            for (id, no) in published {
                let retained = *no >= self.topic.log.first();
                assert_eq!(self.topic.find(id), retained.then_some(*no), "{id}");
            }
        }
    }

    /// Ids that come and go, in memory that others take and give back, under bounds that change: a
    /// publish is there with its id, or has changed nothing; and memory is counted exactly.
    #[test]
    fn a_publish_is_taken_with_its_id_or_changes_nothing() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let mut rig = Rig::new(1000 + dice.roll(20_000), 300 + dice.roll(20_000));
            let (mut published, mut others) = (Vec::new(), 0);
            for nth in 0..600 {
                if dice.once_in(20) {
                    rig.memory.used_bytes -= others;
                    let free = rig.memory.bytes_max.saturating_sub(rig.memory.used_bytes);
                    others = dice.roll(free + 1);
                    rig.memory.used_bytes += others;
                }
                if dice.once_in(50) {
                    rig.bounds.bytes_max = 300 + dice.roll(20_000);
                    rig.bounds.frames_max = 1 + dice.roll(300);
                }
                if dice.once_in(100) {
                    rig.memory.bytes_max = 1000 + dice.roll(20_000);
                }
                let id = format!("id-{nth}");
                let own_id = (!dice.once_in(3)).then_some(&*id);
                let before = rig.state();
                let taken = rig.publish(own_id, dice.roll(300));
                let (first, end, allocated, used) = rig.state();
                assert_eq!(used, allocated + others, "seed {seed}");
                assert!(used <= rig.memory.bytes_max.max(before.3), "seed {seed}");
                match taken {
                    Ok(()) => {
                        assert_eq!(end, before.1 + 1);
                        published.extend(own_id.map(|id| (id.to_owned(), end.before())));
                    }
                    Err(_) => {
                        assert_eq!((first, end, allocated, used), before, "seed {seed}");
                        assert_eq!(rig.topic.find(&id), None, "a refused id may be tried again");
                    }
                }
            }
            rig.check_ids(&published);
            rig.topic.release(&mut rig.memory);
            assert_eq!(rig.memory.used_bytes, others);
        }
    }

    /// In full memory the table of ids grows at the cost of a few old frames, not of all of them.
    #[test]
    fn an_id_does_not_cost_a_topic_its_history() {
        let mut rig = Rig::new(1 << 20, 1 << 14);
        while rig.topic.log.first() == FrameNo(0) {
            rig.publish(None, 50).unwrap();
        }
        rig.memory.bytes_max = rig.memory.used_bytes;
        let mut published = Vec::new();
        for nth in 0..100 {
            let (id, len) = (format!("id-{nth}"), rig.topic.log.len());
            rig.publish(Some(&id), 50).unwrap();
            published.push((id, rig.topic.log.end().before()));
            assert!(
                rig.topic.log.len() * 4 > len * 3,
                "{len} frames, then {}",
                rig.topic.log.len()
            );
            assert!(rig.memory.used_bytes <= rig.memory.bytes_max);
        }
        assert!(rig.topic.log.len() > 50);
        rig.check_ids(&published);
    }

    /// A bound that is lowered below what is allocated makes logs evict, not refuse.
    #[test]
    fn a_lower_bound_does_not_end_publishing() {
        let mut rig = Rig::new(1 << 20, 1 << 14);
        for nth in 0..300 {
            rig.publish(Some(&format!("a{nth}")), 50).unwrap();
        }
        rig.memory.bytes_max = 1000;
        let before = rig.memory.used_bytes;
        for nth in 0..300 {
            rig.publish(Some(&format!("b{nth}")), 50).unwrap();
            assert!(rig.memory.used_bytes <= before);
        }
        rig.bounds.bytes_max = 1 << 12;
        rig.publish(None, 50).unwrap();
        assert!(rig.memory.used_bytes < before, "a lower bound of the log frees its memory");
    }
}
