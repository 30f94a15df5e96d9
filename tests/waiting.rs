//! Tests wait for conditions, not for time: each moment that one does let pass says what for, and a
//! deadline is [`support::PATIENCE`](../support/mod.rs), which only a failing test reaches.
//! `docs/TESTING.md` has the rules, and `scripts/busy.sh` shows that they are kept.

#![allow(clippy::unwrap_used)] // a test may panic

use std::fs;
use std::path::{Path, PathBuf};

/// What may be said, on the line or on the one before it.
const REASONS: [&str; 3] = [
    // Of a loop that waits for a condition, or of one that sees whether something holds.
    "// between two looks",
    // Of something that goes on beside what is tested: how fast does not matter.
    "// the pace",
    // Nothing but time can bring about what is tested; too much of it does no harm.
    "// the subject is time",
];

/// What lets time pass, or gives up when it has.
const SUSPECTS: [&str; 6] = [
    "thread::sleep(",
    "recv_timeout(Duration::",
    "read_timeout(Some(Duration::",
    "write_timeout(Some(Duration::",
    "elapsed() < ",
    "elapsed() <= ",
];

/// The lines that do so and do not say why.
fn unexplained(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let suspicious = |line: &str| SUSPECTS.iter().any(|suspect| line.contains(suspect));
    let explained = |at: usize| {
        let said = [lines[at], lines[at.saturating_sub(1)]];
        REASONS.iter().any(|reason| said.iter().any(|line| line.contains(reason)))
    };
    let found = (0..lines.len()).filter(|&at| suspicious(lines[at]) && !explained(at));
    found.map(|at| at + 1).collect()
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_test_waits_for_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests", "src"] {
        files_below(&root.join(folder), &mut files);
    }
    files.retain(|path| !path.ends_with("tests/waiting.rs"));
    assert!(files.len() > 100, "{}", files.len());
    let mut found = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        // Of a source file its tests, which stand at its end.
        let is_source = path.starts_with(root.join("src"));
        let begin = if is_source { text.find("\nmod tests {") } else { Some(0) };
        let Some(begin) = begin else { continue };
        let before = text[..begin].lines().count();
        let lines = unexplained(&text[begin..]).into_iter();
        found.extend(lines.map(|line| format!("{}:{}", path.display(), before + line)));
    }
    let rule = "wait for a condition, or say behind it why not (docs/TESTING.md, Time)";
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn what_is_not_explained_is_found() {
    let text = "a();\nstd::thread::sleep(MOMENT);\nstd::thread::sleep(MOMENT); // the pace\n\
                // between two looks\nqueue.recv_timeout(Duration::from_secs(1));\n\n\
                assert!(begun.elapsed() < MOMENT);\nqueue.recv_timeout(PATIENCE);\n";
    assert_eq!(unexplained(text), [2, 7]);
}
