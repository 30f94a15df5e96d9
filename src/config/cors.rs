//! The web origins whose pages may read answers.
//!
//! An origin is compared as a string with what a browser sends in `Origin`, and a browser writes each
//! origin in one way (RFC 6454 §6.2, WHATWG HTML §7.1.1): scheme and host in lower case, no default
//! port, nothing behind the port. An origin that is written in another way would never match, and
//! its pages would be kept out without a word. So it is refused.

use super::value::{Shown, Value};
use std::net::Ipv6Addr;

/// The web origins whose pages may read answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// No other origin than the server's own.
    Nobody,
    /// Every origin.
    Anybody,
    /// These.
    Origins(Vec<String>),
}

impl Cors {
    /// The value of `Access-Control-Allow-Origin` for a request from `origin`, taken from the
    /// configuration and never from the request.
    pub fn allows(&self, origin: Option<&str>) -> Option<&str> {
        match self {
            Cors::Nobody => None,
            Cors::Anybody => Some("*"),
            Cors::Origins(list) => {
                let origin = origin?;
                list.iter().find(|allowed| *allowed == origin).map(String::as_str)
            }
        }
    }
}

impl Value for Cors {
    fn read(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let origins: Vec<String> = parts.map(Into::into).collect();
        match origins.as_slice() {
            [] => return Ok(Cors::Nobody),
            [one] if one == "*" => return Ok(Cors::Anybody),
            _ => {}
        }
        match origins.iter().find_map(|origin| Some((origin, check(origin).err()?))) {
            Some((bad, why)) => Err(format!("{bad:?} can never match: {why}{}", hint(bad))),
            None => Ok(Cors::Origins(origins)),
        }
    }

    fn show(&self) -> Shown {
        Shown::Text(match self {
            Cors::Nobody => String::new(),
            Cors::Anybody => "*".into(),
            Cors::Origins(list) => list.join(","),
        })
    }
}

/// Whether a browser can send `origin`.
fn check(origin: &str) -> Result<(), &'static str> {
    match origin {
        "*" => return Err("* permits all origins and stands alone"),
        // Any page can make itself a frame of this origin.
        "null" => return Err("null is the origin of every sandboxed page, whoever made it"),
        _ => {}
    }
    let (scheme, authority) =
        origin.split_once("://").ok_or("an origin is SCHEME://HOST[:PORT]")?;
    let is_lower =
        |text: &str| text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if !is_lower(origin) {
        return Err("browsers send it in lower-case ASCII (a name beyond that as xn--…)");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("an origin has no path, and no slash at its end");
    }
    if authority.contains('*') {
        return Err("there are no wildcards but *, which permits all origins");
    }
    let (host, port) = split_port(authority);
    if !is_scheme(scheme) || !is_host(host) {
        return Err("an origin is SCHEME://HOST[:PORT]");
    }
    match (scheme, port) {
        ("http", Some("80")) | ("https", Some("443")) => Err("browsers leave out the default port"),
        (_, Some(port)) if !is_port(port) => Err("a port is a number from 1 to 65535"),
        _ => Ok(()),
    }
}

/// A colon behind the host begins the port; an address of version 6 stands in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn is_scheme(text: &str) -> bool {
    let other = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(other)
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !text.is_empty() && text.bytes().all(ordinary)
        }
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0 && port.to_string() == text)
}

/// The same origin as a browser would write it, if that can be guessed.
fn hint(bad: &str) -> String {
    let lower = bad.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").unwrap_or(("https", &lower));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let default = if scheme == "http" { ":80" } else { ":443" };
    let guess = format!("{scheme}://{}", authority.strip_suffix(default).unwrap_or(authority));
    match bad != "null" && guess != bad && check(&guess).is_ok() {
        true => format!("; did you mean {guess}?"),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_never_reflected() {
        let list = Cors::read("https://a.example, https://b.example").unwrap();
        assert_eq!(list.allows(Some("https://b.example")), Some("https://b.example"));
        assert_eq!(list.allows(Some("https://c.example")), None);
        assert_eq!(list.allows(None), None);
        assert_eq!(Cors::read("*").unwrap().allows(Some("https://c.example")), Some("*"));
        assert_eq!(Cors::read("").unwrap(), Cors::Nobody);
        assert!(Cors::read("https://a\r\nX: y").is_err());
    }

    #[test]
    fn what_a_browser_sends() {
        for origin in [
            "https://a",
            "http://a.example:8080",
            "https://xn--bcher-kva.example",
            "http://127.0.0.1:1",
            "http://[::1]:3000",
            "https://[2001:db8::1]",
            "http://localhost",
            "https://a:80",
            "chrome-extension://abcdefghijklmnop",
            "capacitor://localhost",
            "https://my_host.example",
        ] {
            assert_eq!(Cors::read(origin), Ok(Cors::Origins(vec![origin.into()])), "{origin}");
        }
    }

    #[test]
    fn what_can_never_match() {
        let refused = |text: &str, why: &str| {
            let error = Cors::read(text).unwrap_err();
            assert!(error.contains("can never match: ") && error.ends_with(why), "{text}: {error}");
        };
        refused("https://a/", "no slash at its end; did you mean https://a?");
        refused("https://a/page?x", "did you mean https://a?");
        refused("a", "SCHEME://HOST[:PORT]; did you mean https://a?");
        refused("a.example:8443", "did you mean https://a.example:8443?");
        refused("https://a:443", "leave out the default port; did you mean https://a?");
        refused("http://a:80", "did you mean http://a?");
        refused("HTTPS://A", "as xn--…); did you mean https://a?");
        refused("https://bücher.example", "(a name beyond that as xn--…)");
        refused("https://*.example.org", "there are no wildcards but *, which permits all origins");
        refused("null", "whoever made it");
        refused("https://a,*", "stands alone");
        refused("https://b,https://a/", "did you mean https://a?");
        for text in [
            "https://",
            "://a",
            "https://a:0",
            "https://a:x",
            "https://a:",
            "https://a:065",
            "https://u@a",
            "https://[::g]",
            "https://a b",
            "1://a",
            "https://a:70000",
            "https:a",
        ] {
            refused(text, "");
        }
    }
}
