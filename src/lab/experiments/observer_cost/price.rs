//! Prices: what a way of looking on costs more than the same without it.

use super::columns::{ANSWERS, LOOKS, STAMPS};
use super::{
    BURST, BURSTS_PER_S, CONNECTIONS, CPU, LIVE, LOOKS_1_S, LOOKS_20_MS, METRICS, REGARDS, Regard,
    STAMPED_BEFORE, SUBSCRIBERS,
};
use crate::lab::method::analysis::Study;
use crate::lab::method::stats::Interval;
use crate::lab::report::figure::{Axis, Figure, Series, Table};
use crate::lab::report::number;

/// What one way costs in one cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Price {
    /// Processor time as a part of what it is without: the median of the rounds' ratios.
    pub ratio: Interval,
    /// Nanoseconds of processor time per second that it takes more; it may be less than nothing.
    pub per_s_ns: Interval,
    /// The same for each look, stamped call or answer, if there were any.
    pub each_ns: Option<Interval>,
}

impl Price {
    /// By the names of the row; nothing without an interval.
    pub fn of(study: &Study, place: usize, name: &str) -> Option<Price> {
        let regard = regard(name).filter(|regard| regard.name != regard.beside)?;
        let ratio = study.ratio(place, name, regard.beside, CPU.name())?;
        let without = study.summary_named(place, regard.beside, CPU.name())?.median;
        let events_per_s = events_per_s(study, place)?;
        let per_s_ns = ratio.map(|ratio| (ratio - 1.0) * without * events_per_s);
        let times_per_s = times_per_s(study, place, regard).filter(|times| *times > 0.0);
        let each_ns = times_per_s.map(|times| per_s_ns.map(|ns| ns / times));
        Some(Price { ratio, per_s_ns, each_ns })
    }

    /// As a part of a processor.
    pub fn share(&self) -> Interval {
        self.per_s_ns.map(|ns| ns / 1e9)
    }
}

fn regard(name: &str) -> Option<&'static Regard> {
    REGARDS.iter().find(|regard| regard.name == name)
}

/// What a thing of this row is called, if it has things.
pub(super) fn each(name: &str) -> Option<&'static str> {
    match name {
        LOOKS_1_S | LOOKS_20_MS => Some("look"),
        LIVE => Some("event"),
        METRICS | CONNECTIONS => Some("answer"),
        _ if regard(name)?.timestamp_one_in > 0 => Some("stamped flush"),
        _ => None,
    }
}

/// Deliveries per second, by the schedule.
fn events_per_s(study: &Study, place: usize) -> Option<f64> {
    let record = study.records.get(place)?;
    Some(record.number(SUBSCRIBERS)? * record.number(BURST)? * BURSTS_PER_S as f64)
}

/// How many looks, stamped calls or answers there were in a second.
fn times_per_s(study: &Study, place: usize, regard: &Regard) -> Option<f64> {
    let of = |name: &str, metric: &str| Some(study.summary_named(place, name, metric)?.median);
    match each(regard.name)? {
        "look" => of(regard.name, LOOKS.name()),
        "stamped flush" => Some(of(regard.name, STAMPS.name())? * events_per_s(study, place)?),
        _ => of(regard.name, ANSWERS.name()),
    }
}

/// All prices, a row each.
pub(super) fn table(study: &Study) -> Option<Table> {
    let cells = study.records.iter().enumerate();
    let rows = cells.flat_map(|(place, record)| {
        REGARDS.iter().filter_map(move |regard| {
            let price = Price::of(study, place, regard.name)?;
            let Price { ratio, each_ns, .. } = price;
            let share = price.share().map(|part| part * 100.0);
            let each = each(regard.name).zip(each_ns).map_or("–".into(), |(each, ns)| {
                format!("{} per {each}", number::interval(&ns, "ns"))
            });
            Some(vec![
                format!("{}, {}", record.cell, regard.name),
                regard.beside.into(),
                number::interval(&ratio, ""),
                number::interval(&share, "%"),
                each,
            ])
        })
    });
    let rows: Vec<Vec<String>> = rows.collect();
    (!rows.is_empty()).then(|| Table {
        title: "What looking on costs".into(),
        columns: ["cell", "beside", "server CPU", "of a processor", "each"].map(String::from).into(),
        rows,
        note: "Server CPU as a multiple of the same without it, which is the row named second, round \
               by round; what that is more as a part of one processor; and divided by how often it \
               happened. An interval that goes below 1, or below 0, has not told a price from none: \
               its upper end is what the price is less than."
            .into(),
    })
}

/// The ratios over subscribers, a chart for each length of a burst.
pub(super) fn charts(study: &Study) -> Vec<Figure> {
    let mut bursts: Vec<&str> = study.records.iter().filter_map(|one| one.factor(BURST)).collect();
    bursts.sort_by_key(|burst| (burst.len(), *burst));
    bursts.dedup();
    bursts.into_iter().filter_map(|burst| chart(study, burst)).collect()
}

fn chart(study: &Study, burst: &str) -> Option<Figure> {
    let shown = REGARDS.iter().filter(|one| one.name != one.beside && one.name != STAMPED_BEFORE);
    let series = shown.map(|regard| {
        let records = study.records.iter().enumerate();
        let records = records.filter(|(_, record)| record.factor(BURST) == Some(burst));
        let points = records.filter_map(|(place, record)| {
            Some((record.number(SUBSCRIBERS)?, Price::of(study, place, regard.name)?.ratio))
        });
        Series { name: regard.name.into(), points: points.collect() }
    });
    let series: Vec<Series> = series.filter(|series| series.points.len() > 1).collect();
    let axis = |title: &str, log| Axis { title: title.into(), unit: String::new(), log };
    (!series.is_empty()).then(|| Figure::Intervals {
        title: format!("Server CPU as a multiple of the same without, burst {burst}"),
        x: axis(SUBSCRIBERS, true),
        y: axis("server CPU, without = 1", false),
        series,
    })
}
