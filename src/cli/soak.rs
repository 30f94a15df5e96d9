//! `pushv soak`: the two parts of `scripts/soak.sh` that are not a shell's work. Not for users.

use super::Failure;
use clap::{Arg, ArgMatches, Command, value_parser};
use pushv::client::url::Url;
use pushv::soak::record::Run;
use pushv::soak::sampler::{self, Plan};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

/// Describes the subcommand.
pub fn command() -> Command {
    let url = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("URL")
            .value_parser(Url::parse)
            .required(true)
            .help(help)
    };
    let number = |name: &'static str, help: &'static str| {
        let argument = Arg::new(name).long(name).value_name("N").required(true).help(help);
        argument.value_parser(value_parser!(u32).range(1..))
    };
    let sample = Command::new("sample")
        .about("Ask a server how it is until it is gone; a line of JSON each time")
        .args([number("pid", "The server's process"), url("admin", "Its admin listener")])
        .args([
            url("probe", "The topic to publish probes to"),
            number("every", "Seconds between samples"),
        ]);
    let judge = Command::new("judge")
        .about("Say whether a recorded run was good; exit status 1 if it was not")
        .arg(Arg::new("DIR").required(true).value_parser(value_parser!(PathBuf)));
    Command::new("soak")
        .hide(true)
        .about("Sample and judge hours under load; see scripts/soak.sh")
        .subcommand_required(true)
        .subcommands([sample, judge])
}

/// Runs it.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("sample", matches)) => sample(matches),
        Some(("judge", matches)) => judge(matches),
        _ => unreachable!("clap demands a subcommand that it knows"),
    }
}

fn sample(matches: &ArgMatches) -> Result<(), Failure> {
    let number = |name: &str| matches.get_one::<u32>(name).copied().unwrap_or(1);
    let missing = |name: &str| Failure::Usage(format!("--{name} is missing"));
    let url = |name: &str| matches.get_one::<Url>(name).cloned().ok_or_else(|| missing(name));
    let plan = Plan {
        pid: number("pid"),
        admin: url("admin")?,
        probe: url("probe")?,
        every: Duration::from_secs(number("every").into()),
    };
    sampler::run(&plan, io::stdout().lock()).map_err(|error| Failure::Failed(error.to_string()))
}

fn judge(matches: &ArgMatches) -> Result<(), Failure> {
    let directory = matches.get_one::<PathBuf>("DIR").cloned().unwrap_or_default();
    let run = Run::read(&directory).map_err(Failure::Failed)?;
    let shown = write!(io::stdout().lock(), "{run}");
    shown.map_err(|error| Failure::Failed(error.to_string()))?;
    match run.findings().iter().all(|finding| finding.passed) {
        true => Ok(()),
        false => Err(Failure::Silent), // the table has said it
    }
}
