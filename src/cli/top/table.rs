//! The streams as a table: which columns there are, and what stands in them.

use super::answers::{Amount, Stream};
use super::number::{bytes, count, time_ms, time_us};
use super::text::{self, Line, Tone};

/// A column. They come in the order in which they are shown, and later ones need a wider terminal.
struct Column {
    title: &'static str,
    columns: usize,
    side: Side,
    /// The width of the terminal from which on it is shown.
    from_columns: usize,
    cell: fn(&Stream) -> String,
}

/// Where the text of a cell stands, and so which end of it is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    /// Left, and it is the front that is cut.
    LeftEnd,
}

const COLUMNS: &[Column] = &[
    column("ID", 10, Side::LeftEnd, 0, |stream| stream.id.clone()),
    column("VERDICT", 11, Side::Left, 0, |stream| stream.verdict.clone()),
    column("AGE", 6, Side::Right, 0, |stream| time_ms(stream.age_ms)),
    column("BEHIND", 13, Side::Right, 0, |stream| amount(&stream.ladder.behind)),
    column("PRIVATE", 7, Side::Right, 0, |stream| bytes(stream.ladder.private.bytes)),
    column("UNSENT", 7, Side::Right, 0, |stream| bytes(stream.ladder.unsent.bytes)),
    column("FLIGHT", 7, Side::Right, 0, |stream| bytes(stream.ladder.in_flight.bytes)),
    column("ACKED", 12, Side::LeftEnd, 0, acked),
    column("OLDEST", 6, Side::Right, 87, |stream| span(stream.ladder.behind.oldest_ms)),
    column("PEER", 21, Side::Left, 109, |stream| stream.peer.clone()),
    column("BLOCKED", 7, Side::Right, 117, |stream| span(stream.blocked_ms)),
    column("UNACKED", 7, Side::Right, 125, |stream| span(stream.unacknowledged_ms)),
    column("RTT", 7, Side::Right, 133, rtt),
    column("RETRANS", 7, Side::Right, 141, retransmitted),
    column("SENT", 13, Side::Right, 155, |stream| amount(&stream.sent)),
    column("TOPICS", 24, Side::Left, 180, |stream| stream.topics.join(" ")),
];

const fn column(
    title: &'static str,
    columns: usize,
    side: Side,
    from_columns: usize,
    cell: fn(&Stream) -> String,
) -> Column {
    Column { title, columns, side, from_columns, cell }
}

/// The titles.
pub fn head(columns: usize) -> Line {
    let titles = shown(columns).map(|column| (column, column.title.to_string(), Tone::Quiet));
    row(titles)
}

/// The line of a stream.
pub fn line(stream: &Stream, columns: usize) -> Line {
    let cells = shown(columns).map(|column| {
        let tone = match column.title {
            "VERDICT" => tone(&stream.verdict),
            _ => Tone::Plain,
        };
        (column, (column.cell)(stream), tone)
    });
    row(cells)
}

/// How bad a verdict is.
pub fn tone(verdict: &str) -> Tone {
    match verdict {
        "idle" | "flowing" => Tone::Plain,
        "not_flushed" | "send_buffer" | "network" => Tone::Warning,
        _ => Tone::Alarm,
    }
}

fn shown(columns: usize) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| column.from_columns <= columns)
}

fn row(cells: impl Iterator<Item = (&'static Column, String, Tone)>) -> Line {
    let mut line = Line::default();
    for (column, cell, tone) in cells {
        if !line.0.is_empty() {
            line.push(" ", Tone::Plain);
        }
        line.push(&fit(&text::clean(&cell), column), tone);
    }
    line
}

/// A cell of exactly the width of its column.
fn fit(cell: &str, column: &Column) -> String {
    let cell = match column.side {
        Side::LeftEnd => text::cut_front(cell, column.columns),
        _ => text::cut(cell, column.columns),
    };
    let space = " ".repeat(column.columns - text::width(&cell));
    match column.side {
        Side::Right => space + &cell,
        _ => cell + &space,
    }
}

fn amount(amount: &Amount) -> String {
    format!("{} {}", count(amount.events), bytes(amount.bytes))
}

fn acked(stream: &Stream) -> String {
    stream.ladder.acked.last_event_id.clone().unwrap_or_else(|| "-".into())
}

fn span(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".into(), time_ms)
}

fn rtt(stream: &Stream) -> String {
    stream.tcp.as_ref().map_or_else(|| "-".into(), |tcp| time_us(tcp.rtt_us as f64))
}

fn retransmitted(stream: &Stream) -> String {
    count(stream.tcp.as_ref().map(|tcp| tcp.retransmitted_segments))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row is never wider than the terminal that it is shown on, from 80 columns on.
    #[test]
    fn every_column_fits() {
        let wide = "w".repeat(100);
        let stream = Stream {
            id: wide.clone(),
            verdict: wide.clone(),
            peer: wide.clone(),
            topics: vec![wide],
            age_ms: u64::MAX,
            sent: Amount { events: Some(u64::MAX), bytes: u64::MAX, ..Amount::default() },
            ..Stream::default()
        };
        for columns in 80..300 {
            assert!(head(columns).width() <= columns, "{columns}");
            assert_eq!(line(&stream, columns).width(), head(columns).width(), "{columns}");
        }
        assert_eq!(head(80).width(), 80);
    }
}
