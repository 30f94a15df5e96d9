//! `pushv load`: what it reports of our server, of other people's, and of wrong ones.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../benches/peers/axum.rs"]
mod axum_peer;
#[path = "support/load.rs"]
mod run;
mod support;

use run::{fails, good, load, report, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use support::Server;

fn url(server: &Server) -> String {
    format!("http://{}/events/a", server.public)
}

#[test]
fn open_closed_and_flooding_loops() {
    let server = Server::start(&[]);
    let report = good(&url(&server), 10, &["--rate", "200"]);
    assert_eq!(report["published"]["events"], 60, "0.3 s at 200 per second");
    assert_eq!(report["latency_ns"]["count"], 600);
    assert_eq!(report["spread_ns"]["count"], 60);
    let report = good(&url(&server), 10, &["--round", "--events", "50", "--duration", "600s"]);
    assert_eq!(report["published"]["events"], 50);
    let report = good(&url(&server), 10, &["--flood", "--events", "3000", "--duration", "600s"]);
    assert_eq!(report["deliveries"]["count"], 30_000);
    assert_eq!(report["client"]["cpu_shares"].as_array().unwrap().len(), 1);
}

#[test]
fn names_and_addresses_of_both_families() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return support::skip("there is no IPv6 here");
    };
    drop(listener);
    let server = Server::start(&[("listen", "[::1]:0")]);
    good(&url(&server), 3, &["--rate", "100"]);
    let server = Server::start(&[]);
    let named = format!("http://localhost:{}/events/a", server.public.port());
    good(&named, 3, &["--rate", "100"]);
}

#[test]
fn several_processes_are_one_run() {
    let server = Server::start(&[]);
    let counted = |pace| [pace, "--events", "300", "--duration", "600s"];
    for pace in [&["--rate", "200"][..], &counted("--round"), &counted("--flood")] {
        let report = good(&url(&server), 7, &[pace, &["--processes", "3"]].concat());
        let events = report["published"]["events"].as_u64().unwrap();
        assert_eq!(report["latency_ns"]["count"], events * 7);
        assert_eq!(report["spread_ns"]["count"], events.min(100_000), "seen by all processes");
        assert_eq!(report["client"]["cpu_shares"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn readers_of_all_kinds_get_everything() {
    let server = Server::start(&[("so_sndbuf_bytes", "20000")]);
    for reader in ["nap:20", "slow:20000"] {
        let rate = ["--rate", "500", "--reader", reader, "--rcvbuf", "4000"];
        good(&url(&server), 5, &rate);
    }
    let arguments = ["--publish", "self", "--rate", "100", "--reader", "never", "-n", "5"];
    let (status, report) = report(&url(&server), &arguments);
    assert_eq!(status, 0, "nobody expects anything of them: {report:#}");
    let said = text(&load(&url(&server), &arguments).output().unwrap().stdout);
    assert!(said.contains("verdict: ok") && !said.contains("checked"), "{said}");
}

/// A stream whose first bytes fill the receive buffer. No readiness follows that read, since nothing
/// more fits: a slow reader that waited for it stood still for ever.
#[test]
fn a_slow_reader_goes_on_behind_a_first_read_that_left_some() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let arguments = ["-n", "1", "--reader", "slow:20000", "--rcvbuf", "4096", "--duration", "60s"];
    let mut command = load(&url, &arguments);
    let _load = support::Running::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let (mut socket, _) = listener.accept().unwrap();
    socket2::SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
    socket.set_write_timeout(Some(support::PATIENCE)).unwrap();
    let mut head = String::new();
    let mut input = BufReader::new(socket.try_clone().unwrap());
    while !head.ends_with("\r\n\r\n") {
        assert!(input.read_line(&mut head).unwrap() > 0);
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let events = format!("data: {}\n\n", "x".repeat(600)).repeat(80);
    socket.write_all(&[answer.as_bytes(), events.as_bytes()].concat()).expect("all is read");
}

#[test]
fn those_who_drop_and_come_back_miss_nothing() {
    let server = Server::start(&[]);
    // Long enough for so many to come back.
    let report = ["300ms", "3s", "30s"].into_iter().find_map(|duration| {
        let arguments = ["--rate", "500", "--churn", "200", "--warmup", "200ms", "--duration"];
        let report = good(&url(&server), 20, &[&arguments[..], &[duration]].concat());
        (report["connections"]["reconnected"].as_u64().unwrap() > 30).then_some(report)
    });
    assert_eq!(report.expect("some come back")["connections"]["lost"], 0);
}

/// A slow reader of a short log: its losses are told, so they are no offences.
#[test]
fn losses_that_are_told_are_counted_apart() {
    let server = Server::start(&[("log_events_max", "20"), ("so_sndbuf_bytes", "5000")]);
    let arguments = ["--rate", "3000", "--reader", "slow:5000", "--rcvbuf", "2304", "-n", "2"];
    let (status, report) =
        report(&url(&server), &[&["--publish", "self"][..], &arguments].concat());
    assert!(report["deliveries"]["told_lost"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!((status, &report["offences"]["missing"]), (0, &Value::from(0)), "{report:#}");
}

#[test]
fn listening_reports_times_between_events() {
    let server = Server::start(&[]);
    let (stop, target) = (Arc::new(Mutex::new(false)), server.public);
    let publisher = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut client = support::Client::connect(target);
            while !*stop.lock().unwrap() {
                client.request("POST", "/events/a", &[], b"somebody's");
            }
        })
    };
    // Long enough for some to come.
    let report = ["300ms", "3s", "30s"].into_iter().find_map(|duration| {
        let (status, report) = report(&url(&server), &["-n", "3", "--duration", duration]);
        assert_eq!((status, &report["mode"]), (0, &Value::from("listen")));
        (report["deliveries"]["count"].as_u64().unwrap() > 10).then_some(report)
    });
    *stop.lock().unwrap() = true;
    publisher.join().unwrap();
    let report = report.expect("events are received");
    assert!(report["interarrival_ns"]["p50"].as_u64().unwrap() > 0);
    assert!(report["published"].is_null() && report["latency_ns"].is_null());
}

#[test]
fn the_servers_side() {
    let server = Server::start(&[]);
    let (admin, pid) = (format!("http://{}/", server.admin), std::process::id().to_string());
    let arguments = ["--rate", "200", "--server-admin", &admin, "--server-pid", &pid];
    let report = good(&url(&server), 10, &arguments);
    let its = &report["server"];
    assert!(its["cpu_per_delivery_ns"].as_f64().unwrap() > 0.0);
    assert_eq!(its["counters"]["pushv_events_published_total"], 60.0, "{its:#}");
    assert_eq!(its["counters"]["pushv_write_frames_total"], 600.0);
}

#[test]
fn bodies_headers_and_wrapped_events() {
    let server = Server::start(&[]);
    let template = ["--publish-template", "{\"wrapped\":\"{data}\"}", "--size", "500"];
    good(&url(&server), 3, &[&["--rate", "100"], &template[..]].concat());

    let mut config = support::config(&[]);
    config.publish_token = Some(pushv::config::Secret::new("s3cret"));
    let server = Server::with_config(config);
    let (status, refused) = report(&url(&server), &["--publish", "self"]);
    assert_eq!((status, &refused["verdict"]), (1, &Value::from("incomplete")));
    let why = refused["published"]["first_refusal"].as_str().unwrap();
    assert!(why.contains("401") && why.contains("Bearer"), "{why}");
    good(&url(&server), 3, &["--publish-header", "Authorization: Bearer s3cret"]);
}

#[test]
fn an_hdr_histogram_log_is_written() {
    let server = Server::start(&[]);
    let path = std::env::temp_dir().join(format!("pushv-{}.hlog", std::process::id()));
    good(&url(&server), 2, &["--rate", "100", "--hdr", path.to_str().unwrap()]);
    let log = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut deserializer = hdrhistogram::serialization::Deserializer::new();
    let mut values = 0;
    for entry in hdrhistogram::serialization::interval_log::IntervalLogIterator::new(&log) {
        use hdrhistogram::serialization::interval_log::LogEntry;
        let Ok(LogEntry::Interval(interval)) = entry else { continue };
        let bytes = base64(interval.encoded_histogram());
        let histogram: hdrhistogram::Histogram<u64> =
            deserializer.deserialize(&mut bytes.as_slice()).unwrap();
        values += histogram.len();
    }
    assert_eq!(values, 60, "30 events at 2 subscribers");
}

/// What base64 stands for (RFC 4648 §4).
fn base64(text: &str) -> Vec<u8> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|&letter| letter != b'=').map(digit).collect();
    let bits: Vec<u8> =
        digits.iter().flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1)).collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}

/// A server that somebody else wrote: everything that it publishes arrives, in every mode.
#[track_caller]
fn serves_well(address: &str) {
    let url = format!("http://{address}/events/a");
    good(&url, 20, &["--rate", "200"]);
    good(&url, 20, &["--round", "--events", "30", "--duration", "600s"]);
    good(&url, 5, &["--flood", "--events", "500", "--pipeline", "1", "--duration", "600s"]);
}

#[test]
fn a_hub_on_axum() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(|| axum_peer::serve(listener));
    serves_well(&address);
}

#[test]
fn a_hub_on_node() {
    let Some(node) = support::installed(&["node"]) else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/node.mjs");
    let mut command = Command::new(node);
    let mut hub = support::Running::spawn(command.arg(script).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(hub.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    serves_well(line.trim().strip_prefix("listening http://").unwrap());
}

#[test]
fn nchan_in_nginx() {
    let Some(nginx) = support::installed(&["nginx"]) else { return };
    let modules = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"];
    let module = modules.map(|folder| format!("{folder}/ngx_nchan_module.so"));
    let Some(module) = module.iter().find(|path| std::path::Path::new(path).exists()) else {
        return support::skip("not installed: nginx's module nchan");
    };
    let folder = std::env::temp_dir().join(format!("pushv-nchan-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // It cannot choose a port by itself, and one that is free now may be taken in a moment.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration = include_str!("../benches/peers/nchan.conf")
        .replace("@MODULE@", module)
        .replace("@PORT@", &address.port().to_string());
    std::fs::write(folder.join("nginx.conf"), configuration).unwrap();
    let mut command = Command::new(nginx);
    command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "stderr"]);
    let hub = Nginx(command.spawn().unwrap());
    let deadline = Instant::now() + support::PATIENCE;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nginx does not listen");
        std::thread::yield_now();
    }
    serves_well(&address.to_string());
    drop(hub);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Killed, nginx would leave its workers behind.
struct Nginx(std::process::Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _asked = Command::new("kill").arg(self.0.id().to_string()).status();
        let _status = self.0.wait();
    }
}

#[test]
fn nothing_to_report_is_reported() {
    let server = Server::start(&[]);
    let (status, silence) = report(&url(&server), &["-n", "2"]);
    assert_eq!((status, &silence["deliveries"]["count"]), (0, &Value::from(0)));
    let output = load(&url(&server), &["-n", "2"]).output().unwrap();
    assert!(text(&output.stdout).contains("no event was received"));
    let (status, none) = report(&url(&server), &["-n", "2", "--publish", "self", "--events", "0"]);
    assert_eq!((status, &none["verdict"]), (1, &"incomplete".into()), "{none:#}");
}

/// Somebody takes the requests, or nobody does: a run in which nothing can be published ends.
#[test]
fn a_publisher_that_is_not_heard_does_not_hold_up_the_end() {
    let server = Server::start(&[]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = support::ClosedAddress::new();
    for address in [silent.local_addr().unwrap(), closed.address] {
        let elsewhere = format!("http://{address}/");
        let arguments = ["--publish", &elsewhere, "--rate", "500", "-n", "2", "--grace", "200ms"];
        let (status, report) = report(&url(&server), &arguments);
        assert_eq!((status, &report["verdict"]), (1, &"incomplete".into()), "{report:#}");
        assert_eq!(report["published"]["accepted"], 0);
        let why = report["published"]["first_refusal"].as_str().unwrap();
        assert!(why.starts_with("publishing: "), "{why}");
    }
}

#[test]
fn an_interruption_before_the_first_event() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let child = load(&url, &["-n", "1", "--connect-timeout", "60s"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _asked = silent.accept().unwrap(); // by then it listens to signals
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    fails(&child.wait_with_output().unwrap(), 130, "interrupted before the first event");
}

#[test]
fn a_connection_limit_shows() {
    let server = Server::start(&[("connections_max", "5")]);
    let (status, report) = report(&url(&server), &["--publish", "self", "-n", "8"]);
    assert_eq!((status, &report["verdict"]), (1, &Value::from("incomplete")), "{report:#}");
    let open = report["connections"]["open"].as_u64().unwrap();
    assert!((1..=5).contains(&open), "{report:#}");
}

/// A `pushv serve` in a process of its own, that can be killed.
fn killable() -> (std::process::Child, String) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_pushv"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--log", "error"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening ").unwrap().to_string();
    (server, address + "/events/a")
}

/// Waits until `child` has been running for long enough to have published something.
fn wait_for_deliveries(server: &Server) {
    server.wait_for("write_frames_total", 50);
}

#[test]
fn the_death_of_the_server_is_reported() {
    let (mut server, url) = killable();
    let arguments =
        ["--publish", "self", "--rate", "100", "-n", "3", "--duration", "60s", "--json"];
    let child =
        load(&url, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It is publishing when there are events between those that are published here.
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut probe = support::Client::connect(address.parse().unwrap());
    let deadline = Instant::now() + support::PATIENCE;
    let (mut others, mut last) = (0, 0);
    while others < 20 {
        assert!(Instant::now() < deadline, "nothing is published");
        let id = probe.request("POST", "/events/a", &[], b"x").json("id");
        let seq: u64 = id.rsplit('-').next().unwrap().parse().unwrap();
        others += seq - last - 1;
        last = seq;
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["verdict"]), (Some(1), &"server gone".into()));
    assert!(report["deliveries"]["count"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["connections"]["lost"], 3);
}

#[test]
fn an_interrupted_run_reports_what_was_seen() {
    let server = Server::start(&[]);
    let arguments =
        ["--publish", "self", "--rate", "100", "-n", "3", "--duration", "60s", "--json"];
    let child = load(&url(&server), &arguments).stdout(Stdio::piped()).spawn().unwrap();
    wait_for_deliveries(&server);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["verdict"]), (Some(130), &"interrupted".into()));
    assert!(report["deliveries"]["count"].as_u64().unwrap() >= 50, "{report:#}");
    assert_eq!(report["offences"]["missing"], 0, "what was cut off is not missing");
}

#[test]
fn the_human_report() {
    let server = Server::start(&[]);
    let output = load(&url(&server), &["--publish", "self", "-n", "3"]).output().unwrap();
    let said = text(&output.stdout);
    for part in ["3 of 3 streams open", "30 events published", "latency", "verdict: ok"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains('\u{1b}') && output.stderr.is_empty(), "no terminal, no colours");
}
