//! The sender with its reader in the same process. `tests/lab_bare.rs` has the others.

use super::block::{Kind, Sender, Task};
use super::call::Call;
use super::fill::fill;
use super::*;

#[test]
fn every_call_brings_the_same_bytes() {
    let mut sender = Sender::open(Reader::Nobody, 0).unwrap();
    for piece_bytes in [1, 7, 64, 1448, 70_000] {
        let mut readings = Vec::new();
        for call in Call::ALL {
            let work = Kind::Call(call);
            let block = sender.measure(&Task { work, pieces: 1, piece_bytes, calls: 32 }).unwrap();
            assert_eq!(block.events, 32);
            assert_eq!(block.reading.bytes, 32 * piece_bytes as u64);
            assert!(block.ns.count() > 0 && block.median_ns > 0.0 && block.mean_ns > 0.0);
            assert!(block.cpu_ns > 0.0, "{call:?}");
            readings.push(block.reading.checksum);
        }
        assert!(readings.iter().all(|checksum| *checksum == readings[0]), "{readings:x?}");
    }
}

#[test]
fn copying_and_gathering_bring_the_same_bytes() {
    let mut sender = Sender::open(Reader::Nobody, 0).unwrap();
    for (pieces, piece_bytes) in [(1, 64), (2, 16), (17, 1000), (1024, 16)] {
        let [copied, gathered] = [Kind::Copy, Kind::Gather]
            .map(|work| sender.measure(&Task { work, pieces, piece_bytes, calls: 16 }).unwrap());
        assert_eq!(copied.reading, gathered.reading);
        assert_eq!(copied.reading.bytes, (16 * pieces * piece_bytes) as u64);
    }
}

/// What is held back makes no segment of its own.
#[test]
fn segments_tell_what_was_held_back() {
    let mut sender = Sender::open(Reader::Nobody, 0).unwrap();
    let mut segments = |call| {
        let work = Kind::Call(call);
        sender.measure(&Task { work, pieces: 1, piece_bytes: 64, calls: 64 }).unwrap().segments
    };
    assert_eq!(segments(Call::Write), 1.0);
    assert_eq!(segments(Call::Flush), 0.5);
    assert_eq!(segments(Call::Pipe), 0.0);
}

#[test]
fn a_reader_that_does_not_read_fills_the_buffer() {
    for piece_bytes in [64, 1000, 65_536] {
        let filled = fill(piece_bytes, 2 << 20).unwrap();
        assert_eq!((filled.refused_calls, filled.received_bytes), (1, 2 << 20), "{filled:?}");
        assert!(filled.is_intact && filled.accepted_bytes < 2 << 20, "{filled:?}");
        let known = filled.arrived_bytes + filled.unacknowledged_bytes;
        assert!(known >= filled.accepted_bytes && filled.arrived_bytes > 0, "{filled:?}");
    }
}

#[test]
fn orders_for_another_role_are_refused() {
    let mut process = Process::Idle;
    let read = Order::Read { bytes: 1, spin: false, pipe: None };
    assert!(process.carry_out(read).unwrap_err().contains("is not for this process"));
}
