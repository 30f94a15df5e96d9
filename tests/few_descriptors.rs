//! A low limit on open descriptors: the server does not start, or it has room for what it promises.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::process::Command;
use support::process::{Process, pushv};
use support::{Client, Subscriber};

/// `pushv serve` in a shell that may open `limit` descriptors.
fn limited(limit: usize, arguments: &[&str]) -> Command {
    let server = pushv(
        &[&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], arguments].concat(),
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]);
    shell.arg(server.get_program()).args(server.get_args());
    for (name, _) in server.get_envs() {
        shell.env_remove(name);
    }
    shell
}

/// The least limit with which it starts, as it says itself.
fn least() -> usize {
    let output = limited(64, &[]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let needed = error.split("needs at least ").nth(1).unwrap_or_else(|| panic!("{error}"));
    needed.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_limit_that_is_too_low_is_refused() {
    let least = least();
    for limit in [16, 64, 128, least - 1] {
        let output = limited(limit, &[]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{limit}: {error}");
        assert!(output.stdout.is_empty(), "{limit}: announced");
        // With 16 it does not even come to the sum.
        let named = format!("the limit on open descriptors (RLIMIT_NOFILE) is {limit}, ");
        assert!(error.contains(&named) || limit == 16, "{error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}

/// With the least limit there is room for some; the next ones are turned away, and told so, and the
/// admin listener answers whatever the others do.
#[test]
fn the_least_limit_keeps_its_promise() {
    let process = Process::spawn(&mut limited(least(), &["--log", "debug"]));
    let ready = || {
        let readyz = Client::connect(process.admin.unwrap()).request("GET", "/readyz", &[], b"");
        (readyz.status, readyz.text())
    };
    assert_eq!(ready(), (200, "ready\n".into()));
    let mut streams: Vec<Subscriber> = (0..16).map(|_| process.subscribe("/a")).collect();
    assert_eq!(ready(), (503, "full: connections_max is reached\n".into()));
    // Silent ones: they hold their places until a deadline.
    let crowd: Vec<Client> = (0..200).map(|_| Client::connect(process.public)).collect();
    let admins: Vec<Client> = (0..31)
        .map(|_| {
            let mut admin = Client::connect(process.admin.unwrap());
            assert_eq!(admin.request("GET", "/metrics", &[], b"").status, 200);
            admin
        })
        .collect();
    drop((crowd, admins));
    // Whoever has left makes room for a publisher, and all who stayed hear of it.
    drop(streams.pop());
    let connections = || {
        let metrics = Client::connect(process.admin.unwrap()).request("GET", "/metrics", &[], b"");
        let text = metrics.text();
        let value = text.lines().find_map(|line| line.strip_prefix("pushv_connections "));
        value.unwrap().parse::<usize>().unwrap()
    };
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while connections() > streams.len() {
        assert!(std::time::Instant::now() < deadline, "no room");
    }
    let published = Client::connect(process.public).request("POST", "/events/a", &[], b"x");
    assert_eq!(published.status, 200);
    for stream in &mut streams {
        assert_eq!(stream.data(), "x");
    }
}

#[test]
fn a_promise_beyond_the_limit_is_named() {
    let process = Process::spawn(&mut limited(least() + 84, &["--connections-max", "5000"]));
    let warned = process.expect_log("connections_max = 5000, but the limit on open descriptors");
    assert!(warned.ends_with("permits 100"), "{warned}");
}
