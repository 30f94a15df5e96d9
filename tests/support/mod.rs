//! A server in a thread, and clients that say exactly what they mean.
//!
//! Every read has a deadline, so a test that waits for bytes that do not come fails instead of
//! hanging. Nothing sleeps in order to synchronise.

#![allow(dead_code)] // each test file uses its own part

pub mod process;

use pushv::config::{Config, knobs};
use pushv::reactor::{self, Handle, Reactor};
use pushv::wire::chunk;
use pushv::wire::decode::{Decoder, Item};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long any single expectation may take. Only a failing test ever waits for so long, so it is
/// generous: on a busy machine a process may get no processor for seconds.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running server. Dropped, it is stopped.
pub struct Server {
    pub public: SocketAddr,
    pub admin: SocketAddr,
    pub handle: Handle,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    /// A server with the default settings but for these knobs.
    #[track_caller]
    pub fn start(settings: &[(&str, &str)]) -> Server {
        Server::with_config(config(settings))
    }

    /// A server with this configuration.
    #[track_caller]
    pub fn with_config(config: Config) -> Server {
        let reactor = Reactor::bind(config).expect("bound");
        let (public, admin) =
            (reactor.public_addresses()[0], reactor.admin_address().expect("bound"));
        let handle = reactor.handle();
        let thread = Some(std::thread::spawn(move || reactor.run()));
        Server { public, admin, handle, thread }
    }

    /// A connection to the public listener.
    pub fn connect(&self) -> Client {
        Client::connect(self.public)
    }

    /// A subscriber of `/events` and what follows that, for example `/a?last_event_id=earliest`.
    #[track_caller]
    pub fn subscribe(&self, path: &str) -> Subscriber {
        self.subscribe_with(path, &[])
    }

    /// The same with further header fields.
    #[track_caller]
    pub fn subscribe_with(&self, path: &str, fields: &[(&str, &str)]) -> Subscriber {
        Subscriber::new(self.connect(), path, fields)
    }

    /// Publishes and gives the id that the server answers with.
    #[track_caller]
    pub fn publish(&self, topic: &str, data: &str) -> String {
        let answer =
            self.connect().request("POST", &format!("/events/{topic}"), &[], data.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json("id")
    }

    /// The answer to a GET on the admin listener.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> Answer {
        Client::connect(self.admin).request("GET", path, &[], b"")
    }

    /// The answer to a PATCH of `/knobs`.
    #[track_caller]
    pub fn patch_knobs(&self, query: &str, json: &str) -> Answer {
        let path = format!("/knobs{query}");
        Client::connect(self.admin).request("PATCH", &path, &[], json.as_bytes())
    }

    /// The value of a metric, labels included, for example `closes_total{reason="stalled"}`.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.admin_get("/metrics").text();
        let line = format!("pushv_{name} ");
        let value = text.lines().find_map(|found| found.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("no {line}in\n{text}")).parse::<f64>().expect("a number")
            as u64
    }

    /// Waits until a metric has reached `at_least`.
    #[track_caller]
    pub fn wait_for(&self, name: &str, at_least: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(name) < at_least {
            assert!(Instant::now() < deadline, "{name} stays at {}", self.metric(name));
            std::thread::sleep(Duration::from_millis(2)); // between two looks
        }
    }

    /// Waits for the server to end by itself.
    #[track_caller]
    pub fn join(mut self) {
        self.thread.take().expect("it runs").join().expect("no panic").expect("no error");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _gone = self.handle.send(reactor::Command::Stop);
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the server did not panic").expect("the server did not fail");
            }
        }
    }
}

/// The default settings on free ports, but for these knobs.
#[track_caller]
pub fn config(settings: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    for (name, value) in
        [("listen", "127.0.0.1:0"), ("admin", "127.0.0.1:0")].iter().chain(settings)
    {
        knobs::find(name).and_then(|knob| knob.set(&mut config, value)).expect("a good setting");
    }
    config
}

/// An address at which nobody listens, and nobody else can: it belongs to a socket that is bound
/// and does not listen. An address that was only given back could be somebody else's in a moment.
pub struct ClosedAddress {
    socket: socket2::Socket,
    pub address: SocketAddr,
}

impl ClosedAddress {
    #[track_caller]
    pub fn new() -> ClosedAddress {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
        let address = socket.local_addr().expect("bound").as_socket().expect("an address");
        ClosedAddress { socket, address }
    }

    /// From now on somebody does listen.
    #[track_caller]
    pub fn listen(self) -> TcpListener {
        self.socket.listen(16).expect("listens");
        self.socket.into()
    }
}

/// A raw connection.
pub struct Client {
    pub socket: TcpStream,
    /// Bytes received and not yet looked at.
    pub received: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The text of a top-level member of a JSON body, without the quotes of a string.
    #[track_caller]
    pub fn json(&self, member: &str) -> String {
        let value: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        match &value[member] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).expect("connected");
        Client::over(socket)
    }

    /// A connection whose receive buffer is as small as the kernel permits, so that the server's
    /// send buffer fills up soon.
    pub fn connect_narrow(address: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        socket.set_recv_buffer_size(1).expect("set");
        socket.connect(&address.into()).expect("connected");
        Client::over(socket.into())
    }

    fn over(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.set_nodelay(true).expect("set");
        Client { socket, received: Vec::new() }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("sent");
    }

    /// Sends as much as the server takes; it may refuse in the middle.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _refused = self.socket.write_all(bytes.as_ref());
    }

    /// Closes the sending side.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("shut down");
    }

    /// Resets the connection.
    pub fn reset(self) {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).expect("set");
    }

    /// Receives something; `false` at the end.
    #[track_caller]
    pub fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.socket.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            // The kernel does not restart a read with a timeout (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => self.receive(),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.received)),
        }
    }

    /// Takes `count` bytes.
    #[track_caller]
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.receive(), "ended after {:?}", String::from_utf8_lossy(&self.received));
        }
        self.received.drain(..count).collect()
    }

    /// Takes everything up to and including `end`.
    #[track_caller]
    pub fn take_through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len());
            }
            assert!(
                self.receive(),
                "ended without {:?} after {:?}",
                String::from_utf8_lossy(end),
                String::from_utf8_lossy(&self.received)
            );
        }
    }

    /// Takes one answer with a length, or without a body.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// Takes the answer to a request with `method`.
    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> Answer {
        let head = String::from_utf8(self.take_through(b"\r\n\r\n")).expect("text");
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length =
            field(&head, "Content-Length").map_or(0, |length| length.parse().expect("a length"));
        let body = if method == "HEAD" { Vec::new() } else { self.take(length) };
        Answer { status, head, body }
    }

    /// Sends a request with a body of known length, and takes the answer.
    #[track_caller]
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in fields {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || matches!(method, "POST" | "PATCH") {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send([request.as_bytes(), b"\r\n", body].concat());
        self.answer_to(method)
    }

    /// Asserts that the server ends the connection, and that nothing more comes before that.
    #[track_caller]
    pub fn expect_end(&mut self) {
        while self.receive() {}
        assert!(
            self.received.is_empty(),
            "unexpected {:?}",
            String::from_utf8_lossy(&self.received)
        );
    }

    /// Everything up to the end of the connection.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        while self.receive() {}
        std::mem::take(&mut self.received)
    }
}

/// An event as a subscriber sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
    pub id: Option<String>,
}

/// A subscriber that has received the head of its stream.
pub struct Subscriber {
    pub client: Client,
    pub head: String,
    chunks: Option<chunk::Decoder>,
    events: Decoder,
    ready: VecDeque<Event>,
    /// The reconnection times that it was told.
    pub retries: Vec<u64>,
    /// The body ended in order.
    pub ended: bool,
}

impl Subscriber {
    #[track_caller]
    pub fn new(mut client: Client, path: &str, fields: &[(&str, &str)]) -> Subscriber {
        let mut request = format!("GET /events{path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in fields {
            request += &format!("{name}: {value}\r\n");
        }
        client.send(request + "\r\n");
        Subscriber::asked(client)
    }

    /// The subscriber of a connection on which the request has been sent.
    #[track_caller]
    pub fn asked(mut client: Client) -> Subscriber {
        let head = String::from_utf8(client.take_through(b"\r\n\r\n")).expect("text");
        assert!(head.contains(" 200 OK\r\n"), "{head}");
        let chunked = field(&head, "Transfer-Encoding") == Some("chunked");
        Subscriber {
            client,
            head,
            chunks: chunked.then(chunk::Decoder::default),
            events: Decoder::new(1 << 24),
            ready: VecDeque::new(),
            retries: Vec::new(),
            ended: false,
        }
    }

    /// The value of a field of the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The next event, or `None` when the stream has ended.
    #[track_caller]
    pub fn next(&mut self) -> Option<Event> {
        loop {
            self.decode();
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended || !self.client.receive() {
                return None;
            }
        }
    }

    /// The data of the next event, which is an unnamed one.
    #[track_caller]
    pub fn data(&mut self) -> String {
        let event = self.next().expect("an event");
        assert_eq!(event.name, "", "{event:?}");
        event.data
    }

    /// Reads to the end of the stream.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Decodes what has been received.
    #[track_caller]
    fn decode(&mut self) {
        let received = std::mem::take(&mut self.client.received);
        let mut bytes = &received[..];
        while !bytes.is_empty() {
            assert!(!self.ended, "bytes behind the end of the body");
            let mut data = match &mut self.chunks {
                None => std::mem::take(&mut bytes),
                Some(chunks) => {
                    let part = chunks.decode(bytes).expect("well-formed chunks");
                    bytes = &bytes[part.consumed..];
                    self.ended = part.done;
                    part.data
                }
            };
            while let Some(item) = self.events.next(&mut data).expect("well-formed events") {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
                match item {
                    Item::Retry(ms) => self.retries.push(ms),
                    Item::Message(message) => self.ready.push_back(Event {
                        name: text(message.name),
                        data: text(message.data),
                        id: message.id.map(text),
                    }),
                }
            }
        }
    }
}

/// A directory that goes when the test does.
pub struct Scratch(pub PathBuf);

impl Scratch {
    #[track_caller]
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pushv-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("made");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A child process. Dropped, it is killed.
pub struct Running(pub Child);

impl Running {
    /// Starts it.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Running {
        Running(command.spawn().expect("started"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Says that something is not tested here. Not by `println!`, which the test runner keeps to itself
/// when a test passes.
pub fn skip(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The first of `programs` that is installed; says that the test is skipped if none is.
pub fn installed<'p>(programs: &[&'p str]) -> Option<&'p str> {
    let answers = |program: &&str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let found = programs.iter().copied().find(answers);
    if found.is_none() {
        skip(&format!("not installed: {}", programs.join(", ")));
    }
    found
}
