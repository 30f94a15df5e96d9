//! What a server says that a subscriber has lost.
//!
//! A notice such as pushv's `gap` event makes a loss an honest one, if it says what was lost. What
//! it says is held against what the subscriber has seen: here as far as the notice alone can be
//! judged, in [`checker`](super::checker) as soon as the next event has come.

use crate::wire::target::{self, Plus};
use serde::Deserialize;
use serde_json::Value;

/// A notice; `None` stands for what it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// The topic that events were lost of.
    pub topic: Option<String>,
    /// The id of the last event before the loss.
    pub from: Option<String>,
    /// The id of the first event after it.
    pub to: Option<String>,
    /// How many events were lost.
    pub lost: Option<u64>,
}

impl Notice {
    /// Reads the data of an event named `gap`. What is no JSON object is a notice that says
    /// nothing but that something was lost.
    ///
    /// # Errors
    /// What is wrong with a member of the object.
    pub fn read(data: &[u8]) -> Result<Notice, String> {
        match serde_json::from_slice(data) {
            Ok(object @ Value::Object(_)) => {
                serde_json::from_value(object).map_err(|error| error.to_string())
            }
            _ => Ok(Notice::default()),
        }
    }
}

/// The topics of a run, as far as its URLs have the form of pushv's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics {
    /// Those that are subscribed to.
    subscribed: Option<Vec<String>>,
    /// The one that is published to.
    published: Option<String>,
}

/// Whose loss a notice tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// It may be one of this run's events.
    Ours,
    /// It is one of another topic's, to which this run does not publish.
    Others,
    /// It is one of a topic that was not subscribed to.
    Nobodys,
}

impl Topics {
    /// Of a run that subscribes with this request target, and publishes with that one.
    pub fn of(subscribed: &str, published: Option<&str>) -> Topics {
        let published = published.and_then(topics).filter(|topics| topics.len() == 1);
        Topics {
            subscribed: topics(subscribed),
            published: published.and_then(|mut topics| topics.pop()),
        }
    }

    /// Whose loss it is that a notice tells of with this topic.
    pub fn whose(&self, topic: Option<&str>) -> Whose {
        let Some(topic) = topic else { return Whose::Ours };
        match (&self.subscribed, &self.published) {
            (Some(subscribed), _) if !subscribed.iter().any(|one| one == topic) => Whose::Nobodys,
            (_, Some(published)) if published != topic => Whose::Others,
            _ => Whose::Ours,
        }
    }
}

/// The topics that a target names: `/events/TOPIC`, or `/events?topic=A&topic=B`.
fn topics(target: &str) -> Option<Vec<String>> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path.strip_prefix("/events") {
        Some("") => {
            let topics = target::query(query).filter_map(Result::ok);
            let topics = topics.filter(|(name, _)| name == "topic");
            let topics: Vec<String> = topics.map(|(_, topic)| topic.into_owned()).collect();
            (!topics.is_empty()).then_some(topics)
        }
        Some(rest) => {
            let topic = target::decode(rest.strip_prefix('/')?, Plus::IsPlus)?;
            Some(vec![topic.into_owned()])
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read() {
        let text = |text: &str| Some(text.to_string());
        let check = |data: &str, expected: Notice| {
            assert_eq!(Notice::read(data.as_bytes()), Ok(expected), "{data}");
        };
        check(
            r#"{"topic":"a","from":"e-3","to":"e-9","lost":5,"reason":"overrun"}"#,
            Notice { topic: text("a"), from: text("e-3"), to: text("e-9"), lost: Some(5) },
        );
        check(r#"{"from":null,"lost":null}"#, Notice::default());
        for vague in ["", "some events were lost", "7", "[]"] {
            check(vague, Notice::default());
        }
        for wrong in [r#"{"lost":-1}"#, r#"{"lost":"many"}"#, r#"{"from":7}"#] {
            assert!(Notice::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn topics_are_told_apart() {
        let check = |subscribed: &str, published: Option<&str>, topic: &str, expected: Whose| {
            let topics = Topics::of(subscribed, published);
            assert_eq!(topics.whose(Some(topic)), expected, "{topics:?}: {topic}");
            assert_eq!(topics.whose(None), Whose::Ours);
        };
        check("/events/a%20b?x=y", Some("/events/a%20b"), "a b", Whose::Ours);
        check("/events/a", Some("/events/a"), "b", Whose::Nobodys);
        let two = "/events?topic=a&x=y&topic=b";
        check(two, Some("/events/a"), "a", Whose::Ours);
        check(two, Some("/events/a"), "b", Whose::Others);
        check(two, Some("/publish"), "b", Whose::Ours);
        check(two, Some("/events/a"), "c", Whose::Nobodys);
        check("/stream", Some("/stream"), "anything", Whose::Ours);
        check("/events", None, "anything", Whose::Ours);
        check("/eventsource", None, "anything", Whose::Ours);
    }
}
