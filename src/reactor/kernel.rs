//! The real world: the kernel's sockets and clocks.

use crate::server::Platform;
use std::hash::{BuildHasher, RandomState};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The platform that a running server stands on.
#[derive(Debug)]
pub(super) struct Kernel {
    started: Instant,
}

impl Default for Kernel {
    fn default() -> Self {
        Kernel { started: Instant::now() }
    }
}

impl Platform for Kernel {
    type Socket = mio::net::TcpStream;

    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn unix_s(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }
}

/// A number that differs from process to process: the standard library seeds its hash maps from
/// the kernel's random numbers.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}
