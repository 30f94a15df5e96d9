//! Who is let in: the limits on connections.
//!
//! Above a limit a connection is still taken on for a moment, because closing it at once would
//! tell a browser nothing and a publisher the wrong thing; there are only so many of those. The
//! admin listener has places of its own, so that an overload can be looked at.

use super::connection::{Connection, Door};
use crate::config::Limits;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// The open connections, counted.
#[derive(Debug, Default)]
pub(super) struct Admission {
    admitted: usize,
    over_limit: usize,
    admin: usize,
    /// The admitted ones of each address.
    addresses: HashMap<IpAddr, usize>,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    /// It is taken on to be told that there is no place for it.
    OverLimit,
    NoRoom,
}

impl Admission {
    /// What shall become of a connection from `peer`. `ceiling` is how many the process can hold.
    pub fn judge(&self, peer: SocketAddr, door: Door, limits: &Limits, ceiling: usize) -> Verdict {
        if door == Door::Admin {
            return if self.admin < ADMIN_MAX { Verdict::Admitted } else { Verdict::NoRoom };
        }
        let per_address = limits.connections_per_address_max;
        let from_there = self.addresses.get(&peer.ip()).copied().unwrap_or(0);
        let full = self.is_full(limits, ceiling) || (per_address > 0 && from_there >= per_address);
        match full {
            false => Verdict::Admitted,
            true if self.over_limit < OVER_LIMIT_MAX => Verdict::OverLimit,
            true => Verdict::NoRoom,
        }
    }

    /// Whether the next connection will be turned away, wherever it comes from.
    pub fn is_full(&self, limits: &Limits, ceiling: usize) -> bool {
        let possible = possible(ceiling);
        let connections_max = match limits.connections_max {
            0 => possible,
            max => max.min(possible),
        };
        self.admitted >= connections_max
    }

    pub fn add<S>(&mut self, connection: &Connection<S>) {
        *self.count_of(connection) += 1;
        if is_of_an_address(connection) {
            *self.addresses.entry(connection.peer.ip).or_default() += 1;
        }
    }

    pub fn remove<S>(&mut self, connection: &Connection<S>) {
        *self.count_of(connection) -= 1;
        let ip = connection.peer.ip;
        if is_of_an_address(connection)
            && let Some(count) = self.addresses.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&ip);
            }
        }
    }

    /// Connections of subscribers and publishers.
    pub fn public(&self) -> usize {
        self.admitted + self.over_limit
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn total(&self) -> usize {
        debug_assert_eq!(self.admitted, self.addresses.values().sum::<usize>());
        self.admitted + self.over_limit + self.admin
    }

    fn count_of<S>(&mut self, connection: &Connection<S>) -> &mut usize {
        match connection.door {
            Door::Admin => &mut self.admin,
            Door::Public if connection.over_limit => &mut self.over_limit,
            Door::Public => &mut self.admitted,
        }
    }
}

fn is_of_an_address<S>(connection: &Connection<S>) -> bool {
    connection.door == Door::Public && !connection.over_limit
}

/// How many of `ceiling` connections can be subscribers' and publishers'.
pub(super) fn possible(ceiling: usize) -> usize {
    ceiling.saturating_sub(PLACES_APART)
}

/// Places of a server that are neither subscribers' nor publishers': those of connections that are
/// being turned away, and those of the admin listener.
pub(crate) const PLACES_APART: usize = OVER_LIMIT_MAX + ADMIN_MAX;
const OVER_LIMIT_MAX: usize = 64;
const ADMIN_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, host], 1))
    }

    fn admit(
        admission: &mut Admission,
        host: u8,
        door: Door,
        limits: &Limits,
    ) -> Option<Connection<()>> {
        let verdict = admission.judge(peer(host), door, limits, 1000);
        let mut connection = Connection::new((), peer(host), door, 0);
        connection.over_limit = verdict == Verdict::OverLimit;
        (verdict != Verdict::NoRoom).then(|| {
            admission.add(&connection);
            connection
        })
    }

    #[test]
    fn those_over_the_limit_and_the_admin_take_nobodys_place() {
        let limits = Limits { connections_max: 2, ..Limits::default() };
        let mut admission = Admission::default();
        let all: Vec<_> =
            (0..100).filter_map(|_| admit(&mut admission, 1, Door::Public, &limits)).collect();
        assert_eq!(all.len(), 2 + OVER_LIMIT_MAX);
        let admins: Vec<_> =
            (0..100).filter_map(|_| admit(&mut admission, 1, Door::Admin, &limits)).collect();
        assert_eq!(admins.len(), ADMIN_MAX);

        assert!(!all[0].over_limit && all[2].over_limit);
        admission.remove(&all[0]);
        assert_eq!(
            admit(&mut admission, 1, Door::Public, &limits).map(|new| new.over_limit),
            Some(false)
        );
        all[1..].iter().chain(&admins).for_each(|connection| admission.remove(connection));
        assert_eq!((admission.total(), admission.addresses.len()), (1, 1));
    }

    #[test]
    fn each_address_has_a_limit_of_its_own() {
        let limits = Limits { connections_per_address_max: 1, ..Limits::default() };
        let mut admission = Admission::default();
        let mut over_limit =
            |host| admit(&mut admission, host, Door::Public, &limits).unwrap().over_limit;
        assert_eq!([over_limit(1), over_limit(2), over_limit(1)], [false, false, true]);
    }
}
