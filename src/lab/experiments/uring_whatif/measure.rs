//! The fan-out, measured.

use super::{NAME, NONE, SEND, URING};
use crate::lab::bare::Reader;
use crate::lab::bare::bench::{Bench, metrics};
use crate::lab::bare::fan::Way;
use crate::lab::bare::group::rounds;
use crate::lab::method::cell::{Budget, Cell, Plan, Stop};
use crate::lab::method::record::{Better, Doubt, Kind, Method, Metric, Profile, Record, Variant};
use crate::lab::run::{Group, Lab};
use std::time::Duration;

/// All cells.
#[derive(Debug)]
pub(super) struct FanOut {
    pub profile: Profile,
}

impl Group for FanOut {
    fn cells(&self) -> Vec<String> {
        self.sizes().map(|(subscribers, bytes)| self.plan(subscribers, bytes).name()).collect()
    }

    fn estimate(&self) -> Duration {
        let blocks = self.sizes().count() as u32 * 2 * (rounds(self.profile) + 1);
        BLOCK * blocks * Method::of(self.profile, 0).restarts
    }

    fn connections(&self) -> usize {
        // Both ends are in one process.
        2 * self.sizes().map(|(subscribers, _)| subscribers).max().unwrap_or(0)
    }

    fn run(&self, lab: &mut Lab<'_>) -> Result<Vec<Record>, Stop> {
        let mut cells: Vec<Cell> = self
            .sizes()
            .map(|(subscribers, bytes)| Cell::new(self.plan(subscribers, bytes)))
            .collect();
        for restart in 0..lab.method.restarts {
            let mut bench = Bench::open(lab, Reader::Nobody)?;
            if let Err(why) = bench.fan(Way::Uring, 1, 64, 16) {
                cells
                    .iter_mut()
                    .for_each(|cell| cell.doubt(Doubt::TooFew(format!("{NONE}: {why}"))));
                break;
            }
            for ((subscribers, bytes), cell) in self.sizes().zip(&mut cells) {
                let events = events(subscribers);
                lab.measure(cell, restart, &mut |variant| {
                    let way = [Way::Send, Way::Uring][variant];
                    let (fanned, noise) = bench.fan(way, subscribers, bytes, events)?;
                    let mut measured = fanned.block.measured(noise);
                    // Segments are not counted on so many connections.
                    measured.values.pop();
                    measured.values.push(Some(fanned.calls));
                    Ok(measured)
                })?;
            }
        }
        Ok(cells.into_iter().map(|cell| lab.finish(cell)).collect())
    }
}

impl FanOut {
    /// Numbers of subscribers, and bytes of an event.
    fn sizes(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (subscribers, bytes): (&[usize], &[usize]) = match self.profile {
            Profile::Smallest => (&[8], &[64]),
            Profile::Quick => (&[1, 16, 128], &[64]),
            Profile::Full => (&[1, 16, 128, 1000], &[64, 1024]),
        };
        subscribers
            .iter()
            .flat_map(|&subscribers| bytes.iter().map(move |&bytes| (subscribers, bytes)))
    }

    fn plan(&self, subscribers: usize, bytes: usize) -> Plan {
        let rounds = rounds(self.profile);
        let what = [
            (SEND, "a send(2) for each connection"),
            (URING, "one io_uring_enter(2) for up to 1024 connections"),
        ];
        let variant = |(name, what): (&str, &str)| Variant::named(name, [("what", what.into())]);
        let mut metrics = metrics();
        for metric in &mut metrics {
            metric.title = metric.title.replace("of a call", "of a delivery");
        }
        metrics.pop();
        metrics.push(Metric {
            name: "calls".into(),
            title: "system calls of a delivery".into(),
            unit: String::new(),
            kind: Kind::Count,
            better: Better::Less,
        });
        Plan {
            experiment: NAME.into(),
            factors: vec![
                ("subscribers".into(), subscribers.to_string()),
                ("bytes".into(), bytes.to_string()),
            ],
            metrics,
            variants: what.map(variant).to_vec(),
            baseline: 0,
            budget: Budget { time: Duration::ZERO, rounds_min: rounds, rounds_max: rounds },
        }
    }
}

/// About as many as a block has time for, at 5 µs for each delivery and its receipt.
fn events(subscribers: usize) -> usize {
    let deliveries = BLOCK.as_micros() as usize / 5;
    (deliveries / subscribers).clamp(16, 4000)
}

const BLOCK: Duration = Duration::from_millis(30);
