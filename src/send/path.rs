//! The seven ways to turn a write queue into system calls.
//!
//! They all send the same bytes. They differ in how many calls that takes, in how much is copied
//! in user space, and in how many segments the kernel makes of it; `docs/WRITE-PATH.md` has the
//! comparison.

use crate::send::queue::{Plan, WriteQueue};
use crate::send::transport::IOVECS_MAX;
use std::fmt;
use std::io::IoSlice;
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
}

impl WritePath {
    /// All write paths.
    pub const ALL: [WritePath; 7] = [
        WritePath::Split,
        WritePath::Write,
        WritePath::Writev,
        WritePath::Copy,
        WritePath::More,
        WritePath::Cork,
        WritePath::Span,
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

impl WritePath {
    /// Prepares the next call for what is left of `queue`, which is not done, and hands it to
    /// `perform`. Also tells how many bytes were copied for it.
    pub(super) fn next_call<R>(
        self,
        queue: &WriteQueue<'_>,
        plan: &Plan,
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
                queue.spans(plan).for_each(|span| joined.extend_from_slice(span));
                (perform(Call::Write(joined)), joined.len())
            }
            WritePath::Writev => {
                let pieces = std::iter::once(private).chain(queue.frames(plan));
                (buffers.gather(pieces, |iovecs| perform(Call::Writev(iovecs))), 0)
            }
            WritePath::Span => {
                let pieces = std::iter::once(private).chain(queue.spans(plan));
                let result = buffers.gather(pieces, |iovecs| match iovecs {
                    // The kernel imports a vector of one faster as a plain buffer.
                    [single] => perform(Call::Write(single)),
                    several => perform(Call::Writev(several)),
                });
                (result, 0)
            }
        }
    }
}

impl Buffers {
    /// Hands the first of `pieces`, as many as one call takes, to `call` as I/O vectors.
    fn gather<'p, R>(
        &mut self,
        pieces: impl Iterator<Item = &'p [u8]>,
        call: impl FnOnce(&[IoSlice<'_>]) -> R,
    ) -> R {
        // A vector of borrows cannot outlive what it borrows, but its memory can: empty, it is
        // collected into a vector of another lifetime, which the standard library does in place.
        let mut iovecs: Vec<IoSlice<'_>> = std::mem::take(&mut self.iovecs);
        let pieces = pieces.filter(|piece| !piece.is_empty()).map(IoSlice::new);
        iovecs.extend(pieces.take(IOVECS_MAX));
        let result = call(&iovecs);
        iovecs.clear();
        self.iovecs = iovecs.into_iter().map(|_| unreachable!("the vector is empty")).collect();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for path in WritePath::ALL {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        assert!("spam".parse::<WritePath>().unwrap_err().contains("span"));
    }

    #[test]
    fn gathering_reuses_its_memory() {
        let mut buffers = Buffers::default();
        let piece = [7; 3];
        let count = |buffers: &mut Buffers, n| {
            buffers.gather(std::iter::repeat_n(&piece[..], n), |iovecs| iovecs.len())
        };
        assert_eq!(count(&mut buffers, 3000), IOVECS_MAX);
        let (memory, capacity) = (buffers.iovecs.as_ptr(), buffers.iovecs.capacity());
        assert!(capacity >= IOVECS_MAX);
        for n in [1, 2, 1000] {
            assert_eq!(count(&mut buffers, n), n);
            assert_eq!((buffers.iovecs.as_ptr(), buffers.iovecs.capacity()), (memory, capacity));
        }
    }
}
