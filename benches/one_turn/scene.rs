//! A server that is as full as it may be, and the questions that it is asked.

use crate::Sizes;
use crate::probe::Probe;
use crate::support::process::{Process, Scratch};
use crate::support::{Client, Subscriber};
use crate::table::Row;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The server with its streams, which nobody reads.
pub struct Scene {
    pub sizes: Sizes,
    /// Before the server, which it must not outlive.
    probe: Probe,
    server: Process,
    admin: SocketAddr,
    file: Scratch,
    _streams: Vec<TcpStream>,
}

impl Scene {
    /// Starts a server and fills it.
    pub fn fill(sizes: Sizes) -> Scene {
        let file = Scratch::new("one-turn.toml", &settings(&sizes, 0));
        let arguments = ["--config", file.path(), "--log", "warn"];
        let server = Process::start(&arguments);
        let admin = server.admin.expect("an address");
        eprintln!("publishing to {} topics", sizes.topics);
        publish(server.public, sizes.topics);
        eprintln!("opening {} streams", sizes.streams);
        let streams = (0..sizes.streams).map(|nth| open(server.public, &sizes, nth)).collect();
        let probe = Probe::start(server.public);
        let scene = Scene { sizes, server, admin, file, probe, _streams: streams };
        while scene.metric("pushv_streams ") < sizes.streams as u64 {
            std::thread::sleep(Duration::from_millis(50)); // between two looks
        }
        assert_eq!(scene.metric("pushv_topics "), sizes.topics as u64);
        scene
    }

    /// Topics on each stream.
    pub fn topics_per_stream(&self) -> usize {
        TOPICS_PER_STREAM.min(self.sizes.topics)
    }

    /// Topics with knobs of their own.
    pub fn overridden(&self) -> usize {
        overridden(&self.sizes)
    }

    /// Asks each question so many times, one question after the other.
    pub fn ask_everything(&self) -> Vec<Row> {
        let mut rows = vec![self.row("nothing", |_| std::thread::sleep(LULL))];
        let first = self.get("/connections?limit=1");
        let id = first.split("\"id\": \"").nth(1).and_then(|rest| rest.split('"').next());
        let half = self.sizes.topics / 2;
        let paths = [
            "/topics?limit=500".into(),
            format!("/topics?from={half}&limit=500"),
            "/connections?sort=lag&limit=200".into(),
            "/connections?sort=age&limit=200".into(),
            "/connections?sort=bytes&limit=200".into(),
            "/connections?sort=verdict&limit=200".into(),
            "/connections?topic=t0&limit=200".into(),
            format!("/connections/{}", id.expect("a stream")),
            "/metrics".into(),
            "/knobs".into(),
            "/knobs?topic=t0".into(),
            "/".into(),
        ];
        for path in paths {
            let shown = path.replace(id.expect("a stream"), "ID");
            rows.push(self.row(&format!("`GET {shown}`"), |_| drop(self.get(&path))));
        }
        for (query, [one, other]) in PATCHES {
            let question = format!("`PATCH /knobs{query}` {one}");
            rows.push(
                self.row(&question, |nth| {
                    self.patch(query, if nth % 2 == 0 { one } else { other })
                }),
            );
        }
        rows.push(
            self.row("SIGHUP that changes all topics' own knobs", |nth| self.reload(nth + 1)),
        );
        for viewers in [1, VIEWERS_MAX] {
            rows.push(self.watch(viewers));
        }
        rows
    }

    fn row(&self, question: &str, ask: impl Fn(usize)) -> Row {
        eprintln!("{question}");
        let waits = (0..self.sizes.times).map(|nth| self.probe.longest_during(|| ask(nth)));
        Row { question: question.into(), waits: waits.collect() }
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let answer = Client::connect(self.admin).request(method, path, &[], body.as_bytes());
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.text()
    }

    fn get(&self, path: &str) -> String {
        self.request("GET", path, "")
    }

    fn patch(&self, query: &str, json: &str) {
        self.request("PATCH", &format!("/knobs{query}"), json);
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.parse().ok()).expect("the metric")
    }

    /// Has the file read again, with other knobs for each topic, and waits until they are in force.
    fn reload(&self, version: usize) {
        std::fs::write(self.file.path(), settings(&self.sizes, version)).expect("written");
        self.server.signal("-HUP");
        let last = format!("/knobs?topic=t{}", self.overridden() - 1);
        let value = timeout_ms(self.overridden() - 1, version);
        let expected = format!("\"tcp_user_timeout_ms\": {value}");
        while !self.get(&last).contains(&expected) {
            std::thread::sleep(Duration::from_millis(1)); // between two looks
        }
    }

    /// Viewers of `/live`, for as many of its intervals as other questions are asked.
    fn watch(&self, viewers: usize) -> Row {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..viewers {
                let mut client = Client::connect(self.admin);
                client.send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
                let mut viewer = Subscriber::asked(client);
                viewer.next().expect("an event");
                let over = &over;
                scope.spawn(
                    move || while !over.load(Ordering::Relaxed) && viewer.next().is_some() {},
                );
            }
            let question = format!("one event of `GET /live`, {viewers} viewers");
            let row = self.row(&question, |_| std::thread::sleep(LIVE_INTERVAL));
            over.store(true, Ordering::Relaxed);
            row
        })
    }
}

/// The configuration file: knobs of their own for as many topics as may have some, others in each
/// version.
fn settings(sizes: &Sizes, version: usize) -> String {
    let path = ["copy", "writev"][version % 2];
    let mut text = String::from("heartbeat = \"off\"\n"); // nothing but the questions
    for nth in 0..overridden(sizes) {
        let timeout_ms = timeout_ms(nth, version);
        let written = write!(
            text,
            "[topics.t{nth}]\nwrite_path = \"{path}\"\noverrun = \"latest\"\nflush_policy = \
             \"linger:5\"\ntcp_user_timeout_ms = {timeout_ms}\n"
        );
        written.expect("a String takes everything");
    }
    text
}

/// A value that no other topic has.
fn timeout_ms(nth: usize, version: usize) -> usize {
    100_000 + 100_000 * version + nth
}

fn overridden(sizes: &Sizes) -> usize {
    OVERRIDDEN_MAX.min(sizes.topics)
}

/// One event for each topic.
fn publish(address: SocketAddr, topics: usize) {
    let mut client = Client::connect(address);
    let mut socket = client.socket.try_clone().expect("a descriptor");
    let sender = std::thread::spawn(move || {
        for nth in 0..topics {
            let head =
                format!("POST /events/t{nth} HTTP/1.1\r\nHost: h\r\nContent-Length: 64\r\n\r\n");
            socket.write_all(&[head.as_bytes(), &[b'x'; 64]].concat()).expect("sent");
        }
    });
    (0..topics).for_each(|_| assert_eq!(client.answer().status, 200));
    sender.join().expect("no panic");
}

/// A stream of topics that follow each other.
fn open(address: SocketAddr, sizes: &Sizes, nth: usize) -> TcpStream {
    let count = TOPICS_PER_STREAM.min(sizes.topics);
    let topics = (0..count).map(|topic| format!("topic=t{}", (nth * count + topic) % sizes.topics));
    let query = topics.collect::<Vec<_>>().join("&");
    let mut client = Client::connect(address);
    client.send(format!("GET /events?{query} HTTP/1.1\r\nHost: h\r\n\r\n"));
    client.socket
}

/// Two values in turn, so that each request changes something.
const PATCHES: [(&str, [&str; 2]); 4] = [
    ("", [r#"{"heartbeat_ms":20000}"#, r#"{"heartbeat_ms":30000}"#]),
    ("", [r#"{"write_path":"copy"}"#, r#"{"write_path":"writev"}"#]),
    (
        "",
        [
            r#"{"tcp_nodelay":false,"so_sndbuf_bytes":65536,"tcp_notsent_lowat_bytes":65536}"#,
            r#"{"tcp_nodelay":true,"so_sndbuf_bytes":131072,"tcp_notsent_lowat_bytes":131072}"#,
        ],
    ),
    ("?topic=t0", [r#"{"write_path":"copy"}"#, r#"{"write_path":"writev"}"#]),
];
/// The defaults of `topics_per_connection_max` and of `topics with knobs of their own`.
const TOPICS_PER_STREAM: usize = 64;
const OVERRIDDEN_MAX: usize = 10_000;
/// The admin listener's connections are 32; one is for the questions.
const VIEWERS_MAX: usize = 31;
const LIVE_INTERVAL: Duration = Duration::from_millis(250);
const LULL: Duration = Duration::from_millis(50);
