//! The answers to what was published, cut out of the bytes that come.

use crate::client::response::{self, BodyEnd};
use crate::wire::chunk;

/// Answers, cut out of the bytes that come.
#[derive(Debug, Default)]
pub(super) struct Answers {
    input: Vec<u8>,
    /// How much of the input has been read.
    taken: usize,
    current: Option<(Answer, Rest)>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    /// The connection cannot be used for another request.
    pub close: bool,
    /// Its body, or the beginning of it.
    pub body: Vec<u8>,
}

/// What is still to come of an answer's body.
#[derive(Debug)]
enum Rest {
    Bytes(u64),
    Chunks(chunk::Decoder),
}

impl Answers {
    /// More has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..std::mem::take(&mut self.taken));
        self.input.extend_from_slice(bytes);
    }

    /// The next answer that is complete.
    pub fn next(&mut self) -> Result<Option<Answer>, String> {
        loop {
            let Some((mut answer, mut rest)) = self.current.take() else {
                match self.begin()? {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let done = self.skip(&mut answer, &mut rest)?;
            if done {
                return Ok(Some(answer));
            }
            self.current = Some((answer, rest));
            return Ok(None);
        }
    }

    /// Reads a head; gives whether there was one.
    fn begin(&mut self) -> Result<bool, String> {
        let head = response::parse(&self.input[self.taken..], HEAD_BYTES_MAX, false);
        let Some((head, bytes)) = head.map_err(|error| error.to_string())? else {
            return Ok(false);
        };
        let interim = head.status < 200;
        // A body that ends with the connection is not waited for: the status says enough.
        let rest = match head.body {
            BodyEnd::None | BodyEnd::Close => Rest::Bytes(0),
            BodyEnd::Bytes(bytes) => Rest::Bytes(bytes),
            BodyEnd::Chunked => Rest::Chunks(chunk::Decoder::default()),
        };
        let close = head.close || head.body == BodyEnd::Close;
        if !interim {
            self.current = Some((Answer { status: head.status, close, body: Vec::new() }, rest));
        }
        self.taken += bytes;
        Ok(true)
    }

    /// Takes what has come of the body; gives whether that was the last of it.
    fn skip(&mut self, answer: &mut Answer, rest: &mut Rest) -> Result<bool, String> {
        let input = &self.input[self.taken..];
        match rest {
            Rest::Bytes(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                answer.keep(&input[..count]);
                self.taken += count;
                *left -= count as u64;
                Ok(*left == 0)
            }
            Rest::Chunks(decoder) => {
                let (mut input, mut done) = (input, false);
                while !done && !input.is_empty() {
                    let part = decoder.decode(input).map_err(|error| error.to_string())?;
                    answer.keep(part.data);
                    done = part.done;
                    self.taken += part.consumed;
                    input = &input[part.consumed..];
                }
                Ok(done)
            }
        }
    }
}

impl Answer {
    fn keep(&mut self, body: &[u8]) {
        let room = BODY_BYTES_KEPT - self.body.len();
        self.body.extend_from_slice(&body[..body.len().min(room)]);
    }
}

const HEAD_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_KEPT: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    /// The statuses of the answers in `bytes`, however they are cut.
    fn check(bytes: &str, expected: &[(u16, &str)]) {
        for piece_bytes in 1..=bytes.len() {
            let mut answers = Answers::default();
            let mut seen = Vec::new();
            for piece in bytes.as_bytes().chunks(piece_bytes) {
                answers.push(piece);
                while let Some(answer) = answers.next().unwrap() {
                    seen.push((answer.status, String::from_utf8(answer.body).unwrap()));
                }
            }
            let expected: Vec<(u16, String)> =
                expected.iter().map(|&(status, body)| (status, body.into())).collect();
            assert_eq!(seen, expected, "in pieces of {piece_bytes}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n\
             HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nno!\r\n0\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
            &[(200, "ok"), (204, ""), (503, "no!"), (202, "")],
        );
    }
}
