//! `pushv lab`, and the processes that it measures with.

use super::terminal::Terminal;
use super::{Failure, note};
use clap::{Arg, ArgAction, ArgMatches, Command as Subcommand, value_parser};
use pushv::lab::experiments::{self, Experiment};
use pushv::lab::method::cell::Stop;
use pushv::lab::method::record::{Method, Profile, Record};
use pushv::lab::method::{environment, network, store};
use pushv::lab::report;
use pushv::lab::report::compare::Changes;
use pushv::lab::run::{Lab, Processors, Watch};
use pushv::wire::date::HttpDate;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The process with the subscribers.
pub const PROBE: &str = pushv::lab::rig::block::PROBE;
/// The process that makes system calls without a server.
pub const BARE: &str = pushv::lab::bare::bench::SUBCOMMAND;

/// Describes the subcommand.
pub fn command() -> Subcommand {
    let directory = |name: &'static str, help: &'static str| {
        let parser = value_parser!(PathBuf);
        Arg::new(name).required(true).value_name("DIR").value_parser(parser).help(help)
    };
    Subcommand::new("lab")
        .about("Measure what the decisions of the write path cost, on this machine")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Subcommand::new("list").about("List the experiments").arg(json()))
        .subcommand(
            Subcommand::new("run")
                .about("Carry out experiments")
                .arg(
                    Arg::new("experiments")
                        .required(true)
                        .num_args(1..)
                        .value_name("NAME")
                        .help("Their names, as `pushv lab list` has them"),
                )
                .args(run_arguments())
                .after_help(EXIT),
        )
        .subcommand(
            Subcommand::new("all")
                .about("Carry out all experiments")
                .args(run_arguments())
                .after_help(EXIT),
        )
        .subcommand(
            Subcommand::new("report")
                .about("Make the report of records again")
                .arg(directory("dir", "Where the records are"))
                .arg(json()),
        )
        .subcommand(
            Subcommand::new("compare")
                .about("Say what has changed between two sets of records")
                .arg(directory("before", "The records from before"))
                .arg(directory("after", "The records from after"))
                .arg(json())
                .after_help(
                    "Exit status: 0 nothing is worse by more than the threshold; 1 something is; \
                     2 nothing could be compared, or wrong usage.",
                ),
        )
}

fn run_arguments() -> Vec<Arg> {
    vec![
        Arg::new("quick").long("quick").action(ArgAction::SetTrue)
            .help("Half a minute: fewer cells, fewer rounds, wider intervals"),
        // The size in which the tests carry out every experiment.
        Arg::new("smallest").long("smallest").action(ArgAction::SetTrue).hide(true).conflicts_with("quick"),
        Arg::new("out").long("out").value_name("DIR").value_parser(value_parser!(PathBuf))
            .help("Where records and report go [default: lab-results/DATE]. What a run that was \
                   interrupted has left there is not measured again"),
        Arg::new("seed").long("seed").value_name("N").value_parser(value_parser!(u64))
            .help("From which the order of the blocks is drawn [default: the time]"),
        Arg::new("shared-network").long("shared-network").action(ArgAction::SetTrue)
            .help("Measure on the machine's own loopback rather than on a private one with an MTU of 1500 bytes"),
        json(),
    ]
}

fn json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON")
}

/// The processes' side: not for users.
pub fn process_commands() -> [Subcommand; 2] {
    [PROBE, BARE].map(|name| {
        Subcommand::new(name)
            .hide(true)
            .about("A process of `pushv lab`; reads its orders from standard input")
    })
}

/// Runs such a process.
pub fn run_process(name: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Failed(error.to_string());
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    let run = if name == PROBE { pushv::lab::rig::probe::run } else { pushv::lab::bare::run };
    run(control).map_err(Failure::Failed)
}

/// Runs the subcommand.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("list", matches)) => list(matches.get_flag("json")),
        Some(("run", matches)) => {
            let names: Vec<&String> =
                matches.get_many("experiments").into_iter().flatten().collect();
            let chosen = names.into_iter().map(|name| find(name)).collect::<Result<_, _>>()?;
            measure(chosen, matches)
        }
        Some(("all", matches)) => measure(experiments::ALL.to_vec(), matches),
        Some(("report", matches)) => {
            let directory = directory(matches, "dir");
            publish(&directory, matches.get_flag("json"))
        }
        Some(("compare", matches)) => compare(matches),
        _ => unreachable!("clap demands a subcommand that it knows"),
    }
}

fn directory(matches: &ArgMatches, name: &str) -> PathBuf {
    matches.get_one::<PathBuf>(name).cloned().unwrap_or_default()
}

fn find(name: &str) -> Result<&'static dyn Experiment, Failure> {
    experiments::find(name).ok_or_else(|| {
        let names: Vec<&str> = experiments::ALL.iter().map(|one| one.name()).collect();
        Failure::Usage(format!("there is no experiment {name:?}; there are {}", names.join(", ")))
    })
}

fn list(json: bool) -> Result<(), Failure> {
    let estimate = |experiment: &dyn Experiment, profile| -> Duration {
        experiment.groups(profile).iter().map(|group| group.estimate()).sum()
    };
    let mut text = String::new();
    let mut values = Vec::new();
    for &experiment in experiments::ALL {
        let [quick, full] =
            [Profile::Quick, Profile::Full].map(|profile| estimate(experiment, profile));
        let (name, title, question) =
            (experiment.name(), experiment.title(), experiment.question());
        values.push(serde_json::json!({
            "name": name, "title": title, "question": question,
            "quick_s": quick.as_secs_f64(), "full_s": full.as_secs_f64(),
            "unavailable": experiment.unavailable(),
        }));
        let effort = match experiment.unavailable() {
            Some(why) => why,
            None => format!("about {} with --quick, {} without", about(quick), about(full)),
        };
        text += &format!("{name}: {title} ({effort})\n{}\n", wrapped(question));
    }
    let text = if json { format!("{:#}\n", serde_json::Value::from(values)) } else { text };
    print(&text)
}

/// A duration that nobody will hold us to.
fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

/// A paragraph in lines, indented.
fn wrapped(paragraph: &str) -> String {
    let mut text = String::new();
    let mut column = LINE;
    for word in paragraph.split_whitespace() {
        if column + 1 + word.chars().count() > LINE {
            text += if text.is_empty() { "    " } else { "\n    " };
            column = 4;
        } else {
            text.push(' ');
            column += 1;
        }
        text += word;
        column += word.chars().count();
    }
    text + "\n"
}

fn print(text: &str) -> Result<(), Failure> {
    let written = io::stdout().lock().write_all(text.as_bytes());
    match written {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::Failed(error.to_string())),
    }
}

/// Carries out experiments, after the rig has been held against itself.
fn measure(chosen: Vec<&dyn Experiment>, matches: &ArgMatches) -> Result<(), Failure> {
    let profile = match (matches.get_flag("smallest"), matches.get_flag("quick")) {
        (true, _) => Profile::Smallest,
        (_, true) => Profile::Quick,
        _ => Profile::Full,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = matches.get_one("seed").copied().unwrap_or(now.as_nanos() as u64);
    let out = matches.get_one::<PathBuf>("out").cloned();
    let out = out.unwrap_or_else(|| PathBuf::from(format!("lab-results/{}", stamp(now.as_secs()))));
    for experiment in &chosen {
        if let Some(why) = experiment.unavailable() {
            note(format_args!("{} cannot be carried out: {why}", experiment.name()));
        }
    }
    // Before anything else: a namespace is entered by a process with one thread.
    let network = network::prepare(!matches.get_flag("shared-network"));
    let environment = environment::describe(network);
    environment::usable_clock(&environment).map_err(Failure::Failed)?;
    if let Some(why) = &environment.network.why_not {
        note(format_args!("no private network: {why}"));
    }
    let records = Records::open(&out, profile, environment.commit.as_deref())?;
    let check = experiments::against_itself(&chosen);
    let mut all: Vec<&dyn Experiment> = vec![&check];
    all.extend(chosen);

    let failed = |error: io::Error| Failure::Failed(error.to_string());
    let mut watch = Terminal::new().map_err(failed)?;
    let processors = Processors::of_this_machine();
    processors.stand_aside().map_err(failed)?;
    let mut lab = Lab::new(
        std::env::current_exe().map_err(failed)?,
        Method::of(profile, seed),
        environment,
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
        processors,
        &mut watch,
    );
    let outcome = lab.run(&all, &|experiment, cell| records.has(experiment, cell), &mut |record| {
        store::append(&records.path, &record)
            .map_err(|error| format!("{}: {error}", records.path.display()))
    });
    watch.bar.finish_and_clear();
    match outcome {
        Ok(()) => publish(&out, matches.get_flag("json")),
        Err(Stop::Interrupted) => Err(Failure::Interrupted(format!(
            "interrupted; what was measured is in {0}, and the same command with --out {0} goes on",
            out.display()
        ))),
        Err(Stop::Failed(why)) => Err(Failure::Failed(why)),
    }
}

/// The records of a run, and those that an earlier part of it has left.
struct Records {
    path: PathBuf,
    known: Vec<Record>,
    /// The lock on the directory, if its file system has locks. It ends with this process.
    _lock: Option<File>,
}

impl Records {
    fn open(out: &Path, profile: Profile, commit: Option<&str>) -> Result<Records, Failure> {
        let failed = |error: io::Error| Failure::Failed(format!("{}: {error}", out.display()));
        fs::create_dir_all(out).map_err(failed)?;
        // Before anything is read: two runs would both miss a cell, and both write it.
        let lock = lock(out)?;
        let path = out.join(store::FILE_NAME);
        let known = if path.exists() { read(out)? } else { Vec::new() };
        let other = known.iter().find(|record| {
            record.method.profile != profile || record.environment.commit.as_deref() != commit
        });
        match other {
            None => Ok(Records { path, known, _lock: lock }),
            Some(_) => Err(Failure::Usage(format!(
                "{}: there are records of another size or another commit; give another --out",
                out.display()
            ))),
        }
    }

    fn has(&self, experiment: &str, cell: &str) -> bool {
        self.known.iter().any(|record| record.experiment == experiment && record.cell == cell)
    }
}

/// Locks the directory of a run against other runs.
fn lock(out: &Path) -> Result<Option<File>, Failure> {
    let told = |error: io::Error| format!("{}: {error}", out.display());
    let directory = File::open(out).map_err(|error| Failure::Failed(told(error)))?;
    match pushv::sys::process::try_lock(&directory) {
        Ok(true) => Ok(Some(directory)),
        Ok(false) => Err(Failure::Failed(format!(
            "{}: another run is writing its records there; wait for it, or give another --out",
            out.display()
        ))),
        Err(error) => {
            note(format_args!("no lock keeps other runs away: {}", told(error)));
            Ok(None)
        }
    }
}

fn read(directory: &Path) -> Result<Vec<Record>, Failure> {
    let contents = store::read(directory).map_err(Failure::Failed)?;
    if let Some(warning) = &contents.warning {
        note(warning);
    }
    Ok(contents.records)
}

/// Writes the report of the records in a directory, and prints its summary.
fn publish(directory: &Path, json: bool) -> Result<(), Failure> {
    let records = read(directory)?;
    let report = report::render(experiments::REPORTED, &records);
    let page = directory.join("report.html");
    for (path, text) in [(&page, &report.html), (&directory.join("report.md"), &report.markdown)] {
        fs::write(path, text)
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    }
    print(&if json { format!("{:#}\n", report.json) } else { report.markdown })?;
    note(format_args!("the report with its charts is {}", page.display()));
    Ok(())
}

fn compare(matches: &ArgMatches) -> Result<(), Failure> {
    let [before, after] = ["before", "after"].map(|name| {
        read(&directory(matches, name)).map_err(|failure| match failure {
            // Status 1 says that something is worse.
            Failure::Failed(why) => Failure::Usage(why),
            other => other,
        })
    });
    let changes = Changes::new(&before?, &after?);
    let text = match matches.get_flag("json") {
        true => format!("{:#}\n", changes.to_json()),
        false => changes.to_string(),
    };
    print(&text)?;
    if let Some(why) = changes.why_nothing() {
        return Err(Failure::Usage(format!("nothing was compared: {why}")));
    }
    if changes.has_regressed() { Err(Failure::Silent) } else { Ok(()) }
}

/// A moment as a directory's name: `2026-11-24T031500Z`.
fn stamp(unix_s: u64) -> String {
    HttpDate { unix_s }.in_a_file_name()
}

impl Watch for Terminal {
    fn doing(&mut self, what: &str, part: f64, remaining: Duration) {
        let message = format!("{what}, about {} left", about(remaining));
        // A log gets a line for each group; a terminal has the bar.
        if self.is_news(what) && !self.is_seen() {
            note(&message);
        }
        self.show(part, message);
    }

    fn is_interrupted(&self) -> bool {
        Terminal::is_interrupted(self)
    }
}

const EXIT: &str = "Records go to DIR/records.jsonl, the report to DIR/report.html; its summary is \
                    printed.\n\nExit status: 0 done; 1 it could not be done; 2 wrong usage; 130 \
                    interrupted (INT, TERM or HUP).";
const LINE: usize = 96;
