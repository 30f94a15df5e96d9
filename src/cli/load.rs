//! `pushv load` and its worker.

use super::Failure;
use super::terminal::Terminal;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command as Subcommand, value_parser};
use pushv::client::url::Url;
use pushv::load::coordinator::{self, Watch};
use pushv::load::message::Progress;
use pushv::load::plan::{DATA, Pace, Plan, Publish, Reader};
use pushv::load::report::{Report, write_hdr_log};
use pushv::load::server_side::Server;
use pushv::load::worker;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

/// Describes the subcommand.
pub fn command() -> Subcommand {
    Subcommand::new("load")
        .about("Load a server with subscribers, publish, check every event, measure")
        .after_help(
            "Examples:\n  \
             pushv load http://127.0.0.1:8080/events/a -n 1000 --publish self --rate 500\n  \
             pushv load http://127.0.0.1:8080/events/a -n 1000 --publish self --round --duration 5s\n  \
             pushv load http://127.0.0.1:8080/events/a --publish self --flood --events 2000 --pipeline 1000\n  \
             pushv load http://stream.example/events -n 50    (listens only)\n\n\
             Exit status: 0 every event arrived as it was published; 1 something was wrong, or could \
             not be done; 2 wrong usage; 130 interrupted, what was seen until then is reported.",
        )
        .args_override_self(true)
        .arg(Arg::new("url").required(true).value_name("URL").help("Where to subscribe"))
        .args(subscriber_arguments())
        .args(publisher_arguments())
        .group(ArgGroup::new("pace").args(["rate", "round", "flood"]))
        .args(report_arguments())
}

fn subscriber_arguments() -> Vec<Arg> {
    let number = |name: &'static str, default: &'static str| {
        let argument = Arg::new(name).long(name).value_name("N");
        argument.value_parser(value_parser!(u64)).default_value(default)
    };
    vec![
        number("connections", "100").short('n').help("Subscribers"),
        number("processes", "1").help("Processes that hold them: more than one goes past a process's descriptor limit"),
        Arg::new("connect-rate").long("connect-rate").value_name("PER_S").value_parser(value_parser!(f64)).default_value("0")
            .help("Connections opened per second; 0 is as fast as they are accepted"),
        Arg::new("connect-timeout").long("connect-timeout").value_name("TIME").value_parser(time).default_value("10s")
            .help("How long a stream may take to begin"),
        Arg::new("header").long("header").short('H').value_name("NAME: VALUE").value_parser(field).action(ArgAction::Append)
            .help("A header field of the subscriptions; @FILE takes the file's first line, which a list of processes does not show"),
        Arg::new("reader").long("reader").value_name("HOW").value_parser(value_parser!(Reader)).default_value("prompt")
            .help("How subscribers read: prompt, nap:MS, slow:BYTES_PER_S or never"),
        number("rcvbuf", "0").value_name("BYTES").help("SO_RCVBUF of the subscribers; 0 leaves it to the kernel"),
        Arg::new("spin").long("spin").action(ArgAction::SetTrue)
            .help("Never sleep while the run goes on: less noise, for a processor per process"),
        number("coalesce", "50").value_name("US")
            .help("In a burst, look for events every so many microseconds only, which halves the generator's cost and sees them that much late; 0 is all the time"),
        Arg::new("prompt-acks").long("prompt-acks").action(ArgAction::SetTrue)
            .help("Acknowledge each event at once, as the kernel does for receivers that only read; it costs more than reading"),
        Arg::new("churn").long("churn").value_name("PER_S").value_parser(value_parser!(f64)).default_value("0")
            .help("Subscribers per second, of all processes together, that drop their connection and come back with Last-Event-ID"),
    ]
}

fn publisher_arguments() -> Vec<Arg> {
    vec![
        Arg::new("publish").long("publish").value_name("URL|self")
            .help("Where to publish; self is the URL of the subscriptions. Without it nothing is published: rates and times between events are reported"),
        Arg::new("rate").long("rate").value_name("PER_S").value_parser(value_parser!(f64)).requires("publish")
            .help("Publish so many events per second, whatever becomes of them [the default, with 100]"),
        Arg::new("round").long("round").action(ArgAction::SetTrue).requires("publish")
            .help("Publish one event at a time: each when everybody has the one before"),
        Arg::new("flood").long("flood").action(ArgAction::SetTrue).requires("publish")
            .help("Publish as fast as the server answers; see --pipeline"),
        Arg::new("events").long("events").value_name("N").value_parser(value_parser!(u64)).requires("publish")
            .help("Stop after so many events"),
        Arg::new("size").long("size").value_name("BYTES").value_parser(value_parser!(u64)).default_value("100")
            .help("The length of an event"),
        Arg::new("pipeline").long("pipeline").value_name("N").value_parser(value_parser!(u64).range(1..)).default_value("100")
            .help("Publishing requests that may be under way at once; 1 if the server loses pipelined ones"),
        Arg::new("publish-method").long("publish-method").value_name("METHOD").default_value("POST").help("The method of publishing"),
        Arg::new("publish-header").long("publish-header").value_name("NAME: VALUE").value_parser(field).action(ArgAction::Append)
            .help("A header field of publishing, likewise"),
        Arg::new("publish-template").long("publish-template").value_name("TEXT").default_value(DATA)
            .help("The body of publishing, in which {data} stands for the event, such as 'topic=a&data={data}'"),
    ]
}

fn report_arguments() -> Vec<Arg> {
    vec![
        Arg::new("warmup")
            .long("warmup")
            .value_name("TIME")
            .value_parser(time)
            .default_value("1s")
            .help("How long to publish before anything is measured"),
        Arg::new("duration")
            .long("duration")
            .short('d')
            .value_name("TIME")
            .value_parser(time)
            .default_value("10s")
            .help("How long to publish, or to listen, after that"),
        Arg::new("grace")
            .long("grace")
            .value_name("TIME")
            .value_parser(time)
            .default_value("5s")
            .help("How long to wait at the end for what is still on its way or could not be published, and for a round"),
        Arg::new("server-pid")
            .long("server-pid")
            .value_name("PID")
            .value_parser(value_parser!(u32))
            .help("Report the processor time and memory of this process as well"),
        Arg::new("server-admin")
            .long("server-admin")
            .value_name("URL")
            .help("Report the counters of a pushv with this admin listener as well; a token that it wants is taken from PUSHV_ADMIN_TOKEN"),
        Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the report as JSON"),
        Arg::new("hdr")
            .long("hdr")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Write the latencies, second by second, as an HDR histogram log"),
    ]
}

/// The worker's side: not for users.
pub fn worker_command() -> Subcommand {
    Subcommand::new(WORKER)
        .hide(true)
        .about("A process of `pushv load`; reads its orders from standard input")
}

/// Runs a worker.
pub fn run_worker() -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Failed(error.to_string());
    pushv::sys::set_descriptor_limit(u64::MAX).map_err(failed)?;
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    // What makes going on impossible has been told to the coordinator, who tells the user.
    worker::run(UnixStream::from(control)).map_err(|_| Failure::Silent)
}

/// Runs the load.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let plan = plan(matches).map_err(Failure::Usage)?;
    plan.validate().map_err(Failure::Usage)?;
    let server = server(matches).map_err(Failure::Usage)?;
    // Before the load: a run whose result cannot be kept need not be made.
    let hdr_path = matches.get_one::<PathBuf>("hdr");
    let not_written =
        |path: &PathBuf, error| Failure::Failed(format!("{}: {error}", path.display()));
    let created = hdr_path.map(|path| File::create(path).map_err(|error| not_written(path, error)));
    let hdr_file = created.transpose()?;
    let failed = |error: io::Error| Failure::Failed(error.to_string());
    let program = std::env::current_exe().map_err(failed)?;
    let worker = || {
        let mut command = Command::new(&program);
        command.arg(WORKER);
        command
    };
    let json = matches.get_flag("json");
    let mut watch = Terminal::new().map_err(failed)?;
    let outcome = coordinator::run(&plan, &server, worker, &mut watch);
    watch.bar.finish_and_clear();
    let outcome = outcome.map_err(|why| match watch.is_interrupted() {
        true => Failure::Interrupted(why),
        false => Failure::Failed(why),
    })?;
    let report = Report::new(&plan, &outcome);
    let text = match json {
        true => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
        false => report.to_string(),
    };
    io::stdout().lock().write_all(text.as_bytes()).map_err(failed)?;
    if let (Some(path), Some(file)) = (hdr_path, hdr_file) {
        write_hdr_log(&outcome, file).map_err(|error| not_written(path, error))?;
    }
    match report.verdict {
        "ok" => Ok(()),
        "interrupted" => {
            Err(Failure::Interrupted("interrupted; what was seen until then is reported".into()))
        }
        _ => Err(Failure::Silent), // the report has said it
    }
}

fn plan(matches: &ArgMatches) -> Result<Plan, String> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let number = |name: &str| matches.get_one::<u64>(name).copied().unwrap_or_default();
    let fraction = |name: &str| matches.get_one::<f64>(name).copied().unwrap_or_default();
    let fields = |name: &str| -> Vec<(String, String)> {
        matches.get_many(name).into_iter().flatten().cloned().collect()
    };
    let count = |name: &str| usize::try_from(number(name)).map_err(|_| format!("{name}: too many"));
    let url = text("url");
    let publish = matches.get_one::<String>("publish").map(|target| -> Result<Publish, String> {
        Ok(Publish {
            url: if target == "self" { url.clone() } else { target.clone() },
            method: text("publish-method"),
            fields: fields("publish-header"),
            template: text("publish-template"),
            data_bytes: count("size")?,
            pipeline: count("pipeline")?,
            pace: match () {
                () if matches.get_flag("round") => Pace::Round,
                () if matches.get_flag("flood") => Pace::Flood,
                () => Pace::Rate(matches.get_one("rate").copied().unwrap_or(RATE_PER_S)),
            },
            events_max: matches.get_one("events").copied(),
        })
    });
    Ok(Plan {
        connections: count("connections")?,
        processes: count("processes")?,
        connect_per_s: fraction("connect-rate"),
        connect_timeout_ms: number("connect-timeout"),
        fields: fields("header"),
        reader: matches.get_one("reader").copied().unwrap_or(Reader::Prompt),
        rcvbuf_bytes: count("rcvbuf")?,
        churn_per_s: fraction("churn"),
        spin: matches.get_flag("spin"),
        coalesce_us: number("coalesce"),
        prompt_acks: matches.get_flag("prompt-acks"),
        publish: publish.transpose()?,
        warmup_ms: number("warmup"),
        duration_ms: number("duration"),
        grace_ms: number("grace"),
        // Two runs against one server must not be taken for each other.
        run: (pushv::sys::monotonic_ns() as u32) ^ std::process::id(),
        url,
    })
}

fn server(matches: &ArgMatches) -> Result<Server, String> {
    let admin = matches.get_one::<String>("server-admin").map(|text| Url::parse(text));
    let admin = admin.transpose().map_err(|why| format!("server-admin: {why}"))?;
    Ok(Server {
        pid: matches.get_one("server-pid").copied(),
        admin,
        fields: super::settings::admin_fields(),
    })
}

/// A time with its unit, in milliseconds: `500ms`, `10s`, `2m`.
fn time(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| TIME_SYNTAX)?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1.0,
        "s" | "" => 1e3,
        "m" => 60e3,
        _ => return Err(TIME_SYNTAX.into()),
    };
    let ms = number * unit_ms;
    if (0.0..=86_400e3).contains(&ms) { Ok(ms as u64) } else { Err("wants at most a day".into()) }
}

/// A header field, or `@` and the file whose first line it is.
fn field(text: &str) -> Result<(String, String), String> {
    if let Some(path) = text.strip_prefix('@') {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().next().unwrap_or_default();
        // What is wrong with it is said without it: it may be a secret.
        return field_of(line).map_err(|_| format!("the first line of {path} is no NAME: VALUE"));
    }
    field_of(text)
}

fn field_of(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("wants NAME: VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("{name:?} is not the name of a header field"));
    }
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("the value holds a control character".into());
    }
    Ok((name.into(), value.into()))
}

impl Watch for Terminal {
    fn opening(&mut self, open: usize, wanted: usize) {
        self.show(open as f64 / wanted.max(1) as f64, format!("{open} of {wanted} streams"));
    }

    fn running(&mut self, part: f64, progress: Progress) {
        let Progress { open, published, deliveries, offences, .. } = progress;
        let wrong = if offences > 0 { format!(", {offences} offences") } else { String::new() };
        let message =
            format!("{open} streams, {published} published, {deliveries} delivered{wrong}");
        self.show(part, message);
    }

    fn warn(&mut self, text: &str) {
        self.say(text);
    }

    fn is_interrupted(&self) -> bool {
        Terminal::is_interrupted(self)
    }
}

/// The name of the worker's subcommand.
const WORKER: &str = "load-worker";
const RATE_PER_S: f64 = 100.0;
const TIME_SYNTAX: &str = "wants a time such as 500ms, 10s or 2m";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text, expected| assert_eq!(time(text).ok(), expected, "{text}");
        check("500ms", Some(500));
        check("10s", Some(10_000));
        check("1.5", Some(1500));
        check("2m", Some(120_000));
        for text in ["", "s", "-1s", "1h", "1e9s", "ten"] {
            check(text, None);
        }
    }

    #[test]
    fn fields() {
        assert_eq!(field("A-b:  c d ").unwrap(), ("A-b".into(), "c d".into()));
        for text in ["", "a", ": x", "a b: c", "a: b\r\nc: d"] {
            assert!(field(text).is_err(), "{text:?}");
        }
        let path = std::env::temp_dir().join(format!("pushv-field-{}", std::process::id()));
        let from_file = |text: &str| {
            std::fs::write(&path, text).unwrap();
            field(&format!("@{}", path.display()))
        };
        assert_eq!(from_file("A: b\nC: d\n").unwrap(), ("A".into(), "b".into()));
        let why = from_file("s3cret\n").unwrap_err();
        assert!(why.contains("no NAME: VALUE") && !why.contains("s3cret"), "{why}");
        std::fs::remove_file(&path).unwrap();
        assert!(field("@/no/such/file").is_err());
    }
}
