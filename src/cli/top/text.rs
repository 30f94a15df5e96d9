//! Lines of text that know how wide they are and what is notable in them.
//!
//! Invariant: what a peer or a publisher has chosen (topics, ids) never reaches a terminal as it
//! stands. A character that a terminal would not show as itself could move the cursor, or hide.

use unicode_width::UnicodeWidthChar as _;

/// What a piece of text is, from which follows how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    /// A label.
    Quiet,
    /// A heading.
    Strong,
    /// Worth a look.
    Warning,
    /// Something is wrong.
    Alarm,
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub text: String,
    pub tone: Tone,
}

/// A line of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(pub Vec<Span>);

impl Line {
    /// A line of one piece.
    pub fn of(text: &str, tone: Tone) -> Line {
        Line::default().with(text, tone)
    }

    /// The line with one more piece.
    pub fn with(mut self, text: &str, tone: Tone) -> Line {
        self.push(text, tone);
        self
    }

    /// Adds a piece.
    pub fn push(&mut self, text: &str, tone: Tone) {
        self.0.push(Span { text: clean(text), tone });
    }

    /// Columns that it takes.
    pub fn width(&self) -> usize {
        self.0.iter().map(|span| width(&span.text)).sum()
    }

    /// Takes away what is beyond `columns`.
    pub fn cut(mut self, columns: usize) -> Line {
        let mut left = columns;
        for span in &mut self.0 {
            span.text = cut(&span.text, left);
            left -= width(&span.text);
        }
        self.0.retain(|span| !span.text.is_empty());
        self
    }

    /// Its text alone.
    pub fn plain(&self) -> String {
        let text: String = self.0.iter().map(|span| span.text.as_str()).collect();
        text.trim_end().to_string()
    }
}

/// Items behind a label, in as many lines as it takes.
pub fn flow(label: &str, items: Vec<Line>, columns: usize) -> Vec<Line> {
    place(label, items, 2, columns)
}

/// Sentences behind a label, broken between words.
pub fn paragraph(label: &str, text: &str, tone: Tone, columns: usize) -> Vec<Line> {
    let words = text.split_whitespace().map(|word| Line::of(word, tone));
    place(label, words.collect(), 1, columns)
}

fn place(label: &str, items: Vec<Line>, gap: usize, columns: usize) -> Vec<Line> {
    let begin = |label: &str| Line::of(&format!("{label:<LABEL_COLUMNS$}"), Tone::Quiet);
    let mut lines = vec![begin(label)];
    let mut is_first = true;
    for item in items {
        let Some(last) = lines.last_mut() else { break };
        let gap = if is_first { 0 } else { gap };
        if !is_first && last.width() + gap + item.width() > columns {
            let mut line = begin("");
            line.0.extend(item.0);
            lines.push(line);
        } else {
            last.push(&" ".repeat(gap), Tone::Plain);
            last.0.extend(item.0);
        }
        is_first = false;
    }
    lines
}

/// `text` with what a terminal does not show as itself replaced.
pub fn clean(text: &str) -> String {
    let shown = |char: char| if matches!(char.width(), Some(1..)) { char } else { '?' };
    text.chars().map(shown).collect()
}

/// The columns that `text` takes, once it is clean.
pub fn width(text: &str) -> usize {
    text.chars().map(|char| char.width().unwrap_or(0)).sum()
}

/// The front of `text` that fits.
pub fn cut(text: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |char: &char| {
        let rest = left.checked_sub(char.width().unwrap_or(0));
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    text.chars().take_while(fits).collect()
}

/// The end of `text` that fits, with a sign that it is not all: for ids, which differ at their end.
pub fn cut_front(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.into();
    }
    let mut kept: Vec<char> = Vec::new();
    let mut left = columns.saturating_sub(1);
    for char in text.chars().rev() {
        let Some(rest) = left.checked_sub(char.width().unwrap_or(0)) else { break };
        left = rest;
        kept.push(char);
    }
    "~".chars().chain(kept.into_iter().rev()).collect()
}

const LABEL_COLUMNS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_is_not_seen() {
        assert_eq!(clean("a\x1b[2J\r\n\u{202e}\u{9b}\u{200b}ü日"), "a?[2J?????ü日");
        let line = Line::of("\x1b]0;x\x07", Tone::Plain);
        assert_eq!(line.plain(), "?]0;x?");
    }

    #[test]
    fn cuts() {
        let check = |text: &str, columns, front: &str, back: &str| {
            assert_eq!((&*cut(text, columns), &*cut_front(text, columns)), (front, back));
        };
        check("abc", 3, "abc", "abc");
        check("abc", 2, "ab", "~c");
        check("日本語", 5, "日本", "~本語");
        check("日本語", 4, "日本", "~語");
        check("a", 0, "", "~");
        let line = Line::of("ab", Tone::Strong).with("cd", Tone::Plain).with("e", Tone::Plain);
        assert_eq!(line.clone().cut(3).plain(), "abc");
        assert_eq!((line.cut(2).0.len(), Line::default().width()), (1, 0));
    }

    #[test]
    fn items_flow() {
        let items = || ["one", "two", "three"].map(|item| Line::of(item, Tone::Plain)).to_vec();
        let flown = |columns| -> Vec<String> {
            flow("label", items(), columns).iter().map(Line::plain).collect()
        };
        assert_eq!(flown(80), ["label     one  two  three"]);
        assert_eq!(flown(20), ["label     one  two", "          three"]);
        assert_eq!(flown(0), ["label     one", "          two", "          three"]);
        let broken = paragraph("why", "It waits\nfor an edge.", Tone::Plain, 20);
        let broken: Vec<String> = broken.iter().map(Line::plain).collect();
        assert_eq!(broken, ["why       It waits", "          for an", "          edge."]);
    }
}
