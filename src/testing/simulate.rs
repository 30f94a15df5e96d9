//! Thousands of worlds, and what to do when one of them fails: say which, find the smallest that
//! fails the same way, and show it.

use super::scenario::Scenario;
use super::shrink::shrink;
use super::world::{Lived, World};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A world in which something was wrong.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed that it was drawn from, if it was.
    pub seed: Option<u64>,
    /// What was wrong.
    pub why: String,
    /// The scenario, made as small as it could be.
    pub scenario: Scenario,
    /// What is wrong in that.
    pub why_small: String,
}

/// What came of many worlds.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// How many there were.
    pub worlds: u64,
    /// What happened in those that were well.
    pub lived: Lived,
    /// How long it took.
    pub took: Duration,
    /// The failures, by seed.
    pub failures: Vec<Failure>,
}

/// Lives through a scenario; a panic is one more thing that can be wrong.
///
/// # Errors
/// What was wrong.
pub fn live(scenario: &Scenario) -> Result<Lived, String> {
    catch(|| World::live(scenario))
}

/// Lives through the scenario of a seed, and makes it small if it fails.
///
/// # Errors
/// The failure.
pub fn seed(seed: u64) -> Result<Lived, Box<Failure>> {
    let scenario = Scenario::of_seed(seed);
    live(&scenario).map_err(|why| {
        let alike =
            |smaller: &Scenario| live(smaller).is_err_and(|other| kind(&other) == kind(&why));
        let begun = Instant::now();
        let in_time = || begun.elapsed() < SHRINK_TIME_MAX;
        let small = shrink(scenario, SHRINK_TRIES_MAX, |smaller| in_time() && alike(smaller));
        let why_small = live(&small).err().unwrap_or_default();
        Box::new(Failure { seed: Some(seed), why, scenario: small, why_small })
    })
}

/// What kind of failure that is: the beginning of what was wrong, without numbers.
fn kind(why: &str) -> String {
    let line = why.lines().find(|line| !line.starts_with("panicked at ")).unwrap_or_default();
    line.chars().filter(|char| !char.is_ascii_digit()).take(KIND_CHARS).collect()
}

/// Lives through the scenarios of `seeds` in `jobs` threads, and gives up at the third failure.
/// `progress` is called now and then with the number of worlds so far.
pub fn seeds(seeds: Range<u64>, jobs: usize, progress: impl Fn(u64) + Sync) -> Summary {
    let begun = Instant::now();
    let (next, done) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let enough = AtomicBool::new(false);
    let worker = || {
        let mut summary = Summary::default();
        while !enough.load(Ordering::Relaxed) && summary.failures.len() < FAILURES_MAX {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= seeds.end {
                break;
            }
            summary.worlds += 1;
            match seed(nth) {
                Ok(lived) => summary.lived += lived,
                Err(failure) => {
                    summary.failures.push(*failure);
                    enough.store(summary.failures.len() >= FAILURES_MAX, Ordering::Relaxed);
                }
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        summary
    };
    let mut total = Summary::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        for thread in threads {
            let part = thread.join().expect("a worker catches panics");
            total.worlds += part.worlds;
            total.lived += part.lived;
            total.failures.extend(part.failures);
        }
    });
    total.failures.sort_by_key(|failure| failure.seed);
    total.took = begun.elapsed();
    total
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(seed) = self.seed {
            writeln!(f, "seed {seed} fails; PUSHV_SEED={seed} cargo test --lib seeds replays it")?;
        }
        writeln!(f, "{}", self.why)?;
        writeln!(f, "the smallest scenario found that fails:\n{}", self.scenario)?;
        writeln!(f, "{}", self.why_small)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_s = self.worlds as f64 / self.took.as_secs_f64().max(0.001);
        let Lived { events, gaps, acknowledged, answers, looks, reloads, turns } = self.lived;
        write!(
            f,
            "{} seeds in {:.0} s ({per_s:.0} per second), {} failures\n\
             {turns} turns of the loop, {acknowledged} events acknowledged to publishers, {reloads} \
             reloads\n\
             checked: {events} events and {gaps} gap notices of subscribers, {answers} answers, \
             {looks} states of /live",
            self.worlds,
            self.took.as_secs_f64(),
            self.failures.len(),
        )
    }
}

/// Turns a panic into an error, without having it printed: a failing world panics many times while
/// it is made smaller.
fn catch<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match CATCHING.get() {
            true => PANICKED.set(Some(info.to_string())),
            false => before(info),
        }));
    });
    let outer = CATCHING.replace(true);
    let caught = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    caught.unwrap_or_else(|_| Err(PANICKED.take().unwrap_or_else(|| "it panicked".into())))
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Worlds that never come to rest take long to fail.
const SHRINK_TIME_MAX: Duration = Duration::from_secs(20);
const KIND_CHARS: usize = 40;
const SHRINK_TRIES_MAX: usize = 2000;
const FAILURES_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn number_from(variable: &str) -> Option<u64> {
        std::env::var(variable).ok()?.parse().ok()
    }

    /// A thousand worlds in each run of the tests; `PUSHV_SEED` names a single one.
    #[test]
    fn seeds_of_every_run() {
        if let Some(nth) = number_from("PUSHV_SEED") {
            println!("{}", Scenario::of_seed(nth));
            let lived = seed(nth).unwrap_or_else(|failure| panic!("{failure}"));
            return println!("{lived:?}");
        }
        let count = number_from("PUSHV_SEEDS").unwrap_or(1000);
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let summary = seeds(0..count, jobs, |_| {});
        if let Some(failure) = summary.failures.first() {
            panic!("{failure}");
        }
        println!("{summary}");
        // Worlds in which nothing happens prove nothing.
        let lived = summary.lived;
        let enough = |is: usize| is as u64 > count / 2;
        assert!(enough(lived.events) && enough(lived.gaps) && enough(lived.acknowledged));
        assert!(enough(lived.answers) && enough(lived.reloads));
    }
}
