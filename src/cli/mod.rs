//! Arguments become a run.
//!
//! Exit status: 0 done, 1 it failed, 2 it was not asked properly.

mod serve;
mod settings;

use clap::Command;
use std::process::ExitCode;

/// Why a command ends without having done what it was asked.
#[derive(Debug)]
enum Failure {
    /// The arguments or the configuration are wrong.
    Usage(String),
    /// It could not be done.
    Failed(String),
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let result = match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        _ => unreachable!("clap demands a subcommand that it knows"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => report(&why, 1),
        Err(Failure::Usage(why)) => report(&why, 2),
    }
}

fn report(why: &str, status: u8) -> ExitCode {
    eprintln!("pushv: {why}");
    ExitCode::from(status)
}

fn command() -> Command {
    Command::new("pushv")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
