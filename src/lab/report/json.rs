//! A report for scripts. Who wants every sample takes the records.

use super::findings::{Chapter, Findings};
use crate::lab::method::rig_check::RigCheck;
use serde_json::{Value, json};

/// The report. Its tables are those that people read, figures with units.
pub(super) fn value(findings: &Findings<'_>) -> Value {
    json!({
        "warning": findings.warning(),
        "records": findings.records.len(),
        "rig": findings.rig.as_ref().map(rig),
        "experiments": findings.chapters.iter().map(chapter).collect::<Vec<_>>(),
    })
}

fn rig(rig: &RigCheck) -> Value {
    json!({
        "comparisons": rig.comparisons,
        "false_positives": rig.false_positives,
        "planted": rig.planted.len(),
        "planted_found": rig.found(),
        "half_width": rig.half_width,
        "not_made": rig.not_made,
        "passed": rig.has_passed(),
    })
}

fn chapter(chapter: &Chapter<'_>) -> Value {
    let judgement = |one: &crate::lab::experiments::Judgement| {
        json!({
            "claim": one.claim,
            "statement": one.statement,
            "verdict": one.verdict.name(),
            "because": one.because,
        })
    };
    let tables = chapter
        .tables
        .iter()
        .map(|table| json!({ "title": table.title, "columns": table.columns, "rows": table.rows }));
    let doubts =
        chapter.doubts.iter().map(|(doubt, cells)| json!({ "doubt": doubt, "cells": cells }));
    json!({
        "name": chapter.experiment.name(),
        "title": chapter.experiment.title(),
        "blocks": chapter.blocks,
        "judgements": chapter.judgements.iter().map(judgement).collect::<Vec<_>>(),
        "tables": tables.collect::<Vec<_>>(),
        "doubts": doubts.collect::<Vec<_>>(),
    })
}
