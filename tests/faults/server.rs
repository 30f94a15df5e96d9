//! The process under test: the real `pushv serve`, alone or under something that harms it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take. Only what fails waits for so long.
pub use crate::support::PATIENCE;

/// A running server. Dropped, it is killed.
pub struct Server {
    child: Child,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    says: Says,
}

/// What it has said on standard error so far, and the thread that listens to it.
struct Says {
    text: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

impl Says {
    fn listen(mut errors: std::process::ChildStderr) -> Says {
        let text = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&text);
        let listener = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = errors.read(&mut bytes) {
                *heard.lock().unwrap() += &String::from_utf8_lossy(&bytes[..count]);
            }
        });
        Says { text, listener: Some(listener) }
    }

    fn so_far(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// All of it, when the process has ended.
    fn finish(&mut self) -> String {
        if let Some(listener) = self.listener.take() {
            listener.join().unwrap();
        }
        self.so_far()
    }
}

/// It did not start, and said why.
#[derive(Debug)]
pub struct Refused {
    pub status: ExitStatus,
    pub says: String,
}

impl Server {
    /// A server with these arguments.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Server {
        Server::start_under(&[], arguments).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// A server with these arguments, started by `wrapper`, which becomes it.
    ///
    /// # Errors
    /// That it ended before it listened.
    pub fn start_under(wrapper: &[&str], arguments: &[&str]) -> Result<Server, Refused> {
        let program = std::env::var("PUSHV").unwrap_or(env!("CARGO_BIN_EXE_pushv").into());
        let all: Vec<&str> = wrapper.iter().copied().chain([&*program, "serve"]).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]);
        for (flag, value) in
            [("--listen", "127.0.0.1:0"), ("--admin", "127.0.0.1:0"), ("--log", "warn")]
        {
            if !arguments.contains(&flag) {
                command.args([flag, value]);
            }
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", all[0]));
        let mut says = Says::listen(child.stderr.take().unwrap());
        let (sender, addresses) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let address = line.split_once(" http://").map(|(_, address)| address.to_owned());
                let _nobody_waits = address.map(|address| sender.send(address));
            }
        });
        let mut next = || -> Option<SocketAddr> {
            let address = addresses.recv_timeout(PATIENCE);
            if address == Err(RecvTimeoutError::Timeout) {
                let _neither_listens_nor_ends = child.kill();
            }
            address.ok()?.parse().ok()
        };
        match (next(), next()) {
            (Some(public), Some(admin)) => Ok(Server { child, public, admin, says }),
            _ => {
                let status = child.wait().unwrap();
                Err(Refused { status, says: says.finish() })
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Waits until it has at most so many descriptors.
    ///
    /// # Errors
    /// How many it has instead.
    pub fn settle_at(&self, descriptors: usize) -> Result<(), String> {
        let what = || format!("{} descriptors are open, not {descriptors}", self.descriptors());
        until(PATIENCE, || self.descriptors() <= descriptors).map_err(|()| what())
    }

    /// The processor time that its reactor has used (`/proc/PID/schedstat`).
    pub fn cpu(&self) -> Duration {
        let text = self.proc("schedstat");
        let ns = text.split(' ').next().and_then(|ns| ns.parse().ok());
        Duration::from_nanos(ns.unwrap_or(0))
    }

    /// Its share of a processor for as long as `wait` takes, in per cent.
    pub fn cpu_share(&self, wait: impl FnOnce()) -> f64 {
        let (before, begun) = (self.cpu(), Instant::now());
        wait();
        (self.cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0
    }

    /// A figure of `/proc/PID/status`, for example `VmRSS`, in KiB.
    pub fn status(&self, name: &str) -> u64 {
        let text = self.proc("status");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let first = line.and_then(|value| value.split_whitespace().next()?.parse().ok());
        first.unwrap_or(0)
    }

    /// Bytes in the send queues of its public connections, sent or not (`/proc/net/tcp`, proc(5)).
    pub fn send_queues(&self) -> u64 {
        let local = format!(":{:04X}", self.public.port());
        let text = self.proc("net/tcp");
        let of_line = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (queued, _received) = fields.get(4)?.split_once(':')?;
            fields[1].ends_with(&local).then(|| u64::from_str_radix(queued, 16).ok())?
        };
        text.lines().filter_map(of_line).sum()
    }

    /// Stops it while it waits for events, as it does when it sleeps. In the middle of a turn, its
    /// idea of the time would be that of before.
    pub fn stop_between_turns(&self) {
        let state = |letter: &str| self.proc("stat").contains(&format!(") {letter} "));
        // The number of the call that it is in; `running` if it is in none (proc_pid_syscall(5)).
        let call = || self.proc("syscall").split(' ').next().map(str::to_owned);
        let sleeps_in = std::iter::repeat_with(call).find(|_| state("S"));
        loop {
            self.signal("STOP");
            while !state("T") {}
            if Some(call()) == sleeps_in {
                return;
            }
            self.signal("CONT");
        }
    }

    fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.pid())).unwrap_or_default()
    }

    /// The value of a metric, labels included.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.admin);
        let url = pushv::client::url::Url::parse(&url).unwrap();
        let text = pushv::client::exchange::get(&url).unwrap();
        let line = format!("pushv_{name} ");
        let value = text.lines().find_map(|found| found.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().unwrap() as u64
    }

    /// Turns knobs, named in JSON.
    ///
    /// # Errors
    /// That it did not take them.
    pub fn patch_knobs(&self, json: &str) -> Result<(), String> {
        let url = pushv::client::url::Url::parse(&format!("http://{}/knobs", self.admin))?;
        pushv::client::exchange::patch(&url, json).map(drop)
    }

    /// Waits until a metric has reached `at_least`.
    ///
    /// # Errors
    /// What it is instead.
    pub fn wait_for(&self, name: &str, at_least: u64, patience: Duration) -> Result<(), String> {
        until(patience, || self.metric(name) >= at_least)
            .map_err(|()| format!("{name} is {}, not {at_least}", self.metric(name)))
    }

    /// Waits until it has said `what` on standard error.
    ///
    /// # Errors
    /// What it has said instead.
    pub fn wait_to_say(&self, what: &str) -> Result<(), String> {
        until(PATIENCE, || self.says.so_far().contains(what))
            .map_err(|()| format!("it does not say {what:?}: {}", self.says.so_far()))
    }

    /// Whether it has not ended.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; gives its exit status and what it has said on standard error.
    ///
    /// # Errors
    /// That it goes on.
    pub fn end(&mut self, patience: Duration) -> Result<(ExitStatus, String), String> {
        until(patience, || !self.lives()).map_err(|()| "the server goes on".to_owned())?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        Ok((status, self.says.finish()))
    }

    /// Has it drain, and demands that it ends well and without complaints.
    ///
    /// # Errors
    /// What was not so.
    pub fn drain(mut self) -> Result<(), String> {
        self.signal("TERM");
        let (status, says) = self.end(PATIENCE)?;
        match status.success() && !says.contains("panicked") {
            true => Ok(()),
            false => Err(format!("it ended with {status}: {says}")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Sends a signal, by its name without `SIG`.
pub fn signal(pid: u32, name: &str) {
    run("kill", &[&format!("-{name}"), &pid.to_string()]).unwrap();
}

/// Runs a program to its end, and gives what it writes.
///
/// # Errors
/// What it says on standard error, if it fails.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{program} {}: {}", arguments.join(" "), text(&output.stderr))),
    }
}

/// Waits until `condition` holds.
///
/// # Errors
/// That it does not.
pub fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> Result<(), ()> {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= deadline {
            return Err(());
        }
        std::thread::sleep(Duration::from_millis(2)); // between two looks
    }
    Ok(())
}

/// Whether this process may do anything.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
