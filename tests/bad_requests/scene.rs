//! A server in a process of its own, with somebody who must notice nothing of what happens to it.
//!
//! The witness is a subscriber of a topic that is published to all the while. At the end its stream
//! must be complete and in order; the server must still be there, hold as many descriptors as in
//! the beginning, and go down in order when it is asked to. That is checked by [`Scene::end`], and
//! a test that forgets to call it does not pass.

use crate::support::{Answer, Client, PATIENCE, Running, Subscriber};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running `pushv serve`.
pub struct Scene {
    process: Running,
    pub public: SocketAddr,
    admin: SocketAddr,
    descriptors: usize,
    witness: Option<Witness>,
}

/// Publishes numbers, and counts them as they come back.
struct Witness {
    stop: Arc<AtomicBool>,
    publisher: JoinHandle<u64>,
    subscriber: JoinHandle<u64>,
}

impl Scene {
    /// A server with the default settings but for these knobs, and its witness.
    #[track_caller]
    pub fn start(settings: &[(&str, &str)]) -> Scene {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushv"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--log", "warn"]);
        let is_setting = |name: &OsStr| name.as_bytes().starts_with(b"PUSHV_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
            command.env_remove(name);
        }
        for (name, value) in settings {
            command.args([&format!("--{}", name.replace('_', "-")), *value]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Running::spawn(&mut command);
        let mut lines = BufReader::new(process.0.stdout.take().expect("piped")).lines();
        let mut address = |label: &str| {
            let line = lines.next().expect("a line").expect("text");
            let address = line.strip_prefix(&format!("{label} http://")).expect(label);
            address.parse::<SocketAddr>().expect("an address")
        };
        let (public, admin) = (address("listening"), address("admin"));
        let mut scene = Scene { process, public, admin, descriptors: 0, witness: None };
        scene.metric("connections"); // whatever is opened at first use is open now
        scene.wait_until("the descriptors of the first request are closed", || {
            scene.count_of_sockets() == 2 // the listeners
        });
        scene.descriptors = scene.count_of_descriptors();
        scene.witness = Some(Witness::begin(public));
        scene
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.public)
    }

    #[track_caller]
    pub fn subscribe(&self, path: &str, fields: &[(&str, &str)]) -> Subscriber {
        Subscriber::new(self.connect(), path, fields)
    }

    #[track_caller]
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        Client::connect(self.admin).request(method, path, &[], body.as_bytes())
    }

    #[track_caller]
    pub fn patch(&self, json: &str) {
        let answer = self.admin("PATCH", "/knobs", json);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The value of a metric, labels included.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.admin("GET", "/metrics", "").text();
        let line = format!("pushv_{name} ");
        let value = text.lines().find_map(|found| found.strip_prefix(&line));
        let value = value.unwrap_or_else(|| panic!("no {line}in\n{text}"));
        value.parse::<f64>().expect("a number") as u64
    }

    /// How many events were ever published to `topic`.
    #[track_caller]
    pub fn published(&self, topic: &str) -> u64 {
        let listed = self.admin("GET", "/topics?limit=500", "");
        let listed: serde_json::Value = serde_json::from_slice(&listed.body).expect("JSON");
        let topics = listed["topics"].as_array().expect("a list");
        let found = topics.iter().find(|found| found["name"] == topic);
        found.map_or(0, |found| found["events_ever"].as_u64().expect("a number"))
    }

    /// The loop serves connections in the order in which they become ready. So when this returns,
    /// the server has seen whatever was sent before.
    #[track_caller]
    pub fn catches_up(&self) {
        let answer = self.connect().request("GET", "/healthz", &[], b"");
        assert_eq!(answer.status, 200);
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "it does not come to pass that {what}");
            std::thread::sleep(Duration::from_millis(2)); // between two looks
        }
    }

    fn descriptors(&self) -> impl Iterator<Item = String> {
        let directory = format!("/proc/{}/fd", self.process.0.id());
        let entries = std::fs::read_dir(directory).expect("the process lives");
        let target = |entry: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok()
        };
        entries.filter_map(target)
    }

    fn count_of_descriptors(&self) -> usize {
        self.descriptors().count()
    }

    fn count_of_sockets(&self) -> usize {
        // The doorbell and the signals come through pairs of unconnected ones, which is why these
        // are told apart by what the process has besides connections.
        self.descriptors().filter(|target| target.starts_with("socket:")).count()
            - self.sockets_of_its_own()
    }

    fn sockets_of_its_own(&self) -> usize {
        let path = format!("/proc/{}/net/unix", self.process.0.id());
        let listed = std::fs::read_to_string(path).expect("the process lives");
        let inodes: std::collections::HashSet<&str> =
            listed.lines().filter_map(|line| line.split_whitespace().nth(6)).collect();
        let inode = |target: &String| {
            let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
            inodes.contains(inode).then_some(())
        };
        self.descriptors().filter_map(|target| inode(&target)).count()
    }

    /// What must hold whatever has happened.
    #[track_caller]
    pub fn end(mut self) {
        let witness = self.witness.take().expect("it was begun");
        witness.end();
        let deadline = Instant::now() + PATIENCE;
        while self.count_of_descriptors() != self.descriptors {
            let open: Vec<String> = self.descriptors().collect();
            assert!(
                Instant::now() < deadline,
                "{} in the beginning, now {open:?}",
                self.descriptors
            );
            std::thread::sleep(Duration::from_millis(5)); // between two looks
        }
        assert!(self.process.0.try_wait().expect("asked").is_none(), "the process has ended");
        let pid = self.process.0.id().to_string();
        assert!(Command::new("kill").arg(pid).status().expect("sent").success());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.0.try_wait().expect("asked") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not go down");
            std::thread::sleep(Duration::from_millis(5)); // between two looks
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let forgotten = self.witness.is_some();
        assert!(!forgotten || std::thread::panicking(), "the scene was not brought to its end");
    }
}

impl Witness {
    fn begin(public: SocketAddr) -> Witness {
        let mut stream = Subscriber::new(Client::connect(public), "/witness", &[]);
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let publisher = std::thread::spawn(move || publish_until(&told, public));
        let subscriber = std::thread::spawn(move || {
            let mut next = 0;
            loop {
                match &*stream.data() {
                    "end" => return next,
                    data => assert_eq!(data, next.to_string(), "the witness's stream"),
                }
                next += 1;
            }
        });
        Witness { stop, publisher, subscriber }
    }

    #[track_caller]
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let published = self.publisher.join().expect("the witness's publisher");
        let received = self.subscriber.join().expect("the witness");
        assert_eq!(received, published, "the witness's stream");
    }
}

/// Publishes a number every other millisecond or so.
fn publish_until(told: &AtomicBool, public: SocketAddr) -> u64 {
    let mut client = Client::connect(public);
    let mut publish = |data: &str| {
        assert_eq!(client.request("POST", "/events/witness", &[], data.as_bytes()).status, 200);
    };
    let mut count: u64 = 0;
    loop {
        publish(&count.to_string());
        count += 1;
        if told.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2)); // the pace
    }
    publish("end");
    count
}
