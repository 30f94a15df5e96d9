//! What `/connections` says of single streams.

#![allow(dead_code)] // each test file uses its own part

use super::support::{Client, PATIENCE, Server};
use serde_json::Value;
use std::time::{Duration, Instant};

impl Server {
    /// What the admin listener answers, which is JSON.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let answer = self.admin_get(path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The row of a client's stream in `/connections`.
    #[track_caller]
    pub fn stream_of(&self, client: &Client) -> Value {
        let peer = client.socket.local_addr().unwrap().to_string();
        let listed = self.json("/connections?limit=200");
        let rows = listed["connections"].as_array().unwrap();
        let found = rows.iter().find(|row| row["peer"] == peer.as_str());
        found.unwrap_or_else(|| panic!("no {peer} in {listed:#}")).clone()
    }

    /// Waits until the stream of a client is as `expected`, and gives it.
    #[track_caller]
    pub fn wait_for_stream(&self, client: &Client, expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stream = self.stream_of(client);
            if expected(&stream) {
                return stream;
            }
            assert!(Instant::now() < deadline, "it stays as {stream:#}");
            std::thread::sleep(Duration::from_millis(2)); // between two looks
        }
    }
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A subscriber that has sent its request and reads nothing.
pub fn silent(server: &Server, path: &str) -> Client {
    let mut client = Client::connect_narrow(server.public);
    client.send(format!("GET /events{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client
}
