//! The one loop that hands bytes to the kernel and reads what became of them.

use crate::observe::counters::{CloseReason, WriteCounters};
use crate::send::path::{Buffers, Call, WritePath};
use crate::send::queue::{Plan, WriteQueue};
use crate::send::rule::CopyRule;
use crate::send::transport::Transport;
use std::io::{self, ErrorKind};

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel has taken everything.
    Drained,
    /// The send buffer is full. The socket will become writable again, once, and the kernel says
    /// so: it notes the want of space when a call takes less than it is offered.
    Blocked,
    /// The budget is spent and more is queued: come again when the others have had their turn.
    BudgetSpent,
    /// The connection is over.
    Closed(CloseReason),
}

/// What a drain did besides ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes that the kernel took.
    pub bytes: u64,
    /// Frames that were taken off the logs.
    pub frames: u64,
    /// Calls that were made to hand them over.
    pub calls: u64,
    /// Calls of `writev` among them,
    pub writev_calls: u64,
    /// and the I/O vectors that those were given.
    pub iovecs: u64,
    /// When the oldest frame of the plan was published, in nanoseconds; 0 if it has none.
    pub oldest_published_ns: u64,
}

/// Working memory of all drains: after the first few, a drain allocates nothing, unless it has to
/// keep the rest of a frame that was cut.
#[derive(Debug, Default)]
pub struct Workspace {
    plan: Plan,
    buffers: Buffers,
}

/// Sends what `queue` holds by way of `path`, until it is done, `budget_bytes` bytes of frames are
/// sent, or the kernel takes no more. The path `auto` follows `rule`.
///
/// A call that takes less than it is offered ends the drain. Asking again would only be answered
/// with EAGAIN, since the kernel stops short for want of buffer space alone; that saves a call
/// for every slow reader, and is safe with edge-triggered readiness because the short call has
/// already armed the next edge (`SOCK_NOSPACE`, net/ipv4/tcp.c).
pub fn drain<T: Transport>(
    socket: &mut T,
    path: WritePath,
    rule: &CopyRule,
    queue: &mut WriteQueue<'_>,
    workspace: &mut Workspace,
    budget_bytes: usize,
    counters: &mut WriteCounters,
) -> Drain {
    let Workspace { plan, buffers } = workspace;
    queue.plan(plan, budget_bytes);
    let mut drain = Drain {
        outcome: Outcome::Drained,
        bytes: 0,
        frames: 0,
        calls: 0,
        writev_calls: 0,
        iovecs: 0,
        oldest_published_ns: queue.oldest_published_ns(plan),
    };
    if queue.is_done(plan) {
        return drain;
    }
    counters.flushes += 1;
    let (writev_calls, iovecs) = (counters.writev_calls, counters.iovecs);
    let corked = path == WritePath::Cork;
    if corked {
        drain.outcome = set_cork(socket, true, counters);
    }
    while drain.outcome == Outcome::Drained && !queue.is_done(plan) {
        let mut offered = 0;
        let (result, copied) = path.next_call(queue, plan, rule, buffers, |call| {
            offered = call.len();
            perform(socket, &call, counters)
        });
        counters.copied_bytes += copied as u64;
        let (taken, outcome) = settle(result, offered, counters);
        drain.outcome = outcome;
        drain.calls += 1;
        drain.bytes += taken as u64;
        drain.frames += queue.consume(plan, taken);
    }
    match drain.outcome {
        Outcome::Drained if queue.has_frames() => drain.outcome = Outcome::BudgetSpent,
        Outcome::Drained => {}
        _ => {
            let spilled = queue.spill(plan);
            counters.copied_bytes += spilled as u64;
            drain.frames += u64::from(spilled > 0);
        }
    }
    // Uncorked even after a short write: whatever fits is to leave now.
    if corked && !matches!(drain.outcome, Outcome::Closed(_)) {
        let uncorked = set_cork(socket, false, counters);
        if matches!(uncorked, Outcome::Closed(_)) {
            drain.outcome = uncorked;
        }
    }
    drain.writev_calls = counters.writev_calls - writev_calls;
    drain.iovecs = counters.iovecs - iovecs;
    counters.bytes += drain.bytes;
    counters.frames += drain.frames;
    drain
}

fn perform<T: Transport>(
    socket: &mut T,
    call: &Call<'_>,
    counters: &mut WriteCounters,
) -> io::Result<usize> {
    match call {
        Call::Write(bytes) => {
            counters.write_calls += 1;
            socket.write(bytes)
        }
        Call::More(bytes) => {
            counters.more_calls += 1;
            socket.write_more(bytes)
        }
        Call::Writev(buffers) => {
            counters.writev_calls += 1;
            counters.iovecs += buffers.len() as u64;
            socket.write_vectored(buffers)
        }
    }
}

/// What a call's result means: the bytes taken, and how the drain stands after it.
fn settle(
    result: io::Result<usize>,
    offered: usize,
    counters: &mut WriteCounters,
) -> (usize, Outcome) {
    match result {
        // Never seen from a stream socket that is offered something, and nothing is never offered. To
        // make the same call again could go on for ever.
        Ok(0) => (0, Outcome::Closed(CloseReason::SocketError)),
        Ok(taken) if taken == offered => (taken, Outcome::Drained),
        Ok(taken) => {
            counters.short_writes += 1;
            (taken, Outcome::Blocked)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            counters.would_block += 1;
            (0, Outcome::Blocked)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            counters.interrupted += 1;
            (0, Outcome::Drained) // nothing happened: the loop makes the same call again
        }
        Err(error) => (0, Outcome::Closed(CloseReason::of(&error))),
    }
}

fn set_cork<T: Transport>(socket: &mut T, on: bool, counters: &mut WriteCounters) -> Outcome {
    counters.cork_calls += 1;
    match socket.set_cork(on) {
        Ok(()) => Outcome::Drained,
        Err(error) => Outcome::Closed(CloseReason::of(&error)),
    }
}

impl Call<'_> {
    fn len(&self) -> usize {
        match self {
            Call::Write(bytes) | Call::More(bytes) => bytes.len(),
            Call::Writev(buffers) => buffers.iter().map(|buffer| buffer.len()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If a broken plan ever offered nothing, the connection would end, not the loop's turn.
    #[test]
    fn a_call_that_takes_nothing_ends_the_connection_whatever_was_offered() {
        for offered in [0, 1, 1000] {
            let settled = settle(Ok(0), offered, &mut WriteCounters::default());
            assert_eq!(settled, (0, Outcome::Closed(CloseReason::SocketError)));
        }
    }
}
