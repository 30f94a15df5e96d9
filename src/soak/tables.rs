//! A run as tables: its page.

use super::judge::Finding;
use super::record::Run;
use std::fmt::{self, Write as _};

/// The tables of a run, in Markdown: findings, quarters, loads.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| criterion | demanded | found | |\n|---|---|---|---|\n")?;
        for Finding { criterion, demand, found, passed } in self.findings() {
            let verdict = if passed { "pass" } else { "**fail**" };
            writeln!(f, "| {criterion} | {demand} | {found} | {verdict} |")?;
        }
        f.write_str(
            "\nThe steady samples after the warm-up, by quarter: medians, and the slowest probe.\n\n\
             | until | resident | kernel's TCP memory, whole machine | server's CPU | machine's load \
             | probe p50 | p99 | slowest |\n|---|---|---|---|---|---|---|---|\n",
        )?;
        for quarter in self.quarters() {
            writeln!(
                f,
                "| {} min | {:.0} KiB | {:.0} KiB | {:.1} % | {:.1} | {:.2} ms | {:.2} ms | {:.1} ms |",
                quarter.until_s / 60,
                quarter.resident_bytes / 1024.0,
                quarter.tcp_bytes / 1024.0,
                quarter.cpu_share * 100.0,
                quarter.machine_load,
                quarter.p50_us / 1000.0,
                quarter.p99_us / 1000.0,
                quarter.worst_us as f64 / 1000.0,
            )?;
        }
        f.write_str(
            "\n| load | reader | streams | resumes | deliveries | gap notices | verdict |\n\
             |---|---|---|---|---|---|---|\n",
        )?;
        for (name, load) in &self.loads {
            let mut row = format!("| {name} | {} ", load.reader);
            write!(row, "| {} | {} ", load.connections.open, load.connections.reconnected)?;
            write!(
                row,
                "| {} | {} | {} |",
                load.deliveries.count, load.deliveries.gaps, load.verdict
            )?;
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}
