//! What is known of a run, read from the directory in which the script has left it.

use super::sample::Sample;
use super::trend::median;
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// Everything that is known of a run.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The samples, in order: some before the load, some after it.
    pub samples: Vec<Sample>,
    /// The reports of `pushv load`, by the names under which the script ran them.
    pub loads: Vec<(String, Load)>,
    /// How it ended.
    pub end: End,
}

/// The part of a load's report that counts here (see [`crate::load::report::Report`]).
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(missing_docs)]
pub struct Load {
    pub reader: String,
    pub verdict: String,
    pub connections: Streams,
    pub deliveries: Deliveries,
    pub offences: crate::load::checker::Offences,
    pub first_offence: Option<String>,
}

/// Streams that were wanted, and that were open when the load began.
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(missing_docs)]
pub struct Streams {
    pub wanted: u64,
    pub open: u64,
    pub reconnected: u64,
}

/// Events that arrived, and notices of a loss.
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(missing_docs)]
pub struct Deliveries {
    pub count: u64,
    pub gaps: u64,
    pub told_lost: u64,
}

/// What the script notes when all is over.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct End {
    /// The server's exit status, after it was told to drain.
    pub exit_status: i32,
    /// Lines in its log of an error, or of a panic.
    pub log_errors: u64,
    /// Connections that were to be held at once.
    pub held: u64,
    /// Knobs turned through the admin listener.
    pub knobs: u64,
    /// Times that the configuration was read again.
    pub reloads: u64,
    /// Processes of subscribers that were stopped, and killed a while later.
    pub stopped: u64,
    /// Processes of subscribers that never read.
    pub unread: u64,
}

impl Run {
    /// Reads `samples.jsonl`, `loads/*.json` and `end.json` of a directory.
    ///
    /// # Errors
    /// What is missing or cannot be understood.
    pub fn read(directory: &Path) -> Result<Run, String> {
        let text = |path: &Path| {
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let wrong = |path: &Path, error: serde_json::Error| format!("{}: {error}", path.display());
        let path = directory.join("samples.jsonl");
        let samples = text(&path)?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(&path, error))?;
        let path = directory.join("end.json");
        let end = serde_json::from_str(&text(&path)?).map_err(|error| wrong(&path, error))?;
        let folder = directory.join("loads");
        let listed =
            fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut loads = Vec::new();
        for path in listed.flatten().map(|entry| entry.path()) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let load = serde_json::from_str(&text(&path)?).map_err(|error| wrong(&path, error))?;
            loads.push((name, load));
        }
        loads.sort_by(|one: &(String, Load), other| one.0.cmp(&other.0));
        Ok(Run { samples, loads, end })
    }

    /// Samples under the steady load after the warm-up: neither idle nor in a phase that holds
    /// many connections.
    pub(super) fn steady(&self) -> Vec<&Sample> {
        let mut counts: Vec<f64> =
            self.samples.iter().map(|sample| sample.connections as f64).collect();
        counts.sort_unstable_by(f64::total_cmp);
        if counts.is_empty() {
            return Vec::new();
        }
        let usual = median(&counts);
        let last_s = self.samples.last().map_or(0, |sample| sample.t_s);
        let is_steady = |sample: &&Sample| {
            let count = sample.connections as f64;
            sample.t_s * WARM_UP_PARTS >= last_s && count >= usual / 2.0 && count <= usual * 2.0
        };
        self.samples.iter().filter(is_steady).collect()
    }

    pub(super) fn quarters(&self) -> Vec<Quarter> {
        let steady = self.steady();
        let per_quarter = steady.len().div_ceil(4).max(1);
        steady.chunks(per_quarter).map(Quarter::of).collect()
    }
}

/// A quarter of the steady samples: medians over them.
#[derive(Debug)]
pub(super) struct Quarter {
    pub until_s: u64,
    /// Gap notices from its beginning to its end.
    pub gaps: u64,
    pub resident_bytes: f64,
    pub other_descriptors: f64,
    pub tcp_bytes: f64,
    pub cpu_share: f64,
    pub machine_load: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub worst_us: u64,
}

impl Quarter {
    fn of(samples: &[&Sample]) -> Quarter {
        let middle = |value: fn(&Sample) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(|sample| value(sample)).collect();
            values.sort_unstable_by(f64::total_cmp);
            median(&values)
        };
        Quarter {
            until_s: samples.last().map_or(0, |sample| sample.t_s),
            gaps: match samples {
                [first, .., last] => last.gaps - first.gaps,
                _ => 0,
            },
            resident_bytes: middle(|sample| sample.resident_bytes as f64),
            other_descriptors: middle(|one| one.descriptors as f64 - one.connections as f64),
            tcp_bytes: middle(|sample| sample.tcp_bytes as f64),
            cpu_share: middle(|sample| sample.cpu_share),
            machine_load: middle(|sample| sample.machine_load),
            p50_us: middle(|sample| sample.probe_p50_us as f64),
            p99_us: middle(|sample| sample.probe_p99_us as f64),
            worst_us: samples.iter().map(|sample| sample.probe_max_us).max().unwrap_or(0),
        }
    }
}

/// The first fifth of a run is its warm-up.
const WARM_UP_PARTS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_holds_no_run_is_refused() {
        let why = Run::read(Path::new("/no/such/run")).unwrap_err();
        assert!(why.starts_with("/no/such/run/samples.jsonl: "), "{why}");
    }
}
