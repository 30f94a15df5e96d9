//! What a campaign prints: Markdown, so that it can be put into a page as it is.

use std::fmt::Write as _;
use std::time::Duration;

/// One kind of fault, and what came of it.
#[derive(Debug)]
pub struct Row {
    pub fault: String,
    /// How often it was brought about.
    pub times: usize,
    /// What was seen, or what was wrong.
    pub result: Result<String, String>,
}

impl Row {
    pub fn new(fault: impl Into<String>, times: usize, result: Result<String, String>) -> Row {
        Row { fault: fault.into(), times, result }
    }
}

/// The table of a case.
pub fn of_case(name: &str, rows: &[Row], took: Duration) -> String {
    let mut text = format!("\n**{name}**, {:.0} s\n\n", took.as_secs_f64());
    text += "| fault | times | as it should be | what happened |\n|---|---:|---|---|\n";
    for row in rows {
        let (verdict, seen) = match &row.result {
            Ok(seen) => ("yes", seen),
            Err(why) => ("**NO**", why),
        };
        let seen = seen.replace('\n', " ").replace('|', "\\|");
        let written = writeln!(text, "| {} | {} | {verdict} | {seen} |", row.fault, row.times);
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    text
}

/// The last line.
pub fn summary(rows: &[Row]) -> String {
    let wrong = rows.iter().filter(|row| row.result.is_err()).count();
    let times: usize = rows.iter().map(|row| row.times).sum();
    format!("\nfaults: {times} of {} kinds, {wrong} kinds not as they should be\n", rows.len())
}
