//! One fault in front of one mode of the generator.

use crate::fault::Fault;
use crate::hub::{EVENTS, Hub, Manner, SUBSCRIBERS};
use crate::run::{self, text};
use crate::table::{Expected, TABLE};
use serde_json::Value;
use std::process::Output;
use std::sync::Mutex;
use std::thread;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Open,
    Round,
    Flood,
    Listen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Prompt,
    Nap,
    Slow,
    /// Prompt readers that leave and come back.
    Churn,
}

#[derive(Debug, Clone, Copy)]
pub struct Cell {
    fault: Fault,
    pace: Pace,
    reader: Reader,
    processes: usize,
    expected: Expected,
}

impl Cell {
    /// Every cell of this pace.
    pub fn all(pace: Pace) -> Vec<Cell> {
        let mut cells = Vec::new();
        for row in TABLE {
            for reader in [Reader::Prompt, Reader::Nap, Reader::Slow, Reader::Churn] {
                for processes in [1, 3] {
                    let expected = if pace == Pace::Listen { row.listened } else { row.published };
                    cells.push(Cell { fault: row.fault, pace, reader, processes, expected });
                }
            }
        }
        cells
    }

    /// What must come of it; the table does not know how it is read.
    fn expected(&self) -> Expected {
        match (self.pace, self.reader, self.fault) {
            (Pace::Round, Reader::Churn, _) => {
                Expected::Untried("everybody must have an event before the next is published")
            }
            (_, Reader::Churn, Fault::Endless)
            | (Pace::Listen | Pace::Round, Reader::Slow, Fault::Endless) => {
                Expected::Untried("how much of a mebibyte is read before the end depends on speed")
            }
            _ => self.expected,
        }
    }

    /// How long the generator waits for what does not come: long enough for whatever will, unless it
    /// does not come in every such cell.
    fn grace(&self) -> &'static str {
        use Fault::*;
        let never_comes = match self.fault {
            DropLast | DropAll | Stall | StallPublish | EndAndRefuse | CloseAtOnce => true,
            // A round waits for the event that was dropped.
            Drop | Swap | Alter | Shorten | RefusePublish => self.pace == Pace::Round,
            // Nor is anything published that was pipelined behind it.
            ClosePublish | GarbleAnswer => self.pace != Pace::Open,
            fault => self.pace == Pace::Round && fault.notice().is_some(),
        };
        match self.fault {
            // Until every subscriber has found nobody there.
            Vanish => "3s",
            _ if never_comes => "1500ms",
            _ => "20s",
        }
    }

    fn run(&self, hub: &Hub) -> Output {
        let publish = match self.fault {
            Fault::CloseAtOnce => hub.closing_url(),
            _ => "self".into(),
        };
        let events = EVENTS.to_string();
        let publishing = ["--publish", &publish, "--events", &events];
        let mut arguments: Vec<&str> = match self.pace {
            Pace::Open => [&publishing[..], &["--rate", "100"]].concat(),
            Pace::Round => [&publishing[..], &["--round"]].concat(),
            Pace::Flood => [&publishing[..], &["--flood"]].concat(),
            Pace::Listen => Vec::new(),
        };
        arguments.extend(match self.reader {
            Reader::Prompt => &[][..],
            Reader::Nap => &["--reader", "nap:10"],
            Reader::Slow => &["--reader", "slow:5000"],
            Reader::Churn => &["--churn", "30"],
        });
        // Those that publish end with the last event.
        let endless = self.pace != Pace::Listen && self.fault != Fault::CloseAtOnce;
        let duration = if endless { "60s" } else { "150ms" };
        let (count, processes) = (SUBSCRIBERS.to_string(), self.processes.to_string());
        arguments.extend(["-n", &count, "--processes", &processes, "--duration", duration]);
        arguments.extend(["--grace", self.grace(), "--connect-timeout", "60s", "--json"]);
        run::load(&hub.url(), &arguments).output().unwrap()
    }

    /// Runs it; gives what is wrong.
    fn check(&self) -> Option<String> {
        let expected = self.expected();
        if let (Expected::Untried(_), Pace::Round, Reader::Churn) =
            (expected, self.pace, self.reader)
        {
            let hub = Hub::start(Fault::None, Manner::default());
            let output = self.run(&hub);
            let said = text(&output.stderr);
            let right = output.status.code() == Some(2) && said.contains("round: ");
            return (!right).then(|| format!("{self:?}: {said}"));
        }
        if let Expected::Untried(_) = expected {
            return None;
        }
        // Those that leave by themselves may not see what was done to their connection.
        let times = if self.reader == Reader::Churn { 4 * SUBSCRIBERS } else { SUBSCRIBERS };
        let listened = self.pace == Pace::Listen;
        let hub = Hub::start(self.fault, Manner { listened, times, ..Manner::default() });
        let output = self.run(&hub);
        let status = output.status.code();
        if let Expected::Unreported(part) = expected {
            let said = text(&output.stderr);
            let right = status == Some(1) && output.stdout.is_empty() && said.contains(part);
            return (!right).then(|| format!("{self:?}: {said}"));
        }
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let wrong = self.judge(expected, status, &report).or_else(|| {
            // One at once, and then with longer and longer pauses.
            let storm = hub.publishers() > 5;
            storm.then(|| format!("{} connections", hub.publishers()))
        })?;
        let said = text(&output.stderr);
        Some(format!("{self:?}: {wrong}, exit status {status:?}: {report:#} {said}"))
    }

    fn judge(&self, expected: Expected, status: Option<i32>, report: &Value) -> Option<String> {
        let (verdict, right_status, offences) = match expected {
            Expected::Ok => ("ok", 0, &[][..]),
            Expected::Offences(offences) => ("offences", 1, offences),
            Expected::Incomplete => ("incomplete", 1, &[][..]),
            Expected::ServerGone => ("server gone", 1, &[][..]),
            Expected::Unreported(_) | Expected::Untried(_) => {
                unreachable!("judged without a report")
            }
        };
        if report["verdict"] != verdict || status != Some(right_status) {
            return Some(format!("not {verdict:?}"));
        }
        if expected == Expected::Ok || matches!(expected, Expected::Offences(_)) {
            let kinds = report["offences"].as_object().unwrap();
            return kinds.iter().find_map(|(kind, count)| {
                let each = offences.iter().find(|(name, _)| name == kind).map_or(0, |it| it.1);
                let count = count.as_u64().unwrap();
                let right = match self.is_exact() {
                    true => count == each * SUBSCRIBERS as u64,
                    // Whoever was away, or was spared, saw less of it.
                    false => (count > 0) == (each > 0) || self.sees_twice(kind),
                };
                (!right).then(|| format!("{count} {kind}, {each} for each subscriber"))
            });
        }
        None
    }

    fn is_exact(&self) -> bool {
        self.pace != Pace::Listen && self.reader != Reader::Churn
    }

    /// A reader that comes back between events that were swapped gets one of them again.
    fn sees_twice(&self, kind: &str) -> bool {
        self.fault == Fault::Swap && kind == "repeated"
    }
}

/// Runs cells, several at a time, since they wait for most of their time.
pub fn check(cells: &[Cell]) {
    let (next, wrong) = (Mutex::new(cells.iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(cell) = next.lock().unwrap().next() else { return };
                    let seen = cell.check();
                    wrong.lock().unwrap().extend(seen);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
}

const AT_ONCE: usize = 16;
