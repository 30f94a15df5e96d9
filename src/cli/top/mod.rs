//! `pushv top`: a running server, as it is now.
//!
//! What comes is read in threads ([`feed`], [`ask`]), what follows from it is computed in [`state`],
//! how it looks is a function ([`view`], [`table`]); only [`terminal`] touches a terminal.

mod answers;
mod ask;
mod feed;
mod number;
mod state;
mod table;
mod terminal;
mod text;
mod view;

use super::{Failure, note};
use ask::{Refusal, Reply};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use feed::{Feed, News};
use pushv::client::url::Url;
use serde_json::Value;
use state::State;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};
use terminal::{Input, Terminal};
use view::{Question, SORTS};

/// Describes the subcommand.
pub fn command() -> Command {
    Command::new("top")
        .about("Watch a running server: rates, latencies, and the streams that are worst off")
        .after_help(
            "Keys: l, a, b, v sort by lag, age, bytes, verdict; p pauses; q quits.\n\
             Without a terminal the table is printed once per refresh.\n\n\
             Examples:\n  \
             pushv top --once\n  \
             pushv top --once --json | jq '.connections[] | {id, verdict, why}'\n  \
             pushv top --topic prices --sort bytes\n\n\
             Exit status: 0 done; 1 the server cannot be reached; 2 wrong usage.",
        )
        .args_override_self(true)
        .args(source_arguments())
        .args(output_arguments())
}

fn source_arguments() -> Vec<Arg> {
    vec![
        Arg::new("admin")
            .long("admin")
            .value_name("URL")
            .env("PUSHV_TOP_ADMIN")
            .default_value("http://127.0.0.1:9180")
            .help("The admin listener of the server"),
        Arg::new("sort")
            .long("sort")
            .value_name("BY")
            .value_parser(PossibleValuesParser::new(SORTS))
            .default_value("lag")
            .help("Which streams are the worst"),
        Arg::new("topic").long("topic").value_name("T").help("Streams of this topic only"),
        Arg::new("limit")
            .long("limit")
            .value_name("N")
            .value_parser(value_parser!(u16).range(1..=200))
            .default_value("20")
            .help("Streams that are listed at most"),
    ]
}

fn output_arguments() -> Vec<Arg> {
    vec![
        Arg::new("interval").long("interval-ms").value_name("MS")
            .value_parser(value_parser!(u64).range(100..=3_600_000))
            .default_value("1000").help("Time between refreshes, which rates are formed over"),
        Arg::new("once").long("once").action(ArgAction::SetTrue)
            .help("Show one table, with the rates of one interval, and end"),
        Arg::new("json").long("json").action(ArgAction::SetTrue)
            .help("Print an object with the answers of /live and /connections on a line, for each refresh"),
    ]
}

/// Watches.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let admin = matches.get_one::<String>("admin").map(String::as_str).unwrap_or_default();
    let url = Url::parse(admin).map_err(|why| Failure::Usage(format!("--admin: {why}")))?;
    let admin = Url { target: "/".into(), ..url };
    let mut watch = Watch::begin(admin, question(matches))?;
    let is_screen = io::stdout().is_terminal() && !terminal::is_dumb();
    let shown = match (matches.get_flag("once"), matches.get_flag("json")) {
        (true, true) => watch.print_json(),
        (true, false) => watch.print_table_once(),
        (false, true) => watch.follow(Watch::print_json),
        (false, false) if is_screen => watch.interact(),
        (false, false) => watch.follow(Watch::print_table),
    };
    match shown {
        // Whoever was reading has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::Failed(error.to_string())),
    }
}

fn question(matches: &ArgMatches) -> Question {
    let sort = matches.get_one::<String>("sort");
    let sort = SORTS.into_iter().find(|&known| sort.is_some_and(|sort| sort == known));
    Question {
        admin: String::new(),
        sort: sort.unwrap_or(SORTS[0]),
        topic: matches.get_one("topic").cloned(),
        limit: matches.get_one("limit").copied().unwrap_or(20),
        interval_ms: matches.get_one("interval").copied().unwrap_or(1000),
        is_paused: false,
    }
}

/// A server that is being watched.
struct Watch {
    admin: Url,
    question: Question,
    feed: Feed,
    state: State,
    /// What was answered last, as it came.
    news: Value,
    reply: Value,
}

impl Watch {
    /// Asks for the first time. Later on a server that does not answer is waited for; one that
    /// never did is more likely not there.
    fn begin(admin: Url, mut question: Question) -> Result<Watch, Failure> {
        question.admin = admin.authority();
        let reply = ask::ask_now(&admin, &question).map_err(|refusal| match refusal {
            Refusal::Question(why) => Failure::Usage(why),
            Refusal::Server(why) => unreachable(&admin, &why),
        })?;
        let feed = Feed::open(&admin);
        let news =
            feed.wait(PATIENCE).map_err(|why| unreachable(&admin, &format!("/live: {why}")))?;
        let mut watch = Watch {
            admin,
            question,
            feed,
            state: State::default(),
            news: Value::Null,
            reply: Value::Null,
        };
        watch.take(Ok(Some(news)), Ok(reply));
        Ok(watch)
    }

    /// Takes in a refresh.
    fn take(&mut self, news: Result<Option<News>, String>, reply: Result<Reply, Refusal>) {
        let was_lost = self.state.lost.is_some();
        let has_ended = news.is_err();
        let reply = reply.map_err(|(Refusal::Question(why) | Refusal::Server(why))| why);
        let (live, streams) = match reply.and_then(|reply| Ok((reply, news?))) {
            Err(why) => (None, Err(why)),
            Ok((reply, news)) => {
                self.reply = reply.json;
                let live = news.map(|news| {
                    self.news = news.json;
                    (news.received, news.live)
                });
                (live, Ok(reply.streams))
            }
        };
        self.state.refresh(Instant::now(), live, streams);
        // One that lost its server too may be going to wait for a minute.
        if has_ended || (was_lost && self.state.lost.is_none()) {
            self.feed = Feed::open(&self.admin);
        }
    }

    /// Asks, waits, and says on standard error what has become of the server, if that is news.
    fn refresh(&mut self) {
        let before = self.state.clone();
        let reply = ask::ask_now(&self.admin, &self.question);
        let news = self.feed.take();
        self.take(news, reply);
        let (admin, state) = (&self.admin, &self.state);
        match (&state.lost, before.lost.is_some()) {
            (Some(why), false) => note(format_args!("no answer from {admin}: {why}; trying again")),
            (None, true) => note(format_args!("{admin} answers again")),
            _ => {}
        }
        match (state.is_silent(), before.is_silent()) {
            (true, false) => note(format_args!("/live of {admin} says nothing; rates are unknown")),
            (false, true) => note(format_args!("/live of {admin} speaks again")),
            _ => {}
        }
        if let Some(epochs) =
            state.restarted.as_ref().filter(|_| state.restarted != before.restarted)
        {
            note(format_args!("the server was restarted: {epochs}"));
        }
    }

    /// Waits for the second event of `/live`, without which there are no rates. The interval may be
    /// shorter than the time between two.
    fn print_table_once(&mut self) -> io::Result<()> {
        std::thread::sleep(self.interval());
        let reply = ask::ask_now(&self.admin, &self.question);
        let news = self.feed.wait(PATIENCE).map_err(|why| format!("/live: {why}")).map(Some);
        self.take(news, reply);
        match &self.state.lost {
            Some(why) => Err(io::Error::other(format!("no answer from {}: {why}", self.admin))),
            None => self.print_table(),
        }
    }

    fn print_table(&mut self) -> io::Result<()> {
        let (columns, _) = if io::stdout().is_terminal() { terminal::size() } else { (WIDE, 0) };
        terminal::print(&view::lines(&self.question, &self.state, columns))
    }

    fn print_json(&mut self) -> io::Result<()> {
        let mut object = self.reply.as_object().cloned().unwrap_or_default();
        object.insert("live".into(), self.news.clone());
        object.insert("live_age_ms".into(), (self.state.age.as_millis() as u64).into());
        let mut out = io::stdout().lock();
        writeln!(out, "{}", Value::Object(object))?;
        out.flush()
    }

    /// Prints for as long as somebody reads. While there is no server, nothing is printed.
    fn follow(&mut self, print: fn(&mut Watch) -> io::Result<()>) -> io::Result<()> {
        loop {
            if self.state.lost.is_none() {
                print(self)?;
            }
            std::thread::sleep(self.interval());
            self.refresh();
        }
    }

    /// Shows the table until the user has seen enough.
    fn interact(&mut self) -> io::Result<()> {
        let terminal = Terminal::open()?;
        let mut asking = Asking { pending: None, due: Instant::now() + self.interval() };
        loop {
            terminal.draw(&view::screen(&self.question, &self.state, terminal.size()))?;
            loop {
                if self.answered(&mut asking) {
                    break;
                }
                match terminal.input(asking.patience())? {
                    None => {}
                    Some(Input::Quit) => return Ok(()),
                    Some(Input::Resized) => break,
                    Some(Input::Key(key)) => {
                        if self.press(key) {
                            asking.due = Instant::now();
                        }
                        break;
                    }
                }
            }
        }
    }

    /// Asks if it is time to; whether an answer has come.
    fn answered(&mut self, asking: &mut Asking) -> bool {
        let now = Instant::now();
        let Some(pending) = &asking.pending else {
            if now >= asking.due && !self.question.is_paused {
                asking.pending = Some(ask::begin(&self.admin, &self.question));
                asking.due = now + self.interval();
            }
            return false;
        };
        let reply = match pending.try_recv() {
            Ok(reply) => reply,
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => Err(Refusal::Server("it was not asked".into())),
        };
        asking.pending = None;
        let news = self.feed.take();
        self.take(news, reply);
        true
    }

    /// Does what a key stands for; whether something else is to be asked now.
    fn press(&mut self, key: char) -> bool {
        if key == 'p' {
            self.question.is_paused = !self.question.is_paused;
            return !self.question.is_paused;
        }
        let sort = SORTS.into_iter().find(|sort| sort.starts_with(key));
        let is_new = sort.is_some_and(|sort| sort != self.question.sort);
        self.question.sort = sort.unwrap_or(self.question.sort);
        is_new
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.question.interval_ms)
    }
}

/// What has been asked, and when to ask next.
struct Asking {
    pending: Option<Receiver<Result<Reply, Refusal>>>,
    due: Instant,
}

impl Asking {
    /// How long to wait for a key before looking again.
    fn patience(&self) -> Duration {
        match self.pending {
            Some(_) => GLANCE,
            None => self.due.saturating_duration_since(Instant::now()).clamp(GLANCE, LOOK),
        }
    }
}

fn unreachable(admin: &Url, why: &str) -> Failure {
    Failure::Failed(format!(
        "no answer from {admin}: {why}\n\
         Is a server running? `pushv serve` starts one, whose admin listener is at \
         http://127.0.0.1:9180 unless --admin says otherwise; name another one with \
         `pushv top --admin URL`."
    ))
}

/// How long the first event of `/live`, of which there are five a second, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether an answer is there, and whether a signal has come.
const GLANCE: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(100);

/// The width of a table that is not for a terminal.
const WIDE: usize = 160;
