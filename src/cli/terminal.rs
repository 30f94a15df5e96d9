//! What long work shows on a terminal, and how it is interrupted.

use super::note;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A bar on standard error, if that is a terminal, and the signals that end the work.
pub struct Terminal {
    pub bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
    /// What was done when it was last asked whether that is news.
    doing: String,
}

impl Terminal {
    /// From now on the first SIGINT, SIGTERM or SIGHUP is noted; a second one ends the process at
    /// once. A SIGHUP that is ignored, as by nohup(1), stays so.
    pub fn new() -> io::Result<Terminal> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let hangup =
            Some(SIGHUP).filter(|&signal| !pushv::sys::process::ignores(signal).unwrap_or(false));
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())?;
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        let target = match io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(STEPS), target);
        let style = ProgressStyle::with_template("{bar:30} {elapsed:>4}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Ok(Terminal { bar, interrupted, doing: String::new() })
    }

    /// Shows how far the work is (0 to 1), and what is being done.
    pub fn show(&self, part: f64, message: String) {
        self.bar.set_position((STEPS as f64 * part) as u64);
        self.bar.set_message(message);
    }

    /// Whether there is somebody to see the bar.
    pub fn is_seen(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Whether something else is being done than when this was last asked.
    pub fn is_news(&mut self, doing: &str) -> bool {
        let news = self.doing != doing;
        if news {
            self.doing = doing.into();
        }
        news
    }

    /// Says something beside the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    /// Whether the user has ended the work.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

const STEPS: u64 = 1000;
