//! Two sets of records held against each other: before a change, and after it.
//!
//! Nothing of the two was measured in the same second, so blocks do not belong together in pairs,
//! and whatever changed in the machine between the two is in the ratio as well. Where both sets
//! name different machines, a warning says so.

use super::markdown::columns_below;
use super::number;
use super::origin::{profile_name, unique};
use crate::lab::method::analysis::{is_same, place_of, values_by_restart};
use crate::lab::method::record::{Better, Kind, Metric, Record};
use crate::lab::method::stats::{self, Bootstrap, Interval};
use serde::Serialize;
use std::fmt;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changes {
    /// What makes the two sets hard to compare.
    pub warnings: Vec<String>,
    /// All that both have: cell by cell, variant by variant, metric by metric.
    pub changes: Vec<Change>,
    /// What only the first set has.
    pub only_before: Vec<String>,
    /// What only the second set has.
    pub only_after: Vec<String>,
    /// What both have, with too few blocks for an interval in one of them. Only a time needs one.
    pub too_few: Vec<String>,
}

/// One metric of one variant in one cell, before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The experiment's name.
    pub experiment: String,
    /// The cell's name.
    pub cell: String,
    /// The variant's name.
    pub variant: String,
    /// The metric's name.
    pub metric: String,
    /// The unit of `before` and `after`.
    pub unit: String,
    /// The median before.
    pub before: f64,
    /// The median after.
    pub after: f64,
    /// The second as a part of the first.
    pub ratio: Interval,
    /// What that means.
    pub effect: Effect,
}

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It became worse by more than the threshold.
    Worse,
    /// It became better by more than the threshold.
    Better,
    /// It has changed by more than the threshold, and neither way is better.
    Different,
    /// No practical difference.
    Same,
    /// The interval is too wide to say.
    Undecided,
}

impl Changes {
    /// Compares the records. Of several records of one cell the last counts.
    pub fn new(before: &[Record], after: &[Record]) -> Changes {
        let mut changes = Changes {
            warnings: warnings(before, after),
            changes: Vec::new(),
            only_before: missing(before, after),
            only_after: missing(after, before),
            too_few: Vec::new(),
        };
        for (place, new) in after.iter().enumerate() {
            if find(&after[place + 1..], new).is_none()
                && let Some(old) = find(before, new)
            {
                changes.add(old, new);
            }
        }
        changes
    }

    /// Why nothing was compared, if nothing was. That nothing became worse means nothing then.
    pub fn why_nothing(&self) -> Option<&'static str> {
        match (self.changes.is_empty(), self.too_few.is_empty()) {
            (false, _) => None,
            (true, true) => Some("the two sets have no cell, variant and metric in common"),
            (true, false) => {
                Some("there are too few blocks of all that the two sets have in common")
            }
        }
    }

    /// Whether anything became worse.
    pub fn has_regressed(&self) -> bool {
        self.of(Effect::Worse).next().is_some()
    }

    /// The same for scripts. The names are those of the fields.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!(self);
        json["regressed"] = self.has_regressed().into();
        json["why_nothing"] = self.why_nothing().into();
        json
    }

    fn of(&self, effect: Effect) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.effect == effect)
    }

    fn add(&mut self, old: &Record, new: &Record) {
        for (variant, known) in new.variants.iter().enumerate() {
            let Some(old_variant) = place_of(old, &known.name) else { continue };
            for (metric, known_metric) in new.metrics.iter().enumerate() {
                let Some(old_metric) = old.metric(&known_metric.name) else { continue };
                let before = values_by_restart(old, old_variant, old_metric);
                let after = values_by_restart(new, variant, metric);
                match Change::new(new, &known.name, known_metric, &before, &after) {
                    Some(change) => self.changes.push(change),
                    // What neither measured is not missed.
                    None if before.is_empty() && after.is_empty() => {}
                    None => self.too_few.push(name(new, &known.name, &known_metric.name)),
                }
            }
        }
    }
}

impl Change {
    fn new(
        record: &Record,
        variant: &str,
        metric: &Metric,
        before: &[Vec<f64>],
        after: &[Vec<f64>],
    ) -> Option<Change> {
        let method = &record.method;
        let (old, new) = (stats::median(&before.concat())?, stats::median(&after.concat())?);
        let ratio = match metric.kind {
            Kind::Count if old == new => Interval::exact(1.0),
            Kind::Count => Interval::exact(new / old),
            Kind::Time if before.iter().chain(after).flatten().all(|value| *value > 0.0) => {
                let bootstrap = Bootstrap::new(method.confidence, method.seed);
                bootstrap.ratio_unpaired(after, before)?
            }
            Kind::Time => return None,
        };
        Some(Change {
            experiment: record.experiment.clone(),
            cell: record.cell.clone(),
            variant: variant.into(),
            metric: metric.name.clone(),
            unit: metric.unit.clone(),
            before: old,
            after: new,
            ratio,
            effect: effect(&ratio, metric.better, method.threshold),
        })
    }
}

fn effect(ratio: &Interval, better: Better, threshold: f64) -> Effect {
    let less = ratio.high < 1.0 && ratio.mid < 1.0 - threshold;
    let more = ratio.low > 1.0 && ratio.mid > 1.0 / (1.0 - threshold);
    match better {
        _ if !less && !more && is_same(ratio, threshold) => Effect::Same,
        _ if !less && !more => Effect::Undecided,
        Better::Neither => Effect::Different,
        Better::Less if less => Effect::Better,
        Better::More if more => Effect::Better,
        Better::Less | Better::More => Effect::Worse,
    }
}

/// The last record of the same cell.
fn find<'a>(records: &'a [Record], like: &Record) -> Option<&'a Record> {
    let is_same = |one: &&Record| one.experiment == like.experiment && one.cell == like.cell;
    records.iter().rev().find(is_same)
}

/// The cells, variants and metrics that are in these records and not in the others.
fn missing(these: &[Record], others: &[Record]) -> Vec<String> {
    let missing = these.iter().flat_map(|record| match find(others, record) {
        None => vec![format!("{}, {}", record.experiment, record.cell)],
        Some(other) => {
            let variants = record.variants.iter().map(|one| &one.name);
            let variants = variants.filter(|name| place_of(other, name).is_none());
            let metrics = record.metrics.iter().map(|one| &one.name);
            let metrics = metrics.filter(|name| other.metric(name).is_none());
            let absent = variants.chain(metrics);
            absent.map(|name| format!("{}, {}: {name}", record.experiment, record.cell)).collect()
        }
    });
    unique(missing)
}

fn name(record: &Record, variant: &str, metric: &str) -> String {
    format!("{}, {}: {variant}, {metric}", record.experiment, record.cell)
}

fn warnings(before: &[Record], after: &[Record]) -> Vec<String> {
    type Asked = (&'static str, fn(&Record) -> String);
    let asked: [Asked; 5] = [
        ("kernel", |one| one.environment.kernel.clone()),
        ("processor", |one| one.environment.cpu.clone()),
        ("number of processors", |one| one.environment.processors.to_string()),
        ("network", network),
        ("profile", |one| profile_name(one.method.profile).into()),
    ];
    let differing = asked.iter().filter_map(|(name, of)| {
        let [old, new] = [before, after].map(|set| unique(set.iter().map(of)).join(" | "));
        (old != new).then(|| format!("the {name} differs: {old} before, {new} after"))
    });
    differing.collect()
}

fn network(record: &Record) -> String {
    let network = &record.environment.network;
    let kind = if network.private { "private" } else { "shared" };
    format!("{kind}, MTU {}, {}", network.mtu_bytes, network.congestion)
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Before and after\n")?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "**Warning: {warning}.**\n"))?;
        let sections = [
            (Effect::Worse, "Worse"),
            (Effect::Better, "Better"),
            (Effect::Different, "Different, neither worse nor better"),
            (Effect::Undecided, "Cannot be told"),
        ];
        for (effect, heading) in sections {
            let changes: Vec<&Change> = self.of(effect).collect();
            if !changes.is_empty() {
                writeln!(f, "## {heading}: {}\n\n{}\n", changes.len(), table(&changes))?;
            }
        }
        writeln!(f, "No practical difference: {}.", self.of(Effect::Same).count())?;
        let lists = [
            ("Only before", &self.only_before),
            ("Only after", &self.only_after),
            ("Too few blocks", &self.too_few),
        ];
        for (heading, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
            writeln!(f, "\n## {heading}\n")?;
            names.iter().try_for_each(|name| writeln!(f, "- {name}"))?;
        }
        Ok(())
    }
}

fn table(changes: &[&Change]) -> String {
    let row = |change: &&Change| {
        let Change { experiment, cell, variant, metric, .. } = change;
        vec![
            format!("{experiment}, {cell}: {variant}, {metric}"),
            number::with_unit(change.before, &change.unit),
            number::with_unit(change.after, &change.unit),
            number::interval(&change.ratio, ""),
        ]
    };
    let columns = ["what", "before", "after", "ratio"].map(String::from);
    columns_below(&columns, &changes.iter().map(row).collect::<Vec<Vec<String>>>(), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::sample::Sample;

    fn sample(cell: &str, cost: f64) -> Sample {
        Sample::new("toy", cell)
            .usual_metrics()
            .variant("plain", &[1000.0, 4.0])
            .variant("other", &[1000.0 * cost, 4.0 * cost])
            .noise(0.01)
    }

    fn effects(changes: &Changes) -> Vec<Effect> {
        changes.changes.iter().map(|change| change.effect).collect()
    }

    #[test]
    fn what_became_slower_is_a_regression() {
        let before = [sample("small", 1.0).build()];
        let check = |cost, expected: Effect| {
            let changes = Changes::new(&before, &[sample("small", cost).build()]);
            assert_eq!(effects(&changes), [Effect::Same, Effect::Same, expected, expected]);
            assert_eq!(changes.has_regressed(), expected == Effect::Worse);
        };
        check(1.2, Effect::Worse);
        check(1.0, Effect::Same);
        check(0.8, Effect::Better);
    }

    #[test]
    fn noise_is_not_a_regression() {
        let build = |seed| sample("small", 1.0).noise(0.05).seed(seed).build();
        let regressed =
            |seed: &u64| Changes::new(&[build(2 * seed)], &[build(2 * seed + 1)]).has_regressed();
        // In each there are two times that can seem to become worse.
        let regressed = (0..20).filter(regressed).count();
        assert!(regressed <= 3, "{regressed} of 20");
    }

    #[test]
    fn more_may_be_better() {
        let check = |ratio, better, expected| {
            assert_eq!(effect(&Interval::exact(ratio), better, 0.03), expected);
        };
        check(1.2, Better::More, Effect::Better);
        check(0.8, Better::More, Effect::Worse);
        check(1.2, Better::Neither, Effect::Different);
        check(1.01, Better::Neither, Effect::Same);
        check(f64::INFINITY, Better::Less, Effect::Worse);
        let wide = Interval { low: 0.9, mid: 1.2, high: 1.4 };
        assert_eq!(effect(&wide, Better::Less, 0.03), Effect::Undecided);
    }

    #[test]
    fn nothing_is_dropped_silently() {
        let mut after = sample("small", 1.5).with(|record| {
            record.environment.kernel = "7.0".into();
            record.variants[0].name = "renamed".into();
        });
        after = after.rounds(1, 4);
        let after = [after.build(), sample("new", 1.0).build()];
        let before = [sample("small", 1.0).build(), sample("old", 1.0).build()];
        let changes = Changes::new(&before, &after);
        assert_eq!(changes.only_before, ["toy, small: plain", "toy, old"]);
        assert_eq!(changes.only_after, ["toy, small: renamed", "toy, new"]);
        assert_eq!(changes.too_few, ["toy, small: other, cpu_ns"]);
        assert_eq!(changes.warnings.len(), 1);
        assert_eq!(changes.to_json()["regressed"], true);
        assert_eq!(changes.to_json()["changes"][0]["effect"], "worse");
        insta::assert_snapshot!(changes.to_string());
        assert_eq!(changes.why_nothing(), None);
    }

    /// "Nothing is worse" must not be said of nothing.
    #[test]
    fn sets_with_nothing_to_compare_are_told() {
        let one = || vec![sample("small", 1.0).build()];
        let other = || vec![sample("large", 1.0).build()];
        let metric = |record: &mut Record| record.metrics.truncate(1);
        let few = || vec![sample("small", 1.0).with(metric).rounds(1, 4).build()];
        let check = |before: &[Record], after: &[Record], expected: &str| {
            let changes = Changes::new(before, after);
            assert!(changes.why_nothing().is_some_and(|why| why.contains(expected)), "{changes}");
            assert_eq!(changes.to_json()["why_nothing"], changes.why_nothing().unwrap());
        };
        check(&[], &[], "in common");
        check(&one(), &[], "in common");
        check(&[], &one(), "in common");
        check(&one(), &other(), "in common");
        check(&few(), &one(), "too few blocks");
        assert_eq!(Changes::new(&one(), &one()).why_nothing(), None);
    }

    /// A count is exact whatever disturbs its block, and so is what it has become.
    #[test]
    fn counts_of_disturbed_blocks_are_compared() {
        let disturbed = |cost| {
            let mut record = sample("small", cost).build();
            for block in &mut record.blocks {
                block.discarded = Some("the hypervisor took 50.0 % of its time".into());
            }
            record
        };
        let changes = Changes::new(&[disturbed(1.0)], &[disturbed(2.0)]);
        let calls: Vec<&Change> =
            changes.changes.iter().filter(|change| change.metric == "calls").collect();
        assert_eq!(calls.len(), changes.changes.len(), "the times are discarded");
        assert_eq!(effects(&changes), [Effect::Same, Effect::Worse]);
        assert!(changes.has_regressed());
    }
}
