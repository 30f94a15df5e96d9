//! The reconnecting client, against this server and against answers that no good server gives.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use pushv::client::event_source::{Closer, Ended, Event, EventSource, Options, State};
use pushv::client::stream::Limits;
use pushv::client::url::Url;
use pushv::reactor::Command;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};
use support::{ClosedAddress, PATIENCE, Server};

/// A client that comes back quickly.
fn options() -> Options {
    Options { retry_ms: 1, ..Options::default() }
}

/// A client that is closed when the test has run out of patience: what it waits for then fails.
fn source_at(address: SocketAddr, target: &str, options: Options) -> EventSource {
    let url = Url::parse(&format!("http://{address}{target}")).unwrap();
    let source = EventSource::new(url, options);
    let closer = source.closer();
    std::thread::spawn(move || {
        std::thread::sleep(PATIENCE); // the subject is time
        closer.close();
    });
    source
}

#[track_caller]
fn data(source: &mut EventSource) -> String {
    let event = source.next_event().unwrap();
    assert_eq!(event.name, "message", "{event:?}");
    event.data
}

#[track_caller]
fn failed(source: &mut EventSource, expected: &str) {
    match source.next_event() {
        Err(Ended::Failed(why)) => assert!(why.contains(expected), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(source.state(), State::Closed);
}

fn event(data: &str, last_event_id: &str) -> Event {
    Event { name: "message".into(), data: data.into(), last_event_id: last_event_id.into() }
}

/// What the scripted server does with a connection once it has read the request.
enum Act {
    /// Sends this and closes.
    Send(Vec<u8>),
    /// Sends this and keeps the connection until the client closes it.
    Hold(Vec<u8>),
    /// Sends this and resets the connection.
    Reset(Vec<u8>),
}

/// A server that does one act per connection, one after the other, and then is gone. Every request
/// that it reads goes to the test.
struct Script {
    address: SocketAddr,
    requests: Receiver<String>,
}

impl Script {
    fn play(acts: impl IntoIterator<Item = Act>) -> Script {
        Script::play_on(TcpListener::bind("127.0.0.1:0").unwrap(), acts)
    }

    fn play_on(listener: TcpListener, acts: impl IntoIterator<Item = Act>) -> Script {
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        let acts: Vec<Act> = acts.into_iter().collect();
        std::thread::spawn(move || {
            for act in acts {
                let (socket, _) = listener.accept().unwrap();
                perform(socket, &act, &sender);
            }
        });
        Script { address, requests }
    }

    fn source(&self) -> EventSource {
        self.source_with(options())
    }

    fn source_with(&self, options: Options) -> EventSource {
        source_at(self.address, "/start?x", options)
    }

    /// The next request, which it has got or is about to get.
    #[track_caller]
    fn request(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("a request")
    }

    /// The target of the next request.
    #[track_caller]
    fn target(&self) -> String {
        self.request().split(' ').nth(1).unwrap().to_owned()
    }

    /// The `Last-Event-ID` of the next request.
    #[track_caller]
    fn last_event_id(&self) -> Option<String> {
        let request = self.request();
        let id = request.lines().find_map(|line| line.strip_prefix("Last-Event-ID: "));
        id.map(str::to_owned)
    }
}

fn perform(socket: TcpStream, act: &Act, requests: &Sender<String>) {
    perform_by(socket, requests, || act);
}

/// The same with an act that is chosen when the request has been read.
fn perform_by<A: std::borrow::Borrow<Act>>(
    mut socket: TcpStream,
    requests: &Sender<String>,
    choose: impl FnOnce() -> A,
) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("the client sends a whole request");
        request.push(byte[0]);
    }
    // The test may have seen enough of them.
    let _unwanted = requests.send(String::from_utf8(request).unwrap());
    let act = choose();
    let (Act::Send(answer) | Act::Hold(answer) | Act::Reset(answer)) = act.borrow();
    // A client may have left already.
    let _left = socket.write_all(answer);
    match act.borrow() {
        Act::Send(_) => {}
        Act::Hold(_) => {
            let _closed = socket.read_exact(&mut [0]);
        }
        Act::Reset(_) => {
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";

/// A stream that ends with the connection.
fn stream(body: impl AsRef<[u8]>) -> Vec<u8> {
    [STREAM.as_bytes(), b"\r\n", body.as_ref()].concat()
}

/// An answer without a body.
fn answer(status: u16, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{fields}\r\n").into_bytes()
}

/// What the client has logged. It tells a test what the client cannot be asked: that it has tried
/// in vain, that it waits.
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

static LOG: Log = Log { lines: Mutex::new(Vec::new()), more: Condvar::new() };

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("pushv::client")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.lines.lock().unwrap().push(record.args().to_string());
            self.more.notify_all();
        }
    }

    fn flush(&self) {}
}

impl Log {
    fn listen() {
        // The first test has done it for all.
        let _again = log::set_logger(&LOG);
        log::set_max_level(log::LevelFilter::Debug);
    }

    /// Waits for a line that holds both parts.
    #[track_caller]
    fn wait_for(&self, address: SocketAddr, what: &str) {
        let address = address.to_string();
        let found = |line: &String| line.contains(&address) && line.contains(what);
        let lines = self.lines.lock().unwrap();
        let (lines, timeout) = self
            .more
            .wait_timeout_while(lines, PATIENCE, |lines| !lines.iter().any(found))
            .unwrap();
        assert!(!timeout.timed_out(), "no {what:?} in {lines:?}");
    }

    /// How long the client of this server was going to wait, each time.
    fn waited_ms(&self, address: SocketAddr) -> Vec<u64> {
        let wait = |line: &String| {
            let (_, ms) = line.split_once("Retry { after_ms: ")?;
            line.contains(&address.to_string()).then(|| ms.trim_end_matches(" }").parse().unwrap())
        };
        self.lines.lock().unwrap().iter().filter_map(wait).collect()
    }
}

/// An event that was not finished is not delivered, and does not move the reader.
#[test]
fn a_cut_stream_is_resumed_behind_its_last_whole_event() {
    let script = Script::play([
        Act::Send(stream("id: 7\ndata: a\n\nid: 8\ndata: lost\n")),
        Act::Reset(stream("id: 9\ndata: b\n\nid: 10\ndata: lost")),
        Act::Send(format!("{STREAM}Transfer-Encoding: chunked\r\n\r\n20\r\ndata: c\n\n").into()),
        Act::Send(stream("id: größe\n\n")),
        Act::Send(stream("id\ndata: d\n\n")),
        Act::Hold(stream("data: e\n\n")),
    ]);
    let mut source = script.source();
    assert_eq!((source.state(), source.last_event_id()), (State::Connecting, ""));
    assert_eq!(source.next_event(), Ok(event("a", "7")));
    assert_eq!((source.state(), source.last_event_id()), (State::Open, "7"));
    assert_eq!(source.next_event(), Ok(event("b", "9")));
    assert_eq!(source.next_event(), Ok(event("c", "9")), "an id survives reconnections");
    assert_eq!(source.next_event(), Ok(event("d", "")), "until it is replaced");
    assert_eq!(source.next_event(), Ok(event("e", "")));
    let ids: Vec<Option<String>> = (0..6).map(|_| script.last_event_id()).collect();
    let sent = [None, Some("7"), Some("9"), Some("9"), Some("größe"), None];
    assert_eq!(ids, sent.map(|id| id.map(str::to_owned)));
}

#[test]
fn what_a_request_says() {
    let script = Script::play([Act::Hold(stream("data: a\n\n"))]);
    let mut source = script.source_with(Options {
        last_event_id: "41".into(),
        fields: vec![("Authorization".into(), "Bearer t".into())],
        ..options()
    });
    assert_eq!(source.next_event(), Ok(event("a", "41")));
    let expected = format!(
        "GET /start?x HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nAccept-Encoding: identity\r\n\
         Cache-Control: no-store\r\nLast-Event-ID: 41\r\nAuthorization: Bearer t\r\n\r\n",
        script.address
    );
    assert_eq!(script.request(), expected);
}

/// The end of a body is where its framing says; the server need not close.
#[test]
fn bodies_that_end_before_the_connection() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let script = Script::play([
        Act::Hold(format!("{interim}{STREAM}Content-Length: 9\r\n\r\ndata: a\n\n").into()),
        Act::Hold(
            format!("{STREAM}Transfer-Encoding: chunked\r\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n")
                .into(),
        ),
        Act::Hold(stream(b"\xef\xbb\xbfevent: x\xff\ndata: \xe2\x82\ndata: \xe2\x82\xac\n\n")),
    ]);
    let mut source = script.source();
    assert_eq!((data(&mut source), data(&mut source)), ("a".into(), "b".into()));
    let last = source.next_event().unwrap();
    assert_eq!((&*last.name, &*last.data), ("x\u{fffd}", "\u{fffd}\n€"));
}

#[test]
fn redirects_are_followed() {
    for (status, permanent) in [(301, true), (302, false), (303, false), (307, false), (308, true)]
    {
        let script = Script::play([
            Act::Hold(answer(status, "Location: a/b\r\n")),
            Act::Send(stream("id: 1\ndata: a\n\n")),
            Act::Hold(stream("data: b\n\n")),
        ]);
        let mut source = script.source();
        assert_eq!((data(&mut source), data(&mut source)), ("a".into(), "b".into()));
        assert_eq!((script.target(), script.target()), ("/start?x".into(), "/a/b".into()));
        let then = if permanent { "/a/b" } else { "/start?x" };
        assert_eq!(script.target(), then, "{status}");
    }
}

#[test]
fn credentials_are_kept_from_other_servers() {
    let other = Script::play([Act::Hold(stream("data: a\n\n"))]);
    let location = format!("Location: http://{}/other\r\n", other.address);
    let script = Script::play([
        Act::Send(answer(307, "Location: /same\r\n")),
        Act::Send(answer(307, &location)),
    ]);
    let fields = ["authorization", "Cookie", "X-Other"].map(|name| (name.into(), "v".into()));
    let mut source = script.source_with(Options { fields: fields.into(), ..options() });
    assert_eq!(data(&mut source), "a");
    for _ in 0..2 {
        let request = script.request();
        assert!(request.contains("\r\nauthorization: v\r\nCookie: v\r\nX-Other: v\r\n"));
    }
    let request = other.request();
    assert!(request.contains("\r\nX-Other: v\r\n"), "{request}");
    assert!(!request.contains("authorization") && !request.contains("Cookie"), "{request}");
}

/// A server that a redirect leads to chooses where the chain goes on. Credentials must not follow it
/// back, neither in this chain nor, if it was permanent, in the attempts that begin at its end.
#[test]
fn credentials_do_not_come_back_along_a_chain_of_redirects() {
    for (status, permanent) in [(307, false), (308, true)] {
        let [home, away] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let to = |listener: &TcpListener, target: &str| {
            let address = listener.local_addr().unwrap();
            answer(status, &format!("Location: http://{address}{target}\r\n"))
        };
        let (first, back) = (to(&away, "/away"), to(&home, "/chosen-by-the-other"));
        let away = Script::play_on(away, [Act::Send(back)]);
        let home = Script::play_on(
            home,
            [Act::Send(first), Act::Send(stream("data: a\n\n")), Act::Hold(stream("data: b\n\n"))],
        );
        let fields = vec![("Authorization".into(), "Bearer t".into())];
        let mut source = home.source_with(Options { fields, ..options() });
        assert_eq!((data(&mut source), data(&mut source)), ("a".into(), "b".into()));
        let asked = |script: &Script| {
            let request = script.request();
            let target = request.split(' ').nth(1).unwrap().to_owned();
            (target, request.contains("Bearer t"))
        };
        assert_eq!(asked(&home), ("/start?x".into(), true));
        assert_eq!(asked(&away), ("/away".into(), false));
        assert_eq!(asked(&home), ("/chosen-by-the-other".into(), false), "{status}");
        let then = if permanent { "/chosen-by-the-other" } else { "/start?x" };
        assert_eq!(asked(&home), (then.into(), !permanent), "{status}");
    }
}

#[test]
fn redirects_in_a_circle_end_it() {
    let script = Script::play((0..30).map(|_| Act::Send(answer(302, "Location: /start?x\r\n"))));
    failed(&mut script.source(), "more than 20 redirects");
    assert_eq!(script.requests.try_iter().count(), 21);
}

#[test]
fn answers_that_end_it_for_ever() {
    let html = "Content-Type: text/html\r\n".to_owned();
    for (status, fields, why) in [
        (200, &html, "media type is text/html"),
        (200, &String::new(), "media type is nothing"),
        (204, &html, "status is 204"),
        (302, &html, "status is 302"),
        (302, &"Location: https://h/\r\n".into(), "https is not spoken here"),
        (404, &html, "status is 404"),
        (500, &STREAM["HTTP/1.1 200 OK\r\n".len()..].into(), "status is 500"),
        (503, &"Retry-After: 0\r\n".into(), "status is 503"),
    ] {
        let script =
            Script::play([Act::Send(answer(status, fields)), Act::Hold(stream("data: never\n\n"))]);
        let mut source = script.source();
        failed(&mut source, why);
        failed(&mut source, why);
        assert_eq!(source.next(), None);
        script.request();
        assert!(script.requests.try_recv().is_err(), "it has not come back");
    }
}

#[test]
fn an_event_that_is_too_long_ends_it() {
    let body = format!("data: a\n\ndata: {}\n\n", "x".repeat(100));
    let script = Script::play([Act::Hold(stream(body))]);
    let limits = Limits { event_bytes_max: 99, ..Limits::default() };
    let mut source = script.source_with(Options { limits, ..options() });
    assert_eq!(data(&mut source), "a");
    failed(&mut source, "exceeds the limit");
}

#[test]
fn a_patient_reader_comes_back_to_an_overloaded_server() {
    let script = Script::play([
        Act::Send(answer(503, "Retry-After: 1\r\n")),
        Act::Send(answer(429, "")),
        Act::Hold(stream("data: a\n\n")),
    ]);
    let begun = Instant::now();
    let mut source = script.source_with(Options { patient: true, ..options() });
    assert_eq!(data(&mut source), "a");
    assert!(begun.elapsed() >= Duration::from_secs(1), "it was asked to wait");
}

#[test]
fn servers_that_fail_before_they_answer() {
    let script = Script::play([
        Act::Send(b"".into()),
        Act::Send(b"HTTP/1.1 200 OK\r\nContent-Ty".into()),
        Act::Reset(b"what?\r\n\r\n".into()),
        Act::Hold(stream("data: a\n\n")),
    ]);
    assert_eq!(data(&mut script.source()), "a");
}

/// Failures in a row make it wait for longer and longer; a stream makes up for them all.
#[test]
fn a_stream_ends_the_back_off() {
    Log::listen();
    let script = Script::play([
        Act::Send(b"".into()),
        Act::Send(b"".into()),
        Act::Send(stream("data: a\n\n")),
        Act::Send(b"".into()),
        Act::Hold(stream("data: b\n\n")),
    ]);
    let mut source = script.source();
    assert_eq!((data(&mut source), data(&mut source)), ("a".into(), "b".into()));
    let waited = LOG.waited_ms(script.address);
    assert_eq!(waited.len(), 4);
    for (ms, expected) in waited.iter().zip([100..200, 200..400, 1..2, 100..200]) {
        assert!(expected.contains(ms), "{waited:?}");
    }
}

#[test]
fn a_server_that_is_not_there_yet() {
    Log::listen();
    let closed = ClosedAddress::new();
    let address = closed.address;
    let client = std::thread::spawn(move || {
        let mut source = source_at(address, "/", options());
        data(&mut source)
    });
    LOG.wait_for(address, "cannot connect");
    let _script = Script::play_on(closed.listen(), [Act::Hold(stream("data: a\n\n"))]);
    assert_eq!(client.join().unwrap(), "a");
}

#[test]
fn the_server_sets_the_reconnection_time() {
    let script = Script::play([
        Act::Send(stream("data: a\n\nretry: 300\n")),
        Act::Send(stream("data: b\n\n")),
        Act::Hold(stream("data: c\n\n")),
    ]);
    let mut source = script.source();
    data(&mut source);
    for _ in 0..2 {
        let begun = Instant::now();
        data(&mut source);
        assert!(begun.elapsed() >= Duration::from_millis(300), "and it stays set");
    }
}

#[test]
fn a_silent_server_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // What it gets depends on what it has got: on a busy machine it may leave a connection on which
    // something was on its way.
    std::thread::spawn(move || {
        let mut is_first = true;
        for socket in listener.incoming().map_while(Result::ok) {
            let (sender, request) = channel();
            let act = |answer: &str| Act::Hold(answer.into());
            let silent = std::mem::take(&mut is_first);
            perform_by(socket, &sender, || {
                let request = request.recv().unwrap();
                match request.contains("Last-Event-ID: 1\r\n") {
                    _ if silent => act(""),
                    false => Act::Hold(stream("id: 1\ndata: a\n\n: and no more")),
                    true => Act::Hold(stream("id: 2\ndata: b\n\n")),
                }
            });
        }
    });
    let silence_timeout = Some(Duration::from_millis(200));
    let mut source = source_at(address, "/", Options { silence_timeout, ..options() });
    assert_eq!((data(&mut source), data(&mut source)), ("a".into(), "b".into()));
}

#[test]
fn a_heartbeat_breaks_the_silence() {
    // Longer than a server gets no processor for, mostly; and the heartbeats go on for longer still.
    let server = Server::start(&[("heartbeat_ms", "40")]);
    let silence_timeout = Some(Duration::from_secs(4));
    let mut source =
        source_at(server.public, "/events/a", Options { silence_timeout, ..options() });
    let client = std::thread::spawn(move || data(&mut source));
    server.wait_for("heartbeats_total", 150);
    server.publish("a", "x");
    assert_eq!(client.join().unwrap(), "x");
    assert_eq!(server.metric("subscribed_total"), 1);
}

/// Runs `source` in a thread until it ends, and then tells how.
fn ending(mut source: EventSource) -> Receiver<Ended> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        while source.next_event().is_ok() {}
        assert_eq!(source.state(), State::Closed);
        sender.send(source.next_event().unwrap_err())
    });
    receiver
}

#[test]
fn it_can_be_closed_while_it_reads() {
    let server = Server::start(&[]);
    let source = source_at(server.public, "/events/a", Options::default());
    let closer: Closer = source.closer();
    let client = ending(source);
    server.wait_for("subscribed_total", 1);
    closer.close();
    assert_eq!(client.recv_timeout(PATIENCE / 2), Ok(Ended::Closed));
    server.wait_for("closes_total{reason=\"peer_left\"}", 1);
    closer.close();
}

#[test]
fn it_can_be_closed_while_it_waits() {
    Log::listen();
    let script = Script::play([Act::Send(stream("retry: 3600000\n"))]);
    let source = script.source();
    let closer = source.closer();
    let client = ending(source);
    LOG.wait_for(script.address, "waiting for");
    closer.clone().close();
    assert_eq!(client.recv_timeout(PATIENCE / 2), Ok(Ended::Closed));
}

#[test]
fn it_can_be_closed_before_it_begins_and_with_events_at_hand() {
    let script = Script::play([Act::Hold(stream("data: a\n\ndata: b\n\n"))]);
    let mut source = script.source();
    assert_eq!(data(&mut source), "a");
    source.closer().close();
    assert_eq!(source.state(), State::Closed);
    assert_eq!(source.next_event(), Err(Ended::Closed));

    let mut source = source_at(ClosedAddress::new().address, "/", options());
    source.closer().close();
    assert_eq!(source.next_event(), Err(Ended::Closed));
}

#[test]
#[should_panic(expected = "line end")]
fn a_field_that_would_inject_is_refused_at_once() {
    let fields = vec![("X".into(), "y\nZ: z".into())];
    source_at(([127, 0, 0, 1], 1).into(), "/", Options { fields, ..options() });
}

/// Streams that end at their age all the time: every event comes once, in order.
#[test]
fn nothing_is_lost_or_doubled_between_streams() {
    let server = Server::start(&[("connection_age_ms", "100"), ("retry_ms", "20")]);
    let mut source = source_at(server.public, "/events/a?last_event_id=earliest", options());
    let (mut published, mut seen) = (0, 0);
    let mut see = |until: u32| {
        while seen < until {
            assert_eq!(data(&mut source), seen.to_string());
            seen += 1;
        }
    };
    while server.metric("subscribed_total") < 6 {
        for _ in 0..7 {
            server.publish("a", &published.to_string());
            published += 1;
        }
        // It lags a little, so that some events fall into the times when it is not connected.
        see(published - 5);
    }
    see(published);
    assert_eq!(server.metric("gaps_total"), 0);
}

#[test]
fn a_gap_is_an_event() {
    let server = Server::start(&[("log_events_max", "4")]);
    let ids: Vec<String> = (0..6).map(|nth| server.publish("a", &nth.to_string())).collect();
    let last_event_id = ids[0].clone();
    let mut source = source_at(server.public, "/events/a", Options { last_event_id, ..options() });
    let gap = source.next_event().unwrap();
    assert_eq!((gap.name.as_str(), &gap.last_event_id), ("gap", &ids[0]));
    assert!(gap.data.contains("\"reason\":\"evicted\""), "{gap:?}");
    for (nth, id) in ids.iter().enumerate().skip(2) {
        assert_eq!(source.next_event(), Ok(event(&nth.to_string(), id)));
    }
}

/// The server goes down in order and another comes up in its place, which knows nothing of the
/// first one's ids and says so.
#[test]
fn a_server_that_is_started_again() {
    let config = |listen: &str| support::config(&[("listen", listen), ("retry_ms", "20")]);
    let server = Server::with_config(config("127.0.0.3:0"));
    let address = server.public;
    let id = server.publish("a", "x");
    let mut source = source_at(address, "/events/a?last_event_id=earliest", options());
    assert_eq!(source.next_event(), Ok(event("x", &id)));
    server.handle.send(Command::Drain).unwrap();
    server.join();

    let server = Server::with_config(config(&address.to_string()));
    server.publish("a", "y");
    let gap = source.next_event().unwrap();
    assert_eq!((gap.name.as_str(), &gap.last_event_id), ("gap", &id));
    assert!(gap.data.contains("\"from\":null"), "{gap:?}");
    assert_eq!(data(&mut source), "y");
    assert_eq!(source.state(), State::Open);
}
