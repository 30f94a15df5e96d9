//! No descriptor is left.

use super::Scale;
use super::publisher::Publisher;
use super::reader::Reader;
use super::server::{self, PATIENCE, Server};
use super::table::Row;
use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub fn run(scale: Scale) -> Vec<Row> {
    let connects = scale.of(100, 500);
    let name = format!("`EMFILE`: two descriptors are left, {connects} connect");
    vec![Row::new(name, connects, exhaust(connects))]
}

fn exhaust(connects: usize) -> Result<String, String> {
    let server = Server::start(&[]);
    let mut readers: Vec<Reader> = (0..3).map(|_| Reader::new(server.public, "t")).collect();
    let mut publisher = Publisher::new(server.public);
    readers.iter_mut().try_for_each(Reader::open)?;
    publisher.publish("t", "0", b"0")?;
    readers.iter_mut().try_for_each(|reader| reader.expect(b"0"))?;
    let descriptors = server.descriptors();
    limit_descriptors(&server, highest_descriptor(&server)? + 3)?;

    let connect = |_| TcpStream::connect(server.public).map_err(|error| error.to_string());
    let crowd = (0..connects).map(connect).collect::<Result<Vec<_>, _>>()?;
    let mut share = 0.0;
    let mut flowing = Ok(());
    share += server.cpu_share(|| {
        flowing = (1..=20u8).try_for_each(|nth| {
            std::thread::sleep(Duration::from_millis(50));
            publisher.publish("t", &nth.to_string(), nth.to_string().as_bytes())?;
            readers.iter_mut().try_for_each(|reader| reader.expect(nth.to_string().as_bytes()))
        });
    });
    flowing?;
    let begun = Instant::now();
    let refused = crowd.iter().map(is_refused).collect::<Result<Vec<_>, _>>()?;
    let refused = refused.iter().filter(|refused| **refused).count();
    let refusing = begun.elapsed() + Duration::from_secs(1);
    if refused < connects - 3 {
        return Err(format!("{refused} of {connects} were refused"));
    }
    // Descriptors become free again.
    drop(crowd);
    server.settle_at(descriptors)?;
    let (begun, mut late) = (Instant::now(), Reader::new(server.public, "t"));
    late.open()?;
    let after_close = begun.elapsed();
    // And once more, by raising the limit while somebody waits.
    limit_descriptors(&server, 4096)?;
    let begun = Instant::now();
    let mut more: Vec<Reader> = (0..10).map(|_| Reader::new(server.public, "t")).collect();
    more.iter_mut().try_for_each(Reader::open)?;
    let after_raise = begun.elapsed();
    let slowest = after_close.max(after_raise);
    if share > 10.0 || slowest > Duration::from_secs(1) || late.broken > 0 {
        return Err(format!("{share:.1} % of a processor, {slowest:?} until one is let in"));
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

/// Whether the server has closed a connection on which nothing was said. The first ones may have
/// been let in; those wait.
fn is_refused(mut socket: &TcpStream) -> Result<bool, String> {
    let patience = Duration::from_millis(200).max(PATIENCE / 4);
    socket.set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
    match socket.read(&mut [0]) {
        Ok(0) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(false)
        }
        other => Err(format!("{other:?} on a connection that says nothing")),
    }
}

/// The largest number of a descriptor that is open.
pub fn highest_descriptor(server: &Server) -> Result<u64, String> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid()));
    let folder = folder.map_err(|error| error.to_string())?;
    let numbers = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.max().ok_or_else(|| "it has no descriptors".into())
}

/// Sets the limit in force, which is one above the largest number that a descriptor may have.
pub fn limit_descriptors(server: &Server, limit: u64) -> Result<(), String> {
    let (pid, limit) = (server.pid().to_string(), format!("--nofile={limit}:"));
    server::run("prlimit", &["--pid", &pid, &limit]).map(drop)
}
