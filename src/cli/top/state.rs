//! What is known of the server from refresh to refresh, and the rates that follow from it.
//!
//! The server counts since its start and never takes back; a rate is the difference of two moments
//! of one epoch. Between two epochs there is no rate.
//!
//! Invariant: a rate is of now. `/live` and `/connections` are two requests, and one may be silent
//! while the other answers. So every refresh asks how old the last news is.

use super::answers::{Live, Streams};
use super::text::clean;
use std::time::{Duration, Instant};

/// What is known.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The last that `/live` said.
    pub live: Option<Live>,
    /// How long ago it said that, at the last refresh.
    pub age: Duration,
    /// Over the time since the refresh before; `None` if there was none in this epoch, or if
    /// nothing has been heard for too long.
    pub rates: Option<Rates>,
    /// The last answer of `/connections`.
    pub streams: Streams,
    /// Why there is no answer any more.
    pub lost: Option<String>,
    /// That the server was another one before.
    pub restarted: Option<String>,
    /// When `live` came.
    heard: Option<Instant>,
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
    /// Takes in a refresh: what `/live` has said since the last one and when that came, and what
    /// `/connections` answers. It is `now`.
    pub fn refresh(
        &mut self,
        now: Instant,
        news: Option<(Instant, Live)>,
        streams: Result<Streams, String>,
    ) {
        let was_heard = self.lost.is_none() && !self.is_silent();
        match streams {
            Ok(streams) => {
                self.streams = streams;
                self.lost = None;
            }
            Err(why) => self.lost = Some(why),
        }
        if let Some((heard, live)) = news {
            self.heard = Some(heard);
            self.hear(live, was_heard);
        }
        self.age = self.heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        if self.is_silent() || self.lost.is_some() {
            self.rates = None;
        }
    }

    /// Whether `/live` has said nothing for so long that what it said is no news any more.
    pub fn is_silent(&self) -> bool {
        self.age >= SILENT_AFTER
    }

    fn hear(&mut self, now: Live, was_heard: bool) {
        let Some(before) = self.live.replace(now.clone()) else { return };
        if before.epoch != now.epoch {
            self.restarted = Some(clean(&format!("{} is now {}", before.epoch, now.epoch)));
            self.rates = None;
        } else if !was_heard {
            self.rates = None; // that of the time for which nothing was heard is not of now
        } else if now.at_ms > before.at_ms {
            self.rates = Some(Rates::between(&before, &now));
        }
    }
}

/// `/live` speaks five times a second.
const SILENT_AFTER: Duration = Duration::from_secs(1);

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
        let now = Instant::now();
        let mut see = |epoch, at_ms, published| {
            let news = Some((now, live(epoch, at_ms, published)));
            state.refresh(now, news, Ok(Streams::default()));
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
        let now = Instant::now();
        let mut refresh = |at_ms, streams| {
            state.refresh(now, Some((now, live("a", at_ms, at_ms))), streams);
            state.clone()
        };
        refresh(1000, Ok(streams.clone()));
        assert!(refresh(2000, Ok(streams)).rates.is_some());
        let lost = refresh(3000, Err("refused".into()));
        assert_eq!((lost.lost.as_deref(), lost.rates), (Some("refused"), None));
        assert_eq!((lost.streams.count, lost.live.is_some()), (3, true), "the last is kept");
        let back = refresh(9000, Ok(Streams::default()));
        assert_eq!((back.lost, back.streams.count, back.rates), (None, 0, None));
        assert_eq!(refresh(9500, Ok(Streams::default())).rates.unwrap().published_per_s, 1000.0);
    }

    /// `/connections` answers all the time; what `/live` said is not of now any more.
    #[test]
    fn rates_do_not_outlive_the_news() {
        let (mut state, begun) = (State::default(), Instant::now());
        let mut refresh = |now_ms, news: Option<(u64, u64)>| {
            let at = |ms| begun + Duration::from_millis(ms);
            let news = news.map(|(heard_ms, at_ms)| (at(heard_ms), live("a", at_ms, at_ms)));
            state.refresh(at(now_ms), news, Ok(Streams::default()));
            (state.is_silent(), state.rates.map(|rates| rates.published_per_s), state.age)
        };
        let ms = Duration::from_millis;
        assert_eq!(refresh(0, Some((0, 1000))), (false, None, ms(0)));
        assert_eq!(refresh(300, Some((200, 1200))), (false, Some(1000.0), ms(100)));
        assert_eq!(refresh(400, None), (false, Some(1000.0), ms(200)), "the next is not due yet");
        assert_eq!(refresh(1199, None), (false, Some(1000.0), ms(999)));
        assert_eq!(refresh(1200, None), (true, None, ms(1000)));
        assert_eq!(refresh(9000, None), (true, None, ms(8800)));
        assert_eq!(refresh(9100, Some((9100, 9300))), (false, None, ms(0)), "not over the silence");
        assert_eq!(refresh(9300, Some((9300, 9500))), (false, Some(1000.0), ms(0)));
        // A refresh after a long interval finds news that is old.
        assert_eq!(refresh(19_300, Some((9500, 9700))), (true, None, ms(9800)));
    }
}
