//! The tables and charts that most experiments need.

use super::figure::{Axis, Figure, Series, Table};
use super::number;
use crate::lab::method::analysis::{Finding, Study, place_of};
use crate::lab::method::record::{Better, Kind, Metric, Record};
use crate::lab::method::stats::Interval;
use crate::load::tally::Distribution;

/// One metric: a row a cell, a column a variant, in each the median, with its interval if it is a
/// time, and a mark of how it compares with the baseline. Nothing if the metric was not measured.
pub fn metric_table(study: &Study, metric: &str, title: &str) -> Option<Table> {
    table(study, metric, title, "Medians of the blocks", |record, variant, place| {
        let summary = study.summary(record, variant, place)?;
        let Metric { unit, kind, .. } = &study.records[record].metrics[place];
        Some(match kind {
            Kind::Time => number::interval(&summary.estimate(), unit),
            Kind::Count => number::with_unit(summary.median, unit),
        })
    })
}

/// One metric as parts of the baseline: a row a cell, a column a variant.
pub fn ratio_table(study: &Study, metric: &str, title: &str) -> Option<Table> {
    table(study, metric, title, "Parts of the baseline", |record, variant, place| {
        if variant == study.records[record].baseline {
            return study.summary(record, variant, place).map(|_| "1".into());
        }
        Some(number::interval(&study.compare(record, variant, place)?.ratio, ""))
    })
}

/// The percentiles of one metric: a row a variant of a cell. The percentile of 99.9 % is shown where
/// there are enough values beyond it to know it. Nothing if no block has kept its values.
pub fn percentile_table(study: &Study, metric: &str, title: &str) -> Option<Table> {
    let variants = study.records.iter().enumerate().flat_map(|(place, record)| {
        record.variants.iter().enumerate().map(move |(variant, _)| (place, variant))
    });
    let rows = variants.filter_map(|(place, variant)| {
        let values = study.distribution(place, variant, metric)?;
        let record = &study.records[place];
        let mut row = vec![format!("{}, {}", record.cell, record.variants[variant].name)];
        let part = |q| number::with_unit(values.quantile(q) as f64, "ns");
        row.extend([0.5, 0.9, 0.99].map(part));
        let is_known = values.count() >= VALUES_FOR_P999;
        row.push(if is_known { part(0.999) } else { "–".into() });
        row.push(number::with_unit(values.max() as f64, "ns"));
        row.push(values.count().to_string());
        Some(row)
    });
    let rows: Vec<Vec<String>> = rows.collect();
    (!rows.is_empty()).then(|| Table {
        title: title.into(),
        columns: ["cell", "p50", "p90", "p99", "p99.9", "max", "values"].map(String::from).to_vec(),
        rows,
        note: "All blocks together: percentiles of the merged histograms, none of them averaged."
            .into(),
    })
}

/// A hundred values lie beyond the percentile of 99.9 % then.
const VALUES_FOR_P999: u64 = 100_000;

/// The medians of one metric with their intervals, a line a variant, along a factor that is a
/// number. Only cells with the `fixed` values of the other factors are shown; whoever leaves one of
/// these open gets several points above each other. Nothing if there are not at least two places on
/// the axis.
pub fn interval_chart(
    study: &Study,
    metric: &str,
    x_factor: &str,
    fixed: &[(&str, &str)],
    title: &str,
) -> Option<Figure> {
    let shown = |record: &Record| fixed.iter().all(|(name, is)| record.factor(name) == Some(*is));
    let series = variants(study).into_iter().map(|name| {
        let records = study.records.iter().enumerate().filter(|(_, record)| shown(record));
        let points = records.filter_map(|(place, record)| {
            Some((record.number(x_factor)?, study.summary_named(place, &name, metric)?.estimate()))
        });
        let mut points: Vec<(f64, Interval)> = points.collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series { name, points }
    });
    let series: Vec<Series> = series.filter(|series| !series.points.is_empty()).collect();
    let points = || series.iter().flat_map(|series| &series.points);
    let x = Axis {
        title: x_factor.into(),
        unit: String::new(),
        log: is_wide(points().map(|point| point.0)),
    };
    let first = points().next()?.0;
    if points().all(|point| point.0 == first) {
        return None;
    }
    let known = known(study, metric)?;
    let y = Axis {
        title: known.title.clone(),
        unit: known.unit.clone(),
        log: is_wide(points().flat_map(|point| [point.1.low, point.1.high])),
    };
    Some(Figure::Intervals { title: title.into(), x, y, series })
}

/// How the values of one metric are distributed in one cell, a line a variant. Nothing if no block
/// has kept them.
pub fn distribution_chart(
    study: &Study,
    record: usize,
    metric: &str,
    title: &str,
) -> Option<Figure> {
    let known = study.records.get(record)?;
    let series = known.variants.iter().enumerate().filter_map(|(place, variant)| {
        Some((variant.name.clone(), steps(&study.distribution(record, place, metric)?)))
    });
    let series: Vec<(String, Vec<(f64, f64)>)> = series.collect();
    if series.is_empty() {
        return None;
    }
    let titled = known.metric(metric).map_or(metric, |place| known.metrics[place].title.as_str());
    let x = Axis { title: titled.into(), unit: "ns".into(), log: true };
    Some(Figure::Distribution { title: title.into(), x, series })
}

/// A variant's metric as a part of the baseline's, over two factors. Nothing without comparisons.
pub fn heat_chart(
    study: &Study,
    metric: &str,
    variant: &str,
    (x, y): (&str, &str),
    title: &str,
) -> Option<Figure> {
    let (columns, rows) = (places(study, x), places(study, y));
    let ratio = |row: &String, column: &String| {
        let place = study.find(&[(x, column.as_str()), (y, row.as_str())])?;
        Some(study.compare_named(place, variant, metric)?.ratio.mid)
    };
    let ratios: Vec<Vec<Option<f64>>> =
        rows.iter().map(|row| columns.iter().map(|column| ratio(row, column)).collect()).collect();
    ratios.iter().flatten().flatten().next()?;
    let record = study.records.first()?;
    let baseline = &record.variants.get(record.baseline)?.name;
    let meaning = match known(study, metric)?.better {
        Better::Less => (format!("{variant} is better"), format!("{baseline} is better")),
        Better::More => (format!("{baseline} is better"), format!("{variant} is better")),
        Better::Neither => (format!("less with {variant}"), format!("more with {variant}")),
    };
    let (x, y) = ((x.into(), columns), (y.into(), rows));
    Some(Figure::Heat { title: title.into(), x, y, ratios, meaning })
}

/// What stands behind a figure: how it compares with the baseline.
pub fn mark(finding: Finding) -> &'static str {
    match finding {
        Finding::Less => "▼",
        Finding::More => "▲",
        Finding::Same => "≈",
        Finding::Undecided => "?",
    }
}

fn table(
    study: &Study,
    metric: &str,
    title: &str,
    figures: &str,
    show: impl Fn(usize, usize, usize) -> Option<String>,
) -> Option<Table> {
    let known = known(study, metric)?;
    let names = variants(study);
    let cell = |place: usize, name: &String| {
        let record = &study.records[place];
        let (variant, metric) = (place_of(record, name)?, record.metric(metric)?);
        let finding = study.compare(place, variant, metric).map(|one| mark(one.finding));
        let shown = show(place, variant, metric)?;
        Some(finding.map_or(shown.clone(), |mark| format!("{shown} {mark}")))
    };
    let rows = study.records.iter().enumerate().map(|(place, record)| {
        let cells = names.iter().map(|name| cell(place, name).unwrap_or("–".into()));
        std::iter::once(record.cell.clone()).chain(cells).collect()
    });
    let columns = std::iter::once("cell".into()).chain(names.iter().cloned()).collect();
    Some(Table {
        title: title.into(),
        columns,
        rows: rows.collect(),
        note: note(study, known, figures),
    })
}

fn note(study: &Study, metric: &Metric, figures: &str) -> String {
    let Some(record) = study.records.first() else { return String::new() };
    let better = match metric.better {
        Better::Less => ", less is better",
        Better::More => ", more is better",
        Better::Neither => "",
    };
    let title = capital(&metric.title);
    let confidence = number::percent(record.method.confidence);
    let threshold = number::percent(record.method.threshold);
    let baseline = record.variants.get(record.baseline).map_or("", |variant| variant.name.as_str());
    format!(
        "{title}{better}. {figures}, with {confidence} intervals. Against {baseline}, round by \
         round: ▼ less, ▲ more, ≈ no practical difference (within {threshold}), ? cannot be told."
    )
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The names of all variants, in the order in which they first appear.
fn variants(study: &Study) -> Vec<String> {
    let all = study.records.iter().flat_map(|record| &record.variants);
    unique(all.map(|variant| variant.name.clone()))
}

/// All values of a factor, numbers by their size.
fn places(study: &Study, factor: &str) -> Vec<String> {
    let all = study.records.iter().filter_map(|record| record.factor(factor));
    let mut places = unique(all.map(String::from));
    // The sort is stable: places that are not numbers stay as they are.
    let size = |place: &String| place.parse().unwrap_or(f64::INFINITY);
    places.sort_by(|a, b| size(a).total_cmp(&size(b)));
    places
}

fn unique(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut unique = Vec::new();
    for one in all {
        if !unique.contains(&one) {
            unique.push(one);
        }
    }
    unique
}

fn known<'a>(study: &'a Study, metric: &str) -> Option<&'a Metric> {
    study.records.iter().find_map(|record| Some(&record.metrics[record.metric(metric)?]))
}

/// Whether values differ so much that on a linear axis the small ones would lie on top of each
/// other. An axis with a zero cannot be logarithmic.
fn is_wide(values: impl Iterator<Item = f64>) -> bool {
    let (low, high) = values
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    low > 0.0 && high / low >= WIDE
}

/// The factor from which on an axis is logarithmic.
const WIDE: f64 = 8.0;

/// The distribution as a line that is fine enough for a chart: a point for each of its values, but
/// not two where less than a 200th of all lies between.
fn steps(values: &Distribution) -> Vec<(f64, f64)> {
    let Some(histogram) = values.as_histogram() else { return Vec::new() };
    let (all, mut passed) = (values.count() as f64, 0);
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for step in histogram.iter_recorded() {
        passed += step.count_at_value();
        let (value, part) = (step.value_iterated_to() as f64, passed as f64 / all);
        if part == 1.0 || steps.last().is_none_or(|last| part - last.1 >= 1.0 / 200.0) {
            steps.push((value, part));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::record::Sampled;
    use crate::lab::method::sample::Sample;

    fn cell(subscribers: u32, cost: f64) -> Record {
        Sample::new("toy", &format!("{subscribers} subscribers"))
            .factor("subscribers", subscribers)
            .factor("burst", 16)
            .usual_metrics()
            .variant("plain", &[1000.0, 4.0])
            .variant("other", &[1000.0 * cost, 1.0])
            .build()
    }

    fn study() -> Study {
        Study::new(vec![cell(10, 0.5), cell(100, 1.0), cell(1000, 20.0)])
    }

    #[test]
    fn a_table_has_marks() {
        let table = ratio_table(&study(), "calls", "Calls").unwrap();
        assert_eq!(table.columns, ["cell", "plain", "other"]);
        assert_eq!(table.rows[0], ["10 subscribers", "1", "0.250 ▼"]);
        let table = metric_table(&study(), "cpu_ns", "Time").unwrap();
        assert!(table.rows[0][2].ends_with("] ns ▼"), "{:?}", table.rows);
        assert!(table.rows[2][2].ends_with("] µs ▲"), "{:?}", table.rows);
        assert!(table.note.starts_with("Server CPU per delivery, less is better. "));
        assert_eq!(metric_table(&study(), "unknown", ""), None);
    }

    #[test]
    fn charts_choose_their_axes() {
        let chart = |study: &Study, fixed: &[(&str, &str)]| {
            interval_chart(study, "cpu_ns", "subscribers", fixed, "Time")
        };
        let Some(Figure::Intervals { x, y, series, .. }) = chart(&study(), &[("burst", "16")])
        else {
            panic!("there is a chart");
        };
        assert!(x.log && y.log && y.unit == "ns");
        let places: Vec<f64> = series[1].points.iter().map(|point| point.0).collect();
        assert_eq!(places, [10.0, 100.0, 1000.0]);
        assert_eq!(chart(&study(), &[("burst", "17")]), None);
        assert_eq!(chart(&Study::new(vec![cell(10, 1.0)]), &[]), None, "a point is not a line");
    }

    #[test]
    fn distributions_rise() {
        let mut record = cell(10, 1.0);
        let mut values = Distribution::default();
        (1..1000).for_each(|value| values.record(value * 1000));
        let metric = "cpu_ns".to_string();
        record.distributions = vec![Sampled { variant: 1, metric, values }];
        let study = Study::new(vec![record]);
        let Some(Figure::Distribution { series, .. }) = distribution_chart(&study, 0, "cpu_ns", "")
        else {
            panic!("there is a chart");
        };
        assert_eq!((series.len(), series[0].0.as_str()), (1, "other"));
        assert!(series[0].1.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        assert_eq!(series[0].1.last().map(|last| last.1), Some(1.0));
        assert_eq!(distribution_chart(&study, 1, "cpu_ns", ""), None);
        let table = percentile_table(&study, "cpu_ns", "Time").unwrap();
        let row = ["10 subscribers, other", "500 µs", "900 µs", "990 µs", "–", "999 µs", "999"];
        assert_eq!(table.rows, [row]);
    }

    #[test]
    fn heat_is_sorted_by_size() {
        let heat =
            heat_chart(&study(), "calls", "other", ("subscribers", "burst"), "Calls").unwrap();
        let Figure::Heat { x, ratios, meaning, .. } = heat else { panic!("it is one") };
        assert_eq!(x.1, ["10", "100", "1000"]);
        assert_eq!(ratios, [[Some(0.25); 3]]);
        assert_eq!(meaning.0, "other is better");
    }
}
