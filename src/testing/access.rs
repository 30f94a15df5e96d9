//! Where a simulated server listens, and what it asks of those who come: what is settled at start,
//! and what a reload may try to change.

use super::Dice;
use super::knobs::Knobs;
use crate::config::{Config, Secret};
use std::net::SocketAddr;

/// Listeners and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The public listener is on an address that others can reach.
    pub exposed: bool,
    /// Where the admin listener is.
    pub admin: Admin,
    /// Publishers need the token.
    pub publish_token: bool,
    /// The admin listener needs the token.
    pub admin_token: bool,
}

/// Where an admin listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Admin {
    Off,
    Loopback,
    Exposed,
}

/// A configuration that is read while the server runs. It may contradict itself, or contradict what
/// only a start can change.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Reload {
    pub knobs: Knobs,
    pub access: Access,
}

impl Default for Access {
    fn default() -> Access {
        Access { exposed: false, admin: Admin::Loopback, publish_token: false, admin_token: false }
    }
}

impl Access {
    /// Any access, whether a server may be started with it or not.
    fn draw_any(dice: &mut Dice) -> Access {
        Access {
            exposed: dice.once_in(3),
            admin: *dice.pick(&[Admin::Loopback, Admin::Loopback, Admin::Exposed, Admin::Off]),
            publish_token: dice.once_in(2),
            admin_token: dice.once_in(2),
        }
    }

    /// Access of a random world, with the tokens that it must have.
    pub fn draw(dice: &mut Dice) -> Access {
        let mut access = Access::draw_any(dice);
        access.publish_token |= access.exposed;
        access.admin_token |= access.admin == Admin::Exposed;
        access
    }

    /// Sets it in `config`.
    pub fn set(&self, config: &mut Config) {
        let address = |exposed, port| match exposed {
            true => SocketAddr::from(([192, 0, 2, 1], port)),
            false => SocketAddr::from(([127, 0, 0, 1], port)),
        };
        let token = |needed: bool| needed.then(|| Secret::new(TOKEN));
        config.listen = vec![address(self.exposed, 80)];
        config.admin = match self.admin {
            _ if !cfg!(feature = "admin") => None,
            Admin::Off => None,
            Admin::Loopback => Some(address(false, 81)),
            Admin::Exposed => Some(address(true, 81)),
        };
        config.publish_token = token(self.publish_token);
        config.admin_token = token(self.admin_token);
    }
}

impl Reload {
    /// A random configuration. Most are without a contradiction in themselves.
    pub fn draw(dice: &mut Dice) -> Reload {
        let mut knobs = Knobs::draw(dice);
        if !dice.once_in(8) {
            knobs.resolve();
        }
        let access = if dice.once_in(8) { Access::draw_any(dice) } else { Access::draw(dice) };
        Reload { knobs, access }
    }

    /// As it is read.
    pub fn config(&self) -> Config {
        let mut config = self.knobs.config();
        self.access.set(&mut config);
        config
    }
}

/// The token, which all clients present whether they need it or not.
pub(super) const TOKEN: &str = "simulated";
