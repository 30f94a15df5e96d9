//! Records in a file: one line of JSON each, in the order in which they were made.
//!
//! A run may end at any moment. A record is written as a whole line and is on the disk before the
//! next cell begins, so what is lost is the cell that was being measured, and at most the last line
//! of the file is not whole.

use super::record::{FORMAT, Profile, Record};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name of the file within a directory of results.
pub const FILE_NAME: &str = "records.jsonl";

/// What was read from a file.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The records, in the order of their lines.
    pub records: Vec<Record>,
    /// What was left out, if anything was.
    pub warning: Option<String>,
}

/// Reads the records of a directory, or of a file.
///
/// # Errors
/// If it cannot be read, or if a line is not a record of this format; the text says which. A last
/// line that was cut short is no error: it is left out, and the warning says so.
pub fn read(path: &Path) -> Result<Contents, String> {
    let path = file(path);
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}, {error}", path.display()))
}

/// Adds a record to the file of a directory, and returns when it is on the disk. A last line that
/// was cut short is removed: it cannot be read, and what follows it must be.
///
/// # Errors
/// As writing.
pub fn append(path: &Path, record: &Record) -> io::Result<()> {
    let path = file(path);
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    mend(&path, &mut file)?;
    file.write_all(&line)?;
    file.sync_all()
}

/// Whether this cell was measured already: as large, and of the same source.
pub fn is_done(
    records: &[Record],
    experiment: &str,
    cell: &str,
    profile: Profile,
    commit: Option<&str>,
) -> bool {
    records.iter().any(|record| {
        record.experiment == experiment
            && record.cell == cell
            && record.method.profile == profile
            && record.environment.commit.as_deref() == commit
    })
}

fn file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE_NAME) } else { path.to_path_buf() }
}

fn parse(text: &[u8]) -> Result<Contents, String> {
    let mut contents = Contents { records: Vec::new(), warning: None };
    for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match record(line) {
            Ok(record) => contents.records.push(record),
            // Only the last line can be without its end.
            Err(_) if !line.ends_with(b"\n") && !is_whole(line) => {
                let cut = "was cut short by an interruption and is left out";
                contents.warning = Some(format!("line {number} {cut}"));
            }
            Err(error) => return Err(format!("line {number}: {error}")),
        }
    }
    Ok(contents)
}

fn record(line: &[u8]) -> Result<Record, String> {
    /// What a record of every version has.
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let version: Versioned = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if version.format != FORMAT {
        let format = version.format;
        return Err(format!("format {format} is unknown here; this version reads {FORMAT}"));
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

fn is_whole(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Sees to it that the file ends with a whole line.
fn mend(path: &Path, file: &mut File) -> io::Result<()> {
    let text = fs::read(path)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    match &text[whole..] {
        [] => Ok(()),
        last if is_whole(last) => file.write_all(b"\n"),
        _ => file.set_len(whole as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::sample::Sample;

    fn sample(cell: &str) -> Record {
        Sample::new("toy", cell).usual_metrics().variant("a", &[1000.0, 1.0]).rounds(1, 1).build()
    }

    fn line(cell: &str) -> String {
        serde_json::to_string(&sample(cell)).unwrap()
    }

    #[test]
    fn records_are_read_line_by_line() {
        let check = |text: String, cells: &[&str], warns: bool| {
            let contents = parse(text.as_bytes()).unwrap();
            let read: Vec<&str> = contents.records.iter().map(|one| one.cell.as_str()).collect();
            assert_eq!((read.as_slice(), contents.warning.is_some()), (cells, warns));
        };
        let (one, two) = (line("one"), line("two"));
        check(String::new(), &[], false);
        check(format!("{one}\n{two}\n"), &["one", "two"], false);
        check(format!("{one}\n{two}"), &["one", "two"], false);
        check(format!("{one}\n\n{}", &two[..two.len() - 1]), &["one"], true);
        check(format!("{one}\n{}", &two[..1]), &["one"], true);
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let check = |text: String, expected: &str| {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        let one = line("one");
        check(format!("{one}\nnonsense\n{one}\n"), "line 2: ");
        check(format!("{}\n{one}\n", &one[..one.len() / 2]), "line 1: ");
        check(format!("{one}\n{{\"format\":2}}"), "line 2: format 2 is unknown here");
        check("{}\n".into(), "missing field `format`");
    }

    #[test]
    fn what_was_interrupted_goes_on() {
        let path = std::env::temp_dir().join(format!("pushv-store-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let written = path.join(FILE_NAME);
        let _ = fs::remove_file(&written);
        assert!(read(&path).unwrap_err().contains(FILE_NAME));
        append(&path, &sample("one")).unwrap();
        append(&path, &sample("two")).unwrap();
        let text = fs::read(&written).unwrap();
        fs::write(&written, &text[..text.len() - 10]).unwrap();
        append(&path, &sample("three")).unwrap();
        let text = fs::read(&written).unwrap();
        fs::write(&written, &text[..text.len() - 1]).unwrap();
        append(&path, &sample("four")).unwrap();
        let contents = read(&written).unwrap();
        let cells: Vec<&str> = contents.records.iter().map(|one| one.cell.as_str()).collect();
        assert_eq!((cells, contents.warning), (vec!["one", "three", "four"], None));
        fs::remove_dir_all(&path).unwrap();

        let done = |cell, profile, commit| is_done(&contents.records, "toy", cell, profile, commit);
        assert!(done("one", Profile::Full, Some("0123456789abcdef")));
        assert!(!done("two", Profile::Full, Some("0123456789abcdef")));
        assert!(!done("one", Profile::Quick, Some("0123456789abcdef")));
        assert!(!done("one", Profile::Full, None));
    }
}
