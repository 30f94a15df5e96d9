//! What the kernel does in a call, counted.

use super::NAME;
use crate::lab::bare::Reader;
use crate::lab::bare::bench::Bench;
use crate::lab::bare::call::Call;
use crate::lab::bare::tracepoints::{STATIONS, ids};
use crate::lab::method::cell::{Budget, Cell, Measured, Plan, Stop};
use crate::lab::method::record::{Better, Doubt, Kind, Metric, Record, Variant, Work};
use crate::lab::run::{Group, Lab};
use std::time::Duration;

/// Counts in calls of 64 bytes.
#[derive(Debug)]
pub(super) struct Counted(pub Reader);

/// The factor by which its cells are found; the value is the reader's state.
pub(super) const FACTOR: &str = "counted in calls of 64 bytes, reader";

impl Group for Counted {
    fn cells(&self) -> Vec<String> {
        vec![self.plan().name()]
    }

    fn estimate(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        if self.0 != Reader::Nobody && !lab.processors.are_two() {
            return Ok(Vec::new());
        }
        let mut cell = Cell::new(self.plan());
        let mut bench = Bench::open(lab, self.0)?;
        // One that may not count says so at once.
        let ids = ids().and_then(|ids| bench.count(Call::Getppid, BYTES, 2, &ids).map(|_| ids));
        match ids {
            Err(why) => cell.doubt(Doubt::Unaudited(why)),
            Ok(ids) => lab.measure(&mut cell, 0, &mut |variant| {
                let counts = bench.count(Call::ALL[variant], BYTES, CALLS, &ids)?;
                let (events, bytes) = (CALLS as u64, (CALLS * BYTES) as u64);
                let work = Work { events, bytes, checksum: String::new() };
                let values = counts.into_iter().map(Some).collect();
                Ok(Measured { values, work, ..Measured::default() })
            })?,
        }
        Ok(vec![lab.finish(cell)])
    }
}

impl Counted {
    fn plan(&self) -> Plan {
        let metric = |station: &crate::lab::bare::tracepoints::Station| Metric {
            name: station.metric.into(),
            title: station.what.into(),
            unit: String::new(),
            kind: Kind::Count,
            better: Better::Neither,
        };
        Plan {
            experiment: NAME.into(),
            factors: vec![(FACTOR.into(), self.0.name().into())],
            metrics: STATIONS.iter().map(metric).collect(),
            variants: Call::ALL
                .map(|call| Variant::named(call.name(), [("what", call.what().into())]))
                .to_vec(),
            baseline: 0,
            budget: Budget { time: Duration::ZERO, rounds_min: 3, rounds_max: 3 },
        }
    }
}

const BYTES: usize = 64;
const CALLS: usize = 32;
