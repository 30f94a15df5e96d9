//! No descriptor is left.

use super::Scale;
use super::publisher::Publisher;
use super::reader::Reader;
use super::server::{self, PATIENCE, Server, until};
use super::table::Row;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub fn run(scale: Scale) -> Vec<Row> {
    let connects = scale.of(100, 500);
    let name = format!("`EMFILE`: two descriptors are left, {connects} connect");
    vec![
        Row::new(name, connects, exhaust(connects)),
        Row::new("`EMFILE`: the admin listener is asked", 20, ask_the_admin()),
    ]
}

/// Public connections have taken every descriptor and more of them wait. The admin listener has some
/// in reserve, serves with them, and has them back each time.
fn ask_the_admin() -> Result<String, String> {
    let server = Server::start(&[]);
    let mut reader = Reader::new(server.public, "t");
    reader.open()?;
    let connect = |_| TcpStream::connect(server.public).map_err(|error| error.to_string());
    limit_descriptors(&server, limit_with_room(&server, 2)?)?;
    let _crowd = (0..50).map(connect).collect::<Result<Vec<_>, _>>()?;
    server.wait_for("accept_errors_total", 1, PATIENCE)?;
    for nth in 0..20 {
        let _another = connect(nth)?;
        // It panics if there is no answer.
        server.metric("accept_errors_total");
    }
    limit_descriptors(&server, 4096)?;
    server.drain()?;
    Ok("answered, each time".into())
}

fn exhaust(connects: usize) -> Result<String, String> {
    let server = Server::start(&[]);
    let mut readers: Vec<Reader> = (0..3).map(|_| Reader::new(server.public, "t")).collect();
    let mut publisher = Publisher::new(server.public);
    readers.iter_mut().try_for_each(Reader::open)?;
    publisher.publish("t", "0", b"0")?;
    readers.iter_mut().try_for_each(|reader| reader.expect(b"0"))?;
    let descriptors = server.descriptors();
    limit_descriptors(&server, limit_with_room(&server, 2)?)?;

    let connect = |_| TcpStream::connect(server.public).map_err(|error| error.to_string());
    let crowd = (0..connects).map(connect).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    let mut flowing = Ok(());
    let share = server.cpu_share(|| {
        flowing = (1..=20u8).try_for_each(|nth| {
            std::thread::sleep(Duration::from_millis(50)); // the pace
            publisher.publish("t", &nth.to_string(), nth.to_string().as_bytes())?;
            readers.iter_mut().try_for_each(|reader| reader.expect(nth.to_string().as_bytes()))
        });
    });
    flowing?;
    let refusals = || crowd.iter().filter(|socket| is_refused(socket)).count();
    let _some_may_wait = until(PATIENCE, || refusals() >= connects - 2);
    let (refused, refusing) = (refusals(), begun.elapsed());
    if refused < connects - 2 {
        return Err(format!("{refused} of {connects} were refused"));
    }
    // Descriptors become free again.
    drop(crowd);
    server.settle_at(descriptors)?;
    let (begun, before) = (Instant::now(), server.metric("turns_total"));
    let mut late = Reader::new(server.public, "t");
    late.open()?;
    let (after_close, turns) = (begun.elapsed(), server.metric("turns_total") - before);
    // And once more, by raising the limit while somebody waits.
    limit_descriptors(&server, 4096)?;
    let begun = Instant::now();
    let mut more: Vec<Reader> = (0..10).map(|_| Reader::new(server.public, "t")).collect();
    more.iter_mut().try_for_each(Reader::open)?;
    let after_raise = begun.elapsed();
    let slowest = after_close.max(after_raise);
    // It tries again every 10 ms. A second of that has a hundred turns, and the sweep's beside them;
    // how long they take is the machine's affair.
    if share > 10.0 || turns > 150 || late.broken > 0 {
        return Err(format!("{share:.1} % of a processor, {turns} turns until one is let in"));
    }
    drop((late, more));
    server.settle_at(descriptors)?;
    server.drain()?;
    Ok(format!(
        "{share:.1} % of a processor, streams flow; {refused} refused within {:.1} s; {:.0} ms \
         after some are free the next is let in",
        refusing.as_secs_f64(),
        slowest.as_secs_f64() * 1000.0
    ))
}

/// Whether the server has closed a connection, on which nothing was said.
fn is_refused(mut socket: &TcpStream) -> bool {
    match socket.set_nonblocking(true).and_then(|()| socket.read(&mut [0])) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// The limit at which so many descriptors more can be had.
fn limit_with_room(server: &Server, room: u64) -> Result<u64, String> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid()));
    let folder = folder.map_err(|error| error.to_string())?;
    let numbers = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let open: BTreeSet<u64> = numbers.collect();
    let free = (0..).filter(|number| !open.contains(number));
    Ok(free.take(room as usize).max().unwrap_or(0) + 1)
}

/// Sets the limit in force, which is one above the largest number that a descriptor may have.
pub fn limit_descriptors(server: &Server, limit: u64) -> Result<(), String> {
    let (pid, limit) = (server.pid().to_string(), format!("--nofile={limit}:"));
    server::run("prlimit", &["--pid", &pid, &limit]).map(drop)
}
