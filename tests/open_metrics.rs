//! `/metrics` keeps to the letter of OpenMetrics, whatever peers do; and the rules that it keeps to
//! are checked by a reader that refuses what breaks them.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "support/open_metrics.rs"]
mod open_metrics;
mod support;

use open_metrics::{Family, parse};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use support::{Scratch, Server, installed};

#[test]
fn the_reader_refuses_what_breaks_a_rule() {
    let check = |text: &str, expected: &str| {
        let why = parse(text).expect_err(text);
        assert!(why.contains(expected), "{text:?}: {why}");
    };
    let good = "# HELP a_seconds A.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                a_seconds_total{x=\"\\\"\\\\\\n\",y=\"\"} 1\n\
                # TYPE h histogram\n# HELP h H.\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 3\n\
                h_count 3\nh_sum 7.5e-1\n# TYPE g gauge\n# HELP g G.\ng{} -Inf\ng{z=\"1\"} NaN\n# EOF\n";
    let families = parse(good).unwrap();
    assert_eq!(families.len(), 3);
    assert_eq!(families[0].samples[0].labels[0].1, "\"\\\n");
    let broken = |from: &str, to: &str, expected: &str| {
        assert!(good.contains(from), "{from}");
        check(&good.replacen(from, to, 1), expected);
    };
    broken("# EOF\n", "", "not # EOF");
    broken("# EOF\n", "# EOF\ng 1\n", "not # EOF");
    broken("# EOF\n", "\n# EOF\n", "no value");
    broken("g{} -Inf\n", "g{} -Inf\r\n", "carriage return");
    broken("# HELP h H.\n", "# HELP h H.\n# HELP h H.\n", "a second HELP of h");
    broken("# HELP h H.\n", "", "h: no HELP");
    broken("# HELP h H.\n", "# NOTE h H.\n", "no such metadata");
    broken("# HELP h H.\n", "#HELP h H.\n", "a comment");
    broken("# TYPE g gauge\n", "", "of type \"\"");
    broken("# TYPE g gauge", "# TYPE g stateset", "of type \"stateset\"");
    broken("# TYPE g gauge\n", "# TYPE g gauge\n# UNIT g bytes\n", "does not end in its unit");
    broken("UNIT a_seconds seconds", "UNIT a_seconds bytes", "does not end in its unit");
    broken("h_count 3\n", "h_count 3\n# UNIT h x\n", "metadata behind a sample");
    broken("# EOF", "# TYPE h gauge\n# EOF", "h begins a second time");
    broken("# EOF", "h_count 3\n# EOF", "no sample of gauge g");
    broken("a_seconds_total{", "a_seconds{", "no sample of counter");
    broken("y=\"\"} 1", "y=\"\"} -1", "is -1");
    broken("y=\"\"} 1", "y=\"\"} NaN", "is NaN");
    broken("y=\"\"} 1", "x=\"\"} 1", "a second label x");
    broken("y=\"\"} 1", "1y=\"\"} 1", "no name");
    broken("y=\"\"} 1", "y=\"\",} 1", "no label");
    broken("y=\"\"} 1", "y=\"\"} 1 1700000000", "no number");
    broken("y=\"\"} 1", "y=\"\"}  1", "no number");
    broken("\\\"\\\\", "\\t", "in \"\\\\t");
    broken("g{z=\"1\"} NaN", "g NaN", "a second g");
    broken("g{z=\"1\"} NaN", "g{z=\"1\"} infinity", "no number");
    broken("h_bucket{le=\"+Inf\"} 3\n", "", "no bucket +Inf");
    broken("h_bucket{le=\"+Inf\"} 3", "h_bucket{le=\"+Inf\"} 0", "has 0 behind 1");
    broken("h_count 3", "h_count 4", "count 4 but +Inf 3");
    broken("le=\"+Inf\"} 3", "le=\"0.1\"} 3", "bucket 0.1 behind bucket 0.5");
    broken("h_bucket{le=\"0.5\"} 1", "h_bucket 1", "a bucket without le");
    broken("h_sum 7.5e-1\n", "", "no sum");
    let taken = "# TYPE h_sum gauge\n# HELP h_sum H.\nh_sum 1\n# EOF";
    broken("# EOF", taken, "h_sum belongs to two families");
    broken("g{} -Inf\ng{z=\"1\"} NaN\n", "", "g: no samples");
}

/// A server with everything in it that a peer can choose, in forms that would show.
fn busy_server() -> (Server, Vec<support::Subscriber>) {
    let server = Server::start(&[("log_events_max", "4"), ("connections_max", "20")]);
    let mut streams: Vec<_> = ["/peer-chosen", "/peer-chosen%22%5Cx", "?topic=a&topic=b"]
        .map(|path| server.subscribe(path))
        .into();
    for number in 0..20 {
        let path = format!("/events/peer-chosen?id=peer-chosen-{number}&event=peer-chosen");
        let answer = server.connect().request("POST", &path, &[], b"peer-chosen");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    streams.push(server.subscribe_with("/peer-chosen", &[("Last-Event-ID", "peer-chosen-0")]));
    for _ in 0..3 {
        let event = streams[0].next().unwrap();
        assert_eq!(event.data, "peer-chosen");
    }
    for request in
        ["peer-chosen / HTTP/1.1\r\n\r\n", "GET /peer-chosen HTTP/1.1\r\nHost: peer-chosen\r\n\r\n"]
    {
        let mut client = server.connect();
        client.send(request);
        client.receive();
    }
    (server, streams)
}

fn series(families: &[Family]) -> BTreeSet<String> {
    let samples = families.iter().flat_map(|family| &family.samples);
    samples.map(|sample| format!("{} {:?}", sample.name, sample.labels)).collect()
}

#[test]
fn the_server_keeps_to_the_rules() {
    let quiet = Server::start(&[]);
    let before = parse(&quiet.admin_get("/metrics").text()).unwrap();
    let (server, _streams) = busy_server();
    let answer = server.admin_get("/metrics");
    assert!(
        answer
            .head
            .contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = answer.text();
    let families = parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    assert!(families.len() > 40, "{}", families.len());
    // Nothing that a peer has said makes a series, or a monitoring system's memory would be theirs.
    assert_eq!(series(&families), series(&before));
    assert!(!text.contains("peer-chosen") && !text.contains("127.0.0.1"), "{text}");
    for family in &families {
        assert!(family.name.starts_with("pushv_"), "{}", family.name);
        for unit in ["seconds", "bytes"] {
            let named = family.name.ends_with(&format!("_{unit}"));
            assert_eq!(
                named,
                family.unit == unit,
                "the unit of {} is {:?}",
                family.name,
                family.unit
            );
        }
        for (name, value) in family.samples.iter().flat_map(|sample| &sample.labels) {
            assert!(LABELS.contains(&name.as_str()), "{name} of {}", family.name);
            assert!(value.len() < 30, "{value:?} of {}", family.name);
        }
    }
}

/// The labels that there are; their values are lists in the source.
const LABELS: [&str; 7] = ["call", "le", "outcome", "reason", "status", "stream", "verdict"];

/// Runs promtool on `input`.
fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Prometheus's linter reads the older text format only, in which a counter's name has its `_total`
/// in the metadata too.
#[test]
fn promtool_has_nothing_to_say_of_the_names() {
    if installed(&["promtool"]).is_none() {
        return;
    }
    let (server, _streams) = busy_server();
    let text = server.admin_get("/metrics").text();
    let families = parse(&text).unwrap();
    let mut older = String::new();
    for line in text.lines().filter(|line| !line.starts_with("# UNIT") && *line != "# EOF") {
        let counter = families.iter().find(|family| {
            let about = |keyword: &str| line.starts_with(&format!("# {keyword} {} ", family.name));
            family.kind == "counter" && (about("TYPE") || about("HELP"))
        });
        older += &counter.map_or_else(
            || line.to_string(),
            |counter| line.replacen(&counter.name, &format!("{}_total", counter.name), 1),
        );
        older.push('\n');
    }
    let said = promtool(&["check", "metrics"], &older);
    let said = [said.stdout, said.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
    let nameless = promtool(&["check", "metrics"], "# TYPE a counter\na 1\n");
    assert!(!nameless.status.success(), "it finds nothing wrong with anything");
}

/// Prometheus's own parser of OpenMetrics, which is behind the import of samples, if they have times.
#[test]
fn promtool_imports_the_text() {
    if installed(&["promtool"]).is_none() {
        return;
    }
    let imports = |name: &str, text: &str| {
        let directory = Scratch::new(name);
        let file = directory.0.join("metrics");
        let timed: String = text
            .lines()
            .map(|line| {
                if line.starts_with('#') {
                    format!("{line}\n")
                } else {
                    format!("{line} 1700000000\n")
                }
            })
            .collect();
        std::fs::write(&file, timed).unwrap();
        let blocks = directory.0.join("blocks");
        let (file, blocks) = (file.to_str().unwrap(), blocks.to_str().unwrap());
        promtool(&["tsdb", "create-blocks-from", "openmetrics", file, blocks], "")
    };
    let (server, _streams) = busy_server();
    let text = server.admin_get("/metrics").text();
    let said = imports("good", &text);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    // That it looks at all.
    for (name, broken) in [
        ("end", text.replace("# EOF\n", "")),
        (
            "unit",
            text.replacen("# UNIT pushv_cpu_seconds seconds", "# UNIT pushv_cpu_seconds bytes", 1),
        ),
        ("quote", text.replacen("call=\"send\"", "call=send", 1)),
    ] {
        assert!(!imports(name, &broken).status.success(), "{name} is accepted");
    }
}
