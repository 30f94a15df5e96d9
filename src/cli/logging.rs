//! The log of `pushv serve`: what is logged, and that writing it never stops the server.

use env_logger::{Builder, Target, WriteStyle};
use log::LevelFilter;
use pushv::observe::outlet::Outlet;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _};
use std::panic;
use std::sync::Mutex;

/// Starts logging to standard error what `filter` lets through. A line that standard error does not
/// take at once is dropped and counted.
///
/// # Errors
/// What is wrong with `filter`.
pub fn start(filter: &str) -> Result<(), String> {
    check(filter)?;
    let failed = |error: io::Error| format!("standard error: {error}");
    let outlet = Outlet::new(io::stderr()).map_err(failed)?;
    let style = if wants_colours() { WriteStyle::Always } else { WriteStyle::Never };
    Builder::new()
        .parse_filters(filter)
        .write_style(style)
        .target(Target::Pipe(Box::new(outlet)))
        .init();
    log_panics().map_err(failed)
}

/// Has panics told in the same way. The standard library's hook waits for standard error, and a
/// server that waits instead of ending is not started again.
fn log_panics() -> io::Result<()> {
    // Not the logger's: the panic may have come from there.
    let outlet = Mutex::new(Outlet::new(io::stderr())?);
    panic::set_hook(Box::new(move |panic| {
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => format!("{backtrace}\n"),
            _ => String::new(),
        };
        if let Ok(mut outlet) = outlet.try_lock() {
            outlet.line(format!("[ERROR pushv] {panic}\n{backtrace}").as_bytes());
        }
    }));
    Ok(())
}

/// Whether standard error is a terminal that shows colours, and its user wants them
/// (<https://no-color.org>).
fn wants_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stderr().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|terminal| terminal != "dumb")
}

/// Whether each part of a filter can let something through. To `env_logger` a misspelt level is the
/// name of a module that logs nothing.
fn check(filter: &str) -> Result<(), String> {
    // Behind a slash stands a pattern for the text of lines.
    let parts = filter.split('/').next().unwrap_or_default();
    let mut parts = parts.split(',').map(str::trim).filter(|part| !part.is_empty()).peekable();
    if parts.peek().is_none() {
        return Err(format!("{NAMES}: {filter:?} names no level; there is {LEVELS}"));
    }
    parts.try_for_each(|part| {
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module.trim()), level.trim()),
            None if is_level(part) => (None, part),
            None => (Some(part), ""),
        };
        if let Some(module) = module.filter(|module| !is_module(module)) {
            return Err(format!(
                "{NAMES}: {module:?} is no level ({LEVELS}) and no module that logs ({})",
                MODULES.join(", ")
            ));
        }
        match level.is_empty() || is_level(level) {
            true => Ok(()),
            false => Err(format!("{NAMES}: {level:?} is no level; there is {LEVELS}")),
        }
    })
}

fn is_level(text: &str) -> bool {
    text.parse::<LevelFilter>().is_ok()
}

/// Whether `name` is a module that logs, one inside it, or one around it.
fn is_module(name: &str) -> bool {
    let inside = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    MODULES.iter().any(|module| inside(name, module) || inside(module, name))
}

const NAMES: &str = "--log or PUSHV_LOG";
const LEVELS: &str = "off, error, warn, info, debug, trace";
const MODULES: &[&str] = &["pushv::cli", "pushv::feed", "pushv::reactor", "pushv::server"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn filters() {
        for good in [
            "info",
            "DEBUG",
            "off",
            "pushv",
            "pushv=trace",
            "info,pushv::server=debug",
            "warn, pushv::reactor::acceptor",
            "pushv::server::flush=trace",
            "info/flush",
            "info,",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let refused = |bad: &str, expected: &str| {
            let why = check(bad).unwrap_err();
            assert!(why.starts_with("--log or PUSHV_LOG: ") && why.contains(expected), "{why}");
        };
        refused("verbos", "\"verbos\" is no level (off, error, warn, info, debug, trace)");
        refused("info,pushv::servr=debug", "\"pushv::servr\" is no level");
        refused("push=debug", "no module that logs (pushv::cli, pushv::feed");
        refused("pushv::server=loud", "\"loud\" is no level");
        refused("pushv=debug=info", "\"debug=info\" is no level");
        refused("", "names no level");
        refused(" , ", "names no level");
    }

    /// The list of modules is that of the sources which `pushv serve` is made of.
    #[test]
    fn the_modules_that_log() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for entry in std::fs::read_dir(&root).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let logs = path.is_dir() && has_a_log_call(&path);
            // What is part of other commands alone.
            if ["client", "lab", "load", "soak", "testing"].contains(&&*name) {
                continue;
            }
            assert_eq!(logs, MODULES.contains(&&*format!("pushv::{name}")), "{name}");
        }
    }

    fn has_a_log_call(folder: &Path) -> bool {
        std::fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            match std::fs::read_to_string(&path) {
                Ok(source) => CALLS.iter().any(|call| source.contains(call)),
                Err(_) => path.is_dir() && has_a_log_call(&path),
            }
        })
    }

    const CALLS: [&str; 5] =
        ["log::error!", "log::warn!", "log::info!", "log::debug!", "log::trace!"];
}
