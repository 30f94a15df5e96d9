//! Reports of made-up records. After a change of their looks, look at them ([`page`]), and then
//! write the snapshots anew: `INSTA_UPDATE=always cargo test --lib lab::report`.

use super::figure::{Figure, Table};
use super::standard::{
    distribution_chart, heat_chart, interval_chart, metric_table, percentile_table, ratio_table,
};
use super::{Report, render};
use crate::lab::experiments::{Experiment, Judgement, Rig, Verdict};
use crate::lab::method::analysis::Study;
use crate::lab::method::record::{Audit, Doubt, Profile, Record, Sampled};
use crate::lab::method::rig_check;
use crate::lab::method::sample::Sample;
use crate::lab::run::Group;
use crate::load::tally::Distribution;

struct Toy(&'static str);

impl Experiment for Toy {
    fn name(&self) -> &'static str {
        self.0
    }

    fn title(&self) -> &'static str {
        if self.0 == rig_check::EXPERIMENT { "A against A" } else { "Toys & <tricks>" }
    }

    fn question(&self) -> &'static str {
        "What does a delivery cost with `writev`, if a < b? Each cell is measured as any other is, \
         and the answer was made up."
    }

    fn rig(&self) -> Rig {
        Rig::Server
    }

    fn groups(&self, _profile: Profile) -> Vec<Box<dyn Group>> {
        Vec::new()
    }

    fn judge(&self, study: &Study) -> Vec<Judgement> {
        if self.0 == rig_check::EXPERIMENT || study.records.is_empty() {
            return Vec::new();
        }
        let judgement = |claim, verdict, statement: &str| Judgement {
            claim,
            statement: statement.into(),
            verdict,
            because: "`writev` takes 0.61 [0.58–0.64] of the time, in 3 of 3 cells.".into(),
        };
        vec![
            judgement(Some("C01"), Verdict::Confirmed, "Gathering costs less than copying."),
            judgement(Some("C02"), Verdict::Refuted, "Nobody needs more than 640 kB."),
            judgement(None, Verdict::Depends, "It grows with <the number> of subscribers."),
            judgement(Some("C03"), Verdict::CannotBeJudged, "It is the same on every machine."),
        ]
    }

    fn tables(&self, study: &Study) -> Vec<Table> {
        let calls = ratio_table(study, "calls", "Write calls, as parts of the baseline");
        let latencies = percentile_table(study, "latency_ns", "Latency");
        let cpu = metric_table(study, "cpu_ns", "Server CPU per delivery");
        [cpu, calls, latencies].into_iter().flatten().collect()
    }

    fn figures(&self, study: &Study) -> Vec<Figure> {
        let factors = ("subscribers", "burst");
        let cpu = "Server CPU per delivery";
        let all = [
            interval_chart(study, "cpu_ns", "subscribers", &[("burst", "16")], cpu),
            distribution_chart(study, 0, "latency_ns", "Latency with 10 subscribers"),
            heat_chart(study, "cpu_ns", "writev", factors, "Where writev pays"),
        ];
        all.into_iter().flatten().collect()
    }

    fn cannot_show(&self) -> &'static [&'static str] {
        &["What a network card would do: there is none.", "Anything at all: it was made up."]
    }
}

/// As an experiment would leave them: a rig check, a cell for each size, and one unknown.
fn records() -> Vec<Record> {
    let aa = Sample::new(rig_check::EXPERIMENT, "100 subscribers")
        .usual_metrics()
        .variant("a1", &[1000.0, 1.0])
        .variant("a2", &[1000.0, 1.0])
        .variant("a3", &[1000.0, 1.0])
        .variant(rig_check::PLANTED, &[1100.0, 1.0])
        .setting(rig_check::PLANTED, "1.10")
        .rounds(5, 12);
    let mut records = vec![aa.build()];
    for (seed, (burst, subscribers)) in
        (1..).zip([(16, 10), (16, 100), (16, 1000), (64, 10), (64, 100), (64, 1000)])
    {
        records.push(toy(burst, subscribers).seed(seed).build());
    }
    records[1].distributions = (0..3).map(latencies).collect();
    records[2].audits = [(400, 400), (412, 410)].map(audit).to_vec();
    records[3].doubts.push(Doubt::ClientBound("98 % of a processor & more".into()));
    records.push(Sample::new("lost", "anything").build());
    records
}

fn toy(burst: u32, subscribers: u32) -> Sample {
    let base = 4000.0 / f64::from(burst) + 600.0 * f64::from(subscribers).powf(0.2);
    Sample::new("toy", &format!("{subscribers} subscribers, burst {burst}"))
        .factor("subscribers", subscribers)
        .factor("burst", burst)
        .usual_metrics()
        .variant("write", &[base, 4.0])
        .variant("writev", &[base * 0.6, 1.0])
        .variant("copy <all>", &[base * f64::from(subscribers).log10() * 0.6, 1.0])
        .rounds(3, 8)
}

fn latencies(variant: usize) -> Sampled {
    let mut values = Distribution::default();
    for step in 1..2000u64 {
        values.record(20_000 * (variant as u64 + 2) + 40_000_000 / (2000 - step));
    }
    Sampled { variant, metric: "latency_ns".into(), values }
}

fn audit((ours, theirs): (u64, u64)) -> Audit {
    Audit { variant: 1, what: "sendto".into(), ours, theirs, by: "tracepoint".into() }
}

fn report(records: &[Record]) -> Report {
    render(&[&Toy(rig_check::EXPERIMENT), &Toy("toy"), &Toy("never")], records)
}

#[test]
fn reports_stay_as_they_were_looked_at() {
    let report = report(&records());
    insta::assert_snapshot!("markdown", report.markdown);
    // The charts have a snapshot of their own.
    let page = report.html.split("<svg").map(|part| part.rsplit("</svg>").next());
    let page: Vec<&str> = page.flatten().collect();
    insta::assert_snapshot!("html", page.join("<svg></svg>"));
}

#[test]
fn the_same_records_give_the_same_report() {
    let records = records();
    assert_eq!(report(&records), report(&records));
    let json: Vec<String> =
        records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    let read = json.iter().map(|line| serde_json::from_str(line).unwrap());
    assert_eq!(
        report(&read.collect::<Vec<Record>>()),
        report(&records),
        "and so do those of a file"
    );
}

#[test]
fn everything_is_escaped() {
    let html = report(&records()).html;
    for written in ["<tricks>", "<the number>", "a < b", "copy <all>", "processor & more"] {
        assert!(!html.contains(written), "{written}");
    }
    assert!(html.contains("Toys &amp; &lt;tricks&gt;"));
    assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("@import"));
}

#[test]
fn a_report_says_what_it_is_worth() {
    let check = |records: &[Record], expected: &str| {
        let Report { html, markdown, .. } = report(records);
        assert!(html.contains(expected) && markdown.contains(expected), "{expected}: {markdown}");
    };
    let with = |profile| {
        let mut records = records();
        records[2].method.profile = profile;
        records
    };
    check(&with(Profile::Quick), "not to be quoted");
    check(&with(Profile::Smallest), "Its figures mean nothing");
    assert!(!report(&records()).html.contains("class=\"banner\""));
    check(&records()[1..], "no A/A run");
    check(&records()[..1], "Planted differences that were found: 1 of 1");
    check(&records(), "Passed.");
    let mut unplanted = records();
    let planted = unplanted[0].variants.len() - 1;
    for block in unplanted[0].blocks.iter_mut().filter(|block| block.variant == planted) {
        block.discarded = Some("waited 9.0 % of its time for processors".into());
    }
    check(&unplanted, "A check was not made. 100 subscribers: whether a planted difference");
    let Report { html, markdown, json } = report(&unplanted);
    assert!(!html.contains("Passed") && !markdown.contains("Passed"), "{markdown}");
    assert_eq!(json["rig"]["passed"], false);
    check(&records(), "Not shown, as this version does not know the experiment");
    check(&[], "There are no records");
    let mut others = records();
    others[2].environment.cpu = "Another".into();
    check(&others, "Example Processor @ 2.80GHz, 2 processors, a virtual machine | Another, 2");
}

/// Writes a page to be looked at: `cargo test --lib lab::report::tests::page -- --ignored`.
#[test]
#[ignore = "for people: writes to the directory for temporary files"]
fn page() {
    let mut records = records();
    let path = std::env::temp_dir().join("pushv-report.html");
    std::fs::write(&path, report(&records).html).unwrap();
    records[2].method.profile = Profile::Quick;
    records.remove(0);
    std::fs::write(path.with_file_name("pushv-report-quick.html"), report(&records).html).unwrap();
}
