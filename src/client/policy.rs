//! What follows from the end of an attempt: another one, elsewhere or later, or none ever again.
//!
//! The rules are those of WHATWG HTML §9.2.3. An answer that is not an event stream is meant, and
//! ends everything; an end of the stream, or a network that fails, is an accident, and the reader
//! comes back. The standard leaves to us how long it waits when it keeps failing.
//!
//! Nothing here reads a clock or draws a random number, so that every decision can be tested
//! exactly.

use crate::client::stream::{Failure, StreamEnd};
use crate::client::url::Url;

/// How an attempt has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There was no connection: no address, refused, or not within its time.
    Unreachable,
    /// The connection has ended, or was given up because nothing came.
    Ended(StreamEnd),
    /// The answer could not be read on.
    Failed(Failure),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It has ended for ever, for this reason. Browsers would not come back either.
    Fail(String),
    /// Ask there, at once. If true, the redirect is permanent: later attempts begin there too.
    Redirect(Url, bool),
    /// Ask again where the attempt began.
    Retry {
        /// The time to wait before, in milliseconds.
        after_ms: u64,
    },
}

/// What has to be remembered from attempt to attempt.
#[derive(Debug)]
pub struct Policy {
    retry_ms: u64,
    patient: bool,
    /// Attempts in a row that did not come as far as a stream.
    failures: u32,
    /// Redirects in a row.
    redirects: u32,
    /// One of them was not permanent: nor is what follows it.
    strayed: bool,
}

impl Policy {
    /// A reader that comes back after `retry_ms` until the server says otherwise.
    ///
    /// If `patient`, an answer by which a server says that it is overloaded (429, 502, 503 or 504)
    /// counts as an accident, and its `Retry-After` is kept to. The standard says that such an
    /// answer ends everything, which is hard on a reader that has nobody to press reload.
    pub fn new(retry_ms: u64, patient: bool) -> Policy {
        Policy { retry_ms, patient, failures: 0, redirects: 0, strayed: false }
    }

    /// The server has set the reconnection time.
    pub fn set_retry_ms(&mut self, retry_ms: u64) {
        self.retry_ms = retry_ms;
    }

    /// A stream has begun: whatever went wrong before is over.
    pub fn opened(&mut self) {
        *self = Policy::new(self.retry_ms, self.patient);
    }

    /// What to do after an attempt to subscribe at `here` has ended with `outcome`. `random` may
    /// be any number; it spreads the readers that a server loses all at once.
    pub fn after(&mut self, here: &Url, outcome: &Outcome, random: u64) -> Next {
        match outcome {
            Outcome::Ended(StreamEnd::Clean | StreamEnd::Cut)
            | Outcome::Failed(Failure::Chunk(_) | Failure::Surplus) => self.retry(0, random),
            Outcome::Unreachable
            | Outcome::Ended(StreamEnd::NoAnswer)
            | Outcome::Failed(Failure::Head(_)) => self.retry_failed(0, random),
            // It would be sent again, and again it would be too long, or compressed.
            Outcome::Failed(why @ (Failure::Event(_) | Failure::Encoded(_))) => {
                Next::Fail(why.to_string())
            }
            Outcome::Failed(why @ Failure::NotAStream { status, location, retry_after_s, .. }) => {
                match (status, location) {
                    (301 | 302 | 303 | 307 | 308, Some(location)) => {
                        self.redirect(here, location, matches!(status, 301 | 308))
                    }
                    (429 | 502 | 503 | 504, _) if self.patient => {
                        let wait_s = retry_after_s.unwrap_or(0);
                        self.retry_failed(wait_s.saturating_mul(1000), random)
                    }
                    _ => Next::Fail(why.to_string()),
                }
            }
        }
    }

    fn redirect(&mut self, here: &Url, location: &str, permanent: bool) -> Next {
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            return Next::Fail(format!("more than {REDIRECTS_MAX} redirects in a row"));
        }
        self.strayed |= !permanent;
        match here.join(location) {
            Ok(url) => Next::Redirect(url, !self.strayed),
            Err(why) => Next::Fail(format!("cannot follow a redirect: {why}")),
        }
    }

    fn retry_failed(&mut self, at_least_ms: u64, random: u64) -> Next {
        self.failures = self.failures.saturating_add(1);
        self.retry(at_least_ms, random)
    }

    fn retry(&mut self, at_least_ms: u64, random: u64) -> Next {
        (self.redirects, self.strayed) = (0, false);
        let wait_ms = self.wait_ms().max(at_least_ms);
        // Only ever upward: a reader that came back earlier than it was told would spoil what the
        // server has planned.
        Next::Retry { after_ms: wait_ms.saturating_add(random % wait_ms.max(1)) }
    }

    /// The reconnection time, doubled with each failure in a row after the first, up to a limit
    /// that yields only to a server that asks for more.
    fn wait_ms(&self) -> u64 {
        let Some(doublings) = self.failures.checked_sub(1) else { return self.retry_ms };
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let backed_off = self.retry_ms.max(BACKOFF_MS_MIN).saturating_mul(factor);
        backed_off.min(BACKOFF_MS_MAX).max(self.retry_ms)
    }
}

/// The reconnection time of a reader that has not been told one. The standard asks for "a few
/// seconds"; this is Chromium's `kDefaultReconnectDelay` (Firefox waits for 5000 ms).
pub const RETRY_MS: u64 = 3000;

/// The most redirects in a row that are followed (Fetch §4.4, HTTP-redirect fetch).
const REDIRECTS_MAX: u32 = 20;

/// The first wait after a failure is at least so long: a server may ask its readers back at once
/// when it ends a stream, but not when it cannot be reached.
const BACKOFF_MS_MIN: u64 = 100;

/// Readers keep asking once a minute at least, before the spread.
const BACKOFF_MS_MAX: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::response::BadResponse;
    use crate::wire::chunk::ChunkError;
    use crate::wire::decode::DecodeError;

    fn here() -> Url {
        Url::parse("http://h/a/b").unwrap()
    }

    fn answer(status: u16, location: Option<&str>, retry_after_s: Option<u64>) -> Outcome {
        Outcome::Failed(Failure::NotAStream {
            status,
            media_type: Some("text/event-stream".into()),
            location: location.map(str::to_owned),
            retry_after_s,
        })
    }

    #[track_caller]
    fn waits(policy: &mut Policy, outcome: &Outcome, random: u64) -> u64 {
        match policy.after(&here(), outcome, random) {
            Next::Retry { after_ms } => after_ms,
            other => panic!("{other:?} after {outcome:?}"),
        }
    }

    #[track_caller]
    fn fails(policy: &mut Policy, outcome: &Outcome, expected: &str) {
        match policy.after(&here(), outcome, 0) {
            Next::Fail(why) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?} after {outcome:?}"),
        }
    }

    #[test]
    fn an_end_of_the_stream_is_waited_out() {
        let mut policy = Policy::new(1000, false);
        for outcome in [
            Outcome::Ended(StreamEnd::Clean),
            Outcome::Ended(StreamEnd::Cut),
            Outcome::Failed(Failure::Chunk(ChunkError::Size)),
            Outcome::Failed(Failure::Surplus),
        ] {
            for (random, after_ms) in [(0, 1000), (999, 1999), (1000, 1000), (u64::MAX, 1615)] {
                assert_eq!(waits(&mut policy, &outcome, random), after_ms, "{outcome:?}");
            }
        }
        policy.set_retry_ms(5);
        assert_eq!(waits(&mut policy, &Outcome::Ended(StreamEnd::Clean), 7), 7);
        policy.set_retry_ms(0);
        assert_eq!(waits(&mut policy, &Outcome::Ended(StreamEnd::Clean), 7), 0);
        policy.set_retry_ms(u64::MAX);
        assert_eq!(waits(&mut policy, &Outcome::Ended(StreamEnd::Clean), 7), u64::MAX);
    }

    #[test]
    fn failures_in_a_row_are_waited_out_longer_and_longer() {
        for outcome in [
            Outcome::Unreachable,
            Outcome::Ended(StreamEnd::NoAnswer),
            Outcome::Failed(Failure::Head(BadResponse::StatusLine)),
        ] {
            let mut policy = Policy::new(3000, false);
            let waited: Vec<u64> = (0..7).map(|_| waits(&mut policy, &outcome, 0)).collect();
            assert_eq!(waited, [3000, 6000, 12_000, 24_000, 48_000, 60_000, 60_000]);
            for _ in 0..200 {
                assert_eq!(waits(&mut policy, &outcome, 59_999), 119_999);
            }
            policy.opened();
            assert_eq!(waits(&mut policy, &outcome, 0), 3000);
            policy.set_retry_ms(90_000);
            assert_eq!(waits(&mut policy, &outcome, 0), 90_000, "the server asks for more");
            policy.opened();
            policy.set_retry_ms(0);
            assert_eq!(waits(&mut policy, &outcome, 0), 100);
            assert_eq!(waits(&mut policy, &outcome, 0), 200);
        }
    }

    #[test]
    fn answers_that_are_meant() {
        let mut policy = Policy::new(1000, false);
        for status in [101, 201, 204, 205, 299, 304, 400, 401, 404, 410, 429, 500, 502, 503, 504] {
            fails(
                &mut policy,
                &answer(status, Some("/x"), Some(1)),
                &format!("status is {status}"),
            );
        }
        fails(&mut policy, &answer(200, None, None), "media type");
        fails(&mut policy, &answer(302, None, None), "status is 302");
        let too_long = Outcome::Failed(Failure::Event(DecodeError::DataTooLong));
        fails(&mut policy, &too_long, "exceeds the limit");
    }

    #[test]
    fn patience_with_servers_under_overload() {
        let mut policy = Policy::new(1000, true);
        for status in [429, 502, 503, 504] {
            policy.opened();
            assert_eq!(waits(&mut policy, &answer(status, None, None), 0), 1000);
            assert_eq!(waits(&mut policy, &answer(status, None, Some(1)), 0), 2000);
            assert_eq!(waits(&mut policy, &answer(status, None, Some(90)), 89_999), 179_999);
            assert_eq!(waits(&mut policy, &answer(status, None, Some(u64::MAX)), 1), u64::MAX);
        }
        fails(&mut policy, &answer(500, None, Some(1)), "status is 500");
        fails(&mut policy, &answer(204, None, Some(1)), "status is 204");
    }

    #[test]
    fn redirects() {
        let url = |text: &str| Url::parse(text).unwrap();
        let mut policy = Policy::new(1000, false);
        let after = |policy: &mut Policy, status| {
            policy.after(&here(), &answer(status, Some("../c"), None), 0)
        };
        let to = |permanent| Next::Redirect(url("http://h/c"), permanent);
        assert_eq!(after(&mut policy, 301), to(true));
        assert_eq!(after(&mut policy, 308), to(true));
        assert_eq!(after(&mut policy, 302), to(false));
        assert_eq!(after(&mut policy, 301), to(false), "not permanent from where it began");
        policy.opened();
        assert_eq!(after(&mut policy, 301), to(true));
        assert_eq!(after(&mut policy, 303), to(false));
        waits(&mut policy, &Outcome::Unreachable, 0);
        assert_eq!(after(&mut policy, 301), to(true), "begun anew");
        assert_eq!(after(&mut policy, 307), to(false));
        fails(&mut policy, &answer(301, Some("https://h/"), None), "https is not spoken here");
        fails(&mut policy, &answer(301, Some("/\r\n"), None), "cannot stand in a URL");
    }

    #[test]
    fn redirects_in_a_circle() {
        let mut policy = Policy::new(1000, false);
        let again = answer(307, Some("/a/b"), None);
        for _ in 0..20 {
            assert_eq!(policy.after(&here(), &again, 0), Next::Redirect(here(), false));
        }
        fails(&mut policy, &again, "more than 20 redirects");
    }
}
