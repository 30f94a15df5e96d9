//! The real world: the kernel's sockets and clocks.

use crate::observe::usage::Usage;
use crate::server::Platform;
use crate::sys;
use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

/// The platform that a running server stands on.
#[derive(Debug)]
pub(super) struct Kernel;

impl Platform for Kernel {
    type Socket = mio::net::TcpStream;

    fn now_ns(&self) -> u64 {
        sys::monotonic_ns()
    }

    fn unix_s(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    fn unix_ns(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
    }

    fn usage(&self) -> Usage {
        Usage {
            resident_bytes: resident_bytes(),
            cpu_s: sys::thread_cpu_time().map_or(0.0, |time| time.as_secs_f64()),
            allocations: sys::allocator::allocations(),
        }
    }
}

/// Resident memory, from the second field of `/proc/self/statm` (proc(5)); 0 if it cannot be read.
fn resident_bytes() -> u64 {
    let pages =
        || std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse::<u64>().ok();
    pages().unwrap_or(0) * sys::page_bytes()
}

/// A number that differs from process to process: the standard library seeds its hash maps from
/// the kernel's random numbers.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}
