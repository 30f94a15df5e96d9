//! The side that gives the orders, and makes blocks of the answers.

use super::block::{Block, Task};
use super::call::Call;
#[cfg(feature = "uring")]
use super::fan::{Fanned, Way};
use super::fill::Filled;
pub use super::peer::SUBCOMMAND;
use super::{Answer, Opened, Order, Reader};
use crate::lab::method::cell::Measured;
use crate::lab::method::noise::Ledger;
use crate::lab::method::record::{Better, Kind, Metric, Noise, Work};
use crate::lab::rig::child::Child;
use crate::lab::run::{Lab, Processors};
use std::process::Command;

/// A process that measures, and the process of its reader if that is to be one of its own.
#[derive(Debug)]
pub struct Bench {
    child: Child<Order, Answer>,
    reader: Reader,
    /// What it knows of itself.
    pub opened: Opened,
}

impl Bench {
    /// Starts it in the laboratory.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn open(lab: &Lab<'_>, reader: Reader) -> Result<Bench, String> {
        Bench::start(lab.command(SUBCOMMAND), lab.processors, reader)
    }

    /// Starts it by `command`, which is to call [`run`](super::run) with its standard input.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn start(
        command: Command,
        processors: Processors,
        reader: Reader,
    ) -> Result<Bench, String> {
        let mut child = Child::spawn(command)?;
        let Processors { subject, other } = processors;
        let order = Order::Open { reader, processor: subject, reader_processor: other };
        match child.ask(&order)? {
            Answer::Opened(opened) => Ok(Bench { child, reader, opened }),
            other => Err(unexpected(&other)),
        }
    }

    /// Measures a block, and what disturbs it. That everything has arrived was checked.
    ///
    /// # Errors
    /// What went wrong: a call that did not take everything, or something that did not arrive.
    pub fn measure(&mut self, task: Task) -> Result<(Block, Noise), String> {
        // A sleeper that is woken is ready to run until its processor has come to itself. That is
        // no disturbance, but what is measured.
        let reader = self.opened.reader_pid.filter(|_| self.reader == Reader::Spinning);
        let pids: Vec<u32> = [self.child.pid()].into_iter().chain(reader).collect();
        let ledger = Ledger::start(&pids);
        let answer = self.child.ask(&Order::Measure(task))?;
        let noise = ledger.stop();
        match answer {
            Answer::Block(block) => Ok((*block, noise)),
            other => Err(unexpected(&other)),
        }
    }

    /// Counts how often tracepoints are passed in a call, of so many calls.
    ///
    /// # Errors
    /// What went wrong; mostly, that it is not permitted.
    pub fn count(
        &mut self,
        call: Call,
        piece_bytes: usize,
        calls: usize,
        tracepoints: &[u64],
    ) -> Result<Vec<f64>, String> {
        let tracepoints = tracepoints.to_vec();
        match self.child.ask(&Order::Count { call, piece_bytes, calls, tracepoints })? {
            Answer::Counted(counts) => Ok(counts),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends so many events to so many connections.
    ///
    /// # Errors
    /// What went wrong; without `io_uring`, that there is none.
    #[cfg(feature = "uring")]
    pub fn fan(
        &mut self,
        way: Way,
        subscribers: usize,
        bytes: usize,
        events: usize,
    ) -> Result<(Fanned, Noise), String> {
        let ledger = Ledger::start(&[self.child.pid()]);
        let answer = self.child.ask(&Order::Fan { way, subscribers, bytes, events })?;
        let noise = ledger.stop();
        match answer {
            Answer::Fanned(fanned) => Ok((*fanned, noise)),
            other => Err(unexpected(&other)),
        }
    }

    /// Fills a connection whose reader does not read.
    ///
    /// # Errors
    /// What went wrong.
    pub fn fill(&mut self, piece_bytes: usize, total_bytes: usize) -> Result<Filled, String> {
        match self.child.ask(&Order::Fill { piece_bytes, total_bytes })? {
            Answer::Filled(filled) => Ok(filled),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &Answer) -> String {
    format!("an answer to another question: {answer:?}")
}

/// What a [`Block`] says of each call.
pub fn metrics() -> Vec<Metric> {
    let time = |name: &str, title: &str| Metric {
        name: name.into(),
        title: title.into(),
        unit: "ns".into(),
        kind: Kind::Time,
        better: Better::Less,
    };
    let segments = Metric {
        name: "segments".into(),
        title: "segments sent".into(),
        unit: String::new(),
        kind: Kind::Count,
        better: Better::Neither,
    };
    vec![
        time(MEDIAN_NS, "time of a call, median"),
        time("mean_ns", "time of a call, mean"),
        time(CPU_NS, "processor time of a call, its clock included"),
        segments,
    ]
}

/// The metric that tells processor time.
pub const CPU_NS: &str = "cpu_ns";

/// The metric that is judged by, and of which each call is a value.
pub const MEDIAN_NS: &str = "median_ns";

impl Block {
    /// As a block of a record with those [`metrics`].
    pub fn measured(self, noise: Noise) -> Measured {
        let values = [self.median_ns, self.mean_ns, self.cpu_ns, self.segments];
        Measured {
            values: values.map(Some).to_vec(),
            work: Work {
                events: self.events,
                bytes: self.reading.bytes,
                checksum: format!("{:08x}", self.reading.checksum),
            },
            noise,
            distributions: vec![(MEDIAN_NS, self.ns)],
        }
    }
}
