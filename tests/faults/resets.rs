//! Peers that are gone from one moment to the next, many at a time.

use super::Scale;
use super::publisher::Publisher;
use super::reader::Reader;
use super::server::{self, PATIENCE, Server};
use super::table::Row;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub fn run(scale: Scale) -> Vec<Row> {
    let (crowd, early) = (scale.of(500, 10_000), scale.of(200, 2000));
    vec![
        Row::new("RST from all at once, during a broadcast", crowd, storm(crowd)),
        Row::new("RST before the server has accepted", early, before_accept(early)),
        Row::new("`ss -K`: the kernel aborts connections", KILLED, kernel_aborts()),
    ]
}

/// Many subscribers reset their connections while events are sent to them, and others take the
/// slots that become free. Each newcomer has a topic of its own, and gets nothing else.
fn storm(count: usize) -> Result<String, String> {
    let server = Server::start(&["--log-events-max", "1000"]);
    let mut survivors: Vec<Reader> = (0..20).map(|_| Reader::new(server.public, "t")).collect();
    survivors.iter_mut().try_for_each(Reader::open)?;
    let descriptors = server.descriptors();
    let crowd = (0..count).map(|_| subscribe(server.public)).collect::<Result<Vec<_>, _>>()?;
    let public = server.public;
    let broadcast = std::thread::spawn(move || {
        let mut publisher = Publisher::new(public);
        (0..EVENTS).try_for_each(|nth| publisher.publish("t", &nth.to_string(), &data(nth)))
    });
    crowd.into_iter().for_each(reset);
    let mut newcomers = Vec::new();
    let mut publisher = Publisher::new(server.public);
    for nth in 0..NEWCOMERS {
        let topic = format!("own-{nth}");
        let mut reader = Reader::new(server.public, &topic);
        reader.open()?;
        publisher.publish(&topic, "1", topic.as_bytes())?;
        newcomers.push((reader, topic));
    }
    broadcast.join().unwrap()?;
    for reader in &mut survivors {
        (0..EVENTS).try_for_each(|nth| reader.expect(&data(nth)))?;
    }
    for (reader, topic) in &mut newcomers {
        reader.expect(topic.as_bytes())?;
        publisher.publish(topic, "2", b"again")?;
        reader.expect(b"again")?;
    }
    if survivors.iter().chain(newcomers.iter().map(|(reader, _)| reader)).any(|r| r.broken > 0) {
        return Err("a stream was broken off that nobody had reset".into());
    }
    let gone = "closes_total{reason=\"peer_reset\"}";
    server.wait_for(gone, count as u64 * 9 / 10, PATIENCE)?;
    drop((newcomers, publisher));
    server.settle_at(descriptors)?;
    let (gone, stale) = (server.metric(gone), server.metric("stale_events_total"));
    server.drain()?;
    Ok(format!(
        "{} survivors and {NEWCOMERS} newcomers get their own events and no others; {gone} \
         closed as reset, {stale} events for slots that were given up",
        survivors.len()
    ))
}

fn before_accept(count: usize) -> Result<String, String> {
    let server = Server::start(&[]);
    let mut reader = Reader::new(server.public, "t");
    reader.open()?;
    let descriptors = server.descriptors();
    server.signal("STOP");
    for nth in 0..count {
        let mut socket = TcpStream::connect(server.public).map_err(|error| error.to_string())?;
        // Half of them have said something before.
        if nth % 2 == 0 {
            socket.write_all(REQUEST).map_err(|error| error.to_string())?;
        }
        reset(socket);
    }
    server.signal("CONT");
    let mut publisher = Publisher::new(server.public);
    publisher.publish("t", "1", b"after")?;
    reader.expect(b"after")?;
    drop(publisher);
    server.settle_at(descriptors)?;
    server.drain()?;
    Ok("those behind them are served".into())
}

fn kernel_aborts() -> Result<String, String> {
    let server = Server::start(&[]);
    let mut survivors: Vec<Reader> = (0..20).map(|_| Reader::new(server.public, "t")).collect();
    survivors.iter_mut().try_for_each(Reader::open)?;
    let descriptors = server.descriptors();
    let mut killed: Vec<Reader> = (0..KILLED).map(|_| Reader::new(server.public, "t")).collect();
    killed.iter_mut().try_for_each(Reader::open)?;
    let mut publisher = Publisher::new(server.public);
    publisher.publish("t", "1", b"before")?;
    let port = |reader: &Reader| reader.socket().unwrap().local_addr().unwrap().port();
    let ports: Vec<String> =
        killed.iter().map(|reader| format!("dport = :{}", port(reader))).collect();
    let filter = format!("sport = :{} and ( {} )", server.public.port(), ports.join(" or "));
    // It lists those that the kernel has aborted.
    if server::run("ss", &["-K", "-tnH", &filter])?.is_empty() {
        return Ok("not tried: this kernel does not abort connections (INET_DIAG_DESTROY)".into());
    }
    server.wait_for("closes_total{reason=\"peer_reset\"}", KILLED as u64, PATIENCE)?;
    publisher.publish("t", "2", b"after")?;
    drop(publisher);
    server.settle_at(descriptors)?;
    for reader in survivors.iter_mut().chain(&mut killed) {
        reader.expect(b"before")?;
        reader.expect(b"after")?;
    }
    if survivors.iter().any(|reader| reader.broken > 0) {
        return Err("a stream was broken off that nobody had aborted".into());
    }
    if !killed.iter().all(|reader| reader.broken == 1) {
        return Err("somebody did not notice that its connection was aborted".into());
    }
    server.drain()?;
    Ok("closed, once each; they resume and have missed nothing".into())
}

/// A subscriber whose stream has begun.
fn subscribe(address: SocketAddr) -> Result<TcpStream, String> {
    let subscribe = || {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(REQUEST)?;
        socket.read_exact(&mut [0; 17])?;
        Ok(socket)
    };
    subscribe().map_err(|error: std::io::Error| error.to_string())
}

fn reset(socket: TcpStream) {
    let _as_it_is = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

fn data(nth: usize) -> Vec<u8> {
    format!("{nth} {}", "x".repeat(nth % 90)).into_bytes()
}

const REQUEST: &[u8] = b"GET /events/t HTTP/1.1\r\nHost: h\r\n\r\n";
const EVENTS: usize = 200;
const NEWCOMERS: usize = 100;
const KILLED: usize = 100;
