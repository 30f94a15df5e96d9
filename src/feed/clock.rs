//! A feed that publishes the time.

use super::Feed;
use crate::reactor::{Gone, Handle};
use crate::server::OwnedEvent;
use crate::wire::date::HttpDate;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Publishes the time once a second, at the turn of the second, to the topic `clock`.
#[derive(Debug, Clone, Copy)]
pub struct Clock;

impl Feed for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn run(self, hub: &Handle) -> Result<(), Gone> {
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            thread::sleep(Duration::from_secs(now.as_secs() + 1).saturating_sub(now));
            let date = HttpDate { unix_s: now.as_secs() + 1 };
            let (topic, data) = ("clock".into(), date.to_string());
            hub.publish(OwnedEvent { topic, data, ..OwnedEvent::default() })?;
        }
    }
}
