//! Types of knobs' values, and how each is read and shown.

use crate::push::gap::Overrun;
use crate::push::topic::check_name;
use crate::send::flush::FlushPolicy;
use crate::send::path::WritePath;
use crate::send::rule::CopyRule;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// A type that a knob can have.
pub(super) trait Value: Sized {
    /// Reads a value as it stands in a flag, a variable, a file or a JSON string.
    fn read(text: &str) -> Result<Self, String>;
    /// Shows it so that it could be read again.
    fn show(&self) -> Shown;
}

/// A knob's value, typed as far as JSON and TOML type it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Shown {
    Int(u64),
    Float(f64),
    Bool(bool),
    Text(String),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Int(number) => number.fmt(f),
            Shown::Float(number) => number.fmt(f),
            Shown::Bool(truth) => truth.fmt(f),
            Shown::Text(text) => f.write_str(text),
        }
    }
}

impl Value for bool {
    fn read(text: &str) -> Result<bool, String> {
        match text {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => Err(format!("wants true or false, not {text:?}")),
        }
    }

    fn show(&self) -> Shown {
        Shown::Bool(*self)
    }
}

impl Value for String {
    fn read(text: &str) -> Result<String, String> {
        Ok(text.into())
    }

    fn show(&self) -> Shown {
        Shown::Text(self.clone())
    }
}

/// A topic. An empty text is none: what was to stand there is missing.
impl Value for Option<String> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            OFF => Ok(None),
            _ => check_name(text)
                .map(|()| Some(text.into()))
                .map_err(|why| format!("wants a topic, or off: {why}")),
        }
    }

    fn show(&self) -> Shown {
        Shown::Text(self.clone().unwrap_or(OFF.into()))
    }
}

impl Value for Option<PathBuf> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            OFF => Ok(None),
            "" => Err("wants a path, or off; it is empty".into()),
            _ => Ok(Some(text.into())),
        }
    }

    fn show(&self) -> Shown {
        Shown::Text(self.as_ref().map_or(OFF.into(), |path| path.display().to_string()))
    }
}

impl Value for Option<usize> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            OFF => Ok(None),
            _ => {
                text.parse().map(Some).map_err(|_| format!("wants a number, or off, not {text:?}"))
            }
        }
    }

    fn show(&self) -> Shown {
        self.map_or(Shown::Text(OFF.into()), |number| Shown::Int(number as u64))
    }
}

impl Value for Option<SocketAddr> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            OFF => Ok(None),
            _ => Ok(addresses(text)?.first().copied()),
        }
    }

    fn show(&self) -> Shown {
        Shown::Text(self.map_or(OFF.into(), |address| address.to_string()))
    }
}

impl Value for Vec<SocketAddr> {
    fn read(text: &str) -> Result<Self, String> {
        let mut all = Vec::new();
        for part in text.split(',').map(str::trim) {
            all.extend(addresses(part)?);
        }
        Ok(all)
    }

    fn show(&self) -> Shown {
        Shown::Text(self.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }
}

/// What stands for nothing, where something may stand.
const OFF: &str = "off";

/// The addresses that `HOST:PORT` stands for.
fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    match text.to_socket_addrs() {
        Ok(addresses) if addresses.len() == 0 => Err(format!("{text:?} has no address")),
        // A hosts file may have a name twice.
        Ok(addresses) => Ok(addresses.fold(Vec::new(), |mut all, address| {
            if !all.contains(&address) {
                all.push(address);
            }
            all
        })),
        Err(error) => Err(format!("wants HOST:PORT, and {text:?} is none: {error}")),
    }
}

impl Value for WritePath {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> Shown {
        Shown::Text(self.to_string())
    }
}

impl Value for CopyRule {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> Shown {
        Shown::Text(self.to_string())
    }
}

impl Value for FlushPolicy {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> Shown {
        Shown::Text(self.to_string())
    }
}

impl Value for Overrun {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "skip" => Ok(Overrun::Skip),
            "close" => Ok(Overrun::Close),
            "latest" => Ok(Overrun::Latest),
            _ => Err("wants skip, close or latest".into()),
        }
    }

    fn show(&self) -> Shown {
        let name = match self {
            Overrun::Skip => "skip",
            Overrun::Close => "close",
            Overrun::Latest => "latest",
        };
        Shown::Text(name.into())
    }
}

/// What heartbeats are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// There are none.
    Off,
    /// A comment: keeps the connection alive and is invisible to pages.
    Comment,
    /// An event named `heartbeat`: pages can watch for it.
    Event,
}

impl Value for Heartbeat {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Heartbeat::Off),
            "comment" => Ok(Heartbeat::Comment),
            "event" => Ok(Heartbeat::Event),
            _ => Err("wants comment, event or off".into()),
        }
    }

    fn show(&self) -> Shown {
        let name = match self {
            Heartbeat::Off => "off",
            Heartbeat::Comment => "comment",
            Heartbeat::Event => "event",
        };
        Shown::Text(name.into())
    }
}

/// A secret: it can be compared, but neither shown nor timed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret of these characters.
    pub fn new(secret: &str) -> Secret {
        Secret(secret.as_bytes().into())
    }

    /// Whether `guess` is the secret. How long that takes follows from the length of the guess
    /// alone, so that it says nothing of the secret, not even its length. No guess is a secret
    /// that is empty.
    pub fn matches(&self, guess: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut difference = u8::from(self.0.len() != guess.len());
        let mut at = 0;
        for byte in guess {
            difference |= byte ^ self.0[at];
            // Around, however short the secret is.
            at = (at + 1) * usize::from(at + 1 != self.0.len());
        }
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn secrets() {
        let secret = Secret::new("s3cret");
        assert!(secret.matches(b"s3cret"));
        for guess in ["", "s3cre", "s3cret!", "S3cret", "s3creT"] {
            assert!(!secret.matches(guess.as_bytes()), "{guess}");
        }
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        // A guess is not taken for the secret because it repeats it, or is its beginning.
        let secret = Secret::new("aa");
        assert!(secret.matches(b"aa"));
        for guess in ["a", "aaa", "aaaa"] {
            assert!(!secret.matches(guess.as_bytes()), "{guess}");
        }
        assert!(!Secret::new("").matches(b"") && !Secret::new("").matches(b"a"));
    }

    /// A guess of a megabyte takes as long against a secret of one byte as against one of its own
    /// length, and whether its first byte is wrong or its last.
    ///
    /// A comparison that stops at the first difference would be faster by a factor of thousands.
    /// What disturbs a measurement only makes it longer, so each secret's shortest time counts, of
    /// twenty rounds at least, and more on a machine that is busy.
    #[test]
    fn the_time_of_a_guess_says_nothing_of_the_secret() {
        let guess = vec![b'a'; 1 << 20];
        let alike = "a".repeat(guess.len() - 1) + "b";
        let unlike = "b".repeat(guess.len());
        let secrets = ["b", &alike, &unlike].map(Secret::new);
        let mut shortest = [Duration::from_secs(3600); 3];
        let are_alike =
            |times: &[Duration; 3]| times.iter().max() < times.map(|one| 3 * one).iter().min();
        let found = (0..1000).any(|round| {
            for (secret, shortest) in secrets.iter().zip(&mut shortest) {
                let begun = crate::sys::thread_cpu_time().unwrap();
                assert!(!secret.matches(std::hint::black_box(&guess)));
                *shortest = (*shortest).min(crate::sys::thread_cpu_time().unwrap() - begun);
            }
            round >= 20 && are_alike(&shortest)
        });
        assert!(found, "{shortest:?}");
    }

    #[test]
    fn addresses_are_resolved() {
        let read = <Vec<SocketAddr> as Value>::read;
        assert_eq!(read("127.0.0.1:1,[::1]:2").unwrap().len(), 2);
        assert!(read("localhost:80").unwrap().iter().all(|address| address.ip().is_loopback()));
        assert!(read("127.0.0.1").is_err());
        assert!(read("").is_err());
    }
}
