//! The unit files: systemd understands them, finds them tight, and what they permit is enough for
//! what the server does.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use support::process::pushv;
use support::{Client, PATIENCE, installed};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/systemd");

/// The unit files, with the program where it is here.
struct Units(PathBuf);

impl Units {
    fn new(name: &str) -> Units {
        let folder = PathBuf::from(format!("{}/units-{name}", env!("CARGO_TARGET_TMPDIR")));
        fs::create_dir_all(&folder).unwrap();
        for unit in ["pushv.service", "pushv.socket"] {
            let text = fs::read_to_string(format!("{FOLDER}/{unit}")).unwrap();
            let here = text.replace("/usr/bin/pushv", env!("CARGO_BIN_EXE_pushv"));
            fs::write(folder.join(unit), here).unwrap();
        }
        Units(folder)
    }

    fn path(&self, unit: &str) -> String {
        self.0.join(unit).to_str().unwrap().into()
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn analyze(arguments: &[&str]) -> Option<Output> {
    installed(&["systemd-analyze"])?;
    Some(Command::new("systemd-analyze").args(arguments).output().unwrap())
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn systemd_understands_the_units() {
    let units = Units::new("verify");
    let files = [units.path("pushv.service"), units.path("pushv.socket")];
    let Some(output) = analyze(&["verify", "--man=no", &files[0], &files[1]]) else { return };
    let said = says(&output);
    // What is said of other units of the machine is not about these.
    let about_ours = said.lines().filter(|line| line.contains("pushv"));
    assert_eq!(about_ours.collect::<Vec<_>>(), [""; 0], "{said}");
    assert!(output.status.success(), "{said}");
}

/// `systemd-analyze security` gives 0 to what can do nothing and 10 to what can do everything; an
/// ordinary service has 9.6.
#[test]
fn the_service_is_tight() {
    let units = Units::new("security");
    let service = units.path("pushv.service");
    let arguments = ["security", "--offline=yes", "--threshold=15", "--no-pager", &service];
    let Some(output) = analyze(&arguments) else { return };
    assert!(output.status.success(), "{}", says(&output));
    let loose = units.path("pushv.socket");
    fs::write(units.0.join("loose.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    let loose = loose.replace("pushv.socket", "loose.service");
    let output = analyze(&["security", "--offline=yes", "--threshold=15", &loose]).unwrap();
    assert!(!output.status.success(), "the threshold is one");
}

/// The calls of a set, with those of the sets in it.
fn calls_of(set: &str, found: &mut BTreeSet<String>) {
    let output = analyze(&["syscall-filter", "--no-pager", set]).unwrap();
    for line in says(&output).lines().map(str::trim) {
        match line {
            inner if inner.starts_with('@') && inner != set => calls_of(inner, found),
            call if !call.is_empty() && !call.starts_with(['#', '@']) => {
                found.insert(call.into());
            }
            _ => {}
        }
    }
}

/// Every call that a server makes from its start to its end, with subscribers, publishers, knobs, a
/// reload and a drain, is among those that the service permits.
#[test]
fn the_service_permits_what_the_server_calls() {
    let (Some(_), Some(_)) = (installed(&["systemd-analyze"]), installed(&["strace"])) else {
        return;
    };
    let service = fs::read_to_string(format!("{FOLDER}/pushv.service")).unwrap();
    let filters: Vec<&str> =
        service.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    assert_eq!(filters, ["@system-service", "~@privileged @resources"]);
    let (mut permitted, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
    // systemd permits the first of them with any list of what is permitted.
    for set in ["@default", "@system-service"] {
        calls_of(set, &mut permitted);
    }
    for set in ["@privileged", "@resources"] {
        calls_of(set, &mut forbidden);
    }
    let trace = format!("{}/calls-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let Some(()) = run_traced(&trace) else { return };
    let text = fs::read_to_string(&trace).unwrap();
    fs::remove_file(&trace).unwrap();
    let made: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('))
        .map(|(call, _)| call)
        .filter(|call| call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .collect();
    assert!(made.contains("epoll_wait") && made.contains("accept4"), "{made:?}");
    let refused: Vec<&&str> = made
        .iter()
        .filter(|call| !permitted.contains(**call) || forbidden.contains(**call))
        .collect();
    assert!(refused.is_empty(), "{refused:?} of {made:?}");
}

/// Runs a server under strace from its start to its end. `None` if it may not be traced.
fn run_traced(trace: &str) -> Option<()> {
    let server = pushv(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut command = pushv(&[]);
    let mut strace = Command::new("strace");
    // -D: the server is our child, and strace stands aside.
    strace.args(["-f", "-D", "-qq", "-o", trace]).arg(command.get_program());
    strace.args(server.get_args()).args(["--demo", "--write-path", "writev"]);
    strace.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command = strace;
    let mut child = command.spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut address = |label: &str| {
        line.clear();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        line.trim().strip_prefix(label)?.strip_prefix(" http://")?.parse().ok()
    };
    let (Some(public), Some(admin)) = (address("listening"), address("admin")) else {
        let output = child.wait_with_output().unwrap();
        let why = says(&output);
        assert!(why.contains("ermi"), "{why}");
        support::skip(&format!("strace is not permitted: {why}"));
        return None;
    };
    use_everything(public, admin);
    let signal = |name: &str| {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-HUP");
    Client::connect(admin).request("GET", "/knobs", &[], b"");
    signal("-TERM");
    let deadline = std::time::Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline, "it does not end");
        std::thread::sleep(std::time::Duration::from_millis(5)); // between two looks
    }
    Some(())
}

fn use_everything(public: std::net::SocketAddr, admin: std::net::SocketAddr) {
    let mut stream = support::Subscriber::new(Client::connect(public), "/a", &[]);
    let paths = ["split", "write", "copy", "more", "cork", "span", "auto", "writev"];
    for path in paths {
        let knobs = format!("{{\"write_path\":{path:?},\"so_sndbuf_bytes\":20000}}");
        let answer = Client::connect(admin).request("PATCH", "/knobs", &[], knobs.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        Client::connect(public).request("POST", "/events/a", &[], b"x");
        assert_eq!(stream.data(), "x");
    }
    for page in ["/metrics", "/topics", "/connections", "/healthz"] {
        assert_eq!(Client::connect(admin).request("GET", page, &[], b"").status, 200, "{page}");
    }
}
