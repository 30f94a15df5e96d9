//! A topic: its log, the ids that its publishers gave, its fan-out.

use crate::push::fanout::Fanout;
use crate::push::id::Seq;
use crate::push::log::{Bounds, FrameNo, Full, Log, Memory, Stamp};
use crate::wire::event::Frame;
use std::collections::HashMap;

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
    /// The frames that carry a publisher's own id. Invariant: each is retained.
    ids: HashMap<Box<str>, FrameNo>,
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
            ids: HashMap::new(),
        }
    }

    /// A topic of the server's own.
    pub fn internal(name: &str, now_ns: u64) -> Topic {
        Topic { internal: true, ..Topic::new(name, Seq(0), now_ns) }
    }

    /// Appends a frame to the log. `id` is its id, if that is the publisher's own.
    ///
    /// # Errors
    /// [`Full`], if the log cannot take it.
    pub fn append(
        &mut self,
        frame: Frame<'_>,
        own_id: Option<&str>,
        stamp: Stamp,
        bounds: Bounds,
        memory: &mut Memory,
    ) -> Result<(), Full> {
        let ids = &mut self.ids;
        let forget_id = |id: &[u8]| {
            std::str::from_utf8(id).map(|id| ids.remove(id)).ok();
        };
        self.log.append(frame, stamp, bounds, memory, forget_id)?;
        if let Some(id) = own_id {
            self.ids.insert(id.into(), self.log.end().before());
        }
        self.used_ns = stamp.published_ns;
        Ok(())
    }

    /// The retained frame that carries `id` as its publisher's own.
    pub fn find(&self, id: &str) -> Option<FrameNo> {
        self.ids.get(id).copied()
    }

    /// Whether nothing was ever published here, so that nothing is lost by forgetting it.
    pub fn is_blank(&self) -> bool {
        self.log.end() == FrameNo(0)
    }
}
