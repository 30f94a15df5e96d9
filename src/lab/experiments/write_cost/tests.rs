//! The judgements, from records that are made up. `tests/lab_bare.rs` measures.

use super::*;
use crate::lab::experiments::Verdict;
use crate::lab::method::record::Kind;
use crate::lab::method::sample::Sample;

/// A record of all calls, each as a part of what a write costs.
fn timed(reader: Reader, bytes: usize, write_ns: f64) -> crate::lab::method::record::Record {
    let mut sample = Sample::new(NAME, &format!("reader {}, bytes {bytes}", reader.name()))
        .factor("reader", reader.name())
        .factor("bytes", bytes)
        .metric(MEDIAN_NS, "time of a call, median", "ns", Kind::Time);
    for call in Call::ALL {
        let part = match call {
            Call::Getppid => 0.05,
            Call::More => 0.25,
            _ => 1.0,
        };
        sample = sample.variant(call.name(), &[write_ns * part]);
    }
    sample.build()
}

#[test]
fn the_shape_depends_on_the_reader() {
    let check = |records: Vec<_>, expected, text: &str| {
        let judgements = WriteCost.judge(&Study::new(records));
        let shape = judgements.iter().find(|one| one.statement.contains("3.0 times")).unwrap();
        assert_eq!(shape.verdict, expected, "{}", shape.because);
        assert!(shape.because.contains(text), "{}", shape.because);
    };
    let cells = |reader, small, large| [timed(reader, 64, small), timed(reader, 65_536, large)];
    check(cells(Reader::Nobody, 1000.0, 3000.0).to_vec(), Verdict::Confirmed, "nobody reading");
    check(cells(Reader::Nobody, 1000.0, 9000.0).to_vec(), Verdict::Refuted, "nobody reading");
    let both = [cells(Reader::Nobody, 1000.0, 3000.0), cells(Reader::Asleep, 9000.0, 11000.0)];
    check(both.concat(), Verdict::Depends, "the reader asleep");
}

#[test]
fn nothing_is_said_of_nothing() {
    let study = Study::new(Vec::new());
    assert!(WriteCost.judge(&study).is_empty());
    assert!(WriteCost.tables(&study).is_empty() && WriteCost.figures(&study).is_empty());
}

#[test]
fn names_of_cells_are_unique() {
    for profile in [Profile::Smallest, Profile::Quick, Profile::Full] {
        let mut cells: Vec<String> =
            WriteCost.groups(profile).iter().flat_map(|group| group.cells()).collect();
        let all = cells.len();
        cells.sort();
        cells.dedup();
        assert_eq!(cells.len(), all);
    }
}
