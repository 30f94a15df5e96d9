//! What the records say of C01, C02 and C03.

use super::{counted, median_ns, said, unread};
use crate::lab::bare::Reader;
use crate::lab::bare::call::Call;
use crate::lab::experiments::{Judgement, Verdict};
use crate::lab::method::analysis::Study;
use crate::lab::report::number::with_unit;

/// All that can be said.
pub(super) fn judge(study: &Study) -> Vec<Judgement> {
    [shape(study), absolute(study), batch(study), success(study), way(study)]
        .into_iter()
        .flatten()
        .collect()
}

/// The ratio of two sizes can be compared across machines; the figures themselves cannot.
fn shape(study: &Study) -> Option<Judgement> {
    let ratios: Vec<(Reader, f64)> = Reader::ALL
        .into_iter()
        .filter_map(|reader| {
            let ns = |bytes| median_ns(study, reader, bytes, Call::Write);
            Some((reader, ns(65_536)? / ns(64)?))
        })
        .collect();
    let near = |(_, ratio): &&(Reader, f64)| (ratio / CLAIMED_RATIO - 1.0).abs() <= NEAR;
    let verdict = match ratios.iter().filter(near).count() {
        _ if ratios.is_empty() => return None,
        all if all == ratios.len() => Verdict::Confirmed,
        0 if ratios.len() == 1 => Verdict::Refuted,
        _ => Verdict::Depends,
    };
    let shown: Vec<String> =
        ratios.iter().map(|(reader, ratio)| format!("{ratio:.2} with {}", said(*reader))).collect();
    Some(Judgement {
        claim: Some("C01"),
        statement: "A write of 64 KiB costs 3.0 times as much as one of 64 B (3850 to 1280 ns)"
            .into(),
        verdict,
        because: format!(
            "The ratio is {}. What does not depend on the size, above all waking a reader, decides \
             how much the size matters; the claim does not say what its reader did.",
            shown.join(", ")
        ),
    })
}

fn absolute(study: &Study) -> Option<Judgement> {
    let ns = |bytes| median_ns(study, Reader::Nobody, bytes, Call::Write);
    let large = ns(65_536).map(|ns| format!(", of 64 KiB {}", with_unit(ns, "ns")));
    Some(Judgement {
        claim: Some("C01"),
        statement: "A write of 64 B takes 1280 ns ± 92, of 64 KiB 3850 ± 210".into(),
        verdict: Verdict::CannotBeJudged,
        because: format!(
            "Here, with nobody reading, a write of 64 B takes {}{}. These are another machine, \
             kernel and network, so the figures need not agree; and what ± stands for is not said. \
             Here it is the 95 % interval of the median over the blocks, with the quartiles beside it.",
            with_unit(ns(64)?, "ns"),
            large.unwrap_or_default()
        ),
    })
}

fn batch(study: &Study) -> Option<Judgement> {
    let writev = median_ns(study, Reader::Nobody, 64, Call::Writev)?;
    Some(Judgement {
        claim: Some("C01"),
        statement: "A writev of a \"batch\" takes 2140 ns ± 135".into(),
        verdict: Verdict::CannotBeJudged,
        because: format!(
            "Neither the number of pieces nor their size is given, and any figure can be had by \
             choosing them: here two pieces of 32 B take {}; the experiment iovec-crossover has \
             all the others.",
            with_unit(writev, "ns")
        ),
    })
}

fn success(study: &Study) -> Option<Judgement> {
    let place = study.find(&[("reader", unread::READER)])?;
    let names: Vec<&str> =
        study.records[place].variants.iter().map(|variant| variant.name.as_str()).collect();
    let fact = |variant: &str, metric| Some(study.summary_named(place, variant, metric)?.median);
    let each = |metric| names.iter().filter_map(move |name| fact(name, metric));
    let refused = each("refused_calls").all(|calls| calls >= 1.0);
    let accepted = each("accepted_bytes").all(|bytes| bytes > 0.0);
    let short = names.iter().copied().find(|name| fact(name, "short_calls") >= Some(1.0));
    let example = short.or(names.first().copied())?;
    let value = |metric| fact(example, metric).unwrap_or_default();
    let verdict = match (refused && accepted, short) {
        (true, Some(_)) => Verdict::Confirmed,
        (true, None) => Verdict::Depends,
        _ => Verdict::Refuted,
    };
    let cut = match short {
        Some(_) => format!("the last call took {} of {example}", value("last_bytes")),
        None => "no call was cut".into(),
    };
    Some(Judgement {
        claim: Some("C02"),
        statement:
            "A write that returns n has copied n bytes to the send buffer, no more; n may be \
                    below the length; a full buffer gives EAGAIN, and the answer is to wait"
                .into(),
        verdict,
        because: format!(
            "In writes of {example} calls took {} bytes before the first EAGAIN, while the reader \
             had read none: {} were in its kernel and the rest in the sender's; {cut}. When the \
             reader read, there was room again and everything arrived.",
            value("accepted_bytes"),
            value("arrived_bytes"),
        ),
    })
}

fn way(study: &Study) -> Option<Judgement> {
    let statement = "A write's way: copied from the user into socket buffers, onto the send \
                     queue, and out in the transmit soft interrupt";
    let ns = |call| median_ns(study, Reader::Nobody, 64, call);
    let (entry, held, whole) = (ns(Call::Getppid)?, ns(Call::More)?, ns(Call::Write)?);
    let shares = format!(
        "Of {} for 64 B, {:.0} % is entering the kernel and leaving it (getppid), {:.0} % more the \
         copy onto the send queue (MSG_MORE), and the rest what follows.",
        with_unit(whole, "ns"),
        100.0 * entry / whole,
        100.0 * (held - entry) / whole
    );
    let place = study.find(&[(counted::FACTOR, Reader::Nobody.name())])?;
    let count = |call: Call, metric| Some(study.summary_named(place, call.name(), metric)?.median);
    let counts = ["transmissions", "queued_for_receipt", "softirqs"]
        .map(|metric| Some((count(Call::Write, metric)?, count(Call::More, metric)?)));
    let [Some((sent, held_sent)), Some((queued, _)), Some((softirqs, _))] = counts else {
        return Some(Judgement {
            claim: Some("C03"),
            statement: statement.into(),
            verdict: Verdict::CannotBeJudged,
            because: format!("{shares} The kernel's tracepoints may not be counted here."),
        });
    };
    // Every soft interrupt is accounted for by a packet that was queued for receipt.
    let as_seen = sent >= 1.0 && held_sent < 0.1 && softirqs <= queued * 1.1;
    Some(Judgement {
        claim: Some("C03"),
        statement: statement.into(),
        verdict: if as_seen { Verdict::Depends } else { Verdict::CannotBeJudged },
        because: format!(
            "{shares} The copy and the queue are as claimed: with MSG_MORE {held_sent:.2} packets \
             leave. But a packet is given to the device by the caller itself, within the call \
             ({sent:.2} a call). The soft interrupts of a call ({softirqs:.2}) are those that receive \
             what loopback has queued ({queued:.2}); one for transmission is raised only where a \
             device cannot take a packet at once."
        ),
    })
}

/// 3850 to 1280.
const CLAIMED_RATIO: f64 = 3850.0 / 1280.0;

/// What is as good as the claim: its own ± are 7 % and 5 %.
const NEAR: f64 = 0.15;
