//! What `pushv load` must say of each fault.

use crate::fault::Fault::{self, *};
use Expected::{Incomplete, Offences, Ok, ServerGone, Unreported, Untried};

/// What a run must come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expected {
    /// Exit status 0.
    Ok,
    /// Exit status 1, as with all that follow: these offences at each subscriber, and no others.
    Offences(&'static [(&'static str, u64)]),
    Incomplete,
    ServerGone,
    /// No report, since not one stream could be opened, but a message with this in it.
    Unreported(&'static str),
    /// There is no right verdict, for this reason.
    Untried(&'static str),
}

/// A fault, what a run that publishes must say of it, and what a run that only listens.
pub struct Row {
    pub fault: Fault,
    pub published: Expected,
    pub listened: Expected,
}

const fn row(fault: Fault, published: Expected, listened: Expected) -> Row {
    Row { fault, published, listened }
}

/// A run that only listens does not know what was published: it judges streams, not events.
pub const TABLE: &[Row] = &[
    row(None, Ok, Ok),
    row(Drop, Offences(&[("missing", 1)]), Ok),
    row(DropLast, Offences(&[("missing", 1)]), Ok),
    row(DropAll, Offences(&[("missing", 8)]), Ok),
    row(Repeat, Offences(&[("repeated", 1)]), Ok),
    row(Swap, Offences(&[("reordered", 1)]), Ok),
    row(Alter, Offences(&[("altered", 1), ("missing", 1)]), Ok),
    row(Shorten, Offences(&[("altered", 1), ("missing", 1)]), Ok),
    row(Foreign, Ok, Ok),
    row(OtherRun, Ok, Ok),
    row(Gap, Ok, Ok),
    row(GapOfUnknown, Ok, Ok),
    row(GapOfNulls, Ok, Ok),
    row(GapUnder, Offences(&[("missing", 1), ("misreported", 1)]), Ok),
    row(GapOver, Offences(&[("misreported", 1)]), Ok),
    row(GapElsewhere, Offences(&[("missing", 1), ("misreported", 1)]), MISREPORTED),
    row(GapStale, Offences(&[("missing", 1), ("misreported", 1)]), Ok),
    row(GapAstray, Offences(&[("missing", 1), ("misreported", 1)]), Ok),
    row(GapThenDrop, Offences(&[("missing", 1)]), Ok),
    row(GapForNothing, Offences(&[("misreported", 1)]), Ok),
    row(GapTooEarly, Offences(&[("missing", 1), ("misreported", 1)]), Ok),
    row(CutByEnd, MALFORMED, MALFORMED),
    row(CutByReset, MALFORMED, MALFORMED),
    row(CutBetween, MALFORMED, MALFORMED),
    row(End, Ok, NOT_BEGUN),
    row(EndAndRefuse, Incomplete, Incomplete),
    // A subscriber leaves at the end of its stream, and does not see what is behind it.
    row(Surplus, Ok, NOT_BEGUN),
    row(BadSize, MALFORMED, MALFORMED),
    row(WrongSize, MALFORMED, MALFORMED),
    row(Endless, MALFORMED, MALFORMED),
    row(Stall, Offences(&[("missing", 5)]), Ok),
    row(Vanish, ServerGone, NOT_BEGUN),
    row(RefuseOne, Incomplete, Incomplete),
    row(RefuseAll, Unreported("HTTP status 503"), Unreported("HTTP status 503")),
    row(TurnAwayOne, Incomplete, Incomplete),
    row(Compress, Unreported("gzip"), Unreported("gzip")),
    row(NoStream, Unreported("text/html"), Unreported("text/html")),
    row(RefusePublish, Incomplete, NOTHING_PUBLISHED),
    row(StallPublish, Incomplete, NOTHING_PUBLISHED),
    row(ClosePublish, Incomplete, NOTHING_PUBLISHED),
    row(CloseEach, Ok, NOTHING_PUBLISHED),
    row(CloseAtOnce, Incomplete, NOTHING_PUBLISHED),
    row(GarbleAnswer, Incomplete, NOTHING_PUBLISHED),
];

const MALFORMED: Expected = Offences(&[("malformed", 1)]);
const MISREPORTED: Expected = Offences(&[("misreported", 1)]);
const NOTHING_PUBLISHED: Expected = Untried("nothing is published");
/// A stream that ends before the start is not opened again, one that ends after it is.
const NOT_BEGUN: Expected = Untried("nothing tells the hub that the run has begun");
