//! The judgements, from records that are made up. `tests/lab.rs` measures.

use super::*;
use crate::lab::experiments::Verdict;
use crate::lab::method::record::Kind;
use crate::lab::method::sample::Sample;
use crate::lab::report::figure::Figure;

/// A record in which one row costs so much more than what it is beside. A delivery costs 4000 ns:
/// of a thousand subscribers, ten times a second, 4 % of a processor.
fn record(subscribers: u32, dear: &str, factor: f64) -> Record {
    let mut sample = Sample::new(NAME, &format!("subscribers {subscribers}, burst 1"))
        .factor(SUBSCRIBERS, subscribers)
        .factor(BURST, 1)
        .metric(CPU.name(), "server CPU", "ns", Kind::Time)
        .metric(LOOKS.name(), "looks", "", Kind::Count)
        .metric(STAMPS.name(), "stamps", "", Kind::Count)
        .metric(ANSWERS.name(), "answers", "", Kind::Count)
        .noise(0.001)
        .rounds(1, 6);
    for regard in &REGARDS {
        let cost = 4000.0 * if regard.name == dear { factor } else { 1.0 };
        let looks = match regard.observe_ms {
            0 => 0.0,
            ms => f64::from(subscribers) * 1000.0 / f64::from(ms),
        };
        let stamps = match regard.timestamp_one_in {
            0 => 0.0,
            one_in => 1.0 / f64::from(one_in),
        };
        let answers = if regard.onlooker.is_some() { 5.0 } else { 0.0 };
        sample = sample.variant(regard.name, &[cost, looks, stamps, answers]);
    }
    sample.build()
}

fn judged(records: Vec<Record>, statement: &str) -> Judgement {
    let judgements = ObserverCost.judge(&Study::new(records));
    judgements.into_iter().find(|one| one.statement.contains(statement)).unwrap()
}

#[test]
fn each_statement_can_be_refuted() {
    let check = |statement, row| {
        let verdict = |factor| judged(vec![record(1000, row, factor)], statement).verdict;
        assert_eq!(verdict(1.0), Verdict::Confirmed, "{statement}");
        assert_eq!(verdict(2.5), Verdict::Refuted, "{statement}");
        let both = vec![record(100, row, 1.0), record(1000, row, 2.5)];
        assert_eq!(judged(both, statement).verdict, Verdict::Depends, "{statement}");
        assert_eq!(judged(Vec::new(), statement).verdict, Verdict::CannotBeJudged);
    };
    check("at the default", LOOKS_1_S);
    check("in a thousand", STAMPS_1_IN_1000);
    check("once stamped", STAMPED_BEFORE);
    check("live page", LIVE);
    check("Metrics", METRICS);
    check("Connections", CONNECTIONS);
}

/// A cell in which it cannot be told is not a cell in which it costs nothing.
#[test]
fn what_cannot_be_told_is_not_confirmed() {
    let mut record = record(100, OFF, 1.0);
    for block in record.blocks.iter_mut().filter(|block| block.variant == 1) {
        let factor = if block.round % 2 == 0 { 0.5 } else { 2.0 };
        block.values[0] = block.values[0].map(|value| value * factor);
    }
    assert_eq!(judged(vec![record], "at the default").verdict, Verdict::CannotBeJudged);
}

#[test]
fn prices_are_divided_by_how_often_it_happened() {
    let check = |row, factor, each_ns: f64, share: f64| {
        let study = Study::new(vec![record(1000, row, factor)]);
        let price = price::Price::of(&study, 0, row).unwrap();
        let each = price.each_ns.unwrap().mid;
        assert!((each / each_ns - 1.0).abs() < 0.05, "{row}: {each}");
        assert!((price.share().mid / share - 1.0).abs() < 0.05, "{row}: {:?}", price.share());
    };
    // Half of 4000 ns of 10,000 deliveries a second: 20 ms.
    check(LOOKS_20_MS, 1.5, 400.0, 0.02);
    check(STAMPS_ALL, 1.5, 2000.0, 0.02);
    check(STAMPS_1_IN_16, 1.5, 32_000.0, 0.02);
    check(LIVE, 1.5, 4_000_000.0, 0.02);
}

#[test]
fn tables_and_charts() {
    let study = Study::new(vec![record(100, LIVE, 1.2), record(1000, LIVE, 1.1)]);
    let tables = ObserverCost.tables(&study);
    assert_eq!(tables[0].rows.len(), 2 * (REGARDS.len() - 1));
    let charts = price::charts(&study);
    let [Figure::Intervals { series, .. }] = &charts[..] else { panic!("one burst, one chart") };
    assert!(series.iter().all(|series| series.points.len() == 2), "{series:?}");
    assert_eq!(series.len(), REGARDS.len() - 2);
}
