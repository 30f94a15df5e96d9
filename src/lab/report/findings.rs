//! Everything that a report says, before it has a form.

use super::figure::{Figure, Table};
use super::number;
use crate::lab::experiments::{Experiment, Judgement};
use crate::lab::method::analysis::Study;
use crate::lab::method::record::{Doubt, Profile, Record};
use crate::lab::method::rig_check::{self, Planted, RigCheck};

/// What a report says.
pub(super) struct Findings<'a> {
    /// All records, for what they have in common.
    pub records: &'a [Record],
    /// What the rig finds where there is nothing to find.
    pub rig: Option<RigCheck>,
    /// What else is to be said of that, if the experiment was given.
    pub rig_chapter: Option<Chapter<'a>>,
    /// The other experiments of which there are records.
    pub chapters: Vec<Chapter<'a>>,
    /// Names of experiments that are in the records and not known here, with the number of records.
    pub unknown: Vec<(&'a str, usize)>,
}

/// What a report says of one experiment.
pub(super) struct Chapter<'a> {
    pub experiment: &'a dyn Experiment,
    pub judgements: Vec<Judgement>,
    pub tables: Vec<Table>,
    pub figures: Vec<Figure>,
    /// Each with the cells that it is about.
    pub doubts: Vec<(Doubt, Vec<String>)>,
    /// What the lab counted and what its auditors did; nothing without audits.
    pub audits: Option<Table>,
    /// How many blocks there are, and how many were discarded.
    pub blocks: String,
}

impl<'a> Findings<'a> {
    pub fn new(experiments: &[&'a dyn Experiment], records: &'a [Record]) -> Findings<'a> {
        let study = |name: &str| {
            let of = records.iter().filter(|record| record.experiment == name);
            Study::new(of.cloned().collect())
        };
        let studies = experiments.iter().map(|experiment| (*experiment, study(experiment.name())));
        let chapters = studies
            .filter(|(_, study)| !study.records.is_empty())
            .map(|(experiment, study)| Chapter::new(experiment, &study));
        let is_rig = |chapter: &Chapter<'_>| chapter.experiment.name() == rig_check::EXPERIMENT;
        let (mut rig_chapters, chapters): (Vec<_>, Vec<_>) = chapters.partition(is_rig);
        let is_known = |name: &str| experiments.iter().any(|experiment| experiment.name() == name);
        let names = records.iter().map(|record| record.experiment.as_str());
        Findings {
            records,
            rig: RigCheck::new(&study(rig_check::EXPERIMENT)),
            rig_chapter: rig_chapters.pop(),
            chapters,
            unknown: counted(names.filter(|name| !is_known(name))),
        }
    }

    /// What is to be said before anything else, if these figures are not to be quoted.
    pub fn warning(&self) -> Option<&'static str> {
        let profiles = || self.records.iter().map(|record| record.method.profile);
        if profiles().any(|profile| profile == Profile::Smallest) {
            Some("The smallest run: it shows that the lab still works. Its figures mean nothing.")
        } else if profiles().any(|profile| profile == Profile::Quick) {
            Some("A quick run: enough for the large differences. Its figures are not to be quoted.")
        } else if self.records.is_empty() {
            Some("There are no records.")
        } else {
            None
        }
    }

    /// All judgements of the list of claims, and those beside it, with the experiment.
    pub fn judgements(&self) -> impl Iterator<Item = (&dyn Experiment, &Judgement)> {
        let chapters = self.chapters.iter();
        chapters.flat_map(|one| one.judgements.iter().map(|judgement| (one.experiment, judgement)))
    }

    /// Names of experiments that are not known, in a sentence.
    pub fn unknown(&self) -> Option<String> {
        let names = self.unknown.iter().map(|(name, count)| format!("`{name}` ({count} records)"));
        let names: Vec<String> = names.collect();
        (!names.is_empty()).then(|| {
            format!(
                "Not shown, as this version does not know the experiment: {}.",
                names.join(", ")
            )
        })
    }
}

impl<'a> Chapter<'a> {
    fn new(experiment: &'a dyn Experiment, study: &Study) -> Chapter<'a> {
        Chapter {
            experiment,
            judgements: experiment.judge(study),
            tables: experiment.tables(study),
            figures: experiment.figures(study),
            doubts: doubts(study),
            audits: audits(study),
            blocks: blocks(study),
        }
    }
}

/// What the rig check says, a sentence each.
pub(super) fn rig_sentences(rig: &RigCheck) -> Vec<String> {
    let expected = (1.0 - rig.confidence) * rig.comparisons as f64;
    let mut sentences = vec![
        format!(
            "Comparisons of a thing with itself that found a difference: {} of {}.",
            rig.false_positives, rig.comparisons
        ),
        format!(
            "Intervals of these that do not hold 1: {} of {}; at {} confidence, {expected:.1} are \
             to be expected by chance.",
            rig.missed,
            rig.comparisons,
            number::percent(rig.confidence),
        ),
    ];
    if let Some(half_width) = rig.half_width {
        sentences.push(format!(
            "Half-width of these intervals, the median: {:.1} %. Smaller differences cannot be told.",
            half_width * 100.0
        ));
    }
    let (all, found) = (rig.planted.len(), rig.found());
    sentences.push(format!("Planted differences that were found: {found} of {all}."));
    sentences.extend(rig.not_made.iter().map(|which| format!("A check was not made. {which}")));
    sentences
}

/// The planted differences.
pub(super) fn planted_table(rig: &RigCheck) -> Option<Table> {
    let columns = ["where", "planted", "measured", "found"];
    let row = |one: &Planted| {
        let found = if one.is_found() { "yes" } else { "no" };
        let planted = format!("× {}", number::with_unit(one.factor, ""));
        let place = format!("{}, {}", one.cell, one.metric);
        vec![place, planted, number::interval(&one.ratio, ""), found.into()]
    };
    (!rig.planted.is_empty()).then(|| Table {
        title: "Planted differences".into(),
        columns: columns.map(String::from).to_vec(),
        rows: rig.planted.iter().map(row).collect(),
        note: "A variant that is known to cost more, measured like any other.".into(),
    })
}

fn blocks(study: &Study) -> String {
    match study.blocks() {
        (all, 0) => format!("{all} blocks, none discarded."),
        (all, discarded) => {
            let part = number::percent(discarded as f64 / all as f64);
            format!("{all} blocks, {discarded} of them ({part}) discarded.")
        }
    }
}

/// The doubts of all records, those of the same text together.
fn doubts(study: &Study) -> Vec<(Doubt, Vec<String>)> {
    let mut doubts: Vec<(Doubt, Vec<String>)> = Vec::new();
    for (place, record) in study.records.iter().enumerate() {
        for doubt in study.doubts(place) {
            match doubts.iter_mut().find(|(known, _)| *known == doubt) {
                Some((_, cells)) => cells.push(record.cell.clone()),
                None => doubts.push((doubt, vec![record.cell.clone()])),
            }
        }
    }
    doubts
}

fn audits(study: &Study) -> Option<Table> {
    let rows = study.records.iter().flat_map(|record| {
        record.audits.iter().map(|audit| {
            let variant = record.variants.get(audit.variant).map_or("?", |one| one.name.as_str());
            let difference = i128::from(audit.ours) - i128::from(audit.theirs);
            vec![
                format!("{}, {variant}: {}", record.cell, audit.what),
                audit.ours.to_string(),
                audit.theirs.to_string(),
                if difference == 0 { "0".into() } else { format!("{difference:+}") },
                audit.by.clone(),
            ]
        })
    });
    let rows: Vec<Vec<String>> = rows.collect();
    (!rows.is_empty()).then(|| Table {
        title: "Our counters beside an auditor's".into(),
        columns: ["count", "ours", "theirs", "difference", "auditor"].map(String::from).to_vec(),
        rows,
        note: "From runs of their own, which were not timed.".into(),
    })
}

fn counted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, usize)> {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match counted.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counted.push((name, 1)),
        }
    }
    counted
}
