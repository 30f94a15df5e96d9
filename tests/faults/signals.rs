//! The process is stopped, continued, ended; and its clock is somewhere else.

use super::Scale;
use super::publisher::Publisher;
use super::reader::{Next, Reader};
use super::scenario;
use super::server::{PATIENCE, Server};
use super::table::Row;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub fn run(scale: Scale) -> Vec<Row> {
    let blocked = scale.of(100, 4000);
    let streams = scale.of(300, 10_000);
    vec![
        Row::new("SIGSTOP for ten heartbeats, SIGCONT", 1, heartbeats_do_not_burst()),
        Row::new(
            "SIGSTOP for longer than the stall timeout",
            blocked,
            stopped_is_not_stalled(blocked),
        ),
        Row::new(
            "SIGTERM: streams, 50 publishes under way, 100 that do not read",
            streams,
            drain(streams),
        ),
        Row::new("a second SIGTERM", 1, second_signal()),
        Row::new("a monotonic clock ten years ahead (time namespace)", 1, another_time()),
    ]
}

/// A stopped server has missed heartbeats. Nobody wants them all at once afterwards.
fn heartbeats_do_not_burst() -> Result<String, String> {
    const STREAMS: u64 = 20;
    let server = Server::start(&["--heartbeat-ms", "200"]);
    let mut readers: Vec<Reader> = (0..STREAMS).map(|_| Reader::new(server.public, "t")).collect();
    readers.iter_mut().try_for_each(Reader::open)?;
    server.wait_for("heartbeats_total", STREAMS, PATIENCE)?;
    let (begun, before) = (Instant::now(), server.metric("heartbeats_total"));
    server.signal("STOP");
    let mut running = begun.elapsed();
    std::thread::sleep(Duration::from_secs(2)); // the subject is time
    let begun = Instant::now();
    server.signal("CONT");
    server.wait_for("heartbeats_total", before + STREAMS, PATIENCE)?;
    let sent = server.metric("heartbeats_total") - before;
    running += begun.elapsed();
    // Those of the time in which it ran, one that is overdue, and one that was due at the beginning.
    let due = STREAMS * (2 + running.as_millis() as u64 / 200);
    server.drain()?;
    match sent <= due {
        true => Ok("one heartbeat each, as after any silence".into()),
        false => Err(format!("{sent} heartbeats at once, at most {due} were due")),
    }
}

/// While the server does not run, its readers take what is in the kernel's buffers. That they
/// have done so must count before the time that has passed does.
fn stopped_is_not_stalled(count: usize) -> Result<String, String> {
    // Time enough for all of them to become blocked; on a busy machine it may take more.
    let mut stall_timeout = Duration::from_millis(1500 + 3 * count as u64);
    loop {
        match stopped_before_they_stalled(count, stall_timeout)? {
            Some(seen) => return Ok(seen),
            None => stall_timeout *= 3,
        }
    }
}

/// Nothing if the server was not stopped before the first of them could have stalled.
fn stopped_before_they_stalled(
    count: usize,
    stall_timeout: Duration,
) -> Result<Option<String>, String> {
    let server = Server::start(&[
        "--stall-timeout-ms",
        &stall_timeout.as_millis().to_string(),
        "--so-sndbuf-bytes",
        "2048",
        // A receiver announces no room before it has some for a segment: they are to be small.
        "--tcp-maxseg-bytes",
        "400",
    ]);
    let mut readers: Vec<Reader> = (0..count).map(|_| Reader::narrow(server.public, "t")).collect();
    readers.iter_mut().try_for_each(Reader::open)?;
    let data = |nth: usize| format!("{nth} {}", "x".repeat(500)).into_bytes();
    let body: Vec<u8> =
        (0..60).flat_map(|nth| [&b"data: "[..], &data(nth), b"\n\n"].concat()).collect();
    let mut publisher = Publisher::new(server.public);
    let begun = Instant::now();
    publisher.post("/events/t", "text/event-stream", &body)?;
    let may_stall = || begun.elapsed() >= stall_timeout;
    let all_are_blocked = || server.metric("connections_blocked") == count as u64;
    // The loop ends: from some time on either holds.
    while !may_stall() && !all_are_blocked() {}
    server.stop_between_turns();
    if may_stall() {
        server.signal("CONT");
        return Ok(None);
    }
    // All that the kernel holds, so that it has room again and reports it.
    let mut next = vec![0; count];
    let deadline = Instant::now() + PATIENCE;
    while server.send_queues() > 0 {
        for (reader, next) in readers.iter_mut().zip(&mut next) {
            let taken = reader.take_what_is_there();
            *next += taken.map_err(|why| format!("while it is stopped: {why}"))?;
        }
        if Instant::now() > deadline {
            return Err(format!("{} bytes stay in the kernel", server.send_queues()));
        }
    }
    std::thread::sleep(stall_timeout + Duration::from_millis(500)); // the subject is time
    server.signal("CONT");
    // Once the hand has come by all of them it is decided.
    server.wait_for("turns_total", server.metric("turns_total") + 60, PATIENCE)?;
    let stalled = server.metric("closes_total{reason=\"stalled\"}");
    if stalled > 0 {
        return Err(format!("{stalled} readers were cut although they had read"));
    }
    server.patch_knobs("{\"stall_timeout_ms\":0}")?;
    for (nth, (reader, next)) in readers.iter_mut().zip(&next).enumerate() {
        let rest = (*next..60).try_for_each(|event| reader.expect(&data(event)));
        rest.map_err(|why| format!("reader {nth}, afterwards: {why}"))?;
    }
    server.drain()?;
    Ok(Some("none of them is cut; all get everything".into()))
}

/// Those who read have until the deadline to get everything, which a busy machine may need more
/// time for.
fn drain(count: usize) -> Result<String, String> {
    let mut drain_ms = 4000;
    loop {
        let begun = Instant::now();
        let seen = drain_within(drain_ms, count);
        // Streams do not wait for publishes until the very end.
        let was_late = begun.elapsed() > Duration::from_millis(drain_ms / 4);
        if seen.is_ok() || !was_late || drain_ms >= 100_000 {
            return seen;
        }
        drain_ms *= 5;
    }
}

fn drain_within(drain_ms: u64, count: usize) -> Result<String, String> {
    const POSTS: usize = 50;
    let drain = drain_ms.to_string();
    let mut server = Server::start(&["--drain-ms", &drain, "--so-sndbuf-bytes", "4096"]);
    let mut readers: Vec<Reader> = (0..count).map(|_| Reader::new(server.public, "t")).collect();
    readers.iter_mut().try_for_each(Reader::open)?;
    let mut slow: Vec<Reader> = (0..100).map(|_| Reader::narrow(server.public, "slow")).collect();
    slow.iter_mut().try_for_each(Reader::open)?;
    let mut publisher = Publisher::new(server.public);
    for nth in 0..50 {
        publisher.publish("slow", &nth.to_string(), &[b'x'; 2000])?;
    }
    server.wait_for("connections_blocked", 100, PATIENCE)?;
    let begin = |nth: usize| {
        let mut socket = TcpStream::connect(server.public)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let fields = "Host: h\r\nContent-Length: 4\r\nExpect: 100-continue";
        write!(socket, "POST /events/t?id=last-{nth} HTTP/1.1\r\n{fields}\r\n\r\n")?;
        // When this comes, the publish is under way.
        socket.read_exact(&mut [0; CONTINUE.len()])?;
        socket.write_all(b"la")?;
        Ok(socket)
    };
    let posts = (0..POSTS).map(begin).collect::<std::io::Result<Vec<_>>>();
    let posts = posts.map_err(|error| error.to_string())?;
    server.signal("TERM");
    let begun = Instant::now();
    for mut post in posts {
        post.write_all(b"st").map_err(|error| error.to_string())?;
        let mut status = [0; 12];
        post.read_exact(&mut status).map_err(|error| format!("no answer: {error}"))?;
        if &status != b"HTTP/1.1 200" {
            return Err(format!("answered {:?}", String::from_utf8_lossy(&status)));
        }
    }
    for (nth, reader) in readers.iter_mut().enumerate() {
        let ended = (0..POSTS).try_for_each(|_| reader.expect(b"last"));
        ended.map_err(|why| format!("reader {nth}: {why}"))?;
        match reader.next()? {
            Next::Ended => {}
            other => return Err(format!("reader {nth}: {other:?} instead of the end")),
        }
    }
    let (status, says) = server.end(PATIENCE)?;
    let took = begun.elapsed();
    if !status.success() {
        return Err(format!("{status} after {took:?}: {says}"));
    }
    Ok(format!(
        "all publishes answered and delivered, all streams ended in order, those that do not read \
         cut at the deadline; exit status 0 after {:.1} s",
        took.as_secs_f64()
    ))
}

fn second_signal() -> Result<String, String> {
    let mut server = Server::start(&["--drain-ms", "60000", "--so-sndbuf-bytes", "4096"]);
    let mut slow = Reader::narrow(server.public, "slow");
    slow.open()?;
    let mut publisher = Publisher::new(server.public);
    for nth in 0..50 {
        publisher.publish("slow", &nth.to_string(), &[b'x'; 2000])?;
    }
    server.wait_for("connections_blocked", 1, PATIENCE)?;
    server.signal("TERM");
    let url = pushv::client::url::Url::parse(&format!("http://{}/readyz", server.admin)).unwrap();
    let ready = || pushv::client::exchange::exchange(&url, "GET", "").map(|answer| answer.status);
    super::server::until(PATIENCE, || ready() != Ok(200)).map_err(|()| "it does not drain")?;
    let begun = Instant::now();
    server.signal("TERM");
    let (status, says) = server.end(PATIENCE)?;
    match status.success() {
        true => Ok(format!("ended after {} ms, exit status 0", begun.elapsed().as_millis())),
        false => Err(format!("{status}: {says}")),
    }
}

fn another_time() -> Result<String, String> {
    let seconds = (10 * 365 * 86_400).to_string();
    let wrapper = ["unshare", "--time", "--monotonic", &seconds, "--boottime", &seconds, "--"];
    let seen = scenario::play(Server::start_under(&wrapper, scenario::ARGUMENTS), 0)?;
    match seen.broken {
        0 => Ok("unnoticed".into()),
        broken => Err(format!("{broken} connections were broken off")),
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
