//! The body of a request, as it arrives.

use crate::push::id::Seq;
use crate::wire::chunk::{self, ChunkError};
use crate::wire::decode;
use crate::wire::head::{BodyLength, Version};

/// What an answer must know of the request that it answers.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub version: Version,
    /// The connection ends with the answer.
    pub close: bool,
    /// The request was HEAD: the answer's body is left out.
    pub head_only: bool,
    /// The value of `Access-Control-Allow-Origin`.
    pub allow_origin: Option<Box<str>>,
}

/// A body under way.
#[derive(Debug)]
pub(super) struct Body {
    pub exchange: Exchange,
    pub reader: BodyReader,
    pub sink: Sink,
}

/// Finds the end of a body.
#[derive(Debug)]
pub(super) enum BodyReader {
    /// So many bytes are still to come.
    Bytes(u64),
    /// The chunked coding tells.
    Chunked(chunk::Decoder),
}

/// Where a body goes.
#[derive(Debug)]
pub(super) enum Sink {
    /// The body is the data of one event.
    Event(EventSink),
    /// The body is an event stream, and its events are published as they arrive.
    Feed(FeedSink),
    /// The body changes knobs.
    #[cfg(feature = "admin")]
    Knobs { query: String, json: Vec<u8> },
}

/// One event whose data is arriving.
#[derive(Debug)]
pub(super) struct EventSink {
    pub topic: Box<str>,
    pub id: Option<String>,
    pub name: Option<String>,
    pub retry_ms: Option<u64>,
    pub data: Vec<u8>,
}

/// An event stream that is being published.
#[derive(Debug)]
pub(super) struct FeedSink {
    pub topic: Box<str>,
    pub decoder: decode::Decoder,
    pub tally: Tally,
}

/// What one request has published.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub count: u64,
    pub duplicates: u64,
    /// The last event among both.
    pub last: Option<Seq>,
}

#[cfg(any(test, feature = "testing"))]
impl Body {
    /// How many bytes are allocated for it.
    pub fn allocated_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        let sink = match &self.sink {
            Sink::Event(event) => {
                event.topic.len() + text(&event.id) + text(&event.name) + event.data.capacity()
            }
            Sink::Feed(feed) => feed.topic.len() + feed.decoder.allocated_bytes(),
            #[cfg(feature = "admin")]
            Sink::Knobs { query, json } => query.capacity() + json.capacity(),
        };
        size_of_val(self) + self.exchange.allow_origin.as_ref().map_or(0, |own| own.len()) + sink
    }
}

impl BodyReader {
    pub fn new(length: BodyLength, limits: chunk::Limits) -> BodyReader {
        match length {
            BodyLength::Bytes(bytes) => BodyReader::Bytes(bytes),
            BodyLength::Chunked => BodyReader::Chunked(chunk::Decoder::new(limits)),
        }
    }

    /// Whether the body is known to have ended before another byte is read.
    pub fn is_done(&self) -> bool {
        matches!(self, BodyReader::Bytes(0))
    }

    /// Takes one run of body bytes off the front of `input`.
    #[allow(clippy::indexing_slicing, reason = "a minimum with the length")]
    pub fn read<'i>(&mut self, input: &'i [u8]) -> Result<chunk::Decoded<'i>, ChunkError> {
        match self {
            BodyReader::Chunked(decoder) => decoder.decode(input),
            BodyReader::Bytes(left) => {
                let take = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= take as u64;
                Ok(chunk::Decoded { consumed: take, data: &input[..take], done: *left == 0 })
            }
        }
    }
}
