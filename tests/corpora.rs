//! What the fuzzers have found, and what they were given to begin with: each input is replayed, on
//! the stable compiler. See docs/TESTING.md.

#![allow(clippy::unwrap_used)] // a test may panic

use pushv::testing::fuzzing::TARGETS;
use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, panic};

#[test]
fn no_input_of_the_corpora_fails() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let files = fs::read_dir(corpora.join(name)).unwrap().map(|entry| entry.unwrap().path());
        let files: BTreeSet<_> = files.collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in &files {
            let input = fs::read(file).unwrap();
            let replayed = panic::catch_unwind(|| target(&input));
            assert!(replayed.is_ok(), "{name} fails with {}", file.display());
        }
        println!("{name}: {} inputs", files.len());
    }
}

#[test]
fn each_target_has_its_binary_and_each_corpus_its_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let listed = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz.join(directory)).unwrap();
        let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_string();
        entries.map(|entry| stem(&entry.unwrap().path())).collect()
    };
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(listed("fuzz_targets"), targets);
    assert_eq!(listed("corpus"), targets);
}
