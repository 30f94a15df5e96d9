//! Where, when and how the records of a report were made.
//!
//! Records of two machines in one report are to be seen: where the answers differ, all of them
//! stand side by side.

use super::number;
use crate::lab::method::record::{Environment, Method, Profile, Record};
use std::collections::{BTreeMap, BTreeSet};

/// Names and values, to be shown in this order.
pub(super) type Facts = Vec<(String, String)>;

/// What stands at the head of a report.
pub(super) fn head(records: &[Record]) -> Facts {
    let took: u64 = records.iter().map(|record| record.duration_ms).sum();
    let begun = records.iter().map(|record| record.started_unix_ms).min().map_or_else(
        || "never".into(),
        |begun| format!("{}, in {}", number::moment_unix_ms(begun), number::duration_ms(took)),
    );
    let source = |of: &Environment| {
        format!("{}, pushv {}", of.commit.as_deref().unwrap_or("unknown"), of.version)
    };
    let machine = |of: &Environment| {
        let kind = if of.hypervisor { ", a virtual machine" } else { "" };
        format!("{}, {} processors{kind}", of.cpu, of.processors)
    };
    vec![
        ("measured".into(), begun),
        ("commit".into(), environments(records, source)),
        ("profile".into(), methods(records, |of| profile_name(of.profile).into())),
        ("machine".into(), environments(records, machine)),
        ("kernel".into(), environments(records, |of| of.kernel.clone())),
        ("records".into(), records.len().to_string()),
    ]
}

/// What was decided before the first measurement.
pub(super) fn method(records: &[Record]) -> Facts {
    let fact = |name: &str, of: fn(&Method) -> String| (name.into(), methods(records, of));
    vec![
        fact("no practical difference", |of| {
            format!("less than {}", number::percent(of.threshold))
        }),
        fact("confidence of intervals", |of| number::percent(of.confidence)),
        fact("lives of the processes", |of| of.restarts.to_string()),
        fact("the times of a block are discarded", |of| {
            // Of the smallest size nothing is.
            if of.wait_max == f64::MAX {
                return "never".into();
            }
            let part = number::percent(of.wait_max);
            format!(
                "if its processes waited for processors, or the hypervisor took from the machine, \
                 more than {part} of its time"
            )
        }),
        ("seeds of the order".into(), seeds(records)),
    ]
}

/// What the machine was asked, and what it answered.
pub(super) fn environment(records: &[Record]) -> Facts {
    let fact =
        |name: &str, of: fn(&Environment) -> String| (name.into(), environments(records, of));
    let mut facts = vec![
        fact("kernel", |of| of.kernel.clone()),
        fact("processor", |of| of.cpu.clone()),
        fact("processors", |of| of.processors.to_string()),
        fact("memory", |of| number::with_unit(of.memory_bytes as f64, "bytes")),
        fact("virtual machine", |of| yes(of.hypervisor)),
        fact("clock", |of| of.clock_source.clone()),
        fact("reading the clock", |of| number::with_unit(of.clock_ns, "ns")),
        fact("frequency governor", |of| of.governor.clone().unwrap_or("not visible".into())),
        fact("network of its own", |of| match &of.network.why_not {
            Some(why) if !of.network.private => format!("no: {why}"),
            _ => yes(of.network.private),
        }),
        fact("MTU of lo", |of| format!("{} bytes", of.network.mtu_bytes)),
        fact("congestion control", |of| of.network.congestion.clone()),
        fact("descriptors", |of| of.descriptors.to_string()),
        fact("pushv", |of| of.version.clone()),
        fact("commit", |of| of.commit.clone().unwrap_or("unknown".into())),
    ];
    facts.extend(entries(records, "mitigation", |of| &of.mitigations));
    facts.extend(entries(records, "sysctl", |of| &of.sysctls));
    facts
}

/// The command lines that made the records.
pub(super) fn commands(records: &[Record]) -> Vec<String> {
    let lines = records.iter().map(|record| record.command.join(" "));
    unique(lines).into_iter().filter(|line| !line.is_empty()).collect()
}

/// A seed a cell may be many: all of them are in the records.
fn seeds(records: &[Record]) -> String {
    let seeds = unique(records.iter().map(|record| record.method.seed.to_string()));
    match seeds.as_slice() {
        [first, .., last] => format!("{first} to {last}, {} in all", seeds.len()),
        one => one.concat(),
    }
}

pub(super) fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Smallest => "smallest",
        Profile::Quick => "quick",
        Profile::Full => "full",
    }
}

type Entries = BTreeMap<String, String>;

fn entries(records: &[Record], kind: &str, of: fn(&Environment) -> &Entries) -> Facts {
    let names = records.iter().flat_map(|record| of(&record.environment).keys());
    let names: BTreeSet<&String> = names.collect();
    let value = |name: &String| {
        environments(records, |one| of(one).get(name).cloned().unwrap_or("unknown".into()))
    };
    names.into_iter().map(|name| (format!("{kind} {name}"), value(name))).collect()
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.into()
}

fn environments(records: &[Record], of: impl Fn(&Environment) -> String) -> String {
    unique(records.iter().map(|record| of(&record.environment))).join(" | ")
}

fn methods(records: &[Record], of: impl Fn(&Method) -> String) -> String {
    unique(records.iter().map(|record| of(&record.method))).join(" | ")
}

pub(super) fn unique(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut unique = Vec::new();
    for one in all {
        if !unique.contains(&one) {
            unique.push(one);
        }
    }
    unique
}
