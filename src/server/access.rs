//! Who may do what: tokens, and the pages of others.
//!
//! Whoever reaches the public listener may subscribe. Publishing and the admin listener are for
//! those who have a token, or, where none is configured, for this machine: [`Config::validate`]
//! sees to it that such a listener is on a loopback address.
//!
//! A browser on this machine reaches a loopback address on behalf of any page, so there the page
//! is asked for as well. For publishing it is its `Origin`, which a browser sends with every POST.
//! For the admin listener it is the `Host` alone: its answers carry no CORS field, so a foreign page
//! can neither read one nor send what is not a form; but a page whose name was made to point here
//! (DNS rebinding) is not foreign to the browser, and only the name gives it away. With a token
//! the name does not matter: that page does not have the token.
//!
//! [`Config::validate`]: crate::config::Config::validate

use super::{Platform, Server};
use crate::config::Secret;
use crate::wire::head::Head;
use std::net::IpAddr;

/// A status, and the reason for it. Nothing of the request is in it.
pub(super) type Denied = (u16, &'static str);

impl<P: Platform> Server<P> {
    /// Whether a request may publish.
    pub(super) fn may_publish(&self, head: &Head<'_>) -> Result<(), Denied> {
        if let Some(token) = &self.config.publish_token {
            let why = "publishing needs Authorization: Bearer TOKEN";
            return presents(token, head).then_some(()).ok_or((401, why));
        }
        let foreign = head.origin.is_some_and(|origin| {
            let allowed = self.config.cors_origins.allows(Some(origin)).is_some();
            !allowed && !is_own_page(origin, head.host.unwrap_or_default())
        });
        match foreign {
            true => Err((403, "pages of this origin may not publish; see cors_origins")),
            false => Ok(()),
        }
    }

    /// Whether a request may be answered on the admin listener.
    pub(super) fn may_administer(&self, head: &Head<'_>) -> Result<(), Denied> {
        if let Some(token) = &self.config.admin_token {
            let why = "the admin listener needs Authorization: Bearer TOKEN";
            return presents(token, head).then_some(()).ok_or((401, why));
        }
        match head.host.is_none_or(is_loopback_name) {
            true => Ok(()),
            false => Err((403, "the admin listener answers to loopback names only")),
        }
    }
}

fn presents(token: &Secret, head: &Head<'_>) -> bool {
    head.authorization.and_then(bearer).is_some_and(|guess| token.matches(guess))
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

/// Whether a page of `origin` was served by this very listener. Its host must be a loopback name:
/// any other name can be made to point here by whoever owns it (DNS rebinding).
///
/// Names of hosts have no case (RFC 3986 §3.2.2). A browser writes both in lower case.
fn is_own_page(origin: &str, host: &str) -> bool {
    let same = origin.strip_prefix("http://").is_some_and(|page| page.eq_ignore_ascii_case(host));
    is_loopback_name(host) && same
}

/// Whether a `Host` names this machine by way of the loopback interface.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_pages() {
        let check = |origin, host, expected| {
            assert_eq!(is_own_page(origin, host), expected, "{origin} {host}")
        };
        check("http://127.0.0.1:8080", "127.0.0.1:8080", true);
        check("http://localhost:8080", "localhost:8080", true);
        check("http://[::1]:8080", "[::1]:8080", true);
        check("http://localhost:8080", "LOCALHOST:8080", true);
        check("http://LocalHost:8080", "localhost:8080", true);
        check("http://[::FF]:8080", "[::ff]:8080", false);
        check("http://localhost:8081", "localhost:8080", false);
        check("https://localhost:8080", "localhost:8080", false);
        check("http://evil.example:8080", "evil.example:8080", false);
        check("null", "127.0.0.1:8080", false);
    }

    #[test]
    fn names_of_this_machine() {
        for name in [
            "localhost",
            "localhost:1",
            "LOCALHOST",
            "LocalHost:80",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:80",
            "[0:0::0:1]",
        ] {
            assert!(is_loopback_name(name), "{name}");
        }
        for name in [
            "",
            "localhost.evil.example",
            "evil.localhost:1",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "localhost:1x",
            "2130706433",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(!is_loopback_name(name), "{name}");
        }
    }

    #[test]
    fn bearer_tokens() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bear"), None);
    }
}
