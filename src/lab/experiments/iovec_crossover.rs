//! Copying pieces into one buffer against handing them over as they lie.

use super::write_cost::without_blanks;
use super::{Experiment, Judgement, Rig, Verdict};
use crate::lab::bare::Reader;
use crate::lab::bare::bench::MEDIAN_NS;
use crate::lab::bare::block::{Kind, Task};
use crate::lab::bare::group::{Bare, Compared, calls};
use crate::lab::method::analysis::Study;
use crate::lab::method::record::{Profile, Record};
use crate::lab::report::figure::{Figure, Table};
use crate::lab::report::standard::{heat_chart, metric_table};
use crate::lab::run::Group;
use crate::send::rule::{CopyRule, STEPS_MAX, Step};
use std::collections::BTreeMap;

/// The experiment.
#[derive(Debug)]
pub struct IovecCrossover;

impl Experiment for IovecCrossover {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        "Copy or gather"
    }

    fn question(&self) -> &'static str {
        "Up to which number and size of pieces is it cheaper to copy them into one buffer and to \
         write that than to hand them over as they lie, by writev(2)? The pieces lie scattered in \
         memory and are in the processor's cache as far as that reaches, as events are that were \
         published just now. The time taken includes walking over the pieces, copying them or \
         noting where they are, and the call. Nobody reads meanwhile. What follows is a rule that \
         the write path auto can go by."
    }

    fn rig(&self) -> Rig {
        Rig::Bare
    }

    fn groups(&self, profile: Profile) -> Vec<Box<dyn Group>> {
        let (pieces, sizes) = grid(profile);
        let cells = sizes.iter().flat_map(|&piece_bytes| {
            let fits = move |pieces: &&usize| **pieces * piece_bytes <= CALL_BYTES_MAX;
            pieces.iter().filter(fits).map(move |&pieces| compared(profile, pieces, piece_bytes))
        });
        // A group for each size: what has been measured is stored group by group.
        let mut groups: BTreeMap<usize, Vec<Compared>> = BTreeMap::new();
        for cell in cells {
            groups.entry(cell.tasks[0].2.piece_bytes).or_default().push(cell);
        }
        let group = |cells| Bare { experiment: NAME, reader: Reader::Nobody, profile, cells };
        groups.into_values().map(|cells| Box::new(group(cells)) as _).collect()
    }

    fn judge(&self, study: &Study) -> Vec<Judgement> {
        let Some(rule) = rule(study) else { return Vec::new() };
        let ratios = ratios(study);
        let (cheapest, dearest) = ratios
            .iter()
            .filter(|((pieces, _), _)| *pieces >= 2)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), (_, ratio)| {
                (low.min(*ratio), high.max(*ratio))
            });
        let both = cheapest < 1.0 && dearest > 1.0;
        vec![Judgement {
            claim: None,
            statement: "Gathering with writev is cheaper than copying, since it copies nothing"
                .into(),
            verdict: match (both, dearest > 1.0) {
                (true, _) => Verdict::Depends,
                (false, true) => Verdict::Confirmed,
                (false, false) => Verdict::Refuted,
            },
            because: format!(
                "Copying takes from {cheapest:.2} to {dearest:.2} times as long as gathering, by the \
                 number and the size of the pieces. The rule that loses least here, as a setting: \
                 write_path = \"auto\", auto_rule = \"{rule}\"."
            ),
        }]
    }

    fn tables(&self, study: &Study) -> Vec<Table> {
        let mut tables: Vec<Table> = metric_table(study, MEDIAN_NS, "Copy or gather")
            .map(without_blanks)
            .into_iter()
            .collect();
        if let Some(rule) = rule(study) {
            tables.push(rule_table(study, &rule));
        }
        tables
    }

    fn figures(&self, study: &Study) -> Vec<Figure> {
        let title = "Copying as a part of gathering";
        heat_chart(study, MEDIAN_NS, COPY, (PIECES, PIECE_BYTES), title).into_iter().collect()
    }

    fn cannot_show(&self) -> &'static [&'static str] {
        &[
            "All pieces are in the cache, as far as it reaches: one call after the other sends the \
             same memory. Pieces that have to come from memory first have to do so either way, \
             once; but a copy then also displaces something else.",
            "Only loopback: a network card that gathers by itself may save the kernel a copy with \
             neither.",
            "Whether the rule is worth anything in a server, where most queues are short: the \
             experiments on a server compare auto with the others.",
        ]
    }
}

/// The rule for the host on which these records were made: for each number of pieces the mean size
/// up to which copying loses least, joined where one size is as good for several numbers.
pub fn rule(study: &Study) -> Option<CopyRule> {
    let mut rows: BTreeMap<u32, Vec<(u32, f64)>> = BTreeMap::new();
    for ((pieces, piece_bytes), ratio) in ratios(study) {
        if pieces >= 2 {
            rows.entry(pieces).or_default().push((piece_bytes, ratio));
        }
    }
    let threshold = study.records.first()?.method.threshold;
    let mut steps: Vec<Step> = Vec::new();
    for (pieces, mut row) in rows {
        row.sort_by_key(|(piece_bytes, _)| *piece_bytes);
        let (best, least) = best_limit(&row);
        let kept = steps.last().map(|step| (step.piece_bytes, loss(&row, step.piece_bytes)));
        // Another step only for a difference that makes one in practice.
        let goes_on = kept.is_some_and(|(_, kept_loss)| kept_loss <= least + threshold);
        if !goes_on && steps.len() < STEPS_MAX {
            steps.push(Step { pieces, piece_bytes: best });
        }
    }
    if steps.is_empty() {
        return None;
    }
    // A first step that copies nothing says nothing.
    if steps[0].piece_bytes == 0 {
        steps.remove(0);
    }
    CopyRule::new(&steps).ok()
}

/// The limit that loses least, and what it loses; of several the largest, with the fewest calls to
/// the kernel's allocator.
fn best_limit(row: &[(u32, f64)]) -> (u32, f64) {
    let limits = std::iter::once(0).chain(row.iter().map(|(piece_bytes, _)| *piece_bytes));
    limits
        .map(|limit| (limit, loss(row, limit)))
        .fold((0, f64::INFINITY), |best, one| if one.1 <= best.1 { one } else { best })
}

/// What is lost in all sizes of a row together by copying up to `limit` bytes and gathering above,
/// as the logarithm of a factor.
fn loss(row: &[(u32, f64)], limit: u32) -> f64 {
    let lost = |(piece_bytes, ratio): &(u32, f64)| {
        let copied = *piece_bytes <= limit;
        (if copied { *ratio } else { 1.0 / ratio }).ln().max(0.0)
    };
    row.iter().map(lost).sum()
}

/// How long copying takes as a part of gathering, by pieces and their bytes.
fn ratios(study: &Study) -> BTreeMap<(u32, u32), f64> {
    let ratio = |(place, record): (usize, &Record)| {
        let number = |factor| Some(record.number(factor)? as u32);
        let paired = study.compare_named(place, COPY, MEDIAN_NS).map(|found| found.ratio.mid);
        let median = |variant| Some(study.summary_named(place, variant, MEDIAN_NS)?.median);
        // Of too few rounds for an interval, the medians still have a ratio.
        let ratio = paired.or_else(|| Some(median(COPY)? / median(GATHER)?))?;
        Some(((number(PIECES)?, number(PIECE_BYTES)?), ratio))
    };
    study.records.iter().enumerate().filter_map(ratio).collect()
}

fn rule_table(study: &Study, rule: &CopyRule) -> Table {
    let ratios = ratios(study);
    let (mut right, mut worst) = (0, 1.0_f64);
    for ((pieces, piece_bytes), ratio) in &ratios {
        let copies = rule.copies(*pieces as usize, u64::from(*pieces) * u64::from(*piece_bytes));
        let against = if copies { *ratio } else { 1.0 / ratio };
        right += u32::from(against <= 1.0);
        worst = worst.max(against);
    }
    let row = |step: &Step| vec![step.pieces.to_string(), step.piece_bytes.to_string()];
    Table {
        title: "The rule for this host".into(),
        columns: vec!["from pieces".into(), "copy up to bytes a piece".into()],
        rows: rule.steps().iter().map(row).collect(),
        note: format!(
            "As a setting: write_path = \"auto\", auto_rule = \"{rule}\". It chooses the faster way \
             in {right} of {} cells, and where it does not it takes {:.0} % longer at worst. It was \
             made of these very figures; to be believed it has to be measured again.",
            ratios.len(),
            100.0 * (worst - 1.0)
        ),
    }
}

fn compared(profile: Profile, pieces: usize, piece_bytes: usize) -> Compared {
    let calls = calls(profile, Reader::Nobody, pieces * piece_bytes);
    let task = |work| Task { work, pieces, piece_bytes, calls };
    Compared {
        factors: vec![
            (PIECES.into(), pieces.to_string()),
            (PIECE_BYTES.into(), piece_bytes.to_string()),
        ],
        tasks: vec![
            (GATHER, "writev(2) of the pieces", task(Kind::Gather)),
            (COPY, "the pieces copied into one buffer, write(2)", task(Kind::Copy)),
        ],
    }
}

/// Numbers of pieces, and their sizes in bytes. From the ninth piece on the kernel allocates the
/// vector; 1024 is the longest there is (`IOV_MAX`).
fn grid(profile: Profile) -> (&'static [usize], &'static [usize]) {
    match profile {
        Profile::Smallest => (&[2, 16], &[64]),
        Profile::Quick => (&[1, 2, 4, 16, 64, 1024], &[64, 1024, 4096, 16_384]),
        Profile::Full => (
            &[1, 2, 4, 8, 15, 16, 17, 32, 64, 128, 256, 512, 1023, 1024],
            &[16, 64, 256, 1024, 4096, 16_384, 65_536],
        ),
    }
}

const NAME: &str = "iovec-crossover";
const PIECES: &str = "pieces";
const PIECE_BYTES: &str = "piece bytes";
const GATHER: &str = "gather";
const COPY: &str = "copy";

/// What a send buffer takes at once on most systems.
const CALL_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::record;
    use crate::lab::method::sample::Sample;

    /// Records in which copying costs `ratio(pieces, bytes)` times what gathering does.
    fn study(ratio: impl Fn(u32, u32) -> f64) -> Study {
        let cell = |pieces: u32, piece_bytes: u32| {
            Sample::new(NAME, &format!("pieces {pieces}, piece bytes {piece_bytes}"))
                .factor(PIECES, pieces)
                .factor(PIECE_BYTES, piece_bytes)
                .metric(MEDIAN_NS, "time of a call, median", "ns", record::Kind::Time)
                .variant("gather", &[10_000.0])
                .variant(COPY, &[10_000.0 * ratio(pieces, piece_bytes)])
                .noise(0.002)
                .build()
        };
        let sizes = [64, 256, 1024, 4096];
        Study::new([1, 2, 8, 64].into_iter().flat_map(|p| sizes.map(|b| cell(p, b))).collect())
    }

    fn check(ratio: impl Fn(u32, u32) -> f64, expected: &str) {
        let study = study(ratio);
        assert_eq!(rule(&study).unwrap().to_string(), expected);
        assert_eq!(IovecCrossover.judge(&study).len(), 1);
        assert_eq!(IovecCrossover.tables(&study).len(), 2);
        assert_eq!(IovecCrossover.figures(&study).len(), 1);
    }

    #[test]
    fn the_rule_follows_the_records() {
        check(|_, _| 0.5, "2:4096");
        check(|_, _| 2.0, "never");
        check(|_, bytes| if bytes <= 256 { 0.8 } else { 1.3 }, "2:256");
        let by_pieces = |pieces, bytes| match (pieces, bytes) {
            (..8, _) => 1.2,
            (8..64, ..=64) | (64.., ..=1024) => 0.7,
            _ => 1.5,
        };
        check(by_pieces, "8:64,64:1024");
    }

    #[test]
    fn what_makes_no_difference_makes_no_step() {
        // At 8 pieces 1024 bytes are a tie that falls to the other side.
        let tie = |pieces, bytes| match bytes {
            ..=256 => 0.8,
            1024 if pieces == 8 => 0.995,
            1024 => 1.01,
            _ => 1.3,
        };
        check(tie, "2:256");
    }

    #[test]
    fn without_records_there_is_no_rule() {
        let study = Study::new(Vec::new());
        assert_eq!(rule(&study), None);
        assert!(
            IovecCrossover.judge(&study).is_empty() && IovecCrossover.tables(&study).is_empty()
        );
    }

    #[test]
    fn every_cell_fits_the_send_buffer() {
        let groups = IovecCrossover.groups(Profile::Full);
        let cells: Vec<String> = groups.iter().flat_map(|group| group.cells()).collect();
        assert_eq!((groups.len(), cells.len()), (7, 82));
        assert!(cells.contains(&"pieces 1024, piece bytes 1024".into()));
        assert!(!cells.contains(&"pieces 1024, piece bytes 4096".into()));
    }
}
