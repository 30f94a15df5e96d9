//! A hub that does one thing wrong, or one right thing that is unusual.
//!
//! Each connection has a thread. Events are kept as the bytes that are to be sent for each, so what
//! is wrong with an event is wrong for every subscriber, whenever it comes for it; what is wrong
//! with a connection is done to some connections, and then no more.
//! An event is answered when it has been written to every stream, so that nothing depends on how
//! fast anything is.

use crate::fault::Fault;
use pushv::load::payload::{self, Stamp};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Events of a run, the one by which something goes wrong, and the subscribers.
pub const EVENTS: usize = 8;
pub const WRONG: usize = 3;
pub const SUBSCRIBERS: usize = 3;

/// How the hub does it.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Nobody publishes: there are events from the start, and the first stream is spared, because a
    /// run of which no stream is left has no report.
    pub listened: bool,
    /// So many connections have what is wrong with connections.
    pub times: usize,
    /// When readers are to come back.
    pub retry_ms: u64,
    /// The hub takes so long over what is wrong with a connection, and over each answer.
    pub pause: Duration,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { listened: false, times: SUBSCRIBERS, retry_ms: 10, pause: Duration::ZERO }
    }
}

pub struct Hub {
    shared: Arc<Shared>,
    address: SocketAddr,
    publishing: SocketAddr,
}

struct Shared {
    fault: Fault,
    manner: Manner,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The bytes to be sent for each event.
    log: Vec<Vec<u8>>,
    /// The data of the event by which something goes wrong.
    held: String,
    /// Events that were asked to be published.
    asked: usize,
    /// Subscriptions so far.
    subscriptions: usize,
    /// Open streams, and the event that each is to be sent next.
    streams: HashMap<usize, usize>,
    /// Connections that something was done to.
    done: usize,
    /// Connections on which something was to be published.
    publishers: usize,
    refusing: bool,
    gone: bool,
}

impl Hub {
    pub fn start(fault: Fault, manner: Manner) -> Hub {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (listener, publishing) = (bind(), bind());
        let mut state = State::default();
        if manner.listened {
            (0..EVENTS).for_each(|n| state.append(fault, n, &format!("news {n}")));
        }
        let shared =
            Arc::new(Shared { fault, manner, state: Mutex::new(state), changed: Condvar::new() });
        let hub = Hub {
            address: listener.local_addr().unwrap(),
            publishing: publishing.local_addr().unwrap(),
            shared: Arc::clone(&shared),
        };
        let closes = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &shared, Shared::serve));
        std::thread::spawn(move || {
            accept(&publishing, &closes, |shared, _| {
                shared.lock().publishers += 1;
            })
        });
        hub
    }

    pub fn url(&self) -> String {
        format!("http://{}/events/a", self.address)
    }

    /// An address that closes every connection at once.
    pub fn closing_url(&self) -> String {
        format!("http://{}/", self.publishing)
    }

    /// Connections on which something was to be published.
    pub fn publishers(&self) -> usize {
        self.shared.lock().publishers
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.go();
        for address in [self.address, self.publishing] {
            let _woken = TcpStream::connect(address);
        }
    }
}

/// Serves each connection in a thread of its own, until the hub is gone; then nobody listens.
fn accept(listener: &TcpListener, shared: &Arc<Shared>, serve: fn(&Shared, TcpStream)) {
    for socket in listener.incoming().map_while(Result::ok) {
        if shared.lock().gone {
            return;
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || serve(&shared, socket));
    }
}

impl State {
    /// Appends event number `n`, as the fault has it.
    fn append(&mut self, fault: Fault, n: usize, data: &str) {
        let right = frame(n, data);
        let last = n + 1 == EVENTS;
        let bytes = match (fault, n) {
            (Fault::DropAll, _) => Vec::new(),
            (Fault::DropLast, _) if last => Vec::new(),
            (Fault::Drop | Fault::Swap, WRONG) => Vec::new(),
            (Fault::GapThenDrop | Fault::GapTooEarly, 5) => Vec::new(),
            (Fault::GapForNothing | Fault::GapTooEarly, WRONG) => right,
            (fault, WRONG) if fault.notice().is_some() => Vec::new(),
            (Fault::Swap, 4) => [right, frame(WRONG, &self.held)].concat(),
            (Fault::Repeat, WRONG) => right.repeat(2),
            (Fault::Alter, WRONG) => frame(n, &data.replacen('b', "c", 1)),
            (Fault::Shorten, WRONG) => frame(n, &data[..data.len() - 1]),
            (Fault::Foreign, WRONG) => [foreign().repeat(200), right].concat(),
            (Fault::OtherRun, WRONG) => [other_run(), right].concat(),
            (fault, 4) if fault.notice().is_some() => {
                let notice = fault.notice().unwrap();
                [chunk(&format!("event: gap\ndata: {notice}\n\n")).into_bytes(), right].concat()
            }
            _ => right,
        };
        if n == WRONG {
            self.held = data.to_string();
        }
        self.log.push(bytes);
    }
}

/// What becomes of a connection.
enum Turn {
    Goes,
    Ends,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Every connection is to end, and no new one is made.
    fn go(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }

    fn serve(&self, mut socket: TcpStream) {
        let mut input = BufReader::new(socket.try_clone().unwrap());
        while let Some(head) = read_head(&mut input) {
            if head.starts_with("GET ") {
                return self.subscribe(&mut socket, field(&head, "Last-Event-ID"));
            }
            let bytes = field(&head, "Content-Length").unwrap().parse().unwrap();
            let mut body = vec![0; bytes];
            if input.read_exact(&mut body).is_err() {
                return;
            }
            match self.publish(&mut socket, &String::from_utf8(body).unwrap()) {
                Turn::Goes => {}
                Turn::Ends => return,
            }
        }
    }

    fn publish(&self, socket: &mut TcpStream, data: &str) -> Turn {
        let mut state = self.lock();
        let n = state.asked;
        state.asked += 1;
        match (self.fault, n) {
            (Fault::RefusePublish, WRONG) => return answer(socket, "503 No", ""),
            (Fault::StallPublish, WRONG) => {
                // The connection stays, and nothing is heard of it any more.
                drop(self.changed.wait_while(state, |state| !state.gone));
                return Turn::Ends;
            }
            (Fault::ClosePublish, WRONG) => return Turn::Ends,
            _ => {}
        }
        let number = state.log.len();
        state.append(self.fault, number, data);
        self.changed.notify_all();
        let written = |state: &mut State| {
            state.gone || state.streams.values().all(|&next| next >= state.log.len())
        };
        // What is too long for the sockets' buffers would wait for its readers.
        if self.fault != Fault::Endless {
            state = self.changed.wait_while(state, |state| !written(state)).unwrap();
        }
        if state.gone {
            return Turn::Ends;
        }
        drop(state);
        std::thread::sleep(self.manner.pause); // the pace
        match self.fault {
            Fault::CloseEach => answer(socket, "200 OK", "Connection: close\r\n"),
            Fault::GarbleAnswer if n == WRONG => {
                let _gone = socket.write_all(b"yes\r\n\r\n");
                Turn::Goes
            }
            _ => answer(socket, "200 OK", ""),
        }
    }

    fn subscribe(&self, socket: &mut TcpStream, position: Option<&str>) {
        let mut state = self.lock();
        let nth = state.subscriptions;
        state.subscriptions += 1;
        let second = nth == 1;
        let head = match self.fault {
            _ if state.refusing => NO,
            Fault::RefuseAll => NO,
            Fault::RefuseOne if second => NO,
            Fault::TurnAwayOne if second => AWAY,
            Fault::Compress => {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                                Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
            }
            Fault::NoStream => "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>",
            _ => STREAM,
        };
        let begin = if self.manner.listened { 0 } else { state.log.len() };
        let next = position.map_or(begin, |id| id.parse().unwrap());
        if head == STREAM {
            state.streams.insert(nth, next);
        }
        drop(state);
        let begun = match head {
            STREAM => format!(
                "{STREAM}{}",
                chunk(&format!("retry: {}\nid: {next}\n\n", self.manner.retry_ms))
            ),
            _ => head.to_string(),
        };
        if socket.write_all(begun.as_bytes()).is_ok() && head == STREAM {
            self.stream(socket, nth, next);
        }
        self.lock().streams.remove(&nth);
        self.changed.notify_all();
    }

    /// Sends event after event, until its stream is over.
    fn stream(&self, socket: &mut TcpStream, nth: usize, mut next: usize) {
        loop {
            let state = self.lock();
            let waits = |state: &mut State| !state.gone && state.log.len() == next;
            let mut state = self.changed.wait_while(state, waits).unwrap();
            if state.gone {
                return;
            }
            let bytes = state.log[next].clone();
            let spared = self.manner.listened && nth == 0;
            let its_turn = self.fault.is_of_connections() && next == WRONG && !spared;
            if its_turn && !self.manner.pause.is_zero() {
                drop(state);
                std::thread::sleep(self.manner.pause); // the pace
                state = self.lock();
            }
            let wrong = its_turn && (self.fault == Fault::Stall || state.done < self.manner.times);
            state.done += usize::from(wrong);
            if wrong && self.fault == Fault::EndAndRefuse {
                state.refusing = true;
            }
            drop(state);
            if wrong && let Turn::Ends = self.go_wrong(socket, nth, &bytes) {
                return;
            }
            let left_out = self.fault == Fault::DropForOne && next == WRONG && nth == 1;
            if !wrong && !left_out && socket.write_all(&bytes).is_err() {
                return;
            }
            next += 1;
            // One that stalls is not waited for.
            let reached = if wrong { usize::MAX } else { next };
            self.lock().streams.insert(nth, reached);
            self.changed.notify_all();
            if wrong {
                // Its peer finds out what was wrong, and leaves.
                drop(self.changed.wait_while(self.lock(), |state| !state.gone));
                return;
            }
        }
    }

    /// Sends an event as the fault has it.
    fn go_wrong(&self, socket: &mut TcpStream, nth: usize, bytes: &[u8]) -> Turn {
        let half = bytes.len() / 2;
        let text = String::from_utf8_lossy(bytes);
        let (sent, turn) = match self.fault {
            Fault::CutByEnd | Fault::CutByReset | Fault::Vanish => {
                (bytes[..half].to_vec(), Turn::Ends)
            }
            Fault::CutBetween => (bytes.to_vec(), Turn::Ends),
            Fault::End | Fault::EndAndRefuse => ([bytes, b"0\r\n\r\n"].concat(), Turn::Ends),
            Fault::Surplus => ([bytes, b"0\r\n\r\nmore"].concat(), Turn::Goes),
            Fault::BadSize => (format!("x{text}").into_bytes(), Turn::Goes),
            Fault::WrongSize => {
                // One byte of the event is left where the end of its chunk should be.
                let (_, event) = text.split_once("\r\n").unwrap();
                (format!("{:x}\r\n{event}", event.len() - 3).into_bytes(), Turn::Goes)
            }
            Fault::Endless => {
                (chunk(&format!("data: {}", "x".repeat(1_200_000))).into(), Turn::Goes)
            }
            Fault::Stall => (bytes[..half].to_vec(), Turn::Goes),
            other => unreachable!("{other:?} is not of a connection"),
        };
        let _gone = socket.write_all(&sent);
        match self.fault {
            Fault::CutByReset => reset(socket),
            Fault::Vanish => self.go(),
            _ => {}
        }
        if matches!(turn, Turn::Ends) {
            self.lock().streams.remove(&nth);
        }
        turn
    }
}

/// With nothing left to linger for, closing resets the connection (socket(7), `SO_LINGER`).
fn reset(socket: &TcpStream) {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

fn answer(socket: &mut TcpStream, status: &str, fields: &str) -> Turn {
    let text = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n");
    match socket.write_all(text.as_bytes()) {
        Ok(()) if fields.is_empty() => Turn::Goes,
        _ => Turn::Ends,
    }
}

fn read_head(input: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(head)
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Event number `n` has the id n + 1, which is also where its reader goes on.
fn frame(n: usize, data: &str) -> Vec<u8> {
    chunk(&format!("id: {}\ndata: {data}\n\n", n + 1)).into_bytes()
}

/// An event that is none of the run's.
fn foreign() -> Vec<u8> {
    chunk("data: something that somebody else has published\n\n").into_bytes()
}

/// A whole event of another run, whose events have another length.
fn other_run() -> Vec<u8> {
    let mut data = Vec::new();
    payload::write(Stamp { run: 1, seq: 7, intended_ns: 7 }, 300, &mut data);
    chunk(&format!("data: {}\n\n", String::from_utf8(data).unwrap())).into_bytes()
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                      Transfer-Encoding: chunked\r\n\r\n";
const AWAY: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
const NO: &str = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
