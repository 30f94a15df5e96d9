//! What was measured, as Markdown.

use crate::scene::Scene;
use std::time::Duration;

/// A question, and how long the probe waited each time.
pub struct Row {
    pub question: String,
    pub waits: Vec<Duration>,
}

pub fn print(scene: &Scene, rows: &[Row]) {
    let sizes = scene.sizes;
    println!(
        "{} topics, {} streams of {} topics each, {} topics with knobs of their own; each asked {} times",
        sizes.topics,
        sizes.streams,
        scene.topics_per_stream(),
        scene.overridden(),
        sizes.times,
    );
    println!("\n| asked | median ms | longest ms |\n|---|---:|---:|");
    for Row { question, waits } in rows {
        let mut waits = waits.clone();
        waits.sort();
        let ms = |wait: Duration| wait.as_secs_f64() * 1000.0;
        let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
        println!("| {question} | {:.1} | {:.1} |", ms(median), ms(longest));
    }
}
