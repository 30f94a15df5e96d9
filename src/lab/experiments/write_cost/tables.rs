//! The figures of a call.

use super::{counted, median_ns, said, unread};
use crate::lab::bare::Reader;
use crate::lab::bare::bench::MEDIAN_NS;
use crate::lab::bare::call::Call;
use crate::lab::bare::tracepoints::STATIONS;
use crate::lab::method::analysis::Study;
use crate::lab::report::figure::Table;
use crate::lab::report::number::{interval, with_unit};
use crate::lab::report::standard::metric_table;

pub(super) fn tables(study: &Study) -> Vec<Table> {
    let metrics = [
        (MEDIAN_NS, "Time of a call"),
        ("mean_ns", "Mean time of a call"),
        ("cpu_ns", "Processor time of a call"),
        ("segments", "Segments sent per piece"),
    ];
    let of_metrics =
        metrics.iter().filter_map(|(metric, title)| metric_table(study, metric, title));
    let mut tables: Vec<Table> = of_metrics.map(without_blanks).collect();
    tables
        .extend([spread(study), parts(study), stations(study), facts(study)].into_iter().flatten());
    tables
}

/// Leaves out rows and columns in which nothing was measured.
pub(in crate::lab::experiments) fn without_blanks(mut table: Table) -> Table {
    let is_blank = |cell: &String| cell == "–";
    table.rows.retain(|row| !row[1..].iter().all(is_blank));
    let kept: Vec<usize> = (0..table.columns.len())
        .filter(|&column| !table.rows.iter().all(|row| is_blank(&row[column])))
        .collect();
    let keep = |row: &Vec<String>| kept.iter().map(|&column| row[column].clone()).collect();
    table.rows = table.rows.iter().map(&keep).collect();
    table.columns = keep(&table.columns);
    table
}

/// What a ± could stand for.
fn spread(study: &Study) -> Option<Table> {
    let rows = study.records.iter().enumerate().filter_map(|(place, record)| {
        let summary = study.summary_named(place, Call::Write.name(), MEDIAN_NS)?;
        Some(vec![
            record.cell.clone(),
            with_unit(summary.median, "ns"),
            summary.interval.map_or("–".into(), |it| interval(&it, "ns")),
            format!("{} – {}", with_unit(summary.q1, "ns"), with_unit(summary.q3, "ns")),
            summary.n.to_string(),
        ])
    });
    let rows: Vec<Vec<String>> = rows.collect();
    (!rows.is_empty()).then(|| Table {
        title: "write(2), with what a ± could stand for".into(),
        columns: ["cell", "median", "interval of the median", "quartiles", "blocks"]
            .map(Into::into)
            .to_vec(),
        rows,
        note: "The median and the quartiles are those of the blocks' medians.".into(),
    })
}

/// Where the time of 64 bytes goes, by difference.
fn parts(study: &Study) -> Option<Table> {
    let nobody = |call| median_ns(study, Reader::Nobody, 64, call);
    let (entry, held, whole) = (nobody(Call::Getppid)?, nobody(Call::More)?, nobody(Call::Write)?);
    let row = |what: &str, ns: f64| {
        vec![what.into(), with_unit(ns, "ns"), format!("{:.0} %", 100.0 * ns / whole)]
    };
    let mut rows = vec![
        row("entering the kernel and leaving it: getppid", entry),
        row("lock, copy, queue: MSG_MORE less getppid", held - entry),
        row("transmit, receive, acknowledge: write less MSG_MORE", whole - held),
        row("together: a write of 64 B with nobody reading", whole),
    ];
    for reader in [Reader::Asleep, Reader::Spinning] {
        if let Some(ns) = median_ns(study, reader, 64, Call::Write) {
            rows.push(row(&format!("in addition, with {}", said(reader)), ns - whole));
        }
    }
    Some(Table {
        title: "Where the time of a write of 64 bytes goes".into(),
        columns: ["part", "time", "of a write"].map(Into::into).to_vec(),
        rows,
        note: "Differences of medians, without intervals: a sketch. The clock is part of each \
               figure, and drops out of the differences."
            .into(),
    })
}

fn stations(study: &Study) -> Option<Table> {
    let mut rows = Vec::new();
    for reader in Reader::ALL {
        let Some(place) = study.find(&[(counted::FACTOR, reader.name())]) else { continue };
        for station in STATIONS {
            let counts = Call::ALL.map(|call| {
                let count = study.summary_named(place, call.name(), station.metric);
                count.map_or("–".into(), |count| format!("{:.2}", count.median))
            });
            let what = format!("{} ({}), {}", station.what, station.tracepoint, said(reader));
            rows.push(std::iter::once(what).chain(counts).collect());
        }
    }
    let columns = std::iter::once("per call of 64 bytes").chain(Call::ALL.map(Call::name));
    let table = without_blanks(Table {
        title: "What the kernel does in a call".into(),
        columns: columns.map(Into::into).collect(),
        rows,
        note: "Counted by the kernel's tracepoints within the call alone, in runs that were not \
               timed."
            .into(),
    });
    (!table.rows.is_empty()).then_some(table)
}

fn facts(study: &Study) -> Option<Table> {
    let place = study.find(&[("reader", unread::READER)])?;
    let variants = &study.records[place].variants;
    let row = |(metric, title): &(&str, &str)| {
        let values = variants.iter().map(|variant| {
            let value = study.summary_named(place, &variant.name, metric);
            value.map_or("–".into(), |value| format!("{:.0}", value.median))
        });
        std::iter::once((*title).to_string()).chain(values).collect()
    };
    let columns = variants.iter().map(|variant| format!("writes of {}", variant.name));
    Some(Table {
        title: "A reader that does not read".into(),
        columns: std::iter::once("what was seen".into()).chain(columns).collect(),
        rows: unread::FACTS.iter().map(row).collect(),
        note: "Medians of the runs. SO_SNDBUF and SO_RCVBUF are 64 KiB, which the kernel doubles \
               and of which it charges its own bookkeeping as well. Nobody has read a byte until \
               the first refusal."
            .into(),
    })
}
