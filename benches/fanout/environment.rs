//! What the figures were measured on.

use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn describe() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    json!({
        "date": pushv::wire::date::HttpDate { unix_s: now.as_secs() }.to_string(),
        "commit": commit(),
        "kernel": file("/proc/sys/kernel/osrelease"),
        "cpu": cpu_model(),
        "processors": file("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count(),
        "congestion_control": crate::servers::CONGESTION,
        "congestion_control_of_those_that_cannot_choose": default_congestion(),
    })
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpu_model() -> String {
    let text = file("/proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown").to_owned()
}

/// With a mark behind it if what was measured is not what was committed.
fn commit() -> Option<String> {
    let mut command = Command::new("git");
    command.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a socket has that was accepted on loopback by somebody who did not choose. Asked of the
/// socket, since not only the system but also a route may say so.
pub fn default_congestion() -> String {
    let name = || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let _client = TcpStream::connect(listener.local_addr()?)?;
        socket2::SockRef::from(&listener.accept()?.0).tcp_congestion()
    };
    let name: std::io::Result<Vec<u8>> = name();
    String::from_utf8_lossy(&name.unwrap_or_default()).trim_end_matches('\0').to_owned()
}
