//! A feed that publishes the lines of a reader, such as standard input.

use super::Feed;
use crate::reactor::{Gone, Handle};
use crate::server::OwnedEvent;
use std::io::{BufRead, Read};

/// Publishes each line to a topic, without its line end. A line's bytes that are not UTF-8 are
/// replaced by U+FFFD. A line above the limit is left out, and the log says so.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    topic: String,
    line_bytes_max: usize,
}

impl<R: BufRead + Send + 'static> Lines<R> {
    /// The lines of `reader`, for `topic`.
    pub fn new(reader: R, topic: &str, line_bytes_max: usize) -> Lines<R> {
        Lines { reader, topic: topic.into(), line_bytes_max }
    }

    /// The next line, at most one byte longer than the limit; `None` at the end.
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let limit = self.line_bytes_max as u64 + 1;
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
        } else if line.len() > self.line_bytes_max {
            self.skip_line();
        }
        Some(line)
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
        while let Some(line) = self.next() {
            if line.len() > self.line_bytes_max {
                log::warn!("a line of more than {} bytes is left out", self.line_bytes_max);
                continue;
            }
            let data = String::from_utf8_lossy(&line).into_owned();
            hub.publish(OwnedEvent { topic: self.topic.clone(), data, ..OwnedEvent::default() })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_line_ends_and_at_the_limit() {
        let check = |input: &'static str, expected: &[&str]| {
            let mut lines = Lines::new(input.as_bytes(), "t", 5);
            let all: Vec<String> = std::iter::from_fn(|| lines.next())
                .map(|line| String::from_utf8(line).unwrap())
                .collect();
            assert_eq!(all, expected, "{input:?}");
        };
        check("", &[]);
        check("a\nb\r\n\nc", &["a", "b", "", "c"]);
        check("12345\nx\n", &["12345", "x"]);
        check("123456\nx\n", &["123456", "x"]);
        check("1234567890\nx", &["123456", "x"]);
        check("1234567890", &["123456"]);
    }
}
