//! Whether a run shows that the server can go on for ever: criteria, and what was found.

use super::record::{End, Load, Run};
use super::sample::Sample;
use super::trend::{Trend, median};

/// A criterion, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub criterion: &'static str,
    /// What was demanded.
    pub demand: String,
    /// What was found.
    pub found: String,
    /// Whether that is as demanded.
    pub passed: bool,
}

impl Run {
    /// All criteria.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![self.memory(), self.descriptors(), self.nothing_is_left()];
        findings.push(self.doings());
        findings.extend([self.held(), self.events(), self.gaps(), self.slow(), self.acceptance()]);
        findings.extend([self.closes(), self.probes(), self.latency(), self.ending()]);
        findings
    }

    fn memory(&self) -> Finding {
        let steady = self.steady();
        let points: Vec<(f64, f64)> =
            steady.iter().map(|sample| (sample.t_s as f64, sample.resident_bytes as f64)).collect();
        let mut sizes: Vec<f64> = points.iter().map(|point| point.1).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        let Some(trend) = Trend::of_blocks(&points) else {
            return Finding::too_short("resident memory");
        };
        let window_s = points[points.len() - 1].0 - points[0].0;
        let usual = median(&sizes);
        let allowed = (usual * GROWTH_MAX).max(GROWTH_BYTES_MAX);
        let kib = |bytes: f64| bytes / 1024.0;
        Finding {
            criterion: "resident memory",
            demand: format!(
                "with 97.5 % confidence it grows by less than {:.0} KiB in the {:.0} minutes after \
                 the warm-up",
                kib(allowed),
                window_s / 60.0
            ),
            found: format!(
                "{:+.0} KiB, 95 % interval {:+.0} to {:+.0}, of {:.0} KiB ({} blocks)",
                kib(trend.slope * window_s),
                kib(trend.low * window_s),
                kib(trend.high * window_s),
                kib(usual),
                trend.points
            ),
            passed: trend.high * window_s <= allowed,
        }
    }

    /// Descriptors that are no connections: sampled a moment apart, so one more or less is nothing.
    fn descriptors(&self) -> Finding {
        let others = |samples: &[Sample]| {
            let others = samples.iter().map(|one| one.descriptors as f64 - one.connections as f64);
            let mut others: Vec<f64> = others.collect();
            others.sort_unstable_by(f64::total_cmp);
            median(&others)
        };
        let count = self.samples.len();
        if count < 2 * IDLE_SAMPLES {
            return Finding::too_short("descriptors");
        }
        let before = others(&self.samples[..IDLE_SAMPLES]);
        let after = others(&self.samples[count - IDLE_SAMPLES..]);
        let quarters: Vec<f64> =
            self.quarters().iter().map(|quarter| quarter.other_descriptors).collect();
        let spread = quarters.iter().fold(0f64, |most, one| most.max((one - quarters[0]).abs()));
        Finding {
            criterion: "descriptors that are no connections",
            demand: "as many after the load as before it, and in each quarter, within 1".into(),
            found: format!("{before} before, {after} after, quarters within {spread}"),
            passed: (after - before).abs() <= 1.0 && spread <= 1.0,
        }
    }

    fn nothing_is_left(&self) -> Finding {
        let Some(last) = self.samples.last() else { return Finding::too_short("after the load") };
        Finding {
            criterion: "after the load",
            demand: "no connection but the probe's, none blocked, no private bytes".into(),
            found: format!(
                "{} connections, {} blocked, {} private bytes",
                last.connections, last.blocked, last.private_bytes
            ),
            passed: last.connections <= PROBE_CONNECTIONS
                && last.blocked == 0
                && last.private_bytes <= PROBE_BYTES_MAX,
        }
    }

    /// A driver of the script that has died would let the rest of the run pass.
    fn doings(&self) -> Finding {
        let minutes = self.samples.last().map_or(0, |last| last.t_s / 60);
        let End { knobs, reloads, stopped, unread, .. } = self.end;
        Finding {
            criterion: "what was done",
            demand: "a knob turned each minute; every two minutes a reload, readers that are \
                     stopped, readers that never read"
                .into(),
            found: format!(
                "{knobs} knobs, {reloads} reloads, {stopped} times 20 readers stopped and killed, \
                 {unread} times 20 that never read, in {minutes} minutes"
            ),
            passed: knobs >= minutes.max(1)
                && [reloads, stopped, unread].iter().all(|&count| count >= minutes / 2),
        }
    }

    fn held(&self) -> Finding {
        let most = self.samples.iter().map(|sample| sample.connections).max().unwrap_or(0);
        let holds = self.loads.iter().filter(|(_, load)| load.connections.wanted >= self.end.held);
        let holds: Vec<&Load> = holds.map(|(_, load)| load).collect();
        let whole = holds.iter().filter(|load| load.connections.open == load.connections.wanted);
        Finding {
            criterion: "connections at once",
            demand: format!("{}, each phase with all of them", self.end.held),
            found: format!("{most}; {} of {} phases whole", whole.clone().count(), holds.len()),
            passed: most >= self.end.held && !holds.is_empty() && whole.count() == holds.len(),
        }
    }

    fn events(&self) -> Finding {
        let bad = |(_, load): &&(String, Load)| load.offences.count() > 0 || load.verdict != "ok";
        let wrong: Vec<String> = self
            .loads
            .iter()
            .filter(bad)
            .map(|(name, load)| {
                let first = load.first_offence.as_deref().unwrap_or("no offence");
                format!("{name}: {}, {} offences: {first}", load.verdict, load.offences.count())
            })
            .collect();
        let count: u64 = self.loads.iter().map(|(_, load)| load.deliveries.count).sum();
        let came_back: u64 = self.loads.iter().map(|(_, load)| load.connections.reconnected).sum();
        Finding {
            criterion: "events of every reader",
            demand: "none missing, repeated, out of order or altered, through every resume".into(),
            found: match wrong.is_empty() {
                true => format!("{count} checked, over {came_back} resumes: none wrong"),
                false => wrong.join("; "),
            },
            passed: wrong.is_empty() && count > 0,
        }
    }

    fn gaps(&self) -> Finding {
        let prompt = self.loads.iter().filter(|(_, load)| load.reader == "prompt");
        let gaps: u64 = prompt.map(|(_, load)| load.deliveries.gaps).sum();
        Finding {
            criterion: "gaps of prompt readers",
            demand: "none".into(),
            found: gaps.to_string(),
            passed: gaps == 0,
        }
    }

    fn slow(&self) -> Finding {
        let slow = self.loads.iter().filter(|(_, load)| load.reader.starts_with("slow"));
        let slow = slow.map(|(_, load)| &load.deliveries);
        let (gaps, lost) =
            slow.fold((0, 0), |(gaps, lost), one| (gaps + one.gaps, lost + one.told_lost));
        let quarters = self.quarters();
        let with_gaps = quarters.iter().filter(|quarter| quarter.gaps > 0).count();
        Finding {
            criterion: "gaps of slow readers",
            demand: "some in each quarter: what they lose they are told".into(),
            found: format!(
                "{gaps} notices of {lost} events, in {with_gaps} of {} quarters",
                quarters.len()
            ),
            passed: gaps > 0 && with_gaps == 4,
        }
    }

    fn acceptance(&self) -> Finding {
        let last = self.samples.last().cloned().unwrap_or_default();
        Finding {
            criterion: "connections not accepted",
            demand: "none".into(),
            found: format!("{} of {}", last.not_accepted, last.accepted),
            passed: last.not_accepted == 0,
        }
    }

    fn closes(&self) -> Finding {
        let closes = self.samples.last().map(|last| last.closes.clone()).unwrap_or_default();
        let count = |reason: &str| closes.get(reason).copied().unwrap_or(0);
        let listed: Vec<String> =
            closes.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        Finding {
            criterion: "how connections ended",
            demand: "dead readers as stalled; none cut or by an error of a socket".into(),
            found: listed.join(", "),
            passed: count("stalled") > 0 && count("socket_error") == 0 && count("cut") == 0,
        }
    }

    fn probes(&self) -> Finding {
        let last = self.samples.last().cloned().unwrap_or_default();
        Finding {
            criterion: "probes",
            demand: "each accepted and received".into(),
            found: format!(
                "{} sent, {} received, {} refused",
                last.probes_sent, last.probes_received, last.probes_refused
            ),
            // One may be on its way at the moment of the sample.
            passed: last.probes_sent > 0
                && last.probes_sent.abs_diff(last.probes_received) <= 1
                && last.probes_refused == 0,
        }
    }

    fn latency(&self) -> Finding {
        let quarters = self.quarters();
        if quarters.len() < 4 {
            return Finding::too_short("latency of probes, p99");
        }
        let first = quarters[0].p99_us;
        let allowed = (first * LATENCY_GROWTH_MAX).max(LATENCY_US_MAX);
        let last = quarters[3].p99_us;
        Finding {
            criterion: "latency of probes, p99",
            demand: format!("at most {:.1} ms in the last quarter", allowed / 1000.0),
            found: format!("{:.2} ms, after {:.2} ms in the first", last / 1000.0, first / 1000.0),
            passed: last <= allowed,
        }
    }

    fn ending(&self) -> Finding {
        let end = &self.end;
        Finding {
            criterion: "its end",
            demand: "it drains, status 0, no error in its log".into(),
            found: format!("status {}, {} errors in its log", end.exit_status, end.log_errors),
            passed: end.exit_status == 0 && end.log_errors == 0,
        }
    }
}

impl Finding {
    fn too_short(criterion: &'static str) -> Finding {
        let found = "the run was too short to say".into();
        Finding { criterion, demand: "enough samples".into(), found, passed: false }
    }
}

/// Samples before the load, and after it.
pub const IDLE_SAMPLES: usize = 3;
/// What a probe holds: its stream, and a request under way.
const PROBE_CONNECTIONS: u64 = 2;
const PROBE_BYTES_MAX: u64 = 1024;
/// Growth of resident memory that is no leak: a page here and there.
const GROWTH_MAX: f64 = 0.02;
const GROWTH_BYTES_MAX: f64 = 512.0 * 1024.0;
/// The machine may be shared; what is looked for is a trend.
const LATENCY_GROWTH_MAX: f64 = 3.0;
const LATENCY_US_MAX: f64 = 20_000.0;

#[cfg(test)]
mod tests {
    use super::super::record::{Deliveries, Streams};
    use super::*;

    /// A run of an hour in which nothing is wrong.
    fn good() -> Run {
        let samples = (0..366u64).map(|nth| {
            let connections = match nth {
                ..3 | 363.. => 1,
                100..110 => 15_400,
                _ => 400 + nth % 7,
            };
            Sample {
                t_s: nth * 10,
                connections,
                descriptors: connections + 9 + u64::from(nth % 10 == 3),
                resident_bytes: 12_000_000 + nth * 7919 % 60_000,
                gaps: nth,
                closes: [("stalled".into(), 3), ("peer_left".into(), 999)].into(),
                probes_sent: nth * 100,
                probes_received: nth * 100,
                probe_p50_us: 500,
                probe_p99_us: 2_000 + nth * 7919 % 1000,
                probe_max_us: 9_000,
                ..Sample::default()
            }
        });
        let load = |reader: &str, streams, gaps| Load {
            reader: reader.into(),
            verdict: "ok".into(),
            connections: Streams { wanted: streams, open: streams, reconnected: 7 },
            deliveries: Deliveries { count: 1000, gaps, told_lost: gaps },
            ..Load::default()
        };
        Run {
            samples: samples.collect(),
            loads: vec![
                ("steady".into(), load("prompt", 200, 0)),
                ("slow".into(), load("slow:20000", 30, 5)),
                ("hold-1".into(), load("prompt", 15_000, 0)),
            ],
            end: End {
                held: 15_000,
                knobs: 700,
                reloads: 80,
                stopped: 100,
                unread: 90,
                ..End::default()
            },
        }
    }

    #[track_caller]
    fn fails(spoil: impl Fn(&mut Run), criterion: &str) {
        let mut run = good();
        spoil(&mut run);
        let failed: Vec<&str> =
            run.findings().iter().filter(|one| !one.passed).map(|one| one.criterion).collect();
        assert_eq!(failed, [criterion], "\n{run}");
    }

    #[test]
    fn a_good_run_passes() {
        let run = good();
        assert!(run.findings().iter().all(|finding| finding.passed), "\n{run}");
    }

    /// 200 bytes a second: three quarters of a megabyte in an hour, in noise of 60 kB.
    #[test]
    fn a_leak_of_memory_is_seen() {
        fails(
            |run| run.samples.iter_mut().for_each(|one| one.resident_bytes += one.t_s * 260),
            "resident memory",
        );
    }

    #[test]
    fn a_leak_of_descriptors_is_seen() {
        let leak = |run: &mut Run| {
            run.samples.iter_mut().for_each(|one| one.descriptors += one.t_s / 1200);
        };
        fails(leak, "descriptors that are no connections");
    }

    #[test]
    fn whatever_else_is_wrong_is_seen() {
        let spoil_last = |spoil: fn(&mut Sample)| {
            move |run: &mut Run| run.samples.last_mut().into_iter().for_each(spoil)
        };
        let forgotten = spoil_last(|last| (last.connections, last.descriptors) = (5, 14));
        fails(forgotten, "after the load");
        fails(spoil_last(|last| last.blocked = 1), "after the load");
        fails(spoil_last(|last| last.not_accepted = 1), "connections not accepted");
        fails(spoil_last(|last| last.probes_received -= 2), "probes");
        fails(spoil_last(|last| last.probes_refused = 1), "probes");
        fails(spoil_last(|last| last.closes.clear()), "how connections ended");
        let cut = spoil_last(|last| *last.closes.entry("cut".into()).or_default() = 1);
        fails(cut, "how connections ended");
        let of =
            |run: &mut Run, name: &str| run.loads.iter().position(|load| load.0 == name).unwrap();
        let missing = |run: &mut Run| {
            let at = of(run, "steady");
            run.loads[at].1.offences.missing = 1;
        };
        fails(missing, "events of every reader");
        let refused = |run: &mut Run| {
            let at = of(run, "slow");
            run.loads[at].1.verdict = "incomplete".into();
        };
        fails(refused, "events of every reader");
        let gap = |run: &mut Run| {
            let at = of(run, "steady");
            run.loads[at].1.deliveries.gaps = 1;
        };
        fails(gap, "gaps of prompt readers");
        let silent = |run: &mut Run| {
            let at = of(run, "slow");
            run.loads[at].1.deliveries.gaps = 0;
        };
        fails(silent, "gaps of slow readers");
        let stuck = |run: &mut Run| {
            run.samples.iter_mut().for_each(|one| one.gaps = one.gaps.min(200));
        };
        fails(stuck, "gaps of slow readers");
        fails(|run| run.end.unread = 1, "what was done");
        let partly = |run: &mut Run| {
            let at = of(run, "hold-1");
            run.loads[at].1.connections.open = 14_999;
        };
        fails(partly, "connections at once");
        let slower = |run: &mut Run| {
            run.samples.iter_mut().for_each(|one| one.probe_p99_us += one.t_s * one.t_s / 100);
        };
        fails(slower, "latency of probes, p99");
        fails(|run| run.end.exit_status = 1, "its end");
        fails(|run| run.end.log_errors = 1, "its end");
    }

    #[test]
    fn a_run_without_samples_passes_nothing_that_needs_them() {
        let run = Run { samples: Vec::new(), ..good() };
        assert!(run.findings().iter().filter(|finding| !finding.passed).count() >= 6);
    }
}
