//! Strings in JSON (RFC 8259 §7): the one part of it that the server core has to write.

use std::fmt;

/// Displays a string as a JSON string, quotes included.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        let mut plain_from = 0;
        for (at, byte) in self.0.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            // A byte below 0x80 is a character of its own, so these cuts are character borders.
            f.write_str(&self.0[plain_from..at])?;
            plain_from = at + 1;
            match byte {
                b'"' => f.write_str("\\\"")?,
                b'\\' => f.write_str("\\\\")?,
                b'\n' => f.write_str("\\n")?,
                _ => write!(f, "\\u{byte:04x}")?,
            }
        }
        f.write_str(&self.0[plain_from..])?;
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn strings() {
        let check = |text: &str, expected: &str| assert_eq!(Quoted(text).to_string(), expected);
        check("", r#""""#);
        check("plain ü 🙂", r#""plain ü 🙂""#);
        check("a\"b\\c\nd\re\0", r#""a\"b\\c\nd\u000de\u0000""#);
    }
}
