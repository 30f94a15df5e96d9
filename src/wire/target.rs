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
    query.split('&').filter(|parameter| !parameter.is_empty()).map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (decode(name, Plus::IsSpace), decode(value, Plus::IsSpace)) {
            (Some(name), Some(value)) => Ok((name, value)),
            _ => Err(parameter),
        }
    })
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
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = (bytes.next()? as char).to_digit(16)?;
                let low = (bytes.next()? as char).to_digit(16)?;
                (high << 4 | low) as u8
            }
            b'+' if plus == Plus::IsSpace => b' ',
            _ => byte,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
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
