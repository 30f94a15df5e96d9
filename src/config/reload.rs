//! What comes into force when the configuration is read again.
//!
//! Some settings can be set at start only: addresses, the processor, feeds. They stay as they are, so
//! what is in force afterwards is neither the old configuration nor the new one. That mixture is what
//! must be valid: a file that asks for a loopback address needs no token, but the listener that stays
//! on all addresses does.

use super::Config;
use super::knobs::{self, Scope};

impl Config {
    /// The configuration that is in force after `wanted` is asked for while this one is, and the
    /// names of the settings in `wanted` that only a restart can bring into force.
    ///
    /// # Errors
    /// What is wrong with the configuration that would be in force. Then nothing of `wanted` may be
    /// adopted.
    pub fn after_reload(&self, wanted: Config) -> Result<(Config, Vec<&'static str>), String> {
        let mut effective = wanted;
        let differing: Vec<_> =
            knobs::differences(self, &effective).map(|(knob, _)| knob).collect();
        let mut kept = Vec::new();
        for knob in differing.into_iter().filter(|knob| knob.scope == Scope::Start) {
            knob.copy(self, &mut effective);
            kept.push(knob.name);
        }
        match effective.validate() {
            Ok(()) => Ok((effective, kept)),
            Err(why) if kept.is_empty() => Err(why),
            Err(why) => Err(format!("{why} (unchanged until a restart: {})", kept.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cors, Secret};

    /// Every configuration, valid or not, of the settings that decide who gets in.
    fn all() -> Vec<Config> {
        let listens = ["127.0.0.1:1", "0.0.0.0:1", "127.0.0.1:1,[::]:2", "[::1]:1"];
        let admins = [None, Some("127.0.0.1:9"), Some("0.0.0.0:9")];
        let tokens = [None, Some("one"), Some("another")];
        let origins = ["", "*", "https://a.example"];
        let mut all = Vec::new();
        for listen in listens {
            for admin in
                admins.into_iter().filter(|admin| admin.is_none() || cfg!(feature = "admin"))
            {
                for publish_token in tokens {
                    for admin_token in &tokens[..2] {
                        for cors in origins {
                            all.push(Config {
                                listen: listen.split(',').map(|at| at.parse().unwrap()).collect(),
                                admin: admin.map(|at| at.parse().unwrap()),
                                publish_token: publish_token.map(Secret::new),
                                admin_token: admin_token.map(Secret::new),
                                cors_origins: match cors {
                                    "" => Cors::Nobody,
                                    "*" => Cors::Anybody,
                                    one => Cors::Origins(vec![one.into()]),
                                },
                                ..Config::default()
                            });
                        }
                    }
                }
            }
        }
        all
    }

    /// Whatever a server was started with, and whatever the file says later: what is in force is
    /// valid, has the addresses that are listened on, and everything else as it was asked for.
    #[test]
    fn whatever_is_in_force_is_valid() {
        let all = all();
        let (mut adopted, mut refused) = (0, 0);
        for before in all.iter().filter(|before| before.validate().is_ok()) {
            for wanted in &all {
                let Ok((effective, kept)) = before.after_reload(wanted.clone()) else {
                    refused += 1;
                    continue;
                };
                adopted += 1;
                effective.validate().unwrap_or_else(|why| panic!("{why}\n{before:?}\n{wanted:?}"));
                assert_eq!((&effective.listen, effective.admin), (&before.listen, before.admin));
                assert_eq!(effective.publish_token, wanted.publish_token);
                assert_eq!(effective.admin_token, wanted.admin_token);
                assert_eq!(effective.cors_origins, wanted.cors_origins);
                assert_eq!(kept.contains(&"listen"), before.listen != wanted.listen);
                assert_eq!(kept.contains(&"admin"), before.admin != wanted.admin);
            }
        }
        // Fewer are refused without the admin listener.
        assert!(adopted > 1000 && refused > 100, "{adopted} {refused}");
    }

    #[test]
    fn a_refusal_names_what_stays() {
        let open = Config {
            listen: vec!["0.0.0.0:80".parse().unwrap()],
            publish_token: Some(Secret::new("s")),
            ..Config::default()
        };
        let why = open.after_reload(Config { admin: None, ..Config::default() }).unwrap_err();
        assert!(why.starts_with("listening on 0.0.0.0:80 without a token"), "{why}");
        assert!(why.contains("(unchanged until a restart: listen"), "{why}");
        // What is wrong by itself is not blamed on what stays.
        let mut bad = open.clone();
        bad.limits.logs_bytes_max = 1;
        let why = open.after_reload(bad).unwrap_err();
        assert!(why.contains("logs_bytes_max") && !why.contains("restart"), "{why}");
    }

    /// Every setting that can only be set at start stays, whatever its type.
    #[test]
    fn what_is_set_at_start_stays() {
        let before = Config::default();
        let mut wanted = Config { demo: true, cpu: Some(0), ..Config::default() };
        (wanted.stdin, wanted.backlog) = (Some("lines".into()), 7);
        wanted.times.heartbeat_ms = 1234;
        let (effective, kept) = before.after_reload(wanted).unwrap();
        assert_eq!(kept, ["backlog", "cpu", "demo", "stdin"]);
        let adopted: Vec<_> =
            knobs::differences(&before, &effective).map(|(knob, _)| knob.name).collect();
        assert_eq!(adopted, ["heartbeat_ms"]);
    }
}
