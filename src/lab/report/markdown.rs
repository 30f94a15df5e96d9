//! The report for the terminal: without charts, in columns that stand below each other.

use super::figure::Table;
use super::findings::{Chapter, Findings, planted_table, rig_sentences};
use super::origin::{self, Facts};
use crate::lab::experiments::Judgement;
use crate::lab::method::rig_check::RigCheck;

/// The report.
pub(super) fn text(findings: &Findings<'_>) -> String {
    let mut parts = vec!["# What the write path costs".to_string()];
    parts.push(list(&origin::head(findings.records)));
    parts.extend(findings.warning().map(|warning| format!("**{warning}**")));
    parts.push("## The rig itself (A/A)".into());
    let rig_chapter = findings.rig_chapter.as_ref();
    parts.extend(rig_chapter.map(|chapter| chapter.experiment.question().into()));
    parts.extend(rig(findings.rig.as_ref()));
    parts.extend(rig_chapter.into_iter().flat_map(answer));
    if findings.judgements().next().is_some() {
        parts.push("## Verdicts".into());
        parts.push(verdicts(findings));
    }
    parts.extend(findings.chapters.iter().flat_map(chapter));
    parts.extend(findings.unknown());
    parts.push("## Method".into());
    parts.push(list(&origin::method(findings.records)));
    parts.join("\n\n") + "\n"
}

fn rig(rig: Option<&RigCheck>) -> Vec<String> {
    let Some(rig) = rig else { return vec![format!("**{NO_RIG_CHECK}**")] };
    let passed = if rig.has_passed() { "Passed." } else { "NOT PASSED: trust nothing below." };
    let sentences = rig_sentences(rig).into_iter().map(|sentence| format!("- {sentence}"));
    let mut parts = vec![format!("**{passed}**"), sentences.collect::<Vec<String>>().join("\n")];
    parts.extend(planted_table(rig).as_ref().map(table));
    parts
}

/// What is said without records of the experiment.
pub(super) const NO_RIG_CHECK: &str = "There is no A/A run among these records: how often this \
     rig finds what is not there is unknown.";

fn verdicts(findings: &Findings<'_>) -> String {
    let row = |judgement: &Judgement| {
        let claim = judgement.claim.unwrap_or("–").to_string();
        vec![claim, judgement.verdict.name().into(), judgement.statement.clone()]
    };
    let columns = ["claim", "verdict", "statement"].map(String::from).to_vec();
    let rows: Vec<Vec<String>> = findings.judgements().map(|(_, one)| row(one)).collect();
    columns_below(&columns, &rows, false)
}

fn chapter(chapter: &Chapter<'_>) -> Vec<String> {
    let experiment = chapter.experiment;
    let mut parts = vec![format!("## {} (`{}`)", experiment.title(), experiment.name())];
    parts.push(experiment.question().into());
    parts.extend(answer(chapter));
    parts
}

fn answer(chapter: &Chapter<'_>) -> Vec<String> {
    let mut parts = Vec::new();
    let judgements = chapter.judgements.iter().map(|judgement| {
        let claim = judgement.claim.map(|claim| format!("{claim}, ")).unwrap_or_default();
        let (verdict, because) = (judgement.verdict.name(), &judgement.because);
        format!("- **{claim}{verdict}**: {}\n  {because}", judgement.statement)
    });
    parts.push(judgements.collect::<Vec<String>>().join("\n"));
    let doubts = chapter.doubts.iter().map(|(doubt, cells)| {
        format!("- **doubt, {}**: {} ({})", doubt.name(), doubt.detail(), cells.join("; "))
    });
    parts.push(doubts.collect::<Vec<String>>().join("\n"));
    parts.extend(chapter.tables.iter().chain(&chapter.audits).map(table));
    parts.push(chapter.blocks.clone());
    let limits =
        chapter.experiment.cannot_show().iter().map(|limit| format!("- cannot show: {limit}"));
    parts.push(limits.collect::<Vec<String>>().join("\n"));
    parts.retain(|part| !part.is_empty());
    parts
}

fn list(facts: &Facts) -> String {
    let lines = facts.iter().map(|(name, value)| format!("- {name}: {value}"));
    lines.collect::<Vec<String>>().join("\n")
}

fn table(table: &Table) -> String {
    let note = if table.note.is_empty() { String::new() } else { format!("\n\n{}", table.note) };
    format!("### {}\n\n{}{note}", table.title, columns_below(&table.columns, &table.rows, true))
}

/// A table whose columns are as wide as their widest cell; all but the first to the right if they
/// are figures.
pub(super) fn columns_below(columns: &[String], rows: &[Vec<String>], figures: bool) -> String {
    let cell = |text: &String| text.replace('|', "\\|").replace('\n', " ");
    let cells: Vec<Vec<String>> = std::iter::once(columns)
        .chain(rows.iter().map(Vec::as_slice))
        .map(|row| row.iter().map(cell).collect())
        .collect();
    let width = |column: usize| {
        let of = cells.iter().filter_map(|row| row.get(column));
        of.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let to_right = |column: usize| figures && column > 0;
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if to_right(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        format!("| {} |", cells.collect::<Vec<String>>().join(" | "))
    };
    let rules = widths.iter().enumerate().map(|(column, &width)| match to_right(column) {
        true => format!("{}:", "-".repeat(width - 1)),
        false => "-".repeat(width),
    });
    let rule = format!("| {} |", rules.collect::<Vec<String>>().join(" | "));
    let mut lines: Vec<String> = cells.iter().map(line).collect();
    lines.insert(1, rule);
    lines.join("\n")
}
