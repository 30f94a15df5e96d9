//! What was published, in order: built for tests only.
//!
//! Publishers know what they sent, and readers what they got. Which of several publishers came
//! first, only the hub knows. A test that holds readers to that order asks for a journal.

use crate::push::id::Seq;

/// An event as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journaled {
    /// Its place in the order of the hub.
    pub seq: Seq,
    /// Its topic.
    pub topic: Box<str>,
    /// The id under which readers see it.
    pub id: Box<str>,
    /// Its data, as the publisher gave it.
    pub data: Box<str>,
    /// Everything of its topic up to here had been evicted when it came.
    pub evicted: Seq,
}
