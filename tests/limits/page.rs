//! The page, and the walk along it.

use crate::support::{Answer, Client, Server};
use crate::{numbers, requests, times};
use pushv::config::Config;
use pushv::config::knobs::{self, Group, KNOBS};
use std::collections::BTreeSet;
use std::io::Read;

/// One row of the page.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub default: u64,
    flag: Option<String>,
    above: String,
    connection: String,
    counted: Option<String>,
}

/// A check: drives a server to the limit and above it, and compares with the row.
pub type Check = fn(&Row);

fn rows() -> Vec<Row> {
    let page = include_str!("../../docs/LIMITS.md");
    // What follows is measured, not a limit.
    let (page, _) = page.split_once("\n## How long").expect("a heading");
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    lines.map(read).collect()
}

fn read(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let [name, default, flag, above, connection, counted] = cells[..] else {
        panic!("six cells: {line}")
    };
    let code = |cell: &str| (cell != "–").then(|| cell.trim_matches('`').to_string());
    Row {
        name: name.trim_matches('`').into(),
        default: default.parse().expect("a number"),
        flag: code(flag),
        above: above.into(),
        connection: connection.into(),
        counted: code(counted),
    }
}

/// The row whose check this is. It must be checked, so a check asks for its row by name.
#[track_caller]
fn row(name: &str) -> Row {
    rows().into_iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name:?}"))
}

fn checks() -> Vec<(&'static str, Check)> {
    [requests::CHECKS, numbers::CHECKS, times::CHECKS].concat()
}

/// Runs the checks of one part of the page.
#[track_caller]
pub fn walk(checks: &[(&str, Check)]) {
    for (name, check) in checks {
        println!("{name}"); // seen on failure
        check(&row(name));
    }
}

#[test]
fn every_row_has_its_check_and_its_knob() {
    let rows = rows();
    let on_page: BTreeSet<&str> = rows.iter().map(|row| &*row.name).collect();
    assert_eq!(on_page.len(), rows.len(), "each stands there once");
    let checks = checks();
    let checked: BTreeSet<&str> = checks.iter().map(|(name, _)| *name).collect();
    assert_eq!(on_page, checked, "what the page promises is checked");
    for row in &rows {
        let Some(flag) = &row.flag else { continue };
        let knob = knobs::find(&row.name).expect("a knob");
        let default = knob.show(&Config::default()).to_string();
        assert_eq!((knob.flag(), default), (flag.clone(), row.default.to_string()), "{}", row.name);
    }
    for knob in KNOBS.iter().filter(|knob| knob.group == Group::Limits) {
        assert!(on_page.contains(knob.name), "{} is not on the page", knob.name);
    }
}

impl Row {
    /// What happens above the limit, and what becomes of the connection.
    #[track_caller]
    pub fn says(&self, above: &str, connection: &str) {
        assert_eq!((&*self.above, &*self.connection), (above, connection), "{}", self.name);
    }

    /// A server with this limit, and other settings.
    #[track_caller]
    pub fn server(&self, limit: u64, others: &[(&str, &str)]) -> Server {
        let limit = limit.to_string();
        let mut settings = others.to_vec();
        if self.flag.is_some() {
            settings.push((&self.name, &limit));
        }
        Server::start(&settings)
    }

    /// The metric that counts what happens above the limit.
    #[track_caller]
    pub fn count(&self, server: &Server) -> u64 {
        server.metric(self.counted.as_deref().expect("it is counted"))
    }

    /// Waits until the metric has risen above `before`.
    #[track_caller]
    pub fn counts(&self, server: &Server, before: u64) {
        server.wait_for(self.counted.as_deref().expect("it is counted"), before + 1);
    }

    /// `taken` is answered with success and the connection goes on; `refused` is answered as the
    /// row says, the connection is what the row says, and it is counted.
    #[track_caller]
    pub fn divides(&self, server: &Server, taken: Vec<u8>, refused: Vec<u8>) {
        let mut client = server.connect();
        client.send(&taken);
        let answer = client.answer_to(method(&taken));
        assert!(answer.status < 300, "{}: {answer:?}, although it is at the limit", self.name);
        assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
        self.refuses(server, refused);
    }

    /// The second half of [`Row::divides`].
    #[track_caller]
    pub fn refuses(&self, server: &Server, refused: Vec<u8>) {
        let before = self.counted.as_ref().map(|_| self.count(server));
        let mut client = Client::connect(self.address(server));
        client.send(&refused);
        let answer = client.answer_to(method(&refused));
        let connection = fate(&mut client, &answer);
        self.says(&answer.status.to_string(), connection);
        drop(client);
        if let Some(before) = before {
            self.counts(server, before);
        }
    }

    fn address(&self, server: &Server) -> std::net::SocketAddr {
        let of_admin = self.name.contains('/') || self.name.contains("knobs");
        if of_admin { server.admin } else { server.public }
    }
}

fn method(sent: &[u8]) -> &str {
    if sent.starts_with(b"HEAD ") { "HEAD" } else { "any other" }
}

/// What becomes of a connection after an answer.
#[track_caller]
pub fn fate(client: &mut Client, answer: &Answer) -> &'static str {
    if answer.field("Connection") == Some("close") {
        assert!(client.received.is_empty(), "one answer");
        assert!(matches!(client.socket.read(&mut [0; 1]), Ok(0)), "it ends in order");
        return "ends";
    }
    assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
    "goes on"
}
