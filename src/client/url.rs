//! The URLs that can be subscribed to: `http://host[:port]/path?query`.
//!
//! A URL is taken apart once, into the two things that a request needs of it: whom to connect to,
//! and what to put on the request line. Nothing that could end that line gets in, or whoever
//! names the URL could write a request of their own behind it.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A URL of the scheme `http`. What [`Url::parse`] gives is fit for a request as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// The host in lower case, without the brackets of an IPv6 address.
    pub host: String,
    /// The port, which is 80 if the text names none.
    pub port: u16,
    /// Path and query in origin form (RFC 9112 §3.2.1): ASCII that begins with `/`.
    pub target: String,
}

impl Url {
    /// Reads an absolute URL. Dots are removed from its path and what is not ASCII is
    /// percent-encoded, as browsers do; a fragment is dropped, since it is not for the server.
    ///
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Url, String> {
        check_characters(text)?;
        match scheme(text) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
                let rest = rest.strip_prefix("//");
                Url::of_authority(rest.ok_or_else(|| format!("no // behind http: in {text:?}"))?)
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                Err("https is not spoken here; put a proxy that ends TLS in between".into())
            }
            _ => Err(format!("{text:?} does not begin with http://")),
        }
    }

    /// Where `location` leads from here: the resolution of RFC 3986 §5.2.2, for what may stand in
    /// a `Location` field (RFC 9110 §10.2.2).
    ///
    /// # Errors
    /// What is wrong with `location`.
    pub fn join(&self, location: &str) -> Result<Url, String> {
        check_characters(location)?;
        if scheme(location).is_some() {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::of_authority(rest);
        }
        let (path, query) = split_query(&self.target);
        let (reference, new_query) = split_query(without_fragment(location));
        let directory = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
        let target = match reference {
            "" => target(path, new_query.or(query)),
            absolute if absolute.starts_with('/') => target(absolute, new_query),
            relative => target(&format!("{directory}{relative}"), new_query),
        };
        Ok(Url { target, ..self.clone() })
    }

    /// The value of `Host` (RFC 9110 §7.2): the port is left out where it is that of the scheme.
    pub fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        match self.port {
            PORT => format!("{open}{}{close}", self.host),
            port => format!("{open}{}{close}:{port}", self.host),
        }
    }

    /// The addresses of the host, in the order in which to try them. Blocks for as long as the
    /// system's resolver does.
    ///
    /// # Errors
    /// Those of the resolver.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }

    /// The first address of the host at which somebody accepts connections within `timeout`; the
    /// very first if nobody does, so that whoever connects to it learns why. A name such as
    /// `localhost` can have addresses of both families, of which a server listens at one.
    ///
    /// # Errors
    /// Those of the resolver; `NotFound` if it knows no address.
    pub fn reachable_address(&self, timeout: Duration) -> io::Result<SocketAddr> {
        first_reachable(&self.addresses()?, timeout).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The URL whose text behind `http://` is `rest`.
    fn of_authority(rest: &str) -> Result<Url, String> {
        let rest = without_fragment(rest);
        let (authority, target_text) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = split_port(authority)?;
        let (path, query) = split_query(target_text);
        Ok(Url {
            host: checked_host(host)?,
            port: checked_port(port)?,
            target: target(path, query),
        })
    }
}

fn first_reachable(addresses: &[SocketAddr], timeout: Duration) -> Option<SocketAddr> {
    let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, timeout).is_ok();
    let chosen = match addresses {
        [only] => Some(only), // nothing to choose, so nobody need be bothered
        several => several.iter().find(accepts).or(several.first()),
    };
    chosen.copied()
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.target)
    }
}

fn check_characters(text: &str) -> Result<(), String> {
    match text.chars().find(|&char| char == ' ' || char.is_control()) {
        Some(char) => Err(format!("{char:?} cannot stand in a URL")),
        None => Ok(()),
    }
}

/// The scheme and what follows its colon (RFC 3986 §3.1), if there is one.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let valid = |char: char| char.is_ascii_alphanumeric() || "+-.".contains(char);
    (scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.chars().all(valid))
        .then_some((scheme, rest))
}

fn without_fragment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)))
}

/// Host and port of an authority; an IPv6 address without its brackets but with a colon.
fn split_port(authority: &str) -> Result<(&str, &str), String> {
    if authority.contains('@') {
        return Err("a user name in a URL is not supported; send a header field instead".into());
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            rest.split_once(']').ok_or_else(|| format!("no ] behind the address {authority:?}"))?
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_address = host.parse::<Ipv6Addr>().is_ok();
    if authority.starts_with('[') != is_address {
        return Err(format!("bad address {authority:?}"));
    }
    match port.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if port.is_empty() => Ok((host, port)),
        None => Err(format!("{port:?} behind the address")),
    }
}

fn checked_host(host: &str) -> Result<String, String> {
    // Narrower than `reg-name` (RFC 3986 §3.2.2): these are the ones that can be looked up.
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    match host {
        "" => Err("no host".into()),
        _ if host.bytes().all(valid) => Ok(host.to_ascii_lowercase()),
        _ => Err(format!("bad host {host:?}")),
    }
}

fn checked_port(port: &str) -> Result<u16, String> {
    match port {
        "" => Ok(PORT),
        _ if port.bytes().all(|byte| byte.is_ascii_digit()) => match port.parse() {
            Ok(port @ 1..) => Ok(port),
            _ => Err(format!("port {port} is not from 1 to 65535")),
        },
        _ => Err(format!("bad port {port:?}")),
    }
}

/// The target of `path` and `query`.
fn target(path: &str, query: Option<&str>) -> String {
    let mut target = String::new();
    for segment in segments(path) {
        target.push('/');
        push_encoded(segment, &mut target);
    }
    if let Some(query) = query {
        target.push('?');
        push_encoded(query, &mut target);
    }
    target
}

/// The segments of an absolute path without the dots (RFC 3986 §5.2.4). There is at least one.
fn segments(path: &str) -> Vec<&str> {
    let mut kept = Vec::new();
    // A last segment of dots names a directory, whose path ends in a slash.
    let mut open = true;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    if open {
        kept.push("");
    }
    kept
}

fn push_encoded(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            0..=0x7f => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// The port of the scheme (RFC 9110 §4.2.1).
const PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn urls() {
        let check = |text: &str, host: &str, port, target: &str| {
            let expected = Url { host: host.into(), port, target: target.into() };
            assert_eq!(url(text), expected, "{text}");
        };
        check("http://h", "h", 80, "/");
        check("http://h/", "h", 80, "/");
        check("HTTP://Ex-1.ample:8080/a/b?c=d?e#f", "ex-1.ample", 8080, "/a/b?c=d?e");
        check("http://h?q", "h", 80, "/?q");
        check("http://h#f", "h", 80, "/");
        check("http://h:/a?", "h", 80, "/a?");
        check("http://127.0.0.1:1/", "127.0.0.1", 1, "/");
        check("http://[::1]:81/a", "::1", 81, "/a");
        check("http://[2001:DB8::1]", "2001:db8::1", 80, "/");
        check("http://h/ü?ß", "h", 80, "/%C3%BC?%C3%9F");
        check("http://h//a//b/", "h", 80, "//a//b/");
        check("http://h/a:b@c/http://x", "h", 80, "/a:b@c/http://x");
    }

    #[test]
    fn what_cannot_be_subscribed_to() {
        let check = |text: &str, why: &str| {
            let refused = Url::parse(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        };
        check("https://h/", "https is not spoken here");
        for text in ["", "h", "/a", "ftp://h/", "//h/", "1http://h/", "localhost:8080"] {
            check(text, "does not begin with http://");
        }
        check("http:h", "no //");
        check("http://", "no host");
        check("http:///a", "no host");
        check("http://:80/", "no host");
        check("http://u:p@h/", "user name");
        for text in ["http://h:0/", "http://h:65536/", "http://h:99999999999999999999/"] {
            check(text, "from 1 to 65535");
        }
        for text in ["http://h:x/", "http://h:+1/", "http://h:1:2/", "http://1::1/"] {
            check(text, "bad port");
        }
        check("http://[::1/", "no ]");
        check("http://[::1]x/", "behind the address");
        check("http://[h]/", "bad address");
        check("http://[]/", "bad address");
        check("http://h\u{fc}/", "bad host");
        check("http://h%41/", "bad host");
        check("http://h,i/", "bad host");
    }

    /// A line end or a space in a target would be the end of a request line.
    #[test]
    fn a_request_cannot_be_injected() {
        let here = url("http://h/");
        for bad in [" ", "\r\n", "\n", "\t", "\0", "\x7f", "\u{85}"] {
            assert!(Url::parse(&format!("http://h/{bad}x")).is_err(), "{bad:?}");
            assert!(Url::parse(&format!("http://h{bad}/")).is_err(), "{bad:?}");
            assert!(Url::parse(&format!("http://h/{bad}")).is_err(), "{bad:?}");
            assert!(here.join(&format!("/x{bad}")).is_err(), "{bad:?}");
            assert!(here.join(&format!("#{bad}")).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn locations() {
        let check = |location: &str, expected: &str| {
            let joined = url("http://h:81/a/b/c?q").join(location).unwrap();
            assert_eq!(joined.to_string(), expected, "{location}");
        };
        check("http://i/x", "http://i/x");
        check("HTTP://i:82?y#z", "http://i:82/?y");
        check("//i:82/x", "http://i:82/x");
        check("//[::1]/x", "http://[::1]/x");
        check("/x?y#z", "http://h:81/x?y");
        check("/x/../y/./z/", "http://h:81/y/z/");
        check("?y", "http://h:81/a/b/c?y");
        check("?", "http://h:81/a/b/c?");
        check("", "http://h:81/a/b/c?q");
        check("#z", "http://h:81/a/b/c?q");
        check("x", "http://h:81/a/b/x");
        check("x/?y", "http://h:81/a/b/x/?y");
        check("./x", "http://h:81/a/b/x");
        check("x/y:z", "http://h:81/a/b/x/y:z");
        check(".", "http://h:81/a/b/");
        check("..", "http://h:81/a/");
        check("../", "http://h:81/a/");
        check("../x", "http://h:81/a/x");
        check("../../x", "http://h:81/x");
        check("../../../../x", "http://h:81/x");
        check("..x/...", "http://h:81/a/b/..x/...");
        check("é", "http://h:81/a/b/%C3%A9");
        let here = url("http://h/");
        for bad in ["https://h/", "mailto:x", "http:x", "//", "//h:x/"] {
            assert!(here.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_goes_into_host() {
        for (text, authority) in [
            ("http://h/", "h"),
            ("http://h:80/", "h"),
            ("http://h:8080/", "h:8080"),
            ("http://[::1]/", "[::1]"),
            ("http://[::1]:8080/", "[::1]:8080"),
        ] {
            assert_eq!(url(text).authority(), authority);
            assert_eq!(url(&url(text).to_string()), url(text));
        }
    }

    #[test]
    fn an_address_at_which_somebody_listens_is_chosen() {
        use socket2::{Domain, Socket, Type};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        // Bound, so that nobody else gets it; and it does not listen.
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let closed = bound.local_addr().unwrap().as_socket().unwrap();
        let check = |addresses: &[SocketAddr], expected| {
            assert_eq!(first_reachable(addresses, Duration::from_secs(5)), expected);
        };
        check(&[closed, open], Some(open));
        check(&[open, closed], Some(open));
        check(&[closed], Some(closed));
        check(&[closed, closed], Some(closed));
        check(&[], None);
    }

    #[test]
    fn addresses_need_no_resolver() {
        let of = |text: &str| url(text).addresses().unwrap();
        assert_eq!(of("http://127.0.0.1:81/"), ["127.0.0.1:81".parse().unwrap()]);
        assert_eq!(of("http://[::1]/"), ["[::1]:80".parse().unwrap()]);
    }
}
