//! What a delivery costs: pushv beside the least that any server can cost.
//!
//! ```text
//! cargo bench --bench fanout               # the whole table, about three minutes
//! cargo bench --bench fanout -- --quick    # the same at a tenth of the size
//! cargo bench --bench fanout -- --scene round
//! ```
//!
//! Each server runs in a process of its own, bound to processor 0; the probe runs here, bound to
//! processor 1, holds all subscribers, and compares every byte that each of them receives. The
//! servers are asked in turns, and the ratios are made within a turn: absolute figures move with
//! the machine, ratios much less. `docs/PERFORMANCE.md` says how to read them.

mod failure;
mod floor;
mod probe;
mod servers;
mod stream;

use probe::Probe;
use servers::{Contestant, Running};
use std::time::Duration;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--serve", kind] => floor::serve(kind),
        [] => run(&Sizes::FULL, &Scene::ALL),
        ["--quick"] => run(&Sizes::QUICK, &Scene::ALL),
        ["--scene", name] => match Scene::ALL.into_iter().find(|scene| scene.name() == name) {
            Some(scene) => run(&Sizes::FULL, &[scene]),
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() {
    let scenes = Scene::ALL.map(Scene::name).join("|");
    eprintln!("usage: cargo bench --bench fanout -- [--quick | --scene {scenes}]");
    std::process::exit(2);
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scene {
    Round,
    Flood,
    Open,
    Idle,
    Wide,
}

impl Scene {
    const ALL: [Scene; 5] = [Scene::Round, Scene::Flood, Scene::Open, Scene::Idle, Scene::Wide];

    fn name(self) -> &'static str {
        match self {
            Scene::Round => "round",
            Scene::Flood => "flood",
            Scene::Open => "open",
            Scene::Idle => "idle",
            Scene::Wide => "wide",
        }
    }
}

/// How large the scenes are.
struct Sizes {
    runs: usize,
    subscribers: usize,
    round_blocks: usize,
    rounds: usize,
    flood_blocks: usize,
    flood_events: usize,
    open_rate: Duration,
    idle: usize,
    wide: usize,
    wide_rounds: usize,
}

impl Sizes {
    const FULL: Sizes = Sizes {
        runs: 5,
        subscribers: 1000,
        round_blocks: 150,
        rounds: 3,
        flood_blocks: 3,
        flood_events: 2000,
        open_rate: Duration::from_secs(4),
        idle: 10_000,
        wide: 15_000,
        wide_rounds: 20,
    };
    const QUICK: Sizes = Sizes {
        runs: 1,
        subscribers: 200,
        round_blocks: 20,
        rounds: 3,
        flood_blocks: 1,
        flood_events: 500,
        open_rate: Duration::from_millis(500),
        idle: 1000,
        wide: 1000,
        wide_rounds: 5,
    };
}

/// One figure of one contestant, for every run.
#[derive(Default, Clone)]
struct Figures {
    round_ns: Vec<f64>,
    flood_per_s: Vec<f64>,
    flood_events_per_read: Vec<f64>,
    open_p50_ms: Vec<f64>,
    open_p99_ms: Vec<f64>,
    idle_bytes: Vec<f64>,
    wide_ns: Vec<f64>,
    accept_ms: Vec<f64>,
}

fn run(sizes: &Sizes, scenes: &[Scene]) {
    pushv::sys::set_descriptor_limit(u64::MAX).expect("the limit on descriptors");
    pushv::sys::bind_to_cpu(1).unwrap_or_else(|error| eprintln!("processor 1: {error}"));
    let mut figures = vec![Figures::default(); Contestant::ALL.len()];
    for run in 0..sizes.runs {
        for &scene in scenes {
            eprintln!("run {} of {}: {}", run + 1, sizes.runs, scene.name());
            match scene {
                Scene::Round | Scene::Flood => interleave(scene, run, sizes, &mut figures),
                _ => take_turns(scene, run, sizes, &mut figures),
            }
        }
    }
    print(sizes, &figures);
}

/// Another contestant begins each time.
fn order(nth: usize) -> impl Iterator<Item = usize> {
    let count = Contestant::ALL.len();
    (0..count).map(move |turn| (nth + turn) % count)
}

/// All contestants run at the same time, and are asked in short blocks, one after the other: the
/// figures of a block are from the same tenth of a second.
fn interleave(scene: Scene, run: usize, sizes: &Sizes, figures: &mut [Figures]) {
    let servers = Contestant::ALL.map(Running::start);
    let mut probes = servers
        .each_ref()
        .map(|server| Probe::new(server, sizes.subscribers).expect("a server that does its part"));
    // A connection that has been silent for longer than its retransmission timeout, 200 ms, has its
    // next 16 segments acknowledged at once (TCP_MAX_QUICKACKS, net/ipv4/tcp_input.c), and that is
    // a third of the cost of a delivery. So blocks are short, and the first ones are not counted.
    for warm_up in 0..16usize.div_ceil(sizes.rounds) + 1 {
        for nth in order(warm_up) {
            probes[nth].rounds(sizes.rounds).expect("a server that does its part");
        }
    }
    let blocks = if scene == Scene::Round { sizes.round_blocks } else { sizes.flood_blocks };
    for block in 0..blocks {
        for nth in order(run + block) {
            let (probe, figures) = (&mut probes[nth], &mut figures[nth]);
            if scene == Scene::Round {
                figures
                    .round_ns
                    .push(probe.rounds(sizes.rounds).expect("a server that does its part"));
            } else {
                let flood = probe.flood(sizes.flood_events).expect("a server that does its part");
                figures.flood_per_s.push(flood.deliveries_per_s);
                figures.flood_events_per_read.push(flood.events_per_read);
            }
        }
    }
}

/// The contestants run one after the other: together they would need too many descriptors, or
/// disturb each other.
fn take_turns(scene: Scene, run: usize, sizes: &Sizes, figures: &mut [Figures]) {
    for nth in order(run) {
        let (contestant, figures) = (Contestant::ALL[nth], &mut figures[nth]);
        let server = Running::start(contestant);
        match scene {
            // It cannot keep up, so its latency is only a matter of how long one looks.
            Scene::Open if contestant == Contestant::Floor => {}
            Scene::Open => {
                let latency = Probe::new(&server, sizes.subscribers)
                    .expect("a server that does its part")
                    .open_rate(500.0, sizes.open_rate)
                    .expect("a server that does its part");
                figures.open_p50_ms.push(latency.p50_ns as f64 / 1e6);
                figures.open_p99_ms.push(latency.p99_ns as f64 / 1e6);
            }
            Scene::Idle => {
                let warm_up = Probe::new(&server, 100).expect("a server that does its part");
                let before = server.resident_bytes();
                let probe = Probe::new(&server, sizes.idle).expect("a server that does its part");
                let more = server.resident_bytes() as f64 - before as f64;
                figures.idle_bytes.push(more / sizes.idle as f64);
                drop((probe, warm_up));
            }
            Scene::Wide => {
                let mut probe =
                    Probe::new(&server, sizes.wide).expect("a server that does its part");
                probe.rounds(2).expect("a server that does its part");
                figures
                    .wide_ns
                    .push(probe.rounds(sizes.wide_rounds).expect("a server that does its part"));
                if contestant == Contestant::Pushv {
                    let delay =
                        probe.accept_delay(sizes.wide_rounds).expect("a server that does its part");
                    figures.accept_ms.push(delay.as_secs_f64() * 1e3);
                }
            }
            Scene::Round | Scene::Flood => unreachable!("these are interleaved"),
        }
    }
}

fn print(sizes: &Sizes, figures: &[Figures]) {
    println!(
        "\nMedians (in brackets: the middle half) of {} runs; the first two scenes have {} and {} blocks in each.\n",
        sizes.runs, sizes.round_blocks, sizes.flood_blocks
    );
    println!(
        "| server | one event at a time, {0} subscribers: server CPU per delivery | flood of {1} events, {0} \
         subscribers: deliveries/s | events per read | 500 events/s, {0} subscribers: p50 / p99 | \
         memory per idle subscriber | one event to {2}: CPU per delivery |",
        sizes.subscribers, sizes.flood_events, sizes.wide
    );
    println!("|---|---|---|---|---|---|---|");
    for (contestant, own) in Contestant::ALL.iter().zip(figures) {
        println!(
            "| {} | {} µs | {} k | {} | {} / {} ms | {} B | {} µs |",
            contestant.name(),
            spread(&own.round_ns, 1e-3, 2),
            spread(&own.flood_per_s, 1e-3, 0),
            spread(&own.flood_events_per_read, 1.0, 1),
            spread(&own.open_p50_ms, 1.0, 2),
            spread(&own.open_p99_ms, 1.0, 2),
            spread(&own.idle_bytes, 1.0, 0),
            spread(&own.wide_ns, 1e-3, 2),
        );
    }
    let [floor, batched, pushv] = figures else { unreachable!("three contestants") };
    println!("\npushv against the floor, ratios within each run:\n");
    println!(
        "* one event at a time: {} × the floor's CPU",
        ratio(&pushv.round_ns, &floor.round_ns)
    );
    println!(
        "* one event to {}: {} × the floor's CPU",
        sizes.wide,
        ratio(&pushv.wide_ns, &floor.wide_ns)
    );
    println!(
        "* flood: {} × the batched floor's rate",
        ratio(&pushv.flood_per_s, &batched.flood_per_s)
    );
    println!(
        "* 500 events/s: p50 {} ×, p99 {} × the batched floor's",
        ratio(&pushv.open_p50_ms, &batched.open_p50_ms),
        ratio(&pushv.open_p99_ms, &batched.open_p99_ms)
    );
    println!(
        "* longest wait of a new subscriber for its first byte while one event goes out to {}: {} ms",
        sizes.wide,
        spread(&pushv.accept_ms, 1.0, 2)
    );
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// The median, and the quartiles around it.
fn spread(values: &[f64], scale: f64, digits: usize) -> String {
    if values.is_empty() {
        return "–".into();
    }
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|part| quantile(values, part) * scale);
    format!("{middle:.digits$} ({low:.digits$}–{high:.digits$})")
}

fn ratio(of: &[f64], to: &[f64]) -> String {
    let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    spread(&ratios, 1.0, 3)
}
