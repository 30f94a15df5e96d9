//! What the records say of the price of looking on.

use super::price::{self, Price};
use super::{
    CONNECTIONS, CPU, LIVE, LOOKS_1_S, LOOKS_20_MS, METRICS, STAMPED_BEFORE, STAMPS_1_IN_1000,
    STAMPS_ALL,
};
use crate::lab::experiments::{Judgement, Verdict};
use crate::lab::method::analysis::{Study, is_same};
use crate::lab::method::stats::Interval;
use crate::lab::report::number;

pub(super) fn judge(study: &Study) -> Vec<Judgement> {
    vec![
        default_costs_little(study),
        stamp_costs(study),
        stamped_sockets_stay_cheap(study),
        share_is_small(study, LIVE, "An open live page takes"),
        share_is_small(study, METRICS, "Metrics, asked for five times a second, take"),
        share_is_small(study, CONNECTIONS, "Connections, asked for five times a second, take"),
    ]
}

/// What was found in one cell: `Some` whether it is below a limit, with its whole interval.
type Told = Option<bool>;

/// Below the threshold with the whole interval, or above it.
fn ratio_is_small(ratio: &Interval, threshold: f64) -> Told {
    let limit = 1.0 / (1.0 - threshold);
    match () {
        () if is_same(ratio, threshold) || ratio.high <= limit => Some(true),
        () if ratio.low > limit => Some(false),
        () => None,
    }
}

fn verdict(told: &[Told]) -> Verdict {
    let count = |what: bool| told.iter().filter(|one| **one == Some(what)).count();
    match (count(true), count(false)) {
        (0, 0) => Verdict::CannotBeJudged,
        (_, 0) if told.contains(&None) => Verdict::CannotBeJudged,
        (_, 0) => Verdict::Confirmed,
        (0, _) => Verdict::Refuted,
        _ => Verdict::Depends,
    }
}

/// The prices of one row in all cells, by cell.
fn prices<'s>(study: &'s Study, name: &str) -> Vec<(usize, &'s str, Price)> {
    let cells = study.records.iter().enumerate();
    cells
        .filter_map(|(at, one)| Some((at, one.cell.as_str(), Price::of(study, at, name)?)))
        .collect()
}

fn threshold(study: &Study) -> f64 {
    study.records.first().map_or(0.0, |record| record.method.threshold)
}

/// `told`, a sentence; or that there is nothing to tell.
fn because(told: Vec<String>, sentence: impl Fn(String) -> String) -> String {
    match told.is_empty() {
        true => "No interval could be had.".into(),
        false => sentence(told.join("; ")),
    }
}

/// The looks of the default. Fifty times as many tell what one costs.
fn default_costs_little(study: &Study) -> Judgement {
    let threshold = threshold(study);
    let prices_of = prices(study, LOOKS_1_S);
    let told: Vec<Told> =
        prices_of.iter().map(|(_, _, price)| ratio_is_small(&price.ratio, threshold)).collect();
    let lines = prices_of
        .iter()
        .map(|(_, cell, price)| format!("{cell}: {} ×", number::interval(&price.ratio, "")));
    let lines: Vec<String> = lines.collect();
    let amplified = prices(study, LOOKS_20_MS).into_iter().filter_map(|(place, cell, price)| {
        let each = price.each_ns?;
        let event_ns = study.summary_named(place, super::OFF, CPU.name())?.median;
        let part = each.map(|ns| 100.0 * ns / event_ns);
        Some(format!(
            "{cell}: {} a look, {} of a delivered event",
            number::interval(&each, "ns"),
            number::interval(&part, "%")
        ))
    });
    let amplified: Vec<String> = amplified.collect();
    let mut because = because(lines, |lines| format!("Server CPU beside none: {lines}."));
    if !amplified.is_empty() {
        because += &format!(
            " With looks every 20 ms: {}; that is what a look costs at most, since the loop is then \
             woken for it, as it is not by default. One look a second goes with each stream that has \
             moved within three, whatever its rate.",
            amplified.join("; ")
        );
    }
    Judgement {
        claim: None,
        statement: format!(
            "Looking on at the default costs less than {} of the server's CPU",
            number::percent(threshold)
        ),
        verdict: verdict(&told),
        because,
    }
}

/// One stamp in a thousand; all of them tell what one costs.
fn stamp_costs(study: &Study) -> Judgement {
    let threshold = threshold(study);
    let rare = prices(study, STAMPS_1_IN_1000);
    let told: Vec<Told> =
        rare.iter().map(|(_, _, price)| ratio_is_small(&price.ratio, threshold)).collect();
    let each = prices(study, STAMPS_ALL).into_iter().filter_map(|(place, cell, price)| {
        let each = number::interval(&price.each_ns?, "ns");
        let ratio = number::interval(&price.ratio, "");
        let rare = Price::of(study, place, STAMPS_1_IN_1000)?.ratio;
        let rare = number::interval(&rare, "");
        Some(format!("{cell}: {each} more ({ratio} × all stamped, {rare} × one in a thousand)"))
    });
    Judgement {
        claim: None,
        statement: format!(
            "Stamping one flush in a thousand costs less than {} of the server's CPU",
            number::percent(threshold)
        ),
        verdict: verdict(&told),
        because: because(each.collect(), |lines| {
            format!("A stamped flush costs, with everything that its stamps cause: {lines}.")
        }),
    }
}

/// Whether connections that were stamped once are dearer for it.
fn stamped_sockets_stay_cheap(study: &Study) -> Judgement {
    let threshold = threshold(study);
    let found = prices(study, STAMPED_BEFORE);
    let told: Vec<Told> =
        found.iter().map(|(_, _, price)| ratio_is_small(&price.ratio, threshold)).collect();
    let lines = found
        .iter()
        .map(|(_, cell, price)| format!("{cell}: {} ×", number::interval(&price.ratio, "")));
    Judgement {
        claim: None,
        statement: "A connection that was once stamped costs no more than others afterwards".into(),
        verdict: verdict(&told),
        because: because(lines.collect(), |lines| {
            format!(
                "Server CPU beside connections that never were, of another process on the same \
                 processor: {lines}."
            )
        }),
    }
}

/// What an onlooker takes of a processor, by the second.
fn share_is_small(study: &Study, name: &str, subject: &str) -> Judgement {
    let threshold = threshold(study);
    let found = prices(study, name);
    let told: Vec<Told> = found
        .iter()
        .map(|(_, _, price)| {
            let share = price.share();
            match () {
                () if share.high < threshold => Some(true),
                () if share.low > threshold => Some(false),
                () => None,
            }
        })
        .collect();
    let each = price::each(name).unwrap_or("answer");
    let lines = found.iter().map(|(_, cell, price)| {
        let share = number::interval(&price.share().map(|part| part * 100.0), "%");
        let each_ns =
            price.each_ns.map(|ns| format!(", {} per {each}", number::interval(&ns, "ns")));
        format!("{cell}: {share}{}", each_ns.unwrap_or_default())
    });
    Judgement {
        claim: None,
        statement: format!("{subject} less than {} of a processor", number::percent(threshold)),
        verdict: verdict(&told),
        because: because(lines.collect(), |lines| format!("More than with looks alone: {lines}.")),
    }
}
