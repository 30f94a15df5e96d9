//! What is played while something fails: the same each time, so that a fault can be brought about
//! at each of the calls that it takes.
//!
//! Three subscribers, fifty publishes, one of them large enough to fill a send buffer; one
//! subscriber leaves in the middle and resumes; at the end the server drains.

use super::publisher::Publisher;
use super::reader::Reader;
use super::server::{PATIENCE, Refused, Server, until};
use std::time::{Duration, Instant};

/// What the fault did, if everything that was demanded held.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Connections that were broken off by the server.
    pub broken: usize,
    /// The server did not start, and said why.
    pub refused: bool,
    /// A signal had to be sent twice.
    pub signal_lost: bool,
    /// The longest that a reader waited for an event.
    pub longest_wait: Duration,
}

/// Plays the scenario on a server that was started with [`ARGUMENTS`]. `leaked` descriptors may
/// be left at the end.
///
/// # Errors
/// What did not hold.
pub fn play(started: Result<Server, Refused>, leaked: usize) -> Result<Seen, String> {
    let mut server = match started {
        Ok(server) => server,
        Err(refused) => return refusal(&refused),
    };
    let mut readers: Vec<Reader> =
        (0..3).map(|_| Reader::new(server.public, FROM_THE_START)).collect();
    let mut publisher = Publisher::new(server.public);
    readers.iter_mut().try_for_each(Reader::open)?;
    // Only now is it certain that the server has opened all that it keeps open.
    let descriptors = server.descriptors() - readers.len() + leaked;
    let mut next = [0; 3];
    for nth in 0..EVENTS {
        publisher.publish("t", &format!("id-{nth}"), &content(nth))?;
        // The third is away for a while, and resumes behind the last event it had.
        if nth == LEAVES {
            readers[2].leave();
        }
        let here = if (LEAVES..RETURNS).contains(&nth) { 2 } else { 3 };
        // One event behind, so that one that is missing shows when the next one comes.
        catch_up(&mut readers[..here], &mut next, nth)?;
    }
    catch_up(&mut readers, &mut next, EVENTS)?;
    publisher.last_request("/healthz")?;
    readers[2].leave();
    let connected = readers.iter().filter(|reader| reader.is_connected()).count();
    if connected != 2 {
        return Err(format!("{connected} of 2 streams go on"));
    }
    server.settle_at(descriptors + connected)?;
    expect_calm(&server)?;
    let signal_lost = drain(&mut server, &mut readers[..2])?;
    Ok(Seen {
        broken: readers.iter().map(|reader| reader.broken).sum::<usize>() + publisher.broken,
        refused: false,
        signal_lost,
        longest_wait: readers.iter().map(|reader| reader.longest_wait).max().unwrap_or_default(),
    })
}

/// Has each reader read up to the event `until`.
fn catch_up(readers: &mut [Reader], next: &mut [usize], until: usize) -> Result<(), String> {
    for (reader, next) in readers.iter_mut().zip(next) {
        while *next < until {
            reader.expect(&content(*next))?;
            *next += 1;
        }
    }
    Ok(())
}

/// A server need not start if it is kept from it; but it has to say so.
fn refusal(refused: &Refused) -> Result<Seen, String> {
    // Some calls are the loader's, before there is any server.
    let loader = refused.says.contains("error while loading shared libraries");
    let in_order = matches!(refused.status.code(), Some(1 | 2));
    let in_order = loader || in_order && refused.says.starts_with("pushv: ");
    match in_order {
        true => Ok(Seen { refused: true, ..Seen::default() }),
        false => Err(format!("it did not start: {refused:?}")),
    }
}

/// Demands that the server waits when nothing is to be done.
fn expect_calm(server: &Server) -> Result<(), String> {
    let (before, begun) = (server.status("voluntary_ctxt_switches"), Instant::now());
    let share = server.cpu_share(|| std::thread::sleep(CALM)); // the subject is time
    let switches = server.status("voluntary_ctxt_switches") - before;
    let switches = (switches as f64 / begun.elapsed().as_secs_f64()) as u64;
    // The sweep takes 20 turns a second; a tracer that stops each costs some switches more.
    match share < 25.0 && switches < 1500 {
        true => Ok(()),
        false => {
            Err(format!("it spins: {share:.0} % of a processor, {switches} switches per second"))
        }
    }
}

/// Has the server drain. Gives whether the signal had to be repeated.
fn drain(server: &mut Server, readers: &mut [Reader]) -> Result<bool, String> {
    server.signal("TERM");
    // It drains at once. If it still lives after a while, it is asked whether it has not heard, or is
    // only slow.
    let lives_on = until(Duration::from_secs(5), || !server.lives()).is_err();
    let signal_lost = lives_on && is_ready(server);
    if signal_lost {
        server.signal("TERM");
    }
    readers.iter_mut().try_for_each(Reader::expect_end)?;
    let (status, says) = server.end(PATIENCE)?;
    match status.success() && !says.contains("panicked") {
        true => Ok(signal_lost),
        false => Err(format!("it ended with {status}: {says}")),
    }
}

/// Whether the server accepts subscribers, which it does until it drains.
fn is_ready(server: &Server) -> bool {
    let url = pushv::client::url::Url::parse(&format!("http://{}/readyz", server.admin)).unwrap();
    // The fault may hit one question, but not two.
    let ask = || pushv::client::exchange::exchange(&url, "GET", "").map(|answer| answer.status);
    ask().or_else(|_| ask()) == Ok(200)
}

/// The data of the event `nth`.
fn content(nth: usize) -> Vec<u8> {
    let length = if nth == LARGE { LARGE_BYTES } else { 100 + nth };
    let mut data = format!("{nth} größer ").into_bytes();
    data.resize(data.len() + length, b'a' + (nth % 26) as u8);
    data
}

/// What the server must be started with.
pub const ARGUMENTS: &[&str] = &[
    "--event-bytes-max",
    "300000",
    "--log-bytes-max",
    "3000000",
    "--drain-ms",
    "3000",
    // So that a stream in which an event is missing is silent, which is noticed.
    "--heartbeat",
    "off",
];
/// Whoever has seen no event yet has no id to come back with: it has to say where to begin.
const FROM_THE_START: &str = "t?last_event_id=earliest";
const EVENTS: usize = 50;
const LEAVES: usize = 15;
const RETURNS: usize = 20;
const LARGE: usize = 30;
const LARGE_BYTES: usize = 200_000;
const CALM: Duration = Duration::from_millis(100);
