//! A strict reader of the OpenMetrics 1.0 text format
//! (<https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>).
//!
//! It knows the types that a server of ours has (counter, gauge, histogram, info), and refuses
//! whatever the specification says MUST NOT be, and whatever this server has no use for: other types,
//! timestamps, exemplars. Of what only SHOULD be it insists on a HELP line; the order of the lines of
//! metadata, TYPE, UNIT, HELP, is not asked for, since the library that writes them has another.

#![allow(dead_code)] // each test file uses its own part

use std::collections::{BTreeMap, BTreeSet};

/// A family of metrics: what one TYPE line is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub unit: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// With the suffix that its type demands.
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

/// Names and values, in the order in which they stand.
pub type Labels = Vec<(String, String)>;

/// The families of an exposition.
///
/// # Errors
/// What is wrong, and in which line.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    let mut reader = Reader::default();
    let body = text.strip_suffix("# EOF\n").or(text.strip_suffix("# EOF"));
    let body = body.ok_or("the last line is not # EOF")?;
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("# EOF does not begin a line".into());
    }
    for (number, line) in body.lines().enumerate() {
        // `lines` would take a CR for part of the line's end.
        let line = if body.contains('\r') { Err("a carriage return".into()) } else { Ok(line) };
        line.and_then(|line| reader.line(line))
            .map_err(|why| format!("line {}: {why}", number + 1))?;
    }
    reader.end_family()?;
    Ok(reader.families)
}

#[derive(Debug, Default)]
struct Reader {
    families: Vec<Family>,
    /// The one whose lines are being read.
    open: Option<Family>,
    /// The kinds of metadata that it has had.
    metadata: BTreeSet<String>,
    names: BTreeSet<String>,
    /// To which family the name of a sample belongs.
    sample_names: BTreeMap<String, String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        match line.strip_prefix("# ") {
            Some(metadata) => self.metadata(metadata),
            None if line.starts_with('#') => Err("a comment".into()),
            None => self.sample(line),
        }
    }

    fn metadata(&mut self, text: &str) -> Result<(), String> {
        let mut parts = text.splitn(3, ' ');
        let mut part = || parts.next().ok_or_else(|| format!("too short: {text:?}"));
        let (keyword, name, value) = (part()?, part()?, part()?);
        check_metric_name(name)?;
        if self.open.as_ref().is_none_or(|open| open.name != name) {
            self.end_family()?;
            if !self.names.insert(name.into()) {
                return Err(format!("{name} begins a second time"));
            }
            self.open = Some(Family { name: name.into(), ..Family::default() });
        }
        let Some(open) = &mut self.open else { return Err("no family".into()) };
        if !open.samples.is_empty() {
            return Err(format!("metadata behind a sample of {name}"));
        }
        if !self.metadata.insert(keyword.into()) {
            return Err(format!("a second {keyword} of {name}"));
        }
        match keyword {
            "TYPE" => open.kind = value.into(),
            "UNIT" => open.unit = value.into(),
            "HELP" => open.help = unescape(value)?,
            _ => return Err(format!("no such metadata: {keyword}")),
        }
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let sample = read_sample(line)?;
        let Some(open) = &mut self.open else { return Err("a sample before any TYPE".into()) };
        let suffix = sample.name.strip_prefix(open.name.as_str()).unwrap_or("?");
        let is_known = match open.kind.as_str() {
            "counter" => matches!(suffix, "_total" | "_created"),
            "gauge" => suffix.is_empty(),
            "histogram" => matches!(suffix, "_bucket" | "_count" | "_sum" | "_created"),
            "info" => suffix == "_info",
            kind => return Err(format!("{} is of type {kind:?}", open.name)),
        };
        if !is_known {
            return Err(format!("{} is no sample of {} {}", sample.name, open.kind, open.name));
        }
        open.samples.push(sample);
        Ok(())
    }

    fn end_family(&mut self) -> Result<(), String> {
        self.metadata.clear();
        let Some(family) = self.open.take() else { return Ok(()) };
        check_family(&family).map_err(|why| format!("{}: {why}", family.name))?;
        for sample in &family.samples {
            let owner = self.sample_names.entry(sample.name.clone());
            if *owner.or_insert(family.name.clone()) != family.name {
                return Err(format!("{} belongs to two families", sample.name));
            }
        }
        self.families.push(family);
        Ok(())
    }
}

/// What must hold of a family as a whole.
fn check_family(family: &Family) -> Result<(), String> {
    if family.help.is_empty() {
        return Err("no HELP".into());
    }
    if family.samples.is_empty() {
        return Err("no samples".into());
    }
    if !family.unit.is_empty() && !family.name.ends_with(&format!("_{}", family.unit)) {
        return Err(format!("its name does not end in its unit, {}", family.unit));
    }
    if family.kind == "counter" && family.name.ends_with("_total") {
        return Err("_total is for samples".into());
    }
    let mut series = BTreeSet::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.sort();
        if !series.insert((&sample.name, labels)) {
            return Err(format!("a second {} {:?}", sample.name, sample.labels));
        }
        let counts = family.kind != "gauge";
        if counts && (sample.value.is_nan() || sample.value < 0.0) {
            return Err(format!("{} is {}", sample.name, sample.value));
        }
    }
    if family.kind == "histogram" { check_histograms(family) } else { Ok(()) }
}

/// Buckets are in ascending order, count cumulatively, and end in the one of all.
fn check_histograms(family: &Family) -> Result<(), String> {
    let mut groups: Vec<(Labels, Vec<&Sample>)> = Vec::new();
    for sample in &family.samples {
        let labels: Labels =
            sample.labels.iter().filter(|(name, _)| name != "le").cloned().collect();
        if groups.last().is_none_or(|(last, _)| *last != labels) {
            if groups.iter().any(|(known, _)| *known == labels) {
                return Err(format!("the histogram of {labels:?} is interleaved"));
            }
            groups.push((labels, Vec::new()));
        }
        groups.last_mut().into_iter().for_each(|(_, samples)| samples.push(sample));
    }
    groups.iter().try_for_each(|(_, samples)| check_histogram(samples))
}

fn check_histogram(samples: &[&Sample]) -> Result<(), String> {
    let one = |suffix: &str| samples.iter().find(|sample| sample.name.ends_with(suffix));
    let mut last = (f64::NEG_INFINITY, 0.0);
    for bucket in samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let le =
            bucket.labels.iter().find(|(name, _)| name == "le").ok_or("a bucket without le")?;
        let limit = number(&le.1)?;
        if limit <= last.0 || limit.is_nan() {
            return Err(format!("bucket {limit} behind bucket {}", last.0));
        }
        if bucket.value < last.1 || bucket.value.fract() != 0.0 {
            return Err(format!("bucket {limit} has {} behind {}", bucket.value, last.1));
        }
        last = (limit, bucket.value);
    }
    if last.0 != f64::INFINITY {
        return Err("no bucket +Inf".into());
    }
    match (one("_count"), one("_sum")) {
        (Some(count), Some(_)) if count.value == last.1 => Ok(()),
        (Some(count), Some(_)) => Err(format!("count {} but +Inf {}", count.value, last.1)),
        _ => Err("no count, or no sum".into()),
    }
}

fn read_sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or_else(|| format!("no value: {line:?}"))?;
    let (name, mut rest) = line.split_at(end);
    check_metric_name(name)?;
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        (labels, rest) = read_labels(inside)?;
    }
    let value = rest.strip_prefix(' ').ok_or_else(|| format!("no space before {rest:?}"))?;
    Ok(Sample { name: name.into(), labels, value: number(value)? })
}

/// The labels up to the closing brace, and what is behind that.
fn read_labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        if let Some(behind) = rest.strip_prefix('}').filter(|_| labels.is_empty()) {
            return Ok((labels, behind));
        }
        let (name, value) = rest.split_once("=\"").ok_or_else(|| format!("no label: {rest:?}"))?;
        check_label_name(name)?;
        if labels.iter().any(|(known, _)| known == name) {
            return Err(format!("a second label {name}"));
        }
        let end = closing_quote(value).ok_or_else(|| format!("no closing quote: {value:?}"))?;
        labels.push((name.into(), unescape(&value[..end])?));
        rest = &value[end + 1..];
        match rest.split_at_checked(1) {
            Some((",", next)) => rest = next,
            Some(("}", behind)) => return Ok((labels, behind)),
            _ => return Err(format!("neither , nor }} before {rest:?}")),
        }
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        closes
    })
}

/// Backslashes stand before a backslash, a quote, or the n of a line end, and nowhere else.
fn unescape(text: &str) -> Result<String, String> {
    let mut chars = text.chars();
    let mut plain = String::new();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some(escaped @ ('\\' | '"')) => escaped,
                other => return Err(format!("\\{other:?} in {text:?}")),
            },
            char => char,
        });
    }
    Ok(plain)
}

fn number(text: &str) -> Result<f64, String> {
    // Rust reads some more than the grammar has, such as "infinity".
    let special = ["+Inf", "-Inf", "NaN"].contains(&text);
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number = text.parse().ok().filter(|_| special || digits);
    number.ok_or_else(|| format!("no number: {text:?}"))
}

fn check_metric_name(name: &str) -> Result<(), String> {
    check_name(name, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

fn check_label_name(name: &str) -> Result<(), String> {
    check_name(name, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check_name(name: &str, may_stand: impl Fn(u8) -> bool) -> Result<(), String> {
    let begins = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if begins && name.bytes().all(may_stand) { Ok(()) } else { Err(format!("no name: {name:?}")) }
}
