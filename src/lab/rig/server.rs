//! The server's process: `pushv serve`, its knobs, its counters and its processor time.

use crate::client::exchange;
use crate::client::url::Url;
use crate::load::server_side::{self, Sample};
use crate::sys;
use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that is running. Dropped, it is ended; it also ends with the thread that has started it.
#[derive(Debug)]
pub struct Server {
    process: Child,
    processor: usize,
    address: SocketAddr,
    admin: Url,
}

/// What the server and the kernel have counted up to one moment.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// The server's counters: names with labels, as in its metrics.
    pub server: BTreeMap<String, f64>,
    /// TCP's counters of the server's network namespace (`/proc/PID/net/{snmp,netstat}`).
    pub network: BTreeMap<String, f64>,
    /// Times that the server's processor has received packets (`NET_RX` in `/proc/softirqs`).
    pub received_here: f64,
}

impl Server {
    /// Starts `program`, which is to be `pushv serve` without arguments, on a processor.
    ///
    /// # Errors
    /// Why it does not run.
    pub fn start(
        mut program: Command,
        processor: usize,
        congestion: &str,
        arguments: &[&str],
    ) -> Result<Server, String> {
        // A heartbeat would be an event that nobody has published; a descriptor limit or a token
        // that the user has set is none of the experiment's.
        program.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--heartbeat", "off"]);
        program.args(["--log", "warn", "--tcp-congestion", congestion]);
        program.args(["--cpu", &processor.to_string()]).args(arguments);
        // Whatever else is in the environment may be no text.
        for (name, _) in std::env::vars_os() {
            if name.as_bytes().starts_with(b"PUSHV_") {
                program.env_remove(name);
            }
        }
        program.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        sys::process::end_with_parent(&mut program);
        let started = program.spawn();
        let mut process =
            started.map_err(|error| format!("the server could not be started: {error}"))?;
        let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        let mut line = |prefix: &str| {
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            let address = line.strip_prefix(prefix).map(ToOwned::to_owned);
            address.ok_or("the server did not start: see above".to_string())
        };
        let address = line("listening http://");
        let admin = line("admin http://");
        let server = |address: String, admin: String| {
            let address = address.parse().map_err(|_| format!("no address: {address}"))?;
            let admin = Url::parse(&format!("http://{admin}"))?;
            Ok::<_, String>((address, admin))
        };
        match address.and_then(|address| server(address, admin?)) {
            Ok((address, admin)) => Ok(Server { process, processor, address, admin }),
            Err(why) => {
                let _ended = process.kill();
                let _status = process.wait();
                Err(why)
            }
        }
    }

    /// Where subscribers and publishers connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin listener answers for `target`, such as `/metrics`.
    pub fn admin(&self, target: &str) -> Url {
        Url { target: target.into(), ..self.admin.clone() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// All knobs and their values.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn knobs(&self) -> Result<BTreeMap<String, String>, String> {
        let url = self.admin("/knobs");
        let json: serde_json::Value =
            serde_json::from_str(&exchange::get(&url)?).map_err(|error| error.to_string())?;
        let knobs = json.as_object().ok_or("/knobs is no object")?;
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Ok(knobs.iter().map(|(name, value)| (name.clone(), text(value))).collect())
    }

    /// Turns knobs, for one topic or for all, while connections are live.
    ///
    /// # Errors
    /// What the server has against it.
    pub fn turn_knobs(
        &self,
        topic: Option<&str>,
        knobs: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let query = topic.map(|topic| format!("?topic={topic}")).unwrap_or_default();
        let url = self.admin(&format!("/knobs{query}"));
        let values: serde_json::Map<String, serde_json::Value> = knobs
            .iter()
            .map(|(name, text)| {
                // Numbers and truth values as such, everything else as text.
                let value = serde_json::from_str(text).ok();
                let value = value.filter(|value: &serde_json::Value| !value.is_null());
                (name.clone(), value.unwrap_or_else(|| text.as_str().into()))
            })
            .collect();
        let json = serde_json::Value::Object(values).to_string();
        exchange::patch(&url, &json).map(drop).map_err(|why| format!("knobs {json}: {why}"))
    }

    /// What was counted before a block. The network's counters are read last, so that asking the
    /// server is not among them.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn counts_before(&self) -> Result<Counts, String> {
        let server = self.counters()?;
        self.with_kernels_counters(server)
    }

    /// What was counted after a block: the network's counters first.
    ///
    /// # Errors
    /// As [`Server::counts_before`].
    pub fn counts_after(&self) -> Result<Counts, String> {
        let counts = self.with_kernels_counters(BTreeMap::new())?;
        Ok(Counts { server: self.counters()?, ..counts })
    }

    fn counters(&self) -> Result<BTreeMap<String, f64>, String> {
        let server = server_side::Server {
            admin: Some(self.admin.clone()),
            ..server_side::Server::default()
        };
        let Sample { counters, .. } = server.sample()?;
        Ok(counters)
    }

    fn with_kernels_counters(&self, server: BTreeMap<String, f64>) -> Result<Counts, String> {
        let softirqs = read_to_string("/proc/softirqs").unwrap_or_default();
        let received_here = received_at(&softirqs, self.processor).unwrap_or(f64::NAN);
        Ok(Counts { server, network: self.network_counters()?, received_here })
    }

    fn network_counters(&self) -> Result<BTreeMap<String, f64>, String> {
        let mut counters = BTreeMap::new();
        for file in ["snmp", "netstat"] {
            let path = format!("/proc/{}/net/{file}", self.pid());
            let text = read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            read_network_counters(&text, &mut counters);
        }
        Ok(counters)
    }

    /// The processor time of the server, once it has nothing left to do: what it does after its
    /// last `send` is part of the price.
    ///
    /// # Errors
    /// If it has ended.
    pub fn cpu_at_rest_ns(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/stat", self.pid());
        let deadline = Instant::now() + REST_PATIENCE;
        while Instant::now() < deadline {
            // The state is the field behind the name, which may itself contain anything.
            let stat = read_to_string(&path).map_err(|error| format!("the server: {error}"))?;
            if !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('R')) {
                break;
            }
        }
        sys::trace::process_cpu_ns(self.pid())
            .map_err(|error| format!("the server's clock: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Counts {
    /// The growth of a counter of the server since `before`, all its labels together.
    pub fn server_since(&self, before: &Counts, name: &str) -> f64 {
        let sum = |counts: &Counts| -> f64 {
            let labelled = counts.server.range(name.to_owned()..);
            let labelled = labelled.take_while(|(key, _)| key.starts_with(name));
            let own =
                |key: &str| key[name.len()..].is_empty() || key[name.len()..].starts_with('{');
            labelled.filter(|(key, _)| own(key)).map(|(_, value)| value).sum()
        };
        sum(self) - sum(before)
    }

    /// The growth of one of TCP's counters since `before`; not a number, and so no value of a
    /// record, if the kernel does not count that.
    pub fn network_since(&self, before: &Counts, name: &str) -> f64 {
        let value = |counts: &Counts| counts.network.get(name).copied().unwrap_or(f64::NAN);
        value(self) - value(before)
    }
}

/// How often a processor has received packets, by the text of `/proc/softirqs`: names of processors,
/// and then a line for each sort of softirq, its counts below them.
fn received_at(softirqs: &str, processor: usize) -> Option<f64> {
    let mut lines = softirqs.lines();
    let name = format!("CPU{processor}");
    let column = lines.next()?.split_whitespace().position(|column| column == name)?;
    let counts = lines.find_map(|line| line.trim_start().strip_prefix("NET_RX:"))?;
    counts.split_whitespace().nth(column)?.parse().ok()
}

/// Adds the counters of such a file: pairs of lines, names in the first and values in the second,
/// both behind the protocol's name.
fn read_network_counters(text: &str, counters: &mut BTreeMap<String, f64>) {
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let names = pair[0].split_whitespace().skip(1);
        let values = pair[1].split_whitespace().skip(1);
        for (name, value) in names.zip(values) {
            if let Ok(value) = value.parse() {
                counters.insert(name.to_owned(), value);
            }
        }
    }
}

const REST_PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_network() {
        let mut counters = BTreeMap::new();
        let text = "Tcp: InSegs OutSegs MaxConn\nTcp: 7 12 -1\nUdp: NoPorts\nUdp: 3\n";
        read_network_counters(text, &mut counters);
        assert_eq!(
            (counters["InSegs"], counters["OutSegs"], counters["MaxConn"]),
            (7.0, 12.0, -1.0)
        );
        let counts = |network| Counts { network, ..Counts::default() };
        let (before, after) = (counts(counters.clone()), counts(counters));
        assert_eq!(after.network_since(&before, "InSegs"), 0.0);
        assert!(after.network_since(&before, "TCPNoSuch").is_nan(), "unknown is not none");
    }

    #[test]
    fn packets_received_at_a_processor() {
        let text = "          CPU0       CPU2\n  NET_TX:  4 5\n  NET_RX:  36 7\n";
        assert_eq!(received_at(text, 2), Some(7.0));
        assert_eq!(received_at(text, 1), None);
    }

    #[test]
    fn labels_are_added_up() {
        let counts = |send, writev| {
            let server = [
                ("a_total", 100.0),
                ("calls_total{call=\"send\"}", send),
                ("calls_total{call=\"writev\"}", writev),
                ("calls_totally", 5000.0),
            ];
            let server = server.map(|(name, value)| (name.to_owned(), value)).into();
            Counts { server, ..Counts::default() }
        };
        assert_eq!(counts(15.0, 7.0).server_since(&counts(10.0, 2.0), "calls_total"), 10.0);
        assert_eq!(counts(1.0, 1.0).server_since(&counts(1.0, 1.0), "none"), 0.0);
    }
}
