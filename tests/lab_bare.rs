//! Bare calls, measured by processes of their own: that what was asked for was done. What it took
//! is for the laboratory to say.

#![allow(clippy::unwrap_used)] // a test may panic

use pushv::lab::bare::Reader;
use pushv::lab::bare::bench::Bench;
use pushv::lab::bare::block::{Kind, Task};
use pushv::lab::bare::call::Call;
use pushv::lab::experiments::iovec_crossover::{IovecCrossover, rule};
use pushv::lab::experiments::uring_whatif::UringWhatif;
use pushv::lab::experiments::write_cost::WriteCost;
use pushv::lab::experiments::{Experiment, Verdict};
use pushv::lab::method::analysis::Study;
use pushv::lab::method::record::{Environment, Method, Profile};
use pushv::lab::run::{Lab, Processors, Watch};
use std::process::Command;
use std::time::Duration;

fn bench(reader: Reader) -> Bench {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushv"));
    command.arg("lab-bare");
    Bench::start(command, Processors::of_this_machine(), reader).unwrap()
}

/// All calls, to readers in all states, bring the same bytes.
#[test]
fn every_call_to_every_reader_brings_the_same_bytes() {
    for reader in Reader::ALL {
        let mut bench = bench(reader);
        for piece_bytes in [64, 16_384] {
            let mut checksums = Vec::new();
            for call in Call::ALL {
                let work = Kind::Call(call);
                let (block, _noise) =
                    bench.measure(Task { work, pieces: 1, piece_bytes, calls: 24 }).unwrap();
                assert_eq!((block.events, block.ns.count()), (24, timed(call)), "{call:?}");
                assert_eq!(block.reading.bytes, 24 * piece_bytes as u64);
                checksums.push(block.reading.checksum);
            }
            assert!(checksums.iter().all(|checksum| *checksum == checksums[0]), "{checksums:x?}");
        }
    }
}

/// Of 24 calls, or 12 that are each behind another, so many have their time taken; of the others it
/// is the processor time.
fn timed(call: Call) -> u64 {
    if call == Call::Flush { 11 } else { 21 }
}

#[test]
fn what_does_not_fit_is_told() {
    let mut bench = bench(Reader::Nobody);
    let piece_bytes = bench.opened.call_bytes_max * 8;
    let work = Kind::Call(Call::Write);
    let why = bench.measure(Task { work, pieces: 1, piece_bytes, calls: 2 }).unwrap_err();
    assert!(why.contains(&format!("bytes of {piece_bytes}")), "{why}");
}

/// Carries out an experiment as small as it gets.
fn smallest(experiment: &dyn Experiment) -> Study {
    struct Nobody;
    impl Watch for Nobody {
        fn doing(&mut self, _: &str, _: f64, _: Duration) {}
        fn is_interrupted(&self) -> bool {
            false
        }
    }
    let mut watch = Nobody;
    let mut lab = Lab::new(
        env!("CARGO_BIN_EXE_pushv").into(),
        Method { wait_max: f64::INFINITY, ..Method::of(Profile::Smallest, 1) },
        Environment::default(),
        Vec::new(),
        Processors::of_this_machine(),
        &mut watch,
    );
    let mut records = Vec::new();
    let mut store = |record| {
        records.push(record);
        Ok(())
    };
    lab.run(&[experiment], &|_, _| false, &mut store).unwrap();
    for record in &records {
        for block in &record.blocks {
            assert_eq!(block.values.len(), record.metrics.len());
            assert!(block.values.iter().all(Option::is_some) && block.work.bytes > 0);
        }
    }
    Study::new(records)
}

#[test]
fn the_cost_of_a_write() {
    let study = smallest(&WriteCost);
    let cells: Vec<&str> = study.records.iter().map(|record| record.cell.as_str()).collect();
    assert!(cells.contains(&"reader nobody, bytes 64"), "{cells:?}");
    let judgements = WriteCost.judge(&study);
    let success = judgements.iter().find(|one| one.claim == Some("C02")).unwrap();
    assert_eq!(success.verdict, Verdict::Confirmed, "{}", success.because);
    assert!(judgements.iter().any(|one| one.claim == Some("C03")));
    assert!(WriteCost.tables(&study).len() >= 6);
    let place = study.find(&[("reader", "nobody"), ("bytes", "64")]).unwrap();
    for (variant, segments) in [("write", 1.0), ("flush", 0.5), ("pipe", 0.0)] {
        assert_eq!(study.summary_named(place, variant, "segments").unwrap().median, segments);
    }
}

#[test]
fn copying_against_gathering() {
    let study = smallest(&IovecCrossover);
    assert_eq!(study.records.len(), 2);
    assert!(rule(&study).is_some());
    for record in &study.records {
        let all: Vec<_> = record.blocks.iter().map(|block| &block.work).collect();
        assert!(all.iter().all(|work| *work == all[0]), "{all:?}");
    }
}

/// Without the feature, or where the kernel forbids it, there is nothing to measure; it is said so.
#[test]
fn what_if_it_were_io_uring() {
    let study = smallest(&UringWhatif);
    assert_eq!(study.records.len(), usize::from(cfg!(feature = "uring")));
    assert_eq!(UringWhatif.judge(&study).len(), 1);
    for block in study.records.iter().flat_map(|record| &record.blocks) {
        assert_eq!(block.values[3], Some([1.0, 0.125][block.variant]));
    }
}
