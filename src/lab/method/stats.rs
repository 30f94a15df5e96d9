//! Statistics.

/// An estimate with the interval that holds the true value with the confidence that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The interval's lower end.
    pub low: f64,
    /// The estimate.
    pub mid: f64,
    /// The interval's upper end.
    pub high: f64,
}
