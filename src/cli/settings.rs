//! Flags, environment, configuration file and defaults become one [`Config`].
//!
//! In that order of precedence, knob by knob. The table of knobs says what there is; this module
//! only says where a value comes from.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};
use pushv::config::knobs::{self, KNOBS, Scope, Shown};
use pushv::config::{Config, Overrides, Secret};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where settings come from, so that they can be read again.
#[derive(Debug, Clone)]
pub struct Sources {
    file: Option<PathBuf>,
    /// What flags and variables set: these stay as they are when the file is read again.
    fixed: Vec<(&'static str, String)>,
    /// A flag names the file of the token, so that the variable with the token itself is not asked.
    token_by_flag: bool,
}

impl Sources {
    /// Notes what the command line and the environment say.
    pub fn new(matches: &ArgMatches) -> Sources {
        let given = |name: &str| {
            let source = matches.value_source(name);
            matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        let value = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
        Sources {
            file: matches.get_one::<PathBuf>(CONFIG).cloned(),
            fixed: KNOBS
                .iter()
                .filter(|knob| given(knob.name))
                .map(|knob| (knob.name, value(knob.name)))
                .collect(),
            token_by_flag: matches.value_source(TOKEN_FILE) == Some(ValueSource::CommandLine),
        }
    }

    /// Reads the configuration file, if there is one, and puts all settings together.
    ///
    /// # Errors
    /// The first thing that is wrong, with the place where it stands.
    pub fn read(&self) -> Result<Config, String> {
        let mut config = Config::default();
        if let Some(path) = &self.file {
            let named = |why: String| format!("{}: {why}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
            read_file(&mut config, &text).map_err(named)?;
        }
        for (name, value) in &self.fixed {
            let knob = knobs::find(name)?;
            knob.set(&mut config, value)
                .map_err(|why| format!("{} or {}: {why}", knob.flag(), knob.variable()))?;
        }
        let variable = std::env::var(TOKEN_VARIABLE).ok().filter(|_| !self.token_by_flag);
        config.publish_token = token(variable, config.publish_token_file.as_deref())?;
        config.validate()?;
        Ok(config)
    }
}

/// The arguments from which [`Sources`] are made.
pub fn arguments() -> impl Iterator<Item = Arg> {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .env("PUSHV_CONFIG")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("TOML file of knobs, and of [topics.NAME] with knobs that differ for a topic");
    std::iter::once(config).chain(KNOBS.iter().map(argument))
}

fn argument(knob: &'static knobs::Knob) -> Arg {
    let default = knob.show(&Config::default());
    let shown = default.to_string();
    let default_text =
        if shown.is_empty() { String::new() } else { format!(" [default: {shown}]") };
    let argument = Arg::new(knob.name)
        .long(knob.flag().trim_start_matches('-').to_string())
        .env(knob.variable())
        .hide_env_values(true)
        .help_heading(knob.group.title())
        .help(format!("{}{default_text}", knob.help))
        .action(ArgAction::Set);
    match default {
        Shown::Bool(_) => argument.num_args(0..=1).default_missing_value("true").value_name("BOOL"),
        Shown::Int(_) | Shown::Float(_) => argument.value_name("N"),
        Shown::Text(_) => argument.value_name("VALUE"),
    }
}

fn read_file(config: &mut Config, text: &str) -> Result<(), String> {
    let table = DeTable::parse(text).map_err(|error| error.to_string().trim_end().to_string())?;
    for (key, value) in table.get_ref() {
        let line = text[..key.span().start].matches('\n').count() + 1;
        let named = |why: String| format!("line {line}: {why}");
        match (&**key.get_ref(), value.get_ref()) {
            (TOPICS, DeValue::Table(topics)) => {
                for (topic, knobs) in topics {
                    let overrides = overrides(knobs.get_ref()).map_err(named)?;
                    config.topics.insert(topic.get_ref().to_string(), overrides);
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

/// The publishers' token: the environment's, or the first line of the file.
fn token(variable: Option<String>, file: Option<&Path>) -> Result<Option<Secret>, String> {
    if let Some(token) = variable.filter(|token| !token.trim().is_empty()) {
        return Ok(Some(Secret::new(token.trim())));
    }
    let Some(file) = file else { return Ok(None) };
    let named =
        |why: &dyn std::fmt::Display| format!("publish_token_file {}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| named(&error))?;
    match text.lines().next().map(str::trim) {
        Some(token) if !token.is_empty() => Ok(Some(Secret::new(token))),
        _ => Err(named(&"its first line is empty")),
    }
}

const CONFIG: &str = "config";
const TOPICS: &str = "topics";
const TOKEN_FILE: &str = "publish_token_file";
/// Not a flag: a process list shows arguments.
const TOKEN_VARIABLE: &str = "PUSHV_PUBLISH_TOKEN";

#[cfg(test)]
mod tests {
    use super::*;
    use pushv::send::path::WritePath;

    fn read(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        read_file(&mut config, text).map(|()| config)
    }

    #[test]
    fn a_file_of_knobs() {
        let config = read(
            "# comment\nwrite_path = \"copy\"\nheartbeat_ms = 5_000\ntcp_nodelay = false\n\
             listen = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nadapt_grow = 1.5\n\
             [topics.\"room/1\"]\nflush_policy = \"linger:5\"\nso_sndbuf_bytes = 20000\n",
        )
        .unwrap();
        assert_eq!(config.delivery.write_path, WritePath::Copy);
        assert_eq!((config.times.heartbeat_ms, config.delivery.socket.nodelay), (5000, false));
        assert_eq!((config.listen.len(), config.adapt.grow), (2, 1.5));
        assert_eq!(config.topics["room/1"]["so_sndbuf_bytes"], "20000");
    }

    #[test]
    fn errors_name_their_line() {
        let check = |text: &str, expected: &str| {
            let why = read(text).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check("\nwrite_path = \"fast\"", "line 2: write_path: no such write path");
        check("writ_path = 1", "line 1: there is no knob \"writ_path\"; did you mean write_path?");
        check("a = ", "line 1");
        check("[topics.a]\ntopics_max = 1", "single topic");
        check("topics = 3", "line 1");
        check("[write_path]\nx = 1", "plain value");
    }
}
