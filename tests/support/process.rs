//! The command as a process of its own.

use super::{Client, PATIENCE, Subscriber};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `pushv serve`. Dropped, it is killed.
pub struct Process {
    pub child: Child,
    pub public: SocketAddr,
    pub admin: Option<SocketAddr>,
    /// Its standard error, line by line.
    pub log: std::sync::mpsc::Receiver<String>,
}

/// The command with these arguments, and without the environment's settings.
pub fn pushv(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushv"));
    command.args(arguments);
    let is_setting = |name: &OsStr| name.as_bytes().starts_with(b"PUSHV_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    command
}

impl Process {
    pub fn start(arguments: &[&str]) -> Process {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        if !arguments.contains(&"--admin") {
            all.extend(["--admin", "127.0.0.1:0"]);
        }
        all.extend(arguments);
        Process::spawn(&mut pushv(&all))
    }

    pub fn spawn(command: &mut Command) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let (sender, log) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |label: &str| {
            let line =
                stdout.next().unwrap_or_else(|| panic!("no {label}: {:?}", log.recv())).unwrap();
            line.strip_prefix(&format!("{label} http://"))
                .expect(label)
                .parse()
                .expect("an address")
        };
        let public = address("listening");
        let without_admin = command.get_args().any(|argument| argument == "off");
        let admin = (!without_admin).then(|| address("admin"));
        Process { child, public, admin, log }
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for a line of the log that contains `text`.
    #[track_caller]
    pub fn expect_log(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = String::new();
        while let Ok(line) =
            self.log.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.contains(text) {
                return line;
            }
            seen += &line;
            seen.push('\n');
        }
        panic!("no {text:?} in\n{seen}");
    }

    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5)); // between two looks
        }
    }

    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub fn knob(&self, name: &str) -> String {
        Client::connect(self.admin.unwrap()).request("GET", "/knobs", &[], b"").json(name)
    }

    pub fn subscribe(&self, path: &str) -> Subscriber {
        Subscriber::new(Client::connect(self.public), path, &[])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A file that goes when the test does.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str, text: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pushv-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}
