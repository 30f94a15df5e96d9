//! A setting that cannot do what it says is refused at start: exit status 2, nothing announced, and a
//! message with the setting, its value and the way out.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::Command;
use support::process::{Process, Scratch, pushv};

/// Runs `command`, which has to refuse its settings.
#[track_caller]
fn refused(command: &mut Command, expected: &str) {
    let shown = format!("{command:?}");
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{shown}: {error}");
    assert!(output.stdout.is_empty(), "{shown}: announced");
    let expected = format!("pushv: {expected}");
    assert!(error.starts_with(&expected), "{shown}:\n{error}instead of\n{expected}");
}

fn serve() -> Command {
    pushv(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
}

#[test]
fn flags() {
    let long = "x".repeat(300);
    let topic = "--stdin or PUSHV_STDIN: stdin: wants a topic, or off: ";
    let origin = "--cors-origins or PUSHV_CORS_ORIGINS: cors_origins: ";
    let utilisation = "--adapt-high-utilisation or PUSHV_ADAPT_HIGH_UTILISATION: \
                       adapt_high_utilisation: wants a number from 0 to 1, not \"7\"";
    let publish = "--publish-token-file or PUSHV_PUBLISH_TOKEN_FILE: publish_token_file: ";
    for (flag, value, expected) in [
        ("--log", "verbos", "--log or PUSHV_LOG: \"verbos\" is no level (off, error, warn, info,"),
        ("--log", "", "--log or PUSHV_LOG: \"\" names no level; there is off, error, warn"),
        ("--stdin", "", &format!("{topic}the topic has no name")),
        ("--stdin", &long, &format!("{topic}the topic's name is longer than 256 bytes")),
        ("--stdin", "a\nb", &format!("{topic}the topic's name holds a control character")),
        ("--cpu", "8191", "cpu = 8191: there is no such processor, or this process may not run"),
        ("--cpu", "", "--cpu or PUSHV_CPU: cpu: wants a number, or off, not \"\""),
        ("--publish-token-file", "", &format!("{publish}wants a path, or off; it is empty")),
        ("--adapt-high-utilisation", "7", utilisation),
        ("--tcp-congestion", "no-such", "tcp_congestion = no-such: TCP_CONGESTION: No such file"),
        (
            "--cors-origins",
            "https://a/",
            &format!(
                "{origin}\"https://a/\" can never match: an origin has no path, and no slash at its end; did you mean https://a?"
            ),
        ),
        (
            "--cors-origins",
            "a",
            &format!("{origin}\"a\" can never match: an origin is SCHEME://HOST"),
        ),
        (
            "--cors-origins",
            "https://a:443",
            &format!("{origin}\"https://a:443\" can never match: browsers"),
        ),
        (
            "--cors-origins",
            "HTTPS://A",
            &format!("{origin}\"HTTPS://A\" can never match: browsers send"),
        ),
        (
            "--cors-origins",
            "https://*.a",
            &format!("{origin}\"https://*.a\" can never match: there are no"),
        ),
    ] {
        refused(serve().args([flag, value]), expected);
    }
}

#[test]
fn variables() {
    let no_setting =
        |name, rest: &str| format!("the environment variable {name} is no setting. {rest}");
    let mean = |meant| format!("Did you mean {meant}?");
    for (name, value, expected) in [
        ("PUSHV_PUBLISH_TOKN", "s", no_setting("PUSHV_PUBLISH_TOKN", &mean("PUSHV_PUBLISH_TOKEN"))),
        ("PUSHV_TOKEN", "s", no_setting("PUSHV_TOKEN", &mean("PUSHV_ADMIN_TOKEN"))),
        ("PUSHV_HARTBEAT_MS", "1", no_setting("PUSHV_HARTBEAT_MS", &mean("PUSHV_HEARTBEAT_MS"))),
        (
            "PUSHV_COLOUR",
            "red",
            no_setting("PUSHV_COLOUR", "`pushv serve --help` lists the settings."),
        ),
        (
            "PUSHV_PUBLISH_TOKEN",
            "",
            "PUSHV_PUBLISH_TOKEN: the token is empty. Give it the token, or unset it".into(),
        ),
        ("PUSHV_PUBLISH_TOKEN", " \t", "PUSHV_PUBLISH_TOKEN: the token is empty".into()),
        ("PUSHV_ADMIN_TOKEN", "", "PUSHV_ADMIN_TOKEN: the token is empty".into()),
        (
            "PUSHV_ADMIN_TOKEN",
            "a\u{1}b",
            "PUSHV_ADMIN_TOKEN: the token holds a character that is not".into(),
        ),
        ("PUSHV_LOG", "verbos", "--log or PUSHV_LOG: \"verbos\" is no level".into()),
        (
            "PUSHV_PUBLISH_TOKEN_FILE",
            "",
            "--publish-token-file or PUSHV_PUBLISH_TOKEN_FILE: ".into(),
        ),
    ] {
        refused(serve().env(name, value), &expected);
    }
    let latin1 = OsString::from_vec(b"p\xe4ssword".into());
    refused(serve().env("PUSHV_PUBLISH_TOKEN", latin1), "PUSHV_PUBLISH_TOKEN: it is not UTF-8");
}

/// Kubernetes sets such variables for a service that is named pushv.
#[test]
fn variables_of_others() {
    let mut command = serve();
    command.env("PUSHV_SERVICE_HOST", "10.0.0.1").env("PUSHV_PORT_8080_TCP", "tcp://10.0.0.1:8080");
    Process::spawn(&mut command);
}

/// Nothing of a token is told, not even of one that cannot be right.
#[test]
fn files_of_tokens() {
    for (nth, (token, expected)) in [
        ("", "the token is empty"),
        ("\nsecret", "the token is empty"),
        ("\u{feff}secret\n", "the token holds a character that is not printable ASCII"),
        ("sec\0ret\n", "the token holds a character that is not printable ASCII"),
        ("s\u{e9}cret\n", "the token holds a character that is not printable ASCII"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = Scratch::new(&format!("bad-token-{nth}"), token);
        for knob in ["publish_token_file", "admin_token_file"] {
            let flag = format!("--{}", knob.replace('_', "-"));
            let expected = format!("{knob} {}: its first line: {expected}", file.path());
            refused(serve().args([&flag, file.path()]), &expected);
            let output = serve().args([&flag, file.path()]).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!error.contains("cret") && !error.contains("sec"), "{error}");
        }
    }
}

#[test]
fn files_of_settings() {
    let long = format!("\n[topics.{}]\noverrun = \"skip\"\n", "x".repeat(300));
    for (nth, (text, expected)) in [
        ("hartbeat_ms = 1", "line 1: there is no knob \"hartbeat_ms\"; did you mean heartbeat_ms?"),
        ("\nstdin = \"\"", "line 2: stdin: wants a topic, or off: the topic has no name"),
        ("admin = \"\"", "line 1: admin: wants HOST:PORT"),
        ("listen = []", "line 1: listen: wants HOST:PORT"),
        ("adapt_shrink = 7", "line 1: adapt_shrink: wants a number from 0 to 1, not \"7\""),
        ("cors_origins = [\"https://a/\"]", "line 1: cors_origins: \"https://a/\" can never match"),
        (
            "[topics.a]\ntcp_maxseg_bytes = 1000",
            "line 1: tcp_maxseg_bytes cannot be set for a single topic",
        ),
        (
            "[topics.a]\ntcp_congestion = \"x\"",
            "line 1: topic \"a\": tcp_congestion = x: TCP_CONGESTION",
        ),
        (&long, "line 2: topic \"xxx"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = Scratch::new(&format!("bad-settings-{nth}.toml"), text);
        let place =
            if expected.starts_with("line") { format!("{}: ", file.path()) } else { String::new() };
        refused(serve().args(["--config", file.path()]), &format!("{place}{expected}"));
    }
}
