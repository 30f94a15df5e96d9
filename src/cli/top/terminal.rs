//! The terminal: taken over for as long as the table is shown, and given back whatever happens.
//!
//! Invariant: a terminal in raw mode shows nothing that is typed and does not know Ctrl-C, so there
//! is no way out of this file, a panic and a signal included, on which it stays so.

use super::text::{Line, Tone};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{cursor, execute, queue};
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A terminal in raw mode. Dropped, it is as it was before.
#[derive(Debug)]
pub struct Terminal {
    /// SIGTERM, SIGINT or SIGHUP has come.
    is_ended: Arc<AtomicBool>,
    with_colours: bool,
}

/// What the user has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Key(char),
    Quit,
    Resized,
}

impl Terminal {
    /// Takes the terminal of standard output over.
    pub fn open() -> io::Result<Terminal> {
        let is_ended = Arc::new(AtomicBool::new(false));
        for signal in signal_hook::consts::TERM_SIGNALS.iter().chain(&[signal_hook::consts::SIGHUP])
        {
            signal_hook::flag::register(*signal, Arc::clone(&is_ended))?;
        }
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Before the report, which would be wiped away with the table.
            give_back();
            report(panic);
        }));
        terminal::enable_raw_mode()?;
        IS_TAKEN.store(true, Ordering::Relaxed);
        let terminal = Terminal { is_ended, with_colours: wants_colours() };
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        size()
    }

    /// Shows `lines`, one for each row.
    pub fn draw(&self, lines: &[Line]) -> io::Result<()> {
        let mut frame = Vec::new();
        queue!(frame, BeginSynchronizedUpdate)?;
        for (row, line) in (0..).zip(lines) {
            // Cleared first: behind a character in the last column, the cursor still stands on it.
            queue!(frame, cursor::MoveTo(0, row), Clear(ClearType::CurrentLine))?;
            paint(&mut frame, line, self.with_colours)?;
        }
        queue!(frame, EndSynchronizedUpdate)?;
        // In one piece: half a table is never seen.
        let mut out = io::stdout().lock();
        out.write_all(&frame)?;
        out.flush()
    }

    /// What the user has done within `patience`.
    pub fn input(&self, patience: Duration) -> io::Result<Option<Input>> {
        if self.is_ended.load(Ordering::Relaxed) {
            return Ok(Some(Input::Quit));
        }
        if !event::poll(patience)? {
            return Ok(None);
        }
        Ok(match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => meaning(key),
            Event::Resize(..) => Some(Input::Resized),
            _ => None,
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Done once, by whoever comes first: to leave the other screen twice would put the cursor where it
/// was, on top of what has been said since.
fn give_back() {
    if !IS_TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    // What fails here cannot be told to anybody.
    let _shown = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
    let _cooked = terminal::disable_raw_mode();
}

/// The hook that a panic runs can be given nothing else to look at.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// In raw mode Ctrl-C is a key.
fn meaning(key: KeyEvent) -> Option<Input> {
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
            Some(Input::Quit)
        }
        KeyCode::Char('q') | KeyCode::Esc => Some(Input::Quit),
        KeyCode::Char(char) => Some(Input::Key(char)),
        _ => None,
    }
}

/// Writes lines for whoever reads standard output, with colours if that is a terminal.
pub fn print(lines: &[Line]) -> io::Result<()> {
    let with_colours = wants_colours();
    let mut text = Vec::new();
    for line in lines {
        match with_colours {
            true => paint(&mut text, line, true)?,
            false => text.extend_from_slice(line.plain().as_bytes()),
        }
        text.push(b'\n');
    }
    io::stdout().lock().write_all(&text)
}

/// Columns and rows of the terminal of standard output, or of the one that everybody knows.
pub fn size() -> (usize, usize) {
    match terminal::size() {
        Ok((columns, rows)) if columns > 0 && rows > 0 => (columns.into(), rows.into()),
        _ => (80, 24),
    }
}

/// Whether standard output shows colours and its user wants them (<https://no-color.org>).
fn wants_colours() -> bool {
    let is_unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    io::stdout().is_terminal() && !is_dumb() && is_unset("NO_COLOR")
}

/// Whether the terminal knows no escape sequences (term(7)): it would print them as text.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|name| name == "dumb")
}

fn paint(out: &mut impl Write, line: &Line, with_colours: bool) -> io::Result<()> {
    for span in &line.0 {
        match (with_colours, span.tone) {
            (false, _) | (true, Tone::Plain) => {}
            (true, Tone::Quiet) => queue!(out, SetAttribute(Attribute::Dim))?,
            (true, Tone::Strong) => queue!(out, SetAttribute(Attribute::Bold))?,
            (true, Tone::Warning) => queue!(out, SetForegroundColor(Color::Yellow))?,
            (true, Tone::Alarm) => queue!(out, SetForegroundColor(Color::Red))?,
        }
        out.write_all(span.text.as_bytes())?;
        if with_colours && span.tone != Tone::Plain {
            queue!(out, SetAttribute(Attribute::Reset))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out() {
        let line = Line::of("a", Tone::Strong).with("b", Tone::Plain).with("c", Tone::Alarm);
        let painted = |with_colours| {
            let mut out = Vec::new();
            paint(&mut out, &line, with_colours).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(painted(false), "abc");
        assert!(painted(true).starts_with("\x1b[1ma\x1b[0mb\x1b["), "{:?}", painted(true));
        assert!(painted(true).ends_with("c\x1b[0m"), "{:?}", painted(true));
    }

    #[test]
    fn keys() {
        let check = |code, modifiers, expected| {
            assert_eq!(meaning(KeyEvent::new(code, modifiers)), expected);
        };
        check(KeyCode::Char('c'), KeyModifiers::CONTROL, Some(Input::Quit));
        check(KeyCode::Char('c'), KeyModifiers::NONE, Some(Input::Key('c')));
        check(KeyCode::Char('q'), KeyModifiers::NONE, Some(Input::Quit));
        check(KeyCode::Esc, KeyModifiers::NONE, Some(Input::Quit));
        check(KeyCode::Char('l'), KeyModifiers::NONE, Some(Input::Key('l')));
        check(KeyCode::Up, KeyModifiers::NONE, None);
    }
}
