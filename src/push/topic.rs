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
        let ids_growth = own_id.map_or(0, |_| self.ids.growth_bytes());
        // If the table of ids cannot grow, an id that is evicted makes room for this one.
        let reserved = if memory.affords(ids_growth) { ids_growth } else { 0 };
        if reserved < ids_growth && self.ids.is_empty() {
            return Err(Full::Memory);
        }
        self.log.check_room(frame.bytes.len(), reserved, bounds, memory)?;
        if let Some(id) = own_id {
            while reserved < self.ids.growth_bytes() && !self.log.is_empty() {
                self.log.evict_oldest(&mut |id, no| self.ids.remove(id, no));
            }
            let before = self.ids.allocated_bytes();
            self.ids.reserve_one();
            memory.used_bytes += self.ids.allocated_bytes() - before;
            self.ids.insert(id.as_bytes(), self.log.end());
        }
        self.used_ns = stamp.published_ns;
        self.log.append(frame, stamp, bounds, memory, |id, no| self.ids.remove(id, no))
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
