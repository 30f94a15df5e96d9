//! The report for programs: everything that was measured, with what it was measured on.

use crate::environment;
use crate::figures::{Metric, Spread};
use crate::plan::Scene;
use crate::scene::Entry;
use crate::table::Report;
use serde_json::{Map, Value, json};

pub fn write(report: &Report, path: &str) -> std::io::Result<()> {
    let sizes = report.sizes;
    let missing = report.missing.iter().map(|(peer, reason)| {
        json!({"name": peer.name(), "reason": reason, "debian": crate::peers::package(*peer)})
    });
    let value = json!({
        "environment": environment::describe(),
        "sizes": {
            "runs": sizes.runs,
            "subscribers": sizes.subscribers,
            "round_blocks": sizes.round_blocks,
            "rounds_per_block": sizes.rounds,
            "flood_blocks": sizes.flood_blocks,
            "flood_events": sizes.flood_events,
            "open_events_per_s": crate::plan::OPEN_PER_S,
            "open_ms": sizes.open_rate.as_millis() as u64,
            "idle_subscribers": sizes.idle,
            "wide_subscribers": sizes.wide,
            "wide_rounds": sizes.wide_rounds,
        },
        "contestants": report.entries.iter().map(|entry| contestant(report, entry)).collect::<Vec<_>>(),
        "missing": missing.collect::<Vec<_>>(),
    });
    std::fs::write(path, format!("{value:#}\n"))
}

fn contestant(report: &Report, entry: &Entry) -> Value {
    let mut scenes = Map::new();
    for scene in Scene::ALL {
        let mut metrics = Map::new();
        for metric in Metric::ALL {
            let (of, key) = metric.key();
            if of == scene && !entry.figures.samples(metric).is_empty() {
                metrics.insert(key.into(), figures(report, entry, metric));
            }
        }
        let failures = entry.failures.iter().filter(|(of, _)| *of == scene);
        let failures: Vec<String> = failures.map(|(_, failure)| failure.to_string()).collect();
        if !failures.is_empty() {
            metrics.insert("failures".into(), json!(failures));
        }
        if !metrics.is_empty() {
            scenes.insert(scene.name().into(), Value::Object(metrics));
        }
    }
    json!({"name": entry.contestant.name(), "title": entry.title, "scenes": scenes})
}

fn figures(report: &Report, entry: &Entry, metric: Metric) -> Value {
    let samples = entry.figures.samples(metric).iter().map(|sample| sample.map(rounded));
    json!({
        "spread": entry.figures.spread(metric).map(spread),
        "ratio_to": report.yardstick(metric).map(|yardstick| yardstick.contestant.name()),
        "ratio": report.ratio(entry, metric).map(spread),
        "samples": samples.collect::<Vec<_>>(),
    })
}

fn spread(spread: Spread) -> Value {
    let [low, median, high] = [spread.low, spread.median, spread.high].map(rounded);
    json!({"quarter": low, "median": median, "three_quarters": high})
}

/// Four digits behind the point are more than any of this is good for.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
