//! How the lab measures, whatever it measures.

pub mod analysis;
pub mod record;
pub mod stats;
