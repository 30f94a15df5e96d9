//! What strace sees of a server, and what it does to it.

use super::server::{PATIENCE, Refused, Server, until};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file into which strace writes.
pub struct Trace(PathBuf);

impl Trace {
    pub fn new() -> Trace {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("strace-{}-{nth}.log", std::process::id());
        Trace(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// Starts a server whose calls of `calls` are traced, with these further expressions.
    pub fn start(
        &self,
        calls: &str,
        inject: &[&str],
        arguments: &[&str],
    ) -> Result<Server, Refused> {
        let (file, trace) = (self.0.to_str().unwrap(), format!("trace={calls}"));
        // The tracer is the server's child, not its parent; it stops at these calls alone.
        let mut wrapper = vec!["strace", "-D", "-f", "--seccomp-bpf", "-o", file, "-e", &trace];
        wrapper.extend(["-e", "signal=none", "-s", "40"]);
        inject.iter().for_each(|expression| wrapper.extend(["-e", *expression]));
        wrapper.push("--");
        Server::start_under(&wrapper, arguments)
    }

    pub fn text_so_far(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// What was written, when the server has ended.
    pub fn text(&self) -> String {
        let _unfinished = until(PATIENCE, || self.text_so_far().contains("+++ "));
        self.text_so_far()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}
