//! The stream of `/live`, read in a thread of its own, of which the latest is kept.
//!
//! Invariant: however slowly the table is drawn, one event is kept and none is waited for. A reader
//! that did not read would be one of those slow streams that it is there to find.

use super::answers::{Latencies, Live};
use super::text::clean;
use crate::cli::settings::admin_fields;
use pushv::client::event_source::{Closer, EventSource, Options};
use pushv::client::url::Url;
use serde::Deserialize as _;
use serde_json::Value;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One event of `/live`.
#[derive(Debug, Clone)]
pub struct News {
    /// When it came.
    pub received: Instant,
    /// As it came.
    pub json: Value,
    /// The same, but the latencies are the slowest since the last news that were taken.
    pub live: Live,
}

/// A subscription of `/live`. Dropped, it ends.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    closer: Closer,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inbox {
    latest: Option<News>,
    /// Why there will be no more.
    ended: Option<String>,
}

impl Feed {
    /// Subscribes at the server whose admin listener this is.
    pub fn open(admin: &Url) -> Feed {
        let url = Url { target: "/live".into(), ..admin.clone() };
        // Something is said five times a second.
        let options = Options {
            silence_timeout: Some(SILENCE),
            fields: admin_fields(),
            ..Options::default()
        };
        let mut source = EventSource::new(url, options);
        let (shared, closer) = (Arc::<Shared>::default(), source.closer());
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            let ended = loop {
                match source.next_event() {
                    Ok(event) if event.name == "live" => {
                        if let Err(error) = theirs.put(&event.data) {
                            break format!("what it says is not understood: {error}");
                        }
                    }
                    Ok(_) => {}
                    Err(ended) => break ended.to_string(),
                }
            };
            theirs.lock().ended = Some(clean(&ended));
            theirs.changed.notify_all();
        });
        Feed { shared, closer }
    }

    /// What came last, if anything has come since this was last asked.
    ///
    /// # Errors
    /// Why nothing will come any more.
    pub fn take(&self) -> Result<Option<News>, String> {
        let mut inbox = self.shared.lock();
        match (inbox.latest.take(), &inbox.ended) {
            (None, Some(why)) => Err(why.clone()),
            (news, _) => Ok(news),
        }
    }

    /// The same, but waits for it.
    ///
    /// # Errors
    /// Why nothing will come, or that nothing has come in time.
    pub fn wait(&self, patience: Duration) -> Result<News, String> {
        let deadline = Instant::now() + patience;
        let mut inbox = self.shared.lock();
        loop {
            if let Some(news) = inbox.latest.take() {
                return Ok(news);
            }
            if let Some(why) = &inbox.ended {
                return Err(why.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("it said nothing for {patience:?}"));
            }
            let waited = self.shared.changed.wait_timeout(inbox, left);
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.closer.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Nobody panics halfway through a change of it.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, data: &str) -> serde_json::Result<()> {
        let json: Value = serde_json::from_str(data)?;
        let mut live = Live::deserialize(&json)?;
        let mut inbox = self.lock();
        if let Some(News { live: missed, .. }) = &inbox.latest {
            let slowest: Latencies = missed.latency_us;
            live.latency_us.keep_slowest(&slowest);
        }
        inbox.latest = Some(News { received: Instant::now(), json, live });
        self.changed.notify_all();
        Ok(())
    }
}

const SILENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_is_kept_with_the_slowest_of_all() {
        let shared = Shared::default();
        let put = |at_ms: u64, p99: u64| {
            let turn = format!(r#"{{"p50":1,"p99":{p99},"max":{p99}}}"#);
            shared.put(&format!(r#"{{"at_ms":{at_ms},"latency_us":{{"turn":{turn}}}}}"#)).unwrap();
        };
        put(200, 5);
        put(400, 9);
        put(600, 7);
        assert!(shared.put("not JSON").is_err());
        assert!(shared.put(r#"{"at_ms":"not a number"}"#).is_err());
        let news = shared.lock().latest.take().unwrap();
        assert_eq!(news.live.at_ms, 600);
        assert_eq!(news.live.latency_us.turn.unwrap().p99, 9.0);
        assert_eq!(news.json["latency_us"]["turn"]["p99"], 7, "as it came");
        put(800, 2);
        let news = shared.lock().latest.take().unwrap();
        assert_eq!(news.live.latency_us.turn.unwrap().p99, 2.0, "what was shown is done with");
    }

    #[test]
    fn nobody_there() {
        use socket2::{Domain, Socket, Type};
        // Bound, so that nobody else gets it; and it does not listen.
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let closed = bound.local_addr().unwrap().as_socket().unwrap();
        let feed = Feed::open(&Url::parse(&format!("http://{closed}/")).unwrap());
        let why = feed.wait(Duration::from_millis(50)).unwrap_err();
        assert!(why.contains("said nothing"), "{why}");
        assert!(feed.take().unwrap().is_none());
    }
}
