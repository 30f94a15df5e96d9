//! An answer to a request, as a client reads it.

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, with the line ends.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
    /// The connection ends with it.
    pub close: bool,
}

impl Answer {
    /// The answer at the front of `bytes`, and its length; `None` if it is not complete. It has no
    /// body if it is `bodiless`, whatever its head says: it answers HEAD.
    ///
    /// # Errors
    /// That it is none.
    pub fn read(bytes: &[u8], bodiless: bool) -> Result<Option<(Answer, usize)>, String> {
        let Some(end) = head_bytes(bytes) else { return Ok(None) };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let bad = || format!("not an answer: {head:?}");
        let status = field(&head, "HTTP/1.1 ").and_then(|line| line.get(..3)?.parse().ok());
        let status = status.ok_or_else(bad)?;
        let body_bytes = match field(&head, "\r\nContent-Length: ") {
            _ if bodiless || status == 204 => 0,
            length => length.and_then(|length| length.parse().ok()).ok_or_else(bad)?,
        };
        let Some(body) = bytes.get(end..end + body_bytes) else { return Ok(None) };
        let close = head.contains("\r\nConnection: close\r\n");
        Ok(Some((Answer { status, body: body.to_vec(), close, head }, end + body_bytes)))
    }

    /// The number of that name in a body that is a flat JSON object.
    pub fn number(&self, name: &str) -> Option<usize> {
        let json = String::from_utf8_lossy(&self.body);
        let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
        rest.split([',', '}']).next()?.parse().ok()
    }

    /// Whether its body is of that media type.
    pub fn is_of(&self, media_type: &str) -> bool {
        field(&self.head, "\r\nContent-Type: ").is_some_and(|own| own.starts_with(media_type))
    }
}

/// The length of the head at the front of `bytes`, if it is complete.
pub(super) fn head_bytes(bytes: &[u8]) -> Option<usize> {
    let front = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD_BYTES_MAX)]);
    front.find("\r\n\r\n").map(|at| at + 4)
}

const HEAD_BYTES_MAX: usize = 1000;

/// What stands in `head` behind `name`, up to the end of the line.
pub(super) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split_once(name).and_then(|(_, rest)| rest.split("\r\n").next())
}
