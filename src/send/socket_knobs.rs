//! The options of the sockets that streams are written to.
//!
//! Each can be changed on live connections. Three of them cannot be undone there, because the
//! kernel has no call for it: a send buffer once set stays fixed (`SO_SNDBUF` turns autotuning
//! off for good), a congestion control stays until another is named, and a maximum segment size
//! can only be set before the connection stands, so it is set on the listening socket and
//! inherited.

use socket2::SockRef;
use std::fmt;
use std::io;
use std::time::Duration;

/// Values for the options of a socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketKnobs {
    /// `TCP_NODELAY`: send small segments at once, although earlier ones are not acknowledged.
    pub nodelay: bool,
    /// `SO_SNDBUF`, as asked of the kernel, which doubles it for its own bookkeeping. 0: left to
    /// the kernel, which grows it with the connection's window.
    pub sndbuf_bytes: usize,
    /// `TCP_NOTSENT_LOWAT`: how much unsent data the kernel accepts before it says that the
    /// socket is full. Keeps events here, where they can be skipped. 0: the system's value.
    pub notsent_lowat_bytes: u32,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged before the connection is
    /// given up. 0: the system's value, about 15 minutes.
    pub user_timeout_ms: u64,
    /// `TCP_CONGESTION`: the congestion control's name. Empty: the system's.
    pub congestion: String,
    /// `TCP_MAXSEG`, for connections accepted from now on. 0: what the route permits.
    pub maxseg_bytes: u32,
}

impl SocketKnobs {
    /// Sets on a connected socket the options in which `self` differs from `before`, or all that
    /// are not left to the kernel.
    ///
    /// # Errors
    /// The first call that the kernel refuses, with the option's name.
    pub fn apply(&self, socket: &SockRef<'_>, before: Option<&SocketKnobs>) -> io::Result<()> {
        let fresh = SocketKnobs::left_to_the_kernel();
        let before = before.unwrap_or(&fresh);
        if self.nodelay != before.nodelay {
            let set = socket.set_tcp_nodelay(self.nodelay);
            named(("tcp_nodelay", "TCP_NODELAY"), &self.nodelay, set)?;
        }
        if self.sndbuf_bytes != before.sndbuf_bytes && self.sndbuf_bytes > 0 {
            let set = socket.set_send_buffer_size(self.sndbuf_bytes);
            named(("so_sndbuf_bytes", "SO_SNDBUF"), &self.sndbuf_bytes, set)?;
        }
        if self.notsent_lowat_bytes != before.notsent_lowat_bytes {
            let set = socket.set_tcp_notsent_lowat(self.notsent_lowat_bytes);
            let names = ("tcp_notsent_lowat_bytes", "TCP_NOTSENT_LOWAT");
            named(names, &self.notsent_lowat_bytes, set)?;
        }
        if self.user_timeout_ms != before.user_timeout_ms {
            let timeout = Duration::from_millis(self.user_timeout_ms);
            let set = socket.set_tcp_user_timeout(Some(timeout));
            named(("tcp_user_timeout_ms", "TCP_USER_TIMEOUT"), &self.user_timeout_ms, set)?;
        }
        if self.congestion != before.congestion && !self.congestion.is_empty() {
            let set = socket.set_tcp_congestion(self.congestion.as_bytes());
            named(("tcp_congestion", "TCP_CONGESTION"), &self.congestion, set)?;
        }
        Ok(())
    }

    /// Values that are all others: with them as `before`, [`SocketKnobs::apply`] sets each option for
    /// which the kernel has a call.
    pub fn differing(&self) -> SocketKnobs {
        SocketKnobs {
            nodelay: !self.nodelay,
            sndbuf_bytes: !self.sndbuf_bytes,
            notsent_lowat_bytes: !self.notsent_lowat_bytes,
            user_timeout_ms: !self.user_timeout_ms,
            congestion: format!("not {}", self.congestion),
            maxseg_bytes: !self.maxseg_bytes,
        }
    }

    /// Sets on a listening socket the options that only take effect from there.
    ///
    /// # Errors
    /// As for [`SocketKnobs::apply`].
    pub fn apply_to_listener(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if self.maxseg_bytes > 0 {
            let set = socket.set_tcp_mss(self.maxseg_bytes);
            named(("tcp_maxseg_bytes", "TCP_MAXSEG"), &self.maxseg_bytes, set)?;
        }
        Ok(())
    }

    /// Tries the values on a socket of our own, so that a bad one is found before it is adopted.
    ///
    /// # Errors
    /// What the kernel has against the first one that it refuses.
    pub fn probe(&self) -> io::Result<()> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        self.apply(&SockRef::from(&socket), None)?;
        self.apply_to_listener(&SockRef::from(&socket))
    }

    /// What a socket has before any option is set.
    fn left_to_the_kernel() -> SocketKnobs {
        SocketKnobs {
            nodelay: false,
            sndbuf_bytes: 0,
            notsent_lowat_bytes: 0,
            user_timeout_ms: 0,
            congestion: String::new(),
            maxseg_bytes: 0,
        }
    }
}

impl Default for SocketKnobs {
    fn default() -> Self {
        SocketKnobs {
            // An event is one write, so there is nothing for Nagle's algorithm to join; it would
            // only hold an event back while an earlier one is unacknowledged.
            nodelay: true,
            // A vanished peer is noticed within a heartbeat and this, not after 15 minutes.
            user_timeout_ms: 60_000,
            ..SocketKnobs::left_to_the_kernel()
        }
    }
}

/// The kernel's error with the knob, its value and the option that it is about.
fn named(
    (knob, option): (&str, &str),
    value: &dyn fmt::Display,
    result: io::Result<()>,
) -> io::Result<()> {
    result.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => {
                "; the kernel has those of `sysctl net.ipv4.tcp_available_congestion_control`"
            }
            _ => "",
        };
        io::Error::new(error.kind(), format!("{knob} = {value}: {option}: {error}{hint}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};

    #[test]
    fn options_reach_the_kernel() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let knobs = SocketKnobs {
            nodelay: true,
            sndbuf_bytes: 20_000,
            notsent_lowat_bytes: 16_384,
            user_timeout_ms: 7_000,
            congestion: "reno".into(),
            maxseg_bytes: 1_200,
        };
        knobs.apply(&SockRef::from(&socket), None).unwrap();
        knobs.apply_to_listener(&SockRef::from(&socket)).unwrap();
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.send_buffer_size().unwrap(), 40_000, "the kernel doubles it");
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16_384);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));

        let after = SocketKnobs { nodelay: false, notsent_lowat_bytes: 0, ..knobs.clone() };
        after.apply(&SockRef::from(&socket), Some(&knobs)).unwrap();
        assert!(!socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 0);
    }

    #[test]
    fn a_bad_value_is_found_and_named() {
        SocketKnobs::default().probe().unwrap();
        let knobs = SocketKnobs { congestion: "no-such".into(), ..SocketKnobs::default() };
        let why = knobs.probe().unwrap_err().to_string();
        assert!(why.starts_with("tcp_congestion = no-such: TCP_CONGESTION: No such file"), "{why}");
        assert!(why.ends_with("tcp_available_congestion_control`"), "{why}");
        let knobs = SocketKnobs { maxseg_bytes: 1, ..SocketKnobs::default() };
        let why = knobs.probe().unwrap_err().to_string();
        assert!(why.starts_with("tcp_maxseg_bytes = 1: TCP_MAXSEG: Invalid argument"), "{why}");
    }
}
