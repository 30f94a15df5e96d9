//! What people read: made from records alone.

pub mod figure;
pub mod number;
pub mod standard;
