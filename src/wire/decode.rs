//! A byte stream becomes events again: the algorithm of WHATWG HTML §9.2.6, incremental.
//!
//! The same events come out for every way of cutting the bytes. Memory is bounded by two limits
//! that the caller sets; comments and unknown fields are skipped as they arrive and cost none.
//!
//! Where the standard is easily misread, this follows the letter:
//! * exactly one leading BOM is stripped, and only at the start of the stream;
//! * `data` alone (or `data:`) dispatches an event whose data is empty, a block without any data
//!   field dispatches none, but its `id` moves the position all the same;
//! * an `id` with a NUL is ignored, an unfinished block commits nothing;
//! * `retry` takes effect at once, without a dispatch, and only if it is digits throughout;
//! * a CR ends a line by itself, and an LF behind it does not end another.

use std::fmt;

/// Decodes one event stream. Feed it with [`Decoder::next`].
#[derive(Debug)]
pub struct Decoder {
    data_bytes_max: usize,
    /// The line that the input has not finished yet. Invariant: shorter than `LINE_OVERHEAD`
    /// plus the limit of the field it may become.
    line: Vec<u8>,
    progress: Progress,
    /// A CR ended the last line: an LF that follows belongs to it.
    after_cr: bool,
    /// How many bytes of a leading BOM have been matched; `BOM_DONE` once that is settled.
    bom_matched: u8,
    block: Block,
    last_id: Vec<u8>,
    /// The block before was dispatched: its buffers are cleared before the next line is read.
    dispatched: bool,
}

/// The buffers of the event block being read.
#[derive(Debug, Default)]
struct Block {
    /// Each value of `data`, each followed by LF.
    data: Vec<u8>,
    name: Vec<u8>,
    /// Means nothing unless `has_id`: it keeps its memory from block to block.
    id: Vec<u8>,
    /// The valid id that stood before one that is to be ignored.
    valid_id: Option<Vec<u8>>,
    retry_ms: Option<u64>,
    has_data: bool,
    has_id: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The line is kept: it may be a field that matters.
    Keep,
    /// The line is a comment or an unknown field: its bytes are dropped until it ends.
    Skip,
}

/// What the stream says next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// An event is dispatched.
    Message(Message<'a>),
    /// The reader shall wait this many milliseconds before it reconnects.
    Retry(u64),
}

/// A dispatched event. All fields are the bytes of the stream: a reader decodes them as UTF-8
/// with replacement, a hub refuses what is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The event's type; empty means `message`.
    pub name: &'a [u8],
    /// The data, lines joined by LF.
    pub data: &'a [u8],
    /// The last `id` field that stands in this very block, as written, even if a reader would
    /// ignore it.
    pub id: Option<&'a [u8]>,
    /// The reader's position after this event: the last valid id seen so far.
    pub last_id: &'a [u8],
    /// The last valid `retry` in this very block.
    pub retry_ms: Option<u64>,
}

/// A stream that would need more memory than it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// One event's data exceeds the limit.
    DataTooLong,
    /// An `id`, `event` or `retry` line exceeds [`FIELD_BYTES_MAX`].
    FieldTooLong,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::DataTooLong => "an event's data exceeds the limit",
            DecodeError::FieldTooLong => "an id, event or retry field exceeds 4096 bytes",
        })
    }
}

impl std::error::Error for DecodeError {}

impl Decoder {
    /// A decoder at the start of a stream that accepts up to `data_bytes_max` bytes of data per
    /// event.
    pub fn new(data_bytes_max: usize) -> Decoder {
        Decoder::resuming(data_bytes_max, &[])
    }

    /// A decoder at the start of a stream whose reader already stands at `last_id`: an id
    /// survives reconnections until another replaces it.
    pub fn resuming(data_bytes_max: usize, last_id: &[u8]) -> Decoder {
        Decoder {
            data_bytes_max,
            line: Vec::new(),
            progress: Progress::Keep,
            after_cr: false,
            bom_matched: 0,
            block: Block::default(),
            last_id: last_id.to_vec(),
            dispatched: false,
        }
    }

    /// How many bytes are allocated for it.
    #[cfg(any(test, feature = "testing"))]
    pub fn allocated_bytes(&self) -> usize {
        let Block { data, name, id, valid_id, .. } = &self.block;
        let valid_id = valid_id.as_ref().map_or(0, Vec::capacity);
        let block = data.capacity() + name.capacity() + id.capacity() + valid_id;
        self.line.capacity() + self.last_id.capacity() + block
    }

    /// The reader's position: the last id that a finished block has set.
    pub fn last_id(&self) -> &[u8] {
        &self.last_id
    }

    /// Whether the stream stands between two blocks: what follows cannot change an event that
    /// was begun.
    pub fn at_boundary(&self) -> bool {
        self.line.is_empty()
            && self.progress == Progress::Keep
            && (self.dispatched
                || (!self.block.has_data && !self.block.has_id && self.block.name.is_empty()))
    }

    /// Takes bytes from the front of `input` up to the next item, and gives that item; `None`
    /// when the input is used up.
    ///
    /// # Errors
    /// A [`DecodeError`]; the stream cannot be continued.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Item<'_>>, DecodeError> {
        Ok(self.step(input)?.map(|step| match step {
            Step::Message => Item::Message(self.message()),
            Step::Retry(retry_ms) => Item::Retry(retry_ms),
        }))
    }

    /// The same as [`Decoder::next`], but lends nothing, so that a caller can go on in a loop.
    ///
    /// # Errors
    /// A [`DecodeError`]; the stream cannot be continued.
    #[allow(
        clippy::indexing_slicing,
        reason = "the input is not empty, and a line end stands where it was found"
    )]
    pub(crate) fn step(&mut self, input: &mut &[u8]) -> Result<Option<Step>, DecodeError> {
        self.clear_dispatched();
        self.skip_bom(input);
        while !input.is_empty() {
            if std::mem::take(&mut self.after_cr) && input[0] == b'\n' {
                *input = &input[1..];
                continue;
            }
            let Some(end) = line_end(input) else {
                self.keep_unfinished(input)?;
                *input = &[];
                break;
            };
            let (line, rest) = input.split_at(end);
            self.after_cr = rest[0] == b'\r';
            *input = &rest[1..];
            match self.end_line(line)? {
                Ended::Field => {}
                Ended::Retry(retry_ms) => return Ok(Some(Step::Retry(retry_ms))),
                Ended::Dispatch => {
                    self.dispatched = true;
                    return Ok(Some(Step::Message));
                }
            }
        }
        Ok(None)
    }

    /// The event that the last [`Decoder::step`] has dispatched.
    pub(crate) fn message(&self) -> Message<'_> {
        Message {
            name: &self.block.name,
            data: self.block.data.strip_suffix(b"\n").unwrap_or_default(),
            id: self.block.has_id.then_some(&*self.block.id),
            last_id: &self.last_id,
            retry_ms: self.block.retry_ms,
        }
    }

    fn clear_dispatched(&mut self) {
        if std::mem::take(&mut self.dispatched) {
            self.block.clear();
        }
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "the input is not empty, and bom_matched is below BOM_DONE, the length of a BOM"
    )]
    fn skip_bom(&mut self, input: &mut &[u8]) {
        while self.bom_matched < BOM_DONE && !input.is_empty() {
            if input[0] == BOM[usize::from(self.bom_matched)] {
                self.bom_matched += 1;
                *input = &input[1..];
                continue;
            }
            // No BOM after all: what looked like one begins the first line.
            self.line.extend_from_slice(&BOM[..usize::from(self.bom_matched)]);
            self.bom_matched = BOM_DONE;
        }
    }

    /// Keeps the begun line, or what must be known of it.
    #[allow(clippy::indexing_slicing, reason = "a minimum with the length")]
    fn keep_unfinished(&mut self, part: &[u8]) -> Result<(), DecodeError> {
        if self.progress == Progress::Skip {
            return Ok(());
        }
        let limit = LINE_OVERHEAD + self.data_bytes_max.max(FIELD_BYTES_MAX);
        // Only as much is copied as the limit allows to matter.
        self.line.extend_from_slice(&part[..part.len().min(limit + 1)]);
        match Field::of_prefix(&self.line) {
            Some(Field::Unknown) => {
                self.progress = Progress::Skip;
                self.line = Vec::new();
            }
            Some(Field::Data)
                if self.block.data.len() + self.line.len()
                    > LINE_OVERHEAD + self.data_bytes_max =>
            {
                return Err(DecodeError::DataTooLong);
            }
            Some(Field::Id | Field::Event | Field::Retry)
                if self.line.len() > LINE_OVERHEAD + FIELD_BYTES_MAX =>
            {
                return Err(DecodeError::FieldTooLong);
            }
            _ => {}
        }
        Ok(())
    }

    /// Handles the line whose last part is `part`.
    fn end_line(&mut self, part: &[u8]) -> Result<Ended, DecodeError> {
        if std::mem::replace(&mut self.progress, Progress::Keep) == Progress::Skip {
            return Ok(Ended::Field);
        }
        if self.line.is_empty() {
            return self.line(part);
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(part);
        let ended = self.line(&line);
        line.clear();
        self.line = line; // keep its memory
        ended
    }

    #[allow(clippy::indexing_slicing, reason = "a colon stands where it was found")]
    fn line(&mut self, line: &[u8]) -> Result<Ended, DecodeError> {
        if line.is_empty() {
            return Ok(self.end_block());
        }
        let (name, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => {
                (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]))
            }
            None => (line, &[][..]),
        };
        let field = Field::of(name);
        if matches!(field, Field::Id | Field::Event | Field::Retry) && value.len() > FIELD_BYTES_MAX
        {
            return Err(DecodeError::FieldTooLong);
        }
        match field {
            Field::Data => {
                let block = &mut self.block;
                if block.data.len() + value.len() > self.data_bytes_max {
                    return Err(DecodeError::DataTooLong);
                }
                block.data.extend_from_slice(value);
                block.data.push(b'\n');
                block.has_data = true;
            }
            Field::Event => value.clone_into(&mut self.block.name),
            Field::Id => {
                if value.contains(&0) {
                    self.block.keep_valid_id();
                }
                value.clone_into(&mut self.block.id);
                self.block.has_id = true;
            }
            Field::Retry => {
                self.block.retry_ms = digits(value).or(self.block.retry_ms);
                return Ok(digits(value).map_or(Ended::Field, Ended::Retry));
            }
            Field::Unknown => {}
        }
        Ok(Ended::Field)
    }

    fn end_block(&mut self) -> Ended {
        if self.block.has_id {
            match self.block.valid_id.take() {
                _ if !self.block.id.contains(&0) => self.block.id.clone_into(&mut self.last_id),
                Some(valid) => self.last_id = valid,
                None => {}
            }
        }
        if self.block.has_data {
            return Ended::Dispatch;
        }
        self.block.clear();
        Ended::Field
    }
}

/// Where the first LF or CR stands.
///
/// Eight bytes at a time: this search is most of what decoding costs. In `word ^ pattern` the bytes
/// that are sought become zero, and subtracting one from each byte sets the top bit of those. A
/// borrow can set it in bytes above such a one only, so the lowest is always right.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let marks = |word: u64, byte: u8| {
        let zeroed = word ^ (ONES * u64::from(byte));
        zeroed.wrapping_sub(ONES) & !zeroed & TOPS
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for (nth, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = marks(word, b'\n') | marks(word, b'\r');
        if found != 0 {
            return Some(8 * nth + (found.trailing_zeros() / 8) as usize);
        }
    }
    let in_rest = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    in_rest.map(|at| 8 * words.len() + at)
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

impl Block {
    /// Before an id that a reader ignores: the one so far is what counts for it.
    fn keep_valid_id(&mut self) {
        if self.has_id && !self.id.contains(&0) {
            self.valid_id = Some(std::mem::take(&mut self.id));
        }
    }

    fn clear(&mut self) {
        self.data.clear();
        self.name.clear();
        self.retry_ms = None;
        self.has_data = false;
        self.has_id = false;
    }
}

/// What [`Decoder::step`] has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// An event is dispatched; [`Decoder::message`] gives it.
    Message,
    /// As [`Item::Retry`].
    Retry(u64),
}

enum Ended {
    Field,
    Retry(u64),
    Dispatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Id,
    Retry,
    Unknown,
}

impl Field {
    /// Names are compared literally: no case folding, no trimming.
    fn of(name: &[u8]) -> Field {
        match name {
            b"data" => Field::Data,
            b"event" => Field::Event,
            b"id" => Field::Id,
            b"retry" => Field::Retry,
            _ => Field::Unknown,
        }
    }

    /// What an unfinished line is going to be, as soon as that can be said: at its colon, or when
    /// it is longer than any name we know.
    #[allow(clippy::indexing_slicing, reason = "a colon stands where it was found")]
    fn of_prefix(line: &[u8]) -> Option<Field> {
        match line.iter().take(NAME_LEN_MAX + 1).position(|&byte| byte == b':') {
            Some(colon) => Some(Field::of(&line[..colon])),
            None if line.len() > NAME_LEN_MAX => Some(Field::Unknown),
            None => None,
        }
    }
}

/// The standard leaves an empty value open; like browsers, we ignore it. It sets no upper bound
/// either, so a number that does not fit is the largest that does.
pub(crate) fn digits(value: &[u8]) -> Option<u64> {
    let all_digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let append = |number: u64, &digit: &u8| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    };
    all_digits.then(|| value.iter().fold(0, append))
}

/// The longest `id`, `event` or `retry` value accepted, in bytes.
pub const FIELD_BYTES_MAX: usize = 4096;
const BOM: &[u8; 3] = b"\xef\xbb\xbf";
const BOM_DONE: u8 = 3;
const NAME_LEN_MAX: usize = b"event".len();
/// Name, colon and space in front of a value.
const LINE_OVERHEAD: usize = NAME_LEN_MAX + 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Message { name: String, data: String, id: Option<String>, last_id: String },
        Retry(u64),
    }

    fn message(name: &str, data: &str, last_id: &str) -> Seen {
        Seen::Message { name: name.into(), data: data.into(), id: None, last_id: last_id.into() }
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn decode_pieces<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Seen>, DecodeError> {
        let mut decoder = Decoder::new(1000);
        let mut seen = Vec::new();
        for mut piece in pieces {
            while let Some(item) = decoder.next(&mut piece)? {
                seen.push(match item {
                    Item::Retry(ms) => Seen::Retry(ms),
                    Item::Message(m) => Seen::Message {
                        name: text(m.name),
                        data: text(m.data),
                        id: m.id.map(text),
                        last_id: text(m.last_id),
                    },
                });
            }
        }
        Ok(seen)
    }

    /// The same items for the whole input, every two-way cut, every three-way cut of short
    /// inputs, and byte by byte. `id` within the block is compared only where `expected` names it.
    fn check(input: impl AsRef<[u8]>, expected: &[Seen]) {
        let input = input.as_ref();
        let whole = decode_pieces([input]).unwrap();
        let without_ids: Vec<Seen> = whole
            .iter()
            .cloned()
            .map(|seen| match seen {
                Seen::Message { name, data, last_id, .. } => {
                    Seen::Message { name, data, id: None, last_id }
                }
                retry => retry,
            })
            .collect();
        assert_eq!(without_ids, expected, "{:?}", input.escape_ascii().to_string());
        assert_eq!(decode_pieces(input.chunks(1)).unwrap(), whole);
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let pieces = [&input[..first], &input[first..second], &input[second..]];
                assert_eq!(decode_pieces(pieces).unwrap(), whole, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn fields_and_dispatch() {
        check("data: a\n\n", &[message("", "a", "")]);
        check("data:a\ndata:  b\nevent: x\nid: 7\n\n", &[message("x", "a\n b", "7")]);
        check("event: x\nevent\ndata: a\n\n", &[message("", "a", "")]);
        check("data\n\n", &[message("", "", "")]);
        check("data:\ndata\n\n", &[message("", "\n", "")]);
        check("event: x\n\ndata: a\n\n", &[message("", "a", "")]);
        check("Data: a\n data: b\ndatax: c\n\n", &[]);
        check("data: a", &[]);
        check("data: a\n", &[]);
        check("data: x:y\n\n", &[message("", "x:y", "")]);
        check(": comment\n:\n:data: no\ndata: a\n\n", &[message("", "a", "")]);
    }

    /// One or two line ends at every place among bytes that resemble them.
    #[test]
    fn the_first_line_end_is_found() {
        let fill = [b'\n' - 1, b'\n' + 1, b'\r' + 1, b'\n' | 0x80, b'\r' | 0x80, 0, 0xff];
        for len in 0..30 {
            let around: Vec<u8> = (0..len).map(|at| fill[at % fill.len()]).collect();
            assert_eq!(line_end(&around), None);
            for (first, second) in
                (0..len).flat_map(|first| (first..len).map(move |at| (first, at)))
            {
                for (one, other) in [(b'\n', b'\r'), (b'\r', b'\n'), (b'\n', b'\n')] {
                    let mut bytes = around.clone();
                    (bytes[second], bytes[first]) = (other, one);
                    assert_eq!(line_end(&bytes), Some(first), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn line_ends() {
        check(
            "data: a\r\rdata: b\r\n\r\ndata: c\n\n",
            &[message("", "a", ""), message("", "b", ""), message("", "c", "")],
        );
        check(
            "data: a\r\ndata: b\r\n\ndata: c\r\r",
            &[message("", "a\nb", ""), message("", "c", "")],
        );
        check("data: a\u{b}b\u{2028}\u{85}\n\n", &[message("", "a\u{b}b\u{2028}\u{85}", "")]);
    }

    #[test]
    fn byte_order_marks() {
        check("\u{feff}data: a\n\n", &[message("", "a", "")]);
        check("\u{feff}\u{feff}data: a\n\n", &[]);
        check("data: a\n\n\u{feff}data: b\n\n", &[message("", "a", "")]);
        check(b"\xef\xbbdata: a\n\ndata: b\n\n", &[message("", "b", "")]);
        check("\u{feff}", &[]);
    }

    #[test]
    fn ids_are_positions() {
        check("id: 1\ndata: a\n\ndata: b\n\n", &[message("", "a", "1"), message("", "b", "1")]);
        check("id: 1\n\ndata: b\n\n", &[message("", "b", "1")]);
        check("id: 1\ndata: a\n\nid\ndata: b\n\n", &[message("", "a", "1"), message("", "b", "")]);
        check(
            "id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
            &[message("", "a", "1"), message("", "b", "1")],
        );
        // The field with a NUL is ignored, the one before it in the same block is not: found by
        // the fuzzer `sse_decoder`.
        check("id: 1\nid: 2\0\ndata: a\n\n", &[message("", "a", "1")]);
        check("id: 1\nid: 2\0\nid: 3\0\ndata: a\n\n", &[message("", "a", "1")]);
        check("id: 1\nid: 2\0\nid: 3\ndata: a\n\n", &[message("", "a", "3")]);
        check(
            "id: 1\nid: 2\0\n\nid: 3\0\ndata: a\n\ndata: b\n\n",
            &[message("", "a", "1"), message("", "b", "1")],
        );
        let mut decoder = Decoder::resuming(100, b"41");
        let mut input = &b"data: a\n\nid: 42\n"[..];
        let item = decoder.next(&mut input).unwrap();
        assert!(matches!(item, Some(Item::Message(Message { last_id: b"41", id: None, .. }))));
        assert!(decoder.at_boundary());
        assert_eq!(decoder.next(&mut input).unwrap(), None);
        assert!(!decoder.at_boundary());
        assert_eq!(decoder.last_id(), b"41", "an unfinished block commits nothing");
    }

    #[test]
    fn an_id_is_known_to_stand_in_its_block() {
        let seen = decode_pieces([&b"id: 1\ndata: a\n\ndata: b\n\n"[..]]).unwrap();
        let ids: Vec<Option<&str>> = seen
            .iter()
            .map(|seen| match seen {
                Seen::Message { id, .. } => id.as_deref(),
                Seen::Retry(_) => None,
            })
            .collect();
        assert_eq!(ids, [Some("1"), None]);
    }

    #[test]
    fn retry_takes_effect_at_once() {
        check("retry: 250\ndata: a", &[Seen::Retry(250)]);
        check("retry: 1x\nretry: -1\nretry:\nretry: 1.5\nretry: ١\n\n", &[]);
        check("retry:7\ndata: a\n\n", &[Seen::Retry(7), message("", "a", "")]);
        check("retry: 0\nretry: 007\n", &[Seen::Retry(0), Seen::Retry(7)]);
        check(format!("retry: {}\n", u64::MAX), &[Seen::Retry(u64::MAX)]);
        check(format!("retry: {}0\n", u64::MAX), &[Seen::Retry(u64::MAX)]);
        check("retry: 18446744073709551616\n", &[Seen::Retry(u64::MAX)]);
    }

    #[test]
    fn memory_is_bounded() {
        let long = format!("data: {}\n\n", "x".repeat(1001));
        assert_eq!(decode_pieces([long.as_bytes()]), Err(DecodeError::DataTooLong));
        assert_eq!(decode_pieces(long.as_bytes().chunks(1)), Err(DecodeError::DataTooLong));
        let lines = format!("data: {0}\ndata: {0}\n\n", "x".repeat(600));
        assert_eq!(decode_pieces(lines.as_bytes().chunks(7)), Err(DecodeError::DataTooLong));
        let id = format!("id: {}\n\n", "x".repeat(5000));
        assert_eq!(decode_pieces([id.as_bytes()]), Err(DecodeError::FieldTooLong));
        assert_eq!(decode_pieces(id.as_bytes().chunks(3)), Err(DecodeError::FieldTooLong));

        let mut decoder = Decoder::new(1000);
        for _ in 0..1000 {
            assert_eq!(decoder.next(&mut &b": a very long comment "[..]).unwrap(), None);
        }
        assert_eq!(decoder.line.capacity(), 0, "comments are not kept");
    }

    #[test]
    fn the_limit_itself_is_accepted() {
        let exact = format!("data: {}\n\n", "x".repeat(1000));
        assert_eq!(decode_pieces(exact.as_bytes().chunks(1)).unwrap().len(), 1);
        assert_eq!(decode_pieces([exact.as_bytes()]).unwrap().len(), 1);
    }
}
