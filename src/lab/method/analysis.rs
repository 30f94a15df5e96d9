//! What records say.

use super::record::Record;
use super::stats::Interval;

/// The records of one experiment, analysed.
#[derive(Debug)]
pub struct Study {
    /// The records, in the order in which they were made.
    pub records: Vec<Record>,
    /// Every variant of every cell held against the cell's baseline, in every metric.
    pub comparisons: Vec<Comparison>,
}

/// One variant held against the baseline of its cell, in one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The record, by its place in [`Study::records`].
    pub record: usize,
    /// The variant, by its place in the record.
    pub variant: usize,
    /// The metric, by its place in the record.
    pub metric: usize,
    /// The variant's value as a part of the baseline's.
    pub ratio: Interval,
    /// Rounds in which both have a block that counts.
    pub pairs: usize,
    /// The probability of so large a difference if there were none, corrected for the number of
    /// comparisons (Holm).
    pub p: f64,
    /// What follows.
    pub finding: Finding,
}

/// What follows from a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Less than the baseline, by more than the threshold.
    Less,
    /// More than the baseline, by more than the threshold.
    More,
    /// No practical difference: the interval lies within the threshold.
    Same,
    /// The interval is too wide to say.
    Undecided,
}

impl Study {
    /// Analyses the records of one experiment.
    pub fn new(records: Vec<Record>) -> Study {
        Study { records, comparisons: Vec::new() }
    }
}
