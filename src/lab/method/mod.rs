//! How the lab measures, whatever it measures.

pub mod analysis;
pub mod audit;
pub mod cell;
pub mod doubts;
pub mod environment;
pub mod network;
pub mod noise;
pub mod record;
pub mod rig_check;
#[cfg(test)]
pub mod sample;
pub mod stats;
pub mod store;
