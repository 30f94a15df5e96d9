//! The ways to turn a write queue into system calls: seven fixed ones, and one that chooses between
//! two of them.
//!
//! They all send the same bytes. They differ in how many calls that takes, in how much is copied
//! in user space, and in how many segments the kernel makes of it; `docs/WRITE-PATH.md` has the
//! comparison.

use crate::send::queue::{Plan, WriteQueue};
use crate::send::rule::CopyRule;
use crate::send::transport::IOVECS_MAX;
use std::fmt;
use std::io::IoSlice;
use std::ops::ControlFlow;
use std::str::FromStr;

/// How queued frames become calls. For a flush of k frames:
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum WritePath {
    /// 3k writes: a frame's size line, its payload, its CRLF. What people ship by accident.
    Split,
    /// k writes, one per frame.
    Write,
    /// One `writev` for every 1024 frames, one buffer per frame. The textbook's answer.
    Writev,
    /// One copy of everything, one write. What a buffered writer does.
    Copy,
    /// k sends, all but the last with `MSG_MORE`.
    More,
    /// k writes between two `setsockopt(TCP_CORK)`.
    Cork,
    /// One `writev` of one or two spans of the log, or one write if that is a single piece.
    #[default]
    Span,
    /// As [`Copy`](WritePath::Copy) where the [rule](CopyRule) says that it is cheaper, else as
    /// [`Writev`](WritePath::Writev); a single piece as it lies.
    Auto,
}

impl WritePath {
    /// The seven that do the same with every queue.
    pub const FIXED: [WritePath; 7] = [
        WritePath::Split,
        WritePath::Write,
        WritePath::Writev,
        WritePath::Copy,
        WritePath::More,
        WritePath::Cork,
        WritePath::Span,
    ];

    /// All write paths.
    pub const ALL: [WritePath; 8] = [
        WritePath::Split,
        WritePath::Write,
        WritePath::Writev,
        WritePath::Copy,
        WritePath::More,
        WritePath::Cork,
        WritePath::Span,
        WritePath::Auto,
    ];

    /// Its name in flags, knobs and reports.
    pub fn name(self) -> &'static str {
        match self {
            WritePath::Split => "split",
            WritePath::Write => "write",
            WritePath::Writev => "writev",
            WritePath::Copy => "copy",
            WritePath::More => "more",
            WritePath::Cork => "cork",
            WritePath::Span => "span",
            WritePath::Auto => "auto",
        }
    }
}

impl fmt::Display for WritePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WritePath {
    type Err = String;

    fn from_str(name: &str) -> Result<WritePath, String> {
        WritePath::ALL.into_iter().find(|path| path.name() == name).ok_or_else(|| {
            let names = WritePath::ALL.map(WritePath::name).join(", ");
            format!("no such write path; there are {names}")
        })
    }
}

/// One system call that is to be made.
#[derive(Debug)]
pub(super) enum Call<'a> {
    Write(&'a [u8]),
    More(&'a [u8]),
    Writev(&'a [IoSlice<'a>]),
}

/// Working memory of the write paths, shared by all connections.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    joined: Vec<u8>,
    iovecs: Vec<IoSlice<'static>>,
}

/// The I/O vectors of one call.
struct Iovecs<'p>(Vec<IoSlice<'p>>);

impl WritePath {
    /// Prepares the next call for what is left of `queue`, which is not done, and hands it to
    /// `perform`. Also tells how many bytes were copied for it.
    pub(super) fn next_call<R>(
        self,
        queue: &WriteQueue<'_>,
        plan: &Plan,
        rule: &CopyRule,
        buffers: &mut Buffers,
        perform: impl FnOnce(Call<'_>) -> R,
    ) -> (R, usize) {
        let private = queue.private.remaining();
        match self {
            WritePath::Split | WritePath::Write | WritePath::Cork | WritePath::More
                if !private.is_empty() =>
            {
                let more = self == WritePath::More && queue.next_frame(plan).is_some();
                (perform(if more { Call::More(private) } else { Call::Write(private) }), 0)
            }
            WritePath::Split => {
                (perform(Call::Write(queue.next_part(plan).unwrap_or_default())), 0)
            }
            WritePath::Write | WritePath::Cork => {
                (perform(Call::Write(queue.next_frame(plan).unwrap_or_default())), 0)
            }
            WritePath::More => {
                let frame = queue.next_frame(plan).unwrap_or_default();
                let last = queue.next_is_last(plan);
                (perform(if last { Call::Write(frame) } else { Call::More(frame) }), 0)
            }
            WritePath::Copy => {
                let joined = &mut buffers.joined;
                joined.clear();
                joined.extend_from_slice(private);
                queue.spans(plan, |span| {
                    joined.extend_from_slice(span);
                    ControlFlow::Continue(())
                });
                (perform(Call::Write(joined)), joined.len())
            }
            WritePath::Writev => {
                let mut iovecs = buffers.lend(private);
                queue.frames(plan, |frame| iovecs.push(frame));
                let result = perform(Call::Writev(&iovecs.0));
                buffers.take_back(iovecs);
                (result, 0)
            }
            WritePath::Auto => {
                let (pieces, bytes) = queue.pieces(plan);
                let chosen = match pieces {
                    ..=1 => WritePath::Write,
                    _ if rule.copies(pieces, bytes) => WritePath::Copy,
                    _ => WritePath::Writev,
                };
                chosen.next_call(queue, plan, rule, buffers, perform)
            }
            WritePath::Span => {
                let mut iovecs = buffers.lend(private);
                queue.spans(plan, |span| iovecs.push(span));
                let result = perform(match iovecs.0[..] {
                    // The kernel imports a vector of one faster as a plain buffer.
                    [ref single] => Call::Write(single),
                    ref several => Call::Writev(several),
                });
                buffers.take_back(iovecs);
                (result, 0)
            }
        }
    }
}

impl Buffers {
    /// Lends the memory for a call's I/O vectors, the first of them `private` unless it is empty.
    fn lend<'p>(&mut self, private: &'p [u8]) -> Iovecs<'p> {
        let mut iovecs = Iovecs(std::mem::take(&mut self.iovecs));
        if !private.is_empty() {
            iovecs.0.push(IoSlice::new(private));
        }
        iovecs
    }

    fn take_back(&mut self, mut iovecs: Iovecs<'_>) {
        iovecs.0.clear();
        // A vector of borrows cannot outlive what it borrows, but its memory can: empty, it is
        // collected into a vector of another lifetime, which the standard library does in place.
        self.iovecs = iovecs.0.into_iter().map(|_| unreachable!("it is empty")).collect();
    }
}

impl<'p> Iovecs<'p> {
    /// Adds a piece; breaks off when one call takes no more.
    fn push(&mut self, piece: &'p [u8]) -> ControlFlow<()> {
        self.0.push(IoSlice::new(piece));
        if self.0.len() < IOVECS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for path in WritePath::ALL {
            assert_eq!(path.to_string().parse(), Ok(path));
            assert_eq!(WritePath::FIXED.contains(&path), path != WritePath::Auto);
        }
        assert!("spam".parse::<WritePath>().unwrap_err().contains("span"));
    }

    #[test]
    fn vectors_reuse_their_memory_and_stop_at_the_limit() {
        let mut buffers = Buffers::default();
        let piece = [7; 3];
        let mut gather = |wanted: usize| {
            let mut iovecs = buffers.lend(&piece);
            let _full = (1..wanted).try_for_each(|_| iovecs.push(&piece));
            let count = iovecs.0.len();
            buffers.take_back(iovecs);
            (count, buffers.iovecs.as_ptr(), buffers.iovecs.capacity())
        };
        let (count, memory, capacity) = gather(3000);
        assert_eq!(count, IOVECS_MAX);
        for wanted in [1, 2, 1000] {
            assert_eq!(gather(wanted), (wanted, memory, capacity));
        }
    }
}
