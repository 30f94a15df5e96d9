//! The soak: its record was judged good, a leak that is planted in it is seen, and the script runs.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use pushv::soak::record::Run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::installed;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn records() -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join("docs/soak");
    let listed = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut records: Vec<PathBuf> =
        listed.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    records.sort();
    records
}

fn failed(run: &Run) -> Vec<&'static str> {
    let findings = run.findings();
    findings.iter().filter(|finding| !finding.passed).map(|finding| finding.criterion).collect()
}

#[test]
fn a_leak_that_is_planted_in_a_record_is_seen() {
    let records = records();
    assert!(!records.is_empty(), "there is a record to plant it in");
    for record in records {
        let run = Run::read(&record).unwrap();
        assert_eq!(failed(&run), [""; 0], "{}", record.display());
        let last_s = run.samples.last().unwrap().t_s;

        let mut leaks = run.clone();
        let per_s = 1_500_000 / last_s;
        leaks.samples.iter_mut().for_each(|one| one.resident_bytes += one.t_s * per_s);
        assert_eq!(failed(&leaks), ["resident memory"], "{}", record.display());

        let mut leaks = run.clone();
        leaks.samples.iter_mut().for_each(|one| one.descriptors += one.t_s * 4 / last_s);
        assert_eq!(failed(&leaks), ["descriptors that are no connections"]);
    }
}

/// The exit status is what scripts go by.
#[test]
fn the_judge_says_it_by_its_exit_status() {
    let judge = |directory: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushv"));
        command.args(["soak", "judge"]).arg(directory).output().unwrap()
    };
    let record = records().pop().expect("there is a record");
    let good = judge(&record);
    let says = String::from_utf8_lossy(&good.stdout).into_owned();
    assert_eq!(good.status.code(), Some(0), "{says}");
    let kept = fs::read_to_string(record.join("README.md")).unwrap();
    assert!(kept.contains(&says), "the record's page has other tables than\n{says}");

    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak-judged");
    fs::create_dir_all(copy.join("loads")).unwrap();
    for file in ["samples.jsonl", "loads/steady.json", "loads/slow.json"] {
        fs::copy(record.join(file), copy.join(file)).unwrap();
    }
    let end = fs::read_to_string(record.join("end.json")).unwrap();
    fs::write(copy.join("end.json"), end.replace("\"exit_status\":0", "\"exit_status\":101"))
        .unwrap();
    let bad = judge(&copy);
    assert_eq!(bad.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&bad.stdout)
            .contains("| status 101, 0 errors in its log | **fail** |")
    );
    fs::remove_dir_all(copy).unwrap();
    assert_eq!(judge(Path::new("/no/such/record")).status.code(), Some(1));
}

/// Too short to say anything of growth, and long enough that everything happens that is to: on a
/// busy machine that may be longer.
#[test]
fn the_script_runs() {
    if installed(&["curl"]).is_none() {
        return;
    }
    let everything_happened = ["0.005", "0.02", "0.05"].into_iter().any(everything_happens_in);
    assert!(everything_happened, "the drivers of the script do not go on");
}

/// Whether so many hours were enough. What must hold holds in any case.
fn everything_happens_in(hours: &str) -> bool {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    let mut script = Command::new(format!("{ROOT}/scripts/soak.sh"));
    script.args(["--hours", hours, "--hold", "300", "--out"]).arg(&out).stdin(Stdio::null());
    let output = script.env("PUSHV", env!("CARGO_BIN_EXE_pushv")).output().unwrap();
    let (says, why) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{says}\n{why}");
    let run = Run::read(&out).unwrap_or_else(|error| panic!("{error}\n{says}\n{why}"));
    for criterion in [
        "after the load",
        "connections at once",
        "events of every reader",
        "gaps of prompt readers",
        "connections not accepted",
        "probes",
        "its end",
    ] {
        let findings = run.findings();
        let finding = findings.iter().find(|one| one.criterion == criterion).expect(criterion);
        assert!(finding.passed, "{finding:?}\n{says}\n{why}");
    }
    assert!(run.loads.len() == 7 && says.contains("| hold-3 | prompt | 300 |"), "{says}");
    run.end.knobs > 0 && run.end.stopped > 1 && run.end.unread > 1
}

#[test]
fn wrong_arguments_are_refused() {
    let run = |arguments: &[&str]| {
        Command::new(format!("{ROOT}/scripts/soak.sh")).args(arguments).output().unwrap()
    };
    assert_eq!(run(&["--wrong"]).status.code(), Some(2));
    assert_eq!(run(&["--hours", "0"]).status.code(), Some(1));
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stdout.starts_with(b"usage: scripts/soak.sh"));
}
