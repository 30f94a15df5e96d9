//! What is measured: a real server and real subscribers, in processes of their own.

pub mod child;
