//! What is known of the server from refresh to refresh, and the rates that follow from it.
//!
//! The server counts since its start and never takes back; a rate is the difference of two moments
//! of one epoch. Between two epochs there is no rate.

use super::answers::{Live, Streams};
use super::text::clean;

/// What is known.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The last that `/live` said.
    pub live: Option<Live>,
    /// Over the time since the refresh before; `None` if there was none in this epoch.
    pub rates: Option<Rates>,
    /// The last answer of `/connections`.
    pub streams: Streams,
    /// Why there is no answer any more.
    pub lost: Option<String>,
    /// That the server was another one before.
    pub restarted: Option<String>,
}

/// What happens in a second, and what follows from that.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    pub published_per_s: f64,
    pub deliveries_per_s: f64,
    pub bytes_per_s: f64,
    pub calls_per_s: f64,
    /// Calls that took less than they were offered, or nothing.
    pub incomplete_per_s: f64,
    /// System calls for each published event, over all its subscribers.
    pub calls_per_event: Option<f64>,
    /// Events carried by a call.
    pub frames_per_call: Option<f64>,
}

impl State {
    /// Takes in a refresh: what `/live` has said since the last one, and what `/connections`
    /// answers.
    pub fn refresh(&mut self, news: Option<Live>, streams: Result<Streams, String>) {
        match streams {
            Ok(streams) => {
                self.streams = streams;
                self.lost = None;
            }
            Err(why) => self.lost = Some(why),
        }
        let Some(now) = news else { return };
        if let Some(before) = self.live.replace(now.clone()) {
            if before.epoch != now.epoch {
                self.restarted = Some(clean(&format!("{} is now {}", before.epoch, now.epoch)));
                self.rates = None;
            } else if now.at_ms > before.at_ms {
                self.rates = Some(Rates::between(&before, &now));
            }
        }
    }
}

impl Rates {
    /// Of the time from `before` to `now`, which are of one epoch.
    fn between(before: &Live, now: &Live) -> Rates {
        let seconds = now.at_ms.saturating_sub(before.at_ms).max(1) as f64 / 1e3;
        let (then, now) = (&before.counters, &now.counters);
        let grown = |then: u64, now: u64| now.saturating_sub(then) as f64;
        let (published, deliveries) =
            (grown(then.published, now.published), grown(then.deliveries, now.deliveries));
        let calls = grown(then.calls.values().sum(), now.calls.values().sum());
        let incomplete =
            grown(then.short_writes + then.would_block, now.short_writes + now.would_block);
        let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        Rates {
            published_per_s: published / seconds,
            deliveries_per_s: deliveries / seconds,
            bytes_per_s: grown(then.bytes, now.bytes) / seconds,
            calls_per_s: calls / seconds,
            incomplete_per_s: incomplete / seconds,
            calls_per_event: ratio(calls, published),
            frames_per_call: ratio(deliveries, calls),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::Counters;
    use super::*;

    fn live(epoch: &str, at_ms: u64, published: u64) -> Live {
        let counters = Counters {
            published,
            deliveries: published * 10,
            calls: [("send".into(), published * 4), ("writev".into(), published)].into(),
            bytes: published * 1000,
            ..Counters::default()
        };
        Live { epoch: epoch.into(), at_ms, counters, ..Live::default() }
    }

    #[test]
    fn rates_are_differences_of_one_epoch() {
        let mut state = State::default();
        let mut see = |epoch, at_ms, published| {
            state.refresh(Some(live(epoch, at_ms, published)), Ok(Streams::default()));
            (state.rates, state.restarted.clone())
        };
        assert_eq!(see("a", 1000, 100), (None, None), "one moment has no rate");
        let rates = see("a", 3000, 300).0.unwrap();
        let expected = Rates {
            published_per_s: 100.0,
            deliveries_per_s: 1000.0,
            bytes_per_s: 100_000.0,
            calls_per_s: 500.0,
            incomplete_per_s: 0.0,
            calls_per_event: Some(5.0),
            frames_per_call: Some(2.0),
        };
        assert_eq!(rates, expected);
        let quiet = see("a", 4000, 300).0.unwrap();
        assert_eq!((quiet.calls_per_event, quiet.published_per_s), (None, 0.0));
        assert_eq!(see("b", 200, 7), (None, Some("a is now b".into())), "nothing goes backwards");
        assert_eq!(see("b", 1200, 8).0.unwrap().published_per_s, 1.0);
    }

    #[test]
    fn what_is_lost_comes_back() {
        let mut state = State::default();
        let streams = Streams { count: 3, ..Streams::default() };
        state.refresh(Some(live("a", 1000, 1)), Ok(streams.clone()));
        state.refresh(None, Err("refused".into()));
        assert_eq!(state.lost.as_deref(), Some("refused"));
        assert_eq!((state.streams.count, state.live.is_some()), (3, true), "the last is kept");
        state.refresh(None, Ok(Streams::default()));
        assert_eq!((state.lost, state.streams.count), (None, 0));
    }
}
