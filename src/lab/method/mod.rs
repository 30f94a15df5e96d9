//! How the lab measures, whatever it measures.

pub mod analysis;
pub mod cell;
pub mod noise;
pub mod record;
pub mod stats;
