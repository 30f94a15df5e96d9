//! What people read: made from records alone.

pub mod figure;
