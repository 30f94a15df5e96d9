//! `docs/DEVIATIONS.md` says what is made of each deviation. The page and the tables must say the
//! same, and neither may know one that the other does not.

use crate::table::Row;
use std::collections::{BTreeMap, BTreeSet};

/// A row of the page: the answer's status, and whether the connection ends.
#[derive(Debug, PartialEq, Eq)]
struct Promise {
    status: u16,
    closes: Option<bool>,
}

fn promises() -> BTreeMap<String, Promise> {
    let page = include_str!("../../docs/DEVIATIONS.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, _, status, connection, _] = cells[..] else { panic!("five cells: {line}") };
        let closes = match connection {
            "ends" => Some(true),
            "goes on" => Some(false),
            "either" => None,
            other => panic!("{other:?} in {line}"),
        };
        let promise = Promise { status: status.parse().expect("a status"), closes };
        (name.trim_matches('`').to_string(), promise)
    })
    .collect()
}

fn tables() -> Vec<Row> {
    let tables = [
        crate::heads::table(),
        crate::lengths::table(),
        crate::chunks::table(),
        crate::methods::table(),
        crate::sizes::table(),
        crate::publishing::table(),
    ];
    tables.into_iter().flatten().collect()
}

#[test]
fn the_page_and_the_tables_agree() {
    let (promises, rows) = (promises(), tables());
    assert!(promises.len() > 40, "the page is read");
    for row in &rows {
        let Some(promise) = promises.get(row.deviation) else {
            panic!("{} (case {}) is not on the page", row.deviation, row.case);
        };
        let sent = row.sent[..row.sent.len().min(200)].escape_ascii();
        assert_eq!(row.status, promise.status, "{}: {sent}", row.deviation);
        assert!(
            promise.closes.is_none_or(|closes| closes == row.closes),
            "{}: {sent}",
            row.deviation
        );
    }
    let tested: BTreeSet<&str> = rows.iter().map(|row| row.deviation).collect();
    let promised: BTreeSet<&str> = promises.keys().map(String::as_str).collect();
    assert_eq!(promised, tested, "what the page promises is tested");
}
