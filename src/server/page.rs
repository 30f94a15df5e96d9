//! The live page: one file that loads nothing else, and what a browser may do with it.
//!
//! It turns knobs, so no other page may show it in a frame and have its buttons pressed; and what it
//! shows comes from peers, so a text that ended up as markup after all could load nothing and send
//! nothing to anybody but this server.

use super::body::Exchange;
use super::connection::ConnectionKey;
use super::routes::head_of;
use super::{Platform, Server};
use crate::config::Cors;
use crate::send::private::HEAD_BYTES;
use crate::wire::head::Head;

impl<P: Platform> Server<P> {
    /// Answers a request for the live page.
    pub(super) fn show_page(&mut self, key: ConnectionKey, head: &Head<'_>, exchange: &Exchange) {
        if !self.is_read(key, head, exchange) {
            return;
        }
        let close = exchange.close || self.shutdown.is_under_way();
        let exchange = &Exchange { close, ..exchange.clone() };
        let out = self.connections[key].private.buffer(HEAD_BYTES + PAGE.len());
        head_of(out, exchange, 200, &self.date.text, &Cors::Nobody)
            // The page belongs to this version of the server.
            .field("Cache-Control", "no-cache")
            .field("Content-Security-Policy", POLICY)
            .field("X-Content-Type-Options", "nosniff")
            .body("text/html; charset=utf-8", PAGE, !exchange.head_only);
        self.answered(key, exchange);
    }
}

const PAGE: &[u8] = include_bytes!("live.html");

/// Content Security Policy Level 3. `img-src` is for the icon, which is part of the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
