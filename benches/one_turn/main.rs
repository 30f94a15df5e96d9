//! How long one request of the admin listener keeps the loop.
//!
//! ```text
//! cargo bench --bench one_turn
//! cargo bench --bench one_turn -- --topics 1000 --streams 100 --times 3
//! ```
//!
//! A server in a process of its own is filled to its limits and asked for everything that the admin
//! listener has. Meanwhile a probe sends `GET /healthz` to the public listener, one request after the
//! other: the longest that the probe waits while a question is answered is how long everybody else
//! waits. That includes what the machine does beside it, so the median is the figure to go by.
//! `docs/LIMITS.md` has the table.

#![allow(clippy::unwrap_used)] // as in the tests, whose helpers it uses

#[path = "../../tests/support/mod.rs"]
mod support;

mod probe;
mod scene;
mod table;

use scene::Scene;
use table::Row;

fn main() {
    let mut sizes = Sizes { topics: 100_000, streams: 15_000, times: 20 };
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let number = arguments.next().and_then(|text| text.parse().ok());
        match (argument.as_str(), number) {
            ("--topics", Some(number)) => sizes.topics = number,
            ("--streams", Some(number)) => sizes.streams = number,
            ("--times", Some(number @ 1..)) => sizes.times = number,
            _ => usage(),
        }
    }
    let scene = Scene::fill(sizes.within_descriptors());
    let rows: Vec<Row> = scene.ask_everything();
    table::print(&scene, &rows);
}

fn usage() -> ! {
    eprintln!("usage: cargo bench --bench one_turn -- [--topics N] [--streams N] [--times N]");
    std::process::exit(2);
}

/// How much there is.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    topics: usize,
    streams: usize,
    /// How often each question is asked.
    times: usize,
}

impl Sizes {
    /// As many streams as this process has descriptors for; the server's process has as many.
    fn within_descriptors(self) -> Sizes {
        let limit = pushv::sys::set_descriptor_limit(u64::MAX).expect("the limit on descriptors");
        let possible =
            usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(DESCRIPTORS_ELSE);
        if self.streams > possible {
            eprintln!("{possible} streams instead of {}: RLIMIT_NOFILE is {limit}", self.streams);
        }
        Sizes { streams: self.streams.min(possible), ..self }
    }
}

/// What both processes have open beside the streams: listeners, the probe, viewers, files.
const DESCRIPTORS_ELSE: usize = 500;
