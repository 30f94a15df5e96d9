//! What a run is to do.

use crate::client::url::Url;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A run, as its user describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Where to subscribe.
    pub url: String,
    /// Subscribers, of all processes together.
    pub connections: usize,
    /// Processes that hold them.
    pub processes: usize,
    /// Connections opened per second, of all processes together; 0 is as fast as they are accepted.
    pub connect_per_s: f64,
    /// How long a connection may take until its stream has begun.
    pub connect_timeout_ms: u64,
    /// Header fields of the subscriptions.
    pub fields: Vec<(String, String)>,
    /// How the subscribers read.
    pub reader: Reader,
    /// `SO_RCVBUF` of the subscribers; 0 leaves it to the kernel.
    pub rcvbuf_bytes: usize,
    /// Subscribers per second that drop their connection and come back with their last id.
    pub churn_per_s: f64,
    /// Never sleep while the run goes on. Waking a sleeper is a large and noisy part of a delivery,
    /// and the sender pays for some of it; in exchange this takes a processor per process.
    pub spin: bool,
    /// While events come thick and fast, look for them once in so many microseconds only: looking
    /// costs as much as reading. The first one of a burst is seen at once, the others up to so
    /// much late. 0 looks all the time.
    pub coalesce_us: u64,
    /// Leave acknowledgements to the kernel. To a receiver that only reads it gives one per event
    /// at once, at twice the price of reading; otherwise it is asked to delay them, as it does for
    /// receivers that also write.
    pub prompt_acks: bool,
    /// What is published; without it the run only listens.
    pub publish: Option<Publish>,
    /// How long to publish before anything is measured.
    pub warmup_ms: u64,
    /// How long to publish, or to listen, after that.
    pub duration_ms: u64,
    /// How long to wait, after the last publish, for what is still on its way.
    pub grace_ms: u64,
    /// Distinguishes this run's events from those of every other.
    pub run: u32,
}

/// What is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Publish {
    /// Where to.
    pub url: String,
    /// The request's method.
    pub method: String,
    /// Its header fields.
    pub fields: Vec<(String, String)>,
    /// Its body; `{data}` stands for the event.
    pub template: String,
    /// The event's length in bytes.
    pub data_bytes: usize,
    /// Requests that may be under way at the same time on the publisher's connection.
    pub pipeline: usize,
    /// When the next event is due.
    pub pace: Pace,
    /// Stop after so many events, even if there is time left.
    pub events_max: Option<u64>,
}

/// When the next event is due.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// So many events per second, whatever becomes of them: an open loop.
    Rate(f64),
    /// Each when everybody has the one before: a closed loop.
    Round,
    /// At once.
    Flood,
}

/// How a subscriber reads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Reader {
    /// As soon as there is something.
    Prompt,
    /// With a pause of so many milliseconds after each read.
    Nap(u64),
    /// So many bytes per second.
    Slow(u64),
    /// Not at all, once its stream has begun.
    Never,
}

impl Plan {
    /// Checks what the single values do not show.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn validate(&self) -> Result<(), String> {
        Url::parse(&self.url)?;
        if self.connections == 0 {
            return Err("connections: wants at least 1".into());
        }
        if self.processes == 0 || self.processes > self.connections {
            return Err(
                "processes: wants at least 1, and no more than there are connections".into()
            );
        }
        let Some(publish) = &self.publish else { return Ok(()) };
        Url::parse(&publish.url)?;
        if publish.data_bytes < super::payload::BYTES_MIN {
            return Err(format!(
                "size: an event that proves itself takes at least {} bytes",
                super::payload::BYTES_MIN
            ));
        }
        if !publish.template.contains(DATA) {
            return Err(format!("publish-template: {DATA} must stand in it"));
        }
        if matches!(publish.pace, Pace::Rate(per_s) if !per_s.is_finite() || per_s <= 0.0) {
            return Err("rate: wants a number above 0".into());
        }
        let closed = publish.pace == Pace::Round;
        if closed && (self.reader == Reader::Never || self.churn_per_s > 0.0) {
            return Err("round: everybody must have an event before the next is published, so \
                        nobody may leave or stop reading"
                .into());
        }
        Ok(())
    }

    /// The subscribers of process `nth`.
    pub fn share(&self, nth: usize) -> usize {
        self.connections / self.processes + usize::from(nth < self.connections % self.processes)
    }
}

impl FromStr for Reader {
    type Err = String;

    fn from_str(text: &str) -> Result<Reader, String> {
        let number = |digits: &str| digits.parse().ok().filter(|&number: &u64| number > 0);
        match text.split_once(':') {
            None if text == "prompt" => Ok(Reader::Prompt),
            None if text == "never" => Ok(Reader::Never),
            Some(("nap", ms)) => {
                number(ms).map(Reader::Nap).ok_or("nap: wants milliseconds above 0".into())
            }
            Some(("slow", bytes)) => {
                number(bytes).map(Reader::Slow).ok_or("slow: wants bytes per second above 0".into())
            }
            _ => Err("there are prompt, nap:MS, slow:BYTES_PER_S and never".into()),
        }
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reader::Prompt => f.write_str("prompt"),
            Reader::Nap(ms) => write!(f, "nap:{ms}"),
            Reader::Slow(bytes_per_s) => write!(f, "slow:{bytes_per_s}"),
            Reader::Never => f.write_str("never"),
        }
    }
}

/// What stands for the event in a template.
pub const DATA: &str = "{data}";

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plan of one subscriber that only listens.
    pub fn plan(url: &str) -> Plan {
        Plan {
            url: url.into(),
            connections: 1,
            processes: 1,
            connect_per_s: 0.0,
            connect_timeout_ms: 5000,
            fields: Vec::new(),
            reader: Reader::Prompt,
            rcvbuf_bytes: 0,
            churn_per_s: 0.0,
            spin: false,
            coalesce_us: 0,
            prompt_acks: false,
            publish: None,
            warmup_ms: 0,
            duration_ms: 1000,
            grace_ms: 1000,
            run: 1,
        }
    }

    #[test]
    fn readers_are_read_back() {
        for text in ["prompt", "never", "nap:5", "slow:1000"] {
            assert_eq!(text.parse::<Reader>().unwrap().to_string(), text);
        }
        for text in ["", "nap", "nap:0", "nap:x", "slow:-1", "prompt:1"] {
            assert!(text.parse::<Reader>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn connections_are_shared_out() {
        let plan = Plan { connections: 10, processes: 3, ..plan("http://h/") };
        assert_eq!([0, 1, 2].map(|nth| plan.share(nth)), [4, 3, 3]);
    }

    #[test]
    fn contradictions_are_named() {
        let publish = Publish {
            url: "http://h/".into(),
            method: "POST".into(),
            fields: Vec::new(),
            template: DATA.into(),
            data_bytes: 100,
            pipeline: 1,
            pace: Pace::Round,
            events_max: None,
        };
        let good = Plan { publish: Some(publish.clone()), ..plan("http://h/") };
        good.validate().unwrap();
        let check = |plan: Plan, expected: &str| {
            let why = plan.validate().unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        let with = |publish| Plan { publish: Some(publish), ..good.clone() };
        check(Plan { connections: 0, ..good.clone() }, "connections");
        check(Plan { processes: 2, ..good.clone() }, "processes");
        check(Plan { url: "ftp://h/".into(), ..good.clone() }, "http");
        check(Plan { reader: Reader::Never, ..good.clone() }, "round");
        check(with(Publish { data_bytes: 10, ..publish.clone() }), "size");
        check(with(Publish { template: "data".into(), ..publish.clone() }), "{data}");
        check(with(Publish { pace: Pace::Rate(0.0), ..publish.clone() }), "rate");
    }
}
