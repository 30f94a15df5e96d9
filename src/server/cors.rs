//! What the pages of other origins are told: who may read an answer, and what they may ask
//! (WHATWG Fetch §3.2, Private Network Access §3.1).

use crate::config::Cors;
use crate::wire::response::Response;

/// Adds what every answer tells a page. `allow_origin` is what [`Cors::allows`] gave for its
/// request.
///
/// A page of a named origin may send credentials, so that an authenticating proxy in front of the
/// hub gets its cookies. With `*` no page may: browsers ignore the permission then, and it would
/// open every visitor's session to every page.
pub(super) fn answer_fields<'o>(
    response: Response<'o>,
    origins: &Cors,
    allow_origin: Option<&str>,
) -> Response<'o> {
    // Caches must keep answers apart that differ by origin, also those without permission.
    let differs = matches!(origins, Cors::Origins(_));
    response
        .field_if("Access-Control-Allow-Origin", allow_origin)
        .field_if("Access-Control-Allow-Credentials", is_named(allow_origin).then_some("true"))
        .field_if("Access-Control-Expose-Headers", allow_origin.map(|_| "Pushv-Resumed-From"))
        .field_if("Vary", differs.then_some("Origin"))
}

/// Adds what a browser asks for before a request that a plain form could not make.
pub(super) fn preflight_fields<'o>(
    response: Response<'o>,
    allow_origin: Option<&str>,
    methods: &str,
    asks_private_network: bool,
) -> Response<'o> {
    let allowed = allow_origin.is_some();
    // Every page on the Internet would reach a hub in a private network if `*` permitted that.
    let private_network = asks_private_network && is_named(allow_origin);
    response
        .field_if("Access-Control-Allow-Methods", allowed.then_some(methods))
        .field_if("Access-Control-Allow-Headers", allowed.then_some(HEADERS))
        .field_if("Access-Control-Max-Age", allowed.then_some(7200))
        .field_if("Access-Control-Allow-Private-Network", private_network.then_some("true"))
}

fn is_named(allow_origin: Option<&str>) -> bool {
    allow_origin.is_some_and(|origin| origin != "*")
}

/// What publishers send, what an `EventSource` sends by itself, and what clients that are made of
/// `fetch` add to a request: against caches, and so that servers know them for scripts.
const HEADERS: &str =
    "Authorization, Cache-Control, Content-Type, Last-Event-ID, Pragma, X-Requested-With";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::Version;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn written(add: impl FnOnce(Response<'_>) -> Response<'_>) -> String {
        let mut out = Vec::new();
        add(Response::new(&mut out, Version::Http11, 204, DATE)).end();
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix(&format!("HTTP/1.1 204 No Content\r\nDate: {DATE}\r\n")).unwrap().into()
    }

    /// Every setting, with every kind of origin, byte by byte.
    #[test]
    fn all_combinations() {
        let (a, b) = ("https://a.example", "http://b.example:8080");
        let named = |origin: &str| {
            format!(
                "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n\
                 Access-Control-Expose-Headers: Pushv-Resumed-From\r\nVary: Origin\r\n"
            )
        };
        let anybody = "Access-Control-Allow-Origin: *\r\n\
                       Access-Control-Expose-Headers: Pushv-Resumed-From\r\n";
        let settings = [
            Cors::Nobody,
            Cors::Anybody,
            Cors::Origins(vec![a.into()]),
            Cors::Origins(vec![a.into(), b.into()]),
        ];
        let asking = [None, Some(a), Some(b), Some("https://c.example"), Some("null"), Some("*")];
        for origins in &settings {
            for origin in asking {
                let (expected, permits) = match (origins, origin) {
                    (Cors::Nobody, _) => (String::new(), false),
                    (Cors::Anybody, _) => (anybody.into(), true),
                    (Cors::Origins(list), Some(asking)) if list.iter().any(|it| it == asking) => {
                        (named(asking), true)
                    }
                    (Cors::Origins(_), _) => ("Vary: Origin\r\n".into(), false),
                };
                let allow_origin = origins.allows(origin);
                let fields = written(|response| answer_fields(response, origins, allow_origin));
                assert_eq!(fields, format!("{expected}\r\n"), "{origins:?} {origin:?}");
                for asks in [false, true] {
                    let fields = written(|response| {
                        preflight_fields(response, allow_origin, "GET, POST", asks)
                    });
                    let private = match asks && permits && *origins != Cors::Anybody {
                        true => "Access-Control-Allow-Private-Network: true\r\n",
                        false => "",
                    };
                    let expected = match permits {
                        true => format!(
                            "Access-Control-Allow-Methods: GET, POST\r\n\
                             Access-Control-Allow-Headers: {HEADERS}\r\n\
                             Access-Control-Max-Age: 7200\r\n{private}"
                        ),
                        false => String::new(),
                    };
                    assert_eq!(fields, format!("{expected}\r\n"), "{origins:?} {origin:?} {asks}");
                }
            }
        }
    }
}
