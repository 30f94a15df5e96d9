//! pushv
pub mod config;
pub mod feed;
pub mod observe;
pub mod push;
pub mod reactor;
pub mod send;
pub mod server;
pub mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wire;
