//! What happens again and again is said once a second, with how often it has happened.

/// Decides when a line of the log is due that would otherwise be written for each refused event or
/// failed call.
#[derive(Debug, Default)]
pub struct Complaints {
    said_ns: Option<u64>,
    unsaid: u64,
}

impl Complaints {
    /// It has happened once more. Gives how often it has since it was last said, if it is to be said
    /// now.
    pub fn note(&mut self, now_ns: u64) -> Option<u64> {
        self.unsaid += 1;
        let due = self.said_ns.is_none_or(|said_ns| now_ns.saturating_sub(said_ns) >= EVERY_NS);
        due.then(|| {
            self.said_ns = Some(now_ns);
            self.rest()
        })
    }

    /// How often it has happened since it was last said; counted from here on anew.
    pub fn rest(&mut self) -> u64 {
        std::mem::take(&mut self.unsaid)
    }
}

const EVERY_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_rest_is_counted() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.note(5), Some(1));
        assert_eq!([complaints.note(6), complaints.note(EVERY_NS + 4)], [None, None]);
        assert_eq!(complaints.note(EVERY_NS + 5), Some(3));
        assert_eq!(
            (complaints.note(EVERY_NS + 6), complaints.rest(), complaints.rest()),
            (None, 1, 0)
        );
    }
}
