//! How many connections the limit on descriptors leaves room for.
//!
//! Each connection is a descriptor. Those that the process needs besides are put aside at start, so
//! that connections cannot take them: neither those of subscribers, nor those that are being turned
//! away. A limit that leaves next to nothing is an error at start. A server that turns everything
//! away looks like one that is overloaded, and its operator would look for the cause elsewhere.

use crate::server::PLACES_APART;
use crate::sys;
use std::io;

/// How many connections this process can hold, when all listeners are open.
///
/// # Errors
/// That they are too few, with the limit and what it should be.
pub(super) fn connections_ceiling() -> io::Result<usize> {
    let (limit, _) = sys::descriptor_limits()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    ceiling(limit, open()).map_err(io::Error::other)
}

fn ceiling(limit: usize, open: usize) -> Result<usize, String> {
    let needed = open + SPARE + PLACES_APART + CONNECTIONS_MIN;
    if limit < needed {
        return Err(format!(
            "the limit on open descriptors (RLIMIT_NOFILE) is {limit}, and pushv needs at least \
             {needed}: {open} are open, {SPARE} are for signals and files, {PLACES_APART} for the \
             admin listener and for connections that are turned away, {CONNECTIONS_MIN} for \
             connections. Raise it: `ulimit -Hn`, or LimitNOFILE= of systemd"
        ));
    }
    Ok((limit - open - SPARE).min(CONNECTIONS_CEILING))
}

/// Descriptors that are open now, from `/proc/self/fd` (proc(5)).
fn open() -> usize {
    // One of them belongs to the reading of the directory.
    std::fs::read_dir("/proc/self/fd").map_or(OPEN_ASSUMED, |all| all.count().saturating_sub(1))
}

/// For what is opened later, at most at the same time: signals (8), the configuration and a token,
/// the service manager's socket, a socket on which options are tried, the process's own figures.
const SPARE: usize = 16;
/// As many as a server without a file or a service manager has.
const OPEN_ASSUMED: usize = 16;
/// With fewer, nothing that is worth a server can be done.
const CONNECTIONS_MIN: usize = 16;
/// Connections that one reactor is ready to hold; tokens leave room for more.
const CONNECTIONS_CEILING: usize = 10_000_000;
const _: () = assert!(CONNECTIONS_CEILING < super::turn::ACCEPTORS_FROM);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_named() {
        let least = 20 + SPARE + PLACES_APART + CONNECTIONS_MIN;
        assert_eq!(ceiling(least, 20), Ok(PLACES_APART + CONNECTIONS_MIN));
        let why = ceiling(least - 1, 20).unwrap_err();
        let (is, needs) = (format!("is {}", least - 1), format!("at least {least}: 20 are open"));
        assert!(
            why.contains("RLIMIT_NOFILE") && why.contains(&is) && why.contains(&needs),
            "{why}"
        );
        assert!(ceiling(0, 20).is_err() && ceiling(0, 0).is_err());
        assert_eq!(ceiling(usize::MAX, 20), Ok(CONNECTIONS_CEILING));
    }

    #[test]
    fn open_descriptors_are_counted() {
        let before = open();
        // Other tests open and close theirs meanwhile.
        let more: Vec<_> = (0..500).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(open() > before + 250, "{} after {before}", open());
        drop(more);
    }
}
