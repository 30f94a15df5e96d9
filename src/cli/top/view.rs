//! What is known becomes lines: a function of its arguments, in which nothing is measured or drawn.

use super::answers::{Lag, Live, Quantiles};
use super::number::{bytes, clock, count, short, time_ms, time_us};
use super::state::State;
use super::table;
use super::text::{Line, Tone, flow, paragraph};
use serde_json::Value;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// The admin listener, in words.
    pub admin: String,
    /// One of `SORTS`.
    pub sort: &'static str,
    pub topic: Option<String>,
    pub limit: u16,
    pub interval_ms: u64,
    pub is_paused: bool,
}

/// By what streams can be sorted. Each begins with the letter of its key.
pub const SORTS: [&str; 4] = ["lag", "age", "bytes", "verdict"];

/// The whole of it.
pub fn lines(question: &Question, state: &State, columns: usize) -> Vec<Line> {
    let mut lines = header(question, state, columns, Detail::All);
    lines.push(Line::default());
    lines.extend(streams(question, state, columns, usize::MAX));
    lines.into_iter().map(|line| line.cut(columns)).collect()
}

/// As much of it as fits, with the keys in the last line.
pub fn screen(question: &Question, state: &State, (columns, rows): (usize, usize)) -> Vec<Line> {
    let detail = if rows < ROWS_FOR_ALL { Detail::Notable } else { Detail::All };
    let mut lines = header(question, state, columns, detail);
    lines.push(Line::default());
    let left = rows.saturating_sub(lines.len() + 1);
    lines.extend(streams(question, state, columns, left));
    lines.truncate(rows.saturating_sub(1));
    lines.resize(rows.saturating_sub(1), Line::default());
    lines.push(keys(question));
    lines.truncate(rows);
    lines.into_iter().map(|line| line.cut(columns)).collect()
}

/// How much of what is known is shown. On a low terminal the table needs the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    All,
    /// No troubles of which there are none, and the knobs that matter most.
    Notable,
}

fn header(question: &Question, state: &State, columns: usize, detail: Detail) -> Vec<Line> {
    let mut lines = vec![title(question, state)];
    if let Some(why) = &state.lost {
        let text = format!("no answer ({why}), trying again; what follows is old");
        lines.extend(paragraph("LOST", &text, Tone::Alarm, columns));
    }
    if state.is_silent() && state.lost.is_none() {
        let age = time_ms(state.age.as_millis() as u64);
        let text = format!("/live has said nothing for {age}; all but the table is as old");
        lines.extend(paragraph("SILENT", &text, Tone::Alarm, columns));
    }
    if let Some(epochs) = &state.restarted {
        lines.extend(paragraph("RESTARTED", epochs, Tone::Warning, columns));
    }
    let Some(live) = &state.live else { return lines };
    let sections = [
        ("rates", rates(state)),
        ("latency", latencies(live)),
        ("lag", lag(&live.lag)),
        ("streams", population(live, detail)),
        ("verdicts", verdicts(live, detail)),
        ("memory", memory(live)),
        ("knobs", knobs(live, detail)),
        ("flip", vec![flip(live)]),
    ];
    lines.extend(sections.into_iter().flat_map(|(label, items)| flow(label, items, columns)));
    lines
}

fn title(question: &Question, state: &State) -> Line {
    let line = Line::of("pushv top ", Tone::Strong).with(&question.admin, Tone::Plain);
    let Some(live) = &state.live else { return line };
    let up = format!("  {}  up {}", live.epoch, time_ms(live.at_ms));
    line.with(&up, Tone::Plain).with(&format!("  {} UTC", clock(live.unix_ms)), Tone::Quiet)
}

fn rates(state: &State) -> Vec<Line> {
    let Some(rates) = &state.rates else {
        let unknown = state.is_silent() || state.lost.is_some();
        let text = if unknown { "unknown" } else { "from the next refresh on" };
        return vec![Line::of(text, Tone::Quiet)];
    };
    let ratio = |value: Option<f64>| value.map_or_else(|| "-".into(), short);
    let bytes_per_s = format!("{}/s", bytes(rates.bytes_per_s as u64));
    vec![
        item("published", &format!("{}/s", short(rates.published_per_s))),
        item("deliveries", &format!("{}/s", short(rates.deliveries_per_s))),
        item("bytes", &bytes_per_s),
        item("calls", &format!("{}/s", short(rates.calls_per_s))),
        item("calls/event", &ratio(rates.calls_per_event)),
        item("frames/call", &ratio(rates.frames_per_call)),
        noted("incomplete", &format!("{}/s", short(rates.incomplete_per_s)), {
            if rates.incomplete_per_s > 0.0 { Tone::Warning } else { Tone::Plain }
        }),
    ]
}

fn latencies(live: &Live) -> Vec<Line> {
    let text = |quantiles: Option<Quantiles>| match quantiles {
        None => "-".to_string(),
        Some(Quantiles { p50, p99, .. }) => format!("p50 {} p99 {}", time_us(p50), time_us(p99)),
    };
    let of = &live.latency_us;
    vec![
        item("to kernel", &text(of.publish_to_kernel)),
        item("to ack", &text(of.publish_to_ack)),
        item("fan-out", &text(of.fanout_spread)),
        item("turn", &text(of.turn)),
    ]
}

fn lag(lag: &Lag) -> Vec<Line> {
    let text = |quantiles: Quantiles, show: fn(f64) -> String| {
        let Quantiles { p50, p99, max } = quantiles;
        format!("p50 {} p99 {} max {}", show(p50), show(p99), show(max))
    };
    vec![
        item("events", &text(lag.events, short)),
        item("bytes", &text(lag.bytes, |value| bytes(value as u64))),
        item("oldest", &lag.oldest_ms.map_or_else(|| "-".into(), time_ms)),
    ]
}

fn population(live: &Live, detail: Detail) -> Vec<Line> {
    let counted = &live.counters;
    let streams = format!("of {} connections", count(Some(live.connections)));
    let mut items = vec![item(&count(Some(live.streams)), &streams)];
    items.push(item("topics", &count(Some(live.topics))));
    let troubles = [
        ("blocked", live.blocked),
        ("gaps", counted.gaps),
        ("lost", counted.lost),
        ("nagle stalls", counted.nagle_stalls),
    ];
    let shown = troubles.into_iter().filter(|&(_, number)| detail == Detail::All || number > 0);
    items.extend(shown.map(|(label, number)| {
        let tone = if number > 0 { Tone::Warning } else { Tone::Plain };
        noted(label, &count(Some(number)), tone)
    }));
    items
}

fn verdicts(live: &Live, detail: Detail) -> Vec<Line> {
    let known = VERDICTS.iter().map(|&name| (name, live.verdicts.get(name).copied().unwrap_or(0)));
    let others = live.verdicts.iter().map(|(name, &number)| (name.as_str(), number));
    let others = others.filter(|(name, _)| !VERDICTS.contains(name));
    let shown = known.chain(others).filter(|&(_, number)| detail == Detail::All || number > 0);
    let show = |(name, number): (&str, u64)| {
        noted(name, &count(Some(number)), if number > 0 { table::tone(name) } else { Tone::Plain })
    };
    shown.map(show).collect()
}

fn memory(live: &Live) -> Vec<Line> {
    let memory = &live.memory;
    let logs = format!("{} of {}", bytes(memory.log_bytes), bytes(memory.logs_bytes_max));
    vec![
        item("resident", &bytes(memory.resident_bytes)),
        item("kernel", &memory.kernel_bytes.map_or_else(|| "-".into(), bytes)),
        item("logs", &logs),
    ]
}

/// Those that the write path depends on most come first.
fn knobs(live: &Live, detail: Detail) -> Vec<Line> {
    let known = KNOBS.iter().filter_map(|&name| Some((name, live.knobs.get(name)?)));
    let others = live.knobs.iter().map(|(name, value)| (name.as_str(), value));
    let others = others.filter(|(name, _)| !KNOBS.contains(name));
    let shown = if detail == Detail::All { usize::MAX } else { KNOBS_ON_A_LOW_SCREEN };
    known.chain(others).take(shown).map(|(name, value)| item(name, &plain(value))).collect()
}

fn flip(live: &Live) -> Line {
    let Some(flip) = live.flips.last() else { return Line::of("none yet", Tone::Quiet) };
    let ago = time_ms(live.at_ms.saturating_sub(flip.at_ms));
    let change = format!("{} -> {}", plain(&flip.from), plain(&flip.to));
    item(&flip.knob, &change).with(&format!("  {ago} ago"), Tone::Quiet)
}

/// The table, in at most `rows` lines, and why the first stream in it is where it is.
fn streams(question: &Question, state: &State, columns: usize, rows: usize) -> Vec<Line> {
    let streams = &state.streams;
    let why = streams.connections.first().map_or(Vec::new(), |first| {
        let hint = first.hint.as_ref().map(|hint| format!(" {hint}")).unwrap_or_default();
        let text = format!("{} {}: {}{hint}", first.id, first.verdict, first.why);
        paragraph("why", &text, Tone::Plain, columns)
    });
    let rows = rows.saturating_sub(1 + why.len() + 1);
    let shown = streams.connections.iter().take(rows.min(question.limit.into()));
    let mut lines = vec![table::head(columns)];
    lines.extend(shown.map(|stream| table::line(stream, columns)));
    let of_topic =
        question.topic.as_ref().map(|topic| format!(" of topic {topic}")).unwrap_or_default();
    let (listed, count) = (lines.len() - 1, streams.count);
    let caption = format!("{listed} of {count} streams{of_topic}, worst {} first", question.sort);
    lines.push(Line::of(&caption, Tone::Quiet));
    lines.extend(why);
    lines
}

fn keys(question: &Question) -> Line {
    let mut line = Line::default();
    for sort in SORTS {
        let tone = if sort == question.sort { Tone::Strong } else { Tone::Quiet };
        line.push(&format!("{} {sort}  ", &sort[..1]), tone);
    }
    match question.is_paused {
        true => line.push("p PAUSED  ", Tone::Warning),
        false => line.push("p pause  ", Tone::Quiet),
    }
    line.with(&format!("q quit  every {}", time_ms(question.interval_ms)), Tone::Quiet)
}

fn item(label: &str, value: &str) -> Line {
    noted(label, value, Tone::Plain)
}

fn noted(label: &str, value: &str, tone: Tone) -> Line {
    Line::of(&format!("{label} "), Tone::Quiet).with(value, tone)
}

/// A JSON value as a flag would have it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

/// From so many rows on everything is shown.
const ROWS_FOR_ALL: usize = 32;

const KNOBS_ON_A_LOW_SCREEN: usize = 3;

const VERDICTS: [&str; 7] =
    ["idle", "flowing", "not_flushed", "not_reading", "network", "send_buffer", "peer_gone"];

const KNOBS: [&str; 8] = [
    "write_path",
    "flush_policy",
    "overrun",
    "tcp_nodelay",
    "so_sndbuf_bytes",
    "tcp_notsent_lowat_bytes",
    "timestamp_one_in",
    "observe_ms",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// What a server has said, with a reader that does not read.
    fn state() -> State {
        let read = |text: &str| -> Option<Live> { serde_json::from_str(text).unwrap() };
        let streams: super::super::answers::Streams =
            serde_json::from_str(include_str!("recorded/connections.json")).unwrap();
        let (mut state, now) = (State::default(), Instant::now());
        for text in [include_str!("recorded/before.json"), include_str!("recorded/live.json")] {
            state.refresh(now, read(text).map(|live| (now, live)), Ok(streams.clone()));
        }
        state
    }

    fn question() -> Question {
        Question {
            admin: "127.0.0.1:9180".into(),
            sort: "lag",
            topic: None,
            limit: 20,
            interval_ms: 1000,
            is_paused: false,
        }
    }

    fn text(lines: &[Line]) -> String {
        lines.iter().map(Line::plain).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn as_it_was_looked_at() {
        insta::assert_snapshot!("80_columns", text(&screen(&question(), &state(), (80, 32))));
        let low = text(&screen(&question(), &state(), (80, 24)));
        insta::assert_snapshot!("low", low);
        let (low, _keys) = low.rsplit_once("\n\n").unwrap();
        assert!(include_str!("../../../docs/OBSERVING.md").contains(low.trim_end()), "the page");
        insta::assert_snapshot!("180_columns", text(&screen(&question(), &state(), (180, 32))));
        insta::assert_snapshot!("table", text(&lines(&question(), &state(), 120)));
        insta::assert_snapshot!("nothing", text(&lines(&question(), &State::default(), 80)));
    }

    #[test]
    fn a_server_that_is_lost_and_one_that_is_back() {
        let mut lost = state();
        let now = Instant::now();
        lost.refresh(now, None, Err("Connection refused (os error 111)".into()));
        let shown = text(&lines(&question(), &lost, 80));
        assert!(shown.contains("LOST      no answer (Connection refused"), "{shown}");
        let mut back = lost;
        let next = Live { epoch: "another".into(), at_ms: 200, ..back.live.clone().unwrap() };
        back.refresh(now, Some((now, next)), Ok(Default::default()));
        let shown = text(&lines(&question(), &back, 80));
        assert!(shown.contains("RESTARTED ") && shown.contains(" is now another"), "{shown}");
        assert!(shown.contains("rates     from the next refresh on"), "{shown}");
        assert!(!shown.contains("LOST"), "{shown}");
    }

    #[test]
    fn a_server_that_says_nothing_new() {
        let mut silent = state();
        let later = Instant::now() + Duration::from_secs(5);
        silent.refresh(later, None, Ok(silent.streams.clone()));
        let shown = text(&lines(&question(), &silent, 80));
        assert!(shown.contains("SILENT    /live has said nothing for "), "{shown}");
        assert!(shown.contains("rates     unknown\n") && !shown.contains("published "), "{shown}");
    }

    /// Whatever the terminal, no line is wider and there are no more of them.
    #[test]
    fn it_fits() {
        let question = Question { topic: Some("a".into()), is_paused: true, ..question() };
        for columns in [0, 1, 20, 79, 80, 100, 200] {
            for rows in [0, 1, 2, 5, 15, 24, 60] {
                let lines = screen(&question, &state(), (columns, rows));
                assert_eq!(lines.len(), rows);
                assert!(lines.iter().all(|line| line.width() <= columns), "{columns} {rows}");
            }
        }
        let lines = screen(&question, &state(), (80, 24));
        assert!(lines[23].plain().contains("p PAUSED"), "the keys are the last line");
    }

    #[test]
    fn what_is_wrong_stands_out() {
        let mut state = state();
        let live = state.live.as_mut().unwrap();
        live.counters.lost = 1234;
        live.verdicts.insert("send_buffer".into(), 77);
        let lines = lines(&question(), &state, 80);
        let tones = |text: &str| -> Vec<Tone> {
            let spans = lines.iter().flat_map(|line| &line.0);
            let values = spans.filter(|span| span.text.trim() == text && span.tone != Tone::Quiet);
            values.map(|span| span.tone).collect()
        };
        assert_eq!(tones("not_reading"), [Tone::Alarm]);
        assert_eq!(tones("flowing"), [Tone::Plain; 3]);
        assert_eq!(tones("77"), [Tone::Warning], "send buffers");
        assert_eq!(tones("1234"), [Tone::Warning], "events lost");
    }
}
