//! Clients for node.

use crate::drive::Scene;
use crate::support::{Running, installed, skip};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Has the `EventSource` of a package read what is published. `query` is for the first connection;
/// after that the client says by a header or a parameter, `resumes_by`, where it stands.
fn drives(package: &str, event_source: &str, query: &str, resumes_by: &str) {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules");
    if installed(&["node"]).is_none() {
        return;
    }
    if !modules.join(package).exists() {
        return skip(&format!("not installed: {package} (.ci/run says how)"));
    }
    let scene = Scene::start("");
    let script = format!(
        "const EventSource = {event_source};
         setInterval(() => {{}}, 1_000_000); // undici's timers do not keep a process alive
         const source = new EventSource('{}{query}');
         source.onopen = () => console.log('open');
         source.onerror = () => console.log('error');
         source.onmessage = event => console.log('message', JSON.stringify(event.data),
           JSON.stringify(event.lastEventId));",
        scene.url()
    );
    let mut node = Command::new("node");
    node.args(["-e", &script]).env("NODE_PATH", modules);
    let mut child = Running(node.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    scene.drive(|| lines.next().expect("it goes on").expect("text"));
    assert!(scene.cutter.sent().to_ascii_lowercase().contains(resumes_by));
}

#[test]
fn eventsource_4() {
    drives("eventsource", "require('eventsource').EventSource", EARLIEST, HEADER);
}

#[test]
fn eventsource_3() {
    drives("eventsource3", "require('eventsource3').EventSource", EARLIEST, HEADER);
}

#[test]
fn eventsource_2() {
    drives("eventsource2", "require('eventsource2')", "", HEADER);
}

#[test]
fn undici() {
    drives("undici", "require('undici').EventSource", "", HEADER);
}

#[test]
fn event_source_polyfill() {
    drives(
        "event-source-polyfill",
        "require('event-source-polyfill').EventSourcePolyfill",
        EARLIEST,
        "&lasteventid=",
    );
}

/// For a client that takes an id only from an event with data: it does not keep the position that
/// a stream begins with.
const EARLIEST: &str = "?last_event_id=earliest";
const HEADER: &str = "\r\nlast-event-id: ";
