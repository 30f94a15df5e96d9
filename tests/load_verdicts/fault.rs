//! What a hub may do wrong, one at a time.

/// What the hub does by event number [`WRONG`](crate::hub::WRONG), if nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,

    // Events.
    Drop,
    /// For one subscriber only.
    DropForOne,
    DropLast,
    DropAll,
    Repeat,
    Swap,
    /// Another letter.
    Alter,
    /// One byte less, in a chunk and an event that are well-formed.
    Shorten,
    /// Events of somebody else, two hundred of them.
    Foreign,
    /// An event of another run.
    OtherRun,

    // Notices of a loss. The event is dropped, and the next one comes with the notice.
    /// It says what was lost.
    Gap,
    /// It does not say how many.
    GapOfUnknown,
    /// It says nothing.
    GapOfNulls,
    /// It says that fewer were lost.
    GapUnder,
    /// It says that more were lost.
    GapOver,
    /// It speaks of a topic that was not subscribed to.
    GapElsewhere,
    /// It begins where the subscriber does not stand.
    GapStale,
    /// It ends where the stream does not go on.
    GapAstray,
    /// It is honest, and another event is dropped without one.
    GapThenDrop,
    /// Nothing is dropped.
    GapForNothing,
    /// The same, and later an event is dropped.
    GapTooEarly,

    // Streams. The first that reach the event have it.
    /// The connection is closed in the middle of the event.
    CutByEnd,
    /// It is reset there.
    CutByReset,
    /// It is closed between two chunks.
    CutBetween,
    /// The stream ends as it should.
    End,
    /// The same, and from then on nobody gets a stream.
    EndAndRefuse,
    /// The stream ends, and there are bytes behind its end.
    Surplus,
    /// A chunk's size is no number.
    BadSize,
    /// A chunk does not end where its size says.
    WrongSize,
    /// An event that has no end, and takes more than a mebibyte.
    Endless,
    /// Half of the event, and nothing more; every stream.
    Stall,
    /// The hub is gone: every connection is closed, and nobody listens.
    Vanish,

    // Subscriptions.
    /// One of three is answered with 503.
    RefuseOne,
    /// All are.
    RefuseAll,
    /// One of three is answered with a stream that ends at once.
    TurnAwayOne,
    /// Streams are compressed.
    Compress,
    /// The answer is a page.
    NoStream,

    // Publishing.
    /// One event is answered with 503, and not published.
    RefusePublish,
    /// From one event on nothing is answered, or published.
    StallPublish,
    /// The connection is closed without an answer, once.
    ClosePublish,
    /// The connection is closed behind each answer.
    CloseEach,
    /// Every connection is closed at once.
    CloseAtOnce,
    /// An answer that is none.
    GarbleAnswer,
}

impl Fault {
    /// The notice of a loss. Event number 2 has the id 3, and so on.
    pub fn notice(self) -> Option<&'static str> {
        Some(match self {
            Fault::Gap | Fault::GapThenDrop => {
                r#"{"topic":"a","from":"3","to":"5","lost":1,"reason":"overrun"}"#
            }
            Fault::GapOfUnknown => r#"{"topic":"a","from":"3","to":"5","lost":null}"#,
            Fault::GapOfNulls => r#"{"topic":"a","from":null,"to":null,"lost":null}"#,
            Fault::GapUnder => r#"{"topic":"a","from":"3","to":"5","lost":0}"#,
            Fault::GapOver => r#"{"topic":"a","from":"3","to":"5","lost":2}"#,
            Fault::GapElsewhere => r#"{"topic":"b","from":"3","to":"5","lost":1}"#,
            Fault::GapStale => r#"{"topic":"a","from":"2","to":"5","lost":1}"#,
            Fault::GapAstray => r#"{"topic":"a","from":"3","to":"6","lost":1}"#,
            Fault::GapForNothing | Fault::GapTooEarly => {
                r#"{"topic":"a","from":"4","to":"5","lost":1}"#
            }
            _ => return None,
        })
    }

    /// Whether it is done to connections, and not to events.
    pub fn is_of_connections(self) -> bool {
        use Fault::*;
        matches!(
            self,
            CutByEnd
                | CutByReset
                | CutBetween
                | End
                | EndAndRefuse
                | Surplus
                | BadSize
                | WrongSize
                | Endless
                | Stall
                | Vanish
        )
    }
}
