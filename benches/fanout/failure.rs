//! Why a contestant has no figure.

use std::fmt;

/// Why there is no figure. The probe cannot be used any more.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be reached, or a connection ended.
    Closed(String),
    /// What was received is not what every subscriber must receive.
    Wrong(String),
    /// Events that were published never came.
    Lost(String),
    /// Nothing came any more.
    Stalled(String),
    /// More was offered than it could deliver.
    Behind { deliveries_per_s: f64 },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Closed(how) | Failure::Wrong(how) => f.write_str(how),
            Failure::Lost(what) => write!(f, "lost publishes: {what}"),
            Failure::Stalled(what) => write!(f, "stalled: {what}"),
            Failure::Behind { deliveries_per_s } => {
                write!(f, "falls behind ({:.0} k/s)", deliveries_per_s / 1e3)
            }
        }
    }
}
