//! Runs in which it matters how long something takes: the hub is slow on purpose.

use crate::fault::Fault;
use crate::hub::{EVENTS, Hub, Manner};
use crate::run::{load, report, text};
use serde_json::Value;
use std::time::Duration;

/// An open loop against a hub that takes ten events per second of the thousand that are planned.
/// What never took place may not vanish: neither from the verdict nor from the times.
#[test]
fn an_open_loop_that_did_not_take_place() {
    let pause = Duration::from_millis(100);
    let hub = Hub::start(Fault::None, Manner { pause, ..Manner::default() });
    let arguments = ["-n", "3", "--publish", "self", "--rate", "1000", "--pipeline", "1"];
    let grace = ["--grace", "100ms"];
    let (status, report) = report(&hub.url(), &[&arguments[..], &grace].concat());
    assert_eq!((status, &report["verdict"]), (1, &Value::from("incomplete")), "{report:#}");
    let published = &report["published"];
    let count = |name: &str| published[name].as_u64().unwrap();
    assert_eq!(count("planned"), 300, "0.3 s at 1000 per second");
    assert!(count("events") <= 20, "{report:#}");
    assert_eq!(count("unpublished"), 300 - count("events"));
    assert_eq!(published["lateness_ns"]["count"], 300, "all of them were late");
    // Half of them were due in the first half, and had waited for 250 ms when it gave up.
    assert!(published["lateness_ns"]["p50"].as_u64().unwrap() > 200_000_000, "{report:#}");

    let output = load(&hub.url(), &[&arguments[..], &grace].concat()).output().unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("of 300 planned events were never published"), "{said}");
}

/// A round that one subscriber cannot finish is given up after the grace; the next one is not, in
/// whichever process that subscriber is.
#[test]
fn a_closed_loop_goes_on_behind_a_loss() {
    for processes in ["1", "2"] {
        let hub = Hub::start(Fault::DropForOne, Manner::default());
        let events = EVENTS.to_string();
        let arguments = ["-n", "2", "--publish", "self", "--round", "--events", &events];
        let times = ["--processes", processes, "--grace", "4s", "--duration", "8s"];
        let (status, report) = report(&hub.url(), &[&arguments[..], &times].concat());
        assert_eq!((status, &report["verdict"]), (1, &Value::from("offences")), "{report:#}");
        assert_eq!(report["offences"]["missing"], 1, "{report:#}");
        assert_eq!(report["published"]["events"], EVENTS, "{report:#}");
    }
}

/// Readers that were told to wait for longer than it takes to give a server up.
#[test]
fn a_server_that_asks_for_patience_is_not_gone() {
    let hub = Hub::start(Fault::End, Manner { retry_ms: 4000, ..Manner::default() });
    let events = EVENTS.to_string();
    let arguments = ["-n", "3", "--publish", "self", "--rate", "1", "--events", &events];
    let times = ["--grace", "20s", "--duration", "60s"];
    let (status, report) = report(&hub.url(), &[&arguments[..], &times].concat());
    assert_eq!((status, &report["verdict"]), (0, &Value::from("ok")), "{report:#}");
    assert_eq!(report["connections"]["reconnected"], 3, "{report:#}");
}

/// A run that only listens, whose streams end when it has begun, or before: in both cases two of
/// three streams are missing in the end.
#[test]
fn listening_to_a_server_that_takes_nobody_back() {
    let pause = Duration::from_millis(500);
    let manner = Manner { listened: true, pause, ..Manner::default() };
    let hub = Hub::start(Fault::EndAndRefuse, manner);
    let times = ["--duration", "2s", "--grace", "500ms"];
    let (status, report) = report(&hub.url(), &[&["-n", "3"][..], &times].concat());
    assert_eq!((status, &report["verdict"]), (1, &Value::from("incomplete")), "{report:#}");
}
