//! The notice that tells a reader what it has lost.
//!
//! A loss is never silent. It is an event of its own in the stream:
//!
//! ```text
//! event: gap
//! data: {"topic":"prices","from":"k3v9x2ab-17","to":"k3v9x2ab-60","lost":42,"reason":"overrun"}
//! ```
//!
//! `from` is the last event before the loss and `to` the first one after it; what is lost lies
//! between them. A `null` says that this is not known: `from` if the reader's position means
//! nothing here, `to` if nothing has come after the loss yet, `lost` if the count is gone with the
//! events. The notice has no `id`, so it does not move the reader's own position.

use crate::push::id::{Epoch, Seq};
use crate::push::log::{FrameNo, Log};
use crate::wire::{event, json::Quoted};
use std::fmt::{self, Display, Write as _};

/// Events that a reader of one topic will not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last event before the loss.
    pub from: Option<Seq>,
    /// The first event after the loss.
    pub to: Option<Seq>,
    /// How many events were lost.
    pub lost: Option<u64>,
    /// Why.
    pub reason: GapReason,
}

/// Why events are lost to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The reader was too slow: its log moved on while it was connected.
    Overrun,
    /// It came back too late: what follows its last id is no longer retained.
    Evicted,
    /// Its last id names no event that this hub knows: from before a restart, from elsewhere, or
    /// no longer retained.
    Unknown,
}

/// What a reader gets that has been overrun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overrun {
    /// A gap notice, then everything that is still retained.
    #[default]
    Skip,
    /// The end of its stream; it learns of its loss when it resumes.
    Close,
    /// A gap notice, then the newest event only.
    Latest,
}

impl Overrun {
    /// Where a reader goes on after a loss. One that comes back is never turned away for ever, so
    /// for a resume [`Overrun::Close`] means the same as [`Overrun::Skip`].
    pub fn go_on_at(self, log: &Log) -> FrameNo {
        match self {
            Overrun::Skip | Overrun::Close => log.first(),
            Overrun::Latest => log.end().before().max(log.first()),
        }
    }
}

impl Gap {
    /// Writes the notice as one event, without transfer coding.
    pub fn encode(&self, topic: &str, epoch: Epoch, out: &mut String) {
        let id = |seq: Option<Seq>| Nullable(seq.map(|seq| format!("\"{}\"", epoch.id(seq))));
        let written = write!(
            out,
            "event: {}\ndata: {{\"topic\":{},\"from\":{},\"to\":{},\"lost\":{},\"reason\":\"{}\"}}\n\n",
            event::GAP,
            Quoted(topic),
            id(self.from),
            id(self.to),
            Nullable(self.lost),
            self.reason,
        );
        debug_assert!(written.is_ok(), "a String takes everything");
    }
}

impl Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GapReason::Overrun => "overrun",
            GapReason::Evicted => "evicted",
            GapReason::Unknown => "unknown",
        })
    }
}

struct Nullable<T>(Option<T>);

impl<T: Display> Display for Nullable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices() {
        let epoch = Epoch::new(0);
        let check = |gap: Gap, expected: &str| {
            let mut out = String::new();
            gap.encode("a \"b\"", epoch, &mut out);
            assert_eq!(
                out,
                format!("event: gap\ndata: {{\"topic\":\"a \\\"b\\\"\",{expected}}}\n\n")
            );
        };
        check(
            Gap { from: Some(Seq(3)), to: Some(Seq(9)), lost: Some(4), reason: GapReason::Overrun },
            r#""from":"aaaaaaaa-3","to":"aaaaaaaa-9","lost":4,"reason":"overrun""#,
        );
        check(
            Gap { from: None, to: None, lost: None, reason: GapReason::Unknown },
            r#""from":null,"to":null,"lost":null,"reason":"unknown""#,
        );
    }
}
