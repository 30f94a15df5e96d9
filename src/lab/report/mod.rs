//! What people read: made from records alone.
//!
//! Invariant: a report is a pure function of the records. It reads no clock, no file and no
//! environment, so whoever has the records can make it again, byte for byte.

pub mod axis;
pub mod chart;
pub mod compare;
pub mod figure;
mod findings;
mod heat;
mod html;
mod json;
mod markdown;
pub mod number;
mod origin;
pub mod standard;

use crate::lab::experiments::Experiment;
use crate::lab::method::record::Record;
use findings::Findings;

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// A page that needs nothing beside it.
    pub html: String,
    /// A summary for the terminal.
    pub markdown: String,
    /// The summary for scripts.
    pub json: serde_json::Value,
}

/// Makes a report of all records. The experiments come in the order in which they are given.
pub fn render(experiments: &[&dyn Experiment], records: &[Record]) -> Report {
    let findings = Findings::new(experiments, records);
    Report {
        html: html::page(&findings),
        markdown: markdown::text(&findings),
        json: json::value(&findings),
    }
}

/// Text as it is written into HTML and SVG.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
