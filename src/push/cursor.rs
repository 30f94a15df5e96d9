//! A subscriber's place in a log.

use crate::push::fanout::Slot;
use crate::push::log::FrameNo;
use crate::push::topics::TopicKey;

/// A subscriber's place in one topic. A subscriber of several topics has one for each.
///
/// Invariant: it stands on a frame border. If a write ended inside a frame, the rest of that frame
/// has become private bytes of the connection, and the cursor is already behind it. So a cursor
/// never depends on bytes that the log may evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The topic.
    pub topic: TopicKey,
    /// This subscriber's place in the topic's list of subscribers.
    pub slot: Slot,
    /// The next frame to send. It may have been evicted in the meantime: that is an overrun.
    pub next: FrameNo,
}
