//! Carries out experiments.
//!
//! What is done is stored group by group, so that a run that was interrupted goes on where it was.

use super::experiments::Experiment;
use super::method::cell::{Cell, Stop};
use super::method::record::{Environment, Method, Profile, Record};
use crate::sys;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Cells that are measured together, on the same processes.
pub trait Group {
    /// Their names, unique in the experiment.
    fn cells(&self) -> Vec<String>;

    /// About how long they take.
    fn estimate(&self) -> Duration;

    /// Connections that one of its processes has open at once, at most.
    fn connections(&self) -> usize {
        1
    }

    /// Measures them.
    ///
    /// # Errors
    /// What ends the whole run.
    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop>;
}

/// What is shown while a run goes on.
pub trait Watch {
    /// What is being measured; `part` (0 to 1) of the whole is done.
    fn doing(&mut self, what: &str, part: f64, remaining: Duration);
    /// Whether the run is to be ended before its time.
    fn is_interrupted(&self) -> bool;
}

/// Everything that a group needs to measure.
pub struct Lab<'w> {
    /// This program, which is the server and the processes that measure as well.
    pub program: PathBuf,
    /// What was decided before the run.
    pub method: Method,
    /// The machine.
    pub environment: Environment,
    /// The command line, for the records.
    pub command: Vec<String>,
    /// Where the processes run.
    pub processors: Processors,
    /// From which the order of the blocks is drawn.
    pub rng: fastrand::Rng,
    progress: Progress<'w>,
}

/// Which processor is whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processors {
    /// The server's, or the sender's.
    pub subject: usize,
    /// The subscribers', or the receiver's; the same one if there is no other.
    pub other: usize,
}

struct Progress<'w> {
    watch: &'w mut dyn Watch,
    begun: Instant,
    /// The estimates of all groups, of those that are done, and of this one.
    total: Duration,
    done: Duration,
    current: Duration,
    group_begun: Instant,
    what: String,
}

impl<'w> Lab<'w> {
    /// A laboratory on this machine.
    pub fn new(
        program: PathBuf,
        method: Method,
        environment: Environment,
        command: Vec<String>,
        processors: Processors,
        watch: &'w mut dyn Watch,
    ) -> Lab<'w> {
        let rng = fastrand::Rng::with_seed(method.seed);
        let now = Instant::now();
        let progress = Progress {
            watch,
            begun: now,
            total: Duration::ZERO,
            done: Duration::ZERO,
            current: Duration::ZERO,
            group_begun: now,
            what: String::new(),
        };
        Lab { program, method, environment, command, processors, rng, progress }
    }

    /// The command that starts this program with one of its subcommands.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(subcommand);
        command
    }

    /// Measures a cell in one life of the processes, as [`Cell::measure`].
    ///
    /// # Errors
    /// What ends the whole run.
    pub fn measure(
        &mut self,
        cell: &mut Cell,
        restart: u32,
        measure: &mut dyn FnMut(usize) -> Result<super::method::cell::Measured, String>,
    ) -> Result<(), Stop> {
        let progress = &mut self.progress;
        progress.what = format!("{}: {}", cell.plan().experiment, cell.plan().name());
        let mut each_round = || progress.show();
        cell.measure(restart, &self.method, &mut self.rng, &mut each_round, measure)
    }

    /// The record of a cell that has been measured.
    pub fn finish(&self, cell: Cell) -> Record {
        cell.finish(&self.method, &self.environment, &self.command)
    }

    /// Carries out those groups of the experiments that are not `done` yet, and hands the records
    /// of each to `store`.
    ///
    /// # Errors
    /// What has ended it; what was stored before stays.
    pub fn run(
        &mut self,
        experiments: &[&dyn Experiment],
        done: &dyn Fn(&str, &str) -> bool,
        store: &mut dyn FnMut(Record) -> Result<(), String>,
    ) -> Result<(), Stop> {
        let profile = self.method.profile;
        let mut groups = Vec::new();
        for experiment in experiments {
            for group in experiment.groups(profile) {
                if group.cells().iter().any(|cell| !done(experiment.name(), cell)) {
                    self.progress.total += group.estimate();
                    groups.push((experiment.name(), group));
                }
            }
        }
        check_descriptors(&groups, sys::descriptor_limits().map_err(|why| why.to_string())?.1)?;
        for (name, group) in groups {
            self.progress.begin(name, group.estimate());
            self.progress.show()?;
            for record in group.run(self)? {
                if !done(name, &record.cell) {
                    store(record)?;
                }
            }
            self.progress.done += group.estimate();
        }
        Ok(())
    }
}

/// Whether the processes may open as many descriptors as the groups need: each raises its own limit
/// to the one that it may be raised to. Out of descriptors, a server turns subscribers away, and the
/// lab would stop in the middle.
fn check_descriptors(groups: &[(&str, Box<dyn Group>)], limit: u64) -> Result<(), String> {
    let largest = groups.iter().max_by_key(|(_, group)| group.connections());
    let Some((name, group)) = largest else { return Ok(()) };
    let connections = group.connections();
    let needed = (connections + DESCRIPTORS_APART) as u64;
    if needed <= limit {
        return Ok(());
    }
    Err(format!(
        "the limit on open descriptors (RLIMIT_NOFILE) may not be raised above {limit}, and {name} \
         needs {needed}: {connections} for connections, {DESCRIPTORS_APART} besides. Raise it: \
         `ulimit -Hn`, or LimitNOFILE= of systemd"
    ))
}

/// What a process opens besides: most of it is what the server puts aside for files, for its admin
/// listener and for connections that it turns away.
const DESCRIPTORS_APART: usize = 160;

impl Progress<'_> {
    fn begin(&mut self, name: &str, estimate: Duration) {
        self.what = name.into();
        self.current = estimate;
        self.group_begun = Instant::now();
    }

    /// Shows how far it is. What remains is estimated from what was estimated and what it took.
    fn show(&mut self) -> Result<(), Stop> {
        if self.watch.is_interrupted() {
            return Err(Stop::Interrupted);
        }
        let done = self.done + self.group_begun.elapsed().min(self.current);
        let pace = match self.done.as_secs_f64() {
            0.0 => 1.0,
            estimated => (self.group_begun - self.begun).as_secs_f64() / estimated,
        };
        let remaining = (self.total.saturating_sub(done)).mul_f64(pace.clamp(0.1, 10.0));
        let part = done.as_secs_f64() / self.total.as_secs_f64().max(1e-9);
        self.watch.doing(&self.what, part.min(1.0), remaining);
        Ok(())
    }
}

impl std::fmt::Debug for Lab<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Processors {
    /// The first two processors that this process may use (`/proc/self/status`, proc(5)).
    pub fn of_this_machine() -> Processors {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let mut allowed = list.into_iter().flat_map(|list| processors(list.trim()));
        let subject = allowed.next().unwrap_or(0);
        Processors { subject, other: allowed.next().unwrap_or(subject) }
    }

    /// Binds the calling thread, which gives the orders, to the other processor: what it does between
    /// two blocks, such as waiting for the server to come to rest, must not take the server's.
    ///
    /// # Errors
    /// As `sched_setaffinity(2)`.
    pub fn stand_aside(self) -> std::io::Result<()> {
        sys::bind_to_cpu(self.other)
    }

    /// Whether both sides have one of their own.
    pub fn are_two(&self) -> bool {
        self.subject != self.other
    }
}

/// The members of a list such as `0-3,7`.
fn processors(list: &str) -> impl Iterator<Item = usize> + '_ {
    list.split(',').flat_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().ok();
        match (number(first), number(last)) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        }
    })
}

impl Method {
    /// What is decided for a profile.
    pub fn of(profile: Profile, seed: u64) -> Method {
        Method {
            profile,
            seed,
            restarts: match profile {
                Profile::Smallest => 1,
                Profile::Quick => 2,
                Profile::Full => 5,
            },
            threshold: 0.03,
            confidence: 0.95,
            // In the smallest size nothing is measured, and everything is wanted.
            wait_max: if profile == Profile::Smallest { f64::MAX } else { 0.05 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        let check = |list, expected: &[usize]| {
            assert_eq!(processors(list).collect::<Vec<_>>(), expected, "{list}");
        };
        check("0-1", &[0, 1]);
        check("3", &[3]);
        check("0,2-4,9", &[0, 2, 3, 4, 9]);
        check("", &[]);
    }
}
