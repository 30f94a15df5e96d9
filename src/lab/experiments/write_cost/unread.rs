//! A reader that does not read: what success means, and what a full buffer looks like.

use super::NAME;
use crate::lab::bare::Reader;
use crate::lab::bare::bench::Bench;
use crate::lab::method::cell::{Budget, Cell, Measured, Plan, Stop};
use crate::lab::method::record::{Better, Kind, Method, Metric, Profile, Record, Variant, Work};
use crate::lab::run::{Group, Lab};
use std::time::Duration;

/// Fills the send buffer.
#[derive(Debug)]
pub(super) struct Unread {
    pub profile: Profile,
}

/// The value of the factor `reader` of its cell.
pub(super) const READER: &str = "does not read";

/// Names and titles of what is noted, in the order of the values.
pub(super) const FACTS: [(&str, &str); 8] = [
    ("accepted_bytes", "bytes taken by calls before the first refusal"),
    ("arrived_bytes", "of these, bytes in the receiver's kernel"),
    ("unacknowledged_bytes", "of these, bytes not acknowledged"),
    ("full_calls", "calls that took everything"),
    ("short_calls", "calls that took less"),
    ("last_bytes", "bytes that the last call took"),
    ("refused_calls", "calls refused with EAGAIN"),
    ("received_bytes", "bytes that the reader got in the end"),
];

/// Sizes of the writes.
pub(super) const PIECES_BYTES: [usize; 3] = [64, 1000, 65_536];

impl Group for Unread {
    fn cells(&self) -> Vec<String> {
        vec![self.plan().name()]
    }

    fn estimate(&self) -> Duration {
        // The kernels are given 100 ms to come to rest.
        let blocks = self.plan().variants.len() as u32 * (self.rounds() + 1);
        Duration::from_millis(110) * blocks * Method::of(self.profile, 0).restarts
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        let mut cell = Cell::new(self.plan());
        for restart in 0..lab.method.restarts {
            let mut bench = Bench::open(lab, Reader::Nobody)?;
            lab.measure(&mut cell, restart, &mut |variant| {
                let filled = bench.fill(PIECES_BYTES[variant], TOTAL_BYTES)?;
                if !filled.is_intact {
                    return Err(format!("what was received is not what was sent: {filled:?}"));
                }
                let values = [
                    filled.accepted_bytes,
                    filled.arrived_bytes,
                    filled.unacknowledged_bytes,
                    filled.full_calls,
                    filled.short_calls,
                    filled.last_bytes,
                    filled.refused_calls,
                    filled.received_bytes,
                ];
                Ok(Measured {
                    values: values.map(|value| Some(value as f64)).to_vec(),
                    work: Work {
                        events: 1,
                        bytes: filled.received_bytes,
                        checksum: format!("{:08x}", filled.checksum),
                    },
                    ..Measured::default()
                })
            })?;
        }
        Ok(vec![lab.finish(cell)])
    }
}

impl Unread {
    fn rounds(&self) -> u32 {
        if self.profile == Profile::Full { 2 } else { 1 }
    }

    fn plan(&self) -> Plan {
        let metric = |(name, title): (&str, &str)| Metric {
            name: name.into(),
            title: title.into(),
            unit: if name.ends_with("_bytes") { "B".into() } else { String::new() },
            kind: Kind::Count,
            better: Better::Neither,
        };
        let variant = |bytes: usize| {
            Variant::named(&format!("{bytes} B"), [("piece_bytes", bytes.to_string())])
        };
        let rounds = self.rounds();
        Plan {
            experiment: NAME.into(),
            factors: vec![("reader".into(), READER.into())],
            metrics: FACTS.map(metric).to_vec(),
            variants: PIECES_BYTES.map(variant).to_vec(),
            baseline: 0,
            budget: Budget { time: Duration::ZERO, rounds_min: rounds, rounds_max: rounds },
        }
    }
}

const TOTAL_BYTES: usize = 1 << 20;
