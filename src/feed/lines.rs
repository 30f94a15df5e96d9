//! A feed that publishes the lines of a reader, such as standard input.

use super::Feed;
use crate::observe::complaints::Complaints;
use crate::reactor::{Gone, Handle};
use crate::server::OwnedEvent;
use crate::sys;
use std::io::{BufRead, Read};

/// Publishes each line to a topic, without its line end (LF or CRLF). A line's bytes that are not
/// UTF-8 are replaced by U+FFFD. A line above `event_bytes_max` is left out, and the log says so.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    topic: String,
}

/// A line of the reader.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    TooLong,
}

impl<R: BufRead + Send + 'static> Lines<R> {
    /// The lines of `reader`, for `topic`.
    pub fn new(reader: R, topic: &str) -> Lines<R> {
        Lines { reader, topic: topic.into() }
    }

    /// The next line, of at most `bytes_max` bytes without its end; `None` behind the last one.
    fn next(&mut self, bytes_max: usize) -> Option<Line> {
        let mut line = Vec::new();
        // A line of just that length, and the longest end that it can have.
        let limit = bytes_max as u64 + 2;
        match (&mut self.reader).take(limit).read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => {
                log::warn!("{}: {error}", self.name());
                return None;
            }
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        } else if line.len() as u64 == limit {
            self.skip_line();
        }
        Some(if line.len() > bytes_max { Line::TooLong } else { Line::Whole(line) })
    }

    /// Reads to the end of the line without keeping it.
    fn skip_line(&mut self) {
        while let Ok(buffer) = self.reader.fill_buf() {
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(buffer.len(), |end| end + 1);
            let over = end.is_some() || buffer.is_empty();
            self.reader.consume(used);
            if over {
                return;
            }
        }
    }
}

impl<R: BufRead + Send + 'static> Feed for Lines<R> {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn run(mut self, hub: &Handle) -> Result<(), Gone> {
        let mut complaints = Complaints::default();
        // The limit is asked for each line: it can be turned while the server runs.
        while let Some(line) = self.next(hub.event_bytes_max()) {
            match line {
                Line::Whole(line) => {
                    let data = String::from_utf8_lossy(&line).into_owned();
                    let topic = self.topic.clone();
                    hub.publish(OwnedEvent { topic, data, ..OwnedEvent::default() })?;
                }
                Line::TooLong => complain(complaints.note(sys::monotonic_ns()), hub),
            }
        }
        complain(Some(complaints.rest()).filter(|&count| count > 0), hub);
        Ok(())
    }
}

/// Says how many lines were left out, if that is to be said.
fn complain(count: Option<u64>, hub: &Handle) {
    if let Some(count) = count {
        log::warn!("lines of more than {} bytes are left out: {count}", hub.event_bytes_max());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn lines_end_at_line_ends_and_at_the_limit() {
        let check = |input: &str, expected: &[Option<&str>]| {
            let mut lines = Lines::new(io::Cursor::new(input.to_owned()), "t");
            let whole = |text: &str| Line::Whole(text.into());
            let expected: Vec<Line> =
                expected.iter().map(|line| line.map_or(Line::TooLong, whole)).collect();
            let all: Vec<Line> = std::iter::from_fn(|| lines.next(5)).collect();
            assert_eq!(all, expected, "{input:?}");
        };
        check("", &[]);
        check("a\nb\r\n\nc", &[Some("a"), Some("b"), Some(""), Some("c")]);
        let after = Some("x");
        check("12345\nx\n", &[Some("12345"), after]);
        check("12345\r\nx\n", &[Some("12345"), after]);
        check("1234\r\r\nx", &[Some("1234\r"), after]);
        check("12345", &[Some("12345")]);
        check("1234\r", &[Some("1234\r")]);
        check("12345\r\r\nx", &[None, after]);
        for long in ["123456", "1234567", "12345678", "12345678901234", "123456\r", "1234567\r"] {
            for end in ["", "\n", "\r\n"] {
                check(&format!("{long}{end}"), &[None]);
            }
            for end in ["\n", "\r\n"] {
                check(&format!("{long}{end}x"), &[None, after]);
            }
        }
    }
}
