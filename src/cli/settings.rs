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
        if !self.tokens_by_flag.contains(&knob)
            && let Some(token) = std::env::var_os(variable)
        {
            let token = token.to_str().ok_or("it is not UTF-8").and_then(secret);
            return token.map(Some).map_err(|why| {
                format!("{variable}: {why}. Give it the token, or unset it to have no token")
            });
        }
        let Some(file) = file else { return Ok(None) };
        let named = |why: &dyn std::fmt::Display| format!("{knob} {}: {why}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| named(&error))?;
        let token = secret(text.lines().next().unwrap_or_default());
        token.map(Some).map_err(|why| named(&format!("its first line: {why}")))
    }
}

/// The token in `text`. What no request can present is refused: nobody would get in, and for an empty
/// one everybody would.
fn secret(text: &str) -> Result<Secret, &'static str> {
    let token = text.trim();
    match token.is_empty() {
        true => Err("the token is empty"),
        // RFC 6750 §2.1 permits fewer characters still.
        false if !token.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            Err("the token holds a character that is not printable ASCII (a byte order mark?)")
        }
        false => Ok(Secret::new(token)),
    }
}

/// Refuses variables that look like settings and are none: a misspelt token would leave the hub
/// open.
///
/// # Errors
/// The first of them, and what may have been meant.
pub fn check_variables() -> Result<(), String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.into_iter().try_for_each(|name| check_variable(&name))
}

fn check_variable(name: &str) -> Result<(), String> {
    let Some(own) = name.strip_prefix("PUSHV_") else { return Ok(()) };
    let knobs = KNOBS.iter().map(knobs::Knob::variable);
    let known: Vec<String> = knobs.chain(OTHER_VARIABLES.iter().map(ToString::to_string)).collect();
    if known.iter().any(|known| known == name) || is_of_kubernetes(own) {
        return Ok(());
    }
    let names = known.iter().filter_map(|known| known.strip_prefix("PUSHV_"));
    let hint = match knobs::nearest(own, names) {
        Some(nearest) => format!("Did you mean PUSHV_{nearest}?"),
        None => "`pushv serve --help` lists the settings.".into(),
    };
    Err(format!("the environment variable {name} is no setting. {hint} Or else unset it"))
}

/// Kubernetes describes each service to every container by such variables. One that is named
/// `pushv` makes `PUSHV_SERVICE_HOST`, `PUSHV_PORT_8080_TCP_ADDR`, and so on.
fn is_of_kubernetes(own: &str) -> bool {
    let after = |word: &str| {
        let at = own.find(word).filter(|&at| at == 0 || own[..at].ends_with('_'));
        at.map(|at| &own[at + word.len()..])
    };
    let digits = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    after("SERVICE_HOST").is_some_and(str::is_empty)
        || after("SERVICE_PORT").is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        || after("PORT")
            .is_some_and(|rest| rest.is_empty() || rest.strip_prefix('_').is_some_and(digits))
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
/// Variables of this project that are not knobs.
const OTHER_VARIABLES: &[&str] = &[
    "PUSHV_CONFIG",
    "PUSHV_LOG",
    PUBLISH_TOKEN.1,
    ADMIN_TOKEN.1,
    // Of `pushv top`, and of the tests.
    "PUSHV_TOP_ADMIN",
    "PUSHV_SEED",
    "PUSHV_SEEDS",
    "PUSHV_UPDATE",
];
/// Knobs that name files of tokens, and variables with the tokens themselves. A token is no flag: a
/// list of processes shows arguments.
const PUBLISH_TOKEN: (&str, &str) = ("publish_token_file", "PUSHV_PUBLISH_TOKEN");
const ADMIN_TOKEN: (&str, &str) = ("admin_token_file", "PUSHV_ADMIN_TOKEN");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_no_settings() {
        for good in [
            "PATH",
            "PUSHV",
            "PUSHVX_Y",
            "PUSHV_HEARTBEAT_MS",
            "PUSHV_PUBLISH_TOKEN",
            "PUSHV_ADMIN_TOKEN_FILE",
            "PUSHV_LOG",
            "PUSHV_SEED",
            "PUSHV_SERVICE_HOST",
            "PUSHV_SERVICE_PORT",
            "PUSHV_SERVICE_PORT_HTTP",
            "PUSHV_PORT",
            "PUSHV_PORT_8080_TCP_ADDR",
            "PUSHV_MAIN_SERVICE_HOST",
            "PUSHV_MAIN_PORT_8080_TCP",
        ] {
            assert_eq!(check_variable(good), Ok(()), "{good}");
        }
        let refused = |name: &str, hint: &str| {
            let why = check_variable(name).unwrap_err();
            assert!(why.contains(name) && why.contains(hint), "{why}");
        };
        refused("PUSHV_PUBLISH_TOKN", "Did you mean PUSHV_PUBLISH_TOKEN?");
        refused("PUSHV_PUBLISHTOKEN", "Did you mean PUSHV_PUBLISH_TOKEN?");
        refused("PUSHV_ADMIN_TOKENS", "Did you mean PUSHV_ADMIN_TOKEN?");
        refused("PUSHV_HEARTBEATS", "Did you mean PUSHV_HEARTBEAT");
        refused("PUSHV_TOKEN", "Did you mean PUSHV_ADMIN_TOKEN?");
        refused("PUSHV_", "pushv serve --help");
        refused("PUSHV_EXPORT_8", "pushv serve --help");
        refused("PUSHV_THE_WEATHER_TOMORROW_MORNING", "pushv serve --help");
    }

    #[test]
    fn tokens() {
        assert_eq!(secret(" abc \n"), Ok(Secret::new("abc")));
        for bad in ["", " ", "\t\n"] {
            assert_eq!(secret(bad), Err("the token is empty"));
        }
        for bad in ["\u{feff}abc", "a\0bc", "a\tb", "abc\u{7f}", "pässword"] {
            assert!(secret(bad).unwrap_err().contains("printable ASCII"), "{bad:?}");
        }
    }
}
