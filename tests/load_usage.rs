//! `pushv load`: what cannot be asked for, and what cannot be done, is named.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "support/load.rs"]
mod run;
mod support;

use run::{fails, good, load};
use support::Server;

fn url(server: &Server) -> String {
    format!("http://{}/events/a", server.public)
}

#[test]
fn what_cannot_be_done_is_explained() {
    let run = |url: &str, arguments: &[&str]| load(url, arguments).output().unwrap();
    let refused = support::ClosedAddress::new();
    fails(&run(&format!("http://{}/", refused.address), &[]), 1, "refused");
    let server = Server::start(&[]);
    let not_found = format!("http://{}/nothing", server.public);
    fails(&run(&not_found, &[]), 1, "HTTP status 404");
    let no_stream = format!("http://{}/healthz", server.public);
    fails(&run(&no_stream, &[]), 1, "text/plain");
    fails(&run("https://127.0.0.1/", &[]), 2, "https");
    fails(&run(&url(&server), &["--rate", "5"]), 2, "--publish");
    fails(&run(&url(&server), &["--publish", "self", "--size", "10"]), 2, "size");
    fails(&run(&url(&server), &["-n", "1000000"]), 1, "--processes");
    fails(&run(&url(&server), &["--reader", "fast"]), 2, "nap:MS");
}

/// Nobody listens at the URL: what is asked for is judged before anything is tried.
#[test]
fn values_that_make_no_sense() {
    let wrong = |arguments: &[&str], option: &str| {
        let output = load("http://127.0.0.1:1/events/a", arguments).output().unwrap();
        fails(&output, 2, option);
    };
    for value in ["-1", "nan", "inf", "-inf", "1e300", "1e-300", "x"] {
        for option in ["connect-rate", "churn"] {
            wrong(&[&format!("--{option}={value}")], option);
        }
        wrong(&["--publish", "self", &format!("--rate={value}")], "rate");
    }
    for value in ["-1", "1000001", "18446744073709551615"] {
        wrong(&[&format!("--coalesce={value}")], "coalesce");
    }
    wrong(&["--rcvbuf", "18446744073709551615"], "rcvbuf");
    wrong(&["--reader", "nap:18446744073709551615"], "nap");
    wrong(&["--reader", "slow:18446744073709551615"], "slow");
    wrong(&["--publish", "self", "--size", "16777217"], "size");
    wrong(&["--publish", "self", "--pipeline", "1000001"], "pipeline");
    wrong(&["--publish", "self", "--publish-method", "GET"], "publish-method");
    wrong(&["--publish", "self", "--publish-header", "Content-Length: 1"], "publish-header");
    wrong(&["-H", "Host: a", "-H", "Host: b"], "header");
    wrong(&["--processes", "251", "-n", "300"], "processes");
}

/// The rest of a file that is written through a buffer is written last.
#[test]
fn a_histogram_log_that_cannot_be_written() {
    let server = Server::start(&[]);
    let arguments = ["-n", "1", "--publish", "self", "--hdr"];
    for (path, why) in [("/dev/full", "/dev/full: "), ("/no/such/directory/x", "/no/such/")] {
        let output = load(&url(&server), &[&arguments[..], &[path]].concat()).output().unwrap();
        fails(&output, 1, why);
    }
}

#[test]
fn an_admin_listener_with_a_token() {
    let mut config = support::config(&[]);
    config.admin_token = Some(pushv::config::Secret::new("s3cret"));
    let server = Server::with_config(config);
    let admin = format!("http://{}/", server.admin);
    let run = |token: &str| {
        let arguments = ["-n", "1", "--publish", "self", "--json", "--server-admin", &admin];
        load(&url(&server), &arguments).env("PUSHV_ADMIN_TOKEN", token).output().unwrap()
    };
    fails(&run("wrong"), 1, "PUSHV_ADMIN_TOKEN");
    fails(&run("s3cret"), 0, "pushv_events_published_total");
}

/// Each read takes less than the answer's head.
#[test]
fn readers_that_are_slower_than_a_head() {
    let server = Server::start(&[]);
    for reader in ["slow:500", "slow:2000"] {
        good(&url(&server), 3, &["--rate", "20", "--reader", reader]);
    }
}

/// Larger than what a subscriber keeps of somebody else's event.
#[test]
fn events_of_more_than_a_mebibyte() {
    let server = Server::start(&[("event_bytes_max", "3000000"), ("log_bytes_max", "30000000")]);
    let arguments = ["--size", "2000000", "--rate", "20", "--events", "3"];
    good(&url(&server), 2, &arguments);
}
