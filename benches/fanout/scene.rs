//! How the contestants are asked in turns.

use crate::contestant::Contestant;
use crate::failure::Failure;
use crate::figures::{Figures, Metric};
use crate::plan::{OPEN_PER_S, Scene, Sizes};
use crate::probe::Probe;
use crate::servers::Running;
use std::time::Duration;

/// How long a runtime with a collector is given to give memory back.
const COLLECTION: Duration = Duration::from_secs(2);

/// A contestant with what is known of it.
pub struct Entry {
    pub contestant: Contestant,
    /// Its name, with a version.
    pub title: String,
    pub figures: Figures,
    /// Where it has no figure, and why.
    pub failures: Vec<(Scene, Failure)>,
}

impl Entry {
    pub fn new(contestant: Contestant, title: String) -> Entry {
        Entry { contestant, title, figures: Figures::default(), failures: Vec::new() }
    }

    /// Whether it is one of our own, and did what it must not do. To be slow is no such thing.
    pub fn is_broken(&self) -> bool {
        let broken = |failure: &Failure| !matches!(failure, Failure::Behind { .. });
        !self.contestant.is_peer() && self.failures.iter().any(|(_, failure)| broken(failure))
    }

    /// The answer, or a note why there is none.
    fn accept<T>(&mut self, scene: Scene, answer: Result<T, Failure>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(failure) => {
                eprintln!("{}: {}: {failure}", self.title, scene.name());
                self.failures.push((scene, failure));
                None
            }
        }
    }

    /// Asks a probe. One that has failed is given up: what is still under way would be taken for
    /// the answer to the next question.
    fn ask<'s, T>(
        &mut self,
        scene: Scene,
        probe: &mut Option<Probe<'s>>,
        question: impl FnOnce(&mut Probe<'s>) -> Result<T, Failure>,
    ) -> Option<T> {
        let answer = self.accept(scene, question(probe.as_mut()?));
        if answer.is_none() {
            *probe = None;
        }
        answer
    }
}

pub fn run(sizes: &Sizes, scenes: &[Scene], entries: &mut [Entry]) {
    for run in 0..sizes.runs {
        for &scene in scenes {
            eprintln!("run {} of {}: {}", run + 1, sizes.runs, scene.name());
            match scene {
                Scene::Round | Scene::Flood => interleave(scene, run, sizes, entries),
                _ => take_turns(scene, run, sizes, entries),
            }
        }
    }
}

/// Another contestant begins each time.
fn order(nth: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (nth + turn) % count)
}

/// All contestants run at the same time, and are asked in short blocks, one after the other: the
/// figures of a block are from the same tenth of a second.
fn interleave(scene: Scene, run: usize, sizes: &Sizes, entries: &mut [Entry]) {
    let servers: Vec<Running> =
        entries.iter().map(|entry| Running::start(entry.contestant)).collect();
    let mut probes: Vec<Option<Probe>> = servers
        .iter()
        .zip(entries.iter_mut())
        .map(|(server, entry)| entry.accept(scene, Probe::new(server, sizes.subscribers)))
        .collect();
    // A connection that has been silent for longer than its retransmission timeout, 200 ms, has its
    // next 16 segments acknowledged at once (TCP_MAX_QUICKACKS, net/ipv4/tcp_input.c), and that is
    // a third of the cost of a delivery. So blocks are short, and the first ones are not counted.
    for warm_up in 0..16usize.div_ceil(sizes.rounds) + 1 {
        for nth in order(warm_up, entries.len()) {
            entries[nth].ask(scene, &mut probes[nth], |probe| probe.rounds(sizes.rounds));
        }
    }
    let blocks = if scene == Scene::Round { sizes.round_blocks } else { sizes.flood_blocks };
    for block in 0..blocks {
        for nth in order(run + block, entries.len()) {
            let (entry, probe) = (&mut entries[nth], &mut probes[nth]);
            if scene == Scene::Round {
                let ns = entry.ask(scene, probe, |probe| probe.rounds(sizes.rounds));
                entry.figures.record(Metric::RoundNs, ns);
            } else {
                let flood = entry.ask(scene, probe, |probe| probe.flood(sizes.flood_events));
                let (per_s, per_read) =
                    flood.map(|flood| (flood.deliveries_per_s, flood.events_per_read)).unzip();
                entry.figures.record(Metric::FloodPerS, per_s);
                entry.figures.record(Metric::FloodEventsPerRead, per_read);
            }
        }
    }
}

/// The contestants run one after the other: together they would need too many descriptors, or
/// disturb each other.
fn take_turns(scene: Scene, run: usize, sizes: &Sizes, entries: &mut [Entry]) {
    for nth in order(run, entries.len()) {
        let entry = &mut entries[nth];
        let server = Running::start(entry.contestant);
        match scene {
            Scene::Open => open(entry, &server, sizes),
            Scene::Idle => {
                let bytes = entry.accept(scene, idle(entry.contestant, &server, sizes.idle));
                entry.figures.record(Metric::IdleBytes, bytes);
            }
            Scene::Wide => wide(entry, &server, sizes),
            Scene::Round | Scene::Flood => unreachable!("these are interleaved"),
        }
    }
}

fn open(entry: &mut Entry, server: &Running, sizes: &Sizes) {
    let latency = Probe::new(server, sizes.subscribers).and_then(|mut probe| {
        probe.rounds(sizes.wide_rounds)?;
        probe.open_rate(OPEN_PER_S, sizes.open_rate)
    });
    let per_s = match latency {
        Err(Failure::Behind { deliveries_per_s }) => Some(deliveries_per_s),
        _ => None,
    };
    let latency = entry.accept(Scene::Open, latency);
    let ms = |ns: u64| ns as f64 / 1e6;
    entry.figures.record(Metric::OpenP50Ms, latency.as_ref().map(|latency| ms(latency.p50_ns)));
    entry.figures.record(Metric::OpenP99Ms, latency.as_ref().map(|latency| ms(latency.p99_ns)));
    entry.figures.record(Metric::OpenPerS, per_s);
}

/// The growth of resident memory for each of `count` subscribers.
fn idle(contestant: Contestant, server: &Running, count: usize) -> Result<f64, Failure> {
    let _warm_up = Probe::new(server, 100)?;
    let before = server.resident_bytes();
    let _probe = Probe::new(server, count)?;
    if contestant.is_peer() {
        std::thread::sleep(COLLECTION);
    }
    Ok((server.resident_bytes() as f64 - before as f64) / count as f64)
}

fn wide(entry: &mut Entry, server: &Running, sizes: &Sizes) {
    let mut probe = entry.accept(Scene::Wide, Probe::new(server, sizes.wide));
    entry.ask(Scene::Wide, &mut probe, |probe| probe.rounds(2));
    let ns = entry.ask(Scene::Wide, &mut probe, |probe| probe.rounds(sizes.wide_rounds));
    entry.figures.record(Metric::WideNs, ns);
    if entry.contestant == Contestant::Pushv {
        let delay =
            entry.ask(Scene::Wide, &mut probe, |probe| probe.accept_delay(sizes.wide_rounds));
        entry.figures.record(Metric::AcceptMs, delay.map(|delay| delay.as_secs_f64() * 1e3));
    }
}
