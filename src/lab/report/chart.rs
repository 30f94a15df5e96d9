//! Figures as SVG, to stand within a page.
//!
//! A chart has no colours of its own. It is drawn in colours that mean something else, and these
//! are then replaced by the page's variables, so that one drawing fits a light page and a dark
//! one. Series differ in the shape of their marks as well as in colour. Text is in the page's font,
//! whose widths are not known here, so room for it is estimated.
//!
//! Invariant: the same figure gives the same text.

use super::axis::{self, Scale};
use super::figure::{Axis, Figure, Series};
use super::heat;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::io;

/// The figure as an `<svg>` element that is as wide as what it stands in. It uses these variables
/// of the page: `--c0` to `--c7` for series, `--grid` for lines behind them, `--less` and `--more`
/// for ratios; everything else is in the colour of the text.
pub fn svg(figure: &Figure) -> String {
    let height = match figure {
        Figure::Intervals { series, .. } => HEIGHT + legend_height(series.iter().map(|s| &s.name)),
        Figure::Distribution { series, .. } => HEIGHT + legend_height(series.iter().map(|s| &s.0)),
        Figure::Heat { y, .. } => heat::height(y.1.len()),
    };
    let mut drawn = String::new();
    let root = SVGBackend::with_string(&mut drawn, (WIDTH as u32, height as u32));
    let root = root.into_drawing_area();
    let done = match figure {
        Figure::Intervals { x, y, series, .. } => draw_intervals(&root, height, x, y, series),
        Figure::Distribution { x, series, .. } => draw_distribution(&root, height, x, series),
        Figure::Heat { x, y, ratios, meaning, .. } => heat::draw(&root, x, y, ratios, meaning),
    };
    done.and_then(|()| root.present()).expect("a string takes everything");
    drop(root);
    for_page(&drawn, figure.title(), height)
}

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;
pub(super) type Point = (i32, i32);

/// The drawing's own width. It is only a grid to draw on: fine enough for lines to be smooth.
pub(super) const WIDTH: i32 = 1440;
const HEIGHT: i32 = 760;
const TEXT: i32 = 27;
/// The same for plotters, which divides it by this number again.
const TEXT_SIZE: f64 = TEXT as f64 * 1.24;
/// The estimated width of a letter.
pub(super) const LETTER: i32 = 14;
const LEFT: i32 = 150;
pub(super) const LEFT_OF_FIELD: i32 = 190;
const RIGHT: i32 = WIDTH - 40;
const TOP: i32 = 84;
const BELOW: i32 = 110;
const LEGEND_ROW: i32 = 44;

pub(super) const INK: RGBColor = RGBColor(2, 0, 0);
pub(super) const GRID: RGBColor = RGBColor(3, 0, 0);
pub(super) const LESS: RGBColor = RGBColor(4, 0, 0);
pub(super) const MORE: RGBColor = RGBColor(5, 0, 0);

/// How many series have a colour of their own; as many have a shape of their own.
const COLOURS: usize = 8;

fn colour(series: usize) -> RGBColor {
    RGBColor(1, 0, (series % COLOURS) as u8)
}

/// Replaces the colours and the font by the page's, and the size by that of what it stands in.
fn for_page(drawn: &str, title: &str, height: i32) -> String {
    let inner = drawn.split_once('>').map_or("", |(_, inner)| inner).trim_start();
    let head = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" font-size=\"{TEXT}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <title>{}</title>\n",
        super::escape(title)
    );
    // With its quotation marks, so that only attributes are meant: in text they are escaped.
    let size = format!(" font-size=\"{}\"", TEXT_SIZE / 1.24);
    let mut inner = inner.replace(" font-family=\"page\"", "").replace(&size, "");
    inner = inner.replace(" opacity=\"1\"", "");
    let fixed = [(INK, "currentColor"), (GRID, "var(--grid)")];
    let fixed = fixed.into_iter().chain([(LESS, "var(--less)"), (MORE, "var(--more)")]);
    let series = (0..COLOURS).map(|place| (colour(place), format!("var(--c{place})")));
    let all = fixed.map(|(colour, name)| (colour, name.to_string())).chain(series);
    for (RGBColor(red, green, blue), name) in all {
        let sentinel = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        inner = inner.replace(&sentinel, &format!("\"{name}\""));
    }
    head + &inner
}

/// Where a chart is drawn, and how values become places.
struct Frame {
    x: Scale,
    y: Scale,
    top: i32,
    bottom: i32,
}

impl Frame {
    fn point(&self, x: f64, y: f64) -> Option<Point> {
        let right = self.x.place(x)? * f64::from(RIGHT - LEFT);
        let up = self.y.place(y)? * f64::from(self.bottom - self.top);
        Some((LEFT + right.round() as i32, self.bottom - up.round() as i32))
    }

    fn draw(&self, root: &Area<'_>, x: &Axis, y: &Axis) -> Drawn {
        for &tick in &self.y.ticks {
            let up = self.y.place(tick).unwrap_or(0.0) * f64::from(self.bottom - self.top);
            let height = self.bottom - up.round() as i32;
            line(root, &[(LEFT, height), (RIGHT, height)], GRID, 2)?;
            text(root, &axis::label(tick, &y.unit), (LEFT - 16, height), HPos::Right)?;
        }
        for &tick in &self.x.ticks {
            let right = self.x.place(tick).unwrap_or(0.0) * f64::from(RIGHT - LEFT);
            let place = LEFT + right.round() as i32;
            line(root, &[(place, self.top), (place, self.bottom)], GRID, 2)?;
            text(root, &axis::label(tick, &x.unit), (place, self.bottom + 28), HPos::Center)?;
        }
        line(root, &[(LEFT, self.bottom), (RIGHT, self.bottom)], INK, 2)?;
        let middle = (LEFT + RIGHT) / 2;
        text(root, &with_scale(x), (middle, self.bottom + 78), HPos::Center)?;
        text(root, &with_scale(y), (0, self.top - 52), HPos::Left)
    }
}

fn with_scale(axis: &Axis) -> String {
    let scale = if axis.log { ", log scale" } else { "" };
    format!("{}{scale}", axis::title(axis))
}

fn draw_intervals(root: &Area<'_>, height: i32, x: &Axis, y: &Axis, series: &[Series]) -> Drawn {
    let points = || series.iter().flat_map(|series| &series.points);
    let frame = Frame {
        x: Scale::of_places(x, points().map(|point| point.0)),
        y: Scale::of_amounts(y, points().flat_map(|(_, y)| [y.low, y.mid, y.high])),
        top: TOP + legend_height(series.iter().map(|series| &series.name)),
        bottom: height - BELOW,
    };
    legend(root, series.iter().map(|series| &series.name))?;
    frame.draw(root, x, y)?;
    let series_count = series.len() as i32;
    for (place, series) in series.iter().enumerate() {
        // A little to the side of each other, so that no interval hides another.
        let aside = 8 * place as i32 - 4 * (series_count - 1);
        let shifted = |x, y| frame.point(x, y).map(|(right, down)| (right + aside, down));
        let mids: Vec<Point> =
            series.points.iter().filter_map(|(x, y)| shifted(*x, y.mid)).collect();
        line(root, &mids, colour(place), 3)?;
        for (x, y) in &series.points {
            if let (Some(low), Some(high)) = (shifted(*x, y.low), shifted(*x, y.high)) {
                whisker(root, low, high, colour(place))?;
            }
        }
        mids.iter().try_for_each(|mid| mark(root, *mid, place))?;
    }
    Ok(())
}

fn draw_distribution(
    root: &Area<'_>,
    height: i32,
    x: &Axis,
    series: &[(String, Vec<(f64, f64)>)],
) -> Drawn {
    let y = Axis { title: "part of all that is not above".into(), unit: "%".into(), log: false };
    let names = || series.iter().map(|(name, _)| name);
    let frame = Frame {
        x: Scale::of_amounts(x, series.iter().flat_map(|(_, steps)| steps.iter().map(|s| s.0))),
        y: Scale::of_parts(),
        top: TOP + legend_height(names()),
        bottom: height - BELOW,
    };
    legend(root, names())?;
    frame.draw(root, x, &y)?;
    for (place, (_, steps)) in series.iter().enumerate() {
        let point = |step: &(f64, f64)| frame.point(step.0, step.1 * 100.0);
        let points: Vec<Point> = steps.iter().filter_map(point).collect();
        line(root, &points, colour(place), 3)?;
        // Marks at other heights for each series: lines that lie on each other stay distinct.
        for part in [0.15, 0.5, 0.85].map(|part| part + 0.03 * (place % COLOURS) as f64 - 0.1) {
            let nearest = steps.iter().find(|step| step.1 >= part).and_then(point);
            nearest.map_or(Ok(()), |nearest| mark(root, nearest, place))?;
        }
    }
    Ok(())
}

/// The names with their colours and shapes, in as many rows as it takes.
fn legend<'a>(root: &Area<'_>, names: impl Iterator<Item = &'a String>) -> Drawn {
    for (place, (name, (right, row))) in legend_places(names).into_iter().enumerate() {
        let height = 22 + row * LEGEND_ROW;
        line(root, &[(right, height), (right + 56, height)], colour(place), 3)?;
        mark(root, (right + 28, height), place)?;
        text(root, name, (right + 70, height), HPos::Left)?;
    }
    Ok(())
}

fn legend_height<'a>(names: impl Iterator<Item = &'a String>) -> i32 {
    legend_places(names).last().map_or(0, |(_, (_, row))| (row + 1) * LEGEND_ROW)
}

/// How far to the right each name begins, and in which row.
fn legend_places<'a>(names: impl Iterator<Item = &'a String>) -> Vec<(&'a str, Point)> {
    let (mut right, mut row) = (0, 0);
    let place = |name: &'a String| {
        let width = 110 + LETTER * name.chars().count() as i32;
        if right > 0 && right + width > WIDTH {
            (right, row) = (0, row + 1);
        }
        right += width;
        (name.as_str(), (right - width, row))
    };
    names.map(place).collect()
}

pub(super) fn text(root: &Area<'_>, text: &str, at: Point, side: HPos) -> Drawn {
    let font = ("page", TEXT_SIZE).into_font().color(&INK);
    root.draw(&Text::new(text.to_string(), at, font.pos(Pos::new(side, VPos::Center))))
}

fn line(root: &Area<'_>, points: &[Point], colour: RGBColor, width: u32) -> Drawn {
    match points.len() {
        0 | 1 => Ok(()),
        _ => root.draw(&PathElement::new(points.to_vec(), colour.stroke_width(width))),
    }
}

fn whisker(root: &Area<'_>, low: Point, high: Point, colour: RGBColor) -> Drawn {
    line(root, &[low, high], colour, 3)?;
    for (right, height) in [low, high] {
        line(root, &[(right - 9, height), (right + 9, height)], colour, 3)?;
    }
    Ok(())
}

/// The mark of a series: a shape of its own for each.
fn mark(root: &Area<'_>, (x, y): Point, series: usize) -> Drawn {
    let colour = colour(series);
    let polygon = |points: &[Point]| {
        let points: Vec<Point> = points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        root.draw(&Polygon::new(points, colour.filled()))
    };
    // The ninth has the colour of the first again, but not its shape.
    match (series + series / COLOURS) % COLOURS {
        0 => root.draw(&Circle::new((x, y), 10, colour.filled())),
        1 => polygon(&[(-9, -9), (9, -9), (9, 9), (-9, 9)]),
        2 => polygon(&[(0, -13), (12, 9), (-12, 9)]),
        3 => polygon(&[(0, -14), (14, 0), (0, 14), (-14, 0)]),
        4 => polygon(&[(0, 13), (12, -9), (-12, -9)]),
        5 => root.draw(&Circle::new((x, y), 10, colour.stroke_width(4))),
        6 => {
            line(root, &[(x - 10, y - 10), (x + 10, y + 10)], colour, 5)?;
            line(root, &[(x - 10, y + 10), (x + 10, y - 10)], colour, 5)
        }
        _ => {
            line(root, &[(x - 12, y), (x + 12, y)], colour, 5)?;
            line(root, &[(x, y - 12), (x, y + 12)], colour, 5)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::stats::Interval;

    fn axis(title: &str, unit: &str, log: bool) -> Axis {
        Axis { title: title.into(), unit: unit.into(), log }
    }

    fn intervals(names: &[&str]) -> Figure {
        let series = names.iter().enumerate().map(|(place, name)| {
            let points = [10.0_f64, 100.0, 1000.0].map(|x| {
                let mid = 900.0 + 300.0 * place as f64 * x.log10();
                (x, Interval { low: mid * 0.95, mid, high: mid * 1.1 })
            });
            Series { name: name.to_string(), points: points.to_vec() }
        });
        Figure::Intervals {
            title: "CPU & <more>".into(),
            x: axis("subscribers", "", true),
            y: axis("server CPU per delivery", "ns", false),
            series: series.collect(),
        }
    }

    #[test]
    fn a_chart_stays_as_it_was_looked_at() {
        insta::assert_snapshot!(svg(&intervals(&["write", "writev"])));
    }

    #[test]
    fn a_chart_takes_the_page_s_looks() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "the <ninth> \"#010000\""];
        let drawn = svg(&intervals(&names));
        assert!(drawn.starts_with("<svg viewBox=\"0 0 1440 "), "{drawn}");
        assert!(drawn.contains("<title>CPU &amp; &lt;more&gt;</title>"));
        assert!(drawn.contains("the &lt;ninth&gt; &quot;#010000&quot;"), "text is not a colour");
        assert!(!drawn.contains("\"#0"), "a colour of the drawing is left");
        assert!(!drawn.contains("font-family") && drawn.matches("font-size").count() == 1);
        assert!((0..8).all(|place| drawn.contains(&format!("var(--c{place})"))));
    }

    #[test]
    fn nothing_is_too_little_to_draw() {
        let (x, y) = (axis("x", "", true), axis("y", "", true));
        let one = |low, mid, high| {
            let points = vec![(0.0, Interval { low, mid, high })];
            vec![Series { name: String::new(), points }]
        };
        for series in [vec![], one(0.0, 0.0, 0.0), one(f64::NAN, 1.0, f64::INFINITY)] {
            let (title, x, y) = (String::new(), x.clone(), y.clone());
            assert!(svg(&Figure::Intervals { title, x, y, series }).ends_with("</svg>\n"));
        }
        let title = String::new();
        svg(&Figure::Distribution { title, x, series: vec![("a".into(), vec![])] });
        let nowhere = || (String::new(), Vec::new());
        let (title, meaning) = Default::default();
        svg(&Figure::Heat { title, x: nowhere(), y: nowhere(), ratios: Vec::new(), meaning });
    }

    #[test]
    fn legends_wrap() {
        let names = ["x".repeat(40), "y".repeat(40), "z".repeat(40)];
        let rows: Vec<i32> = legend_places(names.iter()).iter().map(|(_, at)| at.1).collect();
        assert_eq!(rows, [0, 0, 1]);
    }
}
