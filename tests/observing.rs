//! What is offered for observing a server fits the server: every metric that the page, the dashboard
//! and the alerts name is one that it has.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "support/open_metrics.rs"]
mod open_metrics;
mod support;

use open_metrics::{Family, Labels, parse};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;
use support::{Scratch, Server, installed};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OBSERVING.md");
const DASHBOARD: &str = include_str!("../docs/grafana/pushv.json");
const ALERTS: &str = include_str!("../docs/grafana/alerts.yml");

fn families() -> Vec<Family> {
    let server = Server::start(&[]);
    let _stream = server.subscribe("/a");
    parse(&server.admin_get("/metrics").text()).unwrap()
}

/// The table of metrics in `docs/OBSERVING.md` is made of what the server says of itself.
/// `PUSHV_UPDATE=1 cargo test --test observing` makes it anew.
#[test]
fn the_page_has_every_metric() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let begin = page.find("| metric | type | unit |").expect("a table");
    let end = begin + page[begin..].find("\n\n").expect("an end") + 1;
    let wanted = format!("{}{}{}", &page[..begin], table(&families()), &page[end..]);
    if std::env::var_os("PUSHV_UPDATE").is_some() {
        std::fs::write(PAGE, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(PAGE).unwrap();
    let update = "PUSHV_UPDATE=1 cargo test --test observing";
    assert!(found == wanted, "docs/OBSERVING.md is out of date: {update}");
    let prose = found[..begin].lines().count();
    assert!(prose < 120, "{prose} lines before the table: nobody reads a long page to its end");
}

fn table(families: &[Family]) -> String {
    let mut table = String::from("| metric | type | unit | what it is |\n|---|---|---|---|\n");
    for family in families {
        // The name that a query has.
        let suffix = if family.kind == "counter" { "_total" } else { "" };
        let labels: BTreeSet<&str> = family
            .samples
            .iter()
            .flat_map(|sample| &sample.labels)
            .map(|(name, _)| name.as_str())
            .filter(|name| *name != "le")
            .collect();
        let labels: Vec<&str> = labels.into_iter().collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let unit = if family.unit.is_empty() { "–" } else { &family.unit };
        // The library that writes the metrics ends each of these with a full stop.
        let help = family.help.trim_end_matches('.');
        writeln!(
            table,
            "| `{}{suffix}{labels}` | {} | {unit} | {help} |",
            family.name, family.kind
        )
        .unwrap();
    }
    table
}

/// The samples that a query may name, with the values of their labels.
fn series() -> Vec<(String, Labels)> {
    let samples = families().into_iter().flat_map(|family| family.samples);
    samples.map(|sample| (sample.name, sample.labels)).collect()
}

/// Asserts that each metric of a query is there, and with the labels that the query picks.
#[track_caller]
fn check_query(query: &str, series: &[(String, Labels)]) {
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    for (at, _) in query.match_indices("pushv_") {
        let rest = &query[at..];
        let end = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let found: Vec<_> = series.iter().filter(|(known, _)| known == name).collect();
        assert!(!found.is_empty(), "no metric {name} for {query}");
        let picked = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or("");
        for picked in picked.split(',').filter_map(|label| label.split_once("=\"")) {
            let picked = (picked.0.to_string(), picked.1.trim_end_matches('"').to_string());
            let has = |labels: &Labels| labels.contains(&picked);
            assert!(found.iter().any(|(_, labels)| has(labels)), "no {picked:?} for {query}");
        }
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let series = series();
    let mut ids = BTreeSet::new();
    let mut queries = 0;
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel:#}");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel:#}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            assert!(query.contains("pushv_"), "{query}");
            check_query(query, &series);
            queries += 1;
        }
        let is_row = panel["type"] == "row";
        assert!(
            is_row || panel["description"].as_str().is_some_and(|text| text.len() > 10),
            "{panel:#}"
        );
    }
    assert!(queries > 30, "{queries}");
}

#[test]
fn the_alerts_ask_for_what_there_is() {
    let series = series();
    let field = |rule: &str, name: &str| -> String {
        let line = rule.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {rule}")).to_string()
    };
    let rules: Vec<&str> = ALERTS.split("- alert: ").skip(1).collect();
    assert!(rules.len() >= 10, "{}", rules.len());
    for rule in rules {
        let query = field(rule, "expr");
        // What Prometheus itself says of a server that it does not reach.
        assert!(query.contains("pushv_") || query == "up{job=\"pushv\"} == 0", "{query}");
        check_query(&query, &series);
        for words in ["summary", "remedy"] {
            assert!(field(rule, words).len() > 20, "{rule}");
        }
    }
}

/// Prometheus understands the rules.
#[test]
fn promtool_checks_the_alerts() {
    if installed(&["promtool"]).is_none() {
        return;
    }
    let folder = Scratch::new("check");
    promtool(&folder, "check", ALERTS);
}

/// Each alert fires for what it is about, and not for what is usual.
#[test]
fn promtool_tries_the_alerts() {
    if installed(&["promtool"]).is_none() {
        return;
    }
    let folder = Scratch::new("test");
    // Without what would have to be said a second time.
    let is_kept = |line: &&str| {
        !["labels:", "annotations:", "summary:", "remedy:"]
            .iter()
            .any(|key| line.trim().starts_with(key))
    };
    let rules: Vec<&str> = ALERTS.lines().filter(is_kept).collect();
    std::fs::write(folder.0.join("alerts.yml"), rules.join("\n")).unwrap();
    let mut tests = String::from("rule_files: [alerts.yml]\nevaluation_interval: 1m\ntests:\n");
    for (alert, firing, quiet) in CASES {
        push_test(&mut tests, alert, firing, true);
        push_test(&mut tests, alert, quiet, false);
    }
    promtool(&folder, "test", &tests);
    let tried: Vec<&str> = CASES.iter().map(|(alert, ..)| *alert).collect();
    let alerts: Vec<&str> =
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts, tried);
}

/// A test in promtool's form: after a quarter of an hour of these series, does it fire?
fn push_test(tests: &mut String, alert: &str, series: &[&str], fires: bool) {
    tests.push_str("  - interval: 1m\n    input_series:\n");
    for series in series {
        let (name, values) = series.rsplit_once(' ').unwrap();
        writeln!(tests, "      - {{ series: '{name}', values: '{values}' }}").unwrap();
    }
    // Labels that the query has picked stay with the alert.
    let picked = ["job=\"pushv\"", "reason=\"stalled\"", "reason=\"unacknowledged\""];
    let picked = picked.iter().filter(|label| series[0].contains(*label));
    let labels: String = picked.map(|label| format!(", {}", label.replace('=', ": "))).collect();
    let expected =
        if fires { format!("[{{ exp_labels: {{ instance: a{labels} }} }}]") } else { "[]".into() };
    writeln!(
        tests,
        "    alert_rule_test:\n      - {{ eval_time: 15m, alertname: {alert}, exp_alerts: {expected} }}"
    )
    .unwrap();
}

#[track_caller]
fn promtool(folder: &Scratch, verb: &str, text: &str) {
    std::fs::write(folder.0.join("text.yml"), text).unwrap();
    let mut command = Command::new("promtool");
    let output = command.args([verb, "rules", "text.yml"]).current_dir(&folder.0).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&said));
}

/// An alert, series for which it has to fire, and series for which it must not, in promtool's
/// notation: `0+1x20` is 0, 1, 2, …, one for each minute.
#[rustfmt::skip]
const CASES: &[(&str, &[&str], &[&str])] = &[
    ("PushvDown", &[r#"up{job="pushv",instance="a"} 0x20"#], &[r#"up{job="pushv",instance="a"} 1x20"#]),
    ("PushvReadersBlocked", &[r#"pushv_connections_blocked{instance="a"} 9x20"#, r#"pushv_streams{instance="a"} 100x20"#], &[r#"pushv_connections_blocked{instance="a"} 4x20"#, r#"pushv_streams{instance="a"} 100x20"#]),
    ("PushvReadersBehind", &[r#"pushv_lag_oldest_seconds{instance="a"} 11x20"#], &[r#"pushv_lag_oldest_seconds{instance="a"} 9x20"#]),
    ("PushvEventsLost", &[r#"pushv_gaps_total{instance="a"} 0+1x20"#, r#"pushv_events_lost_total{instance="a"} 0x20"#], &[r#"pushv_gaps_total{instance="a"} 7x20"#, r#"pushv_events_evicted_total{instance="a"} 7x20"#]),
    ("PushvPublishesRefused", &[r#"pushv_events_refused_total{instance="a"} 0+1x20"#], &[r#"pushv_events_refused_total{instance="a"} 7x20"#]),
    ("PushvLoopStalls", &[r#"pushv_turn_seconds_bucket{instance="a",le="0.033554431"} 0+97x20"#, r#"pushv_turn_seconds_bucket{instance="a",le="0.067108863"} 0+100x20"#, r#"pushv_turn_seconds_bucket{instance="a",le="+Inf"} 0+100x20"#], &[r#"pushv_turn_seconds_bucket{instance="a",le="0.033554431"} 0+100x20"#, r#"pushv_turn_seconds_bucket{instance="a",le="+Inf"} 0+100x20"#]),
    ("PushvReadersStalled", &[r#"pushv_closes_total{instance="a",reason="stalled"} 0+1x20"#], &[r#"pushv_closes_total{instance="a",reason="done"} 0+9x20"#]),
    ("PushvPeersGone", &[r#"pushv_closes_total{instance="a",reason="unacknowledged"} 0+1x20"#], &[r#"pushv_closes_total{instance="a",reason="stalled"} 7x20"#]),
    ("PushvNagleStalls", &[r#"pushv_nagle_stalls_total{instance="a"} 0+2x20"#], &[r#"pushv_nagle_stalls_total{instance="a"} 7x20"#]),
    ("PushvLogsNearBound", &[r#"pushv_log_bytes{instance="a"} 95x20"#, r#"pushv_log_max_bytes{instance="a"} 100x20"#], &[r#"pushv_log_bytes{instance="a"} 85x20"#, r#"pushv_log_max_bytes{instance="a"} 100x20"#]),
    ("PushvAcceptErrors", &[r#"pushv_accept_errors_total{instance="a"} 0+1x20"#], &[r#"pushv_accept_errors_total{instance="a"} 7x20"#]),
    ("PushvOverLimit", &[r#"pushv_over_limit_total{instance="a"} 0+1x20"#], &[r#"pushv_over_limit_total{instance="a"} 7x20"#]),
];
