//! What the kernel does in a call, counted where it passes.
//!
//! A count covers the call and nothing else: the counters stand still while what was sent is
//! fetched. They slow the call down, so no call is counted and timed.

use super::block::Around;
use crate::sys::trace::Counter;
use std::io;
use std::path::Path;

/// Counters of this thread. To open one and to close it takes the kernel some 20 ms, until no
/// processor can be at the tracepoint any more; so they are kept.
pub(super) struct Tracepoints {
    ids: Vec<u64>,
    counters: Vec<Counter>,
    /// What they showed when the counting began.
    before: Vec<u64>,
    calls: u64,
}

impl Tracepoints {
    pub fn open(ids: &[u64]) -> io::Result<Tracepoints> {
        let this_thread = 0;
        let open = |&id: &u64| Counter::open(id, this_thread);
        let counters = ids.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Tracepoints { ids: ids.to_vec(), counters, before: Vec::new(), calls: 0 })
    }

    pub fn are(&self, ids: &[u64]) -> bool {
        self.ids == ids
    }

    pub fn begin(&mut self) -> io::Result<()> {
        (self.before, self.calls) = (self.read()?, 0);
        Ok(())
    }

    pub fn per_call(&self) -> io::Result<Vec<f64>> {
        let counts = self.read()?.into_iter().zip(&self.before);
        Ok(counts.map(|(now, before)| (now - before) as f64 / self.calls.max(1) as f64).collect())
    }

    fn read(&self) -> io::Result<Vec<u64>> {
        self.counters.iter().map(Counter::read).collect()
    }
}

impl Around for Tracepoints {
    fn make(&mut self, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.calls += 1;
        self.counters.iter().try_for_each(Counter::enable)?;
        let result = call();
        self.counters.iter().try_for_each(Counter::disable)?;
        result
    }
}

/// A station of a call's way through the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// The tracepoint: its group and its name.
    pub tracepoint: &'static str,
    /// The metric that counts it.
    pub metric: &'static str,
    /// What happens there.
    pub what: &'static str,
}

/// The stations that a sceptic would ask for, in the order in which a call comes by.
pub const STATIONS: [Station; 6] = [
    Station {
        tracepoint: "net/net_dev_start_xmit",
        metric: "transmissions",
        what: "packets given to the device",
    },
    Station {
        tracepoint: "net/netif_rx",
        metric: "queued_for_receipt",
        what: "packets that loopback queues for receipt",
    },
    Station {
        tracepoint: "irq/softirq_entry",
        metric: "softirqs",
        what: "soft interrupts run within the call",
    },
    Station {
        tracepoint: "tcp/tcp_probe",
        metric: "segments_received",
        what: "segments that TCP receives within the call, acknowledgements included",
    },
    Station {
        tracepoint: "sock/sk_data_ready",
        metric: "readers_told",
        what: "readers told that there is something",
    },
    Station { tracepoint: "sched/sched_waking", metric: "wakings", what: "sleepers woken" },
];

/// The numbers of the tracepoints of all [`STATIONS`].
///
/// # Errors
/// Why there are none: not mounted, not permitted, or another kernel.
pub fn ids() -> Result<Vec<u64>, String> {
    let id = |station: &Station| {
        let path = Path::new(EVENTS).join(station.tracepoint).join("id");
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        text.trim().parse().map_err(|_| format!("{}: no number", path.display()))
    };
    STATIONS.iter().map(id).collect()
}

const EVENTS: &str = "/sys/kernel/tracing/events";
