//! The report for people: Markdown.

use crate::contestant::Contestant;
use crate::failure::Failure;
use crate::figures::{Metric, Spread, Yardstick};
use crate::plan::{Scene, Sizes};
use crate::scene::Entry;

/// What of everything was measured, and on what.
pub struct Report<'r> {
    pub sizes: &'r Sizes,
    pub entries: &'r [Entry],
    /// Peers that are not here, and why.
    pub missing: &'r [(Contestant, String)],
}

impl Report<'_> {
    /// The contestant that a metric is compared with.
    pub fn yardstick(&self, metric: Metric) -> Option<&Entry> {
        let contestant = match metric.yardstick() {
            Yardstick::Floor => Contestant::Floor,
            Yardstick::FloorBatched => Contestant::FloorBatched,
            Yardstick::None => return None,
        };
        self.entries.iter().find(|entry| entry.contestant == contestant)
    }

    pub fn ratio(&self, entry: &Entry, metric: Metric) -> Option<Spread> {
        entry.figures.ratio(&self.yardstick(metric)?.figures, metric)
    }

    pub fn print(&self) {
        println!(
            "\nMedians (in brackets: the middle half) of {} runs; the first two scenes have {} and {} blocks in each.\n",
            self.sizes.runs, self.sizes.round_blocks, self.sizes.flood_blocks
        );
        let mut notes = Notes::default();
        self.print_figures(&mut notes);
        println!("\nRatios, each made within a block or a run:\n");
        self.print_ratios();
        println!();
        for (nth, note) in notes.0.iter().enumerate() {
            println!("* ({}) {note}", nth + 1);
        }
        for (peer, reason) in self.missing {
            let package = crate::peers::package(*peer);
            println!("* {} is missing: {reason} (Debian: {package})", peer.name());
        }
        self.print_newcomer();
    }

    fn print_figures(&self, notes: &mut Notes) {
        println!(
            "| server | one event at a time, {0} subscribers: server CPU per delivery | flood of {1} events, {0} \
             subscribers: deliveries/s | events per read | {3} events/s, {0} subscribers: p50 / p99 | \
             memory per idle subscriber | one event to {2}: CPU per delivery |",
            self.sizes.subscribers,
            self.sizes.flood_events,
            self.sizes.wide,
            crate::plan::OPEN_PER_S
        );
        println!("|---|---|---|---|---|---|---|");
        for entry in self.entries {
            let cell = |metric, scale, digits, unit| {
                figure(entry.figures.spread(metric), scale, digits, unit)
            };
            println!(
                "| {} | {}{} | {}{} | {} | {}{} | {}{} | {}{} |",
                entry.title,
                cell(Metric::RoundNs, 1e-3, 2, " µs"),
                notes.of(entry, Scene::Round),
                cell(Metric::FloodPerS, 1e-3, 0, " k"),
                notes.of(entry, Scene::Flood),
                cell(Metric::FloodEventsPerRead, 1.0, 1, ""),
                latency(entry, self.sizes.runs),
                notes.of(entry, Scene::Open),
                cell(Metric::IdleBytes, 1.0, 0, " B"),
                notes.of(entry, Scene::Idle),
                cell(Metric::WideNs, 1e-3, 2, " µs"),
                notes.of(entry, Scene::Wide),
            );
        }
    }

    fn print_ratios(&self) {
        println!(
            "| server | one event at a time: × the floor's CPU | one event to {}: × the floor's CPU | flood: × \
             the batched floor's rate | {} events/s: p50, p99 × the batched floor's |",
            self.sizes.wide,
            crate::plan::OPEN_PER_S
        );
        println!("|---|---|---|---|---|");
        for entry in self.entries {
            let cell = |metric| figure(self.ratio(entry, metric), 1.0, 3, "");
            println!(
                "| {} | {} | {} | {} | {}, {} |",
                entry.title,
                cell(Metric::RoundNs),
                cell(Metric::WideNs),
                cell(Metric::FloodPerS),
                cell(Metric::OpenP50Ms),
                cell(Metric::OpenP99Ms)
            );
        }
    }

    fn print_newcomer(&self) {
        for entry in self.entries {
            if let Some(spread) = entry.figures.spread(Metric::AcceptMs) {
                println!(
                    "* {}: longest wait of a new subscriber for its first byte while one event goes out to {}: {}",
                    entry.title,
                    self.sizes.wide,
                    figure(Some(spread), 1.0, 2, " ms")
                );
            }
        }
    }
}

fn figure(spread: Option<Spread>, scale: f64, digits: usize, unit: &str) -> String {
    let Some(Spread { low, median, high }) = spread else { return "–".into() };
    let [low, median, high] = [low, median, high].map(|value| value * scale);
    format!("{median:.digits$} ({low:.digits$}–{high:.digits$}){unit}")
}

/// Who falls behind in most of the runs has no latency: the longer one looks, the higher it is.
/// Who does so in some has one that is too good, and it is said.
fn latency(entry: &Entry, runs: usize) -> String {
    let behind = entry.figures.samples(Metric::OpenPerS).iter().flatten().count();
    if 2 * behind > runs {
        let rate = figure(entry.figures.spread(Metric::OpenPerS), 1e-3, 0, " k/s");
        return format!("falls behind: {rate}");
    }
    let [p50, p99] = [Metric::OpenP50Ms, Metric::OpenP99Ms]
        .map(|metric| figure(entry.figures.spread(metric), 1.0, 2, ""));
    let in_some =
        if behind > 0 { format!(", behind in {behind} of {runs} runs") } else { String::new() };
    format!("{p50} / {p99} ms{in_some}")
}

/// What stands below the table.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    /// Notes why a figure is missing in some or all runs, unless the cell says so itself, and gives
    /// the mark.
    fn of(&mut self, entry: &Entry, scene: Scene) -> String {
        let mut failures = entry
            .failures
            .iter()
            .filter(|(of, failure)| *of == scene && !matches!(failure, Failure::Behind { .. }));
        let Some((_, first)) = failures.next() else { return String::new() };
        let runs = if failures.count() == 0 { "in one run" } else { "in several runs" };
        self.0.push(format!("{}, {}, {runs}: {first}", entry.title, scene.name()));
        format!(" ({})", self.0.len())
    }
}
