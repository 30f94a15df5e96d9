//! What a load costs the server: asked of the kernel, by the server's process id, and of the server
//! itself, if it is pushv and its admin listener is known.

use crate::client::exchange;
use crate::client::url::Url;
use crate::sys;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;

/// Where to ask.
#[derive(Clone, Default)]
pub struct Server {
    /// Its process id.
    pub pid: Option<u32>,
    /// Its admin listener.
    pub admin: Option<Url>,
    /// Header fields that the admin listener wants, such as its token.
    pub fields: Vec<(String, String)>,
}

/// What was answered at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Processor time of all its threads, as the scheduler counts it, in nanoseconds.
    pub cpu_ns: Option<u64>,
    /// The part of it in user mode, in nanoseconds, in steps of a tick of the kernel's clock.
    pub user_ns: Option<u64>,
    /// The part of it in the kernel, likewise.
    pub system_ns: Option<u64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Its counters: names with labels, as in the metrics.
    pub counters: BTreeMap<String, f64>,
}

/// Without the fields, one of which may be a secret.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Server");
        shown.field("pid", &self.pid).field("admin", &self.admin).finish_non_exhaustive()
    }
}

impl Server {
    /// Whether there is anybody to ask.
    pub fn is_known(&self) -> bool {
        self.pid.is_some() || self.admin.is_some()
    }

    /// Asks.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn sample(&self) -> Result<Sample, String> {
        let mut sample = Sample::default();
        if let Some(admin) = &self.admin {
            let url = Url { target: "/metrics".into(), ..admin.clone() };
            let answer = exchange::exchange_with(&url, "GET", &self.fields, "")
                .map_err(|why| format!("{url}: {why}"))?;
            match answer.status {
                200 => sample.read_metrics(&answer.body),
                401 => {
                    let hint = "it wants a token, which is taken from PUSHV_ADMIN_TOKEN";
                    return Err(format!("{url}: {hint}"));
                }
                status => return Err(format!("{url}: HTTP status {status}")),
            }
        }
        if let Some(pid) = self.pid {
            sample.read_process(pid).map_err(|why| format!("process {pid}: {why}"))?;
        }
        Ok(sample)
    }
}

impl Sample {
    fn read_metrics(&mut self, text: &str) {
        self.counters = metrics(text);
        let value = |name: &str| self.counters.get(name).copied();
        self.cpu_ns = value("pushv_cpu_seconds_total").map(|s| (s * 1e9) as u64);
        self.resident_bytes = value("pushv_resident_bytes").map(|bytes| bytes as u64);
    }

    /// From `/proc/PID` (proc(5)): `task/*/schedstat`, `stat`, `statm`.
    fn read_process(&mut self, pid: u32) -> Result<(), String> {
        let read = |path: String| fs::read_to_string(path).map_err(|error| error.to_string());
        let mut cpu_ns = 0;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| {
            let gone = error.kind() == ErrorKind::NotFound;
            if gone { "there is no such process".into() } else { error.to_string() }
        })?;
        for task in tasks.flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            cpu_ns += number(text.split(' ').next()).unwrap_or(0);
        }
        self.cpu_ns = Some(cpu_ns);
        let stat = read(format!("/proc/{pid}/stat"))?;
        (self.user_ns, self.system_ns) = times(&stat, 1_000_000_000 / sys::ticks_per_s());
        let statm = read(format!("/proc/{pid}/statm"))?;
        self.resident_bytes =
            number(statm.split(' ').nth(1)).map(|pages| pages * sys::page_bytes());
        Ok(())
    }
}

/// The values of a text in the OpenMetrics format, by their names with labels.
pub fn metrics(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_string(), value.parse().ok()?)))
        .collect()
}

/// User and system time from the text of `stat`. The second field, the command's name, may hold
/// anything; the fields are counted from its closing parenthesis.
fn times(stat: &str, tick_ns: u64) -> (Option<u64>, Option<u64>) {
    let Some((_, fields)) = stat.rsplit_once(") ") else { return (None, None) };
    // utime is field 14 and stime field 15; the first one here is field 3.
    let time = |nth: usize| number(fields.split(' ').nth(nth - 3)).map(|ticks| ticks * tick_ns);
    (time(14), time(15))
}

fn number(field: Option<&str>) -> Option<u64> {
    field?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_asked() {
        let server = Server { pid: Some(std::process::id()), ..Server::default() };
        let before = server.sample().unwrap();
        assert!(before.resident_bytes.unwrap() > 100_000);
        let mut state = 1u64;
        while server.sample().unwrap().cpu_ns <= before.cpu_ns {
            state = std::hint::black_box(state.wrapping_mul(3));
        }
        assert!(Server { pid: Some(u32::MAX), ..Server::default() }.sample().is_err());
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13";
        assert_eq!(times(stat, 10), (Some(110), Some(120)));
        assert_eq!(times("7 (x", 10), (None, None));
    }

    #[test]
    fn metrics_are_read() {
        let mut sample = Sample::default();
        sample.read_metrics(
            "# TYPE pushv_write_calls counter\npushv_write_calls_total{call=\"send\"} 15\n\
             pushv_cpu_seconds_total 0.5\npushv_resident_bytes 4096\n# EOF\n",
        );
        assert_eq!((sample.cpu_ns, sample.resident_bytes), (Some(500_000_000), Some(4096)));
        assert_eq!(sample.counters["pushv_write_calls_total{call=\"send\"}"], 15.0);
    }
}
