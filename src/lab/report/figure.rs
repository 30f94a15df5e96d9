//! Tables and charts as data, without a look.

use crate::lab::method::stats::Interval;

/// A chart. Each shows intervals or distributions: a bar of a mean hides what is to be judged.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// Medians with their intervals, along an axis.
    Intervals {
        /// What it shows.
        title: String,
        /// The horizontal axis.
        x: Axis,
        /// The vertical axis.
        y: Axis,
        /// Lines.
        series: Vec<Series>,
    },
    /// Distributions: the part of all values that is not above x.
    Distribution {
        /// What it shows.
        title: String,
        /// The horizontal axis.
        x: Axis,
        /// A name each, and pairs of value and part (0 to 1), both rising.
        series: Vec<(String, Vec<(f64, f64)>)>,
    },
    /// Ratios over two factors: below 1 one is better, above 1 the other.
    Heat {
        /// What it shows.
        title: String,
        /// The horizontal axis, and its places.
        x: (String, Vec<String>),
        /// The vertical axis, and its places, from below.
        y: (String, Vec<String>),
        /// Rows of ratios, from below; `None` where nothing was measured.
        ratios: Vec<Vec<Option<f64>>>,
        /// What a ratio below 1 means, and one above.
        meaning: (String, String),
    },
}

impl Figure {
    /// What it shows.
    pub fn title(&self) -> &str {
        match self {
            Figure::Intervals { title, .. }
            | Figure::Distribution { title, .. }
            | Figure::Heat { title, .. } => title,
        }
    }
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, without the unit.
    pub title: String,
    /// The unit of the values as they are given: "ns". On the axis they stand in the unit that
    /// makes them short.
    pub unit: String,
    /// Whether equal distances are equal factors.
    pub log: bool,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, Interval)>,
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The headings. The first column is text, the others are figures.
    pub columns: Vec<String>,
    /// The rows, each as long as there are columns.
    pub rows: Vec<Vec<String>>,
    /// What is to be known to read it.
    pub note: String,
}
