//! The chunked transfer coding (RFC 9112 §7.1).
//!
//! Writing: an event's frame is one chunk, so that a chunk border is also an event border for
//! as long as nobody between us and the reader moves it. The size line is written in front of a
//! payload that already stands in its buffer, so framing never copies the payload.
//!
//! Reading: our own decoder, because the grammar must be enforced to the letter. A decoder that
//! is lax about an empty size, about a bare LF or about what an extension may hold disagrees
//! with the proxy in front of it about where a body ends, and that disagreement is request
//! smuggling. Nothing is ever allocated from a declared size.

use std::fmt;

/// The longest size line we write: eight hexadecimal digits and CRLF.
pub const SIZE_LINE_MAX: usize = 10;

/// The chunk of size zero and the empty trailer section: the end of a body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What follows every chunk's data.
pub const CRLF: &[u8] = b"\r\n";
/// The longest framing of a chunk: its size line and what follows its data.
pub const AROUND_BYTES_MAX: usize = SIZE_LINE_MAX + CRLF.len();

/// Writes the size line of a chunk of `len` bytes right-aligned into `out` and returns how many
/// bytes it took, so that the line ends where the payload begins.
///
/// # Panics
/// If `len` is zero: an empty chunk would end the body.
#[allow(
    clippy::indexing_slicing,
    reason = "a u32 has at most eight digits, and the line has room for them"
)]
pub fn size_line(len: u32, out: &mut [u8; SIZE_LINE_MAX]) -> usize {
    assert!(len > 0, "an empty chunk ends the body");
    out[SIZE_LINE_MAX - 2..].copy_from_slice(CRLF);
    let mut at = SIZE_LINE_MAX - 2;
    let mut rest = len;
    while rest > 0 {
        at -= 1;
        out[at] = b"0123456789abcdef"[(rest & 0xf) as usize];
        rest >>= 4;
    }
    SIZE_LINE_MAX - at
}

/// Appends `payload` to `out` as one chunk. Appends nothing if `payload` is empty.
#[allow(clippy::indexing_slicing, reason = "a size line is at most SIZE_LINE_MAX long")]
pub fn append(payload: &[u8], out: &mut Vec<u8>) {
    if payload.is_empty() {
        return;
    }
    let mut line = [0; SIZE_LINE_MAX];
    let line_bytes = size_line(payload.len() as u32, &mut line);
    out.extend_from_slice(&line[SIZE_LINE_MAX - line_bytes..]);
    out.extend_from_slice(payload);
    out.extend_from_slice(CRLF);
}

/// An incremental, strict decoder of one chunked body.
///
/// The result does not depend on how the input is cut. After [`Decoded::done`] the decoder is
/// spent; the bytes behind the body belong to the next request.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    state: State,
    /// Bytes of the current chunk's data that have not been seen yet.
    data_left: u64,
    /// Bytes of the current line (size line or trailer section) so far.
    line_bytes: u32,
    /// Bytes of all extensions so far: many small ones amplify as well as one large one.
    extensions_bytes: u32,
}

/// How much of what is read and ignored a body may hold. It costs the reader and not the sender
/// (RFC 9112 §7.1.1 asks for a limit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a size line, its CRLF included.
    pub line_bytes_max: u32,
    /// Bytes of all extensions of a body, blanks in front of them included.
    pub extensions_bytes_max: u32,
    /// Bytes of the trailer section, without the empty line that ends it.
    pub trailer_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // Whoever ignores extensions has no use for a long line.
            line_bytes_max: 256,
            // What others permit (Node, Bun): enough for a signature on each of some chunks.
            extensions_bytes_max: 16 << 10,
            trailer_bytes_max: 8 << 10,
        }
    }
}

/// What one call of [`Decoder::decode`] made of its input.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'i> {
    /// Bytes taken from the front of the input, at least one unless it was empty or done.
    pub consumed: usize,
    /// Body bytes among them; empty if they were framing.
    pub data: &'i [u8],
    /// The last chunk and its trailer section have been read.
    pub done: bool,
}

/// Why a chunked body is refused. Each means 400 and the end of the connection, because the
/// place where the next request begins is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// The size line does not begin with one to eight hexadecimal digits.
    Size,
    /// An extension holds a control character, or extensions take too many bytes.
    Extension,
    /// CRLF was expected.
    LineEnd,
    /// The trailer section is too long, or a line of it is no field: `NAME: VALUE` without a
    /// control character, without a space before the colon, not folded.
    Trailer,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChunkError::Size => "bad chunk size",
            ChunkError::Extension => "bad or too long chunk extension",
            ChunkError::LineEnd => "a chunk does not end in CRLF",
            ChunkError::Trailer => "bad or too long trailer section",
        })
    }
}

impl Decoder {
    /// A decoder of a body for which these limits hold.
    pub fn new(limits: Limits) -> Decoder {
        Decoder { limits, ..Decoder::default() }
    }

    /// Decodes from the front of `input`, up to the end of the input, of one run of data, or of
    /// the body, whichever comes first. Call it until everything is consumed or it is done.
    ///
    /// # Errors
    /// A [`ChunkError`] at the first byte that no valid body could have there.
    #[allow(
        clippy::indexing_slicing,
        reason = "consumed is below the length of the input, and take at most what is available"
    )]
    pub fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<'i>, ChunkError> {
        let mut consumed = 0;
        while consumed < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let available = &input[consumed..];
                let take =
                    available.len().min(usize::try_from(self.data_left).unwrap_or(usize::MAX));
                self.data_left -= take as u64;
                if self.data_left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Decoded {
                    consumed: consumed + take,
                    data: &available[..take],
                    done: false,
                });
            }
            self.state = self.step(input[consumed])?;
            consumed += 1;
        }
        Ok(Decoded { consumed, data: &[], done: self.state == State::Done })
    }

    /// The state after one byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.line_bytes += 1;
        match self.state {
            State::Size => self.size(byte),
            State::Blank => self.blank(byte),
            State::Extension => self.extension(byte),
            State::SizeLf => {
                expect(byte, b'\n')?;
                self.check_line()?;
                self.line_bytes = 0;
                Ok(if self.data_left == 0 { State::TrailerStart } else { State::Data })
            }
            State::DataCr => expect(byte, b'\r').map(|()| State::DataLf),
            State::DataLf => {
                expect(byte, b'\n')?;
                self.line_bytes = 0;
                Ok(State::Size)
            }
            State::TrailerStart if byte == b'\r' => Ok(State::EndLf),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf
                if self.line_bytes > self.limits.trailer_bytes_max =>
            {
                Err(ChunkError::Trailer)
            }
            State::TrailerStart => trailer_name(byte, false),
            State::TrailerName => trailer_name(byte, true),
            State::TrailerValue => trailer_value(byte),
            State::TrailerLf => expect(byte, b'\n').map(|()| State::TrailerStart),
            State::EndLf => expect(byte, b'\n').map(|()| State::Done),
            State::Data | State::Done => unreachable!("decode() steps through framing only"),
        }
    }

    fn size(&mut self, byte: u8) -> Result<State, ChunkError> {
        let digits_before = self.line_bytes - 1;
        match (byte as char).to_digit(16) {
            Some(digit) if digits_before < SIZE_DIGITS_MAX => {
                self.data_left = self.data_left << 4 | u64::from(digit);
                Ok(State::Size)
            }
            None if digits_before > 0 && byte == b'\r' => Ok(State::SizeLf),
            None if digits_before > 0 && byte == b';' => Ok(State::Extension),
            None if digits_before > 0 && is_blank(byte) => Ok(State::Blank),
            _ => Err(ChunkError::Size),
        }
    }

    /// A byte behind a size and a blank. The grammar allows blanks there if an extension follows,
    /// and a recipient must accept them (BWS, RFC 9110 §5.6.3). A line that ends in a blank is not
    /// in the grammar, and is refused: some recipients read it as a size and others do not, so two
    /// of them could disagree about where the body ends.
    fn blank(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.check_extension()?;
        match byte {
            b';' => Ok(State::Extension),
            _ if is_blank(byte) => Ok(State::Blank),
            _ => Err(ChunkError::Size),
        }
    }

    fn extension(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.check_extension()?;
        match byte {
            b'\r' => Ok(State::SizeLf),
            b'\t' | 0x20..=0x7e => Ok(State::Extension),
            _ => Err(ChunkError::Extension),
        }
    }

    /// Counts one more byte behind a size.
    fn check_extension(&mut self) -> Result<(), ChunkError> {
        self.extensions_bytes += 1;
        match self.extensions_bytes > self.limits.extensions_bytes_max {
            true => Err(ChunkError::Extension),
            false => self.check_line(),
        }
    }

    /// Only an extension, or blanks in front of it, can make a size line long.
    fn check_line(&self) -> Result<(), ChunkError> {
        match self.line_bytes > self.limits.line_bytes_max {
            true => Err(ChunkError::Extension),
            false => Ok(()),
        }
    }
}

/// A byte of a trailer field's name (RFC 9110 §5.6.2), or the colon behind it.
fn trailer_name(byte: u8, begun: bool) -> Result<State, ChunkError> {
    match byte {
        b':' if begun => Ok(State::TrailerValue),
        _ if is_token(byte) => Ok(State::TrailerName),
        _ => Err(ChunkError::Trailer),
    }
}

fn trailer_value(byte: u8) -> Result<State, ChunkError> {
    match byte {
        b'\r' => Ok(State::TrailerLf),
        b'\t' | 0x20..=0x7e | 0x80.. => Ok(State::TrailerValue),
        _ => Err(ChunkError::Trailer),
    }
}

/// `tchar` (RFC 9110 §5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn expect(byte: u8, wanted: u8) -> Result<(), ChunkError> {
    if byte == wanted { Ok(()) } else { Err(ChunkError::LineEnd) }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// Blanks behind the size: an extension must follow.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Eight digits name four gigabytes, far above any body we take, and cannot overflow.
const SIZE_DIGITS_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` handed over in pieces that end at each of `cuts`; gives the body and what
    /// is left behind it, or the error.
    fn decode_cut(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, bool, usize), ChunkError> {
        let mut decoder = Decoder::default();
        let (mut body, mut done, mut at) = (Vec::new(), false, 0);
        for &end in cuts.iter().chain([&input.len()]) {
            while at < end && !done {
                let decoded = decoder.decode(&input[at..end])?;
                assert!(decoded.consumed > 0, "no progress on {:?}", &input[at..end]);
                body.extend_from_slice(decoded.data);
                at += decoded.consumed;
                done = decoded.done;
            }
        }
        Ok((body, done, input.len() - at))
    }

    /// The same verdict for the whole input, for every two-way cut, and byte by byte.
    fn check(input: &[u8], expected: Result<(&[u8], bool, usize), ChunkError>) {
        let expected = expected.map(|(body, done, left)| (body.to_vec(), done, left));
        for cut in 0..=input.len() {
            assert_eq!(
                decode_cut(input, &[cut]),
                expected,
                "cut at {cut} of {:?}",
                input.escape_ascii().to_string()
            );
        }
        let every: Vec<usize> = (0..input.len()).collect();
        assert_eq!(decode_cut(input, &every), expected);
    }

    #[test]
    fn valid_bodies() {
        check(b"0\r\n\r\n", Ok((b"", true, 0)));
        check(b"5\r\nhello\r\n0\r\n\r\nGET", Ok((b"hello", true, 3)));
        check(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", Ok((b"hello world", true, 0)));
        check(
            b"00A;name=\"v\"\r\n0123456789\r\n000\r\nX: y\r\nZ: \xff\r\n\r\n",
            Ok((b"0123456789", true, 0)),
        );
        check(b"5\r\nhel", Ok((b"hel", false, 0)));
    }

    #[test]
    fn sizes_that_are_no_sizes() {
        for size in
            ["", "0x5", "+5", "-1", "1_0", " 5", "5 ", "g", ";x", "FFFFFFFFF", "FFFFFFFFFFFFFFFF0"]
        {
            check(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes(), Err(ChunkError::Size));
        }
    }

    /// RFC 9112 §7.1.1 has BWS in front of each semicolon, and RFC 9110 §5.6.3 wants every
    /// recipient to accept it.
    #[test]
    fn blanks_may_stand_between_a_size_and_its_extension_only() {
        for size in ["5 ;x=y", "5\t;x", "5 \t ;", "5 ; x = \"y\" ;z"] {
            let body = format!("{size}\r\nhello\r\n0 ;last\r\n\r\nGET");
            check(body.as_bytes(), Ok((b"hello", true, 3)));
        }
        for size in ["5\t", "5 \t", "5 5", "5 5;x", "5 x;y", " ;x", "\t5;x", "5 \u{b};x", "5 \n;x"]
        {
            check(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes(), Err(ChunkError::Size));
        }
        check(b"5 \r;x\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Size));
        let long = format!("5{};x\r\nhello\r\n0\r\n\r\n", " ".repeat(300));
        assert_eq!(decode_cut(long.as_bytes(), &[]), Err(ChunkError::Extension));
    }

    #[test]
    fn line_ends_are_crlf_only() {
        check(b"5\nhello\r\n0\r\n\r\n", Err(ChunkError::Size));
        check(b"5\rXhello\r\n0\r\n\r\n", Err(ChunkError::LineEnd));
        check(b"5\r\nhello\n0\r\n\r\n", Err(ChunkError::LineEnd));
        check(b"5\r\nhelloo\r\n0\r\n\r\n", Err(ChunkError::LineEnd));
        check(b"0\r\n\n", Err(ChunkError::Trailer));
        check(b"0\r\n\rX", Err(ChunkError::LineEnd));
    }

    #[test]
    fn extensions_are_ignored_but_bounded() {
        check(b"5;\nhello\r\n0\r\n\r\n", Err(ChunkError::Extension));
        check(b"5;a\0b\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Extension));
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300));
        assert_eq!(decode_cut(long.as_bytes(), &[]), Err(ChunkError::Extension));
        let many: String = (0..200).map(|_| format!("1;{}\r\nz\r\n", "x".repeat(100))).collect();
        assert_eq!(decode_cut(many.as_bytes(), &[]), Err(ChunkError::Extension));
    }

    #[test]
    fn trailers_are_ignored_but_bounded() {
        check(b"0\r\nContent-Length: 5\r\n\r\n", Ok((b"", true, 0)));
        check(b"0\r\nX:\r\nY:a\r\n\r\nGET", Ok((b"", true, 3)));
        for line in [
            "X: a\0",
            ": a",
            "X : a",
            "X\t: a",
            " X: a",
            "X: a\r\n b",
            "X",
            "X\r\nY: a",
            "X: a\nY: b",
        ] {
            check(format!("0\r\n{line}\r\n\r\n").as_bytes(), Err(ChunkError::Trailer));
        }
        let long = format!("0\r\nX: {}\r\n\r\n", "x".repeat(9000));
        assert_eq!(decode_cut(long.as_bytes(), &[]), Err(ChunkError::Trailer));
    }

    /// The longest of everything is taken, and one byte more is not.
    #[test]
    fn limits_are_exact() {
        let limits = Limits { line_bytes_max: 20, extensions_bytes_max: 24, trailer_bytes_max: 30 };
        let decode = |body: String| {
            let mut decoder = Decoder::new(limits);
            let mut input = body.as_bytes();
            while !input.is_empty() {
                input = &input[decoder.decode(input)?.consumed..];
            }
            Ok(())
        };
        let extended = |bytes| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(bytes));
        assert_eq!(decode(extended(16)), Ok(()));
        assert_eq!(decode(extended(17)), Err(ChunkError::Extension));
        let twice = |bytes| format!("1;{}\r\nx\r\n0;{}\r\n\r\n", "e".repeat(bytes), "e".repeat(11));
        assert_eq!(decode(twice(11)), Ok(()));
        assert_eq!(decode(twice(12)), Err(ChunkError::Extension));
        let blank = |bytes| format!("1{};\r\nx\r\n0\r\n\r\n", " ".repeat(bytes));
        assert_eq!(decode(blank(16)), Ok(()));
        assert_eq!(decode(blank(17)), Err(ChunkError::Extension), "blanks count as well");
        let trailer = |bytes| format!("0\r\nX: a\r\nY: {}\r\n\r\n", "v".repeat(bytes));
        assert_eq!(decode(trailer(19)), Ok(()));
        assert_eq!(decode(trailer(20)), Err(ChunkError::Trailer));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for len in [1, 9, 10, 15, 16, 255, 256, 4095, 4096, 65_535, 65_536, 1 << 20] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut wire = Vec::new();
            append(&payload, &mut wire);
            wire.extend_from_slice(LAST_CHUNK);
            assert_eq!(decode_cut(&wire, &[]), Ok((payload, true, 0)));
        }
    }

    #[test]
    #[should_panic(expected = "ends the body")]
    fn an_empty_chunk_is_a_programming_error() {
        size_line(0, &mut [0; SIZE_LINE_MAX]);
    }
}
