//! `pushv serve`.

use super::reload::{Reloads, reload};
use super::settings::{self, Sources};
use super::{Failure, logging, service};
use clap::{Arg, ArgMatches, Command as Subcommand};
use pushv::feed::{self, Clock, Lines};
use pushv::observe::outlet::Outlet;
use pushv::reactor::{Command, Reactor};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level::pipe;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

/// Describes the subcommand.
pub fn command() -> Subcommand {
    Subcommand::new("serve")
        .about("Run the hub")
        .after_help(
            "Subscribe:  curl -N http://127.0.0.1:8080/events/TOPIC\n\
             Publish:    curl -d 'some text' http://127.0.0.1:8080/events/TOPIC\n\
             Knobs:      curl http://127.0.0.1:9180/knobs\n\n\
             Signals: TERM and INT drain, a second one ends at once; HUP reads the file again; USR1 and\n\
             USR2 do nothing.",
        )
        .args(settings::arguments())
        .arg(
            Arg::new(LOG)
                .long(LOG)
                .env("PUSHV_LOG")
                .value_name("FILTER")
                .default_value("info")
                .help("What to log to standard error: error, warn, info, debug (one line per connection) or trace (one line per flush)"),
        )
}

/// Runs the server until it has drained.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let filter = matches.get_one::<String>(LOG).map_or("info", String::as_str);
    logging::start(filter).map_err(Failure::Usage)?;
    settings::check_variables().map_err(Failure::Usage)?;
    let mut sources = Sources::new(matches);
    let inherited = service::inherited().map_err(Failure::Usage)?;
    if !inherited.public.is_empty() {
        sources.fix("listen", joined(&inherited.public));
    }
    if let Some(address) = inherited.admin {
        sources.fix("admin", address.to_string());
    }
    let config = sources.read().map_err(Failure::Usage)?;
    // Every subscriber is a descriptor; the limit in force is often a thousandth of the other.
    if let Err(error) = pushv::sys::set_descriptor_limit(u64::MAX) {
        log::warn!("the limit on descriptors stays as it is: {error}");
    }
    let (demo, stdin) = (config.demo, config.stdin.clone());
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidInput => Failure::Usage(error.to_string()),
        _ => Failure::Failed(error.to_string()),
    };
    let mut reactor = Reactor::adopt(config, inherited.sockets).map_err(failed)?;
    listen_to_signals(&mut reactor, sources).map_err(failed)?;
    // Whoever reads this may send signals.
    announce(&reactor, demo);
    if demo {
        feed::start(Clock, reactor.handle()).map_err(failed)?;
    }
    if let Some(topic) = stdin {
        let lines = Lines::new(io::BufReader::new(io::stdin()), &topic);
        feed::start(lines, reactor.handle()).map_err(failed)?;
    }
    service::notify("READY=1");
    reactor.run().map_err(|error| {
        // Not by way of `main`, which waits for standard error to take it.
        log::error!("{error}");
        Failure::Silent
    })
}

fn joined(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Prints where the server listens: the first lines of standard output, for scripts.
fn announce(reactor: &Reactor, demo: bool) {
    let mut lines = String::new();
    for address in reactor.public_addresses() {
        lines += &format!("listening http://{address}\n");
    }
    if let Some(address) = reactor.admin_address() {
        lines += &format!("admin http://{address}\n");
    }
    if let Some(address) = reactor.public_addresses().first().filter(|_| demo) {
        lines += &format!("try curl -N http://{address}/events/clock\nor open http://{address}/\n");
    }
    // Standard output may be closed, or not be read. The server serves all the same.
    let announced = Outlet::new(io::stdout()).is_ok_and(|mut out| out.line(lines.as_bytes()));
    if !announced {
        log::info!("standard output takes no announcement");
    }
}

/// Has TERM and INT drain, a second one stop, and HUP read the configuration again. USR1 and USR2,
/// which have other servers open their logs again, would end the process without a drain if they
/// were left to the kernel.
fn listen_to_signals(reactor: &mut Reactor, sources: Sources) -> io::Result<()> {
    let bell = |signals: &[i32]| {
        let (ours, handlers) = UnixStream::pair()?;
        for &signal in signals {
            pipe::register(signal, handlers.try_clone()?)?;
        }
        Ok::<UnixStream, io::Error>(ours)
    };
    let mut terminations = 0;
    reactor.ring(bell(&[SIGTERM, SIGINT])?, move |count| {
        terminations += count;
        service::notify("STOPPING=1");
        Some(if terminations == 1 { Command::Drain } else { Command::Stop })
    })?;
    reactor.ring(bell(&[SIGUSR1, SIGUSR2])?, |_| {
        log::warn!(
            "SIGUSR1 and SIGUSR2 do nothing; SIGTERM drains, SIGHUP reads the configuration again"
        );
        None
    })?;
    let hub = reactor.handle();
    let reloads = Reloads::default();
    reactor.ring(bell(&[SIGHUP])?, move |_| {
        let (hub, sources) = (hub.clone(), sources.clone());
        if let Err(error) = reloads.request(move || reload(&hub, &sources)) {
            log::error!("the configuration stays as it is: {error}");
        }
        None
    })
}

const LOG: &str = "log";
