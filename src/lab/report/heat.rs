//! Ratios over two factors, as a field of colours.
//!
//! The colour of a ratio is stronger the further it is from 1, equally far for a ratio and its
//! inverse; at 1 there is none.

use super::chart::{Area, Drawn, LEFT_OF_FIELD, LESS, LETTER, MORE, WIDTH, text};
use super::number;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// How high the drawing is that has so many rows.
pub(super) fn height(rows: usize) -> i32 {
    TOP + ROW * rows as i32 + BELOW
}

const TOP: i32 = 60;
const ROW: i32 = 84;
const BELOW: i32 = 190;

/// The ratio, and its inverse, from which on the colour does not become stronger.
const STRONGEST: f64 = 4.0;

pub(super) fn draw(
    root: &Area<'_>,
    x: &(String, Vec<String>),
    y: &(String, Vec<String>),
    ratios: &[Vec<Option<f64>>],
    meaning: &(String, String),
) -> Drawn {
    let bottom = TOP + ROW * y.1.len() as i32;
    let column = (WIDTH - LEFT_OF_FIELD - 20) / x.1.len().max(1) as i32;
    text(root, &y.0, (0, TOP - 34), HPos::Left)?;
    for (row, (name, ratios)) in y.1.iter().zip(ratios).enumerate() {
        let low = bottom - ROW * row as i32;
        text(root, name, (LEFT_OF_FIELD - 16, low - ROW / 2), HPos::Right)?;
        for (place, ratio) in ratios.iter().enumerate() {
            let left = LEFT_OF_FIELD + column * place as i32;
            cell(root, (left, low - ROW), (left + column, low), *ratio)?;
        }
    }
    for (place, name) in x.1.iter().enumerate() {
        let middle = LEFT_OF_FIELD + column * place as i32 + column / 2;
        text(root, name, (middle, bottom + 28), HPos::Center)?;
    }
    text(root, &x.0, ((LEFT_OF_FIELD + WIDTH) / 2, bottom + 76), HPos::Center)?;
    let below = format!("below 1: {}", meaning.0);
    key(root, (LEFT_OF_FIELD, bottom + 136), LESS, &below)?;
    let second = LEFT_OF_FIELD + 110 + LETTER * below.chars().count() as i32;
    key(root, (second, bottom + 136), MORE, &format!("above 1: {}", meaning.1))
}

fn cell(root: &Area<'_>, from: (i32, i32), to: (i32, i32), ratio: Option<f64>) -> Drawn {
    let middle = (i32::midpoint(from.0, to.0), i32::midpoint(from.1, to.1));
    let Some(ratio) = ratio else { return text(root, "–", middle, HPos::Center) };
    let colour = if ratio < 1.0 { LESS } else { MORE };
    let gap = |(x, y): (i32, i32), by: i32| (x + by, y + by);
    let style = colour.mix(strength(ratio)).filled();
    root.draw(&Rectangle::new([gap(from, 3), gap(to, -3)], style))?;
    text(root, &number::with_unit(ratio, ""), middle, HPos::Center)
}

fn key(root: &Area<'_>, (x, y): (i32, i32), colour: RGBColor, meaning: &str) -> Drawn {
    let style = colour.mix(strength(2.0)).filled();
    root.draw(&Rectangle::new([(x, y - 16), (x + 48, y + 16)], style))?;
    text(root, meaning, (x + 64, y), HPos::Left)
}

/// How strong the colour is, from 0 to a part of it that leaves the text legible. In whole
/// hundredths: the last digits of a logarithm are not the same everywhere.
fn strength(ratio: f64) -> f64 {
    let far = (ratio.ln().abs() / STRONGEST.ln()).min(1.0);
    (far * 65.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_and_its_inverse_are_equally_strong() {
        let check = |ratio, expected| assert_eq!(strength(ratio), expected);
        check(1.0, 0.0);
        check(2.0, strength(0.5));
        check(4.0, 0.65);
        check(100.0, 0.65);
        check(0.0, 0.65);
    }
}
