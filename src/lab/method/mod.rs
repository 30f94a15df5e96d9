//! How the lab measures, whatever it measures.

pub mod analysis;
pub mod cell;
pub mod doubts;
pub mod noise;
pub mod record;
pub mod rig_check;
#[cfg(test)]
pub mod sample;
pub mod stats;
pub mod store;
