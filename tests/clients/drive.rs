//! What every client must do: receive each event once, in order, whatever becomes of its
//! connections.

use crate::cutter::Cutter;
use crate::support::Server;

/// A server whose streams last for a moment only, behind a proxy that cuts them before.
pub struct Scene {
    pub server: Server,
    pub cutter: Cutter,
}

impl Scene {
    pub fn start(cors_origins: &str) -> Scene {
        let settings =
            [("connection_age_ms", "500"), ("retry_ms", "20"), ("cors_origins", cors_origins)];
        let server = Server::start(&settings);
        let cutter = Cutter::start(server.public);
        Scene { server, cutter }
    }

    /// The address to subscribe to.
    pub fn url(&self) -> String {
        format!("http://{}/events/a", self.cutter.address)
    }

    /// Publishes while a client reads. Its lines are `open`, `error`, and `message DATA ID` with both
    /// as JSON strings.
    pub fn drive(&self, mut line: impl FnMut() -> String) {
        while line() != "open" {}
        let (mut published, mut seen) = (0, 0);
        loop {
            let enough = self.cutter.has_cut_all();
            // A few at a time, so that some fall into the times when it is not connected.
            if !enough && published < seen + 7 {
                self.publish(published);
                published += 1;
                continue;
            }
            if enough && seen == published {
                break;
            }
            let line = line();
            if let Some(message) = line.strip_prefix("message ") {
                assert_eq!(message, message_of(seen), "after {seen} events");
                seen += 1;
            } else {
                assert!(line == "open" || line == "error", "{line}");
            }
        }
        assert_eq!(self.server.metric("gaps_total"), 0);
    }

    fn publish(&self, nth: usize) {
        let path = format!("/events/a?id={}", percent_encoded(&id_of(nth)));
        let answer = self.server.connect().request("POST", &path, &[], data_of(nth).as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Every character that an id may hold.
fn id_of(nth: usize) -> String {
    let mut id: String = (' '..='~').collect();
    id.push_str(&nth.to_string());
    id.trim_start().into()
}

fn data_of(nth: usize) -> String {
    format!("event {nth}\nüber zwei Zeilen")
}

fn message_of(nth: usize) -> String {
    let [data, id] = [data_of(nth), id_of(nth)].map(|text| serde_json::to_string(&text).unwrap());
    format!("{data} {id}")
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
