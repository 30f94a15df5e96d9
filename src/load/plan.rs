//! What a run is to do.

use super::payload;
use crate::client::url::Url;
use crate::wire::chunk::is_token;
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
    /// Subscribers per second, of all processes together, that drop their connection and come back
    /// with their last id.
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
        if self.processes == 0 || self.processes > self.connections.min(PROCESSES_MAX) {
            return Err(format!(
                "processes: wants 1 to {PROCESSES_MAX}, and no more than there are connections"
            ));
        }
        check_per_s("connect-rate", self.connect_per_s, true)?;
        check_per_s("churn", self.churn_per_s, true)?;
        if self.coalesce_us > COALESCE_US_MAX {
            return Err(format!("coalesce: wants 0 to {COALESCE_US_MAX} microseconds"));
        }
        if self.rcvbuf_bytes > RCVBUF_BYTES_MAX {
            return Err(format!("rcvbuf: wants 0 to {RCVBUF_BYTES_MAX} bytes"));
        }
        check_fields("header", &self.fields)?;
        match &self.publish {
            Some(publish) => self.validate_publishing(publish),
            None => Ok(()),
        }
    }

    fn validate_publishing(&self, publish: &Publish) -> Result<(), String> {
        Url::parse(&publish.url)?;
        check_method(&publish.method)?;
        check_fields("publish-header", &publish.fields)?;
        if !(payload::BYTES_MIN..=DATA_BYTES_MAX).contains(&publish.data_bytes) {
            return Err(format!(
                "size: an event that proves itself takes {} to {DATA_BYTES_MAX} bytes",
                payload::BYTES_MIN
            ));
        }
        if !publish.template.contains(DATA) {
            return Err(format!("publish-template: {DATA} must stand in it"));
        }
        if !(1..=PIPELINE_MAX).contains(&publish.pipeline) {
            return Err(format!("pipeline: wants 1 to {PIPELINE_MAX}"));
        }
        if let Pace::Rate(per_s) = publish.pace {
            check_per_s("rate", per_s, false)?;
        }
        let closed = publish.pace == Pace::Round;
        if closed && (self.reader == Reader::Never || self.churn_per_s > 0.0) {
            return Err("round: everybody must have an event before the next is published, so \
                        nobody may leave or stop reading"
                .into());
        }
        Ok(())
    }

    /// Events that are due from the beginning to the end; only of an open loop.
    pub fn planned(&self) -> Option<u64> {
        let publish = self.publish.as_ref()?;
        let Pace::Rate(per_s) = publish.pace else { return None };
        let end_ns = (self.warmup_ms + self.duration_ms) * 1_000_000;
        let mut count = (end_ns as f64 * per_s / 1e9) as u64;
        // As exact as the moments at which they are due.
        while count > 0 && due_ns(count - 1, per_s) >= end_ns {
            count -= 1;
        }
        while due_ns(count, per_s) < end_ns {
            count += 1;
        }
        Some(publish.events_max.map_or(count, |max| max.min(count)))
    }

    /// The subscribers of process `nth`.
    pub fn share(&self, nth: usize) -> usize {
        self.connections / self.processes + usize::from(nth < self.connections % self.processes)
    }
}

impl FromStr for Reader {
    type Err = String;

    fn from_str(text: &str) -> Result<Reader, String> {
        let number = |digits: &str, most| digits.parse().ok().filter(|n| (1..=most).contains(n));
        match text.split_once(':') {
            None if text == "prompt" => Ok(Reader::Prompt),
            None if text == "never" => Ok(Reader::Never),
            Some(("nap", ms)) => {
                let nap = number(ms, NAP_MS_MAX).map(Reader::Nap);
                nap.ok_or_else(|| format!("nap: wants 1 to {NAP_MS_MAX} milliseconds"))
            }
            Some(("slow", bytes)) => {
                let slow = number(bytes, SLOW_BYTES_MAX).map(Reader::Slow);
                slow.ok_or_else(|| format!("slow: wants 1 to {SLOW_BYTES_MAX} bytes per second"))
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

/// When an event of an open loop is due, in nanoseconds since the first.
pub fn due_ns(nth: u64, per_s: f64) -> u64 {
    (nth as f64 * 1e9 / per_s) as u64
}

/// A number of things per second; 0 stands for none of them, where that is allowed.
fn check_per_s(option: &str, per_s: f64, or_none: bool) -> Result<(), String> {
    let none = if or_none { "0, or " } else { "" };
    match (PER_S_MIN..=PER_S_MAX).contains(&per_s) || (or_none && per_s == 0.0) {
        true => Ok(()),
        false => Err(format!("{option}: wants {none}{PER_S_MIN} to {PER_S_MAX} per second")),
    }
}

/// The fields that say where a request ends are the generator's own, and no server takes two hosts.
fn check_fields(option: &str, fields: &[(String, String)]) -> Result<(), String> {
    let count = |of: &str| fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(of)).count();
    for framing in ["Content-Length", "Transfer-Encoding"] {
        if count(framing) > 0 {
            return Err(format!("{option}: {framing} is not yours to say"));
        }
    }
    match count("Host") {
        0 | 1 => Ok(()),
        _ => Err(format!("{option}: a request has one Host")),
    }
}

/// The event is the body of its request (RFC 9110 §9.3 gives bodies of these methods no meaning).
fn check_method(method: &str) -> Result<(), String> {
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(format!("publish-method: {method:?} is no method"));
    }
    match ["GET", "HEAD", "TRACE", "CONNECT"].contains(&method) {
        true => Err(format!("publish-method: {method} has no body to carry an event")),
        false => Ok(()),
    }
}

/// What stands for the event in a template.
pub const DATA: &str = "{data}";

/// The longest event: what a subscriber is ready to keep of one that comes in pieces.
pub const DATA_BYTES_MAX: usize = 16 << 20;

const PROCESSES_MAX: usize = 250;
const PER_S_MIN: f64 = 0.001;
const PER_S_MAX: f64 = 1e7;
const COALESCE_US_MAX: u64 = 1_000_000;
const RCVBUF_BYTES_MAX: usize = 1 << 30;
const PIPELINE_MAX: usize = 1_000_000;
const NAP_MS_MAX: u64 = 86_400_000;
const SLOW_BYTES_MAX: u64 = 1 << 40;

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
        let most = u64::MAX;
        let (nap, slow) = (format!("nap:{most}"), format!("slow:{most}"));
        for text in ["", "nap", "nap:0", "nap:x", "slow:-1", "prompt:1", &nap, &slow] {
            assert!(text.parse::<Reader>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn connections_are_shared_out() {
        let plan = Plan { connections: 10, processes: 3, ..plan("http://h/") };
        assert_eq!([0, 1, 2].map(|nth| plan.share(nth)), [4, 3, 3]);
    }

    fn publish() -> Publish {
        Publish {
            url: "http://h/".into(),
            method: "POST".into(),
            fields: Vec::new(),
            template: DATA.into(),
            data_bytes: 100,
            pipeline: 1,
            pace: Pace::Round,
            events_max: None,
        }
    }

    #[test]
    fn what_an_open_loop_is_to_publish() {
        let check = |duration_ms, per_s, events_max, expected| {
            let publish = Publish { pace: Pace::Rate(per_s), events_max, ..publish() };
            let plan = Plan { duration_ms, publish: Some(publish), ..plan("http://h/") };
            assert_eq!(plan.planned(), Some(expected), "{per_s} for {duration_ms} ms");
        };
        check(1000, 100.0, None, 100);
        check(1001, 100.0, None, 101);
        check(300, 200.0, None, 60);
        check(1000, 3.0, None, 3);
        check(1000, 0.001, None, 1);
        check(0, 100.0, None, 0);
        check(1000, 100.0, Some(7), 7);
        check(86_400_000, 1e7, None, 864_000_000_000);
        assert_eq!(plan("http://h/").planned(), None);
        let round = Plan { publish: Some(publish()), ..plan("http://h/") };
        assert_eq!(round.planned(), None);
    }

    #[test]
    fn contradictions_are_named() {
        let publish = publish();
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
        for per_s in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-300] {
            check(with(Publish { pace: Pace::Rate(per_s), ..publish.clone() }), "rate: ");
        }
        for per_s in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, 1e-300] {
            check(Plan { connect_per_s: per_s, ..good.clone() }, "connect-rate: ");
            check(Plan { churn_per_s: per_s, ..good.clone() }, "churn: ");
        }
        check(Plan { coalesce_us: u64::MAX, ..good.clone() }, "coalesce: ");
        check(Plan { rcvbuf_bytes: usize::MAX, ..good.clone() }, "rcvbuf: ");
        check(Plan { connections: 1000, processes: 251, ..good.clone() }, "processes: ");
        check(with(Publish { data_bytes: DATA_BYTES_MAX + 1, ..publish.clone() }), "size: ");
        check(with(Publish { pipeline: 0, ..publish.clone() }), "pipeline: ");
        check(with(Publish { pipeline: usize::MAX, ..publish.clone() }), "pipeline: ");
        for method in ["", "G T", "GET", "HEAD", "TRACE"] {
            check(with(Publish { method: method.into(), ..publish.clone() }), "publish-method: ");
        }
        let fields = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| (name.to_string(), "x".into())).collect()
        };
        for names in [&["content-length"][..], &["Transfer-Encoding"], &["Host", "host"]] {
            check(Plan { fields: fields(names), ..good.clone() }, "header: ");
            check(with(Publish { fields: fields(names), ..publish.clone() }), "publish-header: ");
        }
    }
}
