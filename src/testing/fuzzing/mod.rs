//! What the fuzzers run: for each target, a function of bytes that panics if something is wrong.
//!
//! `fuzz/` has one binary per target, which hands libFuzzer's bytes to the function of its name
//! here. Because the functions are part of the library, what the fuzzers have found is replayed in
//! every test run, without them and on the stable compiler (`tests/corpora.rs`).

mod requests;
#[cfg(feature = "config-file")]
mod settings;
mod streams;
mod worlds;

pub use requests::{request_body, request_head};
#[cfg(feature = "config-file")]
pub use settings::config_file;
pub use streams::{round_trip, sse_decoder};
pub use worlds::simulator;

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by the names of their directories in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("request_head", request_head),
    ("request_body", request_body),
    ("sse_decoder", sse_decoder),
    ("round_trip", round_trip),
    ("simulator", simulator),
    #[cfg(feature = "config-file")]
    ("config_file", config_file),
];

/// The first byte of an input says how the rest is cut: the rest, and the lengths of its pieces.
fn cut(input: &[u8]) -> (&[u8], Vec<usize>) {
    let Some((&seed, rest)) = input.split_first() else { return (input, Vec::new()) };
    let mut dice = super::Dice::new(u64::from(seed));
    // Some seeds cut everything into single bytes, some into few large pieces.
    let longest = *dice.pick(&[1, 2, 7, 40, 300]);
    let (mut pieces, mut left) = (Vec::new(), rest.len());
    while left > 0 {
        let len = (1 + dice.roll(longest)).min(left);
        pieces.push(len);
        left -= len;
    }
    (rest, pieces)
}

/// `bytes` in pieces of these lengths.
fn in_pieces<'b>(mut bytes: &'b [u8], pieces: &[usize]) -> Vec<&'b [u8]> {
    let mut taken = Vec::with_capacity(pieces.len());
    for &len in pieces {
        let (piece, rest) = bytes.split_at(len);
        taken.push(piece);
        bytes = rest;
    }
    taken
}
