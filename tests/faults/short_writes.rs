//! Frames are cut where the kernel happens to run out of space, at every byte of them.
//!
//! Nothing is injected: the buffers are as small as the kernel permits, the segments small, and the
//! readers slow. strace tells how many bytes each call took, so it can be counted at how many of a
//! frame's bytes a cut was seen.

use super::Scale;
use super::publisher::Publisher;
use super::reader::Reader;
use super::table::Row;
use super::trace::Trace;
use std::collections::{BTreeSet, HashMap};

pub fn run(scale: Scale) -> Vec<Row> {
    let row = |shape: &Shape| {
        let events = scale.of(1_500, 20_000) / shape.fewer;
        Row::new(format!("short writes, `{}`", shape.path), events, cut(shape, events, scale))
    };
    SHAPES.iter().map(row).collect()
}

/// A write path, and events by which its calls are cut.
struct Shape {
    path: &'static str,
    /// Characters that are appended to the shortest event, to the longest.
    longer: usize,
    /// By how much there are fewer of them.
    fewer: usize,
}

const SHAPES: [Shape; 8] = [
    one_by_one("split"),
    one_by_one("write"),
    one_by_one("more"),
    together("writev"),
    together("copy"),
    together("cork"),
    together("span"),
    together("auto"),
];

/// Calls of one event or less: the kernel takes those that are short whole, or not at all.
const fn one_by_one(path: &'static str) -> Shape {
    Shape { path, longer: 3001, fewer: 10 }
}

const fn together(path: &'static str) -> Shape {
    Shape { path, longer: 101, fewer: 1 }
}

fn cut(shape: &Shape, events: usize, scale: Scale) -> Result<String, String> {
    let trace = Trace::new();
    let arguments = [
        "--write-path",
        shape.path,
        "--so-sndbuf-bytes",
        "2048",
        "--tcp-maxseg-bytes",
        "100",
        "--log-bytes-max",
        "16000000",
        "--log-events-max",
        "100000",
    ];
    let started = trace.start("sendto,writev", &[], &arguments);
    let server = started.map_err(|refused| format!("{refused:?}"))?;
    let mut readers: Vec<Reader> = (0..4).map(|_| Reader::narrow(server.public, "t")).collect();
    readers.iter_mut().try_for_each(Reader::open)?;
    let body: Vec<u8> = (0..events).flat_map(|nth| event(nth, shape)).collect();
    let mut publisher = Publisher::new(server.public);
    publisher.post("/events/t", "text/event-stream", &body)?;
    drop(publisher);
    // By turns, so that each waits for the others and its buffers are full when it reads.
    for nth in 0..events {
        readers.iter_mut().try_for_each(|reader| reader.expect(content(nth, shape).as_bytes()))?;
    }
    if readers.iter().any(|reader| reader.broken > 0) {
        return Err("a stream was broken off".into());
    }
    let events_bytes = server.metric("events_published_bytes_total") as usize;
    drop(readers);
    server.drain()?;
    let layout = Layout::of(events, shape);
    if layout.bytes() != events_bytes {
        return Err(format!("the frames have {events_bytes} bytes, not {}", layout.bytes()));
    }
    let cuts = cuts(&trace.text(), &layout);
    let places: BTreeSet<usize> = cuts.iter().map(|cut| cut.at).collect();
    let watched = places.range(..WATCHED_BYTES).count();
    let characters = cuts.iter().filter(|cut| cut.in_character).count();
    let everywhere = watched * 10 >= WATCHED_BYTES * 9 || shape.fewer > 1;
    let enough = characters >= 3 && (everywhere || scale == Scale::Quick);
    let seen = format!(
        "{} cuts within frames, at {} places, among them {watched} of the first {WATCHED_BYTES} \
         bytes; {characters} inside a character; four streams are exact",
        cuts.len(),
        places.len()
    );
    if enough { Ok(seen) } else { Err(seen) }
}

/// Where a call stopped short.
struct Cut {
    /// The byte of the frame in front of which it did.
    at: usize,
    /// That byte continues a character.
    in_character: bool,
}

/// Where the frames stand in a stream.
struct Layout {
    frames: Vec<Vec<u8>>,
    ends: Vec<usize>,
}

impl Layout {
    fn of(events: usize, shape: &Shape) -> Layout {
        let mut layout = Layout { frames: Vec::new(), ends: Vec::new() };
        for nth in 0..events {
            let payload = event(nth, shape);
            let size = format!("{:x}\r\n", payload.len());
            layout.frames.push([size.as_bytes(), &payload, b"\r\n"].concat());
            layout.ends.push(layout.bytes() + layout.frames[nth].len());
        }
        layout
    }

    fn bytes(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The cut in front of the byte `at` of the stream; not one between two parts of a frame.
    fn cut(&self, at: usize) -> Option<Cut> {
        let nth = self.ends.partition_point(|end| *end <= at);
        let frame = self.frames.get(nth)?;
        let at = at - (self.ends[nth] - frame.len());
        let size_line = frame.iter().position(|byte| *byte == b'\n')? + 1;
        let border = [0, size_line, frame.len() - 2].contains(&at);
        (!border).then_some(Cut { at, in_character: frame[at] & 0xC0 == 0x80 })
    }
}

/// The places at which calls stopped short. A call that does not offers whole frames, or, on the
/// path `split`, whole parts of them.
fn cuts(log: &str, layout: &Layout) -> Vec<Cut> {
    let mut streams: HashMap<&str, Vec<usize>> = HashMap::new();
    for line in log.lines() {
        let call = line.split_once("sendto(").or(line.split_once("writev("));
        let Some((_, call)) = call else { continue };
        let descriptor = call.split(',').next().unwrap_or_default();
        let taken = call.rsplit_once("= ").and_then(|(_, taken)| taken.trim().parse().ok());
        let ends = streams.entry(descriptor).or_default();
        let sent = ends.last().copied().unwrap_or(0);
        ends.extend(taken.map(|taken: usize| sent + taken));
    }
    // In front of the first frame is the head, and behind the last one nothing was sent.
    let whole = streams.values().filter_map(|ends| {
        let head = ends.last()?.checked_sub(layout.bytes()).filter(|head| *head < 1000)?;
        Some(ends.iter().filter_map(move |end| layout.cut(end.checked_sub(head)?)))
    });
    whole.flatten().collect()
}

fn content(nth: usize, shape: &Shape) -> String {
    let mut text = format!("{nth:06} größer → 🦀 ");
    text.extend("zß→🦀".chars().cycle().take(nth * 37 % shape.longer));
    text
}

fn event(nth: usize, shape: &Shape) -> Vec<u8> {
    format!("data: {}\nid: {nth:06}\n\n", content(nth, shape)).into_bytes()
}

/// The frames differ in length; all of them have an id and characters of two, three and four bytes
/// up to here.
const WATCHED_BYTES: usize = 45;
