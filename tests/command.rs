//! The `pushv` command: flags, environment, file, signals, standard streams, exit status.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::Write;
use std::process::Output;
use support::Client;
use support::process::{Process, Scratch, pushv};

#[track_caller]
fn refused(output: &Output, status: i32, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{error}");
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn what_it_says_of_itself() {
    let help = pushv(&["serve", "--help"]).output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for knob in pushv::config::knobs::KNOBS {
        assert!(text.contains(&knob.flag()) && text.contains(&knob.variable()), "{}", knob.name);
    }
    assert_eq!(pushv(&["--version"]).output().unwrap().status.code(), Some(0));
    assert_eq!(pushv(&[]).output().unwrap().status.code(), Some(2));
}

#[test]
fn wrong_usage_is_explained() {
    let run = |arguments: &[&str]| pushv(&[&["serve"], arguments].concat()).output().unwrap();
    refused(&run(&["--no-such"]), 2, "--no-such");
    refused(
        &run(&["--write-path", "fast"]),
        2,
        "--write-path or PUSHV_WRITE_PATH: write_path: no such write path",
    );
    refused(&run(&["--heartbeat-ms", "soon"]), 2, "whole number");
    refused(&run(&["--config", "/no/such/file"]), 2, "/no/such/file: No such file");
    refused(&run(&["--listen", "0.0.0.0:0"]), 2, "--publish-token-file FILE");
    refused(&run(&["--listen", "127.0.0.1"]), 2, "HOST:PORT");
    refused(&run(&["--publish-token-file", "/no/such/file"]), 2, "/no/such/file");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&run(&["--listen", &address]), 1, "is another server running?");
    refused(&run(&["--listen", "198.51.100.1:0"]), 2, "--publish-token-file FILE");
}

/// A port that is given to no other process while the socket lives. Because that does not listen, a
/// server that reuses addresses can (`SO_REUSEADDR`, socket(7)).
fn reserved_port(address: &str) -> std::io::Result<(u16, Socket)> {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok((socket.local_addr()?.as_socket().unwrap().port(), socket))
}

/// The second address of the list takes the same connections as another one.
#[test]
fn addresses_that_overlap_are_explained() {
    let run = |listen: String, admin: &str| {
        let mut command = pushv(&["serve", "--listen", &listen, "--admin", admin]);
        command.env("PUSHV_PUBLISH_TOKEN", "s").output().unwrap()
    };
    let (port, _reserved) = reserved_port("0.0.0.0:0").unwrap();
    let own = format!("127.0.0.1:{port}");
    refused(&run(format!("{own},{own}"), "off"), 2, "listen and admin name it twice");
    refused(&run(own.clone(), &own), 2, "listen and admin name it twice");
    let overlaps = format!("listen or admin also name 0.0.0.0:{port}, which overlaps with it");
    refused(&run(format!("0.0.0.0:{port},{own}"), "off"), 2, &overlaps);
    refused(&run(format!("0.0.0.0:{port}"), &own), 2, &overlaps);
}

/// All addresses of both families on one port, which is what a list of the two asks for.
#[test]
fn both_families_share_a_port() {
    let Ok((port, _reserved)) = reserved_port("[::]:0") else {
        return support::skip("no IPv6");
    };
    let listen = format!("[::]:{port},0.0.0.0:{port}");
    let mut command = pushv(&["serve", "--listen", &listen, "--admin", "off"]);
    let process = Process::spawn(command.env("PUSHV_PUBLISH_TOKEN", "s"));
    for loopback in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let mut client = Client::connect(loopback.parse().unwrap());
        assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200, "{loopback}");
    }
    drop(process);
}

/// A flag is stronger than the environment, the environment than the file, the file than the
/// default.
#[test]
fn precedence() {
    let file = Scratch::new(
        "precedence.toml",
        "heartbeat_ms = 1111\nretry_ms = 1111\nidle_timeout_ms = 1111\n[topics.a]\nwrite_path = \"copy\"\n",
    );
    let mut command = pushv(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--heartbeat-ms",
        "3333",
    ]);
    command
        .env("PUSHV_CONFIG", file.path())
        .env("PUSHV_HEARTBEAT_MS", "2222")
        .env("PUSHV_RETRY_MS", "2222");
    let process = Process::spawn(&mut command);
    assert_eq!(process.knob("heartbeat_ms"), "3333");
    assert_eq!(process.knob("retry_ms"), "2222");
    assert_eq!(process.knob("idle_timeout_ms"), "1111");
    assert_eq!(process.knob("head_timeout_ms"), "10000");
    let of_topic =
        Client::connect(process.admin.unwrap()).request("GET", "/knobs?topic=a", &[], b"");
    assert!(of_topic.text().contains("\"write_path\": \"copy\""), "{}", of_topic.text());
    let started = process.expect_log("started");
    assert!(
        started.contains("heartbeat_ms=3333") && started.contains("write_path=span"),
        "{started}"
    );
}

#[test]
fn a_hangup_reads_the_file_again() {
    let file = Scratch::new("hangup.toml", "heartbeat_ms = 1111\n");
    let token = Scratch::new("token", "first\n");
    let process = Process::start(&["--config", file.path(), "--publish-token-file", token.path()]);
    let mut stream = process.subscribe("/a");
    let publish = |token: &str| {
        let bearer = format!("Bearer {token}");
        Client::connect(process.public)
            .request("POST", "/events/a", &[("Authorization", &bearer)], b"x")
            .status
    };
    assert_eq!((publish("first"), publish("second")), (200, 401));

    fs::write(&file.0, "heartbeat_ms = 2222\nlisten = \"127.0.0.1:1\"\n").unwrap();
    fs::write(&token.0, "second\n").unwrap();
    process.signal("-HUP");
    process.expect_log("knobs changed heartbeat_ms=2222");
    // The flag for the address is stronger than the file, so nothing is asked of it.
    assert_eq!((publish("first"), publish("second")), (401, 200));
    assert_eq!((stream.data(), stream.data()), ("x".into(), "x".into()), "streams go on");

    fs::write(&file.0, "backlog = 7\n").unwrap();
    process.signal("-HUP");
    process.expect_log("knobs unchanged until a restart: backlog");
    assert_eq!(process.knob("heartbeat_ms"), "15000");

    fs::write(&file.0, "heartbeat_ms = 1\n").unwrap();
    process.signal("-HUP");
    process.expect_log("the configuration stays as it is");
    assert_eq!(process.knob("heartbeat_ms"), "15000");
}

#[test]
fn the_token_comes_from_the_flag_then_the_variable_then_the_file() {
    let by_flag = Scratch::new("token-flag", "by-flag\n");
    let by_file = Scratch::new("token-file", "by-file\n");
    let config =
        Scratch::new("token.toml", &format!("publish_token_file = {:?}\n", by_file.path()));
    let accepted = |flag: bool, variable: &str| {
        let mut command = pushv(&["serve", "--listen", "127.0.0.1:0", "--admin", "off"]);
        command.args(["--config", config.path()]).env("PUSHV_PUBLISH_TOKEN", variable);
        if flag {
            command.args(["--publish-token-file", by_flag.path()]);
        }
        let process = Process::spawn(&mut command);
        let takes = |token: &&str| {
            let bearer = format!("Bearer {token}");
            let fields = [("Authorization", bearer.as_str())];
            Client::connect(process.public).request("POST", "/events/a", &fields, b"x").status
                == 200
        };
        ["by-flag", "by-variable", "by-file"].into_iter().filter(takes).collect::<Vec<_>>()
    };
    assert_eq!(accepted(true, "by-variable"), ["by-flag"]);
    assert_eq!(accepted(false, "by-variable"), ["by-variable"]);
    let mut command = pushv(&["serve", "--config", config.path()]);
    let output = command.env("PUSHV_PUBLISH_TOKEN", " ").output().unwrap();
    refused(&output, 2, "PUSHV_PUBLISH_TOKEN: the token is empty");
}

#[test]
fn a_termination_drains() {
    for signal in ["-TERM", "-INT"] {
        let mut process = Process::start(&[]);
        let mut stream = process.subscribe("/a");
        process.signal(signal);
        assert_eq!(stream.next(), None);
        assert!(stream.ended, "with the last chunk");
        assert_eq!(process.wait(), Some(0));
        process.expect_log("draining");
        process.expect_log("drained");
    }
}

/// What rotates logs sends one of these to other servers.
#[test]
fn other_signals_do_not_end_it() {
    let mut process = Process::start(&[]);
    let mut stream = process.subscribe("/a");
    for signal in ["-USR1", "-USR2"] {
        process.signal(signal);
        process.expect_log("SIGUSR1 and SIGUSR2 do nothing; SIGTERM drains");
        Client::connect(process.public).request("POST", "/events/a", &[], b"x");
        assert_eq!(stream.data(), "x");
    }
    process.signal("-TERM");
    assert_eq!(stream.next(), None);
    assert!(stream.ended, "with the last chunk");
    assert_eq!(process.wait(), Some(0));
}

#[test]
fn a_second_termination_ends_at_once() {
    let mut process = Process::start(&["--drain-ms", "3600000"]);
    let mut half = Client::connect(process.public);
    half.send("POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nla");
    // Answered after the half request was read: only then does it hold the drain up.
    assert_eq!(process.knob("drain_ms"), "3600000");
    process.signal("-TERM");
    process.expect_log("draining");
    process.signal("-TERM");
    assert_eq!(process.wait(), Some(0));
    process.expect_log("stopped with connections=1 open");
}

#[test]
fn lines_of_standard_input_are_published() {
    let mut process = Process::start(&["--stdin", "lines"]);
    let mut stream = process.subscribe("/lines");
    let mut stdin = process.stdin();
    stdin.write_all(b"one\ntwo\r\n\nbad \xff byte\n").unwrap();
    for line in ["one", "two", "", "bad \u{fffd} byte"] {
        assert_eq!(stream.data(), line);
    }
    stdin.write_all(format!("{}\nafter\nlast", "x".repeat(70_000)).as_bytes()).unwrap();
    drop(stdin);
    assert_eq!((stream.data(), stream.data()), ("after".into(), "last".into()));
    process.expect_log("lines of more than 65536 bytes are left out: 1");
    process.expect_log("has ended");
}

/// A line end counts for nothing, also where it has two bytes; and the limit is the one in force.
#[test]
fn a_line_may_have_just_the_limit() {
    let mut process = Process::start(&["--stdin", "lines"]);
    let mut stream = process.subscribe("/lines");
    let mut stdin = process.stdin();
    let line = "x".repeat(65_536);
    stdin.write_all(format!("{line}\r\n{line}\n").as_bytes()).unwrap();
    assert!(stream.data() == line && stream.data() == line);
    let patch = |bytes: usize| {
        let body = format!("{{\"event_bytes_max\":{bytes}}}");
        let mut client = Client::connect(process.admin.unwrap());
        assert_eq!(client.request("PATCH", "/knobs", &[], body.as_bytes()).status, 200);
        // Feeds are told at the end of that turn; this is answered in a later one.
        assert_eq!(process.knob("event_bytes_max"), bytes.to_string());
    };
    patch(65_537);
    // The line that is being read has the limit from before; the next one the new one.
    stdin.write_all(format!("small\n{line}y\r\n").as_bytes()).unwrap();
    assert!(stream.data() == "small" && stream.data() == line.clone() + "y");
    patch(10);
    stdin.write_all(b"small\n0123456789\r\n0123456789a\nlast\n").unwrap();
    assert_eq!((stream.data(), stream.data()), ("small".into(), "0123456789".into()));
    assert_eq!(stream.data(), "last");
}

/// However many lines are refused, the log has one line a second for it, with their number.
#[test]
fn refused_lines_are_counted() {
    const LINES: usize = 5000;
    let mut process = Process::start(&["--stdin", "lines", "--event-bytes-max", "3"]);
    let mut stdin = process.stdin();
    // The first are too long; the others get too long when their bad bytes are replaced.
    stdin.write_all(&b"long\n".repeat(LINES)).unwrap();
    stdin.write_all(&b"\xff\xff\n".repeat(LINES)).unwrap();
    drop(stdin);
    let mut log = Vec::new();
    while !log.last().is_some_and(|line: &String| line.contains("has ended")) {
        log.push(process.log.recv_timeout(support::PATIENCE).unwrap());
    }
    process.signal("-TERM");
    assert_eq!(process.wait(), Some(0));
    log.extend(process.log.iter());
    let counts = |text: &str| -> Vec<usize> {
        let rests = log.iter().filter_map(|line| line.split_once(text));
        rests.map(|(_, rest)| rest.split(',').next().unwrap().parse().unwrap()).collect()
    };
    let left_out = counts("lines of more than 3 bytes are left out: ");
    assert_eq!((left_out[0], left_out.iter().sum()), (1, LINES), "{left_out:?}");
    assert_eq!(counts("events of feeds are refused: ")[0], 1);
    assert!(log.len() < 200, "{} lines of the log", log.len());
}

/// A feed that is faster than the readers waits; nothing is lost to a prompt reader.
#[test]
fn a_flood_of_lines_waits_for_the_readers() {
    let mut process = Process::start(&["--stdin", "lines", "--log-events-max", "200"]);
    let mut stream = process.subscribe("/lines");
    let mut stdin = process.stdin();
    let writer = std::thread::spawn(move || {
        for nth in 0..20_000 {
            writeln!(stdin, "{nth}").unwrap();
        }
    });
    let mut next = 0;
    while next < 20_000 {
        let event = stream.next().unwrap();
        if event.name == "gap" {
            let lost = event.data.split("\"lost\":").nth(1).unwrap().split(',').next().unwrap();
            next += lost.parse::<u64>().unwrap();
        } else {
            assert_eq!(event.data, next.to_string());
            next += 1;
        }
    }
    writer.join().unwrap();
}

#[test]
fn the_demo_tells_the_time() {
    let process = Process::start(&["--demo"]);
    let page = Client::connect(process.public).request("GET", "/", &[], b"");
    assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let time = process.subscribe("/clock").data();
    assert!(time.ends_with(" GMT") && time.len() == 29, "{time}");
}

#[test]
fn logs_are_structured_and_as_loud_as_asked() {
    let process = Process::start(&["--log", "trace"]);
    let mut stream = process.subscribe("/a");
    Client::connect(process.public).request("POST", "/events/a", &[], b"x");
    stream.data();
    let flush = process.expect_log("flush conn=");
    for part in ["path=span", "events=1", "bytes=", "calls=1", "age_us=", "outcome=Drained"] {
        assert!(flush.contains(part), "no {part} in {flush}");
    }
    drop(stream);
    let closed = process.expect_log("events=1 bytes=");
    for part in ["closed conn=", "peer=127.0.0.1:", "reason=peer_left", "age_ms=", "unsent_bytes=0"]
    {
        assert!(closed.contains(part), "no {part} in {closed}");
    }
    assert!(!flush.contains('\u{1b}'), "no colours where there is no terminal");
}
