//! When a topic's subscribers are flushed.
//!
//! A policy trades delay for calls: what it holds back is sent later, together with what came
//! meanwhile. It never decides whether something is sent, and a subscriber that was blocked or
//! has just arrived is not held back by it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// When the events of a topic are handed to its subscribers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FlushPolicy {
    /// At once, within the publish.
    Event,
    /// At the end of the loop's turn: events that arrived together leave together.
    #[default]
    Turn,
    /// When so many bytes are pending, or the oldest pending event is so old. At least one of
    /// the two is set. Without an age, a topic that falls silent keeps its last events back: that
    /// is the buffered writer that nobody flushes, here to be measured, not to be used.
    Buffered {
        /// The number of pending bytes, chunk framing included.
        bytes: Option<u64>,
        /// The age.
        linger: Option<Duration>,
    },
    /// When as many bytes are pending as the [controller](crate::send::adapt) currently finds
    /// right, or after its linger time.
    Adaptive,
}

/// What is to be done about a topic with something pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Flush before anything else is published.
    AtOnce,
    /// Flush at the end of the turn.
    ThisTurn,
    /// Flush at this time, in nanoseconds of the server's clock, unless more comes before.
    At(u64),
    /// Flush when more has come.
    WhenMore,
}

impl FlushPolicy {
    /// When a topic is due that has had `pending_bytes` pending since `since_ns`. `adaptive` is
    /// what the controller has set.
    pub fn due(self, pending_bytes: u64, since_ns: u64, adaptive: AdaptiveBuffer) -> Due {
        let (bytes, linger) = match self {
            FlushPolicy::Event => return Due::AtOnce,
            FlushPolicy::Turn => return Due::ThisTurn,
            FlushPolicy::Buffered { bytes, linger } => (bytes, linger),
            FlushPolicy::Adaptive => (Some(adaptive.bytes), Some(adaptive.linger)),
        };
        if bytes.is_some_and(|bytes| pending_bytes >= bytes) {
            return Due::ThisTurn;
        }
        match linger {
            Some(linger) => Due::At(since_ns.saturating_add(linger.as_nanos() as u64)),
            None => Due::WhenMore,
        }
    }
}

/// The buffer that the policy [`FlushPolicy::Adaptive`] stands for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveBuffer {
    /// Flush when so many bytes are pending,
    pub bytes: u64,
    /// or when the oldest of them is so old.
    pub linger: Duration,
}

impl fmt::Display for FlushPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlushPolicy::Event => f.write_str("event"),
            FlushPolicy::Turn => f.write_str("turn"),
            FlushPolicy::Adaptive => f.write_str("adaptive"),
            FlushPolicy::Buffered { bytes, linger } => {
                if let Some(bytes) = bytes {
                    write!(f, "size:{bytes}")?;
                }
                if let Some(linger) = linger {
                    let comma = if bytes.is_some() { "," } else { "" };
                    write!(f, "{comma}linger:{}ms", linger.as_millis())?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for FlushPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<FlushPolicy, String> {
        match text {
            "event" => return Ok(FlushPolicy::Event),
            "turn" => return Ok(FlushPolicy::Turn),
            "adaptive" => return Ok(FlushPolicy::Adaptive),
            _ => {}
        }
        let (mut bytes, mut linger) = (None, None);
        for part in text.split(',') {
            match part.split_once(':') {
                Some(("size", size)) if bytes.is_none() => {
                    let size = size.parse().ok().filter(|&size: &u64| size > 0);
                    bytes = Some(size.ok_or("size: wants a number of bytes above 0")?);
                }
                Some(("linger", time)) if linger.is_none() => {
                    let ms = time.strip_suffix("ms").unwrap_or(time).parse().ok();
                    let ms = ms
                        .filter(|&ms: &u64| ms > 0)
                        .ok_or("linger: wants a number of milliseconds above 0")?;
                    linger = Some(Duration::from_millis(ms));
                }
                _ => return Err(SYNTAX.into()),
            }
        }
        Ok(FlushPolicy::Buffered { bytes, linger })
    }
}

const SYNTAX: &str = "no such flush policy; there are event, turn, size:BYTES, linger:MS, \
                      size:BYTES,linger:MS, adaptive";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_back() {
        for text in ["event", "turn", "adaptive", "size:4096", "linger:5ms", "size:1,linger:20ms"] {
            assert_eq!(text.parse::<FlushPolicy>().unwrap().to_string(), text);
        }
        assert_eq!(
            "linger:5,size:9".parse::<FlushPolicy>().unwrap().to_string(),
            "size:9,linger:5ms"
        );
        for text in [
            "",
            "size",
            "size:",
            "size:0",
            "size:-1",
            "linger:0",
            "linger:5s",
            "size:1,size:2",
            "turn,event",
        ] {
            assert!(text.parse::<FlushPolicy>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn due() {
        let adaptive = AdaptiveBuffer { bytes: 50, linger: Duration::from_nanos(7) };
        let check = |policy: &str, pending, expected| {
            let policy: FlushPolicy = policy.parse().unwrap();
            assert_eq!(policy.due(pending, 1000, adaptive), expected, "{policy} with {pending}");
        };
        check("event", 1, Due::AtOnce);
        check("turn", 1, Due::ThisTurn);
        check("size:10", 9, Due::WhenMore);
        check("size:10", 10, Due::ThisTurn);
        check("linger:1", 1_000_000, Due::At(1_001_000));
        check("size:10,linger:1", 9, Due::At(1_001_000));
        check("size:10,linger:1", 10, Due::ThisTurn);
        check("adaptive", 49, Due::At(1007));
        check("adaptive", 50, Due::ThisTurn);
    }
}
