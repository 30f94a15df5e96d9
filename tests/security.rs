//! What must not happen: an admin listener for everybody, a token where it can be read, a request's
//! header in an answer.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use pushv::config::Secret;
use std::fs;
use std::io::Read;
use support::process::{Process, Scratch, pushv};
use support::{Client, Server};

const PUBLISH: &str = "publish-token-7c1f2a";
const ADMIN: &str = "admin-token-93b0de";
const GUESS: &str = "guessed-token-51aa77";

fn guarded() -> Server {
    let mut config = support::config(&[]);
    config.admin_token = Some(Secret::new(ADMIN));
    Server::with_config(config)
}

/// The status of a request to the admin listener, by its `Host` and `Authorization`.
fn ask(server: &Server, path: &str, host: &str, authorization: &str) -> u16 {
    let mut client = Client::connect(server.admin);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"));
    client.answer().status
}

/// With a token, everything but the question whether it lives needs it, and then whatever `Host`.
#[test]
fn the_admin_listener_asks_for_its_token() {
    let server = guarded();
    let right = format!("Authorization: Bearer {ADMIN}\r\n");
    let wrong = format!("Authorization: Bearer {ADMIN}x\r\n");
    for path in
        ["/metrics", "/knobs", "/topics", "/connections", "/connections/1", "/live", "/readyz", "/"]
    {
        assert_eq!(ask(&server, path, "localhost", ""), 401, "{path}");
        assert_eq!(ask(&server, path, "localhost", &wrong), 401, "{path}");
        assert_ne!(ask(&server, path, "hub.example", &right), 401, "{path}");
    }
    for path in ["/metrics", "/knobs", "/topics", "/readyz"] {
        assert_eq!(ask(&server, path, "hub.example", &right), 200, "{path}");
    }
    assert_eq!(ask(&server, "/healthz", "localhost", ""), 200);

    let patch = |fields: &[(&str, &str)]| {
        let body = b"{\"heartbeat_ms\":1234}";
        Client::connect(server.admin).request("PATCH", "/knobs", fields, body)
    };
    let refused = patch(&[]);
    assert_eq!((refused.status, refused.field("WWW-Authenticate")), (401, Some("Bearer")));
    let publishers = format!("Bearer {PUBLISH}");
    assert_eq!(patch(&[("Authorization", &publishers)]).status, 401);
    let bearer = format!("Bearer {ADMIN}");
    assert_eq!(patch(&[("Authorization", &bearer)]).json("heartbeat_ms"), "1234");
}

/// A page whose name was made to point to this machine says that name as `Host` (DNS rebinding).
#[test]
fn without_a_token_the_admin_listener_answers_to_loopback_names_only() {
    let server = Server::start(&[]);
    for path in ["/metrics", "/knobs", "/topics", "/readyz"] {
        assert_eq!(ask(&server, path, "evil.example", ""), 403, "{path}");
        assert_eq!(ask(&server, path, "localhost.evil.example:9180", ""), 403, "{path}");
        for host in ["localhost", "LOCALHOST", "LocalHost:9180", "127.0.0.1:9180", "[::1]:9180"] {
            assert_eq!(ask(&server, path, host, ""), 200, "{path} {host}");
        }
    }
}

/// A browser may send what a form could, and read what has a field that permits it: neither gets a
/// foreign page anywhere.
#[test]
fn the_admin_listener_permits_no_page_anything() {
    let mut config = support::config(&[("cors_origins", "*")]);
    config.admin_token = None;
    let server = Server::with_config(config);
    let origin = [("Origin", "https://evil.example")];
    for (method, path) in [("GET", "/metrics"), ("GET", "/knobs"), ("OPTIONS", "/metrics")] {
        let answer = Client::connect(server.admin).request(method, path, &origin, b"");
        assert!(!answer.head.contains("Access-Control"), "{}", answer.head);
    }
    let post = Client::connect(server.admin).request("POST", "/knobs", &origin, b"{}");
    assert_eq!(post.status, 405);
}

#[test]
fn an_admin_listener_for_everybody_is_refused() {
    let mut command = pushv(&["serve", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("--admin-token-file FILE") && error.contains("PUSHV_ADMIN_TOKEN"),
        "{error}"
    );

    let token = Scratch::new("admin-token", &format!("{ADMIN}\n"));
    let process = Process::start(&["--admin", "0.0.0.0:0", "--admin-token-file", token.path()]);
    let port = process.admin.unwrap().port();
    let knobs = |token: &str| {
        let bearer = format!("Bearer {token}");
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        client.request("GET", "/knobs", &[("Authorization", &bearer)], b"").status
    };
    assert_eq!((knobs(ADMIN), knobs(GUESS)), (200, 401));

    // It can be exchanged, but not taken away.
    fs::write(&token.0, "another\n").unwrap();
    process.signal("-HUP");
    process.expect_log("the configuration is read again");
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while knobs("another") != 200 {
        assert!(std::time::Instant::now() < deadline, "the new token is not taken");
    }
    assert_eq!(knobs(ADMIN), 401);
    fs::write(&token.0, "\n").unwrap();
    process.signal("-HUP");
    process.expect_log("the configuration stays as it is");
    assert_eq!(knobs("another"), 200);
}

/// The addresses stay until a restart. So a file that needs no token, because its addresses are loopback
/// ones, must not take the token from a listener that stays open to the network.
#[test]
fn a_reload_cannot_open_a_listener_that_stays() {
    let start = [
        "listen = [\"0.0.0.0:0\"]\nadmin = \"127.0.0.1:0\"\n",
        "listen = [\"127.0.0.1:0\"]\nadmin = \"0.0.0.0:0\"\n",
    ];
    let tokens = [("publish_token_file", PUBLISH), ("admin_token_file", ADMIN)];
    for (start, (knob, token)) in start.into_iter().zip(tokens) {
        let secret = Scratch::new(&format!("kept-{knob}"), &format!("{token}\n"));
        let file = Scratch::new(
            &format!("kept-{knob}.toml"),
            &format!("{start}{knob} = {:?}\nheartbeat_ms = 1111\n", secret.path()),
        );
        let process = Process::spawn(&mut pushv(&["serve", "--config", file.path()]));
        let loopback = |address: std::net::SocketAddr| ([127, 0, 0, 1], address.port()).into();
        let (public, admin) = (loopback(process.public), loopback(process.admin.unwrap()));
        let statuses = |fields: &[(&str, &str)]| {
            let publish = Client::connect(public).request("POST", "/events/a", fields, b"x");
            let knobs = Client::connect(admin).request("GET", "/knobs", fields, b"");
            (publish.status, knobs.status)
        };
        let before = statuses(&[]);
        assert!(before.0 == 401 || before.1 == 401, "{before:?}");

        let loopbacks = "listen = [\"127.0.0.1:0\"]\nadmin = \"off\"\nheartbeat_ms = 2222\n";
        fs::write(&file.0, loopbacks).unwrap();
        process.signal("-HUP");
        let why = process.expect_log("the configuration stays as it is");
        assert!(why.contains("0.0.0.0") && why.contains("until a restart"), "{why}");
        assert_eq!(statuses(&[]), before, "after {why}");
        // Nothing of the file is adopted.
        let bearer = format!("Bearer {token}");
        let fields = [("Authorization", bearer.as_str())];
        let knobs = Client::connect(admin).request("GET", "/knobs", &fields, b"");
        assert_eq!(knobs.json("heartbeat_ms"), "1111");
    }
}

/// Whoever may turn knobs cannot set what opens a listener, and a request that tries it changes nothing
/// else either.
#[test]
fn a_patch_sets_nothing_that_decides_who_gets_in() {
    use pushv::config::knobs::{KNOBS, Scope};
    let server = Server::start(&[]);
    let before = Client::connect(server.admin).request("GET", "/knobs", &[], b"").text();
    let not_live = KNOBS.iter().filter(|knob| matches!(knob.scope, Scope::Start | Scope::Reload));
    let mut tried = 0;
    for knob in not_live.clone() {
        for value in ["off", "", "0.0.0.0:0", "7", "true", "x"] {
            let body = format!("{{\"heartbeat_ms\":1234,\"{}\":\"{value}\"}}", knob.name);
            let answer =
                Client::connect(server.admin).request("PATCH", "/knobs", &[], body.as_bytes());
            assert_eq!(answer.status, 400, "{body}: {}", answer.text());
            tried += 1;
        }
    }
    let names: Vec<&str> = not_live.map(|knob| knob.name).collect();
    for name in ["listen", "admin", "publish_token_file", "admin_token_file"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(tried > 24);
    let after = Client::connect(server.admin).request("GET", "/knobs", &[], b"").text();
    assert_eq!(after, before);
}

/// The environment has the token for whoever looks at the server, as it has it for the server.
#[test]
fn pushv_top_presents_the_token() {
    let server = guarded();
    let url = format!("http://{}/", server.admin);
    let top = |token: &str| {
        let mut command = pushv(&["top", "--once", "--json", "--admin", &url]);
        let output = command.env("PUSHV_ADMIN_TOKEN", token).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(top(ADMIN), (Some(0), String::new()));
    let (status, why) = top("");
    assert!(status == Some(1) && why.contains("PUSHV_ADMIN_TOKEN"), "{why}");
    let (status, why) = top(GUESS);
    assert!(status == Some(1) && !why.contains(GUESS), "{why}");
}

/// At any level of logging, in any answer, in the list of processes, in what is said of a wrong
/// configuration: neither the tokens nor what somebody took for one.
#[test]
fn tokens_are_nowhere_to_be_read() {
    let file = Scratch::new("secret-token", &format!("{PUBLISH}\n"));
    let mut command = pushv(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(["--log", "trace", "--publish-token-file", file.path()]);
    command.env("PUSHV_ADMIN_TOKEN", ADMIN);
    let mut process = Process::spawn(&mut command);
    let admin = process.admin.unwrap();
    let mut seen = String::new();
    for token in [PUBLISH, ADMIN, GUESS] {
        let bearer = format!("Bearer {token}");
        let fields = [("Authorization", bearer.as_str())];
        for (method, path, body) in
            [("POST", "/events/a", "x"), ("GET", "/events", ""), ("PUT", "/", "")]
        {
            let answer =
                Client::connect(process.public).request(method, path, &fields, body.as_bytes());
            seen += &(answer.head.clone() + &answer.text());
        }
        for (method, path, body) in [
            ("GET", "/knobs", ""),
            ("GET", "/topics", ""),
            ("GET", "/metrics", ""),
            ("PATCH", "/knobs", "{\"x\":1}"),
        ] {
            let answer = Client::connect(admin).request(method, path, &fields, body.as_bytes());
            seen += &(answer.head.clone() + &answer.text());
        }
        // And a head that is refused.
        let mut client = Client::connect(process.public);
        client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization : {token}\r\n\r\n"));
        seen += &String::from_utf8_lossy(&client.rest());
    }
    assert!(seen.contains("admin_token_file") && seen.contains("Bearer TOKEN"), "{seen}");
    let mut arguments = String::new();
    let path = format!("/proc/{}/cmdline", process.child.id());
    fs::File::open(path).unwrap().read_to_string(&mut arguments).unwrap();
    seen += &arguments;
    process.signal("-HUP");
    process.expect_log("the configuration is read again");
    process.signal("-TERM");
    assert_eq!(process.wait(), Some(0));
    seen.extend(process.log.iter());
    assert!(seen.contains("drained"), "the log is in it");
    for secret in [PUBLISH, ADMIN, GUESS] {
        assert!(!seen.contains(secret), "{secret} in\n{seen}");
    }

    let mut config = support::config(&[]);
    (config.publish_token, config.admin_token) =
        (Some(Secret::new(PUBLISH)), Some(Secret::new(ADMIN)));
    let shown = format!("{config:?}");
    assert!(!shown.contains(PUBLISH) && !shown.contains(ADMIN), "{shown}");
}

/// What a request says in its fields stands in no answer, whatever becomes of the request: an
/// answer is not a way to put words into a server's mouth.
#[test]
fn no_header_value_is_echoed() {
    let server = Server::start(&[("cors_origins", "https://a.example")]);
    let mark = "m4rk-of-the-request";
    let fields = [
        format!("Host: {mark}.example"),
        format!("Origin: https://{mark}.example"),
        format!("Last-Event-ID: {mark}"),
        format!("Authorization: Bearer {mark}"),
        format!("Content-Type: {mark}/x"),
        format!("User-Agent: {mark}"),
        format!("Cookie: {mark}={mark}"),
        format!("Expect: {mark}"),
        format!("Accept: {mark}/x"),
        format!("Access-Control-Request-Headers: {mark}"),
        format!("Access-Control-Request-Method: {mark}"),
        format!("Transfer-Encoding: {mark}"),
        format!("Content-Length: {mark}"),
        format!("Connection: {mark}"),
        format!("{mark}: {mark}"),
        format!("{mark} : {mark}"),
    ];
    for field in &fields {
        for (address, path) in [
            (server.public, "/events/a"),
            (server.public, "/no-such"),
            (server.public, "/healthz"),
            (server.admin, "/knobs"),
        ] {
            for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE"] {
                let mut client = Client::connect(address);
                let host = if field.starts_with("Host") { "" } else { "Host: localhost\r\n" };
                // An end behind the head: whatever waits for a body gets none.
                client.send(format!("{method} {path} HTTP/1.0\r\n{host}{field}\r\n\r\n"));
                client.finish();
                let answer = String::from_utf8_lossy(&client.rest()).into_owned();
                assert!(!answer.contains(mark), "{method} {path} with {field}:\n{answer}");
            }
        }
    }
}
