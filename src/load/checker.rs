//! What one subscriber has seen of a run, and what is wrong with it.
//!
//! Events are numbered from 0 in the order of their publication, so whoever subscribed before the
//! first must see 0, 1, 2, …. A number that is skipped is missing, until it turns up after all:
//! then it was out of order. A number that comes again is repeated.

use super::payload::Stamp;
use serde::{Deserialize, Serialize};

/// What is wrong, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offences {
    /// Events that a subscriber never got.
    pub missing: u64,
    /// Events that it got once more.
    pub repeated: u64,
    /// Events that it got behind later ones.
    pub reordered: u64,
    /// Events that are not as they were published.
    pub altered: u64,
    /// Streams that broke the rules of HTTP or of event streams.
    pub malformed: u64,
}

impl Offences {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.missing + self.repeated + self.reordered + self.altered + self.malformed
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Offences) {
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
        self.altered += other.altered;
        self.malformed += other.malformed;
    }
}

/// What an event is to the subscriber that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The one that had to come.
    Next,
    /// A later one: so many before it have not come.
    Skipped(u64),
    /// One that was missing.
    Late,
    /// One that it has already.
    Repeated,
}

/// One subscriber's place in the run.
#[derive(Debug, Default)]
pub struct Checker {
    /// The number that must come next; `None` if that cannot be known, as after a reconnection
    /// without an id.
    next: Option<u64>,
    /// Numbers that were skipped, as ranges in ascending order. Invariant: below `next`.
    holes: Vec<(u64, u64)>,
    /// Events that were skipped although the server has said that they are lost.
    told: bool,
    /// How many were lost that way.
    pub told_lost: u64,
}

impl Checker {
    /// Of a subscriber whose first event must be number `next`, if that is known.
    pub fn new(next: Option<u64>) -> Checker {
        Checker { next, ..Checker::default() }
    }

    /// The number that must come next, if that can be known.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// It has come back without an id: what it missed meanwhile, nobody can say.
    pub fn forget_place(&mut self) {
        self.next = None;
    }

    /// The server has said that events are lost. That is a loss, but an honest one.
    pub fn note_told_loss(&mut self) {
        self.told = true;
    }

    /// Notes an event of this run.
    pub fn note(&mut self, stamp: Stamp, offences: &mut Offences) -> Verdict {
        let seq = stamp.seq;
        let next = *self.next.get_or_insert(seq);
        if seq >= next {
            self.next = Some(seq + 1);
            let skipped = seq - next;
            if skipped == 0 {
                return Verdict::Next;
            }
            if std::mem::take(&mut self.told) {
                self.told_lost += skipped;
                return Verdict::Next;
            }
            offences.missing += skipped;
            self.dig(next, seq);
            return Verdict::Skipped(skipped);
        }
        if self.fill(seq) {
            offences.missing -= 1;
            offences.reordered += 1;
            Verdict::Late
        } else {
            offences.repeated += 1;
            Verdict::Repeated
        }
    }

    /// Whether all of the run's `events` have come or are counted as missing.
    pub fn has_all(&self, events: u64) -> bool {
        self.next.is_none_or(|next| next >= events)
    }

    /// The run is over, and has had so many `events`: what has not come by now is missing.
    pub fn finish(&mut self, events: u64, offences: &mut Offences) {
        let Some(next) = self.next.replace(events) else { return };
        let outstanding = events.saturating_sub(next);
        match std::mem::take(&mut self.told) {
            true => self.told_lost += outstanding,
            false => offences.missing += outstanding,
        }
    }

    fn dig(&mut self, from: u64, to: u64) {
        if self.holes.len() == HOLES_MAX {
            self.holes.remove(0); // so old that it would be called a repetition
        }
        self.holes.push((from, to));
    }

    /// Takes `seq` out of the holes; gives whether it was in one.
    fn fill(&mut self, seq: u64) -> bool {
        let Some(at) = self.holes.iter().position(|&(from, to)| (from..to).contains(&seq)) else {
            return false;
        };
        let (from, to) = self.holes.remove(at);
        let rest = [(from, seq), (seq + 1, to)].into_iter().filter(|(from, to)| from < to);
        self.holes.splice(at..at, rest);
        true
    }
}

const HOLES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(next: Option<u64>, seqs: &[u64], expected: Offences) -> Checker {
        let (mut checker, mut offences) = (Checker::new(next), Offences::default());
        for &seq in seqs {
            checker.note(Stamp { run: 1, seq, intended_ns: 0 }, &mut offences);
        }
        assert_eq!(offences, expected, "{seqs:?}");
        checker
    }

    #[test]
    fn offences() {
        let none = Offences::default();
        check(Some(0), &[0, 1, 2], none);
        check(None, &[7, 8], none);
        check(Some(0), &[1], Offences { missing: 1, ..none });
        check(Some(0), &[0, 3], Offences { missing: 2, ..none });
        check(Some(0), &[0, 0, 1], Offences { repeated: 1, ..none });
        check(Some(0), &[0, 2, 1, 3], Offences { reordered: 1, ..none });
        check(Some(0), &[0, 4, 2, 2], Offences { missing: 2, reordered: 1, repeated: 1, ..none });
    }

    /// Every order of every choice, with repetitions, of the numbers 0 to 3, five of them long: what
    /// came is accounted for.
    #[test]
    fn every_short_history_adds_up() {
        for history in 0..4u64.pow(5) {
            let seqs: Vec<u64> = (0..5).map(|place| history / 4u64.pow(place) % 4).collect();
            let (mut checker, mut offences) = (Checker::new(Some(0)), Offences::default());
            for &seq in &seqs {
                checker.note(Stamp { run: 1, seq, intended_ns: 0 }, &mut offences);
            }
            checker.finish(4, &mut offences);
            let distinct = (0..4).filter(|seq| seqs.contains(seq)).count() as u64;
            assert_eq!(offences.repeated, 5 - distinct, "{seqs:?}");
            assert_eq!(offences.missing, 4 - distinct, "{seqs:?}");
            assert_eq!(offences.reordered > 0, has_inversion(&seqs), "{seqs:?}");
        }
    }

    /// Whether a number comes for the first time behind a larger one.
    fn has_inversion(seqs: &[u64]) -> bool {
        (0..seqs.len()).any(|at| {
            let first = !seqs[..at].contains(&seqs[at]);
            first && seqs[..at].iter().any(|&before| before > seqs[at])
        })
    }

    #[test]
    fn a_loss_that_was_told_is_no_offence() {
        let (mut checker, mut offences) = (Checker::new(Some(0)), Offences::default());
        let mut note = |checker: &mut Checker, seq| {
            checker.note(Stamp { run: 1, seq, intended_ns: 0 }, &mut offences)
        };
        note(&mut checker, 0);
        checker.note_told_loss();
        assert_eq!(note(&mut checker, 5), Verdict::Next);
        assert_eq!(note(&mut checker, 7), Verdict::Skipped(1), "told once, and once only");
        assert_eq!((checker.told_lost, offences.missing), (4, 1));
    }

    #[test]
    fn what_has_not_come_at_the_end() {
        let mut checker = check(Some(0), &[0, 1], Offences::default());
        assert!(checker.has_all(2) && !checker.has_all(3));
        let mut offences = Offences::default();
        checker.finish(5, &mut offences);
        assert_eq!(offences.missing, 3);
        Checker::new(None).finish(5, &mut offences);
        assert_eq!(offences.missing, 3, "nobody can say what it should have seen");
    }
}
