//! Request targets: path, query and percent-encoding (RFC 3986).

use std::borrow::Cow;

/// Splits a request target in origin form or absolute form (RFC 9112 §3.2) into path and query;
/// `None` if it is neither.
pub fn split(target: &str) -> Option<(&str, &str)> {
    let origin_form = match strip_scheme(target) {
        // A URI of these schemes has a host (RFC 9110 §4.2.1).
        Some(rest) if authority_bytes(rest) == 0 => return None,
        Some(rest) => &rest[authority_bytes(rest)..],
        None if target.starts_with('/') => target,
        None => return None,
    };
    let (path, query) = origin_form.split_once('?').unwrap_or((origin_form, ""));
    Some((if path.is_empty() { "/" } else { path }, query))
}

/// The host, and the port if it has one, of a request target in absolute form; `None` in any other
/// form.
pub fn authority(target: &str) -> Option<&str> {
    strip_scheme(target).map(|rest| &rest[..authority_bytes(rest)])
}

fn authority_bytes(rest: &str) -> usize {
    rest.find(['/', '?']).unwrap_or(rest.len())
}

fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

/// The parameters of a query, names and values decoded, in order. A parameter that is not valid
/// percent-encoded UTF-8 is given as `Err` with the text as it stands.
pub fn query(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), &str>> {
    parameters(query).map(Parameter::decode)
}

/// The parameters of a query, in order.
pub fn parameters(query: &str) -> impl Iterator<Item = Parameter<'_>> {
    query.split('&').filter(|text| !text.is_empty()).map(|text| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Parameter { text, name, value }
    })
}

/// A parameter of a query, as it stands there.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'q> {
    text: &'q str,
    name: &'q str,
    value: &'q str,
}

impl<'q> Parameter<'q> {
    /// The name and the value.
    ///
    /// # Errors
    /// The text as it stands, if it is not valid percent-encoded UTF-8.
    pub fn decode(self) -> Result<(Cow<'q, str>, Cow<'q, str>), &'q str> {
        match (decode(self.name, Plus::IsSpace), decode(self.value, Plus::IsSpace)) {
            (Some(name), Some(value)) => Ok((name, value)),
            _ => Err(self.text),
        }
    }

    /// The name and the value as the standard for browsers decodes them (WHATWG URL §5.1), which
    /// never fails: a `%` that begins no percent-encoded byte stands for itself, and the bytes may
    /// be any.
    pub fn decode_bytes(self) -> (Cow<'q, [u8]>, Cow<'q, [u8]>) {
        (decode_bytes(self.name, Plus::IsSpace), decode_bytes(self.value, Plus::IsSpace))
    }
}

/// Whether `+` stands for a space, as it does in a query that a form or `URLSearchParams` wrote,
/// but not in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plus {
    /// Leave it alone.
    IsPlus,
    /// Decode it.
    IsSpace,
}

/// Decodes percent-encoding; `None` if a `%` is not followed by two hexadecimal digits or the
/// result is not UTF-8.
pub fn decode(text: &str, plus: Plus) -> Option<Cow<'_, str>> {
    let escapes_are_whole = text.split('%').skip(1).all(|rest| escaped(rest.as_bytes()).is_some());
    if !escapes_are_whole {
        return None;
    }
    match decode_bytes(text, plus) {
        Cow::Borrowed(_) => Some(Cow::Borrowed(text)),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// Decodes percent-encoding; a `%` that is not followed by two hexadecimal digits stands for
/// itself.
fn decode_bytes(text: &str, plus: Plus) -> Cow<'_, [u8]> {
    let mut rest = text.as_bytes();
    if !rest.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(rest);
    }
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, behind) = match first {
            b'%' => escaped(behind).unwrap_or((b'%', behind)),
            b'+' if plus == Plus::IsSpace => (b' ', behind),
            _ => (first, behind),
        };
        out.push(byte);
        rest = behind;
    }
    Cow::Owned(out)
}

/// The byte that two hexadecimal digits at the front of `behind_percent` stand for, and the rest.
fn escaped(behind_percent: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], rest) = behind_percent.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some(((digit(high)? << 4 | digit(low)?) as u8, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        assert_eq!(split("/a/b?c=d?e"), Some(("/a/b", "c=d?e")));
        assert_eq!(split("/"), Some(("/", "")));
        assert_eq!(split("http://h:1/a?b"), Some(("/a", "b")));
        assert_eq!(split("HTTP://h"), Some(("/", "")));
        assert_eq!(split("http://h?a/b"), Some(("/", "a/b")));
        assert_eq!(split("http://?a"), None);
        assert_eq!(authority("http://h:1/a?b"), Some("h:1"));
        assert_eq!(authority("/x?u=http://h/"), None);
        assert_eq!(split("/x?u=http://h/"), Some(("/x", "u=http://h/")));
        assert_eq!(split("*"), None);
        assert_eq!(split("h:443"), None);
        assert_eq!(split("ftp://h/a"), None);
        assert_eq!(split("http:///a"), None);
    }

    #[test]
    fn percent_encoding() {
        let check = |text, expected: Option<&str>| {
            assert_eq!(decode(text, Plus::IsPlus).as_deref(), expected)
        };
        check("plain", Some("plain"));
        check("a%20b+%C3%bc", Some("a b+ü"));
        check("%0d%0A%00", Some("\r\n\0"));
        check("%", None);
        check("%1", None);
        check("%g0", None);
        check("%+1", None);
        check("%ff", None);
        check("100%é", None);
        assert_eq!(decode("a+b", Plus::IsSpace).as_deref(), Some("a b"));
    }

    #[test]
    fn bytes_are_decoded_whatever_they_are() {
        let check = |text: &str, expected: &[u8]| {
            assert_eq!(&*decode_bytes(text, Plus::IsSpace), expected, "{text}")
        };
        check("", b"");
        check("plain", b"plain");
        check("a+%2b%2B", b"a ++");
        check("%C3%bc%ff%00", b"\xc3\xbc\xff\0");
        for text in ["%", "%1", "%zz", "100%", "%%", "%g0", "a%1é", "%%41"] {
            check(text, text.replace("%41", "A").as_bytes());
        }
    }

    /// The two ways of decoding agree wherever the strict one has an answer.
    #[test]
    fn strict_decoding_is_lenient_decoding_that_found_no_fault() {
        let parts = ["%", "%4", "%41", "%c3%a9", "%c3", "+", "g", "1", "é"];
        for (one, two, three) in parts
            .iter()
            .flat_map(|one| parts.iter().map(move |two| (one, two)))
            .flat_map(|(one, two)| parts.iter().map(move |three| (one, two, three)))
        {
            let text = format!("{one}{two}{three}");
            let strict = decode(&text, Plus::IsSpace);
            let lenient = decode_bytes(&text, Plus::IsSpace);
            assert!(strict.is_none_or(|strict| strict.as_bytes() == &*lenient), "{text}");
        }
    }

    #[test]
    fn queries() {
        let pairs: Vec<_> = query("topic=a&topic=b%20c&&flag&x=1=2&bad=%zz").collect();
        assert_eq!(
            pairs,
            [
                Ok(("topic".into(), "a".into())),
                Ok(("topic".into(), "b c".into())),
                Ok(("flag".into(), "".into())),
                Ok(("x".into(), "1=2".into())),
                Err("bad=%zz"),
            ]
        );
    }
}
