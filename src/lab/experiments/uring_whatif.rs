//! What `io_uring` would change in a fan-out.

#[cfg(feature = "uring")]
mod measure;

use super::write_cost::without_blanks;
use super::{Experiment, Judgement, Rig, Verdict};
use crate::lab::bare::bench::MEDIAN_NS;
use crate::lab::method::analysis::Study;
use crate::lab::method::record::{Doubt, Profile};
use crate::lab::report::figure::{Figure, Table};
use crate::lab::report::number::interval;
use crate::lab::report::standard::{interval_chart, metric_table};
use crate::lab::run::Group;

/// The experiment. It is always listed; it is carried out by a build with the feature `uring`, on
/// a kernel that permits it.
#[derive(Debug)]
pub struct UringWhatif;

impl Experiment for UringWhatif {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        "What if it were io_uring"
    }

    fn question(&self) -> &'static str {
        "One event goes to many connections: by a send(2) for each, as the server does it, or by \
         one io_uring_enter(2) with a request for each, as many as the ring holds. What does a \
         delivery cost either way? Nobody reads meanwhile; everybody's bytes are compared \
         afterwards. The server does not use io_uring: this asks whether it should."
    }

    fn rig(&self) -> Rig {
        Rig::Bare
    }

    fn unavailable(&self) -> Option<String> {
        let why = "it needs a build with --features uring";
        (!cfg!(feature = "uring")).then(|| why.into())
    }

    #[cfg(feature = "uring")]
    fn groups(&self, profile: Profile) -> Vec<Box<dyn Group>> {
        vec![Box::new(measure::FanOut { profile })]
    }

    #[cfg(not(feature = "uring"))]
    fn groups(&self, _profile: Profile) -> Vec<Box<dyn Group>> {
        Vec::new()
    }

    fn judge(&self, study: &Study) -> Vec<Judgement> {
        let (verdict, because) = judged(study);
        let statement =
            "Handing over a fan-out by io_uring makes a delivery cheaper than a send for each"
                .into();
        vec![Judgement { claim: None, statement, verdict, because }]
    }

    fn tables(&self, study: &Study) -> Vec<Table> {
        let metrics = [
            (MEDIAN_NS, "Time of a delivery"),
            ("cpu_ns", "Processor time of a delivery"),
            ("calls", "System calls of a delivery"),
        ];
        let tables =
            metrics.iter().filter_map(|(metric, title)| metric_table(study, metric, title));
        tables.map(without_blanks).filter(|table| !table.rows.is_empty()).collect()
    }

    fn figures(&self, study: &Study) -> Vec<Figure> {
        let title = "Time of a delivery of 64 bytes by the number of subscribers";
        let fixed = [("bytes", "64")];
        interval_chart(study, MEDIAN_NS, "subscribers", &fixed, title).into_iter().collect()
    }

    fn cannot_show(&self) -> &'static [&'static str] {
        &[
            "Only sends: a server on io_uring would accept, read and wait by it as well, and could \
             share buffers and descriptors with the kernel beforehand. This is the least that it \
             could gain, not the most.",
            "Over loopback the receiver's work is part of each send, and it is the same either way; \
             so the part that a saved system call is of the whole is smaller than on a network card.",
        ]
    }
}

const NAME: &str = "uring-whatif";
#[cfg(any(test, feature = "uring"))]
const SEND: &str = "send";
const URING: &str = "io_uring";

/// From all cells with a ratio.
fn judged(study: &Study) -> (Verdict, String) {
    if study.records.is_empty() && !cfg!(feature = "uring") {
        return (
            Verdict::CannotBeJudged,
            "This build has no io_uring: it needs --features uring.".into(),
        );
    }
    let missing =
        study.records.iter().flat_map(|record| &record.doubts).find_map(|doubt| match doubt {
            Doubt::TooFew(why) if why.starts_with(NONE) => Some(why.clone()),
            _ => None,
        });
    if let Some(why) = missing {
        return (Verdict::CannotBeJudged, format!("{why}."));
    }
    let compared = study.records.iter().enumerate().filter_map(|(place, record)| {
        Some((record.cell.as_str(), study.compare_named(place, URING, MEDIAN_NS)?.ratio))
    });
    let compared: Vec<_> = compared.collect();
    let Some((_, first)) = compared.first() else {
        return (Verdict::CannotBeJudged, "Too few rounds were measured.".into());
    };
    let threshold = study.records[0].method.threshold;
    let cheaper = compared.iter().filter(|(_, ratio)| ratio.high < 1.0 - threshold).count();
    let verdict = match cheaper {
        0 => Verdict::Refuted,
        all if all == compared.len() => Verdict::Confirmed,
        _ => Verdict::Depends,
    };
    let least = compared
        .iter()
        .map(|(_, ratio)| ratio)
        .fold(first, |a, b| if b.mid < a.mid { b } else { a });
    let most = compared
        .iter()
        .map(|(_, ratio)| ratio)
        .fold(first, |a, b| if b.mid > a.mid { b } else { a });
    let because = format!(
        "By io_uring a delivery takes from {} to {} of the time; it is cheaper, by more than can be \
         chance and by more than {:.0} %, in {cheaper} of {} cells.",
        interval(least, ""),
        interval(most, ""),
        100.0 * threshold,
        compared.len()
    );
    (verdict, because)
}

/// How a doubt begins that says why there is no `io_uring`.
const NONE: &str = "there is no io_uring here";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::record::Kind;
    use crate::lab::method::sample::Sample;

    fn cell(subscribers: u32, ratio: f64) -> Sample {
        Sample::new(NAME, &format!("subscribers {subscribers}, bytes 64"))
            .factor("subscribers", subscribers)
            .factor("bytes", 64)
            .metric(MEDIAN_NS, "time of a delivery, median", "ns", Kind::Time)
            .variant(SEND, &[3000.0])
            .variant(URING, &[3000.0 * ratio])
    }

    #[test]
    fn it_depends_on_the_number_of_subscribers() {
        let check = |ratios: &[f64], expected| {
            let cells = ratios.iter().enumerate().map(|(nth, &ratio)| cell(nth as u32 + 1, ratio));
            let study = Study::new(cells.map(Sample::build).collect());
            assert_eq!(UringWhatif.judge(&study)[0].verdict, expected, "{ratios:?}");
        };
        check(&[0.7, 0.8], Verdict::Confirmed);
        check(&[1.2, 1.0], Verdict::Refuted);
        check(&[1.2, 0.7], Verdict::Depends);
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut forbidden = cell(1, 1.0).build();
        forbidden.blocks.clear();
        forbidden.doubts.push(Doubt::TooFew(format!("{NONE}: forbidden")));
        for study in [Study::new(Vec::new()), Study::new(vec![forbidden])] {
            assert_eq!(UringWhatif.judge(&study)[0].verdict, Verdict::CannotBeJudged);
            assert!(UringWhatif.tables(&study).is_empty());
        }
    }
}
