//! The configuration file: TOML with a key for each knob, and `[topics.NAME]` with knobs that differ
//! for a topic.
//!
//! The table of knobs says what there is and reads the values; this module only finds them, and
//! says in which line something is wrong.

use super::knobs::{self, Scope};
use super::{Config, Overrides};
use toml::de::{DeTable, DeValue};

/// Sets in `config` what `text`, a configuration file, says.
///
/// # Errors
/// The first thing that is wrong, with the line where it stands.
pub fn read(config: &mut Config, text: &str) -> Result<(), String> {
    let table = DeTable::parse(text).map_err(|error| error.to_string().trim_end().to_string())?;
    for (key, value) in table.get_ref() {
        let line = text[..key.span().start].matches('\n').count() + 1;
        let named = |why: String| format!("line {line}: {why}");
        match (&**key.get_ref(), value.get_ref()) {
            (TOPICS, DeValue::Table(topics)) => {
                for (topic, knobs) in topics {
                    let line = text[..topic.span().start].matches('\n').count() + 1;
                    let named = |why: String| format!("line {line}: {why}");
                    let overrides = overrides(knobs.get_ref()).map_err(named)?;
                    config.topics.set(topic.get_ref(), overrides).map_err(named)?;
                }
            }
            (name, value) => {
                let set = plain(value).and_then(|value| knobs::find(name)?.set(config, &value));
                set.map_err(named)?;
            }
        }
    }
    Ok(())
}

/// The knobs of one topic.
fn overrides(table: &DeValue<'_>) -> Result<Overrides, String> {
    let DeValue::Table(table) = table else {
        return Err("wants [topics.NAME] with knobs under it".into());
    };
    let mut overrides = Overrides::new();
    for (key, value) in table {
        let knob = knobs::find(key.get_ref())?;
        if knob.scope != Scope::Topic {
            return Err(format!("{} cannot be set for a single topic", knob.name));
        }
        overrides.insert(knob.name, plain(value.get_ref())?);
    }
    Ok(overrides)
}

/// A value as the text that a flag would have.
fn plain(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Array(items) => {
            let items: Result<Vec<String>, String> =
                items.iter().map(|item| plain(item.get_ref())).collect();
            Ok(items?.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => Err("wants a plain value".into()),
    }
}

const TOPICS: &str = "topics";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::path::WritePath;

    fn config_of(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        read(&mut config, text).map(|()| config)
    }

    #[test]
    fn a_file_of_knobs() {
        let config = config_of(
            "# comment\nwrite_path = \"copy\"\nheartbeat_ms = 5_000\ntcp_nodelay = false\n\
             listen = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nadapt_grow = 1.5\n\
             [topics.\"room/1\"]\nflush_policy = \"linger:5\"\nso_sndbuf_bytes = 20000\n",
        )
        .unwrap();
        assert_eq!(config.delivery.write_path, WritePath::Copy);
        assert_eq!((config.times.heartbeat_ms, config.delivery.socket.nodelay), (5000, false));
        assert_eq!((config.listen.len(), config.adapt.grow), (2, 1.5));
        assert_eq!(config.topics.get("room/1").unwrap()["so_sndbuf_bytes"], "20000");
    }

    #[test]
    fn errors_name_their_line() {
        let check = |text: &str, expected: &str| {
            let why = config_of(text).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check("\nwrite_path = \"fast\"", "line 2: write_path: no such write path");
        check("writ_path = 1", "line 1: there is no knob \"writ_path\"; did you mean write_path?");
        check("a = ", "line 1");
        check("[topics.a]\ntopics_max = 1", "single topic");
        check("topics = 3", "line 1");
        check("[topics.\"\"]\noverrun = \"skip\"", "the topic has no name");
        check(&format!("[topics.{}]", "x".repeat(300)), "longer than 256 bytes");
        check("[write_path]\nx = 1", "plain value");
        check(
            "[topics.a]\noverrun = \"skip\"\n[topics.b]\noverrun = \"never\"",
            "line 3: topic \"b\": overrun",
        );
        let many: String =
            (0..10_001).map(|nth| format!("[topics.t{nth}]\noverrun = \"skip\"\n")).collect();
        check(&many, "10000 topics have knobs of their own already");
    }
}
