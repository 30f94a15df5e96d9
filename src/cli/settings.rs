//! Flags, environment, configuration file and defaults become one [`Config`].
//!
//! In that order of precedence, knob by knob. The table of knobs says what there is; this module
//! only says where a value comes from.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};
use pushv::config::knobs::{self, KNOBS, Shown};
use pushv::config::{Config, Secret, file};
use std::path::{Path, PathBuf};

/// Where settings come from, so that they can be read again.
#[derive(Debug, Clone)]
pub struct Sources {
    file: Option<PathBuf>,
    /// What flags and variables set: these stay as they are when the file is read again.
    fixed: Vec<(&'static str, String)>,
    /// Files of tokens that a flag names, so that the variable with the token itself is not asked.
    tokens_by_flag: Vec<&'static str>,
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
            tokens_by_flag: [PUBLISH_TOKEN, ADMIN_TOKEN]
                .into_iter()
                .map(|(file, _)| file)
                .filter(|file| matches.value_source(file) == Some(ValueSource::CommandLine))
                .collect(),
        }
    }

    /// Sets what neither a flag nor the file can change: what this process was started with.
    pub fn fix(&mut self, name: &'static str, value: String) {
        self.fixed.push((name, value));
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
            file::read(&mut config, &text).map_err(named)?;
        }
        for (name, value) in &self.fixed {
            let knob = knobs::find(name)?;
            knob.set(&mut config, value)
                .map_err(|why| format!("{} or {}: {why}", knob.flag(), knob.variable()))?;
        }
        config.publish_token = self.token(PUBLISH_TOKEN, config.publish_token_file.as_deref())?;
        config.admin_token = self.token(ADMIN_TOKEN, config.admin_token_file.as_deref())?;
        config.validate()?;
        Ok(config)
    }

    /// A token: the environment's, or the first line of the file. What is wrong with a file is said
    /// without a byte of it.
    fn token(
        &self,
        (knob, variable): (&'static str, &str),
        file: Option<&Path>,
    ) -> Result<Option<Secret>, String> {
        let variable =
            std::env::var(variable).ok().filter(|_| !self.tokens_by_flag.contains(&knob));
        if let Some(token) = variable.filter(|token| !token.trim().is_empty()) {
            return Ok(Some(Secret::new(token.trim())));
        }
        let Some(file) = file else { return Ok(None) };
        let named = |why: &dyn std::fmt::Display| format!("{knob} {}: {why}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| named(&error))?;
        match text.lines().next().map(str::trim) {
            Some(token) if !token.is_empty() => Ok(Some(Secret::new(token))),
            _ => Err(named(&"its first line is empty")),
        }
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

/// The header field by which the environment's token opens an admin listener, if there is one.
pub fn admin_fields() -> Vec<(String, String)> {
    let token = std::env::var(ADMIN_TOKEN.1).unwrap_or_default();
    match token.trim() {
        "" => Vec::new(),
        token if token.chars().any(char::is_control) => Vec::new(),
        token => vec![("Authorization".into(), format!("Bearer {token}"))],
    }
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

const CONFIG: &str = "config";
/// Knobs that name files of tokens, and variables with the tokens themselves. A token is no flag: a
/// list of processes shows arguments.
const PUBLISH_TOKEN: (&str, &str) = ("publish_token_file", "PUSHV_PUBLISH_TOKEN");
const ADMIN_TOKEN: (&str, &str) = ("admin_token_file", "PUSHV_ADMIN_TOKEN");
