//! Nothing reads what the server writes besides its connections: its log, its announcement. It serves
//! all the same, and ends when it is told to.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::process::pushv;
use support::{Client, PATIENCE, Subscriber, installed};

/// As many requests as write more lines than any pipe, socket or terminal keeps.
const REQUESTS: usize = 1500;

/// A server whose standard error is `log`, at the level `debug`.
struct Hub {
    child: Child,
    public: SocketAddr,
    admin: SocketAddr,
}

impl Hub {
    fn start(log: impl Into<OwnedFd>) -> Hub {
        let mut command = serve();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(log.into()));
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut address = |label| address(&lines.next().unwrap(), label);
        let (public, admin) = (address("listening"), address("admin"));
        Hub { child, public, admin }
    }

    /// Has more written to the log than is taken, and sees that everything goes on.
    fn serve_and_drain(mut self) {
        let mut stream = Subscriber::new(Client::connect(self.public), "/a", &[]);
        ask_often(self.public);
        let published = Client::connect(self.public).request("POST", "/events/a", &[], b"x");
        assert_eq!((published.status, stream.data()), (200, "x".into()));
        let metrics = Client::connect(self.admin).request("GET", "/metrics", &[], b"").text();
        let name = "pushv_log_lines_dropped_total ";
        let dropped = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert!(dropped.parse::<u64>().unwrap() > 0, "{dropped} lines were dropped");
        terminate(self.child.id());
        assert_eq!(stream.next(), None);
        assert!(stream.ended, "with the last chunk");
        assert_eq!(status(&mut self.child), Some(0));
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn serve() -> Command {
    let listeners = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    pushv(&[&["serve", "--log", "debug"], &listeners[..]].concat())
}

fn address(line: &str, label: &str) -> SocketAddr {
    let address = line.trim().strip_prefix(&format!("{label} http://"));
    address.unwrap_or_else(|| panic!("{label}: {line:?}")).parse().unwrap()
}

/// Each connection is a line of the log.
fn ask_often(address: SocketAddr) {
    for _ in 0..REQUESTS {
        let mut client = Client::connect(address);
        client.send("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
}

fn terminate(pid: u32) {
    signal("-TERM", pid);
}

fn signal(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn status(child: &mut Child) -> Option<i32> {
    until(|| child.try_wait().unwrap()).code()
}

/// Waits until there is something.
#[track_caller]
fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain");
        std::thread::sleep(Duration::from_millis(5)); // between two looks
    }
}

#[test]
fn a_log_pipe_that_is_not_read() {
    let (mut reader, writer) = io::pipe().unwrap();
    Hub::start(writer).serve_and_drain();
    // What was taken are whole lines.
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.ends_with('\n') && text.lines().all(|line| line.starts_with('[')), "{text}");
}

/// As the journal has it: standard error of a service is a socket.
#[test]
fn a_log_socket_that_is_not_read() {
    let (_reader, writer) = UnixStream::pair().unwrap();
    Hub::start(writer).serve_and_drain();
}

/// Once the log is read again it says how many lines are missing, and goes on.
#[test]
fn what_is_missing_is_told() {
    let (reader, writer) = io::pipe().unwrap();
    let hub = Hub::start(writer);
    ask_often(hub.public);
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let mut missing = || {
        lines.find_map(|line| {
            let line = line.strip_prefix("[WARN pushv] ")?;
            line.strip_suffix(" lines of the log are missing here: they could not be written")?
                .parse::<usize>()
                .ok()
        })
    };
    // All that the pipe holds is read before the next line is written, or the one after it.
    let told = std::thread::scope(|scope| {
        let told = scope.spawn(&mut missing);
        while !told.is_finished() {
            ask_often_enough(hub.public);
        }
        told.join().unwrap()
    });
    assert!(told.unwrap() > 0);
}

fn ask_often_enough(address: SocketAddr) {
    let answer = Client::connect(address).request("GET", "/healthz", &[], b"");
    assert_eq!(answer.status, 200);
}

/// Standard output takes nothing when the server announces itself.
#[test]
fn an_announcement_that_is_not_read() {
    let (_reader, mut full) = io::pipe().unwrap();
    // All that a pipe holds (pipe(7)).
    full.write_all(&[b'x'; 65_536]).unwrap();
    let mut command = serve();
    command.stdin(Stdio::null()).stdout(Stdio::from(OwnedFd::from(full))).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let started = log.find(|line| line.contains("started")).unwrap();
    let (_, bound) = started.split_once("bound=[").unwrap();
    let public: SocketAddr = bound.split_once(']').unwrap().0.parse().unwrap();
    std::thread::spawn(move || log.for_each(drop));
    ask_often_enough(public);
    terminate(child.id());
    assert_eq!(status(&mut child), Some(0));
}

/// Ctrl-S, or a terminal whose other end hangs: here that is `script`, which is stopped.
#[test]
fn a_terminal_that_is_stopped() {
    let Some(script) = installed(&["script"]) else { return };
    let shell = r#"echo $$; stty -opost; exec "$@""#;
    let server = serve();
    let command: Vec<String> = [server.get_program()]
        .into_iter()
        .chain(server.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let line = format!("sh -c '{shell}' sh {}", command.join(" "));
    let mut outer = Command::new(script);
    outer.args(["-q", "-e", "-c", &line, "/dev/null"]).env("SHELL", "/bin/sh");
    for (name, _) in server.get_envs() {
        outer.env_remove(name);
    }
    outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut outer = support::Running::spawn(&mut outer);
    let mut lines = BufReader::new(outer.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pid: u32 = lines.next().unwrap().trim().parse().unwrap();
    let mut find = |label: &str| lines.find(|line| line.starts_with(label)).unwrap();
    let (public, _) = (address(&find("listening"), "listening"), find("admin"));
    signal("-STOP", outer.0.id());
    ask_often(public);
    terminate(pid);
    // It has ended, although its parent, which is stopped, has not asked for its status.
    until(|| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('Z'));
        state.unwrap_or(true).then_some(())
    });
    signal("-CONT", outer.0.id());
    std::thread::spawn(move || lines.for_each(drop));
    assert_eq!(status(&mut outer.0), Some(0));
}
