//! Frames are cut where the kernel happens to run out of space, at every byte of them.
//!
//! Nothing is injected: the buffers are as small as the kernel permits, the segments small, and the
//! readers slow. The server's log says after how many bytes each call stopped short, so it can be
//! counted at how many of a frame's bytes a cut was seen.

use super::Scale;
use super::publisher::Publisher;
use super::reader::Reader;
use super::server::{PATIENCE, Server};
use super::table::Row;
use std::collections::{BTreeSet, HashMap};

const WRITE_PATHS: [&str; 8] = ["split", "write", "writev", "copy", "more", "cork", "span", "auto"];

pub fn run(scale: Scale) -> Vec<Row> {
    let events = scale.of(1_500, 20_000);
    let row = |path: &&str| Row::new(format!("short writes, `{path}`"), events, cut(path, events, scale));
    WRITE_PATHS[..].iter().map(|path| row(path)).collect()
}

fn cut(path: &str, events: usize, scale: Scale) -> Result<String, String> {
    let mut server = Server::start(&[
        "--write-path",
        path,
        "--so-sndbuf-bytes",
        "2048",
        "--tcp-maxseg-bytes",
        "100",
        "--log-bytes-max",
        "8000000",
        "--log-events-max",
        "100000",
        "--log",
        "warn,pushv::server::flush=trace",
    ]);
    let mut readers: Vec<Reader> = (0..4).map(|_| Reader::narrow(server.public, "t")).collect();
    readers.iter_mut().try_for_each(Reader::open)?;
    let body: Vec<u8> = (0..events).flat_map(event).collect();
    let mut publisher = Publisher::new(server.public);
    publisher.post("/events/t", "text/event-stream", &body)?;
    drop(publisher);
    // By turns, so that each waits for the others and its buffers are full when it reads.
    for nth in 0..events {
        readers.iter_mut().try_for_each(|reader| reader.expect(content(nth).as_bytes()))?;
    }
    if readers.iter().any(|reader| reader.broken > 0) {
        return Err("a stream was broken off".into());
    }
    let events_bytes = server.metric("events_published_bytes_total") as usize;
    drop(readers);
    server.signal("TERM");
    let (_, says) = server.end(PATIENCE)?;
    let layout = Layout::of(events);
    if layout.bytes() != events_bytes {
        return Err(format!("the frames have {events_bytes} bytes, not {}", layout.bytes()));
    }
    let cuts = cuts(&says, &layout);
    let places: BTreeSet<usize> = cuts.iter().map(|cut| cut.at).collect();
    let watched = places.range(..WATCHED_BYTES).count();
    let characters = cuts.iter().filter(|cut| cut.in_character).count();
    let enough = scale.of(cuts.len() >= 20, watched * 10 >= WATCHED_BYTES * 9 && characters > 0);
    let seen = format!(
        "{} cuts, at {watched} of the first {WATCHED_BYTES} bytes of a frame, {characters} of them \
         inside a character; four streams are exact",
        cuts.len(),
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
    fn of(events: usize) -> Layout {
        let mut layout = Layout { frames: Vec::new(), ends: Vec::new() };
        for nth in 0..events {
            let payload = event(nth);
            let size = format!("{:x}\r\n", payload.len());
            layout.frames.push([size.as_bytes(), &payload, b"\r\n"].concat());
            layout.ends.push(layout.bytes() + layout.frames[nth].len());
        }
        layout
    }

    fn bytes(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The cut in front of the byte `at` of the stream; not one between two frames.
    fn cut(&self, at: usize) -> Option<Cut> {
        let nth = self.ends.partition_point(|end| *end <= at);
        let frame = self.frames.get(nth)?;
        let at = at - (self.ends[nth] - frame.len());
        (at > 0).then(|| Cut { at, in_character: frame[at] & 0xC0 == 0x80 })
    }
}

/// The places at which calls stopped short.
fn cuts(log: &str, layout: &Layout) -> Vec<Cut> {
    let mut streams: HashMap<&str, (usize, Vec<usize>)> = HashMap::new();
    for line in log.lines().filter(|line| line.contains("flush conn=")) {
        let field = |name: &str| {
            let (_, rest) = line.split_once(name)?;
            rest.split_whitespace().next()
        };
        let (Some(conn), Some(bytes)) = (field("conn="), field(" bytes=")) else { continue };
        let (sent, cuts) = streams.entry(conn).or_default();
        *sent += bytes.parse::<usize>().unwrap_or(0);
        if line.contains("outcome=Blocked") {
            cuts.push(*sent);
        }
    }
    let whole = streams.values().filter(|(sent, _)| *sent >= layout.bytes());
    let places = whole.flat_map(|(sent, cuts)| {
        // In front of the first frame is the head.
        let head = sent - layout.bytes();
        cuts.iter().filter_map(move |at| layout.cut(at.checked_sub(head)?))
    });
    places.collect()
}

fn content(nth: usize) -> String {
    format!("{nth:06} größer → 🦀 {}", "z".repeat(nth * 37 % 211))
}

fn event(nth: usize) -> Vec<u8> {
    format!("id: {nth:06}\ndata: {}\n\n", content(nth)).into_bytes()
}

/// The frames differ in length; all of them have an id and characters of two, three and four bytes
/// up to here.
const WATCHED_BYTES: usize = 45;
