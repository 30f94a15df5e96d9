//! The configuration is to be read again, and something is in the way.

use super::Scale;
use super::descriptors::limit_descriptors;
use super::publisher::Publisher;
use super::reader::Reader;
use super::server::{PATIENCE, Server, until};
use super::table::Row;
use std::path::PathBuf;

pub fn run(_: Scale) -> Vec<Row> {
    vec![
        Row::new("SIGHUP when no descriptor is left", 1, without_descriptors()),
        Row::new("SIGHUP, `write` to the eventfd EINTR", 1, wake_fails("EINTR")),
        Row::new("SIGHUP, `write` to the eventfd EAGAIN", 1, wake_fails("EAGAIN")),
        Row::new("SIGTERM, the `recvfrom` that learns of it EINTR", 1, bell_is_interrupted()),
    ]
}

/// A configuration file, which is removed in the end.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        let file = File(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        file.write("heartbeat_ms = 60000");
        file
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

fn without_descriptors() -> Result<String, String> {
    let file = File::new("faults-emfile.toml");
    let mut server = Server::start(&["--config", file.path(), "--log", "info"]);
    let (mut reader, mut publisher) =
        (Reader::new(server.public, "t"), Publisher::new(server.public));
    reader.open()?;
    publisher.publish("t", "0", b"0")?;
    // Those that are open stay so; no further one can be had.
    limit_descriptors(&server, 3)?;
    file.write("heartbeat_ms = 70000");
    server.signal("HUP");
    // The thread that reads the file comes and goes; the stream goes on all the while.
    for nth in 1..=20u8 {
        publisher.publish("t", &nth.to_string(), nth.to_string().as_bytes())?;
    }
    server.wait_to_say("the configuration stays as it is")?;
    limit_descriptors(&server, 4096)?;
    file.write("heartbeat_ms = 80000");
    server.signal("HUP");
    let knobs = || heartbeat_ms(&server);
    until(PATIENCE, || knobs() == 80000).map_err(|()| format!("heartbeat_ms is {}", knobs()))?;
    reader.expect(b"0")?;
    (1..=20u8).try_for_each(|nth| reader.expect(nth.to_string().as_bytes()))?;
    server.signal("TERM");
    let (status, says) = server.end(PATIENCE)?;
    let refused = says.lines().filter(|line| line.contains("the configuration stays as it is"));
    let why: Vec<&str> = refused.collect();
    match status.success() && why.len() == 1 && why[0].contains("os error 24") {
        true => Ok("the configuration stays as it is, and says why; the next one is read".into()),
        false => Err(format!("{status}: {says}")),
    }
}

/// The thread that has read the file wakes the reactor by a write to an eventfd, and that fails.
/// Nothing else happens meanwhile that could make the reactor look.
fn wake_fails(error: &str) -> Result<String, String> {
    let file = File::new(&format!("faults-{error}.toml"));
    // The second write of its thread, the first being a line of log. (The reactor's second write
    // is one as well.)
    let inject = format!("inject=write:error={error}:when=2");
    let wrapper =
        ["strace", "-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=write", "-e"];
    let wrapper = [&wrapper[..], &[&inject, "-e", "signal=none", "--"]].concat();
    let started = Server::start_under(&wrapper, &["--config", file.path(), "--log", "info"]);
    let server = started.map_err(|refused| format!("{refused:?}"))?;
    file.write("heartbeat_ms = 70000");
    server.signal("HUP");
    server.wait_to_say("knobs changed").map_err(|why| format!("not adopted: {why}"))?;
    server.drain()?;
    Ok("unnoticed".into())
}

/// A signal's handler writes a byte to a socket, and the call that reads it is interrupted.
fn bell_is_interrupted() -> Result<String, String> {
    let inject = "inject=recvfrom:error=EINTR:when=1";
    let wrapper = ["strace", "-D", "-f", "--seccomp-bpf", "-o", "/dev/null"];
    let wrapper = [&wrapper[..], &["-e", "trace=recvfrom", "-e", inject, "--"]].concat();
    let started = Server::start_under(&wrapper, &[]);
    started.map_err(|refused| format!("{refused:?}"))?.drain()?;
    Ok("unnoticed".into())
}

fn heartbeat_ms(server: &Server) -> u64 {
    let url = format!("http://{}/knobs", server.admin);
    let url = pushv::client::url::Url::parse(&url).unwrap();
    let json = pushv::client::exchange::get(&url).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
    json["heartbeat_ms"].as_u64().unwrap_or(0)
}
