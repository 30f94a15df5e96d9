//! Arguments become a run.
//!
//! Exit status: 0 done, 1 it failed or a check did, 2 it was not asked properly, 130 interrupted.

mod lab;
mod load;
mod logging;
mod reload;
mod serve;
mod service;
mod settings;
mod soak;
mod terminal;
mod top;

use clap::Command;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Why a command ends without having done what it was asked.
#[derive(Debug)]
enum Failure {
    /// The arguments or the configuration are wrong.
    Usage(String),
    /// It could not be done.
    Failed(String),
    /// The same, and it has been said already.
    Silent,
    /// Its user has ended it.
    Interrupted(String),
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let result = match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("lab", matches)) => lab::run(matches),
        Some((lab::PROBE, _)) => lab::run_process(lab::PROBE),
        Some((lab::BARE, _)) => lab::run_process(lab::BARE),
        Some(("load", matches)) => load::run(matches),
        Some(("load-worker", _)) => load::run_worker(),
        Some(("top", matches)) => top::run(matches),
        Some(("soak", matches)) => soak::run(matches),
        _ => unreachable!("clap demands a subcommand that it knows"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => report(&why, 1),
        Err(Failure::Usage(why)) => report(&why, 2),
        Err(Failure::Silent) => ExitCode::from(1),
        Err(Failure::Interrupted(why)) => report(&why, 130),
    }
}

fn report(why: &str, status: u8) -> ExitCode {
    note(why);
    ExitCode::from(status)
}

/// Says something on standard error, if it can be heard: the terminal may have been closed, or the
/// program that reads may have ended, and neither is a reason to panic as `eprintln!` does.
fn note(text: impl Display) {
    let _unheard = writeln!(io::stderr(), "pushv: {text}");
}

fn command() -> Command {
    Command::new("pushv")
        .version(format!(
            "{} ({})",
            env!("CARGO_PKG_VERSION"),
            pushv::COMMIT.unwrap_or("commit unknown")
        ))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(lab::command())
        .subcommands(lab::process_commands())
        .subcommand(load::command())
        .subcommand(load::worker_command())
        .subcommand(top::command())
        .subcommand(soak::command())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
