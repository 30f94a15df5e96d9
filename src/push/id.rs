//! Event ids: `EPOCH-SEQ`.
//!
//! SEQ counts over the whole hub, not per topic. A browser sends back one id only; with one count
//! for all topics that id resumes any set of them, because each log finds its first frame after
//! SEQ by binary search.
//!
//! EPOCH is drawn anew at each start. Logs live in memory, so after a restart SEQ begins again,
//! and without the epoch an id from before would be misread as a position among today's events.

use std::fmt;

/// The place of an event in the order of the whole hub. The first event has 1; 0 stands before
/// all events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// What distinguishes this run of the hub from every other: 40 random bits as eight characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Epoch([u8; EPOCH_LEN]);

/// The longest text of an id that the hub assigns.
pub const ASSIGNED_ID_BYTES_MAX: usize = EPOCH_LEN + 1 + 20;

impl Epoch {
    /// The epoch of the low 40 bits of `random`.
    #[allow(clippy::indexing_slicing, reason = "five bits are below 32")]
    pub fn new(random: u64) -> Epoch {
        let mut text = [0; EPOCH_LEN];
        for (at, byte) in text.iter_mut().enumerate() {
            *byte = ALPHABET[(random >> (5 * at) & 31) as usize];
        }
        Epoch(text)
    }

    /// The text of `seq` in this epoch.
    pub fn id(self, seq: Seq) -> Id {
        Id { epoch: self, seq }
    }

    /// The event that `id` names, if it is an id of this epoch, in the one form in which we
    /// write it.
    pub fn parse(self, id: &[u8]) -> Option<Seq> {
        let digits = id.strip_prefix(&self.0)?.strip_prefix(b"-")?;
        let canonical = digits.first().is_some_and(|&first| first != b'0' || digits.len() == 1);
        if !canonical || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok().map(Seq)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| fmt::Write::write_char(f, byte as char))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An id as the hub assigns it; displays as `EPOCH-SEQ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    epoch: Epoch,
    seq: Seq,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq.0)
    }
}

const EPOCH_LEN: usize = 8;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_in_their_epoch_only() {
        let (ours, other) = (Epoch::new(0x12_3456_789a), Epoch::new(0x12_3456_789b));
        for seq in [0, 1, 9, 10, u64::MAX] {
            let id = ours.id(Seq(seq)).to_string();
            assert!(id.len() <= ASSIGNED_ID_BYTES_MAX);
            assert_eq!(ours.parse(id.as_bytes()), Some(Seq(seq)));
            assert_eq!(other.parse(id.as_bytes()), None);
        }
    }

    #[test]
    fn one_form_only() {
        let epoch = Epoch::new(0);
        assert_eq!(epoch.to_string(), "aaaaaaaa");
        assert_eq!(epoch.parse(b"aaaaaaaa-17"), Some(Seq(17)));
        for id in [
            "",
            "aaaaaaaa",
            "aaaaaaaa-",
            "aaaaaaaa-017",
            "aaaaaaaa-+1",
            "aaaaaaaa-1 ",
            "aaaaaaaa-1x",
            "17",
            "aaaaaaa-17",
        ] {
            assert_eq!(epoch.parse(id.as_bytes()), None, "{id:?}");
        }
        assert_eq!(epoch.parse(b"aaaaaaaa-18446744073709551616"), None);
    }
}
